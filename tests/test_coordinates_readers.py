"""Pick files that are easily misread: each is read right, or refused by name."""

from __future__ import annotations

import json
import struct

import pytest
from test_coordinates_folders import tree
from test_coordinates_lines import columns, put
from test_coordinates_tomography import CENTRES, run, star
from test_named_files import model

import dask_dedup
from dask_dedup.errors import InputError
from dask_dedup.formats import open_table


def copick(folder, name, *xs, run="TS_1", **earlier):
    points = [{"location": {"x": x, "y": 0.0, "z": 0.0}} for x in xs]
    picks = {**earlier, "pickable_object_name": name, "run_name": run, "points": points}
    return put(folder, f"{run}/Picks/u_0_{name}.json", json.dumps(picks).encode())


@pytest.mark.parametrize(
    "given", ["TS_1/Picks", "TS_1/Picks/*.json", "TS_1", "*/Picks/*.json", "."]
)
def test_two_sets_of_picks_of_one_run_are_refused(tmp_path, given):
    copick(tmp_path, "ribosome", 10.0)
    copick(tmp_path, "membrane", 11.0)
    with pytest.raises(InputError, match=r"(two|2) sets of picks.*membrane.*ribosome"):
        open_table(tmp_path / given)


def test_two_sets_of_picks_of_one_run_are_two_inputs(tmp_path):
    files = [copick(tmp_path, "ribosome", 10.0), copick(tmp_path, "membrane", 11.0)]
    assert run(files, tmp_path / "out", 5, prefer_input_order=True) == [1, 0]


def test_files_of_several_runs_in_one_folder_are_one_input(tmp_path):
    for number in (1, 2):
        file = copick(tmp_path, "ribosome", 10.0, run=f"TS_{number}")
        put(tmp_path, f"flat/{number}.json", file.read_bytes())
    assert open_table(tmp_path / "flat").rows == 2


def test_picks_of_the_portal_of_one_tomogram_are_refused(tmp_path):
    text = b'{"location": {"x": 1, "y": 2, "z": 3}}\n'
    for number in (100, 101):
        put(tmp_path, f"TS_1/Reconstructions/Annotations/{number}/ribosome.ndjson", text)
    with pytest.raises(InputError, match=r"two sets of picks of TS_1: .*100.*101"):
        open_table(tmp_path / "TS_1")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_of_json_are_no_picks(tmp_path, encoding):
    path = copick(tmp_path, "ribosome", 10.0)
    path.write_bytes(path.read_bytes().decode().encode(encoding))
    with pytest.raises(InputError):
        open_table(path)


def test_an_earlier_list_of_points_is_no_list_of_picks(tmp_path):
    meta = {"points": [[1, 2], [3, 4], [5, 6]], "text": '"points": ['}
    path = copick(tmp_path, "ribosome", 10.0, 11.0, 30.0, meta=meta)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert run([path], tmp_path / "out", 5) == [2]
    (kept,) = tree(tmp_path / "out/particles_kept").values()
    content = json.loads(kept.decode("utf-8-sig"))
    assert content["meta"] == meta
    assert len(content["points"]) == 2
    assert dask_dedup.verify(tmp_path / "out").verified


def test_of_two_lists_of_points_the_last_counts(tmp_path):
    text = copick(tmp_path, "ribosome", 10.0, 30.0).read_bytes()
    path = put(tmp_path, "two.json", b'{"points" : [1, 2, 3],' + text[1:])
    assert run([path], tmp_path / "out", 5) == [2]
    assert list(tree(tmp_path / "out/particles_kept").values()) == [path.read_bytes()]


@pytest.mark.parametrize("chunk", [b"MESH", b"VIEW", b"CONT"])
@pytest.mark.parametrize("length", [-1, -4, -8, -20, -(2**31), 2**31 - 1])
def test_models_of_imod_with_impossible_lengths_are_refused(tmp_path, chunk, length):
    text = model((1, 2, 3)).removesuffix(b"IEOF")
    path = put(tmp_path, "m.mod", text + chunk + struct.pack(">iiii", length, length, 0, 0))
    with pytest.raises(InputError):
        open_table(path)


