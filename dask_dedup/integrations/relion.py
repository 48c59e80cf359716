"""External job of RELION 3.1, 4 and 5: its status files, its output nodes, and the run.

RELION checks status files (empty files in the job folder), and never exit codes. Without a status file RELION shows a
job as running for ever. So a small process (`main`) starts the job as another process, supervises it, and writes the
status file. Until the run begins, this module imports only the standard library.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from dask_dedup.integrations import FOLDER
from dask_dedup.integrations.supervisor import (
    ABORTED,
    FAILED,
    SUCCEEDED,
    end_without_supervisor,
    supervise,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.pipeline.result import RunResult

#: The status file for each outcome of a job.
STATUS_FILES = {
    SUCCEEDED: "RELION_JOB_EXIT_SUCCESS",
    FAILED: "RELION_JOB_EXIT_FAILURE",
    ABORTED: "RELION_JOB_EXIT_ABORTED",
}
#: The file with which RELION's window asks a job to end.
ABORT = "RELION_JOB_ABORT_NOW"
NODES = "RELION_OUTPUT_NODES.star"
#: Used instead of a version for jobs of CCP-EM Pipeliner, which checks exit codes and needs no files of RELION.
PIPELINER = "Pipeliner"
#: Environment variable of a supervised process, with the folder of its job.
SUPERVISED = "DASK_DEDUP_SUPERVISED_JOB"

PARTICLES, COORDINATES = "particles", "coordinates"
_TYPE, _LABEL = "rlnPipeLineNodeType", "rlnPipeLineNodeTypeLabel"
#: Types of nodes in RELION 3.1, and their labels in RELION 4 and 5.
_TYPES = {PARTICLES: "3", COORDINATES: "2"}
_LABELS_4 = {
    PARTICLES: "ParticlesData.star.relion",
    COORDINATES: "MicrographsCoords.star.relion.autopick",
}
_LABELS_5 = {
    PARTICLES: "ParticleGroupMetadata.star.relion",
    COORDINATES: "MicrographCoordsGroup.star.relion.autopick",
}
#: Columns of the table of output nodes by version. For an unknown version, the columns of RELION 3.1 and 5 are written.
_COLUMNS: dict[str, dict[str, dict[str, str]]] = {
    "3.1": {_TYPE: _TYPES},
    "4": {_LABEL: _LABELS_4},
    "5": {_LABEL: _LABELS_5},
    "": {_TYPE: _TYPES, _LABEL: _LABELS_5},
}


class Node(NamedTuple):
    """An output of a job for other jobs: the path, relative to the project, and its kind."""

    path: str
    kind: str


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``dask-dedup relion`` with these arguments, by default those of this program, then exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    job = job_to_supervise(arguments)
    if job is None:
        os.execv(sys.executable, _command(arguments))
    sys.exit(run_supervised(job, arguments))


def _command(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a job in the same interpreter, without the working folder on the import path."""
    program = (
        "from dask_dedup.integrations import relion; relion.end_with_supervisor(); "
        "from dask_dedup.cli import main; main(prog_name='dask-dedup')"
    )
    return [sys.executable, "-P", "-c", program, "relion", *arguments]


def end_with_supervisor() -> None:
    """If this process is supervised and the supervisor ends first, write the status file and end this process."""
    if job := os.environ.get(SUPERVISED):
        end_without_supervisor(lambda: _write_status(Path(job), STATUS_FILES[FAILED]))


def job_to_supervise(arguments: Sequence[str]) -> Path | None:
    """Return the folder of the job in a command line. Return None if no job needs a supervisor.

    A job that is already supervised needs no further supervisor. Pipeliner supervises its jobs itself.
    """
    if SUPERVISED in os.environ or not {"-h", "--help"}.isdisjoint(arguments):
        return None
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        folder = value if equals else following
        if name == "--o" and folder:
            return None if version_of(Path(folder)) == PIPELINER else Path(folder)
    return None


def run_supervised(job: Path, arguments: Sequence[str]) -> int:
    """Run a job in another process, write its status file, and return its exit code."""
    outcome, code = FAILED, 1
    try:
        job.mkdir(parents=True, exist_ok=True)
        for name in (*STATUS_FILES.values(), NODES):
            (job / name).unlink(missing_ok=True)
        os.environ[SUPERVISED] = str(job)
        outcome, code = supervise(_command(arguments), lambda: _exists(job / ABORT))
        if outcome == ABORTED:
            sys.stdout.write("dask-dedup: aborted\n")
            (job / ABORT).unlink(missing_ok=True)
            _remove_unfinished(job)
    except OSError as error:
        sys.stderr.write(f"dask-dedup: {error}\n")
    finally:
        _write_status(job, STATUS_FILES[outcome])
    return code


