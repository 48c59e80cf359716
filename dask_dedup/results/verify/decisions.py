"""The decisions of a finished run, tried again from its inputs, some micrographs at a time.

The kept set is read from the ``duplicates`` table; everything else is found anew by a grid of
cells. Nothing here has seen the code that decided in the first place. Taken on trust are the
centres, labels and micrograph keys (`scan`), and the rank keys and what a label forbids (`picks`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup import formats
from dask_dedup.dedup.picks import NO_HALF, Picks, fragment_of, row_of
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.particles.columns import Columns
from dask_dedup.particles.extract import read_picks
from dask_dedup.pipeline.duplicates import DUPLICATES_SCHEMA
from dask_dedup.pipeline.stages import DUPLICATES
from dask_dedup.results.verify.neighbours import (
    NOBODY,
    Points,
    best_within,
    closest_pair,
    distances,
    nearest_other,
)
from dask_dedup.results.verify.rows import FindingError, read_duplicates
from dask_dedup.results.verify.validity import Counts, find_reasons

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.pipeline.job import Job

    Bools = NDArray[np.bool_]
    Indices = NDArray[np.intp]

#: Picks held at once; the inputs' narrow columns are read again for every further pass.
PASS_ROWS = 4_000_000
#: The closest pair of kept particles is looked for up to so many separations.
LOOK_AHEAD = 2.0
#: Columns, added to what is told, of the micrograph a row is on and of its uid, as stored.
_ON, _UID = "on micrograph", "stored uid"


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

    def note(self, wrong: Indices, describe: Callable[[int], str]) -> None:
        """Add the numbers of wrong rows."""
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
    validity, separation, maximality, winners : Tally
    invalid : Counts
    """

    closest: float = np.inf
    validity: Tally = field(default_factory=Tally)
    separation: Tally = field(default_factory=Tally)
    maximality: Tally = field(default_factory=Tally)
    winners: Tally = field(default_factory=Tally)
    invalid: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class _Share:
    """The picks of some micrographs.

    Attributes
    ----------
    picks : Picks
    kept : (n,) bool
    told : pyarrow.Table
        What ``duplicates`` says of those not kept, in their order, and the micrographs they are on.
    reason : (n,) object
        Why a pick cannot be compared; empty for those that can.
    """

    picks: Picks
    kept: Bools
    told: pa.Table
    reason: NDArray[np.object_]

    def take(self, chosen: Bools) -> _Share:
        """Select picks."""
        told = self.told.filter(pa.array(chosen[~self.kept]))
        return _Share(self.picks.take(chosen), self.kept[chosen], told, self.reason[chosen])


