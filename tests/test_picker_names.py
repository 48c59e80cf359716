"""Inputs on the command line: NAME=PATH names a picker, and options name inputs by path or name."""

from __future__ import annotations

import json
import shlex

import pytest

import dask_dedup
from dask_dedup import DedupParams, InputError
from dask_dedup.formats import open_table
from dask_dedup.particles.pickers import name_pickers

SIZE = ("--micrograph-pixel-size", "1", "--min-separation", "20")


def boxes(folder, shift=0, names=("m1", "m2")):
    """Write EMAN boxes of 10 px whose centres are at x = 100 and 200, plus `shift`."""
    folder.mkdir(parents=True)
    for name in names:
        lines = [f"{x - 5 + shift} 95 10 10" for x in (100, 200)]
        (folder / f"{name}.box").write_text("\n".join(lines) + "\n")
    return folder


def manifest(output):
    return json.loads((output / "manifest.json").read_text())


def test_a_name_names_the_picker(cli, tmp_path):
    one, two = boxes(tmp_path / "a" / "EMAN"), boxes(tmp_path / "b" / "EMAN", 3)
    output = tmp_path / "out"
    found = cli("run", f"topaz={one}", two, "-o", output, "--prefer-input-order", *SIZE)
    assert found.exit_code == 0, found.stderr
    assert f"topaz={one}" in found.stdout
    entries = manifest(output)["inputs"]
    assert [entry["path"] for entry in entries] == [str(one), str(two)]
    assert [entry["picker"] for entry in entries] == ["topaz", "EMAN"]
    assert [entry["kept"] for entry in manifest(output)["totals"]["by_input"]] == [4, 0]
    assert len(list((output / "particles_kept" / "topaz").iterdir())) == 2
    assert len(list((output / "particles_rejected" / "EMAN").iterdir())) == 2
    kept = [line for line in found.stdout.splitlines() if line.startswith("kept: ")]
    assert kept == [f"kept: {output}/particles_kept/{name}" for name in ("topaz", "EMAN")]
    assert dask_dedup.verify(output).verified


def test_a_given_name_goes_before_one_of_a_folder(cli, tmp_path):
    one, two = boxes(tmp_path / "topaz"), boxes(tmp_path / "b" / "EMAN", 3)
    found = cli("run", one, f"topaz={two}", "-o", tmp_path / "out", *SIZE)
    assert found.exit_code == 0, found.stderr
    entries = manifest(tmp_path / "out")["inputs"]
    for name in ("picker", "output"):
        assert [entry[name] for entry in entries] == ["topaz-2", "topaz"]


@pytest.mark.slow
def test_thousands_of_files_are_one_row(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"m{number}" for number in range(300)]
    boxes(tmp_path / "one", names=names)
    boxes(tmp_path / "two", 3, names=names)
    found = cli("run", "one", "two", "-o", "out", *SIZE, no_report=False)
    assert found.exit_code == 0, found.stderr
    assert len(found.stdout.splitlines() + found.stderr.splitlines()) < 20
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count(".box") == 0
    for name in ("particles_kept/one/", "particles_rejected/two/"):
        assert page.count(f"<td>{name}</td>") == 1
    assert page.count("300 files") == 4
    assert len(cli("inspect", "one", "two", *SIZE).stdout.splitlines()) < 25
    shown = cli("inspect", "one", "two", *SIZE, "--verbose")
    assert len(shown.stdout.splitlines()) < 200
    assert (
        "picks of          EMAN boxes, 300 micrographs, corners, box 10 px, no scores"
        in shown.stdout
    )


def test_an_argument_that_exists_is_a_path(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "topaz=EMAN")
    boxes(tmp_path / "EMAN", 50)
    assert cli("run", "topaz=EMAN", "-o", "one", *SIZE).exit_code == 0
    assert manifest(tmp_path / "one")["inputs"][0]["path"] == "topaz=EMAN"
    assert cli("run", "x=topaz=EMAN", "-o", "two", *SIZE).exit_code == 0
    (entry,) = manifest(tmp_path / "two")["inputs"]
    assert (entry["path"], entry["picker"]) == ("topaz=EMAN", "x")


def test_a_pattern_can_have_a_name(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "EMAN")
    assert cli("run", "mine=EMAN/*.box", "-o", "out", *SIZE).exit_code == 0
    (entry,) = manifest(tmp_path / "out")["inputs"]
    assert (entry["path"], entry["picker"], entry["rows"]) == ("EMAN/*.box", "mine", 4)


@pytest.mark.parametrize("word", ["a.b=EMAN", "=EMAN", "topaz=", "a b=EMAN"])
def test_other_texts_are_paths(cli, tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "EMAN")
    found = cli("run", word, "-o", "out", *SIZE)
    assert found.exit_code == 2
    assert f"{word}: no such file or folder" in found.stderr


