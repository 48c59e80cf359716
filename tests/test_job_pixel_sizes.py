"""Pixel sizes of pick files: from the micrographs that a RELION job names, or an error with the ways out."""

from __future__ import annotations

import logging
import os
import shutil

import pytest

import dask_dedup
from dask_dedup import InputError, inspect, run, verify
from dask_dedup.results.command import run_command

OPTIONS = {"min_separation": 80, "prefer_input_order": True}
JOB = """
# version 50001

data_job

_rlnJobTypeLabel             relion.autopick.log
_rlnJobIsContinue                       0
_rlnJobIsTomo                           0


# version 50001

data_joboptions_values

loop_
_rlnJobOptionVariable #1
_rlnJobOptionValue #2
    angpix         -1
  fn_color         ""
{}
 other_args         "--a b"

"""
MICROGRAPHS = "CtfFind/job003/micrographs_ctf.star"


@pytest.fixture
def picks(real_data):
    return real_data / "pick_folders_10017"


@pytest.fixture
def project(picks, tmp_path):
    """A RELION project with a job.star in each pick job, which the data do not have."""
    folder = shutil.copytree(picks / "relion", tmp_path / "relion")
    for job, option in (
        ("AutoPick/job010", "fn_input_autopick"),
        ("ManualPick/job011", "   fn_in"),
    ):
        (folder / job / "job.star").write_text(JOB.format(f"{option} {MICROGRAPHS}"))
    return folder


@pytest.mark.real_data
@pytest.mark.parametrize("way", ["autopick.star", "Micrographs"])
def test_the_micrographs_of_the_job_have_the_pixel_size(project, tmp_path, caplog, way):
    caplog.set_level(logging.INFO, "dask_dedup")
    inputs = [project / "AutoPick/job010" / way, project / "ManualPick/job011"]
    wanted = run(inputs, tmp_path / "given", micrograph_pixel_size=1.77, **OPTIONS)
    result = run(inputs, tmp_path / "out", **OPTIONS)
    assert result.kept == wanted.kept
    assert result.rejected > 0
    source = f"{project / MICROGRAPHS}, named by job.star"
    assert f"pixel size: 1.77 A ({source})" in caplog.text
    for entry in result.manifest["inputs"]:
        assert entry["pixel_size"] == {"least": 1.77, "greatest": 1.77, "source": source}
    assert verify(tmp_path / "out").verified
    found = inspect(inputs, **OPTIONS)
    assert [each.pixel_size_source for each in found.inputs] == [source] * 2
    assert not found.problems


@pytest.mark.real_data
def test_the_list_of_relion_3_names_them(picks, tmp_path):
    result = run(picks / "relion/AutoPick/job013", tmp_path / "out", **OPTIONS)
    source = result.manifest["inputs"][0]["pixel_size"]["source"]
    assert source.endswith("micrographs_ctf.star, named by coords_suffix_autopick.star")


@pytest.mark.real_data
def test_the_run_is_resumed_with_the_command_that_status_shows(project, tmp_path):
    out = tmp_path / "out"
    job = project / "AutoPick/job010"
    result = run(job, out, **OPTIONS)
    assert run(job, out, **OPTIONS).already_done
    assert run(job, out, micrograph_pixel_size={str(job): 1.77}, **OPTIONS).already_done
    assert "--micrograph-pixel-size" in run_command(result.manifest, str(out))


@pytest.mark.real_data
def test_options_and_tables_come_before(project, tmp_path):
    inputs = project / "AutoPick/job010"
    for name, value in (("micrograph_pixel_size", 1.78), ("coordinate_pixel_size", 2.0)):
        result = run(inputs, tmp_path / name, **{name: value}, **OPTIONS)
        assert result.manifest["inputs"][0]["pixel_size"]["source"] == name
    table = project / MICROGRAPHS
    result = run(inputs, tmp_path / "b", micrographs=table, **OPTIONS)
    assert result.manifest["inputs"][0]["pixel_size"]["source"] == str(table)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("job", "value", "fits"),
    [
        ("AutoPick/job010", 5, False),
        ("AutoPick/job010", 1.786, True),
        ("AutoPick/job013", 1.79, False),
    ],
)
def test_an_option_that_contradicts_the_job_is_refused(project, tmp_path, job, value, fits):
    given = {"micrograph_pixel_size": value, **OPTIONS}
    if fits:
        assert run(project / job, tmp_path / "out", **given).kept
        return
    wrong = rf"micrograph_pixel_size={value} contradicts .* have 1\.77 A \(.*micrographs_ctf\.star, named by"
    with pytest.raises(InputError, match=wrong):
        run(project / job, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="contradicts"):
        inspect(project / job, **given)


@pytest.mark.real_data
def test_another_input_still_needs_its_own(cli, project, picks, tmp_path):
    inputs = [picks / "cryolo/STAR", project / "AutoPick/job010"]
    outcome = cli("run", *inputs, "-o", tmp_path / "out", "--min-separation", 80)
    assert outcome.exit_code == 2
    way = f"Pass --micrographs {project / MICROGRAPHS}, which another input uses, or"
    assert f"{inputs[0]}: no micrograph pixel size. {way}" in outcome.stderr
    assert "or --micrograph-pixel-size" in outcome.stderr
    alone = cli("run", inputs[0], "-o", tmp_path / "out", "--min-separation", 80)
    assert "Pass --micrographs, such as RELION's micrographs_ctf.star, or" in alone.stderr
    given = {str(inputs[0]): 1.77}
    assert run(inputs, tmp_path / "out", micrograph_pixel_size=given, **OPTIONS).kept == 3249


