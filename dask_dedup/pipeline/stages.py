"""The stages of a run: functions that each process one fragment, shuffle partition or output table.

Any stage may run twice, because its results and files depend only on its arguments.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.arrow import cast_views, from_numpy
from dask_dedup.dedup.decide import DecisionCounts, Decisions, decide
from dask_dedup.dedup.picks import Picks, fragment_of, row_ids, row_of
from dask_dedup.errors import RunError
from dask_dedup.formats import OutputFile, native_format, read, write_lists
from dask_dedup.monitoring.progress import LISTED
from dask_dedup.output import open_staging
from dask_dedup.output.checkpoints import FragmentCheckpoint
from dask_dedup.output.layout import (
    CHECKPOINTS,
    KEPT,
    NOTES,
    PIECES,
    REJECTED,
    checkpoint_name,
    notes_name,
    piece_name,
)
from dask_dedup.particles.checks.uids import sorted_uids
from dask_dedup.particles.column_names import MICROGRAPH_PATH
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.sampled_rows import micrograph_paths, sampled_columns
from dask_dedup.particles.scan_summary import ScanSummary, summarize
from dask_dedup.particles.scanned_sample import scan_sample
from dask_dedup.pipeline.fragment_files import (
    check_rows,
    column_reader,
    write_listings,
    write_particles,
)
from dask_dedup.pipeline.notes import count_pairs, digest_of, note_rows, take_sampled
from dask_dedup.pipeline.votes import tally_votes
from dask_dedup.storage.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.dedup.decide import Rejections
    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.micrographs.names import MicrographName
    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.pipeline.fragment_files import Files, ReadColumns
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.rejected_rows import RejectedRows


@dataclass(frozen=True, slots=True)
class Scanned:
    """Picks, uids and micrograph names of a scanned fragment, for use in later stages."""

    picks: Picks
    #: Sorted uids, from `sorted_uids`.
    uids: NDArray[np.uint64]
    #: The micrograph name of each row, if micrographs are matched by name.
    micrograph: pa.ChunkedArray | None

    @property
    def nbytes(self) -> int:
        """Memory used by the picks and names, in bytes."""
        return self.picks.nbytes + (0 if self.micrograph is None else int(self.micrograph.nbytes))


def scan_fragment(
    job: Job, number: int, *, name_densest: bool = False
) -> tuple[ScanSummary, Scanned]:
    """Read the picks of a fragment. Return a summary of the picks, and the picks themselves.

    `name_densest` adds paths for the live page, which lists the densest micrographs.
    """
    inputs = job.inputs
    fragment = inputs.fragments[number]
    roles = inputs.roles[fragment.source]
    table, wanted = inputs.tables[fragment.source], roles.scanned_columns
    if name_densest and roles.match == "uid":
        wanted = sampled_columns(roles, table.schema.names)
    rows = read(table, fragment, wanted)
    check_rows(rows, fragment)
    found = extract(rows, fragment, roles, inputs.params, inputs.micrographs)
    names = None if roles.match == "uid" else rows.column(roles.micrograph)
    summary = summarize(found, fragment, roles, inputs.params)
    sample = scan_sample(
        found,
        rows,
        roles,
        inputs.micrographs,
        summary,
        int(inputs.first_rows[number]),
        inputs.rows,
        job.plot_micrographs,
    )
    summary = replace(summary, sample=sample)
    if name_densest:
        keys = summary.micrographs[np.argsort(-summary.counts, kind="stable")[:LISTED]]
        picks = found.picks.take(np.isin(found.picks.micrograph, keys))
        paths = _paths(inputs, fragment, rows.select, picks)
        summary = replace(summary, densest_paths=list(paths.values()))
    return summary, Scanned(found.picks, sorted_uids(found.picks, roles), names)


def collect_picks(
    job: Job, plan: Plan, number: int, picks: Picks | None = None
) -> tuple[Picks, NDArray[np.int32]]:
    """Return the picks of a fragment that must be shuffled, and the shuffle partition of each pick.

    If `picks` is passed, it must include these picks. The fragment is not read again then.
    """
    if picks is None:
        picks = scan_fragment(job, number)[1].picks
    partition = _partitions(plan, picks)
    moves = partition >= 0
    if moves.all():
        return picks, partition
    return picks.take(moves), partition[moves]


def sample_fragment(
    job: Job, choice: SampleChoice, number: int, picks: Picks | None = None
) -> Picks:
    """Return the picks of a fragment that belong to a sample. `picks` are all picks of the fragment, if known."""
    return take_sampled(choice, scan_fragment(job, number)[1].picks if picks is None else picks)


@dataclass(frozen=True, slots=True)
class Decided:
    """Decisions about the picks of a fragment that are not shuffled, and its picks of the report's sample."""

    decisions: Decisions
    counts: DecisionCounts
    sampled: Picks


