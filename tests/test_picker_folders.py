"""Pick files are written to a folder named after their picker."""

from __future__ import annotations

import pytest
from test_coordinates_folders import tree
from test_coordinates_lines import put

import dask_dedup
from dask_dedup.errors import InputError

BOX = b"100\t100\t10\t10\n500\t500\t10\t10\n"
OTHER = b"900\t100\t10\t10\n"


def run(inputs, output):
    dask_dedup.run(inputs, output, min_separation=10, micrograph_pixel_size=1.0)
    assert dask_dedup.verify(output).verified
    return tree(output / "particles_kept"), tree(output / "particles_rejected")


def test_folders_of_one_name_are_told_apart(tmp_path):
    put(tmp_path, "one/CBOX/a.box", BOX)
    put(tmp_path, "two/CBOX/a.box", OTHER)
    put(tmp_path, "three/cbox/a.box", b"1500\t100\t10\t10\n")
    folders = [tmp_path / name for name in ("one/CBOX", "two/CBOX", "three/cbox")]
    kept, rejected = run(folders, tmp_path / "out")
    assert list(kept) == list(rejected)
    assert {name: kept[name] for name in sorted(kept)} == {
        "CBOX-2/a.box": OTHER,
        "CBOX/a.box": BOX,
        "cbox-3/a.box": b"1500\t100\t10\t10\n",
    }


@pytest.mark.parametrize("given", ["EMAN", "EMAN/*.box", "EMAN/a.box"])
def test_the_folder_names_the_picker_however_it_is_given(tmp_path, monkeypatch, given):
    put(tmp_path, "EMAN/a.box", BOX)
    monkeypatch.chdir(tmp_path)
    kept, rejected = run([given], tmp_path / "out")
    assert kept == {"EMAN/a.box": BOX}
    assert rejected == {"EMAN/a.box": b""}


def test_one_pick_file_in_two_inputs_is_refused(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.box").write_text("1 2 8 8\n")
    for paths in ([tmp_path, tmp_path / "*.box"], [tmp_path / "a.box", tmp_path]):
        with pytest.raises(InputError) as error:
            dask_dedup.run(paths, tmp_path.parent / "out of two", micrograph_pixel_size=1)
        assert str(error.value) == (
            f"{paths[1]}: has {tmp_path / 'a.box'}, which the input {paths[0]} has, too. Leave out one of the two "
            "inputs."
        )
