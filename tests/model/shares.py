"""How often each wrong variant ends wrong: PYTHONPATH=tests .venv/bin/python -m model.shares 20000 [seed]."""

from __future__ import annotations

import sys

from model.rules import WRONG
from model.schedules import run_all


def main(count: int = 20_000, seed: int = 1) -> None:
    sys.stdout.write(f"{count} schedules each, from seed {seed}\n")
    for variant in (None, *WRONG):
        wrong = run_all(seed, count, variant).divergent
        sys.stdout.write(f"{100 * len(wrong) / count:7.3f} %  {variant or 'the protocol as it is'}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
