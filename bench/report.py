"""The table of a run, for people."""

from __future__ import annotations

from collections.abc import Iterator

from bench.endpoints import BUSY_RATE
from bench.figures import Spread, Target
from bench.freshness import TARGETS, Level
from bench.pacing import HELD
from bench.results import Figure, Results, times_slower
from bench.sizes import TIMES_SLOWER
from bench.soak import MOST_MEGABYTES
from cli.console import make_table, print_table


def print_report(found: Results) -> None:
    _print_figures(found.figures, found.machine["generator"])
    if found.freshness:
        _print_freshness(found.freshness)
    if found.sizes:
        _print_sizes(found)
    _print_memory(found)
    machine, checks = found.machine, found.checks
    print(
        f"{machine['processors']} processors, {machine['generator']} with {machine['connections']} connections, "
        f"{machine['apiProcesses']} api processes; medians of {found.plan.rounds} rounds, {found.seconds:.0f} s"
    )
    print(
        f"right: {checks.answers:,} answers compared, {checks.ledger_rows:,} scores in the ledger are those accepted, "
        f"{checks.seasons:,} seasons equal on ledger, standings and boards"
    )


def _print_figures(figures: list[Figure], generator: str) -> None:
    headings = ("what", "per second", "least – most", "limit", "ratio", "p50 ms", "p99 ms", "target", "")
    table = make_table(*headings, left=frozenset({"what", "target", ""}))
    for one in figures:
        table.add_row(
            one.title,
            _whole(one.rate.median),
            _range(one.rate),
            _whole(one.limit.median) if one.limit else "",
            f"{one.ratio.median:.2f}" if one.ratio else "",
            *(f"{one.latency_ms[name]:.1f}" if one.latency_ms else "" for name in ("p50", "p99")),
            _bound(one.target),
            _verdict(one.reached),
        )
    if figures:
        print_table(table)
        limits = dict.fromkeys(one.limit_title for one in figures if one.limit)
        print(f"limits, each measured beside: {'; '.join(limits)}")
        for one in figures:
            arriving = [sample.arriving for sample in one.rounds if sample.arriving is not None]
            if arriving and min(arriving) < HELD * BUSY_RATE:
                print(f"{one.title}: in one round no more than {min(arriving):,.0f} a second arrived")
        if generator == "k6":
            print("k6 takes more of the processors than what it measures: ratios are nearer to 1 than with wrk")


def _print_freshness(levels: list[Level]) -> None:
    headings = ("seen after its 202", "scores/s", "probes", "p50 ms", "p90 ms", "p99 ms", "max ms", "target", "")
    table = make_table(*headings, left=frozenset({"seen after its 202", "target", ""}))
    for level in levels:
        target = TARGETS.get(level.share)
        seen = level.visible_after_ms
        table.add_row(
            f"at {level.share:.0%} of POST" if level.share else "idle",
            _whole(level.reached) + ("" if level.held else f" of {_whole(level.wanted)}"),
            f"{level.probes:,}",
            *(f"{seen[name]:.1f}" if seen else "" for name in ("p50", "p90", "p99", "max")),
            f"p99 ≤ {target.bound:g} ms" if target else "",
            _verdict(target.reached(seen["p99"]) if target and seen else None),
        )
    print_table(table)
    if not all(level.held for level in levels):
        print("where two rates stand, the generator or the service did not keep up with the second")


def _print_sizes(found: Results) -> None:
    questions = list(dict.fromkeys(one.question for one in found.sizes))
    table = make_table("players", *(f"{question}/s" for question in questions), *(f"{q} p99 ms" for q in questions))
    for size in dict.fromkeys(one.size for one in found.sizes):
        row = [next(one for one in found.sizes if (one.question, one.size) == (q, size)) for q in questions]
        table.add_row(
            f"{size:,}",
            *(_whole(one.rate.median) for one in row),
            *(f"{one.latency_ms['p99']:.1f}" for one in row),
        )
    print_table(table)
    print(*_times_slower(found, questions), sep="\n")


def _times_slower(found: Results, questions: list[str]) -> Iterator[str]:
    largest = max(one.size for one in found.sizes)
    for question in questions:
        times = times_slower(found.sizes, question)
        if times is not None:
            verdict = "reached" if TIMES_SLOWER.reached(times) else "missed"
            aim = "" if question == "around" else f", target ≤ {TIMES_SLOWER.bound:g}: {verdict}"
            yield f"{question} at {largest:,} players takes {times:.2f} × what it takes at 10,000{aim}"


def _print_memory(found: Results) -> None:
    table = make_table("RSS, MB", *found.megabytes, "target", "", left=frozenset({"RSS, MB", "target", ""}))
    moments = list(found.megabytes.values())
    for part in moments[0]:
        for number, last in enumerate(moments[-1][part]):
            reached = MOST_MEGABYTES.reached(last) if part == "api" else None
            values = [f"{moment[part][number]:.0f}" for moment in moments]
            table.add_row(f"{part} {number + 1}", *values, "≤ 120" if part == "api" else "", _verdict(reached))
    print_table(table)


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _range(value: Spread) -> str:
    return f"{_whole(value.least)} – {_whole(value.most)}"


def _bound(target: Target | None) -> str:
    if target is None:
        return ""
    return f"≥ {target.bound:.2f}" if target.of == "ratio" else f"≥ {_whole(target.bound)}"


def _verdict(reached: bool | None) -> str:
    if reached is None:
        return ""
    return "[green]reached[/green]" if reached else "[red]missed[/red]"
