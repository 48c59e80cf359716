"""The jobs for CCP-EM Pipeliner, in projects that the real Pipeliner runs."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from test_conversion import LABELS, MICROGRAPHS, columns_of, micrographs, star, table
from test_coordinates_lines import put

from dask_dedup.dedup.params import DedupParams
from dask_dedup.version import __version__

pytest.importorskip("pipeliner")
from pipeliner.api.command_line import main as pipeliner
from pipeliner.api.manage_project import PipelinerProject
from pipeliner.external_program_utils import ExternalProgram
from pipeliner.job_factory import job_from_dict, read_job
from pipeliner.scripts.job_runner import JobRunner

PARTICLES, COORDINATES = "dask_dedup.select.particles", "dask_dedup.select.coordinates"
PICKERS = ("template", "blob")
SEPARATION = 40
#: Width and height of the micrographs in pixels.
SIZE = 512
SHIFTS = ("rlnOriginXAngst", "rlnOriginYAngst")


def write_inputs(folder):
    """Write the particles and the coordinates of two pickers that share most particles, and the micrographs."""
    random = np.random.default_rng(3)
    micrographs(folder)
    places = {name: random.uniform(40, SIZE - 40, (20, 2)) for name in MICROGRAPHS}
    for number, picker in enumerate(PICKERS, 3):
        rows, listed = [], []
        for name, points in places.items():
            found = points[random.random(20) < 0.8]
            found = found + random.normal(0, 1.5, found.shape)
            picks = [f"{x:.3f} {y:.3f} {random.random():.4f}" for x, y in found]
            shifts = random.normal(0, 1, found.shape)
            rows += [
                f"{name} {pick} 1 {dx:.3f} {dy:.3f}"
                for pick, (dx, dy) in zip(picks, shifts, strict=True)
            ]
            path = f"AutoPick/job{number:03}/Micrographs/{Path(name).stem}_autopick.star"
            put(folder, path, table("", LABELS[1:4], picks).encode())
            listed.append(f"{name} {path}")
        star(folder, f"{picker}.star", (*LABELS, *SHIFTS), rows)
        labels = ("rlnMicrographName", "rlnMicrographCoordinates")
        text = table("coordinate_files", labels, listed).encode()
        put(folder, f"AutoPick/job{number:03}/autopick.star", text)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A new project with the inputs, as the working directory."""
    folder = tmp_path_factory.mktemp("project")
    write_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        patch.chdir(folder)
        pipeliner(["--new_project"])
        yield PipelinerProject()


def run(project, kind, overwrite=None, **options):
    """Run a job to its end. Return it, its status, and the type of each of its outputs by path in the job."""
    given = {"min_separation": str(SEPARATION)} if kind in (PARTICLES, COORDINATES) else {}
    given |= {"_rlnJobTypeLabel": kind, **options}
    job = project.run_job(given, overwrite=overwrite, run_in_foreground=True)
    outputs = project.get_job(job.output_dir).output_nodes
    found = {node.name.removeprefix(job.output_dir): node.type for node in outputs}
    return job, project.wait_for_job_to_finish(job), found


@pytest.fixture(scope="module")
def particles(project):
    return run(project, PARTICLES, in_parts="template.star:::blob.star", nr_threads="2")


def nearest(path):
    """Return the distance in angstrom of the closest two particles of a micrograph."""
    places = {}
    for name, *numbers in columns_of(path, "rlnMicrographName", *LABELS[1:3], *SHIFTS):
        x, y, dx, dy = map(float, numbers)
        places.setdefault(name, []).append(np.array([2 * x - dx, 2 * y - dy]))
    return min(
        np.linalg.norm(one - other)
        for points in places.values()
        for number, one in enumerate(points)
        for other in points[:number]
    )


def test_particles_of_two_pickers_are_joined_without_duplicates(particles):
    job, status, found = particles
    assert status == "Succeeded"
    assert found == {
        "particles.star": "ParticleGroupMetadata.star.relion.deduplicated",
        "dedup/particles_rejected/particles.star": "ParticleGroupMetadata.star.relion.rejected",
        "dedup/report.html": "LogFile.html.dask_dedup",
    }
    kept = Path(job.output_dir, "particles.star")
    rejected = Path(job.output_dir, "dedup/particles_rejected/particles.star")
    rows = {path: len(columns_of(path, "rlnCoordinateX")) for path in (kept, rejected)}
    inputs = sum(len(columns_of(Path(f"{name}.star"), "rlnCoordinateX")) for name in PICKERS)
    assert sum(rows.values()) == inputs
    assert rows[rejected] > 20
    assert nearest(kept) > SEPARATION
    # Pipeliner looks at the exit code: files for RELION would be left over.
    assert not list(Path(job.output_dir).glob("RELION*"))


def test_the_log_has_version_and_counts(particles):
    job, *_ = particles
    log = Path(job.output_dir, "run.out").read_text()
    assert "all " in log
    assert "report: " in log
    assert job.jobinfo.programs[0].get_version() == __version__
    assert job.jobinfo.programs[0].get_version_from_logs(job.output_dir) == __version__


