"""The table of votes: each particle that is not a duplicate, and the pickers that voted for the particle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, from_strings
from dask_dedup.output.checkpoints import VoteCounts
from dask_dedup.pipeline.duplicates import input_names, locate, pandas_metadata, with_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.votes import Votes
    from dask_dedup.dedup.voting import Voting
    from dask_dedup.particles.inputs import Inputs

VOTES_SCHEMA = pa.schema(
    [
        ("uid", pa.uint64()),
        ("micrograph", pa.string()),
        ("input", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("kept", pa.bool_()),
        ("votes", pa.int16()),
        ("pickers_here", pa.int16()),
        ("picker", pa.string()),
        ("picks", pa.int32()),
        ("voter_uid", pa.uint64()),
        ("voter_input", pa.string()),
        ("voter_file", pa.string()),
        ("voter_row", pa.int64()),
        ("voter_score", pa.float64()),
        ("distance_A", pa.float64()),
    ]
)
_PANDAS = pandas_metadata(VOTES_SCHEMA)


def votes_table(
    inputs: Inputs,
    voting: Voting,
    votes: Votes,
    micrographs: pa.ChunkedArray,
    groups: Sequence[pa.Array],
) -> pa.Table:
    """Make the Arrow table of votes, with the columns of `VOTES_SCHEMA` and `groups`.

    `micrographs` and `groups` have the micrograph and the group values of each row.
    """
    every = np.ones(len(votes), dtype=bool)
    with_uid = np.array([roles.uid is not None for roles in inputs.roles])
    file, row = locate(inputs, votes.row_id, every)
    voter_file, voter_row = locate(inputs, votes.voter_row_id, every)
    pickers = from_strings(list(voting.pickers))
    columns = [
        from_numpy(votes.uid, with_uid[votes.source]),
        micrographs.dictionary_encode().cast(pa.dictionary(pa.int32(), pa.string())),
        input_names(inputs, votes.source, every),
        file,
        row,
        from_numpy(votes.kept),
        from_numpy(votes.votes.astype(np.int16)),
        from_numpy(votes.pickers_here.astype(np.int16)),
        pa.DictionaryArray.from_arrays(from_numpy(votes.picker.astype(np.int32)), pickers),
        from_numpy(votes.picks),
        from_numpy(votes.voter_uid, with_uid[votes.voter_source]),
        input_names(inputs, votes.voter_source, every),
        voter_file,
        voter_row,
        from_numpy(votes.voter_score, ~np.isnan(votes.voter_score)),
        from_numpy(votes.distance),
        *groups,
    ]
    names = with_groups(VOTES_SCHEMA, inputs.params).names
    return pa.table(columns, names=names, metadata={"pandas": _PANDAS})


def tally_votes(inputs: Inputs, votes: Votes) -> VoteCounts | None:
    """Count the representatives of a fragment by their votes. Return None if votes are not counted.

    `votes` must be sorted by representative (see `Votes.in_order`).
    """
    voting = inputs.voting
    if voting is None:
        return None
    first = np.flatnonzero(votes.first)
    number, kept = votes.votes[first], votes.kept[first]
    by_pickers = []
    if voting.lists_sets and first.size:
        bits = np.bitwise_or.reduceat(1 << votes.picker.astype(np.int64), first)
        by_pickers = _count_kept(bits, kept)
    unseen = (votes.pickers_here[first] < voting.min_votes) & (number < voting.min_votes)
    one, other = votes.voter_source, votes.coincident
    pairs = np.column_stack([one, other])[one != other]
    distinct, count = np.unique(pairs, axis=0, return_counts=True)
    return VoteCounts(
        by_votes=tuple(_count_kept(number, kept)),
        by_pickers=tuple(by_pickers),
        unseen=int((unseen & (kept == voting.relax_unseen)).sum()),
        voters=tuple(np.bincount(one, minlength=len(inputs.tables)).tolist()),
        coincident=tuple(
            (*pair, n) for pair, n in zip(distinct.tolist(), count.tolist(), strict=True)
        ),
    )


def _count_kept(values: NDArray[np.integer], kept: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return each distinct value from 0 to 65,535, with its numbers of rows and of kept rows."""
    total = np.bincount(values)
    stay = np.bincount(values[kept], minlength=total.size)
    distinct = np.flatnonzero(total)
    counts = (distinct, total[distinct], stay[distinct])
    return list(zip(*(each.tolist() for each in counts), strict=True))
