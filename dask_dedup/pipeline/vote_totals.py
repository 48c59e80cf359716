"""The votes of a whole run: counts for the manifest, and warnings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dask_dedup.hints import Message, parameter
from dask_dedup.particles.voters import warn_about_few

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dask_dedup.dedup.voting import Voting
    from dask_dedup.output.checkpoints import FragmentCheckpoint, VoteCounts
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.voters import Voters

#: A run warns if this share of the votes of an input is from picks at exactly the positions of another input's picks.
_MOST_SHARED = 0.2
#: A run warns if more than this share of the particles is rejected for their votes.
_MOST_OUTVOTED = 0.9


def vote_totals(
    voting: Voting, voters: Voters, checkpoints: Iterable[FragmentCheckpoint]
) -> dict[str, Any]:
    """Return the counts of votes for the manifest."""
    counts = [checkpoint.votes for checkpoint in checkpoints if checkpoint.votes]
    by_votes = _add(entry for each in counts for entry in each.by_votes)
    by_pickers = {
        tuple(n for n in range(len(voting.pickers)) if bits >> n & 1): numbers
        for bits, numbers in _add(entry for each in counts for entry in each.by_pickers).items()
    }
    return {
        "pickers": list(voting.pickers),
        "by_votes": [
            {"votes": votes, "representatives": found, "kept": kept}
            for votes in range(1, len(voting.pickers) + 1)
            for found, kept in [by_votes.get(votes, (0, 0))]
        ],
        "by_pickers": [
            {
                "pickers": [voting.pickers[number] for number in pickers],
                "representatives": found,
                "kept": kept,
            }
            for pickers, (found, kept) in sorted(
                by_pickers.items(), key=lambda item: (-item[1][0], item[0])
            )
        ],
        "chance": _chance(voting, voters),
        "micrographs_with_few_pickers": voters.few,
    }


def _add(entries: Iterable[tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
    """Add up the numbers of all and of kept representatives, by the first number of each entry."""
    found: Counter[int] = Counter()
    kept: Counter[int] = Counter()
    for key, total, stay in entries:
        found[key] += total
        kept[key] += stay
    return {key: (total, kept[key]) for key, total in found.items()}


def _chance(voting: Voting, voters: Voters) -> list[dict[str, Any]]:
    if voters.chance is None or not voting.lists_sets:
        return []
    return [
        {"picker": one, "near": other, "level": round(float(level), 4)}
        for one, levels in zip(voting.pickers, voters.chance, strict=True)
        for other, level in zip(voting.pickers, levels, strict=True)
        if one != other and level > 0
    ]


def vote_warnings(
    inputs: Inputs, voters: Voters, checkpoints: Sequence[FragmentCheckpoint]
) -> list[Message]:
    """Return warnings about the votes of a run, when all fragments are written."""
    voting = inputs.voting
    if voting is None:
        return []
    counts = [checkpoint.votes for checkpoint in checkpoints if checkpoint.votes]
    return [
        # If no distances are measured, votes from picks at the same position are expected.
        *(_warn_about_same(inputs, counts) if inputs.params.measures else ()),
        *warn_about_few(voters, voting, sum(each.unseen for each in counts)),
        *_warn_about_outvoted(inputs, voting, voters, counts),
    ]


def _warn_about_same(inputs: Inputs, counts: Sequence[VoteCounts]) -> list[Message]:
    """Return a list of one warning if two inputs of different pickers have the same picks, else []."""
    shared: Counter[tuple[int, int]] = Counter()
    votes = [0] * len(inputs.tables)
    for each in counts:
        votes = [sum(pair) for pair in zip(votes, each.voters, strict=True)]
        for one, other, number in each.coincident:
            shared[min(one, other), max(one, other)] += number
    shares = [
        (-number / min(votes[one], votes[other]), one, other)
        for (one, other), number in shared.items()
    ]
    if not shares or -min(shares)[0] < _MOST_SHARED:
        return []
    share, one, other = min(shares)
    return [
        Message(
            f"{inputs.tables[one].path} and {inputs.tables[other].path}: {-share:.0%} of the votes of the input "
            "with fewer votes are from picks at exactly the position of a pick of the other input. If both inputs "
            "are from the same picker, give both inputs its name (NAME=PATH)."
        )
    ]


def _warn_about_outvoted(
    inputs: Inputs, voting: Voting, voters: Voters, counts: Sequence[VoteCounts]
) -> list[Message]:
    """Return a list of one warning if nearly all particles are rejected for their votes, else []."""
    found = sum(total for each in counts for _, total, _ in each.by_votes)
    outvoted = found - sum(kept for each in counts for *_, kept in each.by_votes)
    if outvoted <= _MOST_OUTVOTED * found:
        return []
    params = inputs.params
    text = f"{outvoted / found:.1%} of the particles that are not duplicates are rejected for their votes."
    if voters.without:
        names = ", ".join(voting.pickers[number] for number in voters.without)
        text += f" Pickers without particles: {names}."
    elif not params.undo_symmetry_expansion and not params.not_found_by:
        name = "min_separation" if params.vote_distance is None else "vote_distance"
        value = getattr(params, name)
        text += f" Is {parameter(name, f'{value:g}')} large enough, in angstrom, for the picks of one particle?"
    return [Message(text)]
