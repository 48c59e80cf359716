"""The sentences at the beginning of a report: the outcome, and the rule of the run."""

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


#: Maximum number of characters in the name of a picker.
_NAME = 60
#: The first word of a message if it is an English word, not a name, path or parameter.
_WORD = re.compile(r"[a-z]+(?:['\u2019]s?)?(?= [a-z0-9])")


def percent(part: float, digits: int = 0) -> str:
    """Format a fraction in per cent. Only 0 is shown as 0%, and only 1 as 100%.

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


def number_as_word(number: int) -> str:
    """Return a number as a word if it is small.

    Examples
    --------
    >>> number_as_word(3), number_as_word(60)
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
    """Return text on the rows rejected for other reasons, so that the numbers in the headline add up."""
    reasons = []
    if subject.outvoted:
        what = "found by too few pickers" if _only_counts(subject) else "rejected for their votes"
        reasons.append(f"{subject.outvoted:,} {_were(subject.outvoted)} {what}")
    if totals["low_score"]:
        reasons.append(f"{totals['low_score']:,} scored worse than the limit")
    if totals["invalid"] and subject.params.invalid == "reject":
        reasons.append(f"{totals['invalid']:,} could not be compared")
    return "".join(f", {each}" for each in reasons)


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def rule(subject: Subject) -> str:
    """Return sentences on the inputs, the definition of a duplicate, and the choice of the kept picks."""
    sentences = [_combined(subject), _criterion(subject), _choice(subject), *_votes(subject)]
    sentences += _set_aside(subject)
    return " ".join(filter(None, sentences))


def _combined(subject: Subject) -> str:
    entries, noun, image_kind = subject.manifest["inputs"], subject.noun, subject.image_kind
    kind = "table"
    if all(entry.get("output") for entry in entries):
        kind = "folder"
    number = subject.contents.micrographs.size
    where = f"one {image_kind}" if number == 1 else f"{number:,} {image_kind}s"
    tables = f"{number_as_word(len(entries))} {kind}{'s' if len(entries) != 1 else ''} of {noun}s"
    if len(entries) == 1:
        return f"{tables} from {where} was searched for duplicates."
    return f"{tables} from {where} were combined."


def _criterion(subject: Subject) -> str:
    params, noun, image_kind = subject.params, subject.noun, subject.image_kind
    if params.undo_symmetry_expansion:
        return (
            f"Two {noun}s count as the same particle if they are symmetry copies of one particle, "
            "at any distance."
        )
    if not params.measures:
        same = f"Two {noun}s on one {image_kind} count as the same particle if their stored coordinates are equal"
    else:
        near = f"at most {params.min_separation:g} Å{_in_pixels(subject)} apart"
        same = f"Two {noun}s on one {image_kind} count as the same particle if their centres are {near}"
    if params.between_inputs_only:
        same += " and they come from different tables"
    if params.ignore_within_filament:
        same += ", unless they belong to the same filament"
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
        best = f"the better standing (its rank by score within its table and {subject.image_kind})"
    by_score = f"the {noun} with {best}" if best else f"a {noun} chosen by a fixed random number"
    stayed = "remained" if params.votes_decide else "was kept"
    if params.prefer_input_order and len(subject.manifest["inputs"]) > 1:
        return (
            f"In each such pair, the {noun} from the table listed first {stayed}. Within one table, "
            f"{by_score} {stayed}."
        )
    if best:
        return f"In each such pair, the {noun} with {best} {stayed}."
    return f"In each such pair, a {noun} chosen by a fixed random number {stayed}."


def _votes(subject: Subject) -> list[str]:
    """Return sentences on the definition of a vote, and on the votes that a kept pick needs."""
    params, noun = subject.params, subject.noun
    if subject.votes is None:
        return []
    near = f", at most {subject.vote_distance:g} Å away" if subject.draws_circles else ""
    remained = "remained" if params.votes_decide else "was kept"
    sentences = [
        f"Each {noun} counts as a vote of its picker for the nearest {noun} that {remained}{near}."
    ]
    if params.votes_decide:
        sentences.append(f"Only {noun}s {votes_needed(subject)} were kept.")
    if params.relax_unseen:
        sentences.append(
            f"If fewer pickers have {noun}s on a {subject.image_kind}, the votes of all these pickers were enough."
        )
    return sentences


def votes_needed(subject: Subject) -> str:
    """Return a description of the picks that votes keep, such as "found by both pickers"."""
    params, voting = subject.params, subject.run.voting
    assert voting is not None
    number, found = len(voting.pickers), []
    if params.min_votes == number:
        found.append(
            "both pickers" if number == 2 else f"all {number_as_word(number).lower()} pickers"
        )
    elif params.min_votes > 1:
        few, many = number_as_word(params.min_votes).lower(), number_as_word(number).lower()
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
    """Return whether only the number of votes decides, and not the names of the pickers."""
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
    """Return a sentence on the picks that the order of rows decided; empty if there are none."""
    tied = subject.contents.decided_by_row_order
    if not tied or not subject.has_winners:
        return ""
    were, their = ("was", "its") if tied == 1 else ("were", "their")
    if not subject.params.scored:
        equal = "all other values that rank them are equal"
    else:
        equal = f"{their} scores and positions are equal"
    return f"{counted(tied, subject.noun)} {were} chosen by the order of rows, because {equal}."


def circles(subject: Subject) -> str:
    """Return sentences on the meaning of the shapes in the pictures of micrographs."""
    noun, params = subject.noun, subject.params
    shape = "circles" if subject.draws_circles else "dots"
    was = "would be" if subject.is_planned else "was"
    text = f"Filled {shape} are {noun}s that {subject.were} kept."
    if subject.duplicates:
        text += f" Empty {shape} {subject.were} rejected"
        if subject.outvoted:
            text += " as duplicates. A line joins each duplicate to its winner"
        elif subject.has_winners:
            text += f". A line joins each to the {noun} that {was} kept instead"
        text += "."
    if subject.outvoted:
        text += f" Crosses are {noun}s that were rejected for their votes."
    if not subject.draws_circles:
        return text
    exempt = params.between_inputs_only or params.ignore_within_filament
    text += f" Each circle is {params.min_separation:g} Å wide, which is the separation"
    invalid = subject.manifest["totals"]["invalid"] and params.invalid == "keep"
    if subject.is_tomogram:
        return f"{text}. The view is along z, so circles that overlap may be at different heights."
    if exempt or invalid:
        return f"{text}. {noun.capitalize()}s that were not compared may overlap."
    return f"{text}, so filled circles never touch."
