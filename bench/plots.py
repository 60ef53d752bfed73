"""Plots of a run as SVG: readable on light and on dark, and the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from cycler import cycler

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

from bench.freshness import Level
from bench.results import Figure, Results, Size
from bench.soak import Soak

_INK: Final = "#768390"  # some 4 : 1 on white and on the dark of a code host
_COLOURS: Final = ("#2f81f7", "#e5793b", "#2da44e", "#a371f7")
_LIMIT: Final = "#8b949e"
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "bench",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.titlecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.3,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=_COLOURS),
    "legend.frameon": False,
}


def draw(found: Results, folder: Path) -> None:
    """Those plots that the run has figures for."""
    requests = [one for one in found.figures if one.unit == "requests/s"]
    bulk = [one for one in found.figures if one.unit != "requests/s"]
    if requests:
        _throughput(requests, folder / "throughput.svg")
        _latency(requests, folder / "latency.svg")
    if bulk:
        _bulk(bulk, folder / "drain.svg")
    if found.freshness:
        _freshness(found.freshness, folder / "freshness.svg")
    if found.sizes:
        _sizes(found.sizes, folder / "sizes.svg")


@contextmanager
def plot(path: Path, title: str, height: float) -> Iterator[Any]:
    """Axes to draw on; written to `path` afterwards."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, height))
        figure.suptitle(title, x=0.01, ha="left")
        yield axes
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None}, transparent=True)
        plt.close(figure)


def _throughput(figures: list[Figure], path: Path) -> None:
    with plot(path, "requests per second, beside bare uvicorn that answers the same bytes", _height(figures)) as axes:
        for place, one in enumerate(figures):
            assert one.limit is not None
            assert one.ratio is not None
            axes.barh(place - 0.2, one.rate.median, 0.4, color=_COLOURS[0], xerr=_error(one.rate), ecolor=_INK)
            axes.barh(place + 0.2, one.limit.median, 0.4, color=_LIMIT, alpha=0.5)
            axes.text(one.rate.most, place - 0.2, f"  {one.ratio.median:.2f} ×", va="center")
        _name_rows(axes, [one.title for one in figures])


def _latency(figures: list[Figure], path: Path) -> None:
    title = "latency, ms: median, 90th, 95th and 99th percentile under full load"
    with plot(path, title, _height(figures)) as axes:
        for place, one in enumerate(figures):
            values = [one.latency_ms[name] for name in ("p50", "p90", "p95", "p99")]
            axes.plot([values[0], values[-1]], [place, place], color=_COLOURS[0], alpha=0.4)
            axes.scatter(values, [place] * len(values), s=[60, 30, 30, 30], color=_COLOURS[0])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        _name_rows(axes, [one.title for one in figures])


def _bulk(figures: list[Figure], path: Path) -> None:
    title = "scores or events per second; grey: the limit measured beside"
    with plot(path, title, _height(figures)) as axes:
        for place, one in enumerate(figures):
            own = _COLOURS[0] if one.limit else _LIMIT
            axes.barh(place - 0.2, one.rate.median, 0.4, color=own, xerr=_error(one.rate), ecolor=_INK)
            if one.limit is not None:
                axes.barh(place + 0.2, one.limit.median, 0.4, color=_LIMIT, alpha=0.5)
        _name_rows(axes, [f"{one.title}\n({one.limit_title})" if one.limit else one.title for one in figures])


def _freshness(levels: list[Level], path: Path) -> None:
    with plot(path, "how long after its 202 a score is seen: share of probes", 4) as axes:
        for level in levels:
            name = f"{level.share:.0%} of POST, {level.reached:,.0f}/s" if level.share else "idle"
            axes.plot(level.curve_ms, range(len(level.curve_ms)), label=name)
        axes.set_xlabel("ms")
        axes.set_ylabel("% of probes")
        axes.set_xlim(left=0)
        axes.legend(loc="lower right")


def _sizes(found: list[Size], path: Path) -> None:
    with plot(path, "requests per second against the number of players on the board", 4) as axes:
        for question in dict.fromkeys(one.question for one in found):
            of_question = [one for one in found if one.question == question]
            rates = [one.rate for one in of_question]
            errors = [[rate.median - rate.least for rate in rates], [rate.most - rate.median for rate in rates]]
            sizes = [one.size for one in of_question]
            axes.errorbar(sizes, [rate.median for rate in rates], yerr=errors, marker="o", capsize=3, label=question)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(loc="best")


def draw_soak(found: Soak, folder: Path) -> None:
    with plot(folder / "soak.svg", f"memory of each process under {found.rate:,.0f} requests/s, MB", 4) as axes:
        minutes = [moment.seconds / 60 for moment in found.samples]
        for part, megabytes in found.samples[0].megabytes.items():
            for number in range(len(megabytes)):
                values = [moment.megabytes[part][number] for moment in found.samples]
                axes.plot(minutes, values, label=f"{part} {number + 1}")
        axes.set_xlabel("minutes")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right")


def _name_rows(axes: Any, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    if axes.get_xscale() == "linear":
        axes.locator_params(axis="x", nbins=6)
        axes.xaxis.set_major_formatter("{x:,.0f}")


def _height(figures: list[Figure]) -> float:
    return 1.2 + 0.42 * len(figures)


def _error(rate: Any) -> list[list[float]]:
    return [[rate.median - rate.least], [rate.most - rate.median]]
