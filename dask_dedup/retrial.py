"""The decisions of a finished run, tried again from its inputs, a share of the micrographs at a time.

The kept set is read from the ``duplicates`` table; everything else is found anew by a grid of cells. Nothing here has
seen the code that decided in the first place. The centres (`scan`) and the rank keys (`picks`) are taken on trust.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.cellgrid import Points, best_within, closest_pair, distances, nearest_other
from dask_dedup.columns import Columns
from dask_dedup.errors import DedupError
from dask_dedup.formats import parquet
from dask_dedup.picks import NO_HALF, Picks, fragment_of, row_of
from dask_dedup.rank import splitmix64
from dask_dedup.scan import read_picks
from dask_dedup.stages import DUPLICATES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.stages import Job

    Bools = NDArray[np.bool_]
    Indices = NDArray[np.intp]
    Values = tuple[NDArray[np.generic], Bools]

#: Picks held at once; the inputs' narrow columns are read again for every further pass.
PASS_ROWS = 4_000_000
#: The closest pair of kept particles is looked for up to so many separations.
LOOK_AHEAD = 2.0


class FindingError(DedupError):
    """A finished run is not as a run leaves it; the message is one line."""


@dataclass(slots=True)
class Tally:
    """What was looked at and what of it is wrong.

    Attributes
    ----------
    seen, wrong : int
        Rows.
    first : str
        The first wrong one in words.
    """

    seen: int = 0
    wrong: int = 0
    first: str = ""

    def note(self, seen: int, wrong: Indices, describe: Callable[[int], str]) -> None:
        """Add some rows, and the numbers of the wrong ones among them."""
        self.seen += seen
        if wrong.size and not self.wrong:
            self.first = describe(int(wrong[0]))
        self.wrong += wrong.size

    def verdict(self, good: str) -> str:
        """Give `good`, or raise with what is wrong."""
        if self.wrong:
            more = f" (and {self.wrong - 1:,} more)" if self.wrong > 1 else ""
            raise FindingError(f"{self.first}{more}")
        return good


@dataclass(slots=True)
class Findings:
    """What the retrial has found so far.

    Attributes
    ----------
    closest : float
        Angstrom between the closest two kept particles that may be duplicates; infinite if no two
        are within `LOOK_AHEAD` separations.
    separation, maximality, winners : Tally
    """

    closest: float = np.inf
    separation: Tally = field(default_factory=Tally)
    maximality: Tally = field(default_factory=Tally)
    winners: Tally = field(default_factory=Tally)


def read_duplicates(path: Path, fragment: Fragment) -> tuple[pa.Table, Indices]:
    """Read what a run tells of the rejected rows of a fragment.

    Returns
    -------
    told : pyarrow.Table
    rows : (n,) intp
        Row number in the fragment of each, ascending.

    Raises
    ------
    FindingError
        If it names rows that the fragment does not have, or any twice, or out of order.
    """
    with pq.ParquetFile(path) as file:
        told = file.read(use_threads=False)
    if told.schema.names != DUPLICATES_SCHEMA.names:
        raise FindingError(f"{path}: the columns are {', '.join(told.schema.names)}")
    columns = Columns(told, str(path))
    codes, files = columns.texts("file")
    # A last piece without rows stands for every file that is not the fragment's.
    number = {piece.path: n for n, piece in enumerate(fragment.pieces)}
    piece = np.array([*(number.get(name, -1) for name in files), -1])[codes]
    first_row = np.array([*(piece.first_row for piece in fragment.pieces), 0])
    size = np.array([*(piece.rows for piece in fragment.pieces), 0])
    within = columns.integers("row").astype(np.int64) - first_row[piece]
    rows = (np.cumsum(size) - size)[piece] + within
    wrong = (within < 0) | (within >= size[piece]) | columns.nulls("row")
    wrong[1:] |= rows[1:] <= rows[:-1]
    if wrong.any():
        row = int(np.argmax(wrong))
        name = f"{told.column('file')[row]} row {told.column('row')[row]}"
        raise FindingError(f"{path}: row {row} names {name}, which is out of place there")
    return told, rows


@dataclass(frozen=True, slots=True)
class _Share:
    """The picks of some micrographs.

    Attributes
    ----------
    picks : Picks
    kept : (n,) bool
    told : pyarrow.Table
        What ``duplicates`` says of those not kept, in their order, and the micrographs they are on.
    """

    picks: Picks
    kept: Bools
    told: pa.Table


def try_again(job: Job, duplicates: Sequence[Path], pool: Executor) -> Findings:
    """Derive every decision anew and compare it with the one told.

    Parameters
    ----------
    job : Job
    duplicates : sequence of Path
        The part of each fragment.
    pool : Executor
        Reads the fragments.
    """
    shares = max(1, -(-sum(fragment.rows for fragment in job.fragments) // PASS_ROWS))
    findings = Findings()
    for number in range(shares):

        def read(fragment: Fragment, number: int = number) -> _Share:
            return _read_share(job, fragment, duplicates[fragment.number], number, shares)

        parts = list(pool.map(read, job.fragments))
        if parts:
            share = _Share(
                Picks.concatenate([part.picks for part in parts]),
                np.concatenate([part.kept for part in parts]),
                pa.concat_tables([part.told for part in parts]),
            )
            del parts
            _judge(job, share, findings)
    return findings


def _read_share(job: Job, fragment: Fragment, path: Path, number: int, shares: int) -> _Share:
    roles = job.roles[fragment.source]
    columns = parquet.read(job.tables[fragment.source], fragment, list(roles.columns))
    picks = read_picks(columns, fragment, roles, job.params, job.micrographs)
    finite = np.isfinite(picks.x) & np.isfinite(picks.y) & np.isfinite(picks.z)
    if not finite.all():
        path_of_row, row = fragment.locate(int(np.argmin(finite)))
        raise FindingError(f"{path_of_row} row {row} has no finite position")
    told, rows = read_duplicates(path, fragment)
    names = columns.column(roles.micrograph).take(pa.array(rows))
    told = _plain(told.append_column("true_micrograph", names.cast(pa.string())))
    kept = np.ones(len(picks), dtype=bool)
    kept[rows] = False
    if shares == 1:
        return _Share(picks, kept, told)
    # Hashed once more: uids may have a pattern, and each share is to be about as large.
    chosen = splitmix64(picks.micrograph) % np.uint64(shares) == number
    return _Share(picks.take(chosen), kept[chosen], told.filter(pa.array(chosen[rows])))


def _plain(told: pa.Table) -> pa.Table:
    """Hold text as dictionaries of one type, so that parts of any make fit together."""
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.table(
        [
            column.cast(pa.string()).cast(text)
            if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type)
            else column
            for column in told.columns
        ],
        names=told.column_names,
    )


def _judge(job: Job, share: _Share, findings: Findings) -> None:
    params, limit, picks = job.params, job.params.min_separation, share.picks

    def name(row: int) -> str:
        place = picks.place[row : row + 1]
        path, row_in_file = job.fragments[fragment_of(place)[0]].locate(int(row_of(place)[0]))
        return f"{path} row {row_in_file}"

    _, micrograph = np.unique(picks.micrograph, return_inverse=True)
    points = Points(
        micrograph,
        np.column_stack([picks.x, picks.y, picks.z]),
        picks.source if params.between_inputs_only else None,
    )
    keeps, loses = np.flatnonzero(share.kept), np.flatnonzero(~share.kept)
    pair = closest_pair(points.take(keeps), LOOK_AHEAD * limit)
    if pair is not None:
        distance, i, j = pair
        findings.closest = min(findings.closest, distance)
        too_close = keeps[[i]] if distance <= limit else keeps[:0]
        findings.separation.note(
            0, too_close, lambda row: f"{name(row)} and {name(keeps[j])} are {distance:.6g} A apart"
        )
    findings.separation.seen += keeps.size

    if params.remove_entirely:
        nearest = nearest_other(points, limit)
        crowded, alone = keeps[np.isfinite(nearest[keeps])], loses[np.isinf(nearest[loses])]
        findings.separation.note(
            0, crowded, lambda row: f"{name(row)} has another particle at {nearest[row]:.6g} A"
        )
        findings.maximality.note(
            loses.size, alone, lambda row: f"{name(row)} is rejected, but has no duplicate"
        )
        winner, distance_to = np.full(loses.size, -1), nearest[loses]
        tellable = np.isfinite(distance_to)
    else:
        rank = np.empty(len(picks), dtype=np.intp)
        rank[np.lexsort(picks.rank_keys(params)[::-1])] = np.arange(len(picks))
        best = best_within(points.take(loses), points.take(keeps), rank[keeps], limit)
        winner = np.append(keeps, -1)[best]
        tellable = (best >= 0) & (np.append(rank, -1)[winner] < rank[loses])
        findings.maximality.note(
            loses.size,
            loses[~tellable],
            lambda row: f"{name(row)} is rejected, but no better kept particle is within the separation",
        )
        distance_to = distances(points.centres[loses], points.centres[winner])

    told = Columns(share.told, "duplicates")
    true = _true_columns(job, picks, loses, winner, distance_to)
    for column, (values, missing) in true.items():
        told_values, told_missing = _told_column(told, column, values)
        differs = (missing != told_missing) | (~missing & (values != told_values))
        findings.winners.note(
            0,
            np.flatnonzero(differs & tellable),
            lambda n, column=column: (
                f"{name(loses[n])}: {column} is {share.told.column(column)[n]} in duplicates, "
                f"but should be {_show(job, column, true[column], n)}"
            ),
        )
    ...
