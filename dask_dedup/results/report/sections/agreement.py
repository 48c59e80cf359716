"""The section on pickers: the particles that several pickers found, and the distances between their picks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.results.report.ticks import figures
from dask_dedup.results.report.wording import number_as_word, percent, votes_needed
from dask_dedup.results.summary import by_number_of_pickers

if TYPE_CHECKING:
    from dask_dedup.results.report.neighbours import ClosePairs
    from dask_dedup.results.report.subject import Picker, Subject

#: Maximum numbers of rows in the table of particles found, and of pickers in the matrix.
_ROWS, _MATRIX = 12, 8
#: Above this number of pickers, the table has a row for each number of pickers, not for each combination.
_COMBINED = 6
#: The cells of the matrix have the chance level, too, for at most this number of pickers.
_WITH_CHANCE = 4
#: Bits of each integer in the mask of a combination of pickers.
_WORD = 64
#: Least number of pairs of picks for a reliable median.
_ENOUGH = 10


def agreement(subject: Subject, pairs: ClosePairs | None) -> dict[str, Any] | None:
    """Return the section on pickers, or None if there is only one picker, or there are no winners."""
    votes = subject.votes
    if len(subject.pickers) < 2 or not subject.has_winners:
        return None
    if votes is None and not subject.duplicates:
        return None
    found = votes or _count_sampled(subject)
    rows = _rows(subject, found)
    if not rows:
        return None
    total = sum(row["number"] for row in rows)
    rest = sum(row["number"] for row in rows[_ROWS:])
    return {
        "text": _text(subject, found, total),
        "dots": len(found["pickers"]) <= _COMBINED,
        "decided": subject.params.votes_decide,
        "rows": rows[:_ROWS],
        "most": max(row["number"] for row in rows),
        "total": total,
        "rest": f"{len(rows) - _ROWS:,} smaller combinations have {rest:,} particles."
        if rest
        else "",
        "sampled": _chance(subject, votes) if votes else _sampled(subject),
        "reach": f"{subject.vote_distance:g}",
        "matrix": _matrix(subject, pairs),
        "winners": _count_by_winner(subject),
    }


def _count_sampled(subject: Subject) -> dict[str, Any]:
    """Count the kept picks of the sample by the pickers that found them, in the format of the votes in the manifest."""
    sets = sorted(found_by(subject).items(), key=lambda item: (-item[1], item[0]))
    number = Counter[int]()
    for who, count in sets:
        number[len(who)] += count
    return {
        "pickers": [picker.name for picker in subject.pickers],
        "by_votes": [
            {"votes": votes, "representatives": number[votes], "kept": number[votes]}
            for votes in sorted(number)
        ],
        "by_pickers": [
            {
                "pickers": [subject.pickers[n].name for n in who],
                "representatives": count,
                "kept": count,
            }
            for who, count in sets
        ],
    }


def _rows(subject: Subject, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each combination of pickers, or for each number of pickers if there are many."""
    if len(found["pickers"]) > _COMBINED:
        return [
            {"label": label, "number": number, "kept": kept}
            for label, number, kept in by_number_of_pickers(found["by_votes"])
        ]
    order = {name: n for n, name in enumerate(found["pickers"])}
    sets = [[order[name] for name in entry["pickers"]] for entry in found["by_pickers"]]
    return [
        {
            "who": who,
            "label": _label(subject.pickers, who),
            "number": entry["representatives"],
            "kept": entry["kept"],
        }
        for who, entry in zip(sets, found["by_pickers"], strict=True)
    ]


def _chance(subject: Subject, votes: dict[str, Any]) -> str:
    """Return a sentence on the votes that chance explains; empty if no distances were measured."""
    levels = [entry["level"] for entry in votes["chance"]]
    if not levels:
        return ""
    low, high = percent(min(levels)), percent(max(levels))
    share = f"{low} to {high}" if low != high else low
    return (
        f"By chance alone, {share} of the {subject.noun}s of one picker would be within {subject.vote_distance:g} Å "
        f"of a {subject.noun} of another picker. The smaller this share is, the more reliable is a vote."
    )


def _sampled(subject: Subject) -> str:
    text, whole = subject.sampled_from, subject.contents.choice.whole
    if whole.all():
        return text
    return (
        f"{text} If a {subject.image_kind} has very many {subject.noun}s, only a window of it is counted. At the edge "
        f"of the window, {subject.noun}s outside it are not counted as found."
    )


def found_by(subject: Subject) -> dict[tuple[int, ...], int]:
    """Map each combination of pickers to the number of kept sampled picks that exactly these pickers found.

    A kept pick was found by its picker and by the pickers of the picks rejected in favour of it.
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


def _text(subject: Subject, found: dict[str, Any], total: int) -> str:
    number = len(subject.pickers)
    by_votes = {entry["votes"]: entry["representatives"] for entry in found["by_votes"]}
    shared = sum(count for votes, count in by_votes.items() if votes > 1)
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
        everyone = by_votes.get(number, 0)
        if everyone:
            text += f", {everyone:,} of them by all {number_as_word(number).lower()}"
    if not subject.params.votes_decide:
        return f"{text}."
    kept = sum(entry["kept"] for entry in found["by_votes"])
    if subject.params.relax_unseen:
        return f"{text}. {kept:,} were kept."
    return f"{text}. The {kept:,} {votes_needed(subject)} were kept."


def _label(pickers: list[Picker], who: list[int]) -> str:
    names = [pickers[number].name for number in who]
    return f"{names[0]} only" if len(names) == 1 else " + ".join(names)


def _matrix(subject: Subject, pairs: ClosePairs | None) -> dict[str, Any] | None:
    """Return the share of each picker's picks with a near pick of another picker, and the median distances."""
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
            details = [f"{figures(median, 2)} Å"] if distance.size else []
            if (one.number, other.number) in levels:
                details.append(f"by chance {percent(levels[one.number, other.number])}")
            cells.append({"share": share, "more": f"({'; '.join(details)})" if details else ""})
        rows.append({"picker": one, "cells": cells})
    return {
        "rows": rows,
        "text": _describe_distances(len(pickers), medians, chance),
        "has_chance": bool(levels),
        # Without votes, this sentence is below the table of particles found.
        "sampled": _sampled(subject) if subject.votes else "",
    }


def _describe_distances(pickers: int, medians: list[float], chance: list[bool]) -> str:
    if not medians:
        return ""
    who = "both" if pickers == 2 else "two pickers"
    low, high = figures(min(medians), 2), figures(max(medians), 2)
    apart = f"{low} Å" if low == high else f"{low} to {high} Å"
    text = f"If {who} found the same particle, their picks are {apart} apart (median{'s' if low != high else ''})"
    if all(chance):
        return (
            f"{text}. These distances are not much shorter than by chance. Make sure that the tables use the same "
            "pixel size and the same y axis; dask-dedup inspect shows both."
        )
    return f"{text}, so the tables have the same coordinate system."


def _count_by_winner(subject: Subject) -> list[dict[str, Any]]:
    """Return the exact number of rejected picks of each picker, by the picker of the winner."""
    if len(subject.pickers) > _MATRIX:
        return []
    return [
        {"picker": picker, "cells": cells}
        for picker, cells in zip(subject.pickers, subject.rejected_by_winner.tolist(), strict=True)
    ]
