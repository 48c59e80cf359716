"""The stages of a run, each a function of the job and a fragment or a bucket; engines decide where they run.

Any stage may run twice: what it returns and writes depends on its arguments only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import numpy as np

from dask_dedup.arrow import from_numpy
from dask_dedup.dedup.decide import DecisionCounts, Rejections, decide
from dask_dedup.dedup.picks import NO_HALF, Picks, fragment_of, row_of
from dask_dedup.errors import RunError
from dask_dedup.formats import OutputFile, format_of, load, read
from dask_dedup.formats.parquet import writer as parquet
from dask_dedup.output.checkpoints import FragmentCheckpoint
from dask_dedup.output.layout import (
    CHECKPOINTS,
    DUPLICATES,
    KEPT,
    PIECES,
    REJECTED,
    TABLES,
    checkpoint_name,
    piece_name,
)
from dask_dedup.output.store import open_staging
from dask_dedup.particles.columns import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.particles.micrographs import micrograph_keys
from dask_dedup.particles.scan_summary import ScanSummary, summarize
from dask_dedup.pipeline.duplicates import duplicates_table
from dask_dedup.storage.files import sha256_of
from dask_dedup.storage.paths import using_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, Payload
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Narrow:
    """What has been read of a fragment to decide about it.

    Attributes
    ----------
    picks : Picks
    micrograph : pyarrow.ChunkedArray or None
        The micrograph of each row, where it goes by name.
    """

    picks: Picks
    micrograph: pa.ChunkedArray | None

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.picks.nbytes + (0 if self.micrograph is None else int(self.micrograph.nbytes))


def _at_its_endpoint(stage: Callable[Concatenate[Job, P], T]) -> Callable[Concatenate[Job, P], T]:
    """Let a stage ask the job's own server for ``s3://``: the worker's environment need not know it."""

    @wraps(stage)
    def at_endpoint(job: Job, /, *rest: P.args, **named: P.kwargs) -> T:
        with using_endpoint(job.endpoint_url):
            return stage(job, *rest, **named)

    return at_endpoint


@_at_its_endpoint
def scan_fragment(job: Job, number: int) -> tuple[ScanSummary, Narrow]:
    """Read the columns that matter of a fragment, and no others, and count what is in them."""
    fragment = job.fragments[number]
    roles = job.roles[fragment.source]
    rows = read(job.tables[fragment.source], fragment, roles.columns)
    _check_rows(rows, fragment)
    found = extract(rows, fragment, roles, job.params, job.micrographs)
    names = None if roles.match == "uid" else rows.column(roles.micrograph)
    return summarize(found, fragment, roles, job.params), Narrow(found.picks, names)


def collect_picks(
    job: Job, plan: Plan, number: int, picks: Picks | None = None
) -> tuple[Picks, NDArray[np.int32]]:
    """Give the picks of a fragment that travel, and the bucket each goes to.

    Parameters
    ----------
    job : Job
    plan : Plan
    number : int
        Of the fragment.
    picks : Picks, optional
        All of the fragment, if they are at hand.
    """
    if picks is None:
        picks = scan_fragment(job, number)[1].picks
    partition = _partitions(plan, picks)
    moves = partition >= 0
    return picks.take(moves), partition[moves]


@_at_its_endpoint
def decide_partition(job: Job, picks: Picks) -> tuple[Rejections, DecisionCounts]:
    """Find the duplicates among the picks of a bucket."""
    return _decide(job, picks)


def decide_fragment(job: Job, plan: Plan, picks: Picks) -> tuple[Rejections, DecisionCounts]:
    """Find the duplicates on the micrographs that live whole in a fragment, given all its picks."""
    settled = _partitions(plan, picks) < 0
    return _decide(job, picks if settled.all() else picks.take(settled))


def _decide(job: Job, picks: Picks) -> tuple[Rejections, DecisionCounts]:
    try:
        return decide(picks, job.params)
    except (
        ArithmeticError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise RunError(f"{_name_culprit(job, picks)}: {_in_words(error)}") from error


def _name_culprit(job: Job, picks: Picks) -> str:
    """Name the first micrograph, from the one with the most picks on, that cannot be decided by itself."""
    keys, first, counts = np.unique(picks.micrograph, return_index=True, return_counts=True)
    for worst in np.argsort(-counts, kind="stable"):
        try:
            decide(picks.take(picks.micrograph == keys[worst]), job.params)
        except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError):
            break
    fragment = job.fragments[int(fragment_of(picks.row_id[first[worst : worst + 1]])[0])]
    row = int(row_of(picks.row_id[first[worst : worst + 1]])[0])
    path, row_in_file = fragment.locate(row)
    roles = job.roles[fragment.source]
    name = read(job.tables[fragment.source], fragment, [roles.micrograph])[0][row].as_py()
    return (
        f"the duplicates on micrograph {name} ({counts[worst]:,} particles, one of them in {path} row "
        f"{row_in_file}) cannot be found"
    )


def _in_words(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({str(error) or 'MemoryError'})"
    return f"{type(error).__name__}: {error}"


def _partitions(plan: Plan, picks: Picks) -> NDArray[np.int32]:
    """Give the bucket each pick travels to; -1 for those that stay, as all invalid ones do."""
    return np.where(picks.invalid == 0, plan.partition_of(picks.micrograph), np.int32(-1))


@_at_its_endpoint
def write_fragment(
    job: Job,
    plan: Plan,
    number: int,
    moved: Rejections,
    settled: tuple[Rejections, DecisionCounts] | None = None,
    micrograph: pa.ChunkedArray | None = None,
) -> FragmentCheckpoint:
    """Read a fragment's payload, decide what lives whole in it, write both parts.

    Parameters
    ----------
    job : Job
    plan : Plan
    number : int
        Of the fragment.
    moved : Rejections
        The decisions made in buckets about rows of this fragment.
    settled : tuple, optional
        What `decide_fragment` gave, if that is done.
    micrograph : pyarrow.ChunkedArray, optional
        As in `Narrow`, if it is at hand.
    """
    fragment = job.fragments[number]
    payload = load(job.tables[fragment.source], fragment)
    rejections, counts = settled or _decide_payload(job, plan, fragment, payload)
    rejections = Rejections.concatenate([rejections, moved]).in_order()
    keep = np.ones(fragment.rows, dtype=bool)
    keep[rejections.row] = False
    if keep.size - keep.sum() != len(rejections):
        raise RunError(f"{fragment}: {len(rejections)} decisions about {(~keep).sum()} rows")
    set_aside = sum(plan.invalid.get(number, {}).values()) if job.params.invalid == "reject" else 0
    if np.count_nonzero(rejections.invalid) != set_aside:
        raise RunError(
            f"{fragment}: has other invalid rows than at the start of the run; "
            "the file has changed meanwhile, run again"
        )

    store, staging = open_staging(job.staging)
    with store.draft(staging) as draft:
        for folder in (*map(job.home, TABLES), PIECES, CHECKPOINTS):
            (draft / folder).mkdir(parents=True)
        checkpoint = _write(job, number, payload, keep, rejections, counts, micrograph, draft)
        (draft / checkpoint_name(number)).write_text(checkpoint.to_json())
    return checkpoint


def _write(
    job: Job,
    number: int,
    payload: Payload,
    keep: NDArray[np.bool_],
    rejections: Rejections,
    counts: DecisionCounts,
    micrograph: pa.ChunkedArray | None,
    draft: Path,
) -> FragmentCheckpoint:
    """Write a fragment's files into a draft folder."""
    fragment = job.fragments[number]
    table = job.tables[fragment.source]
    roles = job.roles[fragment.source]
    name = f"part-{number:05d}.parquet"
    files: dict[str, OutputFile] = {}
    pieces: dict[str, str] = {}
    if job.native_names[fragment.source]:
        payload.split(keep, *(draft / piece_name(table, number) for table in (KEPT, REJECTED)))
        pieces = {f"{PIECES}/{each.name}": sha256_of(each) for each in (draft / PIECES).iterdir()}
    else:
        rows = payload.columns(table.schema.names)
        _check_rows(rows, fragment)
        files[KEPT], files[REJECTED] = parquet.split(
            rows,
            keep,
            job.schema,
            draft / job.home(KEPT) / name,
            draft / job.home(REJECTED) / name,
        )
    if micrograph is None:
        micrograph = payload.columns((roles.micrograph,)).column(0)
    told = duplicates_table(job, rejections, micrograph.filter(from_numpy(~keep)))
    files[DUPLICATES] = parquet.write(told, draft / job.home(DUPLICATES) / name)
    halves = (rejections.half != NO_HALF) & (rejections.winner_half != NO_HALF)
    first = np.array([roles.first_half for roles in job.roles], dtype=np.int8)
    mine = rejections.half - first[rejections.source]
    theirs = rejections.winner_half - first[rejections.winner_source]
    with_uid = np.array([roles.uid is not None for roles in job.roles])
    named = with_uid[rejections.source] & with_uid[rejections.winner_source] & rejections.has_winner
    same_uid = named & (rejections.uid == rejections.winner_uid)
    return FragmentCheckpoint(
        fragment=number,
        source=fragment.source,
        rows=fragment.rows,
        kept=files[KEPT].rows if KEPT in files else int(keep.sum()),
        rejected=files[REJECTED].rows if REJECTED in files else len(rejections),
        same_uid=int(same_uid.sum()),
        across_halves=int((halves & (mine != theirs)).sum()),
        counts=counts,
        files=files,
        pieces=pieces,
    )


