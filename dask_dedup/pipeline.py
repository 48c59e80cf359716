"""The run: scan, plan, decide, write, commit, in this order and nothing else."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from dask_dedup import __version__, stages
from dask_dedup import output as place
from dask_dedup.checks import check_names, check_rows, check_uids, find_warnings
from dask_dedup.cluster import choose_engine
from dask_dedup.errors import DedupError, InputError, RunError
from dask_dedup.formats import StoredSchema, open_table
from dask_dedup.formats.parquet import unify
from dask_dedup.micrographs import read_micrographs
from dask_dedup.params import DedupParams
from dask_dedup.plan import make_plan
from dask_dedup.result import RunResult
from dask_dedup.roles import check_flip, check_pixel_size, compare_roles, resolve_roles
from dask_dedup.stages import DUPLICATES, KEPT, REJECTED, Job, Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client

    from dask_dedup.formats import ParticleTable
    from dask_dedup.plan import Plan
    from dask_dedup.scan import Census

#: Rises whenever the same inputs and parameters may give other decisions or other files.
ALGORITHM = 1

OUTPUT_FORMATS = ("native", "parquet")

log = logging.getLogger("dask_dedup")


class Engine(Protocol):
    """Where the stages run."""

    def scan(self, job: Job) -> Iterator[Census]:
        """Take the census of every fragment, in any order."""

    def write(self, job: Job, plan: Plan) -> Iterator[Receipt]:
        """Decide, and write every fragment, in any order."""


def run(
    inputs: Sequence[str | Path] | str | Path,
    output: str | Path,
    params: DedupParams | None = None,
    client: Client | None = None,
    *,
    micrographs: str | Path | None = None,
    output_format: str = "native",
    overwrite: bool = False,
) -> RunResult:
    """Remove the duplicates of particle tables: files in, files out.

    Parameters
    ----------
    inputs : path or sequence of paths
        Parquet files or folders, ``.star``, ``.cs`` or ``.csg`` files; their order matters for
        `DedupParams.prefer_input_order`.
    output : path
        Folder for the result; made, or empty, or holding this very run (then nothing is done).
    params : DedupParams, optional
    client : distributed.Client, optional
        Of the cluster to run on; its workers must see the inputs and the output under the same
        paths. Without one, small work is done inside this process and larger work on a cluster
        started for it on this machine.
    micrographs : path, optional
        Table that gives each micrograph its pixel size and shape.
    output_format : {"native", "parquet"}
        Write each table in its own format (one file for each ``.star``, ``.cs`` or ``.csg``; one
        dataset for all Parquet), or all of them as one Parquet dataset.
    overwrite : bool
        Replace an earlier run's result.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        If the tables or parameters are wrong; nothing is written then.
    RunError
        If the run fails; no result is committed then.
    """
    began = time.perf_counter()
    params = params or DedupParams()
    target = Path(output)
    paths = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    if not paths:
        raise InputError("no input: name at least one particle table")
    place.check_apart(target, [*paths, *([micrographs] if micrographs else [])])
    tables = [open_table(path, source) for source, path in enumerate(paths)]
    exposures = open_table(micrographs) if micrographs else None
    run_id = make_run_id(tables, exposures, params, output_format)
    made = not target.exists()
    finished = place.find_finished(target, run_id, overwrite=overwrite)
    if finished:
        log.info("%s already holds this very run; nothing to do", target)
        return RunResult.of(target, finished, already_done=True)

    job = make_job(tables, exposures, params, output_format)
    with ExitStack() as stack:
        engine: Engine = choose_engine(stack, client, sum(table.rows for table in tables))
        censuses = sorted(engine.scan(job), key=lambda census: census.fragment)
        check_rows(job, censuses)
        check_uids(job, censuses)
        check_names(job, censuses)
        plan = make_plan(censuses)
        warnings = find_warnings(job, censuses)
        for line in (*_describe(job), *plan.describe(), f"running {engine}"):
            log.info(line)
        for line in warnings:
            log.warning("warning: %s", line)
        staging = place.stage(target, run_id)
        manifest = place.staged_manifest(staging)
        if manifest is None:
            job = replace(job, staging=str(staging))
            try:
                receipts = sorted(engine.write(job, plan), key=lambda receipt: receipt.fragment)
                totals = _totals(job, receipts)
                manifest = {
                    "format": 1,
                    "run_id": run_id,
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                    "seconds": round(time.perf_counter() - began, 3),
                    "overwrite": overwrite,
                    "parameters": params.to_dict(),
                    "output_format": output_format,
                    "micrographs": str(micrographs) if micrographs else None,
                    "versions": _versions(),
                    "inputs": [_describe_input(job, table) for table in job.tables],
                    "plan": plan.to_dict(),
                    "warnings": warnings,
                    "totals": totals,
                    "outputs": _outputs(job, receipts, totals),
                }
            except (DedupError, KeyboardInterrupt):
                place.discard(staging, with_output=made)
                raise
            except OSError as error:
                raise RunError(f"{error}; mend that and run the same command again") from error
    try:
        place.commit(staging, target, manifest)
    except OSError as error:
        raise RunError(f"{error}; mend that and run the same command again") from error
    return RunResult.of(target, manifest, already_done=False)


def make_job(
    tables: Sequence[ParticleTable],
    exposures: ParticleTable | None,
    params: DedupParams,
    output_format: str,
) -> Job:
    """Gather what the stages have to know; nothing is read but the micrograph table."""
    roles = [resolve_roles(table.schema.names, params, table.path) for table in tables]
    names = [(table.path, table.schema.names) for table in tables]
    roles = compare_roles(roles, names, params)
    micrographs = read_micrographs(exposures, match=roles[0].match) if exposures else None
    for table, role in zip(tables, roles, strict=True):
        check_pixel_size(role, params, micrographs, table.path)
        if table.source in params.flip_y:
            check_flip(role, params, micrographs, table.path)
    native = _native_names(tables, output_format)
    as_parquet = [table for table, name in zip(tables, native, strict=True) if name is None]
    fragments = [fragment for table in tables for fragment in table.fragments]
    return Job(
        tables=tuple(tables),
        fragments=tuple(replace(part, number=n) for n, part in enumerate(fragments)),
        roles=tuple(roles),
        params=params,
        micrographs=micrographs,
        stored_schema=StoredSchema.of(_unified_schema(as_parquet)),
        native_names=tuple(native),
        staging="",
    )


def _native_names(tables: Sequence[ParticleTable], output_format: str) -> list[str | None]:
    """Name each native table's output like its input, in a folder apart if that name is taken."""
    if output_format not in OUTPUT_FORMATS:
        raise InputError(
            f"--output-format is {output_format!r}; it must be one of {', '.join(OUTPUT_FORMATS)}"
        )
    names: list[str | None] = []
    taken: set[str] = set()
    for table in tables:
        if table.format == "parquet" or output_format == "parquet":
            names.append(None)
            continue
        name = Path(table.path).name
        mine = {name, *(Path(file.path).name for file in table.files)}
        names.append(f"input-{table.source + 1}/{name}" if mine & taken else name)
        taken |= mine
    return names