def _exists(path: Path) -> bool:
    with suppress(OSError):  # network file systems fail at times
        return path.exists()
    return False


def _write_status(job: Path, name: str) -> None:
    try:
        (job / name).touch()
    except OSError:  # on a full disk, the removal of unfinished files frees space
        _remove_unfinished(job)
        try:
            (job / name).touch()
        except OSError as error:
            sys.stderr.write(
                f"dask-dedup: {job / name}: cannot be written ({error.strerror}), so RELION shows the job as running. "
                "Choose 'Mark as failed' in its menu 'Job actions'.\n"
            )


def _remove_unfinished(job: Path) -> None:
    """Remove the leftovers of an interrupted run. Keep the result of an earlier run."""
    folder = job / FOLDER
    for path in folder.glob(".dask-dedup-*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def version_of(job: Path) -> str:
    """Return the version of RELION that made a job: "3.1", "4" or "5"; `PIPELINER` if Pipeliner made it.

    Return "" if the folder has no ``job.star``.
    """
    try:
        text = (job / "job.star").read_text(errors="replace")
    except OSError:
        return ""
    if "CCP-EM Pipeliner" in text:
        return PIPELINER
    if re.search(r"^_rlnJobType\s", text, re.MULTILINE):
        return "3.1"
    if not re.search(r"^_rlnJobTypeLabel\s", text, re.MULTILINE):
        return ""
    number = re.search(r"^# version (\d+)", text, re.MULTILINE)
    return "5" if number and int(number[1]) >= 50000 else "4"


def node_table(nodes: Iterable[Node], version: str) -> str:
    """Return the text of the table of output nodes for a version of RELION."""
    columns = _COLUMNS[version]
    labels = ["rlnPipeLineNodeName", *columns]
    lines = [
        *("", "# version 30001", "", "data_output_nodes", "", "loop_"),
        *(f"_{label} #{number}" for number, label in enumerate(labels, 1)),
        *(
            " ".join([_quoted(path), *(texts[kind] for texts in columns.values())])
            for path, kind in nodes
        ),
    ]
    return "\n".join(lines) + "\n\n"


def _quoted(path: str) -> str:
    """Return a path as text of a STAR file, in quotes if it has spaces."""
    return f'"{path}"' if re.search(r"\s", path) else path


def run(
    job: Path,
    inputs: Sequence[str | Path],
    params: DedupParams,
    write: Callable[[str], None],
    *,
    output_format: str,
    micrographs: str | Path | None = None,
    **options: Any,
) -> RunResult:
    """Remove duplicates in a job. Write its outputs, and last the table of output nodes.

    Parameters
    ----------
    job : Path
        Folder of the job, as RELION passes it.
    inputs : sequence of paths
    params : DedupParams
    write : callable
        Called with each line of the job's log.
    output_format : {"star", "relion-coordinates"}
        Whether the output is particles or coordinates. If the input is one STAR file of particles, the output keeps
        its whole content.
    micrographs : path, optional
        Table of micrographs. By default, coordinates use the table that the jobs of the inputs have used.
    **options
        Further keywords of `dask_dedup.run`.

    Returns
    -------
    RunResult
    """
    from dask_dedup.errors import InputError
    from dask_dedup.hints import parameter
    from dask_dedup.integrations.host import run_in_job
    from dask_dedup.output.manifest import find_manifest
    from dask_dedup.version import __version__

    if job.resolve() == Path.cwd():
        raise InputError(
            f"{job}: this is the project folder. Pass the folder of a job as {parameter('o')}."
        )
    if job.is_absolute():  # RELION reads paths relative to the project
        job = Path(os.path.relpath(job))
    (job / NODES).unlink(missing_ok=True)
    version = version_of(job)
    host = f"External job of RELION {version or '(unknown version)'}"
    write(f"dask-dedup {__version__}, {'job of Pipeliner' if version == PIPELINER else host}")
    kind = COORDINATES if output_format == "relion-coordinates" else PARTICLES
    if kind == COORDINATES:
        micrographs = micrographs or _find_micrographs(inputs, version)
    elif len(inputs) == 1 and _is_particle_table(Path(inputs[0])):
        output_format = "native"
    earlier = _kept_files(find_manifest(job / FOLDER))

    def finish(result: RunResult) -> Iterator[str]:
        # RELION cannot read a table without rows. Pipeliner expects all outputs to exist.
        needed = result.kept or version == PIPELINER
        kept = _kept_files(result.manifest) if needed else {}
        _link_kept_files(job, kept, kind)
        for name in {*earlier} - {*kept}:
            (job / name).unlink(missing_ok=True)
        nodes = _find_nodes(job, result, kind, version)
        if version != PIPELINER:
            _write(job / NODES, node_table(nodes, version).encode())
        if not result.kept:
            yield f"no {kind} are kept, so the job has no output of kept {kind}"
        yield from (f"output for other jobs: {node.path}" for node in nodes)

    try:
        return run_in_job(
            job,
            inputs,
            params,
            write,
            finish=finish,
            output_format=output_format,
            micrographs=micrographs,
            **options,
        )
    except KeyboardInterrupt:
        if version == PIPELINER:  # there is no supervisor to remove these files
            _remove_unfinished(job)
        raise


def _is_particle_table(path: Path) -> bool:
    """Return whether an input is a STAR file of particles."""
    from dask_dedup.formats.coordinates.detection import detect

    return path.suffix.lower() == ".star" and path.is_file() and not detect(path, folder=False)


def _find_micrographs(inputs: Sequence[str | Path], version: str) -> str | None:
    """Return the table of micrographs that the jobs of the inputs have used. Return None without exactly one table.

    RELION 3.1 cannot read coordinates without this table. For this version, raise InputError instead.
    """
    from dask_dedup.errors import InputError
    from dask_dedup.formats.coordinates.relion_job import micrographs_of_job_folder
    from dask_dedup.hints import parameter

    found = set()
    for path in map(Path, inputs):
        if path.name.startswith("coords_suffix") and path.is_file():
            named = path.read_text(errors="replace").strip()
            found |= {named} if named.endswith(".star") and Path(named).is_file() else set()
        elif job := micrographs_of_job_folder(path):
            found.add(os.path.relpath(job.path))
    if len(found) == 1:
        return found.pop()
    if version != "3.1":
        return None
    what = "have several tables of micrographs" if found else "have no table of micrographs"
    raise InputError(
        f"the jobs of the inputs {what}, but RELION 3.1 needs one table for coordinates. Connect the micrographs, or "
        f"pass {parameter('micrographs')}."
    )


def _kept_files(manifest: dict[str, Any] | None) -> dict[str, str]:
    """Return the files of the kept particles. Map the name in the job folder to the path in the result."""
    from dask_dedup.output.layout import KEPT

    paths = [entry["path"] for entry in (manifest or {}).get("outputs", ())]
    kept = [path for path in paths if path.startswith(f"{KEPT}/")]
    if manifest and manifest["output_format"] != "relion-coordinates":
        return {"particles.star": kept[0]}
    return {path.removeprefix(f"{KEPT}/"): path for path in kept}


def _link_kept_files(job: Path, kept: dict[str, str], kind: str) -> None:
    """Make hard links to the files of the kept particles in the job folder. Copy files that cannot be linked."""
    from dask_dedup.conversion.coordinates import LIST
    from dask_dedup.output.layout import KEPT

    for name, path in kept.items():
        source, target = job / FOLDER / path, job / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == COORDINATES and name == LIST:
            inside = f"/{FOLDER}/{KEPT}/".encode()
            _write(target, source.read_bytes().replace(inside, b"/"))
            continue
        draft = target.with_name(f".{target.name}.new")
        draft.unlink(missing_ok=True)
        try:
            draft.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, draft)
        draft.replace(target)


def _write(path: Path, content: bytes) -> None:
    """Write a file in one step, so that other programs never read an incomplete file."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)


def _find_nodes(job: Path, result: RunResult, kind: str, version: str) -> list[Node]:
    """Return the outputs for other jobs: the kept and the rejected particles, if there are any."""
    from dask_dedup.conversion.coordinates import LIST, SUFFIX_LIST
    from dask_dedup.output.layout import REJECTED

    name = {PARTICLES: "particles.star", COORDINATES: SUFFIX_LIST if version == "3.1" else LIST}[
        kind
    ]
    paths = [(job / name, result.kept)]
    rejected = job / FOLDER / REJECTED
    if kind == PARTICLES:
        name = Path(_kept_files(result.manifest)[name]).name
    paths.append((rejected / name, result.rejected))
    return [Node(path.as_posix(), kind) for path, rows in paths if rows]