def assemble(job: Job, source: int, outcome: str, rows: int) -> list[OutputFile]:
    """Join the pieces of a native table's kept or rejected rows into files of the same format.

    Parameters
    ----------
    job : Job
    source : int
        Ordinal of the input.
    outcome : str
        `KEPT` or `REJECTED`.
    rows : int
        In all pieces.

    Returns
    -------
    list of OutputFile
        With paths from the output folder.
    """
    table = job.tables[source]
    numbers = [fragment.number for fragment in job.fragments if fragment.source == source]
    store, staging = open_staging(job.staging)
    pieces = [staging / piece_name(outcome, number) for number in numbers]
    target = Path(job.home(outcome)) / (job.native_names[source] or "")
    with store.draft(staging) as draft:
        folder = draft / target.parent
        folder.mkdir(parents=True)
        files = format_of(table).assemble(table, pieces, rows, folder, target.name)
    return [replace(file, path=str(target.parent / file.path)) for file in files]


def _check_rows(table: pa.Table, fragment: Fragment) -> None:
    if table.num_rows != fragment.rows:
        raise RunError(
            f"{fragment}: {table.num_rows} rows, but {fragment.rows} at the start of the run; "
            "the file has changed meanwhile, run again"
        )


def _decide_payload(
    job: Job, plan: Plan, fragment: Fragment, payload: Payload
) -> tuple[Rejections, DecisionCounts]:
    """Do as `decide_fragment` does where nothing but the payload is at hand."""
    roles = job.roles[fragment.source]
    rows = payload.columns(roles.columns)
    _check_rows(rows, fragment)
    keys, _ = micrograph_keys(Columns(rows, str(fragment)), roles.micrograph, roles.match)
    if fragment.number not in plan.invalid and (plan.partition_of(keys) >= 0).all():
        return Rejections.concatenate([]), DecisionCounts()
    found = extract(rows, fragment, roles, job.params, job.micrographs)
    return decide_fragment(job, plan, found.picks)
