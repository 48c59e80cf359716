"""The sentences at the beginning of a report: what happened, and by which rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dask_dedup.formats.coordinates.description import IN_ANGSTROM
from dask_dedup.formatting import counted, printable
from dask_dedup.results.report.ticks import figures

if TYPE_CHECKING:
    from dask_dedup.results.report.subject import Subject

_NUMBERS = (
    *("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"),
    *("Ten", "Eleven", "Twelve"),
)


#: Characters of the name of a picker.
_NAME = 60
#: The first word of a message if it is a word of English and no name, path or parameter.
_WORD = re.compile(r"[a-z]+(?:['\u2019]s?)?(?= [a-z0-9])")


def percent(part: float, digits: int = 0) -> str:
    """Format a fraction in per cent. A small one that is not 0 has more digits, so that it never looks like 0.

    Examples
    --------
    >>> percent(0.7012), percent(12 / 5425), percent(0.0), percent(0.999), percent(1e-6)
    ('70%', '0.2%', '0%', '99.9%', 'below 0.1%')
    """
    if 0 < part < 0.0005:
        return "below 0.1%"
    if 0 < part < 0.01 or 0.99 < part < 1:
        digits = max(digits, 1)
    return f"{min(part, 0.999) if part < 1 else part:.{digits}%}"


def sentence(message: str) -> str:
    """Return a message with a capital letter. Names, paths and parameters stay as they are.

    Examples
    --------
    >>> sentence("the scores differ"), sentence("min_separation=20 is small"), sentence("p/a.star: no uid")
    ('The scores differ', 'min_separation=20 is small', 'p/a.star: no uid')
    """
    return message[:1].upper() + message[1:] if _WORD.match(message) else message


def in_words(number: int) -> str:
    """Return a number as a word if it is small.

    Examples
    --------
    >>> in_words(3), in_words(60)
    ('Three', '60')
    """
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number:,}"


def headline(subject: Subject) -> str:
    """Return the outcome of the run in one sentence."""
    totals, noun = subject.manifest["totals"], subject.noun
    rows, kept, duplicates = totals["rows"], totals["kept"], subject.duplicates
    if not rows:
        return f"There were no {noun}s."
    them = counted(rows, noun)
    aside = _beforehand(totals, subject)
    if not duplicates:
        if aside:
            return f"No duplicates: {kept:,} of {them} {_were(kept)} kept{aside}."
        if kept < rows:
            return f"No duplicates: {kept:,} of {them} were kept."
        every = f"the one {noun} was" if rows == 1 else f"all {rows:,} {noun}s were"
        return f"No duplicates: {every} kept."
    if subject.params.undo_symmetry_expansion:
        what = "symmetry copies"
        if subject.params.remove_entirely:
            what = "copies of each other"
    elif subject.params.remove_entirely:
        were = _were(duplicates)
        return f"{duplicates:,} of {them} had a duplicate and {were} removed{aside}; {kept:,} {_were(kept)} kept."
    else:
        what = "duplicates" if duplicates != 1 else "a duplicate"
    return (
        f"{duplicates:,} of {them} {_were(duplicates)} {what}{aside}; {kept:,} {_were(kept)} kept."
    )


def _beforehand(totals: dict[str, Any], subject: Subject) -> str:
    """Return how many rows were rejected for another reason than a duplicate, so that the headline adds up."""
    reasons = []
    if subject.outvoted:
        what = "found by too few pickers" if _only_counts(subject) else "rejected for their votes"
        reasons.append(f"{subject.outvoted:,} {_were(subject.outvoted)} {what}")
    if totals["low_score"]:
        reasons.append(f"{totals['low_score']:,} scored below the limit")
    if totals["invalid"] and subject.params.invalid == "reject":
        reasons.append(f"{totals['invalid']:,} could not be compared")
    return "".join(f", {each}" for each in reasons)


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def rule(subject: Subject) -> str:
    """Return sentences on what was combined, which picks count as duplicates, and which of them was kept."""
    sentences = [_combined(subject), _criterion(subject), _choice(subject), *_votes(subject)]
    sentences += _set_aside(subject)
    return " ".join(filter(None, sentences))


def _combined(subject: Subject) -> str:
    entries, noun, place = subject.manifest["inputs"], subject.noun, subject.place
    kind = "table"
    if all(entry.get("output") for entry in entries):
        kind = "folder"
    number = subject.contents.micrographs.size
    where = f"one {place}" if number == 1 else f"{number:,} {place}s"
    tables = f"{in_words(len(entries))} {kind}{'s' if len(entries) != 1 else ''} of {noun}s"
    if len(entries) == 1:
        return f"{tables}, from {where}, was searched for duplicates."
    return f"{tables} from {where} were combined."


def _criterion(subject: Subject) -> str:
    params, noun, place = subject.params, subject.noun, subject.place
    if params.undo_symmetry_expansion:
        return (
            f"Two {noun}s count as the same particle if they are symmetry copies of one particle, "
            "whatever their distance."
        )
    if not params.measures:
        same = f"Two {noun}s on one {place} count as the same particle if their stored coordinates are equal"
    else:
        near = f"at most {params.min_separation:g} Å{_in_pixels(subject)} apart"
        same = f"Two {noun}s on one {place} count as the same particle if their centres are {near}"
    if params.between_inputs_only:
        same += " and they come from different tables"
    if params.ignore_within_filament:
        same += ", unless they belong to one filament"
    return f"{same}."


def _in_pixels(subject: Subject) -> str:
    entries = subject.manifest["inputs"]
    sizes = {each for entry in entries for each in _range(entry.get("pixel_size") or {})}
    stored = {entry["position_unit"] for entry in entries}
    sources = {(entry.get("pixel_size") or {}).get("source") for entry in entries}
    if len(sizes) != 1 or stored == {"angstrom"} or sources == {IN_ANGSTROM}:
        return ""
    pixels = subject.params.min_separation / next(iter(sizes))
    return f" ({figures(pixels)} pixels)"


def _range(size: dict[str, float]) -> list[float]:
    return [value for name in ("least", "greatest") if (value := size.get(name))]


def _choice(subject: Subject) -> str:
    params, noun = subject.params, subject.noun
    if not subject.duplicates:
        return ""
    if params.remove_entirely:
        return f"Every {noun} that has such a duplicate was rejected."
    higher = {
        field.higher_is_better
        for entry in subject.manifest["inputs"]
        if (field := params.score_of(entry["path"])) and entry["columns"]["score"]
    }
    if higher == {True, False}:
        best = "the better score"
    elif higher:
        best = f"the {'higher' if True in higher else 'lower'} score"
    else:
        best = ""
    if best and params.uses_standing:
        best = f"the better standing (its place by score in its table on its {subject.place})"
    by_score = f"the one with {best}" if best else "one chosen by a fixed random number"
    stayed = "remained" if params.votes_decide else "was kept"
    if params.prefer_input_order and len(subject.manifest["inputs"]) > 1:
        return (
            f"Of each such pair the {noun} from the table listed first {stayed}, and within one table "
            f"{by_score}."
        )
    if best:
        return f"Of each such pair the {noun} with {best} {stayed}."
    return f"Of each such pair one {noun} {stayed}, chosen by a fixed random number."


def _votes(subject: Subject) -> list[str]:
    """Return sentences on what a vote is, and which picks were kept for their votes."""
    params, noun = subject.params, subject.noun
    if subject.votes is None:
        return []
    near = f", at most {subject.vote_distance:g} Å away" if subject.draws_circles else ""
    remained = "remained" if params.votes_decide else "was kept"
    sentences = [
        f"Each {noun} is a vote of its picker for the nearest {noun} that {remained}{near}."
    ]
    if params.votes_decide:
        sentences.append(f"Only {noun}s {votes_needed(subject)} were kept.")
    if params.relax_unseen:
        sentences.append(
            f"On a {subject.place} where fewer pickers have {noun}s, the votes of all of these were enough."
        )
    return sentences


def votes_needed(subject: Subject) -> str:
    """Return which picks votes kept, such as "found by both pickers"."""
    params, voting = subject.params, subject.run.voting
    assert voting is not None
    number, found = len(voting.pickers), []
    if params.min_votes == number:
        found.append("both pickers" if number == 2 else f"all {in_words(number).lower()} pickers")
    elif params.min_votes > 1:
        few, many = in_words(params.min_votes).lower(), in_words(number).lower()
        found.append(f"at least {few} of the {many} pickers")
    wanted, unwanted = (
        " and ".join(printable(voting.pickers[each], _NAME) for each in numbers)
        for numbers in (voting.found_by, voting.not_found_by)
    )
    if wanted:
        found.append(wanted)
    text = f"found by {' including '.join(found)}" if found else ""
    if not unwanted:
        return text
    return f"{text} but not by {unwanted}" if text else f"not found by {unwanted}"


def _only_counts(subject: Subject) -> bool:
    """Return whether the number of votes decides, whoever voted."""
    return not (subject.params.found_by or subject.params.not_found_by)


def _set_aside(subject: Subject) -> list[str]:
    totals, params = subject.manifest["totals"], subject.params
    sentences = []
    if totals["invalid"]:
        reasons = ", ".join(
            f"{name.replace('_', ' ')} ({rows:,})"
            for name, rows in totals["invalid_by_reason"].items()
        )
        outcome = "kept" if params.invalid == "keep" else "rejected"
        number = totals["invalid"]
        sentences.append(
            f"{counted(number, 'row')} could not be compared and {_were(number)} {outcome}: {reasons}."
        )
    if totals["low_score"]:
        number = totals["low_score"]
        sentences.append(
            f"{counted(number, subject.noun)} with a score worse than the limit {_were(number)} "
            "rejected beforehand."
        )
    return sentences


def by_row_order(subject: Subject) -> str:
    """Return a sentence on the rows that were chosen by their order; empty if there are none."""
    tied = subject.contents.decided_by_row_order
    if not tied or not subject.has_winners:
        return ""
    were, their = ("was", "its") if tied == 1 else ("were", "their")
    if not subject.params.scored:
        equal = "everything that ranks them is equal"
    else:
        equal = f"{their} scores and positions are equal"
    return f"{counted(tied, subject.noun)} {were} chosen by the order of rows, because {equal}."


def circles(subject: Subject) -> str:
    """Return what the shapes in the pictures of micrographs mean."""
    noun, params = subject.noun, subject.params
    shape = "circles" if subject.draws_circles else "dots"
    text = (
        f"Filled {shape} are {noun}s that {subject.were} kept; empty ones {subject.were} rejected"
    )
    if not subject.duplicates:
        text = f"Filled {shape} are {noun}s that {subject.were} kept"
    elif subject.outvoted:
        text += f" as duplicates, and a line joins each to the {noun} that it lost to"
    elif subject.has_winners:
        text += f", and a line joins each to the {noun} kept in its place"
    text += "."
    if subject.outvoted:
        text += f" Crosses are {noun}s that were rejected for their votes."
    if not subject.draws_circles:
        return text
    exempt = params.between_inputs_only or params.ignore_within_filament
    text += f" Each circle is {params.min_separation:g} Å wide, the separation"
    invalid = subject.manifest["totals"]["invalid"] and params.invalid == "keep"
    if subject.is_tomogram:
        return f"{text}, seen along z: circles that overlap may lie at different heights."
    if exempt or invalid:
        return f"{text}. {noun.capitalize()}s that were not compared may overlap."
    return f"{text}, so filled circles never touch."