def test_picks_of_eman2_in_tomograms_are_refused_by_name(tmp_path):
    for boxes in ("", '"boxes": [], '):
        text = "{" + boxes + '"boxes_3d": [[1, 2, 3, "tm", 0.5, 0]]}'
        path = put(tmp_path, "info/m_info.json", text.encode())
        for given in (path, path.parent):
            with pytest.raises(
                InputError, match=r"m_info\.json: .*\(boxes_3d\), which cannot be read"
            ):
                open_table(given)
    path.write_bytes(b'{"boxes": [[1, 2, "m"]], "boxes_3d": []}')
    assert columns(path, *CENTRES[:2]) == [[1.0], [2.0]]


@pytest.mark.parametrize("text", [b"1 2 3\n", b"1,2,0.5\n", b"1\t2\t-3.5\n"])
@pytest.mark.parametrize("name", ["m.txt", "m.csv", "m.tsv"])
def test_three_columns_without_names_are_refused(tmp_path, name, text):
    path = put(tmp_path, name, text)
    with pytest.raises(InputError, match=r"three columns without names.*columns='x=1,y=2,z=3'"):
        open_table(path)
    given = {"x": "1", "y": "2", "score": "3"}
    assert open_table(path, columns=given).schema.names[0] == "rlnMicrographName"
    assert open_table(path, columns=given | {"z": "3"}).schema.names[0]
    assert columns(put(tmp_path, "m.coords", b"1 2 3\n"), "rlnCoordinateZ") == [[3.0]]


def test_an_angstrom_column_that_is_not_read_fixes_no_pixel_size(tmp_path):
    path = put(tmp_path, "m.csv", b"X [A],Y [A],u,v\n10,20,1,2\n")
    table = open_table(path, columns={"x": "u", "y": "v"})
    assert "rlnMicrographPixelSize" not in table.schema.names
    assert "rlnMicrographPixelSize" in open_table(path).schema.names


CBOX = b"data_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_Width #3\n_Height #4\n_Confidence #5\n"


@pytest.mark.parametrize("header", [CBOX, b""])
def test_a_box_without_width_has_no_centre(tmp_path, header):
    rows = [b"100 100 <NA> 64 0.9\n", b"300 300 64 64 0.9\n"]
    for order in (rows, rows[::-1]):
        path = put(tmp_path, "m.cbox", header + b"".join(order))
        with pytest.raises(InputError, match=r"m\.cbox: 1 row has no finite position"):
            run([path], tmp_path / "out", 10, micrograph_pixel_size=1.0)


@pytest.mark.parametrize("score", ["rlnLCCmax", "rlnAutopickFigureOfMerit"])
def test_a_table_with_tomogram_and_micrograph_names_the_tomogram(tmp_path, score):
    labels = ("rlnMicrographName", "rlnTomoName", *CENTRES, score, "rlnDetectorPixelSize")
    y = 50.5 if score == "rlnLCCmax" else 0.5  # else fractions of the volume
    rows = [(f"m{x}", f"TS_{x}", x, y, 0.5, 1, 10) for x in (0.1, 0.2)]
    tomograms = ("rlnTomoName", "rlnTomoTiltSeriesPixelSize", *(f"rlnTomoSize{a}" for a in "XYZ"))
    sizes = [(f"TS_{x}", 1, 100, 100, 100) for x in (0.1, 0.2)]
    put(tmp_path, "tomograms.star", star(tomograms, *sizes))
    folder = put(tmp_path, "picks/a_particles.star", star(labels, *rows)).parent
    table = open_table(folder)
    assert run([folder], tmp_path / "out", 1) == [2]
    assert columns(folder, "rlnTomoName") == [["TS_0.1", "TS_0.2"]]
    assert columns(folder, "rlnMicrographName") == [["m0.1", "m0.2"]]
    assert table.detail.tomograms
