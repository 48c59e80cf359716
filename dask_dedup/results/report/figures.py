"""The figures of the report; each title answers a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from dask_dedup.dedup.rank import SCORE_SENTINEL
from dask_dedup.formatting import printable
from dask_dedup.results.report.style import FAINT, INK, KEPT, REJECTED, figure, in_style
from dask_dedup.results.report.summary import REACH, found_by, nearest_distances

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.report.summary import Summary

    Floats = NDArray[np.float64]

WIDTH, HEIGHT = 7.5, 3.4
#: Maximum number of panels for inputs, and of bars for combinations of inputs.
MAX_PANELS, MAX_BARS = 6, 15
_BINS = 80


@dataclass(frozen=True, slots=True)
class Answer:
    """A figure, or why there is none.

    Attributes
    ----------
    key : str
        Name of the files.
    title : str
        The answer.
    figure : matplotlib.figure.Figure or None
    note : str
        A note for the reader, or why there is no figure.
    """

    key: str
    title: str
    figure: Figure | None
    note: str = ""


def make_figures(run: FinishedRun, summary: Summary) -> list[Answer]:
    """Return all figures; those without data have a reason instead."""
    makers: list[Callable[[FinishedRun, Summary], Answer]] = [
        _neighbours,
        _scores,
        _per_micrograph,
        _overlap,
        _half_sets,
    ]
    return [make(run, summary) for make in makers]


def _neighbours(run: FinishedRun, summary: Summary) -> Answer:
    key, question = "neighbours", "How close are neighbours?"
    separation = run.params.min_separation
    if not run.params.measures:
        return Answer(
            key, question, None, "This run compared stored coordinates and measured no distances."
        )
    if run.no_distances_because:
        return Answer(key, question, None, f"Not available: {run.no_distances_because}.")
    sample, reach = summary.sample, REACH * separation
    after = nearest_distances(sample.kept, reach)
    before = nearest_distances(sample.kept.concatenate([sample.kept, sample.rejected]), reach)
    if not np.isfinite(before).any():
        return Answer(
            key, question, None, f"No two particles are within {reach:g} Å of each other."
        )
    close = int(np.count_nonzero(before <= separation))
    closest = after.min(initial=np.inf)
    title = f"{close:,} of {before.size:,} particles had a neighbour within {separation:g} Å; "
    if np.isfinite(closest):
        title += f"the closest two kept are {closest:.4g} Å apart"
    else:
        title += f"no two kept are within {reach:g} Å"
    note = summary.drawn_from
    if run.params.between_inputs_only or run.params.ignore_within_filament:
        note += "; " * bool(note) + "pairs that this run does not compare are included"
    return Answer(key, title, _draw_neighbours(before, after, separation, reach), note)


@in_style
def _draw_neighbours(before: Floats, after: Floats, separation: float, reach: float) -> Figure:
    drawn = figure(WIDTH, HEIGHT)
    axes = drawn.subplots()
    edges = np.linspace(0, reach, _BINS + 1)
    for values, colour, label, style in (
        (before, REJECTED, "before", "--"),
        (after, KEPT, "after", "-"),
    ):
        counts, _ = np.histogram(values[np.isfinite(values)], edges)
        axes.stairs(counts, edges, color=colour, lw=1.8, ls=style, label=label)
    axes.axvline(separation, color=INK, lw=1)
    axes.annotate(
        f"separation {separation:g} Å",
        (separation, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
    )
    # The few close pairs that are left are visible only on a log scale.
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    beyond = int(np.count_nonzero(~np.isfinite(after)))
    axes.set_xlabel(
        f"distance to the nearest neighbour (Å); {beyond:,} kept particles are beyond {reach:g} Å"
    )
    axes.set_ylabel("particles (log scale)")
    axes.set_xlim(0, reach)
    axes.legend(loc="upper right")
    return drawn


def _scores(run: FinishedRun, summary: Summary) -> Answer:
    key, question = "scores", "How do the scores of rejected particles differ?"
    field = run.params.score
    if field is None:
        return Answer(
            key, question, None, "This run ranked particles without a score, by a seeded hash."
        )
    kept, rejected = summary.sample.kept, summary.sample.rejected
    usable = [
        np.isfinite(picks.score) & (picks.score != SCORE_SENTINEL) for picks in (kept, rejected)
    ]
    if not usable[0].any() or not usable[1].any():
        return Answer(key, question, None, "The kept or the rejected particles have no scores.")
    panels = []
    paths = [entry["path"] for entry in run.manifest["inputs"]]
    for source, path in enumerate(paths[:MAX_PANELS]):
        values = [
            picks.score[good & (picks.source == source)]
            for picks, good in zip((kept, rejected), usable, strict=True)
        ]
        if values[0].size + values[1].size:
            panels.append((path, values[0], values[1]))
    path, *values = max(panels, key=lambda panel: panel[2].size)
    medians = " and ".join(
        f"{np.median(some):.3g} for {outcome}"
        for some, outcome in zip(values, ("kept", "rejected"), strict=True)
        if some.size
    )
    start = f"{printable(path, 40)}: the" if len(paths) > 1 else "The"
    title = f"{start} median {field.name} is {medians}"
    missing = len(kept) + len(rejected) - int(usable[0].sum() + usable[1].sum())
    notes = [summary.drawn_from] if summary.drawn_from else []
    if missing:
        notes.append(f"{missing:,} particles without a valid score are not shown")
    if len(paths) > MAX_PANELS:
        notes.append(f"the first {MAX_PANELS} of {len(paths)} inputs are shown")
    return Answer(key, title, _draw_scores(panels, str(field)), "; ".join(notes))


@in_style
def _draw_scores(panels: list[tuple[str, Floats, Floats]], label: str) -> Figure:
    drawn = figure(WIDTH, 1.0 + 1.55 * len(panels))
    for axes, (path, kept, rejected) in zip(
        np.atleast_1d(drawn.subplots(len(panels), 1)), panels, strict=True
    ):
        both = np.concatenate([kept, rejected])
        # Without the outliers, which would squeeze the rest into one bar.
        low, high = np.percentile(both, (0.1, 99.9))
        edges = np.linspace(low, high if high > low else low + 1, _BINS // 2 + 1)
        for values, colour, name, style in (
            (kept, KEPT, "kept", "-"),
            (rejected, REJECTED, "rejected", "--"),
        ):
            counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
            axes.stairs(counts, edges, color=colour, lw=1.8, ls=style, label=name)
        axes.set_ylabel("particles")
        axes.set_title(printable(path, 60), fontsize=9, fontweight="normal")
    axes.set_xlabel(label)
    # Above the axes, because the curves may be anywhere.
    drawn.axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return drawn


def _per_micrograph(run: FinishedRun, summary: Summary) -> Answer:  # noqa: ARG001
    key = "micrographs"
    number = summary.micrographs.size
    if not number:
        return Answer(
            key, "How evenly are rejected particles distributed?", None, "There are no particles."
        )
    fraction = summary.rejected / (summary.kept + summary.rejected)
    most = int(np.lexsort((summary.micrographs, -fraction))[0])
    name = printable(summary.name_of(int(summary.micrographs[most])), 50)
    title = (
        f"Median of {number:,} micrographs: {np.median(fraction):.1%} of the particles are rejected; "
        f"most: {fraction[most]:.1%} ({name})"
    )
    if number == 1:
        title = f"{name}: {fraction[0]:.1%} of the particles are rejected"
    return Answer(key, title, _draw_per_micrograph(summary, fraction))


@in_style
def _draw_per_micrograph(summary: Summary, fraction: Floats) -> Figure:
    drawn = figure(WIDTH, HEIGHT)
    bars, share = drawn.subplots(1, 2)
    number = summary.micrographs.size
    order = np.argsort(-(summary.kept + summary.rejected), kind="stable")
    # Many micrographs are drawn in groups.
    step = -(-number // 300)
    starts = np.arange(0, number, step)
    widths = np.diff(starts, append=number)
    kept = np.add.reduceat(summary.kept[order], starts) / widths
    rejected = np.add.reduceat(summary.rejected[order], starts) / widths
    edges = np.append(starts, number) + 0.5
    bars.stairs(kept, edges, fill=True, color=KEPT, label="kept")
    striped: dict[str, Any] = {"color": REJECTED, "hatch": "///", "ec": "white", "lw": 0}
    bars.stairs(kept + rejected, edges, baseline=kept, fill=True, label="rejected", **striped)
    bars.set_xlim(edges[0], edges[-1])
    bars.set_ylim(0, None)
    bars.xaxis.set_major_locator(MaxNLocator(integer=True))
    share.yaxis.set_major_locator(MaxNLocator(integer=True))
    bars.set_xlabel("micrographs, most particles first")
    bars.set_ylabel("particles")
    bars.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    counts, at = np.histogram(fraction, np.linspace(0, 1, 21))
    share.stairs(counts, at, fill=True, color=FAINT)
    share.set_xlim(0, 1)
    share.set_xlabel("fraction rejected")
    share.set_ylabel("micrographs")
    return drawn


def _overlap(run: FinishedRun, summary: Summary) -> Answer:
    key, question = "overlap", "Which inputs found the same particles?"
    inputs = [entry["path"] for entry in run.manifest["inputs"]]
    if len(inputs) < 2:
        return Answer(key, question, None, "There is one input.")
    if run.params.remove_entirely:
        return Answer(
            key, question, None, "Duplicates were removed entirely, so there are no winners."
        )
    if len(inputs) > 60 or len(set(inputs)) < len(inputs):
        return Answer(key, question, None, "There are too many inputs, or two have the same path.")
    found = found_by(summary.sample, inputs)
    if not found:
        return Answer(key, question, None, "There are no particles.")
    total = sum(found.values())
    shared = sum(number for sources, number in found.items() if len(sources) > 1)
    title = f"{shared:,} of {total:,} kept particles ({shared / total:.1%}) were found by more than one input"
    rows = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    notes = [summary.drawn_from] if summary.drawn_from else []
    if len(rows) > MAX_BARS:
        rest = sum(number for _, number in rows[MAX_BARS:])
        notes.append(f"{len(rows) - MAX_BARS} smaller combinations have {rest:,} particles")
    return Answer(key, title, _draw_overlap(rows[:MAX_BARS], inputs), "; ".join(notes))


@in_style
def _draw_overlap(rows: list[tuple[tuple[int, ...], int]], inputs: list[str]) -> Figure:
    used = sorted({source for sources, _ in rows for source in sources})
    drawn = figure(WIDTH, 2.3 + 0.26 * len(used))
    bars, dots = drawn.subplots(2, 1, sharex=True, height_ratios=[2.0, 0.26 * len(used) + 0.1])
    numbers = [number for _, number in rows]
    colours = [KEPT if len(sources) > 1 else FAINT for sources, _ in rows]
    drawn_bars = bars.bar(range(len(rows)), numbers, color=colours, width=0.6)
    bars.bar_label(drawn_bars, [f"{number:,}" for number in numbers], fontsize=8, padding=1)
    bars.set_ylabel("kept particles")
    bars.margins(y=0.15)
    bars.tick_params(axis="x", length=0)
    _draw_dots(dots, rows, used)
    dots.set_yticks(range(len(used)), [printable(inputs[source], 40) for source in used])
    dots.set_ylim(len(used) - 0.5, -0.5)
    dots.set_xlim(-0.7, max(len(rows), 4) - 0.3)
    dots.set_xticks([])
    for spine in dots.spines.values():
        spine.set_visible(False)
    dots.tick_params(length=0)
    return drawn


def _draw_dots(axes: Axes, rows: list[tuple[tuple[int, ...], int]], used: list[int]) -> None:
    for column, (sources, _) in enumerate(rows):
        lines = [used.index(source) for source in sources]
        axes.scatter([column] * len(used), range(len(used)), s=36, color="#dddddd", zorder=1)
        axes.plot([column, column], [min(lines), max(lines)], color=INK, lw=1.6, zorder=2)
        axes.scatter([column] * len(lines), lines, s=36, color=INK, zorder=3)


def _half_sets(run: FinishedRun, summary: Summary) -> Answer:  # noqa: ARG001
    key, question = "half-sets", "How many duplicates were in both half-sets?"
    across = run.manifest["totals"]["across_half_sets"]
    if not any(entry["columns"]["half_set"] for entry in run.manifest["inputs"]):
        return Answer(key, question, None, "The tables have no half-sets.")
    if across is None:
        return Answer(
            key, question, None, "Duplicates were removed entirely, so there are no pairs."
        )
    rejected = run.manifest["totals"]["rejected"]
    if not rejected:
        return Answer(key, question, None, "There are no duplicates.")
    title = f"{across:,} of {rejected:,} duplicate pairs ({across / rejected:.1%}) have one particle in each half-set"
    note = "Copies of one particle in both half-sets inflate the resolution estimate (FSC)."
    return Answer(key, title, _draw_half_sets(across, rejected - across), note)


@in_style
def _draw_half_sets(across: int, within: int) -> Figure:
    drawn = figure(WIDTH, 1.3)
    axes = drawn.subplots()
    bars = axes.barh([1, 0], [across, within], color=[REJECTED, FAINT], height=0.6)
    axes.bar_label(bars, [f"{across:,}", f"{within:,}"], padding=3)
    axes.set_yticks([1, 0], ["one in each half-set", "both in one half-set, or not known"])
    axes.set_xlabel("duplicate pairs")
    axes.margins(x=0.12)
    return drawn