def decide_fragment(job: Job, plan: Plan, picks: Picks) -> Decided:
    """Find the duplicates among the picks of a fragment that are not shuffled.

    `picks` need not include shuffled picks, except picks of the sample.
    """
    stays = _partitions(plan, picks) < 0
    decisions, counts = decide_picks(job, picks if stays.all() else picks.take(stays))
    return Decided(decisions, counts, take_sampled(plan.sample, picks))


def decide_picks(job: Job, picks: Picks) -> tuple[Decisions, DecisionCounts]:
    """Find the duplicates among the picks of complete micrographs. Raise a RunError with the micrograph on failure."""
    inputs = job.inputs
    try:
        return decide(picks, inputs.params, inputs.higher_is_better, inputs.voting)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError):
            reason = f"there is not enough memory ({str(error) or 'MemoryError'})"
        raise RunError(f"{_name_failure(job.inputs, picks)}: {reason}") from error


def _name_failure(inputs: Inputs, picks: Picks) -> str:
    """Return an error message that names the largest micrograph on which `decide` fails."""
    keys, first, counts = np.unique(picks.micrograph, return_index=True, return_counts=True)
    for worst in np.argsort(-counts, kind="stable"):
        try:
            few = picks.take(picks.micrograph == keys[worst])
            decide(few, inputs.params, inputs.higher_is_better, inputs.voting)
        except Exception:  # noqa: BLE001 (any defect counts)
            break
    row_id = picks.row_id[first[worst : worst + 1]]
    fragment, row = inputs.fragments[int(fragment_of(row_id)[0])], int(row_of(row_id)[0])
    path, row_in_file = fragment.locate(row)
    column = inputs.roles[fragment.source].micrograph
    name = read(inputs.tables[fragment.source], fragment, [column])[0][row].as_py()
    return (
        f"cannot find the duplicates on micrograph {name} ({counts[worst]:,} particles, one of "
        f"them in {path} row {row_in_file})"
    )


def _partitions(plan: Plan, picks: Picks) -> NDArray[np.int32]:
    """Return the shuffle partition of each pick, -1 for picks that are invalid or not shuffled."""
    return np.where(picks.invalid == 0, plan.partition_of(picks.micrograph), np.int32(-1))


def write_fragment(
    job: Job,
    plan: Plan,
    number: int,
    moved: Decisions,
    decided: Decided | None = None,
    micrograph: pa.ChunkedArray | None = None,
) -> FragmentCheckpoint:
    """Write the kept and rejected rows of a fragment. First find the duplicates among picks that are not shuffled.

    Parameters
    ----------
    job : Job
    plan : Plan
    number : int
    moved : Decisions
        Decisions about rows of this fragment that were made in shuffle partitions.
    decided : Decided, optional
        The result of `decide_fragment`, if it has been called.
    micrograph : pyarrow.ChunkedArray, optional
        Micrograph names as in `Scanned`. They are read if not passed.
    """
    fragment = job.inputs.fragments[number]
    columns = column_reader(job, number)
    decided = decided or _decide_rows(job, plan, fragment, columns)
    decisions = Decisions.concatenate([decided.decisions, moved]).in_order()
    rejections = decisions.rejections
    keep = np.ones(fragment.rows, dtype=bool)
    keep[rejections.row] = False
    _check_decisions(job.inputs, plan, fragment, rejections, keep)
    with _drafting(job) as draft:
        files = write_particles(job, number, columns, keep, draft) if job.writes_particles else {}
        files |= write_listings(job, number, columns, decisions, micrograph, draft)
        paths = _paths(job.inputs, fragment, columns, decided.sampled)
        notes = note_rows(job.inputs, decided.sampled, decisions, paths)
        notes.write(draft / notes_name(number))
        return _write_checkpoint(
            *(fragment, keep, files, draft),
            outvoted=int(np.count_nonzero(rejections.votes)),
            pairs=count_pairs(job.inputs, rejections),
            votes=tally_votes(job.inputs, decisions.votes),
            sample=digest_of(plan.sample),
            counts=decided.counts,
        )


def split_fragment(job: Job, number: int, rejected: RejectedRows) -> FragmentCheckpoint:
    """Write the kept and rejected rows of a fragment. An earlier run has listed its duplicates."""
    fragment = job.inputs.fragments[number]
    keep = rejected.read_kept(fragment)
    with _drafting(job) as draft:
        files = write_particles(job, number, column_reader(job, number), keep, draft)
        return _write_checkpoint(fragment, keep, files, draft)


@contextmanager
def _drafting(job: Job) -> Iterator[Path]:
    """Yield a temporary folder for the files of a fragment. At the end, the files become part of the run."""
    store, staging = open_staging(job.staging)
    with store.draft(staging) as draft:
        for folder in (*map(job.dataset_folder, job.tables), PIECES, NOTES, CHECKPOINTS):
            (draft / folder).mkdir(parents=True)
        yield draft


