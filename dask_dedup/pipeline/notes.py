"""Notes for the report about the rows of each fragment, made while the fragment is written.

Notes depend only on the rows of the fragment and on the decisions about these rows. So a repeated task makes the same
notes. The notes of all fragments are joined to `ReportContents`, and no dataset is read again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, from_strings, to_numpy
from dask_dedup.dedup.arrays import ArrayTable, dtypes_of
from dask_dedup.dedup.picks import NO_HALF, row_of
from dask_dedup.dedup.rank import score_key
from dask_dedup.output.checkpoints import PairCounts
from dask_dedup.particles.micrographs.names import MicrographName
from dask_dedup.particles.report_contents import bin_distances, count_by_winner
from dask_dedup.particles.sample import NO_ROW, SampledPicks
from dask_dedup.storage.files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.dedup.decide import Decisions, Rejections
    from dask_dedup.dedup.picks import Picks
    from dask_dedup.dedup.votes import Votes
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.sample import SampleChoice


@dataclass(frozen=True, slots=True)
class RejectedCounts(ArrayTable):
    """Micrographs of a fragment that have duplicates: key and number of rejected picks."""

    micrograph: NDArray[np.uint64]
    rejected: NDArray[np.uint32]


RejectedCounts.dtypes = dtypes_of(RejectedCounts, "u8", "u4")


_PATHS = MicrographName._fields


class FragmentNotes(NamedTuple):
    """The notes about a fragment.

    Attributes
    ----------
    rejected : RejectedCounts
    sample : SampledPicks
        Picks of the fragment that are in the report's sample.
    paths : dict of int to MicrographName
        Paths of the sampled micrographs by key, if micrographs are matched by uid.
    """

    rejected: RejectedCounts
    sample: SampledPicks
    paths: dict[int, MicrographName]

    def write(self, path: Path) -> None:
        """Write the notes to a local file: Arrow IPC streams, one after the other."""
        tables = [
            pa.table({name: from_numpy(column) for name, column in table.columns().items()})
            for table in (self.rejected, self.sample)
        ]
        paths = [(str(key), *path[1:]) for key, path in self.paths.items()]
        columns = zip(*paths, strict=True) if paths else [()] * len(_PATHS)
        tables.append(pa.table([from_strings(each) for each in columns], list(_PATHS)))
        with path.open("wb") as file:
            for table in tables:
                with pa.ipc.new_stream(file, table.schema) as stream:
                    stream.write_table(table)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read notes from a file that was made by `write`."""
        content = pa.BufferReader(read_bytes(path))
        rejected = RejectedCounts.from_columns(_read_columns(content))
        sample = SampledPicks.from_columns(_read_columns(content))
        with pa.ipc.open_stream(content) as stream:
            paths = stream.read_all().to_pylist()
        named = [MicrographName(**{**each, "key": int(each["key"])}) for each in paths]
        return cls(rejected, sample, {name.key: name for name in named})


def _read_columns(content: pa.BufferReader) -> dict[str, NDArray[Any]]:
    with pa.ipc.open_stream(content) as stream:
        table = stream.read_all()
    return {name: to_numpy(table.column(name)) for name in table.column_names}


def digest_of(choice: SampleChoice) -> str:
    """Return a short hash of the choice of a sample, to recognise notes about another sample."""
    content = choice.keys.tobytes() + choice.windows.tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def take_sampled(choice: SampleChoice, picks: Picks) -> Picks:
    """Return the picks of a fragment that belong to the sample."""
    chosen = choice.chosen(picks.micrograph, picks.x, picks.y)
    return picks.take(np.flatnonzero(chosen & (picks.invalid == 0)))


def note_rows(
    inputs: Inputs, sampled: Picks, decisions: Decisions, paths: dict[int, MicrographName]
) -> FragmentNotes:
    """Make the notes about a fragment.

    `sampled` are the picks of the fragment that are in the sample. `decisions` are all decisions about its rows, in
    order. For `paths`, see `FragmentNotes`.
    """
    rejections = decisions.rejections
    duplicates = rejections.micrograph[rejections.invalid == 0]
    keys, rejected = np.unique(duplicates, return_counts=True)
    counts = RejectedCounts(keys, rejected.astype(np.uint32))
    return FragmentNotes(counts, _with_outcomes(inputs, sampled, decisions), paths)


