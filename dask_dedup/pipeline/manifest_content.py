"""Make the content of the manifest: inputs, totals and output files of a run."""

from __future__ import annotations

import platform
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import RunError
from dask_dedup.formats import by_source, is_tree, named_files, score_label
from dask_dedup.formatting import counted
from dask_dedup.hints import Message, parameter
from dask_dedup.output.layout import KEPT, REJECTED, TABLES
from dask_dedup.output.manifest import DUPLICATES_ONLY, FORMAT, with_checksum
from dask_dedup.particles.pickers import name_pickers
from dask_dedup.pipeline import stages
from dask_dedup.pipeline.job import ALGORITHM
from dask_dedup.pipeline.vote_totals import vote_totals
from dask_dedup.storage.table_version import with_version
from dask_dedup.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dask_dedup.formats import ParticleTable
    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.checks.scales import InputScale
    from dask_dedup.particles.voters import Voters
    from dask_dedup.pipeline.job import Job
    from dask_dedup.pipeline.plan import Plan
    from dask_dedup.pipeline.separation import FoundSpacing

#: Keys of a request that the manifest does not repeat.
_REQUEST_ONLY = ("fragment_rows", "options")
#: A run warns if a larger fraction of the particles than this is rejected, because the separation is probably wrong.
_MOST_REJECTED = 0.9
#: A run warns if a table has more files than this, and the mean size of the files is smaller than this number of bytes.
_MANY_FILES, _SMALL_FILE = 250, 16 * 2**20


def make_manifest(
    job: Job,
    request: dict[str, Any],
    plan: Plan,
    checkpoints: Sequence[FragmentCheckpoint],
    *,
    scales: Sequence[InputScale],
    spacing: FoundSpacing | None,
    voters: Voters | None,
    warnings: Sequence[str],
    overwrite: bool,
    began: float,
) -> dict[str, Any]:
    """Check the row counts, assemble the output files, and return the manifest.

    `request` comes from `make_request`. `began` is `time.perf_counter` at the start of the run.
    """
    totals = _totals(job, plan, checkpoints)
    voting = job.inputs.voting
    totals["votes"] = vote_totals(voting, voters, checkpoints) if voting and voters else None
    outputs, tables = list_outputs(job, checkpoints, totals), job.inputs.tables
    return with_checksum(
        {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **{key: value for key, value in request.items() if key not in _REQUEST_ONLY},
            "overwrite": overwrite,
            "run_token": job.run_token,
            "partitions": job.partitions.types,
            "inputs": [
                _describe_input(job, table, picker, scales[table.source])
                for table, picker in zip(tables, name_pickers(tables), strict=True)
            ],
            "micrograph_names": _describe_names(job),
            "separation": spacing.to_dict() if spacing else None,
            "plan": plan.to_dict(),
            "warnings": list(warnings),
            # Parameters are marked in these lines, so that the report can show them as flags.
            "marked_warnings": [getattr(line, "raw", line) for line in warnings],
            "totals": totals,
            "outputs": outputs,
            "seconds": round(time.perf_counter() - began, 3),
        }
    )