def _write_checkpoint(
    fragment: Fragment, keep: NDArray[np.bool_], files: Files, draft: Path, **counts: Any
) -> FragmentCheckpoint:
    """Write and return the checkpoint of a fragment. The files of the fragment are in the folder `draft`."""
    staged = [file for folder in (PIECES, NOTES) for file in (draft / folder).iterdir()]
    checkpoint = FragmentCheckpoint(
        fragment=fragment.number,
        source=fragment.source,
        rows=fragment.rows,
        kept=_rows_in(files.get(KEPT), int(keep.sum())),
        rejected=_rows_in(files.get(REJECTED), int((~keep).sum())),
        **counts,
        files=files,
        pieces={str(file.relative_to(draft)): sha256_of(file) for file in staged},
    )
    (draft / checkpoint_name(fragment.number)).write_text(checkpoint.to_json())
    return checkpoint


def _rows_in(files: Sequence[OutputFile] | None, expected: int) -> int:
    """Return the number of rows in files, or the expected number if there are no files yet."""
    return expected if files is None else sum(file.rows for file in files)


def _check_decisions(
    inputs: Inputs,
    plan: Plan,
    fragment: Fragment,
    rejections: Rejections,
    keep: NDArray[np.bool_],
) -> None:
    """Check that no row is rejected twice, and that the number of invalid rows is the same as in the scan."""
    rejected = np.count_nonzero(~keep)
    if rejected != len(rejections):
        raise RunError(f"{fragment}: {len(rejections)} decisions about {rejected} rows")
    reasons = plan.invalid.get(fragment.number, {})
    invalid = reasons.get("score", 0)
    if inputs.params.invalid == "reject":
        invalid = sum(reasons.values())
    if np.count_nonzero(rejections.invalid) != invalid:
        raise RunError(
            f"{fragment}: has other invalid rows than at the start of the run. "
            "The file was changed; run again."
        )


def _paths(
    inputs: Inputs, fragment: Fragment, columns: ReadColumns, sampled: Picks
) -> dict[int, MicrographName]:
    """Return the paths of the sampled micrographs, if micrographs are matched by uid."""
    roles, names = inputs.roles[fragment.source], inputs.tables[fragment.source].schema.names
    if roles.match != "uid" or MICROGRAPH_PATH not in names or not len(sampled):
        return {}
    rows = columns([MICROGRAPH_PATH, *roles.groups])
    at = row_of(sampled.row_id)
    keys = np.zeros(fragment.rows, dtype=np.uint64)
    keys[at] = sampled.micrograph
    return micrograph_paths(rows, keys, at, roles.groups)


def assemble(
    job: Job, table: ParticleTable, fragments: Sequence[Fragment], outcome: str, rows: int
) -> list[OutputFile]:
    """Join the part files of one input and one outcome (kept or rejected) into a table in the input's format."""
    store, staging = open_staging(job.staging)
    pieces = [staging / piece_name(outcome, fragment.number) for fragment in fragments]
    target = Path(job.dataset_folder(outcome)) / (job.native_names[table.source] or "")
    with store.draft(staging) as draft:
        folder = draft / target.parent
        folder.mkdir(parents=True)
        files = native_format(table).assemble(table, pieces, rows, folder, target.name)
        files += write_lists(table, folder, target.name, store.output / target.parent)
    return [replace(file, path=str(target.parent / file.path)) for file in files]


def assemble_conversion(job: Job, outcome: str) -> list[OutputFile]:
    """Join the part files of all inputs and one outcome (kept or rejected), if the output is a conversion."""
    if job.conversion is None:
        return []
    store, staging = open_staging(job.staging)
    pieces = [staging / piece_name(outcome, part.number) for part in job.inputs.fragments]
    target = job.dataset_folder(outcome)
    with store.draft(staging) as draft:
        files = job.conversion.assemble(pieces, draft / target, store.output / target)
    return [replace(file, path=f"{target}/{file.path}") for file in files]


def _decide_rows(job: Job, plan: Plan, fragment: Fragment, columns: ReadColumns) -> Decided:
    """Read the picks of a fragment, and find the duplicates among the picks that are not shuffled."""
    inputs, roles = job.inputs, job.inputs.roles[fragment.source]
    rows = columns(roles.columns)
    check_rows(rows, fragment)
    keys = RowMicrographs.of(Columns(rows, str(fragment)), roles).keys
    if fragment.number not in plan.invalid and (plan.partition_of(keys) >= 0).all():
        sampled = np.flatnonzero(plan.sample.find(keys) >= 0)
        found = extract(
            cast_views(rows).take(from_numpy(sampled)),
            fragment,
            roles,
            inputs.params,
            inputs.micrographs,
        )
        picks = replace(found.picks, row_id=row_ids(fragment.number, fragment.rows)[sampled])
        return Decided(
            Decisions.concatenate([]), DecisionCounts(), take_sampled(plan.sample, picks)
        )
    found = extract(rows, fragment, roles, inputs.params, inputs.micrographs)
    return decide_fragment(job, plan, found.picks)
