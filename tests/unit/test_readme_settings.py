"""README lists every setting, with the default that it has."""

from __future__ import annotations

from cli.migrations import ROOT
from shared.settings import Settings

NONE = {"required", "-"}


def table():
    """Name and default of each row under "## Settings"."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Settings\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1].strip("`") for row in rows}


def told(default):
    """A default as the README writes it: numbers plain, without a useless fraction."""
    return f"{default:g}" if isinstance(default, float) else str(default)


def fields():
    return {name.upper(): field.default for name, field in Settings.model_fields.items() if name != "fault_point"}


def test_the_same_names():
    assert sorted(table()) == sorted(fields())


def test_the_same_defaults():
    listed = table()
    wrong = {
        name: (listed.get(name), default)
        for name, default in fields().items()
        if (listed.get(name) not in NONE if default is None else listed.get(name) != told(default))
    }
    assert wrong == {}
