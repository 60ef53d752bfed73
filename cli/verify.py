"""`leaderboard verify`: what the comparison found, for people and for programs."""

from __future__ import annotations

from rich.markup import escape

from cli.console import bar, complain, counted, make_table, print_json, print_table, tell_place
from cli.servers import connected
from shared.findings import Difference, Report, document
from shared.season_choice import choose
from shared.settings import Settings
from shared.verification import Verification


async def compare(settings: Settings, season_ids: list[str], *, repair: bool, patience_seconds: float) -> list[Report]:
    """The reports of these seasons, or of all, in order; none, and a word about it, where there is no season."""
    reports: list[Report] = []
    async with connected(settings) as servers:
        if repair:
            tell_place(servers.place)
        chosen = await choose(servers.pool, season_ids)
        if not chosen:
            complain(f"nothing to compare: there is no season on {servers.place}")
        with bar("seasons compared", len(chosen)) as progress:
            players = 0

            def tell(number: int) -> None:
                nonlocal players
                players += number
                progress.say(f"{players:,} players in seasons compared")

            verification = Verification(
                servers.pool, servers.projection, repair=repair, patience_seconds=patience_seconds, tell=tell
            )
            async for report in verification.run(chosen):
                reports.append(report)
                progress.add(1)
    return sorted(reports, key=lambda report: report.season_id)


def print_reports(reports: list[Report], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "equal": all(report.equal for report in reports),
                "differences": sum(report.differences.total() for report in reports),
                "repaired": sum(report.repaired for report in reports),
                "seasons": [document(report) for report in reports],
            }
        )
        return
    headings = ("season", "ledger", "standings", "board", "differences", "repaired", "verdict")
    table = make_table(*headings, left=frozenset({"season", "verdict"}))
    for report in reports:
        table.add_row(
            escape(report.season_id),
            *(f"{number:,}" for number in (report.ledger_players, report.standing_players, report.board_players)),
            f"{report.differences.total():,}",
            f"{report.repaired:,}",
            _verdict(report),
        )
    if not reports:
        print("0 seasons, nothing compared")
        return
    print_table(table)
    for report in reports:
        for line in _details(report):
            print(line)
    print(_summary(reports))


def _verdict(report: Report) -> str:
    if not report.equal:
        return "[red]unsettled[/red]" if report.remaining == 0 else "[red]differs[/red]"
    return "[green]repaired[/green]" if report.repaired else "[green]equal[/green]"


def _details(report: Report) -> list[str]:
    lines = []
    if report.differences:
        counts = ", ".join(f"{number:,} {kind}" for kind, number in sorted(report.differences.items()))
        lines.append(f"{report.season_id}: {counts}")
        lines += [f"  {_told(difference)}" for difference in report.named]
        more = report.differences.total() - len(report.named)
        if more:
            lines.append(f"  and {more:,} more")
    if report.unsettled is not None:
        lines.append(f"{report.season_id}: {report.unsettled}")
    return lines


def _told(difference: Difference) -> str:
    match difference.kind:
        case "board behind":
            return "board behind: a worker's audit repairs it within about a second; is one running?"
        case "minute missing" | "minute extra" | "minute wrong":
            sides = ("ledger", "minute")
        case "standing missing" | "standing extra" | "standing wrong":
            sides = ("ledger", "standing")
        case _:
            sides = ("standing", "board")
    expected, found = (
        "nothing" if score is None else f"{score:,.16g}" for score in (difference.expected, difference.found)
    )
    where = f" in the last {difference.window}" if difference.window else ""
    when = ", reached at another moment" if expected == found else ""
    return f"{difference.kind}{where}: {difference.user_id}, {sides[0]} {expected}, {sides[1]} {found}{when}"


def _summary(reports: list[Report]) -> str:
    total = sum(report.differences.total() for report in reports)
    players = sum(report.standing_players for report in reports)
    told = f"{counted(len(reports), 'season')}, {counted(players, 'standing')}: "
    if not total and all(report.equal for report in reports):
        return told + "ledger, standings and boards are equal"
    repaired = sum(report.repaired for report in reports)
    unsettled = sum(report.unsettled is not None for report in reports)
    told += f"{counted(total, 'difference')}, {repaired:,} repaired"
    if unsettled:
        told += f"; {counted(unsettled, 'board')} could not be compared"
    if not all(report.equal for report in reports) and not repaired:
        told += "; to repair: leaderboard verify --repair"
    return told
