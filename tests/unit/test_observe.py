"""observe/ and docs/metrics.md against the code: every metric and label that is asked for is there, every alert is in
the runbook. What Prometheus itself thinks of the rules: tests/deploy/test_observe.py."""

from __future__ import annotations

import asyncio
import json
import re
from typing import NamedTuple

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import ApiMetrics
from api.top_cache import TopCache
from cli.migrations import ROOT
from shared.postgres import create_pool
from shared.scores import Score
from worker.metrics import WorkerMetrics

DASHBOARD = json.loads((ROOT / "observe/grafana/dashboards/leaderboard.json").read_text())
ALERTS = [
    rule for group in yaml.safe_load((ROOT / "observe/alerts.yml").read_text())["groups"] for rule in group["rules"]
]
OF_PROMETHEUS = {"job", "instance"}


class Metric(NamedTuple):
    kind: str
    labels: frozenset[str]
    samples: frozenset[str]


async def exposed():
    """The text of an api process and of a worker to which everything has happened once."""
    pool = create_pool("", max_size=2, patience_seconds=1)
    api, worker = ApiMetrics(pool, TopCache(), [], None), WorkerMetrics(pool)
    api.requests.of("/v1/seasons/{sid}", "GET").note(200, 0.001)
    api.committed([Score("s", "ann", 1)], 0.001)
    worker.answered("apply", "behind")
    worker._dead.labels("outbox")
    return (await api._serve(None)).body, await worker.text()


@pytest.fixture(scope="module")
def metrics():
    """By name, as Prometheus' queries have it."""
    found = {}
    for text in asyncio.run(exposed()):
        for family in text_string_to_metric_families(text.decode()):
            if family.name.endswith("_created"):
                continue
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            samples = frozenset(sample.name for sample in family.samples)
            found[name] = Metric(family.type, frozenset(labels), samples)
    return found


def queries():
    for rule in ALERTS:
        yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield pytest.param(
                target["expr"].replace("$__rate_interval", "1m"), id=f"{panel['title']} {target['refId']}"
            )


@pytest.mark.parametrize("query", list(queries()))
def test_what_is_asked_for_is_there(query, metrics):
    labels_of = {sample: metric.labels for metric in metrics.values() for sample in metric.samples}
    labels_of["up"] = frozenset()
    known, used = set(OF_PROMETHEUS), set()

    def look(node):
        if isinstance(node, promql_parser.VectorSelector):
            labels = labels_of[node.name] | OF_PROMETHEUS | ({"le"} if node.name.endswith("_bucket") else set())
            assert {matcher.name for matcher in node.matchers.matchers} <= labels
            known.update(labels)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            used.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(query), look)
    assert used <= known


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_is_in_the_runbook(rule):
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    runbook = (ROOT / path).read_text(encoding="utf-8")
    section = runbook.split(f"\n## {anchor.capitalize()}\n", 1)[1].split("\n## ", 1)[0]
    assert f"\n| {rule['alert']} |" in section


def test_every_alert_of_the_runbook_is_one():
    section = (ROOT / "docs/runbook.md").read_text(encoding="utf-8").split("\n## Alerts\n", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| (\w+) \|", section, re.MULTILINE)) - {"alert"} == {rule["alert"] for rule in ALERTS}


def test_panels_have_places_and_names_of_their_own():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_every_metric_is_on_the_dashboard(metrics):
    asked = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", []))
    assert [name for name in metrics if name not in asked] == []


def test_docs_tell_of_every_metric(metrics):
    lines = (ROOT / "docs/metrics.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `leaderboard_")]
    told = {name.strip("`"): (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}
    assert told == {name: (metric.kind, metric.labels) for name, metric in metrics.items()}
