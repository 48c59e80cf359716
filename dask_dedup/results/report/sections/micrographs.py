"""The section on micrographs: the embedded micrographs, and the share rejected on every micrograph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.formatting import counted, printable
from dask_dedup.results.report.chart import Axis, dots, draw_chart
from dask_dedup.results.report.still import draw_still
from dask_dedup.results.report.viewer import MOST_MICROGRAPHS, MOST_ON_ONE, MOST_PICKS
from dask_dedup.results.report.wording import circles, percent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from markupsafe import Markup
    from numpy.typing import NDArray

    from dask_dedup.results.report.subject import Subject
    from dask_dedup.results.report.viewer import Viewer

#: Maximum numbers of micrographs in the table or a sentence, and of dots in the chart.
_LISTED, _MOST_DOTS = 20, 500


def micrographs(
    subject: Subject, viewer: Viewer, named: Collection[int] = ()
) -> dict[str, Any] | None:
    """Return the section on micrographs, or None if there are none. `named` has keys that the user asked for."""
    contents = subject.contents
    if not contents.micrographs.size:
        return None
    share = contents.rejected / np.maximum(contents.kept + contents.rejected, 1)
    found: dict[str, Any] = {
        "meaning": circles(subject),
        "notes": _notes(subject, viewer),
        "still": [],
        "plots": [],
        "title": f"Every {subject.image_kind}",
        "text": _text(subject, share),
        "chart": _chart(subject, share),
        "listed": _list(subject, share),
        "why_none": f"Positions are not shown: {subject.run.no_distances_because}."
        if subject.run.no_distances_because
        else "",
    }
    if viewer.micrographs:
        shown = viewer.micrographs[viewer.first]
        found["still"] = draw_still(subject, shown)
        found["caption"] = _caption(subject, viewer, enlarged=len(found["still"]) > 1)
        keys = subject.contents.choice.keys
        asked = [
            draw_still(subject, each)
            for each in viewer.micrographs
            if each is not shown and int(keys[each.row]) in named
        ]
        found["plots"] = [found["still"], *asked]
    return found


def _caption(subject: Subject, viewer: Viewer, *, enlarged: bool) -> str:
    shown = viewer.micrographs[viewer.first]
    typical = f", a typical {subject.image_kind}" if len(subject.contents.choice.keys) > 2 else ""
    typical = typical if viewer.is_typical else ""
    text = f"{shown.short}{typical}: {shown.rejected:,} of its {shown.number:,} {subject.noun}s were rejected."
    if shown.is_window:
        text += f" This is the window with the most rejected {subject.noun}s."
    if enlarged:
        text += " Right: the framed area, enlarged."
    return text


def _notes(subject: Subject, viewer: Viewer) -> list[str]:
    contents, image_kind, noun = subject.contents, subject.image_kind, subject.noun
    notes = []
    number, total = len(viewer.micrographs), contents.micrographs.size
    if 0 < number < total:
        notes.append(
            f"{number:,} of {total:,} {image_kind}s are embedded: the {image_kind}s with the largest and the smallest "
            "share rejected, and others chosen at random."
        )
    if viewer.left_out:
        names = ", ".join(viewer.left_out[:_LISTED])
        if more := viewer.left_out[_LISTED:]:
            names += f" and {len(more):,} more"
        notes.append(
            f"Not shown although asked for: {names}. A page has at most {MOST_MICROGRAPHS} {image_kind}s and "
            f"{MOST_PICKS:,} {noun}s; ask for fewer."
        )
    windows = [each for each in viewer.micrographs if each.is_window]
    if windows:
        which = "this" if number == 1 else "a"
        notes.append(
            f"On {which} {image_kind} with very many {noun}s, at most {MOST_ON_ONE:,} are shown: the {noun}s in "
            f"the window with the most rejected {noun}s."
        )
    if any(not each.is_micrograph for each in viewer.micrographs) and not windows:
        notes.append(
            f"The tables do not give the size of the {image_kind}s, so the frame is the area with {noun}s."
        )
    if viewer.images.left_out:
        notes.append(
            f"{counted(viewer.images.left_out, 'more image')} would make the page too large."
        )
    notes += list(dict.fromkeys(viewer.images.problems))[:3]
    return notes


def _text(subject: Subject, share: NDArray[np.float64]) -> str:
    contents, image_kind, noun = subject.contents, subject.image_kind, subject.noun
    if share.size == 1:
        name = printable(contents.name_of(int(contents.micrographs[0])), 80)
        picks, rejected = int(contents.kept[0] + contents.rejected[0]), int(contents.rejected[0])
        return f"{rejected:,} of the {picks:,} {noun}s on {name} were rejected ({percent(share[0], 1)})."
    if not share.any():
        return f"No {image_kind} had a duplicate."
    low, middle, high = np.percentile(share, [0, 50, 100])
    if percent(low) == percent(high):
        return f"About {percent(middle)} of each {image_kind}\u2019s {noun}s were rejected."
    return (
        f"Between {percent(low)} and {percent(high)} of each {image_kind}\u2019s {noun}s were rejected "
        f"(median {percent(middle)}). "
        f"Have a look at {image_kind}s with an unusual share."
    )


def _chart(subject: Subject, share: NDArray[np.float64]) -> Markup | None:
    contents = subject.contents
    if share.size < 3 or not share.any():
        return None
    number = contents.kept + contents.rejected
    low, high = int(number.min()), int(number.max())
    margin = max(0.04 * (high - low), 1.0)
    x = Axis.over(max(0.0, low - margin), high + margin, 5)
    x = Axis(x.low, x.high, tuple(tick for tick in x.ticks if tick == round(tick)))
    top = max(0.05, float(share.max())) * 1.06
    y = Axis.over(0.0, min(top, 1.03), 4)
    y = Axis(0.0, y.high, y.ticks, per_cent=True)
    rows = _spread(contents.micrographs, share, number)
    points = [(float(number[row]), float(share[row])) for row in rows]
    titles = [
        f"{name}: {contents.rejected[row]:,} of {number[row]:,} rejected ({share[row]:.1%})"
        for name, row in zip(_names(subject, rows), rows, strict=True)
    ]
    shown = "one dot each" if len(rows) == share.size else f"{len(rows):,} of them drawn"
    label = f"Share rejected against number of {subject.noun}s on {share.size:,} {subject.image_kind}s, {shown}."
    return draw_chart(x, y, 190, label, marks=dots(x, y, points, titles))


def _spread(
    keys: NDArray[np.uint64], share: NDArray[np.float64], number: NDArray[np.int64]
) -> list[int]:
    """Return the row numbers to draw: all, or evenly spaced rows in order of share, with the first and the last."""
    order = np.lexsort((keys, number, share))
    if order.size > _MOST_DOTS:
        order = order[np.unique(np.linspace(0, order.size - 1, _MOST_DOTS).round().astype(int))]
    return [int(row) for row in order]


def _list(subject: Subject, share: NDArray[np.float64]) -> list[dict[str, Any]]:
    contents = subject.contents
    if share.size < 2 or not share.any():
        return []
    number = contents.kept + contents.rejected
    order = np.lexsort((contents.micrographs, -number, -share))[:_LISTED].tolist()
    return [
        {
            "name": printable(contents.name_of(int(contents.micrographs[row])), 200),
            "short": short,
            "picks": int(number[row]),
            "rejected": int(contents.rejected[row]),
            "share": float(share[row]),
        }
        for short, row in zip(_names(subject, order), order, strict=True)
    ]


def _names(subject: Subject, rows: Sequence[int]) -> list[str]:
    """Return the short names of the micrographs with the given row numbers."""
    contents = subject.contents
    keys = contents.micrographs[list(rows)]
    return [
        printable(contents.name_of(key), 60) if number < 0 else subject.short_names[number]
        for key, number in zip(keys.tolist(), contents.choice.find(keys).tolist(), strict=True)
    ]