@pytest.mark.real_data
@pytest.mark.parametrize(
    "content", ["", "data_job\n", JOB.format(""), JOB.format("fn_in gone.star"), "\xff"]
)
def test_a_job_that_names_nothing(project, tmp_path, content):
    (project / "AutoPick/job010/job.star").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"job010: no micrograph pixel size\. Pass micrographs"):
        run(project / "AutoPick/job010", tmp_path / "out", **OPTIONS)


@pytest.mark.real_data
def test_micrographs_that_cannot_be_read(project, tmp_path):
    (project / MICROGRAPHS).write_text(
        "data_micrographs\n\nloop_\n_rlnMicrographName #1\na.mrc b\n"
    )
    with pytest.raises(InputError, match="cannot read the micrographs of its job: ") as caught:
        run(project / "AutoPick/job010", tmp_path / "out", **OPTIONS)
    assert str(caught.value).endswith("Pass micrographs or micrograph_pixel_size.")
    options = {"micrograph_pixel_size": 1.77, **OPTIONS}
    assert run(project / "AutoPick/job010", tmp_path / "out", **options).kept == 3052


@pytest.mark.real_data
def test_a_job_file_that_is_a_pipe_is_not_read(project, tmp_path):
    path = project / "AutoPick/job010/job.star"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="no micrograph pixel size"):
        run(project / "AutoPick/job010", tmp_path / "out", **OPTIONS)


@pytest.mark.real_data
def test_micrographs_of_several_pixel_sizes_need_the_table(project, tmp_path):
    table = project / MICROGRAPHS
    text = table.read_text()
    optics = next(line for line in text.splitlines() if line.startswith("opticsGroup1"))
    second = optics.replace("opticsGroup1 ", "opticsGroup2 ").replace(" 1 ", " 2 ", 1)
    second = second[::-1].replace("77.1", "00.2", 1)[::-1].replace("0000000", "000000")
    table.write_text(text.replace(optics, f"{optics}\n{second}"))
    names = [line for line in table.read_text().splitlines() if line.startswith("MotionCorr")]
    changed = names[0].rstrip()
    assert changed.endswith(" 1")
    table.write_text(table.read_text().replace(changed, changed[:-1] + "2"))
    with pytest.raises(InputError, match=r"pixel sizes from 1\.77 to 2") as caught:
        run(project / "AutoPick/job010", tmp_path / "out", **OPTIONS)
    assert f"Pass micrographs='{table}'" in str(caught.value)
    run(project / "AutoPick/job010", tmp_path / "out", micrographs=table, **OPTIONS)


@pytest.mark.real_data
def test_a_doc_file_of_dynamo_is_a_map_of_tomograms(real_data, tmp_path, cli):
    data = real_data / "dynamo2m_chemoreceptor"
    table, names = tmp_path / "picks.tbl", tmp_path / "tomograms.doc"
    shutil.copy(data / "dynamo2warp_example.tbl", table)
    shutil.copy(data / "dynamo2warp_example.doc", names)
    other = data / "warp2dynamo_example.star"
    sizes = {str(table): 15.0, str(data / "dynamo2warp_example.tbl"): 15.0, str(other): 5.0}

    def rejected(first, output, **options):
        pixel = {path: size for path, size in sizes.items() if path in (str(first), str(other))}
        result = run(
            [first, other],
            output,
            min_separation=60,
            prefer_input_order=True,
            coordinate_pixel_size=pixel,
            **options,
        )
        shared = [each["shared"] for each in result.manifest["micrograph_names"]["inputs"]]
        return result.rejected, shared

    wanted = rejected(data / "dynamo2warp_example.tbl", tmp_path / "own")
    assert wanted[1] == [47, 47]
    mapped = dask_dedup.read_micrograph_map(names)
    assert rejected(table, tmp_path / "mapped", micrograph_map=mapped) == wanted
    assert verify(tmp_path / "mapped").verified
    names.write_text("1 a.mrc\n2\n")
    with pytest.raises(InputError, match=r"line 2 is '2'\. Each line needs a number and a path"):
        dask_dedup.read_micrograph_map(names)


@pytest.mark.real_data
def test_coordinate_files_have_the_names_of_the_job(project, picks, tmp_path):
    """The picks of crYOLO come first, with names that have neither folders nor extensions."""
    inputs = [picks / "cryolo/CBOX", project / "AutoPick/job010/Micrographs"]
    options = {"micrograph_pixel_size": {str(inputs[0]): 1.77}, **OPTIONS}
    result = run(inputs, tmp_path / "out", output_format="relion-coordinates", **options)
    lines = (tmp_path / "out/particles_kept/autopick.star").read_text().splitlines()
    names = [line.split()[0] for line in lines if ".star" in line]
    table = (project / MICROGRAPHS).read_text().split()
    assert sorted(names) == sorted(word for word in table if word.endswith(".mrc"))
    assert len(names) == 4
    assert not any("without an extension" in line for line in result.warnings)
    assert verify(tmp_path / "out").verified


@pytest.mark.real_data
@pytest.mark.parametrize(("given", "warned"), [("relion/AutoPick/job010", 0), ("topaz", 1)])
def test_names_with_folders_are_preferred_and_others_warned_about(picks, tmp_path, given, warned):
    inputs = [picks / "cryolo/CBOX", picks / given]
    options = {"micrograph_pixel_size": 1.77, **OPTIONS}
    result = run(inputs, tmp_path / "out", output_format="relion-coordinates", **options)
    lines = [line for line in result.warnings if "a name without an extension (first: " in line]
    assert len(lines) == warned
    listed = (tmp_path / "out/particles_kept/autopick.star").read_text()
    assert listed.count("MotionCorr/job002/Micrographs/") == 4 * (not warned)