def _unified_schema(tables: Sequence[ParticleTable]) -> pa.Schema:
    """Give one schema for all inputs written as Parquet; a column that some lack may be null."""
    if not tables:
        return pa.schema([])
    schema = tables[0].schema
    for table in tables[1:]:
        schema = unify(schema, table.schema, table.path)
    common = set.intersection(*(set(table.schema.names) for table in tables))
    for number, field in enumerate(schema):
        if field.name not in common:
            schema = schema.set(number, field.with_nullable(nullable=True))
    if len(tables) > 1 and schema.metadata and len({str(t.schema) for t in tables}) > 1:
        # What pandas noted of the first table does not describe the columns of all.
        kept = {key: value for key, value in schema.metadata.items() if key != b"pandas"}
        schema = schema.with_metadata(kept)
    return schema


def make_run_id(
    tables: Sequence[ParticleTable],
    exposures: ParticleTable | None,
    params: DedupParams,
    output_format: str,
) -> str:
    """Hash all that a result depends on."""

    def identity(table: ParticleTable) -> dict[str, Any]:
        return {"path": table.path, "files": [asdict(file) for file in table.files]}

    request = {
        "algorithm": ALGORITHM,
        "parameters": params.to_dict(),
        "output_format": output_format,
        "inputs": [identity(table) for table in tables],
        "micrographs": identity(exposures) if exposures else None,
    }
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _describe(job: Job) -> list[str]:
    """Say what is compared and what decides."""
    params = job.params
    if params.undo_symmetry_expansion:
        duplicates = "symmetry copies of one particle (sym_expand/src_uid)"
    elif params.min_separation == 0:
        duplicates = "particles at precisely equal stored coordinates"
    else:
        duplicates = f"particles at most {params.min_separation:g} A apart"
    shifts = dict.fromkeys(roles.shift_name for roles in job.roles)
    fate = "all of them are rejected" if params.remove_entirely else "the best of them stays"
    return [
        f"duplicates: {duplicates}, on one micrograph (by {job.roles[0].match}); {fate}",
        f"shift: {', '.join(shifts)}; score: {params.score or 'none, a seeded choice'}",
    ]


