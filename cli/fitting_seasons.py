"""The season that a file of scores goes into: one whose rules are those of the scores, made where there is none."""

from __future__ import annotations

from typing import NamedTuple

from shared import ledger, season_settings
from shared.board_files import About
from shared.errors import ConflictError, SeasonNotFoundError
from shared.postgres import Connection
from shared.scores import PLAIN, Aggregation, Order, Rules, SeasonId, TieBreak
from shared.season_settings import Season


class Choice(NamedTuple):
    """What is said of the season's rules; None = nothing."""

    aggregation: Aggregation | None = None
    order: Order | None = None
    windows: bool | None = None
    tie_break: TieBreak | None = None

    def over(self, rules: Rules) -> Rules:
        return Rules(
            self.aggregation or rules.aggregation,
            self.order or rules.order,
            rules.windows if self.windows is None else self.windows,
            self.tie_break or rules.tie_break,
        )

    @property
    def given(self) -> bool:
        return any(one is not None for one in self)


async def fitting(conn: Connection, season_id: SeasonId, choice: Choice, about: About | None) -> tuple[Season, bool]:
    """The season, and whether it was made for this.

    Raises SeasonNotFoundError where nobody says what it is to be, ConflictError where its rules are others.
    """
    found = await season_settings.find(conn, season_id)
    if found is None and about is None and not choice.given:
        raise SeasonNotFoundError(
            f"there is no season {season_id}, and the file does not say what it is to be: say --aggregation, and "
            "--order, --windows, --tie-break where they are not desc, none and member"
        )
    base = about.rules if about is not None else PLAIN if found is None else found.settings.rules
    wanted, created = choice.over(base), found is None
    if found is None:
        await ledger.create_seasons(conn, [season_id], wanted)
        found = await season_settings.find(conn, season_id)
        assert found is not None
    if found.settings.rules != wanted:
        raise ConflictError(
            f"season {season_id} has {_rules(found.settings.rules)}; the scores are of {_rules(wanted)}. Where they "
            "are meant for it all the same, say its rules with --aggregation, --order, --windows, --tie-break"
        )
    return found, created


def _rules(rules: Rules) -> str:
    windows = "windows" if rules.windows else "no windows"
    return f"aggregation {rules.aggregation}, order {rules.order}, {windows}, tie-break {rules.tie_break}"
