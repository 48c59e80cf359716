"""The pickers against each other: who found the same particles, and whether they agree on where these are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.results.report.ticks import figures
from dask_dedup.results.report.wording import in_words, percent, votes_needed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.results.report.neighbours import ClosePairs
    from dask_dedup.results.report.subject import Picker, Subject

#: Combinations of pickers in the table, and pickers in the matrix.
_COMBINATIONS, _MATRIX = 12, 8
#: Pickers in a matrix whose cells have the chance level, too.
_WITH_CHANCE = 4
#: Pickers that are shown as dots.
_DOTS = 8
#: Bits of a number that stands for a combination of pickers.
_WORD = 64
#: Pairs of picks for a median.
_ENOUGH = 10


def agreement(subject: Subject, pairs: ClosePairs | None) -> dict[str, Any] | None:
    """Return the section on pickers, or None with one picker or without winners."""
    votes = subject.votes
    if len(subject.pickers) < 2 or not subject.has_winners:
        return None
    if votes is None and not subject.duplicates:
        return None
    found = _voters(votes) if votes else {who: (n, n) for who, n in found_by(subject).items()}
    total = sum(number for number, _ in found.values())
    if not total:
        return None
    ordered = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
    rest = sum(number for _, (number, _) in ordered[_COMBINATIONS:])
    return {
        "text": _text(subject, found, total),
        "dots": len(subject.pickers) <= _DOTS,
        "decided": subject.params.votes_decide,
        "rows": [
            {"who": who, "label": _label(subject.pickers, who), "number": number, "kept": kept}
            for who, (number, kept) in ordered[:_COMBINATIONS]
        ],
        "most": ordered[0][1][0],
        "total": total,
        "rest": f"{len(ordered) - _COMBINATIONS:,} smaller combinations hold {rest:,}."
        if rest
        else "",
        "sampled": _chance(subject, votes) if votes else _sampled(subject),
        "reach": f"{subject.vote_distance:g}",
        "matrix": _matrix(subject, pairs),
        "lost": _lost(subject),
    }


def _voters(votes: dict[str, Any]) -> dict[tuple[int, ...], tuple[int, int]]:
    """Map each combination of pickers to the particles that these voted for, and to how many of them were kept."""
    number = {name: n for n, name in enumerate(votes["pickers"])}
    return {
        tuple(number[name] for name in entry["pickers"]): (entry["representatives"], entry["kept"])
        for entry in votes["by_pickers"]
    }


def _chance(subject: Subject, votes: dict[str, Any]) -> str:
    """Return a sentence on the votes that chance explains; empty if no distances were measured."""
    levels = [entry["level"] for entry in votes["chance"]]
    if not levels:
        return ""
    low, high = percent(min(levels)), percent(max(levels))
    share = f"{low} to {high}" if low != high else low
    return (
        f"By chance alone {share} of the {subject.noun}s of one picker would be within {subject.vote_distance:g} Å "
        "of one of another picker. The smaller this is, the more a vote tells."
    )


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


def _text(subject: Subject, found: dict[tuple[int, ...], tuple[int, int]], total: int) -> str:
    number = len(subject.pickers)
    shared = sum(count for who, (count, _) in found.items() if len(who) > 1)
    what = "particles kept" if not subject.sampled_from else "particles kept in the sample"
    if subject.votes:
        what = "particles" if subject.params.votes_decide else "particles kept"
    text = f"{shared:,} of the {total:,} {what} ({percent(shared / total)}) were found by "
    if not shared:
        text = f"None of the {total:,} {what} was found by more than one picker"
    elif number == 2:
        text += "both pickers"
    else:
        text += "more than one picker"
        everyone, _ = found.get(tuple(range(number)), (0, 0))
        if everyone:
            text += f", {everyone:,} of them by all {in_words(number).lower()}"
    if not subject.params.votes_decide:
        return f"{text}."
    kept = sum(count for _, count in found.values())
    if subject.params.relax_unseen:
        return f"{text}. {kept:,} were kept."
    return f"{text}. The {kept:,} {votes_needed(subject)} were kept."


def _label(pickers: list[Picker], who: tuple[int, ...]) -> str:
    names = [pickers[number].name for number in who]
    return f"{names[0]} only" if len(names) == 1 else " + ".join(names)


def _matrix(subject: Subject, pairs: ClosePairs | None) -> dict[str, Any] | None:
    """Return how many picks of each picker have a pick of each other one near, and how far away it is."""
    pickers = subject.pickers
    if pairs is None or pairs.reach < subject.vote_distance or len(pickers) > _MATRIX:
        return None
    nearest = pairs.nearest_of(subject.picker, len(pickers))
    near = nearest <= subject.vote_distance
    names = subject.votes["pickers"] if subject.votes else []
    levels = {
        (names.index(entry["picker"]), names.index(entry["near"])): entry["level"]
        for entry in (subject.votes or {}).get("chance", ())
        if len(pickers) <= _WITH_CHANCE
    }
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
                chance.append(median > subject.vote_distance * 0.5)
            share = percent(hits.sum() / mine.sum())
            where = [f"{figures(median, 2)} Å"] if distance.size else []
            if (one.number, other.number) in levels:
                where.append(f"by chance {percent(levels[one.number, other.number])}")
            cells.append({"share": share, "more": f"({'; '.join(where)})" if where else ""})
        rows.append({"picker": one, "cells": cells})
    return {
        "rows": rows,
        "text": _where(len(pickers), medians, chance),
        "has_chance": bool(levels),
        # Without votes the table above has this sentence.
        "sampled": _sampled(subject) if subject.votes else "",
    }


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