def test_the_result_is_displayed(particles):
    job, *_ = particles
    shown = {each.dobj_type: each for each in job.save_results_display_files()}
    assert [*shown] == ["table", "image", "histogram", "html"]
    totals = json.loads(Path(job.output_dir, "dedup/manifest.json").read_text())["totals"]
    assert [row[0] for row in shown["table"].table_data] == ["template.star", "blob.star", "all"]
    assert shown["table"].table_data[-1][1:] == [
        str(totals[key]) for key in ("rows", "kept", "rejected")
    ]
    assert sum(shown["histogram"].bins) == totals["rejected"]
    assert shown["histogram"].bin_edges[-1] == SEPARATION
    assert Path(shown["image"].image_path).read_bytes().startswith(b"\x89PNG")
    assert re.search(r"\d+ picks kept, \d+ rejected", shown["image"].image_desc)
    assert len(job.load_results_display_files()) == 4


def test_a_job_of_pipeliner_takes_the_output_on(project, particles):
    job, *_ = particles
    taken, status, _ = run(
        project,
        "pipeliner.select.random_sample",
        fn_parts=f"{job.output_dir}particles.star",
        n_samples="9",
    )
    assert status == "Succeeded"
    assert len(columns_of(Path(taken.output_dir, "sampled_particles.star"), "rlnCoordinateX")) == 9
    report, _ = project.prepare_metadata_report(taken.output_dir)
    found = json.loads(Path(report).read_text())["Jobs metadata"][job.output_dir]
    assert found["results"]["totals"]["rows"] == 96
    assert found["results"]["parameters"]["min_separation"] == SEPARATION


@pytest.mark.skipif(not shutil.which("relion_star_handler"), reason="RELION is not installed")
def test_jobs_of_relion_take_the_output_on(project, particles):
    output = Path(particles[0].output_dir, "particles.star")
    job, status, _ = run(
        project, "relion.select.removeduplicates",
        fn_data=str(output), duplicate_threshold=str(SEPARATION), image_angpix="2.0",
    )  # fmt: skip
    assert status == "Succeeded"
    assert "Removed 0 " in Path(job.output_dir, "run.out").read_text()
    for name in MICROGRAPHS:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with mrcfile.new(name) as file:
            file.set_data(np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32))
    job, status, _ = run(
        project, "relion.extract",
        star_mics="micrographs.star", fndata_reextract=str(output), extract_size="32", bg_diameter="24",
    )  # fmt: skip
    assert status == "Succeeded"
    extracted = Path(job.output_dir, "particles.star")
    assert len(columns_of(extracted, "rlnImageName")) == len(columns_of(output, "rlnCoordinateX"))


def test_coordinates_of_two_picking_jobs_are_joined(project):
    inputs = "AutoPick/job003/autopick.star:::AutoPick/job004/autopick.star"
    job, status, found = run(project, COORDINATES, in_coords=inputs, in_mics="micrographs.star")
    assert status == "Succeeded"
    assert found["autopick.star"] == "MicrographCoordsGroup.star.relion.autopick.deduplicated"
    rows = columns_of(
        Path(job.output_dir, "autopick.star"),
        *("rlnMicrographName", "rlnMicrographCoordinates"),
        block="coordinate_files",
    )
    assert [name for name, _ in rows] == MICROGRAPHS
    assert all(Path(path).is_file() for _, path in rows)
    _, status, _ = run(
        project, "pipeliner.select.random_sample",
        fn_coord_files=f"{job.output_dir}autopick.star", n_samples="2",
    )  # fmt: skip
    assert status == "Succeeded"


def test_a_failed_job_says_why_and_is_overwritten(project):
    no_size = ("rlnOpticsGroupName", "rlnOpticsGroup", "rlnVoltage", "rlnSphericalAberration")
    rows = ["m1.mrc 10 10 0.5 1", "m1.mrc 900 10 0.4 1"]
    table = star(Path(), "extracted.star", LABELS, rows, ["opticsGroup1 1 300 2.7"], no_size)
    job, status, _ = run(project, PARTICLES, in_parts="extracted.star")
    output = Path(job.output_dir, "particles.star")
    assert status == "Failed"
    assert "extracted.star: no micrograph pixel size" in Path(job.output_dir, "run.err").read_text()
    assert not output.exists()
    (shown,) = job.create_results_display()
    assert (shown.dobj_type, "Traceback" in shown.reason) == ("pending", False)
    project.prepare_metadata_report(job.output_dir)  # which looks at the outputs of every job
    again, status, found = run(
        project, PARTICLES, job.output_dir, in_parts="extracted.star", micrograph_pixel_size="2.0"
    )
    assert (again.output_dir, status) == (job.output_dir, "Succeeded")
    assert output.read_bytes() == table.read_bytes()
    # Nothing was rejected, so there is no output of rejected particles.
    assert sorted(found) == ["dedup/report.html", "particles.star"]


