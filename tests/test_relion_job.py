"""External jobs of RELION: output nodes and status files. The slow tests run RELION itself (Debian: relion)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk
from test_conversion import LABELS, columns_of, star
from test_coordinates_lines import put
from test_relion import BOX, blobs, images_in

from dask_dedup.integrations import relion as relion_job
from dask_dedup.integrations.relion import Node, node_table, version_of

JOB = Path("External/job003")
#: The beginning of job.star in each version.
JOB_STAR = {
    "3.1": "\ndata_job\n\n_rlnJobType                            99\n_rlnJobIsContinue    0\n",
    "4": "\n# version 30001\n\ndata_job\n\n_rlnJobTypeLabel    relion.external\n_rlnJobIsContinue    0\n",
    "5": "\n# version 50001\n\ndata_job\n\n_rlnJobTypeLabel    relion.external\n_rlnJobIsContinue    0\n",
}
AUTOPICK = """data_joboptions_values

loop_
_rlnJobOptionVariable #1
_rlnJobOptionValue #2
fn_input_autopick micrographs.star
"""
#: What each version reads of a node for particles, and of one for coordinates.
NODES = {
    "3.1": ("3", "2"),
    "4": ("ParticlesData.star.relion", "MicrographsCoords.star.relion.autopick"),
    "5": ("ParticleGroupMetadata.star.relion", "MicrographCoordsGroup.star.relion.autopick"),
}
COLUMNS = {"3.1": "rlnPipeLineNodeType"}
COORDINATES = (
    *("rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit"),
    *("rlnClassNumber", "rlnAnglePsi"),
)
MICROGRAPHS = [f"MotionCorr/job002/Micrographs/mic{number}.mrc" for number in range(3)]


def particles(folder, name, count=300, seed=1, **options):
    """Write a table of particles, of which a tenth is doubled."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(0, 4000, (2, count))
    x[: count // 10], y[: count // 10] = x[-(count // 10) :] + 1, y[-(count // 10) :]
    number = random.integers(0, 3, count)
    number[: count // 10] = number[-(count // 10) :]
    score = random.random(count)
    rows = [
        f"{MICROGRAPHS[n]} {x:.6f} {y:.6f} {s:.6f} 1 0.0 0.0"
        for n, x, y, s in zip(number.tolist(), x.tolist(), y.tolist(), score.tolist(), strict=True)
    ]
    # RELION's own removal of duplicates needs shifts.
    labels = (*LABELS, "rlnOriginXAngst", "rlnOriginYAngst")
    return star(folder, name, labels, rows, **options)


def picks(folder, job, centres, listed="micrographs.star"):
    """Write the coordinate files of an AutoPick job, with the lists of RELION 3.1 and 4. Return the folder."""
    for name, rows in zip(MICROGRAPHS, centres, strict=True):
        lines = [f"{x:.6f} {y:.6f} {1 / (2 + n):.6f} 1 0.000000" for n, (x, y) in enumerate(rows)]
        head = ["", "data_", "", "loop_"]
        head += [f"_{label} #{number}" for number, label in enumerate(COORDINATES, 1)]
        path = f"{job}/Micrographs/{Path(name).stem}_autopick.star"
        put(folder, path, ("\n".join([*head, *lines]) + "\n\n").encode())
    put(folder, f"{job}/coords_suffix_autopick.star", f"{listed}\n".encode())
    rows = "".join(f"{m} {job}/Micrographs/{Path(m).stem}_autopick.star\n" for m in MICROGRAPHS)
    labels = "_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    text = f"\ndata_coordinate_files\n\nloop_\n{labels}{rows}\n"
    put(folder, f"{job}/autopick.star", text.encode())
    return folder / job


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The folder of a project, as the working folder, with a table of micrographs and the folder of a job."""
    rows = [f"{name} 1" for name in MICROGRAPHS]
    labels = ("rlnMicrographName", "rlnOpticsGroup")
    star(tmp_path, "micrographs.star", labels, rows, block="micrographs")
    # RELION copies the list of jobs into the folder of each job.
    for folder in (tmp_path, tmp_path / JOB):
        put(folder, "default_pipeline.star", b"data_pipeline_general\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(project, cli):
    """Call a job that a version of RELION has made, in this process. Return what it prints."""

    def call(*arguments, version="3.1"):
        (JOB / "job.star").write_text(JOB_STAR[version])
        outcome = cli("relion", "--o", f"{JOB}/", *arguments)
        assert outcome.exit_code == 0, outcome.stderr
        return outcome.stdout

    return call


def nodes(version="3.1"):
    """Return the output nodes of the job: path, and type or label."""
    column = COLUMNS.get(version, "rlnPipeLineNodeTypeLabel")
    table = JOB / "RELION_OUTPUT_NODES.star"
    return columns_of(table, "rlnPipeLineNodeName", column, block="output_nodes")


@pytest.mark.parametrize("version", JOB_STAR)
def test_each_version_of_relion_reads_its_type_or_label_of_an_output(project, version):
    (JOB / "job.star").write_text(JOB_STAR[version])
    outputs = [Node("a.star", "particles"), Node("b.star", "coordinates")]
    (JOB / "RELION_OUTPUT_NODES.star").write_text(node_table(outputs, version_of(JOB)))
    assert nodes(version) == list(zip(("a.star", "b.star"), NODES[version], strict=True))


def test_a_job_of_no_known_version_has_types_and_labels(project):
    assert version_of(JOB) == ""
    outputs = [Node("a.star", "particles")]
    (JOB / "RELION_OUTPUT_NODES.star").write_text(node_table(outputs, ""))
    for version in ("3.1", "5"):
        assert nodes(version) == [("a.star", NODES[version][0])]


def test_the_kept_particles_of_one_file_are_the_output(project, job):
    particles(project, "Import/job002/a.star")
    printed = job("--in_parts", "Import/job002/a.star", "--j", 1, version="5")
    label = NODES["5"][0]
    assert nodes("5") == [
        (f"{JOB}/particles.star", label),
        (f"{JOB}/dedup/particles_rejected/a.star", label),
    ]
    # The rows and the other tables of one input are copied as they are.
    kept = JOB / "dedup/particles_kept/a.star"
    assert (JOB / "particles.star").read_bytes() == kept.read_bytes()
    assert len(columns_of(kept, "rlnCoordinateX")) == 270
    assert f"report: {JOB}/dedup/report.html" in printed
    assert f"output for other jobs: {JOB}/particles.star" in printed
    assert "External job of RELION 5\n" in printed


@pytest.mark.parametrize("version", ["3.1", "4"])
def test_the_picks_of_two_pickers_are_one_list_for_extract(project, job, version):
    first = [[(100, 100), (300, 300)], [(500, 500)], []]
    second = [[(101, 100)], [(700, 700)], [(900, 900)]]
    name = "coords_suffix_autopick.star" if version == "3.1" else "autopick.star"
    one, two = (picks(project, f"AutoPick/job00{n}", each) for n, each in ((4, first), (5, second)))
    for path in (one, two):
        (path / "job.star").write_text(AUTOPICK)
    inputs = [path.relative_to(project) / name for path in (one, two)]
    job("--in_coords", inputs[0], "--input", inputs[1], "--prefer_input_order", version=version)
    label = NODES[version][1]
    assert nodes(version) == [
        (f"{JOB}/{name}", label),
        (f"{JOB}/dedup/particles_rejected/{name}", label),
    ]
    expected = {
        MICROGRAPHS[0]: [(100, 100), (300, 300)],
        MICROGRAPHS[1]: [(500, 500), (700, 700)],
        MICROGRAPHS[2]: [(900, 900)],
    }
    listed = columns_of(
        JOB / "autopick.star", "rlnMicrographName", "rlnMicrographCoordinates", block="coordinate_files"
    )  # fmt: skip
    for micrograph, path in listed:
        assert path == f"{JOB}/Micrographs/{Path(micrograph).stem}_autopick.star"
        found = columns_of(Path(path), *COORDINATES[:2], block="")
        assert [(float(x), float(y)) for x, y in found] == expected.pop(micrograph)
    assert not expected
    assert (JOB / "coords_suffix_autopick.star").read_text() == "micrographs.star\n"


def test_a_job_that_runs_again_replaces_its_files_and_registers_no_empty_table(project, job):
    both = [picks(project, f"AutoPick/job00{n}", [[(100, 100)], [], []]) for n in (4, 5)]
    three = picks(project, "AutoPick/job006", [[(9, 9)], [(9, 9)], [(9, 9)]])
    lists = [path.relative_to(project) / "coords_suffix_autopick.star" for path in (*both, three)]
    job("--in_coords", lists[2])
    assert nodes() == [(f"{JOB}/coords_suffix_autopick.star", "2")]
    assert len(list(JOB.glob("Micrographs/*_autopick.star"))) == 3
    job("--in_coords", lists[0], lists[1])
    assert len(nodes()) == 2
    assert [path.name for path in JOB.glob("Micrographs/*")] == ["mic0_autopick.star"]
    job("--in_coords", lists[0], lists[1], "--remove_entirely", version="4")
    assert nodes("4") == [(f"{JOB}/dedup/particles_rejected/autopick.star", NODES["4"][1])]
    assert not [*JOB.glob("Micrographs/*"), *JOB.glob("particles.star")]


def test_particles_of_several_files_are_one_table(project, job):
    """Names of options have hyphens or underscores. Inputs that are not used are named."""
    for name, seed in (("a", 1), ("b", 2)):
        particles(project, f"{name}/particles.star", seed=seed)
    printed = job(
        "--in-parts", "a/particles.star", "--input", "b/particles.star", "--min-separation", 30,
        "--prefer-input-order", "--in_mask", "mask.mrc", "--pipeline_control", JOB,
    )  # fmt: skip
    assert nodes()[0] == (f"{JOB}/particles.star", "3")
    assert len(columns_of(JOB / "particles.star", "rlnCoordinateX")) < 600
    assert "the mask mask.mrc is not used" in printed
    assert "at most 30 A apart" in printed


def test_a_table_without_particles_is_no_output(project, job):
    star(project, "a.star", LABELS, [])
    printed = job("--in_parts", "a.star")
    assert "no particles are kept, so the job has no output of kept particles" in printed
    assert nodes() == []
    assert not (JOB / "particles.star").exists()


def test_outputs_have_paths_relative_to_the_project(project, cli):
    """A STAR file holds a path with a blank in quotes."""
    particles(project, "a.star")
    folder = project / "External/job 003"
    outcome = cli("relion", "--o", f"{folder}/", "--in_parts", project / "a.star")
    assert outcome.exit_code == 0, outcome.stderr
    rows = (folder / "RELION_OUTPUT_NODES.star").read_text().splitlines()
    begins = '"External/job 003/'
    assert [row.partition('" ')[0] for row in rows if row.startswith('"')] == [
        f"{begins}particles.star",
        f"{begins}dedup/particles_rejected/a.star",
    ]


def test_a_status_file_that_cannot_be_written_is_reported(project, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setenv(relion_job.SUPERVISED, "")
    for name in ("touch", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    assert relion_job.run_supervised(JOB, []) == 1
    message = capsys.readouterr().err
    assert "RELION_JOB_EXIT_FAILURE: cannot be written (Read-only file system)" in message
    assert "Mark as failed" in message


def test_a_folder_that_cannot_be_read_for_a_moment_ends_no_job(project, monkeypatch):
    def fail(_):
        raise OSError(116, "Stale file handle")

    looked = []
    monkeypatch.setenv(relion_job.SUPERVISED, "")
    monkeypatch.setattr(
        relion_job,
        "supervise",
        lambda _, aborted: looked.append(aborted()) or (relion_job.SUCCEEDED, 0),
    )
    with monkeypatch.context() as stale:
        stale.setattr(Path, "exists", fail)
        assert relion_job.run_supervised(Path("External/job004"), []) == 0
    assert looked == [False]


def program(*arguments, **options):
    """Start the program as RELION does. Its output is in run.out and run.err of the job."""
    command = [sys.executable, "-m", "dask_dedup", "relion", "--o", f"{JOB}/", *map(str, arguments)]
    with (JOB / "run.out").open("a") as out, (JOB / "run.err").open("a") as err:
        return subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, **options)  # fmt: skip


def status_files():
    return [path.name.removeprefix("RELION_JOB_") for path in JOB.glob("RELION_JOB_*")]


def until(happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_the_status_file_of_success_comes_last_and_replaces_earlier_ones(project):
    particles(project, "a.star")
    put(project, "click.py", b"raise ImportError('not a module of the program')\n")
    (JOB / "RELION_JOB_EXIT_FAILURE").touch()
    assert program("--in_parts", "a.star").wait() == 0
    assert status_files() == ["EXIT_SUCCESS"]
    newest = max(JOB.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "RELION_JOB_EXIT_SUCCESS"
    assert (JOB / "run.err").read_text() == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--in_parts", "missing.star"], "missing.star: no such file", 2),
        (["--in_parts", "a.star", "--min_seperation", "3"], "No such option", 2),
    ],
)
def test_a_mistake_is_a_failure(project, arguments, message, code):
    particles(project, "a.star")
    (JOB / "RELION_OUTPUT_NODES.star").touch()  # of an earlier run
    assert program(*arguments).wait() == code
    assert status_files() == ["EXIT_FAILURE"]
    assert not (JOB / "RELION_OUTPUT_NODES.star").exists()
    assert message in (JOB / "run.err").read_text()
    assert not (JOB / "RELION_OUTPUT_NODES.star").exists()


@pytest.mark.slow
def test_an_installation_without_its_libraries_is_a_failure(project):
    broken = put(project, "broken/click.py", b"raise ImportError('no click here')\n").parent
    environment = {**os.environ, "PYTHONPATH": f"{broken}:{os.environ.get('PYTHONPATH', '')}"}
    assert program("--in_parts", "a.star", env=environment).wait() == 1
    assert status_files() == ["EXIT_FAILURE"]
    assert "no click here" in (JOB / "run.err").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("limits", [{"size": 100_000}, {"size": 10_000_000, "files": 12}])
def test_a_full_disk_is_a_failure(project, limits):
    """The status file itself needs space."""
    table = particles(project, "a.star", 3000)
    with small_disk(project / JOB, **limits):
        assert program("--in_parts", table).wait() == 1
        assert status_files() == ["EXIT_FAILURE"]
        assert "the disk is full" in (JOB / "run.err").read_text()
        assert not (JOB / "particles.star").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["abort", signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_stopped_while_it_writes_leaves_a_status_file_and_nothing_half_written(
    project, how
):
    particles(project, "a.star", 150_000)
    process = program("--in_parts", "a.star", "--j", 1)
    until(lambda: [*JOB.glob("dedup/.dask-dedup-*/pieces/*")] or process.poll() is not None)
    if how == "abort":
        (JOB / "RELION_JOB_ABORT_NOW").touch()
    elif how == signal.SIGKILL:  # the process that works
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), how)
    else:
        process.send_signal(how)
    began = time.monotonic()
    assert process.wait() != 0
    assert time.monotonic() - began < 10
    assert status_files() == ["EXIT_ABORTED" if how == "abort" else "EXIT_FAILURE"]
    assert not (JOB / "particles.star").exists()
    if how == "abort":  # a result that was complete by then stays
        assert [*JOB.glob("dedup/.*")] == []
        assert (JOB / "dedup").exists() == (JOB / "dedup/manifest.json").exists()
    if how == signal.SIGKILL:  # the next run begins anew beside what is left
        assert program("--in_parts", "a.star", "--min_separation", 30).wait() == 0
        assert status_files() == ["EXIT_SUCCESS"]
        assert [*JOB.glob("dedup/.*")] == []


@pytest.mark.slow
def test_a_job_ends_with_a_status_file_if_its_supervisor_is_killed(project):
    particles(project, "a.star", 150_000)
    process = program("--in_parts", "a.star", "--j", 1)
    until(lambda: [*JOB.glob("dedup/.dask-dedup-*/pieces/*")] or process.poll() is not None)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    until(lambda: not Path(f"/proc/{child}").exists(), 10)
    assert status_files() == ["EXIT_FAILURE"]
    assert not (JOB / "dedup/manifest.json").exists()
    assert "the process that supervises the job was killed" in (JOB / "run.err").read_text()


RUNNING, SUCCEEDED, FAILED, ABORTED = "0", "2", "3", "4"


class Project:
    """A project of RELION 3.1. Jobs are made and run by relion_pipeliner."""

    def __init__(self, folder):
        self.folder = folder
        put(
            folder,
            "default_pipeline.star",
            b"\ndata_pipeline_general\n\n_rlnPipeLineJobCounter 1\n",
        )
        program = put(folder, "bin/dask-dedup", b"")
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dask_dedup "$@"\n')
        program.chmod(0o755)
        self.path = f"{program.parent}:{os.environ['PATH']}"

    def pipeliner(self, *arguments, path=None):
        environment = {**os.environ, "PATH": path or self.path}
        command = ["relion_pipeliner", *arguments]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def add(self, kind, **options):
        """Add a job. Return its folder."""
        before = set(self.jobs())
        listed = ";".join(f"{name} == {value}" for name, value in options.items())
        assert self.pipeliner("--addJob", kind, "--addJobOptions", listed).wait(30) == 0
        (job,) = set(self.jobs()) - before
        return Path(job)

    def start(self, job, **options):
        schedule = f"s{len(list(self.folder.glob('pipeline_*')))}"
        arguments = ("--RunJobs", f"{job}/", "--schedule", schedule, "--sec_wait_after", "1")
        return self.pipeliner(*arguments, **options)

    def run(self, kind, **options):
        """Add a job, and run it to its end. Return its folder."""
        job = self.add(kind, **options)
        self.start(job).wait(60)
        return job

    def table(self, block, *names):
        return columns_of(self.folder / "default_pipeline.star", *names, block=f"pipeline_{block}")

    def jobs(self):
        """Return the status of each job."""
        labels = ("rlnPipeLineProcessName", "rlnPipeLineProcessStatus")
        text = (self.folder / "default_pipeline.star").read_text()
        return dict(self.table("processes", *labels)) if labels[0] in text else {}

    def status(self, job):
        return self.jobs()[f"{job}/"]


@pytest.fixture
def relion(tmp_path, monkeypatch):
    """A project of RELION with micrographs of blobs. `blobs` are their centres."""
    if not all(map(shutil.which, ("relion_pipeliner", "relion_preprocess"))):
        pytest.skip("RELION is not installed")
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    random = np.random.default_rng(3)
    grid = np.array([(64 + 64 * i, 64 + 64 * j) for i in range(6) for j in range(6)])
    project.blobs = [grid[random.permutation(36)[:count]] for count in (20, 21, 22)]
    for name, centres in zip(MICROGRAPHS, project.blobs, strict=True):
        blobs(tmp_path / name, centres)
    options = {"do_raw": "Yes", "is_multiframe": "No", "angpix": 2.0}
    job = project.run("Import", fn_in_raw="MotionCorr/job002/Micrographs/*.mrc", **options)
    project.micrographs = job / "micrographs.star"
    return project


@pytest.mark.slow
def test_extract_takes_the_merged_picks_of_two_pickers_from_the_job(relion):
    for name, part in (("AutoPick/job090", slice(0, 14)), ("AutoPick/job091", slice(8, None))):
        picks(Path(), name, [each[part] for each in relion.blobs], relion.micrographs)
    inputs = [f"AutoPick/job09{number}/coords_suffix_autopick.star" for number in range(2)]
    job = relion.run(
        "External", fn_exe="dask-dedup relion", in_coords=inputs[0], in_mic=relion.micrographs,
        param1_label="input", param1_value=inputs[1], param2_label="prefer_input_order",
    )  # fmt: skip
    assert relion.status(job) == SUCCEEDED, (job / "run.err").read_text()
    output = f"{job}/coords_suffix_autopick.star"
    assert (output, "2") in relion.table("nodes", "rlnPipeLineNodeName", "rlnPipeLineNodeType")
    extract = relion.run(
        "Extract", star_mics=relion.micrographs, coords_suffix=output, extract_size=BOX,
        do_norm="No", do_invert="No", do_rescale="No",
    )  # fmt: skip
    assert relion.status(extract) == SUCCEEDED
    edges = relion.table("input_edges", "rlnPipeLineEdgeFromNode", "rlnPipeLineEdgeProcess")
    assert (output, f"{extract}/") in edges
    images = np.concatenate([images_in(path) for path in sorted(extract.rglob("*.mrcs"))])
    assert len(images) == sum(map(len, relion.blobs))
    middle = slice(BOX // 2 - 1, BOX // 2 + 2)
    assert (images[:, middle, middle].mean(axis=(1, 2)) < -1.3).all()


@pytest.mark.slow
def test_relion_removes_no_duplicates_from_the_particles_of_the_job(relion):
    """The output is an input of RELION's own removal of duplicates. The job runs again with other files."""
    particles(Path(), "a.star")
    kind = "Particles STAR file (.star)"
    imported = relion.run(
        "Import", do_raw="No", do_other="Yes", fn_in_other="a.star", node_type=kind
    )
    options = {"fn_exe": "dask-dedup relion", "in_part": f"{imported}/a.star"}
    job = relion.run("External", **options)
    assert relion.status(job) == SUCCEEDED, (job / "run.err").read_text()
    options = {"do_remove_duplicates": "Yes", "duplicate_threshold": 20, "image_angpix": 2}
    for path, removed in ((f"{job}/particles.star", 0), (f"{imported}/a.star", 30)):
        select = relion.run("Select", fn_data=path, **options)
        assert f"Removed {removed} duplicate" in (select / "run.out").read_text()
        edges = relion.table("input_edges", "rlnPipeLineEdgeFromNode", "rlnPipeLineEdgeProcess")
        assert (path, f"{select}/") in edges
    particles(Path(), imported / "a.star", 500)
    relion.start(job).wait(60)
    assert relion.status(job) == SUCCEEDED
    assert len(columns_of(job / "particles.star", "rlnCoordinateX")) == 450


@pytest.mark.slow
def test_relion_sees_that_a_job_failed_or_was_aborted(relion):
    """Without the program in PATH the job has no status file, and RELION waits for ever."""
    particles(Path(), "a.star", 60_000)
    options = {"fn_exe": "dask-dedup relion", "in_part": "a.star"}
    failed = relion.run("External", **options, param1_label="min_separation", param1_value="far")
    assert relion.status(failed) == FAILED
    assert "neither a number" in (failed / "run.err").read_text()
    job = relion.add("External", **options)
    waiting = relion.start(job)
    until(
        lambda: (
            "External job" in (job / "run.out").read_text() if (job / "run.out").exists() else False
        )
    )
    (job / "RELION_JOB_ABORT_NOW").touch()
    waiting.wait(30)
    assert relion.status(job) == ABORTED
    assert not (job / "particles.star").exists()
    lost = relion.add("External", **options)
    folders = os.environ["PATH"].split(":")
    path = ":".join(each for each in folders if not (Path(each) / "dask-dedup").exists())
    waiting = relion.start(lost, path=path)
    until(lambda: (lost / "run.err").exists() and "not found" in (lost / "run.err").read_text())
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(3)
    waiting.kill()
    waiting.wait()
    assert relion.status(lost) == RUNNING