def make_request(
    job: Job, run_id: str, *, allow_outside: bool, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings and software versions of a run, to be stored for resuming the run.

    `options` are further options of the command line.
    """
    return {
        "run_id": run_id,
        "directory": str(Path.cwd()),
        "options": dict(options),
        "parameters": job.inputs.params.to_dict(),
        "output_format": job.output_format,
        "compression": job.compression,
        "partition_by": [*job.partitions.types] if job.partitions.by_rows else [],
        DUPLICATES_ONLY: not job.writes_particles,
        "allow_outside": allow_outside,
        "micrographs": job.inputs.micrographs.path if job.inputs.micrographs else None,
        "inputs": [with_version(table.path, table.version) for table in job.inputs.tables],
        "names": {table.path: table.picker for table in job.inputs.tables if table.picker},
        "left_out": dict(job.inputs.left_out),
        "named_files": {
            table.path: files for table in job.inputs.tables if (files := named_files(table))
        },
        "fragment_rows": [fragment.rows for fragment in job.inputs.fragments],
        "versions": versions(),
    }


def _describe_input(
    job: Job, table: ParticleTable, picker: str, scale: InputScale
) -> dict[str, Any]:
    roles = job.inputs.roles[table.source]
    return {
        "path": table.path,
        "picker": picker,
        "version": table.version,
        "rows": table.rows,
        "bytes": table.bytes,
        "format": table.format,
        "convention": roles.convention,
        "columns": {
            "micrograph": roles.micrograph,
            "groups": list(roles.groups),
            "position": list(roles.position),
            "shift": [*roles.shift, *roles.added_shift],
            "score": roles.score,
            "uid": roles.uid,
            "half_set": roles.half,
        },
        "score_label": score_label(table, roles.score),
        "position_unit": roles.stored_unit,
        "pixel_size": scale.to_dict(),
        "column_names": table.schema.names,
        "files": [file.to_dict() for file in table.files],
        # The name that opens the output of an input with several output files.
        **({"output": job.native_names[table.source]} if is_tree(table) else {}),
    }


def _describe_names(job: Job) -> dict[str, Any]:
    """Return the matching method. For matching by name, also return the number of matched micrographs per input."""
    inputs = job.inputs
    match = {"match": inputs.roles[0].match, "stripping": "", "inputs": []}
    return match | (inputs.names.to_dict() if inputs.names else {})


def _totals(job: Job, plan: Plan, checkpoints: Sequence[FragmentCheckpoint]) -> dict[str, Any]:
    """Add up the row counts in all checkpoints. Raise RunError if rows of a fragment are missing or repeated."""
    for checkpoint, fragment in zip(checkpoints, job.inputs.fragments, strict=True):
        if checkpoint.kept + checkpoint.rejected != fragment.rows:
            raise RunError(
                f"{fragment}: {checkpoint.kept} kept and {checkpoint.rejected} rejected of {fragment.rows} "
                "rows. This is a bug in dask-dedup; nothing was committed."
            )
    by_input: list[dict[str, Any]] = []
    of_input = by_source(checkpoints)
    for table in job.inputs.tables:
        mine = of_input[table.source]
        reasons = _sum(plan.invalid.get(checkpoint.fragment, {}) for checkpoint in mine)
        by_input.append(
            {
                "path": table.path,
                "rows": table.rows,
                "kept": sum(checkpoint.kept for checkpoint in mine),
                "rejected": sum(checkpoint.rejected for checkpoint in mine),
                "invalid": reasons.total() - reasons["score"],
                "low_score": reasons["score"],
                "outvoted": sum(checkpoint.outvoted for checkpoint in mine),
            }
        )
    names = ("rows", "kept", "rejected", "invalid", "low_score", "outvoted")
    by_reason = _sum(plan.invalid.values())
    del by_reason["score"]
    # With `remove_entirely` there are no winners, so there are no pairs to count.
    winners = not job.inputs.params.remove_entirely
    return {
        **{name: sum(entry[name] for entry in by_input) for name in names},
        "invalid_by_reason": dict(sorted(by_reason.items())),
        "same_uid": sum(each.pairs.same_uid for each in checkpoints) if winners else None,
        "across_half_sets": sum(each.pairs.across_halves for each in checkpoints)
        if winners
        else None,
        "by_input": by_input,
    }


def _sum(counts: Iterable[dict[str, int]]) -> Counter[str]:
    return sum(map(Counter, counts), Counter())


def list_outputs(
    job: Job,
    checkpoints: Sequence[FragmentCheckpoint],
    totals: dict[str, Any],
    known: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Assemble part files into tables in the formats of the inputs. List all output files, Parquet included.

    `known` are entries for datasets that were written before. Raise RunError if two files have the same path.
    """
    outputs: list[dict[str, Any]] = []
    for folder in TABLES:
        outputs += [entry for entry in known if entry["path"].startswith(f"{folder}/")]
        outputs += [
            {
                **file.to_dict(),
                "path": f"{job.dataset_folder(folder)}/{file.path}",
                "fragment": checkpoint.fragment,
                "input": checkpoint.source,
            }
            for checkpoint in checkpoints
            for file in checkpoint.files.get(folder, ())
        ]
    if not job.writes_particles:
        return _distinct(outputs)
    of_input = by_source(job.inputs.fragments)
    with ThreadPoolExecutor() as pool:
        assembled = [
            (
                table.source,
                pool.submit(
                    stages.assemble, job, table, of_input[table.source], folder, count[key]
                ),
            )
            for table, name, count in zip(
                job.inputs.tables, job.native_names, totals["by_input"], strict=True
            )
            if name
            for folder, key in ((KEPT, "kept"), (REJECTED, "rejected"))
        ]
        outputs += [
            {**file.to_dict(), "input": source}
            for source, files in assembled
            for file in files.result()
        ]
    outputs += [
        {**file.to_dict(), "input": None}
        for folder in (KEPT, REJECTED)
        for file in stages.assemble_conversion(job, folder)
    ]
    return _distinct(outputs)


def _distinct(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the list of output files. Raise RunError if two files have the same path, so one has been overwritten."""
    counts = Counter(entry["path"] for entry in outputs)
    twice = next((path for path, count in counts.items() if count > 1), None)
    if twice is not None:
        raise RunError(
            f"{twice}: was written twice, so rows are missing. This is a bug in dask-dedup; nothing was committed."
        )
    return outputs


def result_warnings(job: Job, plan: Plan, checkpoints: Sequence[FragmentCheckpoint]) -> list[str]:
    """Return warnings about many small files, and about nearly all particles being rejected as duplicates."""
    params = job.inputs.params
    rejected = sum(checkpoint.rejected - checkpoint.outvoted for checkpoint in checkpoints)
    for reasons in plan.invalid.values():
        rejected -= sum(reasons.values()) if params.invalid == "reject" else reasons.get("score", 0)
    warnings: list[str] = _warn_about_small_files(job, checkpoints)
    if not params.measures or rejected <= _MOST_REJECTED * plan.rows:
        return warnings
    return [
        *warnings,
        Message(
            f"{rejected / plan.rows:.1%} of the particles are rejected as duplicates. Check "
            f"{parameter('min_separation', f'{params.min_separation:g}')}, which is in angstrom. "
            f"For copies of a symmetry expansion, use {parameter('undo_symmetry_expansion')}."
        ),
    ]


def _warn_about_small_files(job: Job, checkpoints: Sequence[FragmentCheckpoint]) -> list[str]:
    """Return a list of one warning if the partition folders have many small files, else []."""
    files = [
        file
        for checkpoint in checkpoints
        for file in checkpoint.files.get(KEPT, ())
        if job.partitions.by_rows
    ]
    folders = {file.path.rpartition("/")[0] for file in files}
    if len(files) <= max(_MANY_FILES, len(folders)):
        return []
    mean = sum(file.bytes for file in files) / len(files)
    if mean >= _SMALL_FILE:
        return []
    columns = ", ".join(job.partitions.types)
    return [
        Message(
            f"{KEPT} has {len(files):,} files in {counted(len(folders), 'folder')}, with {mean / 2**20:.1f} MiB on "
            f"average: each part of the inputs has rows for many folders. Sort the inputs by {columns} to have "
            "fewer files."
        )
    ]


@cache
def versions() -> dict[str, str]:
    """Map the name of each software that affects the output bytes to its version."""
    libraries = ("dask", "distributed", "numpy", "pandas", "pyarrow", "scipy")
    return {
        "dask-dedup": __version__,
        "algorithm": str(ALGORITHM),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }
