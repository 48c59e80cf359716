"""Pick files that are named one by one: those of one folder are one input."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from test_coordinates_folders import grouped, tree
from test_coordinates_lines import put
from test_tomogram_numbers import motive_list

import dask_dedup
from dask_dedup.formats import NamedFiles, open_table
from dask_dedup.results.command import run_command
from dask_dedup.results.finished_run import open_finished_run

OPTIONS = {"min_separation": 20, "micrograph_pixel_size": 1.0}


def box(x):
    return b"%d\t100\t10\t10\n500\t500\t10\t10\n" % x


def boxes(folder, *names):
    return [put(folder, f"CBOX/{name}.box", box(100 * n)) for n, name in enumerate(names, 1)]


def model(*points):
    """Return an IMOD model with one contour."""
    contour = b"CONT" + np.array([len(points), 0, 0, 0], ">i4").tobytes()
    coordinates = np.array(points, ">f4").tobytes()
    return b"IMODV1.2" + bytes(232) + b"OBJT" + bytes(176) + contour + coordinates + b"IEOF"


def test_some_files_of_a_folder_are_one_input(tmp_path):
    files = boxes(tmp_path, "m1", "m2", "m3")[:2]
    result = dask_dedup.run(files, tmp_path / "out", **OPTIONS)
    (entry,) = result.by_input
    assert entry["path"] == f"{tmp_path}/CBOX/*.box (2 files)"
    assert result.kept == 4
    kept = tree(tmp_path / "out/particles_kept")
    assert kept == {f"CBOX/{path.name}": path.read_bytes() for path in files}
    assert dask_dedup.verify(tmp_path / "out").verified
    assert dask_dedup.run(files, tmp_path / "out", **OPTIONS).already_done
    assert dask_dedup.inspect(files, micrograph_pixel_size=1.0).problems == ()


def test_some_files_are_another_input_than_others(tmp_path):
    files = boxes(tmp_path, "m1", "m2", "m3")
    dask_dedup.run(files[:2], tmp_path / "out", **OPTIONS)
    with pytest.raises(dask_dedup.DedupError, match="another run"):
        dask_dedup.run(files[1:], tmp_path / "out", **OPTIONS)


def test_the_command_of_a_run_names_the_files(tmp_path):
    files = boxes(tmp_path, "m1", "m2", "m3")[:2]
    dask_dedup.run(files, tmp_path / "out", **OPTIONS)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    command = run_command(manifest, "out")
    assert command.startswith(f"dask-dedup run {files[0]} {files[1]} --")
    assert open_finished_run(tmp_path / "out").locate(manifest["inputs"][0]).files == (
        *map(str, files),
    )


def test_a_run_on_relative_files_is_verified_from_elsewhere(tmp_path, monkeypatch):
    boxes(tmp_path, "m1", "m2", "m3")
    monkeypatch.chdir(tmp_path)
    for output, inputs in (("some", ["CBOX/m1.box", "CBOX/m3.box"]), ("all", ["CBOX/*.box"])):
        dask_dedup.run(inputs, output, **OPTIONS)
        with monkeypatch.context() as patch:
            patch.chdir("/")
            assert dask_dedup.verify(tmp_path / output).verified, output


@pytest.mark.parametrize("output_format", ["native", "parquet", "relion-coordinates"])
def test_named_files_and_another_picker_in_every_output_format(tmp_path, output_format):
    files = boxes(tmp_path, "m1", "m2", "m3")[:2]
    other = put(tmp_path, "other/m1.box", box(101)).parent
    options = {**OPTIONS, "prefer_input_order": True}
    result = dask_dedup.run(
        [*files, other], tmp_path / "out", output_format=output_format, **options
    )
    assert [entry["kept"] for entry in result.by_input] == [4, 0]
    assert dask_dedup.verify(tmp_path / "out").verified
    assert dask_dedup.report(tmp_path / "out")


def test_a_file_without_picks_comes_first(tmp_path):
    for empty in (b"", b"\n", b"# none\n"):
        put(tmp_path, "CBOX/m0.box", empty)
        files = [tmp_path / "CBOX/m0.box", *boxes(tmp_path, "m1", "m2")]
        assert grouped(files) == [str(tmp_path / "CBOX/*.box")]
        assert grouped(files[:2]) == [f"{tmp_path}/CBOX/*.box (2 files)"]


def test_documents_that_name_no_micrograph_are_one_input(tmp_path):
    for name in ("m1", "m2", "m3"):
        put(tmp_path, f"info/{name}_info.json", b'{"boxes": [[1, 2, "manual"], [500, 2, "m"]]}')
        put(tmp_path, f"models/{name}.mod", model((1, 2, 3), (400, 5, 6)))
    for folder, pattern in (("info", "*_info.json"), ("models", "*.mod")):
        files = sorted((tmp_path / folder).iterdir())
        assert grouped(files) == [str(tmp_path / folder / pattern)]
        (some,) = grouped(files[1:])
        assert open_table(some).rows == 4
        dask_dedup.run(files[1:], tmp_path / f"out-{folder}", **OPTIONS)
        assert dask_dedup.verify(tmp_path / f"out-{folder}").verified


def test_documents_that_name_their_tomograms_stay_inputs(tmp_path):
    point = {"location": {"x": 1, "y": 2, "z": 3}}
    text = json.dumps({"pickable_object_name": "r", "run_name": "a", "points": [point]}).encode()
    picks = [put(tmp_path, f"{name}.json", text) for name in ("ribosome", "membrane")]
    lists = [motive_list(tmp_path / name, [1], [10]) for name in "ab"]
    assert grouped([*picks, *lists]) == [*picks, *lists]


def test_text_tables_whose_columns_are_given_are_one_input(tmp_path):
    files = [put(tmp_path, f"csv/m{n}.csv", b"u,v\n10,20\n") for n in range(3)]
    options = {**OPTIONS, "columns": "x=u,y=v"}
    assert grouped(files) == files
    result = dask_dedup.run(files[:2], tmp_path / "out", **options)
    assert len(result.by_input) == 1
    assert dask_dedup.verify(tmp_path / "out").verified
    options["columns"] = {str(files[0]): "x=u,y=v", "": "x=v,y=u"}
    result = dask_dedup.run(files, tmp_path / "other", **options)
    assert [entry["rows"] for entry in result.by_input] == [1, 2]


def test_files_of_two_folders_or_suffixes_are_two_inputs(tmp_path):
    names = ("a/m1", "a/m2", "b/m1", "b/m2", "a/m1_autopick", "a/m2_autopick")
    for name in names:
        put(tmp_path, f"{name}.box", box(1))
    given = [tmp_path / f"{name}.box" for name in names]
    some = [f"{tmp_path}/{text} (2 files)" for text in ("a/*.box", "b/*.box")]
    assert grouped(given) == [
        some[0],
        str(tmp_path / "b/*.box"),
        f"{tmp_path}/a/*_autopick.box",
    ]


def test_files_with_the_name_of_a_picker_stay_inputs(tmp_path):
    files = boxes(tmp_path, "m1", "m2", "m3")
    names = {str(files[0]): "one"}
    assert grouped(files, names) == [files[0], f"{tmp_path}/CBOX/*.box (2 files)"]


def test_a_file_named_twice_is_refused(tmp_path):
    files = boxes(tmp_path, "m1", "m2", "m3")[:2]
    with pytest.raises(dask_dedup.InputError, match="passed twice"):
        dask_dedup.run([*files, files[0]], tmp_path / "out", **OPTIONS)


def test_picks_in_the_folders_of_a_pattern_are_verified(tmp_path):
    for folder in "ab":
        put(tmp_path, f"grids/{folder}/picks/m1.box", box(1))
    put(tmp_path, "grids/b/picks/m2.box", box(1) + box(2))
    result = dask_dedup.run([tmp_path / "grids/*/picks/*.box"], tmp_path / "out", **OPTIONS)
    assert (result.kept, result.rejected) == (6, 2)
    assert dask_dedup.verify(tmp_path / "out").verified


def test_named_files_survive_pickling(tmp_path):
    import pickle

    some = NamedFiles.of("a/*.box (1 file)", tmp_path, ["a/m1.box"])
    again = pickle.loads(pickle.dumps(some))
    assert (again, again.files, again.folder) == (some, ("a/m1.box",), tmp_path)


def gautomatch(folder):
    """Write picks of Gautomatch and files that are no picks of micrographs."""
    kept = [put(folder, f"gaut/{name}_automatch.box", box(1)) for name in ("m1", "m2")]
    put(folder, "gaut/m1_rejected.box", box(2))
    put(folder, "gaut/m3_rejected.box", box(3))
    return kept


@pytest.mark.parametrize("shell", [True, False])
def test_patterns_leave_out_what_folders_leave_out(tmp_path, shell):
    gautomatch(tmp_path)
    pattern = tmp_path / "gaut/*.box"
    inputs = sorted(tmp_path.glob("gaut/*.box")) if shell else [pattern]
    (given,) = grouped(inputs)
    table = open_table(given)
    assert [each.name for each in table.detail.members] == ["m1_automatch.box", "m2_automatch.box"]
    assert table.detail.notes == ("2 other files ignored (_rejected)",)
    result = dask_dedup.run(inputs, tmp_path / "out", **OPTIONS)
    assert [entry["rows"] for entry in result.by_input] == [4]
    assert dask_dedup.verify(tmp_path / "out").verified


def test_a_fifo_among_named_files_is_refused(tmp_path):
    files = boxes(tmp_path, "m1", "m2")
    os.mkfifo(tmp_path / "CBOX/m3.box")
    with pytest.raises(dask_dedup.InputError, match=r"m3\.box: neither a file nor a folder"):
        dask_dedup.run([*files, tmp_path / "CBOX/m3.box"], tmp_path / "out", **OPTIONS)


def test_a_file_that_a_folder_leaves_out_can_be_named(tmp_path):
    gautomatch(tmp_path)
    path = tmp_path / "gaut/m1_rejected.box"
    assert grouped([path]) == [path]
    assert open_table(path).rows == 2


@pytest.mark.parametrize("name", ["M1.box", "m\n1.box", "fifo.box", "broken.box"])
def test_patterns_refuse_what_folders_refuse(tmp_path, name):
    boxes(tmp_path, "m1", "m2")
    other = tmp_path / "CBOX" / name
    if name == "fifo.box":
        os.mkfifo(other)
    elif name == "broken.box":
        other.symlink_to("missing.box")
    else:
        other.write_bytes(box(3))
    errors = []
    for path in (tmp_path / "CBOX", tmp_path / "CBOX/*.box"):
        with pytest.raises(dask_dedup.InputError) as error:
            open_table(path)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_hidden_files_match_no_pattern(tmp_path):
    boxes(tmp_path, "m1", ".m2")
    assert open_table(tmp_path / "CBOX/*.box").rows == 2
