"""Text tables of picks: which columns are x, y, z and the score."""

from __future__ import annotations

import pytest
from test_coordinates_lines import columns, put

import dask_dedup
from dask_dedup.errors import InputError
from dask_dedup.formats import open_table

NAMES = ("rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit")


@pytest.mark.parametrize(
    "text",
    [
        "# x y score\n1.0e+01 2.0e+01 5.0e-01\n",
        "#x\ty\tconfidence\n10\t20\t0.5\n",
        "# x,y,score\n10,20,0.5\n",
        "# x, y, score\n10 20 0.5\n",
        "# made by a script\n#x y score\n\n10 20 0.5\n",
    ],
)
def test_names_of_columns_are_in_a_comment(tmp_path, text):
    path = put(tmp_path, "m.txt", text.encode())
    assert columns(path, *NAMES) == [[10], [20], [0.5]]
    assert "rlnCoordinateZ" not in open_table(path).schema.names


def test_columns_in_a_comment_can_be_named_or_numbered(tmp_path):
    path = put(tmp_path, "m.txt", b"# x y p\n10 20 0.5\n")
    for given in ({"x": "x", "y": "y", "score": "p"}, {"x": "1", "y": "2", "score": "3"}):
        assert open_table(path, columns=given).detail.layouts[0].columns == ("x", "y", "score")


def test_best_score_below_a_comment_wins(tmp_path):
    path = put(tmp_path, "m.txt", b"# x y score\n10 20 0.5\n13 20 9\n50 50 1\n")
    result = dask_dedup.run([path], tmp_path / "out", min_separation=5, micrograph_pixel_size=1)
    assert (result.kept, result.rejected) == (2, 1)
    kept = (tmp_path / f"out/particles_kept/{tmp_path.name}/m.txt").read_bytes()
    assert kept == b"# x y score\n13 20 9\n50 50 1\n"


@pytest.mark.parametrize("names", ["x,y,width,height", "x,y,w,h", "X,Y,Width,Height,score"])
def test_boxes_of_text_tables_are_centres_or_corners(tmp_path, names):
    path = put(
        tmp_path, "m.csv", f"{names}\n10,20,100,60{',0.5' * (names.count(',') - 3)}\n".encode()
    )
    with pytest.raises(
        InputError, match=r"can be centres or corners.*for centres, or .*for corners"
    ):
        open_table(path)
    x, y, width, height = names.split(",")[:4]
    given = {"x": x, "y": y}
    for more, centre in (({}, (10, 20)), ({"width": width, "height": height}, (60, 50))):
        table = open_table(path, columns={**given, **more})
        assert columns_of(table) == centre


def columns_of(table):
    from dask_dedup.formats import read

    rows = read(table, table.fragments[0], NAMES[:2])
    return tuple(rows[name][0].as_py() for name in NAMES[:2])


def test_centres_with_boxes_are_centres(tmp_path):
    path = put(tmp_path, "m.csv", b"x_center,y_center,w,h,prob\n10,20,100,60,0.5\n")
    assert columns(path, *NAMES) == [[10], [20], [0.5]]


@pytest.mark.parametrize("folder", [False, True])
def test_unknown_names_of_columns_are_listed(tmp_path, folder):
    path = put(tmp_path, "picks/m.csv", b"row,col,score\n1,2,3\n")
    with pytest.raises(InputError) as error:
        open_table(path.parent if folder else path)
    assert str(error.value) == (
        f"{path}: has columns of unknown names (row, col, score). Define x and y, for example "
        "columns='x=row,y=col'."
    )


def test_two_and_three_coordinates_are_refused_with_the_names_of_both(tmp_path):
    flat = put(tmp_path, "a.csv", b"x,y\n1,2\n")
    deep = put(tmp_path, "deep/b.csv", b"x,y,z\n1,2,3\n")
    with pytest.raises(InputError) as error:
        dask_dedup.run([flat, deep], tmp_path / "out", micrograph_pixel_size=1)
    assert str(error.value) == (
        f"{deep}: was read as picks in tomograms (rlnCoordinateX rlnCoordinateY rlnCoordinateZ), but {flat} has no "
        "z coordinate. Run them separately. If its third column is no z, in a text table, pass "
        f"columns={{'{deep}': 'x=...,y=...,score=...'}}."
    )
