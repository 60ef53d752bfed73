"""The table of all scenarios at the end of a test run, put together from the tests' reports: these come from whichever
process ran the test.
"""

from __future__ import annotations

import json

from cli.migrations import ROOT
from faults.choices import LONG, SEASONS, SEED

RESULTS = ROOT / ".faults"
PROPERTY = "fault scenario"


def pytest_terminal_summary(terminalreporter):
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    ended = [report for report in reports if getattr(report, "when", None) == "teardown"]
    runs = [value for report in ended for name, value in report.user_properties if name == PROPERTY]
    if not runs:
        return
    terminalreporter.section("faults")
    for line in table(runs):
        terminalreporter.write_line(line)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "result.json").write_text(
        json.dumps({"seed": SEED, "long": LONG, "seasons": SEASONS, "runs": runs}, indent=2)
    )
    (RESULTS / "result.md").write_text("\n".join(table(runs)) + "\n")


def table(runs):
    yield "| scenario | faults | acknowledged | lost | doubled | figures |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for run in runs:
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run["told"].items())
        yield f"| {run['name']} | {run['faults']:,} | {run['acked']:,} | {run['lost']} | {run['doubled']} | {told} |"
    faults, acked, lost, doubled = (sum(run[name] for run in runs) for name in ("faults", "acked", "lost", "doubled"))
    yield f"| **all** | {faults:,} | {acked:,} | {lost} | {doubled} | |"
