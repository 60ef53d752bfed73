"""The database's schema as SQLAlchemy Core metadata: the single source, alembic compares against it.

Only alembic and tests import this package; the hot SQL is written by hand beside the code that runs it, and the
processes check `shared.revision` so that they need not load SQLAlchemy.
"""

from shared.schema import epochs, imports, keys, ledger, moderation, time_travel, tournaments
from shared.schema.parts import metadata

__all__ = ["epochs", "imports", "keys", "ledger", "metadata", "moderation", "time_travel", "tournaments"]
