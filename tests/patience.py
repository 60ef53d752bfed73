"""Who waits for a score in a test does so until there is a word of it: what is answered is not the end of the time."""

from __future__ import annotations

from api.visibility import Visibility

NEVER = 3600.0


def wait_for_ever(monkeypatch):
    """From now on; who does not want to wait still gets the answer of one look."""
    wait = Visibility.wait

    def until_told(self, season_id, event_id, seconds, *, new=False):
        return wait(self, season_id, event_id, seconds and NEVER, new=new)

    monkeypatch.setattr(Visibility, "wait", until_told)


def look_for_ever(monkeypatch):
    """One look takes as long as it takes."""
    monkeypatch.setattr("api.visibility._ONE_LOOK_SECONDS", NEVER)
