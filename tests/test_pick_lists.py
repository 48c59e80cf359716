"""Lists of pick files that are damaged or hostile, and tables that pick files need."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_coordinates_lines import columns, put, split
from test_coordinates_tomography import CENTRES, PIXEL_SIZE, project, star

import dask_dedup
from dask_dedup.errors import InputError
from dask_dedup.formats import open_table

PAIR = ("rlnMicrographName", "rlnMicrographCoordinates")
PICKS = star(CENTRES[:2], (1, 2), (3, 4))


def refused(path):
    with pytest.raises(InputError) as error:
        open_table(path)
    assert str(error.value).isprintable()
    return str(error.value).removeprefix(str(path))


def test_a_list_without_rows_is_refused(tmp_path):
    listed = put(tmp_path, "autopick.star", star(PAIR))
    assert refused(listed) == ": lists no pick files. Leave it out."


def test_a_list_with_a_name_longer_than_any_file_has(tmp_path):
    put(tmp_path, "a.star", PICKS)
    listed = put(tmp_path, "autopick.star", star(PAIR, ("m.mrc", "a.star"), ("n.mrc", "x" * 300)))
    assert refused(listed).startswith(": 1 listed file is missing: xxx")
    listed = put(tmp_path, "coords_suffix_autopick.star", b"x" * 300)
    assert "does not exist" in refused(listed)
    listed = put(tmp_path, "set.star", b"data_\n\n_rlnTomoParticlesFile " + b"x" * 300 + b"\n")
    assert "does not exist" in refused(listed)


@pytest.mark.parametrize("name", [".", "..", "''", "/", "MotionCorr/job002/"])
def test_a_micrograph_without_a_name_has_no_pick_file(tmp_path, name):
    put(tmp_path, "micrographs.star", star(PAIR[:1], (name,)))
    listed = put(tmp_path, "coords_suffix_autopick.star", b"micrographs.star\n")
    assert "none of the micrographs" in refused(listed)


def test_two_micrographs_of_one_pick_file_are_refused(tmp_path):
    rows = [("MotionCorr/job002/m.mrc",), ("MotionCorr/job003/m.mrc",)]
    table = put(tmp_path, "micrographs.star", star(PAIR[:1], *rows))
    put(tmp_path, "m_autopick.star", PICKS)
    listed = put(tmp_path, "coords_suffix_autopick.star", b"micrographs.star\n")
    assert refused(listed) == (
        f": MotionCorr/job002/m.mrc and MotionCorr/job003/m.mrc in {table} have one pick file, m_autopick.star. "
        "Remove one of the two micrographs, or pass the folder with the pick files."
    )


def test_files_outside_the_folder_of_a_list_are_written_inside_the_output(tmp_path):
    put(tmp_path, "other/m_autopick.star", PICKS)
    put(tmp_path, "job/micrographs.star", star(PAIR[:1], ("../other/m.mrc",)))
    listed = put(tmp_path, "job/coords_suffix_autopick.star", b"micrographs.star\n")
    (member,) = open_table(listed).detail.members
    assert member.name == "m_autopick.star"
    assert member.micrograph == "../other/m.mrc"
    listed = put(tmp_path, "job/autopick.star", star(PAIR, ("m.mrc", "../other/m_autopick.star")))
    (member,) = open_table(listed).detail.members
    assert member.name == "m_autopick.star"


def test_rows_that_begin_like_a_label_are_rows(tmp_path):
    labels = ("rlnMicrographName", *CENTRES[:2], "rlnLCCmax", "rlnDetectorPixelSize")
    labels = (*labels[:3], "rlnCoordinateZ", *labels[3:])
    content = star(labels, ("_a", 1, 2, 3, 4, 10), ("b", 5, 6, 7, 8, 10), ("_c", 9, 1, 2, 3, 10))
    put(tmp_path, "peaks/m.star", content + b"\ndata_other\n\n_value 5\n")
    table = open_table(tmp_path / "peaks")
    assert table.rows == 3
    assert columns(tmp_path / "peaks", "rlnTomoName") == [["_a", "b", "_c"]]
    kept, rejected = split(table, np.array([True, False, False]), tmp_path / "out")
    (text,), (others,) = kept.values(), rejected.values()
    assert text.endswith(b"#6\n_a 1 2 3 4 10\n\ndata_other\n\n_value 5\n")
    assert open_table(put(tmp_path, "kept/m.star", text).parent).rows == 1
    assert open_table(put(tmp_path, "rejected/m.star", others).parent).rows == 2


@pytest.mark.parametrize("value", ["ten", "nan", "0", "-1.35", "inf"])
def test_a_table_of_tomograms_needs_positive_numbers(tmp_path, value):
    folder = project(tmp_path)
    labels = ("rlnTomoName", PIXEL_SIZE, "rlnTomoTomogramBinning")
    table = tmp_path / "Tomograms/job009/tomograms.star"
    table.write_bytes(star(labels, ("TS_01", 1.35, value), ("TS_02", 1.35, 10)))
    path = folder / "TS_01_particles.star"
    with pytest.raises(InputError) as error:
        open_table(path)
    assert str(error.value) == (
        f"{table}: rlnTomoTomogramBinning of TS_01 is {value!r}. Correct it: a positive number is needed."
    )


def test_a_run_of_copick_that_is_no_text(tmp_path):
    picks = {"pickable_object_name": "a", "run_name": "\ud800", "points": []}
    picks["points"] = [{"location": {"x": 1, "y": 2, "z": 3}}]
    path = put(tmp_path, "picks.json", json.dumps(picks).encode())
    assert columns(path, "rlnTomoName") == [["\\ud800"]]


def test_a_pattern_that_leads_out_of_its_folder_names_files_inside_the_output(tmp_path):
    put(tmp_path, "other/m_autopick.star", PICKS)
    put(tmp_path, "job/a/n.txt", b"")
    (member,) = open_table(tmp_path / "job/*/../../other/*.star").detail.members
    assert member.name == "m_autopick.star"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("final", [True, False])
def test_only_the_paths_in_a_list_change(tmp_path, end, final):
    for name in ("00255", "b c"):
        put(tmp_path, f"job/mics/{name}_autopick.star", PICKS)
    rows = [
        "00255.mrc job/mics/00255_autopick.star 7",
        "# a comment",
        "",
        "'b c.mrc' 'job/mics/b c_autopick.star' <NA>",
    ]
    lines = star((*PAIR, "rlnMagnification"), block="coordinate_files").decode().splitlines()
    text = end.join(["# version 50001", *lines, *rows, *([""] if final else [])])
    listed = put(tmp_path, "job/autopick.star", text.encode())
    dask_dedup.run(listed, tmp_path / "out", min_separation=0.1, micrograph_pixel_size=1.0)
    new = (tmp_path / "out/particles_kept/job/autopick.star").read_bytes().decode()
    expected = text.replace("'job/mics/b c_autopick.star'", '"job/mics/b c_autopick.star"')
    assert new == expected.replace("job/mics/", "out/particles_kept/job/mics/")
    kept = open_table(tmp_path / "out/particles_kept/job/autopick.star")
    assert [member.micrograph for member in kept.detail.members] == ["00255.mrc", "b c.mrc"]


BOX = b"10 10 8 8\n10 10 8 8\n90 90 8 8\n"


@pytest.mark.parametrize(
    ("name", "suffix", "content", "passed"),
    [
        ("coords_suffix_cr.star", "_cr.star", b"Picks/*.mrc\n", "list"),
        ("coords_suffix.box", ".box", b"Picks/*.mrc\n", "folder"),
        ("coords_suffix_cr.star", "_cr.star", None, "folder"),
        ("coordinates.star", "_cr.star", None, "folder"),
        ("mine.star", "_any_name.star", None, "list"),
        ("mine.star", "_any_name.star", None, "folder"),
    ],
)
def test_imports_of_relion_are_lists(tmp_path, monkeypatch, name, suffix, content, passed):
    picks = BOX if suffix == ".box" else star(CENTRES[:2], (1, 2), (1, 2), (9, 9))
    job = tmp_path / "Import/job001"
    for micrograph in "ab":
        put(job, f"Picks/{micrograph}{suffix}", picks)
    put(job, "Picks/readme.txt", b"words\n")
    rows = [(f"Picks/{each}.mrc", f"Import/job001/Picks/{each}{suffix}") for each in "ab"]
    listed = put(job, name, content or star(PAIR, *rows))
    monkeypatch.chdir(tmp_path)
    path = (listed if passed == "list" else job).relative_to(tmp_path)
    table = open_table(path)
    assert table.rows == 6
    assert [each.micrograph for each in table.detail.members] == ["Picks/a.mrc", "Picks/b.mrc"]
    options = {"min_separation": 0.1, "micrograph_pixel_size": 1}
    result = dask_dedup.run([path], "Import/job002", **options)
    assert (result.kept, result.rejected) == (4, 2)
    assert dask_dedup.verify("Import/job002").verified
    kept = tmp_path / "Import/job002/particles_kept/job001"
    if content:
        assert (kept / name).read_bytes() == content
    assert open_table(kept / name).rows == 4


def test_an_import_without_pick_files_is_refused(tmp_path):
    listed = put(tmp_path, "coords_suffix_cr.star", b"Picks/*.mrc\n")
    assert refused(listed) == (
        ": has the micrographs Picks/*.mrc, but there is no pick file Picks/*_cr.star below its folder. Pass the "
        "folder with the pick files."
    )