def test_an_aborted_job_leaves_no_unfinished_files(project):
    random = np.random.default_rng(0)
    rows = [
        f"m{n % 50}.mrc {x:.2f} {y:.2f} 0.5 1"
        for n, (x, y) in enumerate(random.random((200_000, 2)) * 4e4)
    ]
    star(Path(), "many.star", LABELS, rows)
    job = project.schedule_job({"_rlnJobTypeLabel": PARTICLES, "in_parts": "many.star"})
    folder = Path(job.output_dir)

    ready = read_job(f"{job.output_dir}job.star")
    ready.output_dir = job.output_dir
    runner = JobRunner(ready, abort_poll_interval=0.1)

    def abort_when_writing():
        until = time.monotonic() + 60
        while time.monotonic() < until and not list(folder.glob("dedup/.dask-dedup-*")):
            time.sleep(0.02)
        # It is also the time until a command that was asked to end is killed.
        runner.abort_poll_interval = 30.0
        (folder / "PIPELINER_JOB_ABORT_NOW").touch()

    watcher = threading.Thread(target=abort_when_writing)
    watcher.start()
    runner.run_job()
    watcher.join()
    assert project.wait_for_job_to_finish(job) == "Aborted"
    log = (folder / "run.out").read_text()
    assert "Command 2 terminated" in log
    assert not (folder / "dedup").exists()
    assert "Traceback" not in (folder / "run.err").read_text()


def test_pipeliner_lists_the_jobs_and_their_program(project, capsys, monkeypatch):
    # Pipeliner waits 3 s for a version, which is short on a busy machine.
    monkeypatch.setattr(ExternalProgram.get_version, "__defaults__", (60.0,))
    capsys.readouterr()
    pipeliner(["--available_jobs", "dask_dedup"])
    pipeliner(["--job_info", PARTICLES])
    pipeliner(["--check_jobs", "dask_dedup"])
    shown = capsys.readouterr().out
    assert shown.count(COORDINATES) == 2
    assert f"vers: {__version__}" in shown
    assert f"version: {__version__}" in shown


def test_every_parameter_is_an_option_of_the_form(project, capsys):
    pipeliner(["--default_jobstar", COORDINATES])
    job = read_job("dask_dedup_select_coordinates_job.star")
    assert {*DedupParams().to_dict()} <= {*job.joboptions}
    assert all(
        option.label and option.help_text
        for name, option in job.joboptions.items()
        if name in DedupParams().to_dict()
    )
    job = job_from_dict({"_rlnJobTypeLabel": PARTICLES, "in_parts": "template.star:::blob.star"})
    assert job.validate_joboptions() == []
    assert "--seed" not in " ".join(map(str, job.get_commands()[1].cmd))


def test_options_reach_the_command(project):
    job = job_from_dict({
        "_rlnJobTypeLabel": PARTICLES, "in_parts": "template.star:::blob.star", "in_mics": "micrographs.star",
        "min_separation": "auto", "min_score": "template.star=-1.5:::blob.star=0.1", "prefer_input_order": "Yes",
        "seed": "7", "shift_key": "none", "micrograph_height": "4096", "flip_y": "blob.star",
        "score_field": "rlnAutopickFigureOfMerit:higher", "other_args": "--invalid reject",
    })  # fmt: skip
    assert job.validate_joboptions() == []
    command = [str(word) for word in job.get_commands()[1].cmd]
    assert command[-2:] == ["--invalid", "reject"]
    assert {
        "--min-separation=auto", "--min-score=template.star=-1.5", "--min-score=blob.star=0.1",
        "--prefer-input-order", "--seed=7", "--shift-key=none", "--micrograph-height=4096", "--flip-y=blob.star",
        "--score-field=rlnAutopickFigureOfMerit:higher",
    } <= {*command}  # fmt: skip


def test_wrong_options_are_refused_before_the_job_starts(project):
    before = Path("default_pipeline.star").read_bytes()
    wrong = {
        "min_separation": ("near", "neither a number in angstrom nor auto"),
        "min_score": ("other.star=3", "other.star is not one of the inputs"),
        "score_field": ("rlnAutopickFigureOfMerit:up", "unknown direction 'up'"),
        "seed": ("-1", "it must be between 0"),
    }
    options = {name: value for name, (value, _) in wrong.items()}
    with pytest.raises(ValueError, match="options appear to be invalid") as raised:
        run(project, PARTICLES, in_parts="template.star", **options)
    lines = str(raised.value).splitlines()[1:]
    assert len(lines) == len(wrong)
    for name, (_, message) in wrong.items():
        label = name.replace("_", " ").capitalize()
        assert any(f'job option "{label}' in line and message in line for line in lines), (
            name,
            lines,
        )
    assert Path("default_pipeline.star").read_bytes() == before
    job = job_from_dict(
        {
            "_rlnJobTypeLabel": PARTICLES,
            "in_parts": "template.star:::blob.star",
            "vote_distance": "30",
        }
    )
    (found,) = job.validate_joboptions()
    assert str(found).startswith(
        'error: job options "Min separation (A|auto):", "Vote distance (A):"'
    )
    job.joboptions["min_separation"].value = "40"
    assert job.validate_joboptions() == []