def _describe_input(job: Job, table: ParticleTable) -> dict[str, Any]:
    roles = job.roles[table.source]
    return {
        "path": table.path,
        "rows": table.rows,
        "bytes": table.bytes,
        "convention": roles.convention,
        "columns": {
            "micrograph": roles.micrograph,
            "position": list(roles.position),
            "shift": list(roles.shift),
            "score": roles.score,
            "uid": roles.uid,
            "half_set": roles.half,
        },
        "files": [asdict(file) for file in table.files],
    }


def _totals(job: Job, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Add up the receipts, and check that no row was lost or made."""
    for receipt, fragment in zip(receipts, job.fragments, strict=True):
        if receipt.kept + receipt.rejected != fragment.rows:
            raise RunError(
                f"{fragment}: {receipt.kept} kept and {receipt.rejected} rejected of {fragment.rows} "
                "rows; this is a defect of the program, nothing was committed"
            )
    by_input: list[dict[str, Any]] = []
    for table in job.tables:
        mine = [receipt for receipt in receipts if receipt.source == table.source]
        by_input.append(
            {
                "path": table.path,
                "rows": table.rows,
                "kept": sum(receipt.kept for receipt in mine),
                "rejected": sum(receipt.rejected for receipt in mine),
            }
        )
    totals = {key: sum(entry[key] for entry in by_input) for key in ("rows", "kept", "rejected")}
    if totals["kept"] + totals["rejected"] != totals["rows"]:
        raise RunError(f"kept and rejected do not add up to the input: {totals}")
    return {
        **totals,
        "same_uid": sum(receipt.same_uid for receipt in receipts),
        "across_half_sets": sum(receipt.across_halves for receipt in receipts),
        "by_input": by_input,
    }


def _outputs(job: Job, receipts: Sequence[Receipt], totals: dict[str, Any]) -> list[dict[str, Any]]:
    """Assemble what is written in the inputs' own formats, and list every file of the result."""
    outputs = [
        {**asdict(file), "path": f"{folder}/{file.path}", "fragment": receipt.fragment}
        for folder in (KEPT, REJECTED, DUPLICATES)
        for receipt in receipts
        for file in [receipt.files.get(folder)]
        if file is not None
    ]
    with ThreadPoolExecutor() as pool:
        assembled = [
            (table.source, pool.submit(stages.assemble, job, table.source, folder, count[key]))
            for table, name, count in zip(
                job.tables, job.native_names, totals["by_input"], strict=True
            )
            if name
            for folder, key in ((KEPT, "kept"), (REJECTED, "rejected"))
        ]
        outputs += [
            {**asdict(file), "input": source}
            for source, files in assembled
            for file in files.result()
        ]
    return outputs


def _versions() -> dict[str, str]:
    libraries = ("dask", "distributed", "numpy", "pandas", "pyarrow", "scipy")
    return {
        "dask-dedup": __version__,
        "algorithm": str(ALGORITHM),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }
