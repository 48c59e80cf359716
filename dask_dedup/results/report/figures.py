"""The figures of the report: distances, scores, micrographs, overlap of inputs, and half-sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from dask_dedup.dedup.rank import SCORE_SENTINEL
from dask_dedup.formatting import printable
from dask_dedup.results.report.picture import FAINT, INK, KEPT, REJECTED, Picture, make_figure
from dask_dedup.results.report.summary import REACH, found_by, nearest_distances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.report.summary import Summary

    Floats = NDArray[np.float64]
    #: Ordinals of inputs, and the number of particles that exactly these found.
    Combination = tuple[tuple[int, ...], int]

WIDTH, HEIGHT = 7.5, 3.4
#: Maximum number of panels for inputs, and of bars for combinations of inputs.
MAX_PANELS, MAX_BARS = 6, 15
_BINS = 80


def make_figures(run: FinishedRun, summary: Summary) -> list[Picture]:
    """Draw all figures of the report. A figure without data is replaced by a note."""
    return [
        _neighbours(run, summary),
        _scores(run, summary),
        _per_micrograph(summary),
        _overlap(run, summary),
        _half_sets(run),
    ]


def _outlines(axes: Axes, edges: Floats, histograms: dict[str, Floats]) -> None:
    """Draw two histograms as outlines, in the colours of kept and rejected particles."""
    looks = ((KEPT, "-"), (REJECTED, "--"))
    for (name, values), (colour, style) in zip(histograms.items(), looks, strict=True):
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts, edges, color=colour, lw=1.8, ls=style, label=name)


def _neighbours(run: FinishedRun, summary: Summary) -> Picture:
    key, question = "neighbours", "How close are neighbours?"
    separation = run.params.min_separation
    if not run.params.measures:
        reason = "This run compared stored coordinates and measured no distances."
        return Picture(key, question, note=reason)
    if run.no_distances_because:
        return Picture(key, question, note=f"Not available: {run.no_distances_because}.")
    sample, reach = summary.sample, REACH * separation
    after = nearest_distances(sample.kept, reach)
    before = nearest_distances(sample.kept.concatenate([sample.kept, sample.rejected]), reach)
    if not np.isfinite(before).any():
        reason = f"No two particles are within {reach:g} Å of each other."
        return Picture(key, question, note=reason)
    close = int(np.count_nonzero(before <= separation))
    closest = after.min(initial=np.inf)
    title = f"{close:,} of {before.size:,} particles had a neighbour within {separation:g} Å; "
    if np.isfinite(closest):
        title += f"the closest two kept are {closest:.4g} Å apart"
    else:
        title += f"no two kept are within {reach:g} Å"
    notes = [summary.drawn_from]
    if run.params.between_inputs_only or run.params.ignore_within_filament:
        notes.append("Pairs that this run does not compare are included.")
    figure = _draw_neighbours(before, after, separation, reach)
    return Picture(key, title, figure, _joined(notes))


def _draw_neighbours(before: Floats, after: Floats, separation: float, reach: float) -> Figure:
    drawn = make_figure(WIDTH, HEIGHT)
    axes = drawn.subplots()
    edges = np.linspace(0, reach, _BINS + 1)
    near = {"after": after[np.isfinite(after)], "before": before[np.isfinite(before)]}
    _outlines(axes, edges, near)
    axes.axvline(separation, color=INK, lw=1, label=f"separation {separation:g} Å")
    # The few close pairs that are left are visible only on a log scale.
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    beyond = after.size - near["after"].size
    axes.set_xlabel(
        f"distance to the nearest neighbour (Å); {beyond:,} kept particles are beyond {reach:g} Å"
    )
    axes.set_ylabel("particles (log scale)")
    axes.set_xlim(0, reach)
    axes.legend(loc="upper right")
    return drawn


def _scores(run: FinishedRun, summary: Summary) -> Picture:
    key, question = "scores", "How do the scores of rejected particles differ?"
    if not run.score_names:
        reason = "This run ranked particles without a score, by a seeded hash."
        return Picture(key, question, note=reason)
    sides = (summary.sample.kept, summary.sample.rejected)
    usable = [np.isfinite(picks.score) & (picks.score != SCORE_SENTINEL) for picks in sides]
    if not all(good.any() for good in usable):
        reason = "The kept or the rejected particles have no scores."
        return Picture(key, question, note=reason)
    paths = [entry["path"] for entry in run.manifest["inputs"]]
    panels = []
    for source, path in enumerate(paths[:MAX_PANELS]):
        kept, rejected = (
            picks.score[good & (picks.source == source)]
            for picks, good in zip(sides, usable, strict=True)
        )
        if kept.size + rejected.size:
            panels.append((path, kept, rejected))
    path, *values = max(panels, key=lambda panel: panel[2].size)
    medians = " and ".join(
        f"{np.median(some):.3g} for {outcome}"
        for some, outcome in zip(values, ("kept", "rejected"), strict=True)
        if some.size
    )
    start = f"{printable(path, 40)}: the" if len(paths) > 1 else "The"
    field = run.params.score_of(path)
    title = f"{start} median {field.name if field else 'score'} is {medians}"
    missing = sum(int(np.count_nonzero(~good)) for good in usable)
    notes = [summary.drawn_from]
    if missing:
        notes.append(f"{missing:,} particles without a valid score are not shown.")
    if len(paths) > MAX_PANELS:
        notes.append(f"The first {MAX_PANELS} of {len(paths)} inputs are shown.")
    return Picture(key, title, _draw_scores(panels, ", ".join(run.score_names)), _joined(notes))


def _draw_scores(panels: list[tuple[str, Floats, Floats]], label: str) -> Figure:
    drawn = make_figure(WIDTH, 1.0 + 1.55 * len(panels))
    for axes, (path, kept, rejected) in zip(
        np.atleast_1d(drawn.subplots(len(panels), 1)), panels, strict=True
    ):
        # Without the outliers, which would squeeze the rest into one bar.
        low, high = np.percentile(np.concatenate([kept, rejected]), (0.1, 99.9))
        high = high if high > low else low + 1
        edges = np.linspace(low, high, _BINS // 2 + 1)
        both = {"kept": kept.clip(low, high), "rejected": rejected.clip(low, high)}
        _outlines(axes, edges, both)
        axes.set_ylabel("particles")
        axes.set_title(printable(path, 60), fontsize=9, fontweight="normal")
    axes.set_xlabel(label)
    # Above the axes, because the curves may be anywhere.
    drawn.axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return drawn


def _per_micrograph(summary: Summary) -> Picture:
    key, number = "micrographs", summary.micrographs.size
    if not number:
        question = "How evenly are rejected particles distributed?"
        return Picture(key, question, note="There are no particles.")
    fraction = summary.rejected / (summary.kept + summary.rejected)
    most = int(np.lexsort((summary.micrographs, -fraction))[0])
    name = printable(summary.name_of(int(summary.micrographs[most])), 50)
    title = (
        f"Median of {number:,} micrographs: {np.median(fraction):.1%} of the particles are rejected; "
        f"most: {fraction[most]:.1%} ({name})"
    )
    if number == 1:
        title = f"{name}: {fraction[0]:.1%} of the particles are rejected"
    return Picture(key, title, _draw_per_micrograph(summary, fraction))


def _draw_per_micrograph(summary: Summary, fraction: Floats) -> Figure:
    drawn = make_figure(WIDTH, HEIGHT)
    bars, share = drawn.subplots(1, 2)
    number = summary.micrographs.size
    order = np.argsort(-(summary.kept + summary.rejected), kind="stable")
    # Many micrographs are drawn in groups.
    starts = np.arange(0, number, -(-number // 300))
    widths = np.diff(starts, append=number)
    kept = np.add.reduceat(summary.kept[order], starts) / widths
    rejected = np.add.reduceat(summary.rejected[order], starts) / widths
    edges = np.append(starts, number) + 0.5
    bars.stairs(kept, edges, fill=True, color=KEPT, label="kept")
    striped: dict[str, Any] = {"color": REJECTED, "hatch": "///", "ec": "white", "lw": 0}
    bars.stairs(kept + rejected, edges, baseline=kept, fill=True, label="rejected", **striped)
    bars.set(xlim=(edges[0], edges[-1]), ylim=(0, None))
    bars.set(xlabel="micrographs, most particles first", ylabel="particles")
    bars.xaxis.set_major_locator(MaxNLocator(integer=True))
    bars.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    counts, at = np.histogram(fraction, np.linspace(0, 1, 21))
    share.stairs(counts, at, fill=True, color=FAINT)
    share.set(xlim=(0, 1), xlabel="fraction rejected", ylabel="micrographs")
    share.yaxis.set_major_locator(MaxNLocator(integer=True))
    return drawn


def _overlap(run: FinishedRun, summary: Summary) -> Picture:
    key, question = "overlap", "Which inputs found the same particles?"
    inputs = [entry["path"] for entry in run.manifest["inputs"]]
    if len(inputs) < 2:
        return Picture(key, question, note="There is one input.")
    if run.params.remove_entirely:
        reason = "Duplicates were removed entirely, so there are no winners."
        return Picture(key, question, note=reason)
    if len(set(inputs)) < len(inputs):
        return Picture(key, question, note="Two inputs have the same path.")
    found = found_by(summary.sample, inputs)
    if not found:
        return Picture(key, question, note="There are no particles.")
    total = sum(found.values())
    shared = sum(number for sources, number in found.items() if len(sources) > 1)
    title = f"{shared:,} of {total:,} kept particles ({shared / total:.1%}) were found by more than one input"
    rows = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    notes = [summary.drawn_from]
    if len(rows) > MAX_BARS:
        rest = sum(number for _, number in rows[MAX_BARS:])
        notes.append(f"{len(rows) - MAX_BARS} smaller combinations have {rest:,} particles.")
    return Picture(key, title, _draw_overlap(rows[:MAX_BARS], inputs), _joined(notes))


def _draw_overlap(rows: list[Combination], inputs: list[str]) -> Figure:
    used = sorted({source for sources, _ in rows for source in sources})
    drawn = make_figure(WIDTH, 2.3 + 0.26 * len(used))
    bars, dots = drawn.subplots(2, 1, sharex=True, height_ratios=[2.0, 0.26 * len(used) + 0.1])
    numbers = [number for _, number in rows]
    colours = [KEPT if len(sources) > 1 else FAINT for sources, _ in rows]
    drawn_bars = bars.bar(range(len(rows)), numbers, color=colours, width=0.6)
    bars.bar_label(drawn_bars, [f"{number:,}" for number in numbers], fontsize=8, padding=1)
    bars.set_ylabel("kept particles")
    bars.margins(y=0.15)
    bars.tick_params(axis="x", length=0)
    for column, (sources, _) in enumerate(rows):
        lines = [used.index(source) for source in sources]
        dots.scatter([column] * len(used), range(len(used)), s=36, color="#dddddd", zorder=1)
        dots.plot([column, column], [min(lines), max(lines)], color=INK, lw=1.6, zorder=2)
        dots.scatter([column] * len(lines), lines, s=36, color=INK, zorder=3)
    dots.set_yticks(range(len(used)), [printable(inputs[source], 40) for source in used])
    dots.set(xticks=[], xlim=(-0.7, max(len(rows), 4) - 0.3), ylim=(len(used) - 0.5, -0.5))
    dots.spines[:].set_visible(False)
    dots.tick_params(length=0)
    return drawn


def _half_sets(run: FinishedRun) -> Picture:
    key, question = "half-sets", "How many duplicates were in both half-sets?"
    across, rejected = (run.manifest["totals"][name] for name in ("across_half_sets", "rejected"))
    if not any(entry["columns"]["half_set"] for entry in run.manifest["inputs"]):
        return Picture(key, question, note="The tables have no half-sets.")
    if across is None:
        reason = "Duplicates were removed entirely, so there are no pairs."
        return Picture(key, question, note=reason)
    if not rejected:
        return Picture(key, question, note="There are no duplicates.")
    title = f"{across:,} of {rejected:,} duplicate pairs ({across / rejected:.1%}) have one particle in each half-set"
    drawn = make_figure(WIDTH, 1.3)
    axes = drawn.subplots()
    numbers = [across, rejected - across]
    bars = axes.barh([1, 0], numbers, color=[REJECTED, FAINT], height=0.6)
    axes.bar_label(bars, [f"{number:,}" for number in numbers], padding=3)
    axes.set_yticks([1, 0], ["one in each half-set", "both in one half-set, or not known"])
    axes.set_xlabel("duplicate pairs")
    axes.margins(x=0.12)
    note = "Copies of one particle in both half-sets inflate the resolution estimate (FSC)."
    return Picture(key, title, drawn, note)


def _joined(notes: Sequence[str]) -> str:
    return " ".join(filter(None, notes))