def _with_outcomes(inputs: Inputs, sampled: Picks, decisions: Decisions) -> SampledPicks:
    """Add the decisions to sampled picks of a fragment: kept or rejected, winner, distance and votes."""
    first_rows, rejections = inputs.first_rows, decisions.rejections
    at = np.searchsorted(rejections.row_id, sampled.row_id)
    rejected = np.append(rejections.row_id, np.uint64(0))[at] == sampled.row_id
    rejected &= at < len(rejections)
    has_winner = np.zeros(len(sampled), dtype=bool)
    has_winner[rejected] = rejections.has_winner[at[rejected]]
    winners = rejections.take(at[has_winner])
    winner_source = np.zeros(len(sampled), dtype=np.uint16)
    winner_source[has_winner] = winners.winner_source
    winner_row = np.full(len(sampled), NO_ROW, dtype=np.int64)
    winner_row[has_winner] = first_rows[winners.winner_fragment] + row_of(winners.winner_row_id)
    distance = np.full(len(sampled), np.nan)
    distance[has_winner] = winners.distance
    return SampledPicks.from_columns(
        {
            **sampled.columns(),
            "row": first_rows[sampled.fragment] + row_of(sampled.row_id),
            "kept": ~rejected,
            "winner_source": winner_source,
            "winner_row": winner_row,
            "distance": distance,
            "votes": _votes_of(decisions.votes, sampled.row_id),
        }
    )


def _votes_of(votes: Votes, row_id: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return the number of votes of each row, (n,), given the table of votes in order."""
    at = np.searchsorted(votes.row_id, row_id)
    found = np.append(votes.row_id, np.uint64(0))[at] == row_id
    return np.where(
        found & (at < len(votes)), np.append(votes.votes, np.uint16(0))[at], np.uint16(0)
    )


def count_pairs(inputs: Inputs, rejections: Rejections) -> PairCounts:
    """Count the pairs of a rejected row and its winner in several ways."""
    params, roles = inputs.params, inputs.roles
    both = (rejections.half != NO_HALF) & (rejections.winner_half != NO_HALF)
    first = np.array([each.first_half for each in roles], dtype=np.int8)
    half = rejections.half - first[rejections.source]
    winner_half = rejections.winner_half - first[rejections.winner_source]
    has_uid = np.array([each.uid is not None for each in roles])
    has_winner = rejections.has_winner
    named = has_winner & has_uid[rejections.source] & has_uid[rejections.winner_source]
    by_winner = count_by_winner(
        rejections.source[has_winner], rejections.winner_source[has_winner], len(inputs.tables)
    )
    separation = params.min_separation if params.measures else 0.0
    return PairCounts(
        same_uid=int((named & (rejections.uid == rejections.winner_uid)).sum()),
        across_halves=int((both & (half != winner_half)).sum()),
        by_row_order=_count_by_row_order(inputs, rejections),
        by_winner=tuple(by_winner.sum(axis=0).tolist()),
        distances=tuple(bin_distances(rejections.distance[has_winner], separation).tolist()),
    )


def _count_by_row_order(inputs: Inputs, rejections: Rejections) -> int:
    """Count the rejected rows that rank after their winner only because of the row number."""
    alike = rejections.has_winner & (rejections.uid == rejections.winner_uid)
    if inputs.params.prefer_input_order:
        alike &= rejections.source == rejections.winner_source
    some = rejections.take(np.flatnonzero(alike))
    if inputs.params.uses_standing:
        standing, other = some.standing, some.winner_standing
        some = some.take((standing == other) | (np.isnan(standing) & np.isnan(other)))
    elif inputs.params.scored:
        higher = np.array(inputs.higher_is_better)
        own = score_key(some.score, higher_is_better=higher[some.source])
        winners = score_key(some.winner_score, higher_is_better=higher[some.winner_source])
        some = some.take(np.flatnonzero(own == winners))
    return len(some)
