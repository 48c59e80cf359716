"""The section on the scores of kept and rejected picks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.rank import SCORE_SENTINEL
from dask_dedup.formatting import counted
from dask_dedup.results.report import chart
from dask_dedup.results.report.chart import Axis, draw_chart
from dask_dedup.results.report.ticks import figures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.results.report.subject import Picker, Subject

#: Maximum number of charts.
_PANELS = 6
#: Medians differ clearly if they differ by more than this fraction of the interquartile range of all scores.
_CLEAR = 0.1
#: The axis leaves out this percentage of scores at either end, because outliers would squeeze all other bars.
_TAILS = 0.1


def scores(subject: Subject) -> dict[str, Any] | None:
    """Return the section on scores, or None if no input has scores, or all scores are equal."""
    if not subject.run.score_names:
        return None
    sample = subject.contents.sample
    usable = np.isfinite(sample.score) & (sample.score != SCORE_SENTINEL)
    panels = [
        panel
        for picker in subject.pickers
        if (panel := _panel(subject, picker, usable & (subject.picker == picker.number)))
    ]
    if not panels:
        return None
    low_score = subject.manifest["totals"]["low_score"]
    missing = int(np.count_nonzero(~usable))
    notes = [subject.sampled_from]
    if missing:
        notes.append(f"{missing:,} {subject.noun}s have no score and are not shown.")
    if low_score:
        notes.append(
            f"The {counted(low_score, subject.noun)} with a score worse than the limit "
            f"{'is' if low_score == 1 else 'are'} not shown."
        )
    if len(panels) > _PANELS:
        notes.append(f"The first {_PANELS} of {len(panels)} pickers are shown.")
    return {
        "text": _text(subject, panels),
        "panels": panels[:_PANELS],
        "notes": " ".join(filter(None, notes)),
    }


def _panel(subject: Subject, picker: Picker, rows: NDArray[np.bool_]) -> dict[str, Any] | None:
    sample = subject.contents.sample
    values = sample.score[rows]
    if values.size < 3 or values.min() == values.max():
        return None
    low, lower, upper, high = np.percentile(values, (_TAILS, 25, 75, 100 - _TAILS)).tolist()
    if low == high:
        low, high = float(values.min()), float(values.max())
    bins = int(np.clip(values.size // 12, 12, 40))
    edges = np.linspace(low, high, bins + 1)
    outvoted = sample.outvoted
    sides = [
        sample.score[rows & some] for some in (sample.kept, ~sample.kept & ~outvoted, outvoted)
    ]
    counts = [np.histogram(each.clip(low, high), edges)[0] for each in sides]
    y = Axis.counts(int(max(each.max() for each in counts)), 3)
    x = Axis.over(low, high, 4)
    data = chart.path("area", chart.steps(counts[0], y))
    for kind, each in zip(("line", "line v"), counts[1:], strict=True):
        if each.any():
            data += chart.path(kind, chart.steps(each, y))
    *medians, of_outvoted = [float(np.median(each)) if each.size else None for each in sides]
    clear = _CLEAR * (upper - lower)
    entry = subject.manifest["inputs"][picker.sources[0]]
    field = subject.params.score_of(entry["path"])
    higher = field is None or field.higher_is_better
    return {
        "picker": picker,
        "column": entry.get("score_label")
        or entry["columns"]["score"]
        or (field.name if field else "score"),
        "medians": _medians(
            {
                "kept": medians[0],
                "rejected" if of_outvoted is None else "duplicates": medians[1],
                "rejected for their votes": of_outvoted,
            }
        ),
        "has_both": None not in medians,
        "worse_kept": _worse(medians, clear, higher=higher),
        "better_kept": _worse(medians[::-1], clear, higher=higher),
        "range": (float(values.min()), float(values.max())),
        "chart": draw_chart(
            x, y, 120, f"{picker.name}: scores of kept and rejected {subject.noun}s.", data=data
        ),
    }


def _medians(medians: dict[str, float | None]) -> str:
    return "median " + ", ".join(
        f"{name} {figures(value, 3)}" for name, value in medians.items() if value is not None
    )


def _worse(medians: list[float | None], clear: float, *, higher: bool) -> bool:
    """Return whether the first median is worse than the second one by more than `clear`."""
    kept, rejected = medians
    if kept is None or rejected is None:
        return False
    return (rejected - kept if higher else kept - rejected) > clear


def _text(subject: Subject, panels: list[dict[str, Any]]) -> str:
    noun = subject.noun
    if subject.params.prefer_input_order and len(subject.pickers) > 1:
        text = "Between tables the order decided, not the score."
        worse = [panel["picker"].name for panel in panels if panel["worse_kept"]]
        if worse:
            text += (
                f" So rejected {_listed(worse)} {noun}s tend to score better than kept ones, "
                f"because the best {noun}s were already in an earlier table."
            )
        return text
    if subject.params.remove_entirely:
        return ""
    if subject.params.uses_standing:
        return (
            f"Scores were compared by standing: the rank of a {noun} by score within its table and "
            f"{subject.image_kind}. So only the order of scores within a table counts."
        )
    better = all(panel["better_kept"] for panel in panels if panel["has_both"])
    if better and any(panel["has_both"] for panel in panels) and subject.params.scored:
        return f"Kept {noun}s tend to score better than rejected ones, as the rule demands."
    return ""


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
