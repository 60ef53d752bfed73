"""The processes check for a revision without loading alembic: it must be alembic's newest."""

from __future__ import annotations

from alembic.script import ScriptDirectory

from cli.migrations import alembic_config
from shared.revision import REVISION


def test_the_revision_that_the_processes_ask_for_is_the_newest():
    scripts = ScriptDirectory.from_config(alembic_config("postgresql://nowhere"))
    assert scripts.get_heads() == [REVISION]
