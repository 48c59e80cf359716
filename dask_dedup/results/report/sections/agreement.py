"""The pickers against each other: who found the same particles, and whether they agree on where these are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.results.report.ticks import figures
from dask_dedup.results.report.wording import in_words, percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.results.report.neighbours import ClosePairs
    from dask_dedup.results.report.subject import Picker, Subject

#: Combinations of pickers in the table, and pickers in the matrix.
_COMBINATIONS, _MATRIX = 12, 8
#: Pickers that are shown as dots.
_DOTS = 8
#: Bits of a number that stands for a combination of pickers.
_WORD = 64
#: Pairs of picks for a median.
_ENOUGH = 10


def agreement(subject: Subject, pairs: ClosePairs | None) -> dict[str, Any] | None:
    """Return the section on pickers, or None with one picker or without winners."""
    if len(subject.pickers) < 2 or not subject.has_winners or not subject.duplicates:
        return None
    found = found_by(subject)
    total = sum(found.values())
    if not total:
        return None
    shared = sum(number for who, number in found.items() if len(who) > 1)
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in ordered[_COMBINATIONS:])
    return {
        "text": _text(subject, found, total, shared),
        "dots": len(subject.pickers) <= _DOTS,
        "rows": [
            {"who": who, "label": _label(subject.pickers, who), "number": number}
            for who, number in ordered[:_COMBINATIONS]
        ],
        "most": ordered[0][1],
        "total": total,
        "rest": f"{len(ordered) - _COMBINATIONS:,} smaller combinations hold {rest:,}."
        if rest
        else "",
        "sampled": _sampled(subject),
        "matrix": _matrix(subject, pairs),
        "lost": _lost(subject),
    }


def _sampled(subject: Subject) -> str:
    text, whole = subject.sampled_from, subject.contents.choice.whole
    if whole.all():
        return text
    return (
        f"{text} Of {subject.place}s with very many {subject.noun}s only a window is counted. At its edge, "
        f"{subject.noun}s beyond it are not counted as found."
    )


def found_by(subject: Subject) -> dict[tuple[int, ...], int]:
    """Map each combination of pickers to the kept picks of the sample that exactly these found.

    A kept pick was found by its picker and by the pickers of the picks that lost to it.
    """
    sample, winner = subject.contents.sample, subject.winner
    words = -(-len(subject.pickers) // _WORD)
    found = np.zeros((len(sample), words), dtype=np.uint64)
    word, bit = np.divmod(subject.picker, _WORD)
    flag = np.uint64(1) << bit.astype(np.uint64)
    for pick, row in ((np.flatnonzero(sample.kept),) * 2, (winner[winner >= 0], winner >= 0)):
        np.bitwise_or.at(found, (pick, word[row]), flag[row])
    if words == 1:  # much faster
        masks, counts = np.unique(found[sample.kept, 0], return_counts=True)
    else:
        masks, counts = np.unique(found[sample.kept], axis=0, return_counts=True)
    return {
        _members(mask): int(count)
        for mask, count in zip(masks.reshape(-1, words).tolist(), counts, strict=True)
    }


def _members(mask: list[int]) -> tuple[int, ...]:
    """Return the numbers of the pickers in a bit mask of several words."""
    return tuple(
        word * _WORD + bit
        for word, bits in enumerate(mask)
        for bit in range(_WORD)
        if bits >> bit & 1
    )


def _text(subject: Subject, found: dict[tuple[int, ...], int], total: int, shared: int) -> str:
    number = len(subject.pickers)
    kept = "particles kept" if not subject.sampled_from else "particles kept in the sample"
    text = f"{shared:,} of the {total:,} {kept} ({percent(shared / total)}) were found by "
    if not shared:
        return f"None of the {total:,} {kept} was found by more than one picker."
    if number == 2:
        return f"{text}both pickers."
    text += "more than one picker"
    everyone = found.get(tuple(range(number)), 0)
    if everyone:
        text += f", {everyone:,} of them by all {in_words(number).lower()}"
    return f"{text}."


def _label(pickers: list[Picker], who: tuple[int, ...]) -> str:
    names = [pickers[number].name for number in who]
    return f"{names[0]} only" if len(names) == 1 else " + ".join(names)


def _matrix(subject: Subject, pairs: ClosePairs | None) -> dict[str, Any] | None:
    """Return how many picks of each picker have a pick of each other one near, and how far away it is."""
    pickers = subject.pickers
    if pairs is None or pairs.reach < subject.separation or len(pickers) > _MATRIX:
        return None
    nearest = pairs.nearest_of(subject.picker, len(pickers))
    near = nearest <= subject.separation
    rows, medians, chance = [], [], []
    for one in pickers:
        mine = subject.picker == one.number
        cells: list[dict[str, str] | None] = []
        for other in pickers:
            hits = mine & near[:, other.number]
            if one is other or not mine.any():
                cells.append(None)
                continue
            distance = nearest[hits, other.number]
            median = float(np.median(distance)) if distance.size else np.nan
            if distance.size >= _ENOUGH:
                medians.append(median)
                chance.append(median > subject.separation * 0.5)
            share = percent(hits.sum() / mine.sum())
            where = f"({figures(median, 2)} Å)" if distance.size else ""
            cells.append({"share": share, "median": where})
        rows.append({"picker": one, "cells": cells})
    return {"rows": rows, "text": _where(len(pickers), medians, chance)}


def _where(pickers: int, medians: list[float], chance: list[bool]) -> str:
    if not medians:
        return ""
    who = "both" if pickers == 2 else "two pickers"
    low, high = figures(min(medians), 2), figures(max(medians), 2)
    apart = f"{low} Å" if low == high else f"{low} to {high} Å"
    text = f"Where {who} found the same particle, their picks lie {apart} apart (median{'s' if low != high else ''})"
    if all(chance):
        return (
            f"{text}. That is not much closer than by chance. Make sure that the tables use the same pixel size "
            "and the same y axis; dask-dedup inspect shows both."
        )
    return f"{text}, so the tables share one coordinate system."


def _lost(subject: Subject) -> list[dict[str, Any]]:
    """Return how often each picker lost to each other one; exact."""
    number = len(subject.pickers)
    if number > _MATRIX:
        return []
    matrix: NDArray[np.int64] = np.zeros((number, number), dtype=np.int64)
    at = np.ix_(subject.picker_of_source, subject.picker_of_source)
    np.add.at(matrix, at, subject.contents.lost_to)
    return [
        {"picker": picker, "cells": matrix[picker.number].tolist()} for picker in subject.pickers
    ]
