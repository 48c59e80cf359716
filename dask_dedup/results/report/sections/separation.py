"""The section on the separation: the distances of neighbours, and the picks kept at other separations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from dask_dedup.dedup.separation import Fit, judge_separation
from dask_dedup.results.report import chart
from dask_dedup.results.report.analysis import recorded_spacing
from dask_dedup.results.report.chart import Axis, draw_chart
from dask_dedup.results.report.neighbours import find_close_pairs
from dask_dedup.results.report.ticks import figures, round_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.recommended_separation import Spacing
    from dask_dedup.results.report.neighbours import ClosePairs
    from dask_dedup.results.report.subject import Subject

    Counts = NDArray[np.int64]

#: Maximum number of bins of a histogram. There are fewer bins for few picks.
_BINS = 100
#: A separation in the gap is far from the recommended separation if it is larger or smaller by more than this factor.
_FAR = 2.0


@dataclass(frozen=True, slots=True)
class SeparationFigures:
    """The numbers of the charts.

    Attributes
    ----------
    picks : int
        Number of sampled picks on whole micrographs. Picks in windows of micrographs are not counted.
    separations : list of float
        The separations of the slider.
    at : int
        Index of the run's separation.
    kept : list of int
        Number of picks kept at each separation.
    limit : float
        The end of the axis in angstrom.
    before : list of int
        Histogram of all picks by distance to the nearest other pick.
    after : list of list of int
        The same histogram of the picks kept at each separation.
    beyond : int
        Number of picks without another pick within the axis.
    closest : float
        Least distance between two kept picks; infinite if it is beyond the axis.
    """

    picks: int
    separations: list[float]
    at: int
    kept: list[int]
    limit: float
    before: list[int]
    after: list[list[int]]
    beyond: int
    closest: float


def measure(subject: Subject, pairs: ClosePairs | None) -> SeparationFigures | None:
    """Compute the numbers of the charts, or None if there is nothing to compare."""
    analysis = subject.analysis
    if analysis is None or pairs is None:
        return None
    whole = subject.contents.choice.whole[subject.micrograph]
    number = int(np.count_nonzero(whole))
    if number < 3:
        return None
    bits = np.where(whole, analysis.bits, np.uint32(0))
    separations = [float(each) for each in analysis.separations]
    at = int(np.argmin(np.abs(analysis.separations - subject.separation)))
    limit = min(separations[-1], pairs.reach)
    edges = _edges(limit, number)
    after, closest = [], np.inf
    for bit, nearest in enumerate(pairs.nearest_at(bits, len(separations))):
        after.append(np.histogram(nearest[np.isfinite(nearest)], edges)[0].tolist())
        if bit == at:
            closest = float(np.nanmin(nearest, initial=np.inf))
    before = pairs.nearest()[whole]
    counts = np.histogram(before[np.isfinite(before)], edges)[0]
    kept_at = analysis.kept.sum(axis=1).tolist()
    kept_at[at] = int(np.count_nonzero(subject.contents.sample.kept[whole]))
    return SeparationFigures(
        picks=number,
        separations=separations,
        at=at,
        kept=kept_at,
        limit=float(edges[-1]),
        before=counts.tolist(),
        after=after,
        beyond=int(before.size - counts.sum()),
        closest=closest,
    )


def _edges(limit: float, picks: int) -> NDArray[np.float64]:
    """Return bin edges from 0 to `limit`. Bins have a round width. There are fewer for few picks."""
    bins = min(_BINS, max(20, picks // 4))
    width = round_step(limit / bins)
    return np.asarray(width * np.arange(int(np.ceil(limit / width - 1e-9)) + 1))


def find_pairs(subject: Subject) -> ClosePairs | None:
    """Find the pairs of sampled picks within the largest distance of the charts."""
    if not subject.draws_circles or not len(subject.contents.sample):
        return None
    reach = subject.separation * 2.5
    if subject.analysis is not None:
        reach = float(subject.analysis.separations[-1])
    return find_close_pairs(
        subject.contents.sample, subject.micrograph, max(reach, subject.separation)
    )


def separation(subject: Subject, numbers: SeparationFigures | None) -> dict[str, Any] | None:
    """Return the section on the separation, or None if no distances were measured."""
    analysis = subject.analysis
    if numbers is None or analysis is None:
        return _without_charts(subject)
    chosen = numbers.separations[numbers.at]
    x = Axis.over(0.0, numbers.limit, 6)
    shade = gap = Markup()
    if (spacing := analysis.spacing) is not None:
        shade, gap = chart.band(x, spacing.last_duplicate, spacing.neighbours_begin, "gap")
    line = chart.vertical(x, chosen, "sep")
    named = chart.vertical(x, chosen, "sep", f"{chosen:g} Å")
    preview = chart.vertical(x, chosen, "what").replace("<line ", "<line hidden ", 1)
    all_picks, noun = f"{numbers.picks:,}", subject.noun
    kept = (
        f"{numbers.kept[numbers.at]:,} {noun}s {'that would be ' if subject.is_planned else ''}kept"
    )
    before_y = Axis.counts(max(numbers.before), 3)
    after_y = Axis.counts(max(1, *(max(each) for each in numbers.after[numbers.at :])), 3)
    curve_y = Axis.counts(max(numbers.kept), 3)
    titles = [
        f"All {all_picks} {noun}s, by distance to the nearest other {noun}",
        f"The {kept}, by distance to the nearest other kept {noun}",
        f"{noun.capitalize()}s kept, by separation",
    ]
    handle = Markup('<circle class="handle" id="handle" r="5" cx="{}" cy="{}"/>').format(
        x.position(chosen), curve_y.height(numbers.kept[numbers.at])
    )
    before = chart.path("line", chart.steps(numbers.before, before_y), "d-before")
    after = chart.path("area", chart.steps(numbers.after[numbers.at], after_y), "d-after")
    curve = chart.path("curve", chart.curve(numbers.separations, numbers.kept, x, curve_y))
    without_ticks = replace(x, ticks=())
    shapes = [before, after, curve]
    over = [named + gap, line, line]
    axes = [(without_ticks, before_y, 104), (without_ticks, after_y, 104), (x, curve_y, 150)]
    panels = []
    for name, title, shape, mark, (x_axis, y_axis, height) in zip(
        ("p-before", "p-after", "p-curve"), titles, shapes, over, axes, strict=True
    ):
        marks = mark + Markup(preview) + (handle if name == "p-curve" else Markup())
        label = f"{title}, 0 to {numbers.limit:g} Å."
        panels.append(
            draw_chart(
                x_axis, y_axis, height, label, name=name, data=shape, marks=marks, below=shade
            )
        )
    return {
        "title": f"Is {chosen:g} Å the right separation?",
        "text": verdict(subject, spacing),
        "panels": list(zip(("t-before", "t-after", "t-curve"), titles, panels, strict=True)),
        "caption": _caption(subject, numbers, has_gap=bool(shade)),
        "after_top": after_y.high,
        "curve_top": curve_y.high,
    }


def _without_charts(subject: Subject) -> dict[str, Any] | None:
    """Return the section for a sample of windows. Other separations are computed only for whole micrographs."""
    choice, measured = subject.contents.choice, recorded_spacing(subject.manifest)
    if not subject.draws_circles or measured is None or not choice.keys.size or choice.whole.any():
        return None
    return {
        "title": f"Is {subject.separation:g} Å the right separation?",
        "text": f"{verdict(subject, measured[0])} This was measured in a window of each {subject.image_kind} of the "
        f"sample. There is no chart of other separations, because each {subject.image_kind} has very many "
        f"{subject.noun}s.",
        "panels": [],
    }


def verdict(subject: Subject, spacing: Spacing | None) -> str:
    """Return sentences on whether the separation is right, with the reason."""
    noun, chosen = subject.noun, subject.separation
    if spacing is None:
        curve = " and by the curve" if subject.analysis else ""
        return (
            f"There is no clear gap between duplicates and real neighbours, or there are too few {noun}s to show "
            f"one. Judge by the pictures of the {subject.image_kind}s{curve}. The diameter of the particle is a good "
            "upper limit."
        )
    fit = judge_separation(spacing, subject.params)
    far = f"the nearest real neighbours begin at about {figures(spacing.neighbours_begin, 3)} Å"
    end = spacing.last_duplicate
    if end:
        found = f"Duplicates are up to about {figures(end, 2)} Å apart, and {far}."
    elif subject.duplicates and fit is Fit.RIGHT:
        found = f"Except for {noun}s at the same position, hardly any are close to each other, and {far}."
    else:
        found = f"There are few duplicates, and {far}."
    best = better = ""
    if spacing.recommended is not None:
        best = f" The fewest pairs are about {spacing.recommended:g} Å apart"
        best, better = f"{best}.", f"{best}, so that is a better choice."
    if fit is Fit.RIGHT:
        if not end:
            return f"It does no harm. {found}"
        number = spacing.recommended
        if number is not None and not number / _FAR <= chosen <= number * _FAR:
            return (
                f"It looks right. {found} {chosen:g} Å is in the gap between them. {number:g} Å is "
                "the safer choice, because the fewest pairs are about that far apart."
            )
        return (
            f"It looks right. {found} {chosen:g} Å is in the gap between them, so duplicates are rejected, and "
            f"neighbours are not.{best}"
        )
    if fit is Fit.SMALL:
        return f"It looks too small: duplicates are left. {found}{better}"
    was = "would be" if subject.is_planned else "was"
    if not subject.duplicates:
        made = "would make" if subject.is_planned else "made"
        return f"It {made} no difference, because nothing {was} rejected. {found}"
    if fit is Fit.EXEMPT:
        return (
            f"Judge by the pictures of the {subject.image_kind}s. {found} {_not_compared(subject)}"
        )
    return f"It looks too large: real neighbours {subject.were} rejected as duplicates. {found}{better}"


def _not_compared(subject: Subject) -> str:
    """Return a sentence on the pairs that the run did not compare."""
    params = subject.params
    same = [
        *(["of one table"] if params.between_inputs_only else []),
        *(["of one filament"] if params.ignore_within_filament else []),
    ]
    return (
        f"{subject.noun.capitalize()}s {' or '.join(same)} were not compared, so close neighbours among these were "
        "not rejected."
    )


def _caption(subject: Subject, numbers: SeparationFigures, *, has_gap: bool) -> str:
    noun = subject.noun
    sentences = []
    if has_gap:
        sentences.append("The shaded band is the gap between duplicates and real neighbours.")
    if np.isfinite(numbers.closest):
        closest = figures(numbers.closest, 4)
        after = f"After {'a' if subject.is_planned else 'the'} run"
        are = "would be" if subject.is_planned else "are"
        if closest == figures(subject.separation, 4):
            closest = f"just over {closest}"
        sentences.append(f"{after} the two closest {noun}s {are} {closest} Å apart.")
    if numbers.beyond:
        sentences.append(
            f"{numbers.beyond:,} {noun}s have no neighbour within {numbers.limit:g} Å and are not in the "
            "first histogram."
        )
    sentences.append(
        f"The curve was computed by the same rule as {'a' if subject.is_planned else 'the'} run, for each of "
        f"{len(numbers.separations)} separations."
    )
    if subject.params.between_inputs_only or subject.params.ignore_within_filament:
        sentences.append("The histograms include pairs that are not compared.")
    return " ".join([*sentences, *filter(None, [subject.measured_from])])