def test_options_name_inputs_by_name_or_path(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "a" / "EMAN")
    boxes(tmp_path / "b" / "EMAN", 3)
    options = ("--micrograph-pixel-size", "one=1", "--micrograph-pixel-size", "b/EMAN/=1.001")
    found = cli(
        *("run", "one=a/EMAN", "two=b/EMAN", "-o", "out", *options),
        *("--flip-y", "two", "--micrograph-height", "200", "--rename-micrographs", "two=s/x/y/"),
    )
    assert found.exit_code == 0, found.stderr
    parameters = manifest(tmp_path / "out")["parameters"]
    assert parameters["micrograph_pixel_size"] == [["a/EMAN", 1.0], ["b/EMAN", 1.001]]
    assert parameters["rename_micrographs"] == [["b/EMAN", "s/x/y/"]]
    assert parameters["flip_y"] == [1]
    found = cli("run", "one=a/EMAN", "-o", "out2", "--micrograph-pixel-size", "three=1")
    assert found.exit_code == 2
    assert "three is not one of the inputs" in found.stderr


def test_a_name_of_several_inputs_stands_for_all(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "a")
    boxes(tmp_path / "b", 3, names=("m3",))
    found = cli("run", "t=a", "t=b", "-o", "out", "--micrograph-pixel-size", "t=1.5")
    assert found.exit_code == 0, found.stderr
    content = manifest(tmp_path / "out")
    assert content["parameters"]["micrograph_pixel_size"] == [["a", 1.5], ["b", 1.5]]
    assert [entry["picker"] for entry in content["inputs"]] == ["t", "t"]


def files_and_folders(tmp_path):
    """Write boxes a/m1.box and a/m2.box, which are one input when named one by one, and folders b and c."""
    for number, name in enumerate("abc"):
        boxes(tmp_path / name, 30 * number)
    return ["a/m1.box", "a/m2.box", "b", "c"]


@pytest.mark.parametrize(
    ("flipped", "expected"), [("c", 2), ("a/*.box", 0), (("a/m1.box", "a/m2.box"), 0)]
)
def test_the_flipped_input_is_the_named_one_among_grouped_files(
    cli, tmp_path, monkeypatch, flipped, expected
):
    monkeypatch.chdir(tmp_path)
    given = files_and_folders(tmp_path)
    each = [flipped] if isinstance(flipped, str) else flipped
    flags = [word for path in each for word in ("--flip-y", path)]
    found = cli("run", *given, "-o", "out", *SIZE, *flags, "--micrograph-height", "200")
    assert found.exit_code == 0, found.stderr
    content = manifest(tmp_path / "out")
    assert [entry["path"] for entry in content["inputs"]] == ["a/*.box", "b", "c"]
    assert content["parameters"]["flip_y"] == [expected]
    shown = cli("inspect", *given, *SIZE, *flags, "--micrograph-height", "200")
    assert shown.exit_code == 0, shown.stderr


@pytest.mark.parametrize(("flip_y", "expected"), [((2,), [1]), ((3,), [2]), ((0, 1, 3), [0, 2])])
def test_the_flipped_input_in_python_is_that_of_the_given_list(
    tmp_path, monkeypatch, flip_y, expected
):
    monkeypatch.chdir(tmp_path)
    options = {"micrograph_pixel_size": 1, "micrograph_height": 200}
    dask_dedup.run(files_and_folders(tmp_path), "out", flip_y=flip_y, **options)
    assert manifest(tmp_path / "out")["parameters"]["flip_y"] == expected


def test_options_for_files_that_are_one_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = files_and_folders(tmp_path)
    size = {"b": 1, "c": 1}
    both = size | {"a/m1.box": 1.5, "a/m2.box": 1.5}
    dask_dedup.run(given, "out", micrograph_pixel_size=both)
    stored = manifest(tmp_path / "out")["parameters"]["micrograph_pixel_size"]
    assert dict(stored) == {"b": 1, "c": 1, "a/*.box": 1.5}
    for wrong in (size | {"a/m1.box": 1.5}, both | {"a/m2.box": 2}):
        with pytest.raises(
            InputError, match=r"a/m2\.box lacks, but both are files of one input, a/\*"
        ):
            dask_dedup.run(given, "out2", micrograph_pixel_size=wrong)
    with pytest.raises(InputError, match=r"flip_y has a value for a/m1\.box that a/m2"):
        dask_dedup.run(given, "out2", micrograph_pixel_size=1, flip_y=[0])
    with pytest.raises(InputError, match="flip_y has input 4"):
        dask_dedup.run(given, "out2", micrograph_pixel_size=1, flip_y=[4])


def test_the_command_of_a_run_has_the_names(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "a")
    (tmp_path / "t.csv").write_text("cx,cy\n100,100\n")
    first = cli(
        *("run", "one=a", "t.csv", "-o", "out", *SIZE, "--columns", "t.csv=x=cx,y=cy"),
        no_report=False,
    )
    assert first.exit_code == 0, first.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    command = page.partition("dask-dedup run one=a")[2].partition("<")[0].replace("\\\n", " ")
    assert "--columns t.csv=x=cx,y=cy" in command
    again = cli("run", "one=a", *shlex.split(command))
    assert again.exit_code == 0
    assert "already holds this run" in again.stderr


