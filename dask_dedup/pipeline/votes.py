"""The table of votes: each particle that remains, and the pickers that voted for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, from_strings
from dask_dedup.output.checkpoints import VoteCounts
from dask_dedup.pipeline.duplicates import input_names, locate, pandas_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.dedup.params import DedupParams
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
#: Pickers whose votes are held in one integer.
_BITS = 62
_PANDAS = pandas_metadata(VOTES_SCHEMA)


def votes_schema(params: DedupParams) -> pa.Schema:
    """Return the columns of ``votes``: those of `VOTES_SCHEMA`, then the group columns as text."""
    taken = VOTES_SCHEMA.names
    names = [f"group_{name}" if name in taken else name for name in params.group_columns]
    return pa.schema([*VOTES_SCHEMA, *(pa.field(name, pa.string()) for name in names)])


def votes_table(
    inputs: Inputs,
    voting: Voting,
    votes: Votes,
    micrographs: pa.ChunkedArray,
    groups: Sequence[pa.Array] = (),
) -> pa.Table:
    """Make the Arrow table of votes, with the columns of `votes_schema`.

    `micrographs` and `groups` hold the micrograph and the group values of each row.
    """
    every = np.ones(len(votes), dtype=bool)
    with_uid = np.array([roles.uid is not None for roles in inputs.roles])
    file, row = locate(inputs, votes.row_id, every)
    voter_file, voter_row = locate(inputs, votes.voter_row_id, every)
    encoded = micrographs
    if not pa.types.is_dictionary(micrographs.type):
        encoded = micrographs.dictionary_encode()
    pickers = from_strings(list(voting.pickers))
    columns = [
        from_numpy(votes.uid, with_uid[votes.source]),
        encoded.cast(pa.dictionary(pa.int32(), pa.string())),
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
    names = votes_schema(inputs.params).names
    return pa.table(columns, names=names, metadata={"pandas": _PANDAS})


def tally_votes(votes: Votes, voting: Voting) -> VoteCounts:
    """Count the representatives of a fragment by the pickers that voted for them. `votes` must be in order."""
    first = np.flatnonzero(votes.first)
    # A bit for each picker.
    words = []
    for low in range(0, len(voting.pickers), _BITS):
        place = votes.picker.astype(np.int64) - low
        bit = np.where((place >= 0) & (place < _BITS), 1 << place.clip(0, _BITS - 1), 0)
        words.append(np.bitwise_or.reduceat(bit, first) if first.size else first)
    order = np.lexsort(words)
    new = np.ones(order.size, dtype=bool)
    new[1:] = np.any([word[order][1:] != word[order][:-1] for word in words], axis=0)
    starts = np.flatnonzero(new)
    number, kept = np.cumsum(new) - 1, votes.kept[first]
    total = np.bincount(number, minlength=starts.size)
    stay = np.bincount(number, weights=kept[order], minlength=starts.size)
    sets = []
    for at, *counts in zip(first[order[starts]], total.tolist(), stay.tolist(), strict=True):
        pickers = votes.picker[at : at + int(votes.votes[at])]
        sets.append((tuple(pickers.tolist()), counts[0], int(counts[1])))
    lacking = votes.votes[first] < voting.min_votes
    unseen = (votes.pickers_here[first] < voting.min_votes) & lacking
    return VoteCounts(tuple(sets), int((unseen & (kept == voting.relax_unseen)).sum()))