def try_again(job: Job, duplicates: Mapping[int, Path], pool: Executor) -> Findings:
    """Derive every decision anew and compare it with the one told.

    Parameters
    ----------
    job : Job
    duplicates : mapping of int to Path
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
                np.concatenate([part.reason for part in parts]),
            )
            del parts
            compared = share.reason == ""
            _judge_set_aside(job, share, findings)
            _judge(job, share if compared.all() else share.take(compared), findings)
    return findings


def _read_share(job: Job, fragment: Fragment, path: Path, number: int, shares: int) -> _Share:
    roles = job.roles[fragment.source]
    columns = formats.read(job.tables[fragment.source], fragment, roles.columns)
    picks = read_picks(columns, fragment, roles, job.params, job.micrographs)
    reason = find_reasons(job, fragment.source, columns, picks)
    told, rows = read_duplicates(path, fragment)
    names = columns.column(roles.micrograph).take(pa.array(rows)).cast(pa.string())
    told = told.append_column(_ON, names.dictionary_encode())
    uid = pa.nulls(rows.size, pa.uint64())
    if roles.uid:
        stored = Columns(columns, fragment.slices[0].path if fragment.slices else "")
        uid = pa.array(stored.integers(roles.uid)[rows], mask=stored.nulls(roles.uid)[rows])
    told = told.append_column(_UID, uid)
    kept = np.ones(len(picks), dtype=bool)
    kept[rows] = False
    share = _Share(picks, kept, told, reason)
    if shares == 1:
        return share
    # Hashed once more: uids may have a pattern, and each share is to be about as large.
    return share.take(splitmix64(picks.micrograph) % np.uint64(shares) == number)


def _name(job: Job, picks: Picks, row: int) -> str:
    row_id = picks.row_id[row : row + 1]
    path, row_in_file = job.fragments[fragment_of(row_id)[0]].locate(int(row_of(row_id)[0]))
    return f"{path} row {row_in_file}"


def _judge_set_aside(job: Job, share: _Share, findings: Findings) -> None:
    """Look whether precisely the rows that cannot be compared are where the option says, and told of so."""
    picks, invalid = share.picks, share.reason != ""
    found, option = findings.validity, job.params.invalid
    found.seen += len(picks)
    pairs = zip(picks.source[invalid].tolist(), share.reason[invalid].tolist(), strict=True)
    findings.invalid.update(pairs)

    def describe(what: str) -> Callable[[int], str]:
        def say(row: int) -> str:
            why = f" ({share.reason[row]})" if share.reason[row] else ""
            return f"{_name(job, picks, row)} {what}{why}"

        return say

    loses = np.flatnonzero(~share.kept)
    unmeasured = np.zeros(len(picks), dtype=bool)
    unmeasured[loses] = Columns(share.told, DUPLICATES).nulls("distance_A")
    found.note(np.flatnonzero(unmeasured & ~invalid), describe("was set aside, but is valid"))
    if option == "error":
        found.note(np.flatnonzero(invalid), describe("cannot be compared, but was not refused"))
        return
    misplaced = invalid & (share.kept != (option == "keep"))
    other = "kept" if option == "reject" else "rejected"
    found.note(np.flatnonzero(misplaced), describe(f"cannot be compared, but is {other}"))
    aside = share.take(invalid & ~share.kept)
    if not len(aside.picks):
        return
    every, nobody = np.arange(len(aside.picks)), np.full(len(aside.picks), NOBODY)
    true = _true_rows(job, aside.picks, every, nobody, np.zeros(every.size))
    columns = {name: true.column(name) for name in true.column_names}
    columns |= {"distance_A": pa.nulls(every.size, pa.float64()), "uid": aside.told.column(_UID)}
    _compare_told(job, aside, pa.table(columns), every, found)


def _judge(job: Job, share: _Share, findings: Findings) -> None:
    params, picks = job.params, share.picks

    def name(row: int) -> str:
        return _name(job, picks, row)

    _, micrograph = np.unique(picks.micrograph, return_inverse=True)
    centres, limit = picks.points(params)
    points = Points(micrograph, centres, picks.exclusions(params))
    keeps, loses = np.flatnonzero(share.kept), np.flatnonzero(~share.kept)
    findings.separation.seen += keeps.size
    findings.maximality.seen += loses.size
    findings.winners.seen += loses.size
    pair = closest_pair(points.take(keeps), LOOK_AHEAD * limit)
    if pair is not None:
        gap, i, j = pair
        findings.closest = min(findings.closest, gap)
        findings.separation.note(
            keeps[[i]] if gap <= limit else keeps[:0],
            lambda row: f"{name(row)} and {name(keeps[j])} are kept, but {gap:.6g} A apart",
        )

    if params.remove_entirely:
        nearest = nearest_other(points, limit)
        distance, winner = nearest[loses], np.full(loses.size, NOBODY)
        proper = np.isfinite(distance)
        findings.separation.note(
            keeps[np.isfinite(nearest[keeps])],
            lambda row: f"{name(row)} is kept, but another particle is at {nearest[row]:.6g} A",
        )
        fault = "no other particle is within the separation"
    else:
        rank = np.empty(len(picks), dtype=np.intp)
        rank[np.lexsort(picks.rank_keys(params)[::-1])] = np.arange(len(picks))
        best = best_within(points.take(loses), points.take(keeps), rank[keeps], limit)
        winner = np.append(keeps, NOBODY)[best]
        distance = distances(centres[loses], centres[winner])
        proper = (winner != NOBODY) & (rank[winner] < rank[loses])
        fault = "no better-ranked particle within the separation is kept"
    findings.maximality.note(loses[~proper], lambda row: f"{name(row)} is rejected, but {fault}")

    true = _true_rows(job, picks, loses, winner, distance)
    _compare_told(job, share, true, np.flatnonzero(proper), findings.winners)


def _compare_told(job: Job, share: _Share, true: pa.Table, some: Indices, found: Tally) -> None:
    """Compare what is told of `some` of the rejected rows with the truth, column by column."""
    loses = np.flatnonzero(~share.kept)
    true = true.append_column("micrograph", share.told.column(_ON))
    for column in DUPLICATES_SCHEMA.names:
        told, right = share.told.column(column), true.column(column)
        differs = _differs(Columns(share.told, DUPLICATES), Columns(true, ""), column)

        def describe(n: int, column: str = column, told: Any = told, right: Any = right) -> str:
            row = _name(job, share.picks, int(loses[n]))
            return f"{row}: {column} is {told[n]} in {DUPLICATES}, but should be {right[n]}"

        found.note(some[differs[some]], describe)


def _true_rows(
    job: Job, picks: Picks, loses: Indices, winner: Indices, distance: NDArray[np.float64]
) -> pa.Table:
    """Say what ``duplicates`` should say of the rejected rows; a winner may be `NOBODY`."""
    own, theirs = picks.take(loses), picks.take(winner)
    every, has = np.ones(loses.size, dtype=bool), winner != NOBODY
    with_uid = np.array([roles.uid is not None for roles in job.roles])
    paths = pa.array([table.path for table in job.tables], pa.string())
    pieces = [(part, piece) for part in job.fragments for piece in part.slices]
    files = pa.array([piece.path for _, piece in pieces], pa.string())
    first_row = np.array([piece.first_row for _, piece in pieces], dtype=np.int64)
    size = np.array([piece.rows for _, piece in pieces], dtype=np.int64)
    number = np.array([part.number for part, _ in pieces], dtype=np.int64)
    before = np.cumsum(size) - size
    before -= before[np.searchsorted(number, number)]
    begins = (number << 32) + before

    def known(values: NDArray[np.generic], where: Bools) -> pa.Array:
        return pa.array(values, mask=~where)

    def text(codes: NDArray[np.generic], values: pa.Array, where: Bools) -> pa.Array:
        return pa.DictionaryArray.from_arrays(known(codes.astype(np.int32), where), values)

    columns = {"distance_A": pa.array(distance)}
    for prefix, side, where in (("", own, every), ("winner_", theirs, has)):
        at = np.searchsorted(begins, side.row_id.astype(np.int64), side="right") - 1
        rows = first_row[at] + side.row_id.astype(np.int64) - begins[at]
        columns |= {
            f"{prefix}uid": known(side.uid, where & with_uid[side.source]),
            f"{prefix}score": known(side.score, where & ~np.isnan(side.score)),
            f"{prefix}input": text(side.source, paths, where),
            f"{prefix}file": text(at, files, where),
            f"{prefix}row": known(rows, where),
            f"{prefix}half_set": known(side.half, where & (side.half != NO_HALF)),
        }
    return pa.table(columns)


def _differs(told: Columns, true: Columns, name: str) -> Bools:
    """Compare a column to the bit; (n,) bool."""
    kind = true.rows.schema.field(name).type
    if pa.types.is_dictionary(kind):
        (codes, texts), (true_codes, true_texts) = told.texts(name), true.texts(name)
        # One path may stand for two inputs.
        number = {text: n for n, text in enumerate(true_texts)}
        numbers = np.array([*(number.get(text, -2) for text in texts), -1])
        true_numbers = np.array([*(number[text] for text in true_texts), -1])
        return np.asarray(numbers[codes] != true_numbers[true_codes])
    missing = told.nulls(name)
    if pa.types.is_floating(kind):
        same = told.floats(name).view(np.uint64) == true.floats(name).view(np.uint64)
    else:
        same = told.integers(name) == true.integers(name)
    return np.asarray((missing != true.nulls(name)) | (~missing & ~same))