def test_names_are_part_of_the_run_id(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "a")
    assert cli("run", "one=a", "-o", "out", *SIZE).exit_code == 0
    assert cli("run", "two=a", "-o", "out", *SIZE).exit_code == 2


def test_other_names_are_those_of_folders_and_files_and_differ(tmp_path):
    paths = [boxes(tmp_path / name / "EMAN") for name in "ab"]
    star = tmp_path / "eman.star"
    star.write_text(
        "data_particles\n\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\na.mrc 1 2\n"
    )
    tables = [open_table(path) for path in [*paths, star, tmp_path / "a/EMAN/m1.box"]]
    assert name_pickers(tables) == ["EMAN", "EMAN-2", "eman-3", "EMAN-4"]


def test_names_in_python(tmp_path):
    folder = boxes(tmp_path / "EMAN")
    result = dask_dedup.run(
        folder, tmp_path / "out", names={str(folder): "mine"}, micrograph_pixel_size=1
    )
    assert result.manifest["inputs"][0]["picker"] == "mine"
    found = dask_dedup.inspect(folder, names={f"{folder}/": "mine"}, micrograph_pixel_size=1)
    assert found.inputs[0].picker == "mine"
    with pytest.raises(InputError, match="'my picks' cannot be the name of a picker"):
        dask_dedup.run(folder, tmp_path / "out", names={str(folder): "my picks"})
    with pytest.raises(
        InputError, match="elsewhere: has the name mine of a picker, but is not one of the inputs"
    ):
        dask_dedup.run(folder, tmp_path / "out", names={"elsewhere": "mine"})


TEXT = "cx,cy,x,p\n10,20,99,0.5\n300,40,99,0.25\n"


def test_columns_of_text_tables(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "a")
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "m1.csv").write_text(TEXT)
    (folder / "m2.csv").write_text(TEXT)
    found = cli("run", "text", "a", "-o", "out", *SIZE, "--columns", "x=cx,y=cy,score=p")
    assert found.exit_code == 0, found.stderr
    content = manifest(tmp_path / "out")
    assert content["parameters"]["columns"] == [["", "x=cx,y=cy,score=p"]]
    assert (tmp_path / "out/particles_kept/text/m1.csv").read_text() == TEXT
    assert dask_dedup.verify("out").verified
    assert "verified" in dask_dedup.report("out").read_text()


@pytest.mark.parametrize("extension", ["csv", "tsv", "txt"])
def test_columns_by_number_and_for_one_input(tmp_path, extension):
    delimiter = "," if extension == "csv" else "\t"
    path = tmp_path / f"mic.{extension}"
    path.write_text(
        "".join(delimiter.join(row) + "\n" for row in (["9", "5", "0.1"], ["7", "30", "0.9"]))
    )
    other = boxes(tmp_path / "a")
    result = dask_dedup.run(
        [path, other],
        tmp_path / "out",
        columns={str(path): {"x": 2, "y": 1, "score": 3}},
        micrograph_pixel_size=1,
        min_score={str(path): 0.5},
    )
    assert [entry["kept"] for entry in result.by_input] == [1, 4]
    assert dask_dedup.verify(tmp_path / "out").verified


def test_columns_that_cannot_apply(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "a")
    (tmp_path / "t.csv").write_text(TEXT)
    for columns, problem in (
        ("x=cx", "x and y are needed"),
        ("x=cx,y=cy,z2=p", "z2 is no role"),
        ("x=cx,y=q", "t.csv: has no column q. Use one of cx, cy, x, p"),
        ("a=x=cx,y=cy", "a: no text table, so --columns cannot apply"),
        ("x", "it must be x=COLUMN,y=COLUMN"),
        ("x=1,x=2", "each role once"),
    ):
        found = cli("run", "t.csv", "a", "-o", "out", *SIZE, "--columns", columns)
        assert found.exit_code == 2, columns
        assert problem in found.stderr
    found = cli("run", "a", "-o", "out", *SIZE, "--columns", "x=cx,y=cy")
    assert (
        "--columns is for text tables of picks (.csv, .tsv, .txt), but no input is one"
        in found.stderr
    )


def test_columns_as_a_parameter():
    text = (("", "x=cx,y=cy"),)
    assert DedupParams(columns="x=cx, y=cy").columns == text
    assert DedupParams(columns={"x": "cx", "y": "cy"}).columns == text
    one = DedupParams(columns={"a.csv": {"x": 1, "y": 2}})
    assert one.columns_of("a.csv") == {"x": "1", "y": "2"}
    assert one.columns_of("b.csv") == {}
    assert DedupParams.from_dict(json.loads(json.dumps(one.to_dict()))) == one
