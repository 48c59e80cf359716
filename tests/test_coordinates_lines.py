"""The line engine of pick files: header, lines and tail with any line ends."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_dedup.errors import InputError
from dask_dedup.formats import open_table, read
from dask_dedup.formats.coordinates import lines, pick_file
from dask_dedup.formats.coordinates import table as coordinates

CENTRES = ["rlnCoordinateX", "rlnCoordinateY"]


def put(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    return path


def columns(path, *names):
    table = open_table(path)
    parts = [read(table, fragment, names) for fragment in table.fragments]
    return [[value for part in parts for value in part[name].to_pylist()] for name in names]


def split(table, keep, folder):
    """Write kept and rejected files. Return the content of each, by name."""
    folder.mkdir(exist_ok=True)
    parts, row = {"kept": [], "rejected": []}, 0
    for fragment in table.fragments:
        two = [folder / f"{name}-{fragment.number}" for name in parts]
        coordinates.split(table, fragment, keep[row : row + fragment.rows], *two)
        for name, path in zip(parts, two, strict=True):
            parts[name].append(path)
        row += fragment.rows
    result = {}
    for name, paths in parts.items():
        target = folder / f"{name}-out"
        target.mkdir()
        files = coordinates.assemble(table, paths, 0, target, "picks")
        result[name] = {file.path: (target / file.path).read_bytes() for file in files}
        count = int(keep.sum()) if name == "kept" else int((~keep).sum())
        assert sum(file.rows for file in files) == count
    return result["kept"], result["rejected"]


STAR_HEADER = b"\r\ndata_\r\n\r\nloop_\r\n_rlnCoordinateX #1 \r\n_rlnCoordinateY #2\r\n"
ROW = st.tuples(st.integers(0, 4000), st.integers(0, 4000))
BETWEEN = st.sampled_from([b"", b"", b"\n", b" \r\n", b"# a comment\n", b"\t# another\r\n"])
END = st.sampled_from([b"\n", b"\r\n", b" \n", b"\t\r\n"])
TAIL = st.sampled_from([b"", b"\n", b"\r\n\r\n", b"\ndata_other\n\nloop_\n_a #1\n5 6 7\n", b" \n"])


@given(
    st.lists(st.tuples(ROW, END, BETWEEN)), TAIL, st.booleans(), st.randoms(), st.integers(1, 300)
)
def test_every_line_is_kept_or_rejected_and_the_rest_is_in_both(rows, tail, final, random, size):
    head, text = STAR_HEADER, b""
    for (x, y), end, between in rows:
        text += b" %d\t%d" % (x, y) + end + between
    content = head + text + tail
    if not final:
        content = content.rstrip() + (b"\n" if not rows else b"")
    keep = np.array([random.random() < 0.5 for _ in rows], dtype=bool)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module in (lines, pick_file, coordinates):
            patch.setattr(module, "SLICE_BYTES", max(size, len(head) + 1))
        put(Path(folder), "in/mic1_autopick.star", content)
        table = coordinates.open_table(Path(folder, "in"), 0) if rows else None
        if table is None:
            return
        assert table.rows == len(rows)
        parts = [coordinates.read(table, each, CENTRES) for each in table.fragments]
        found = [tuple(row.values()) for part in parts for row in part.to_pylist()]
        assert found == [row for row, _, _ in rows]
        ((_, kept),) = split(table, keep, Path(folder, "half"))[0].items()
        ((_, rejected),) = split(table, keep, Path(folder, "again"))[1].items()
        ((_, same),) = split(table, np.ones(len(rows), bool), Path(folder, "all"))[0].items()
        ((_, none),) = split(table, np.ones(len(rows), bool), Path(folder, "none"))[1].items()
    assert same == content
    picks = [b" %d\t%d" % row for row, _, _ in rows]
    for text, mask in ((kept, keep), (rejected, ~keep)):
        wanted = [pick for pick, chosen in zip(picks, mask, strict=True) if chosen]
        found = [line.rstrip() for line in text[len(head) :].splitlines() if line.startswith(b" ")]
        assert [line for line in found if line] == wanted
        assert text.startswith(head)
    assert none.startswith(head)
    assert len(kept) + len(rejected) == len(same) + len(none)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("m.box", b"10 20 64 32\n", [[42.0], [36.0]]),
        ("m.box", b"10\t20\t0\t0\t0.5\r\n", [[10.0], [20.0]]),
        ("m.box", b"#micrograph: m\n#helix: (1,2),(3,4),26\n1.5 2\n", [[1.5], [2.0]]),
        ("m.cbox", b"10 20 64 64 0.9\n", [[42.0], [52.0]]),
        ("m.coords", b"1 2 3\n", [[1.0], [2.0]]),
        ("m.txt", b"image_name\tx_coord\ty_coord\tscore\nm\t1\t2\t-5\n", [[1.0], [2.0]]),
        ("m.csv", b"\xef\xbb\xbfX-Coordinate,Y-Coordinate,Diameter\r\n1,2,108\r\n", [[1.0], [2.0]]),
        ("m.csv", b'name,"x","y"\n"a, b",1,2\n', [[1.0], [2.0]]),
        ("m.csv", b"1,2\n", [[1.0], [2.0]]),
        ("m.tsv", b"x\ty\tscore\n1\t2\t\n", [[1.0], [2.0]]),
    ],
)
def test_positions_are_centres_in_pixels(tmp_path, name, text, expected):
    assert columns(put(tmp_path, name, text), *CENTRES) == expected


@pytest.mark.parametrize("score", [b"<NA>", b"nan", b"NaN", b"-999", b"-999.0", b"None"])
def test_dummy_scores_are_missing(tmp_path, score):
    path = put(tmp_path, "m.cbox", b"10 20 64 64 0.9\n10 20 64 64 %s\n" % score)
    ((first, second),) = columns(path, "rlnAutopickFigureOfMerit")
    assert first == 0.9
    assert np.isnan(second)


def test_translations_of_copick_may_be_large_whole_numbers(tmp_path):
    point = _POINT.replace(b"9", b"1%s" % (b"0" * 30))
    text = b'{"pickable_object_name": "a", "points": [%s]}' % point
    assert columns(put(tmp_path, "m.json", text), *CENTRES) == [[1e30], [2.0]]


def test_helices_are_filaments(tmp_path):
    text = b"#micrograph: m\n#helix: (1,1),(2,2),5\n1 1\n2 2\n#helix: (9,9),(8,8),5\n9 9\n"
    path = put(tmp_path, "m.box", text)
    ((one, two, three),) = columns(path, "rlnHelicalTubeID")
    assert one == two != three
    kept, rejected = split(open_table(path), np.array([False, True, True]), tmp_path / "out")
    assert kept == {"picks": text.replace(b"1 1\n", b"")}
    assert rejected == {"picks": text.replace(b"2 2\n", b"").replace(b"9 9\n", b"")}


def test_names_that_look_like_numbers_stay_text(tmp_path):
    put(tmp_path, "tomos/00255.coords", b"1 2 3\n")
    put(tmp_path, "tomos/00256.coords", b"1 2 3\n")
    assert columns(tmp_path / "tomos", "rlnTomoName") == [["00255", "00256"]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.box", b"1 2 3 4\n1 2 3\n", r"m\.box: line 2 has 3 values, but the file has 4 columns"),
        ("m.box", b"1 2 3 4\n\n1 x 3 4\n", r"m\.box: line 3 has 'x' for y, which is not a number"),
        ("m.box", b"hello\n", r"m\.box: expected lines of 4 or 5 numbers .* found 'hello'"),
        ("m.cbox", b"data_x\n", r"m\.cbox: expected a block data_cryolo"),
        ("m.csv", b"x,y\n1,2\n1\n", r"m\.csv: line 3 has 1 value, but the file has 2 columns"),
        ("m.csv", b"a,b\n1,2\n", r"m\.csv: has columns of unknown names \(a, b\)"),
        ("m.box", b"1 2 3 4\n\0\n", r"m\.box: has NUL bytes"),
    ],
)
def test_damaged_files_are_errors_that_name_the_line(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message):
        columns(put(tmp_path, name, text), *CENTRES)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (b"a,b,p\n1,2,0.5\n", {"x": "a", "y": "b", "score": "p"}),
        (b"x,y,cx,cy,score\n9,9,1,2,0.5\n", {"x": "cx", "y": "cy", "score": "score"}),
        (b"7 1 2 0.5\n", {"x": "2", "y": "3", "score": "4"}),
    ],
)
def test_columns_of_a_table_can_be_named(tmp_path, text, given):
    table = open_table(put(tmp_path, "m.csv", text), columns=given)
    rows = coordinates.read(table, table.fragments[0], [*CENTRES, "rlnAutopickFigureOfMerit"])
    assert rows.to_pylist() == [dict(zip(rows.column_names, (1.0, 2.0, 0.5), strict=True))]
    every = coordinates.read(table, table.fragments[0], table.schema.names)
    assert every.num_rows == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": "a"}, "x and y are needed"),
        ({"x": "a", "y": "b", "q": "p"}, "q is no role"),
        ({"x": "a", "y": "z"}, r"has no column z. Use one of a, b, p"),
    ],
)
def test_columns_that_do_not_exist_are_named(tmp_path, given, message):
    path = put(tmp_path, "m.csv", b"a,b,p\n1,2,0.5\n")
    with pytest.raises(InputError, match=message):
        coordinates.open_table(path, 0, given)


_POINT = b'{"location": {"x": 1, "y": 2, "z": 3}, "transformation_": [[1, 0, 0, 9], [0, 1, 0, 0], [0, 0, 1, 0]]}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", b'x,y\n1,2\n"3,4\n'),
        ("m.csv", b"x,y\n1,2\n3,\xff\xfe\n"),
        ("m.csv", b"x,y\n1,2\r3,4\n"),
        ("m.csv", b"x\ry,z\n1,2\n"),
        ("m_info.json", b'{"boxes": [["manual"]]}'),
        ("m_info.json", b'{"boxes": [[1, 2, "manual"], 3]}'),
        ("m.json", b'{"pickable_object_name": "a", "points": [{"location": null}]}'),
        ("m_info.json", b'{"boxes": [[1%s, 2, "manual"]]}' % (b"0" * 400)),
        (
            "m.json",
            b'{"pickable_object_name": "a", "points": [%s]}' % _POINT.replace(b"9", b"9" * 400),
        ),
        ("m.ndjson", b'{"location": {"x": 1}}\n'),
        ("m.ndjson", b'{"location": {"x": 1, "y": 2, "z": 1%s}}\n' % (b"0" * 400)),
        ("m.em", b"\6\0\0\5" + bytes(508)),
        ("m.mod", b"IMODV1.2" + bytes(232) + b"CONT\x7f\xff\xff\xff" + bytes(12)),
    ],
)
def test_damaged_files_are_input_errors(tmp_path, name, text):
    with pytest.raises(InputError):
        columns(put(tmp_path, name, text), *CENTRES)


@pytest.mark.parametrize("value", ["5", "mic"])
def test_other_columns_may_have_the_names_of_the_table(tmp_path, value):
    """STOPGAP names the tomogram in tomo_num. Other columns stay what they are."""
    labels = (
        "tomo_num",
        "orig_x",
        "orig_y",
        "orig_z",
        "rlnMicrographName",
        "rlnMicrographPixelSize",
    )
    head = "".join(f"_{label}\n" for label in labels)
    text = f"data_stopgap_motivelist\nloop_\n{head}7 1 2 3 {value} {value}\n"
    table = open_table(put(tmp_path, "m.star", text.encode()))
    row = {
        name: column[0]
        for name, column in zip(
            table.schema.names, columns(tmp_path / "m.star", *table.schema.names), strict=True
        )
    }
    other = float(value) if value == "5" else value
    assert row["rlnTomoName"] == "7"
    assert row["rlnMicrographName"] == row["rlnMicrographPixelSize"] == other


def test_coordinates_of_imod_that_are_not_numbers_are_read_without_a_warning(tmp_path):
    points = np.array([2, 0, 0, 0], ">i4").tobytes() + b"\x7f\xa0\0\0" * 6
    path = put(tmp_path, "m.mod", b"IMODV1.2" + bytes(232) + b"CONT" + points + b"IEOF")
    assert np.isnan(columns(path, *CENTRES)).all()


@pytest.mark.parametrize(
    "line",
    [
        b"data_" + b"x" * 10**6,
        b"data_" * 200_000,
        b"data_\n" * 100_000,
        b"_" * 10**6,
        b"_a" + b" " * 10**6 + b"b c",
    ],
    ids=["long name", "many names", "many blocks", "underscores", "blanks"],
)
def test_long_lines_and_many_blocks_take_no_time(tmp_path, line):
    path = put(
        tmp_path, "picks/m.star", b"data_a\n" + line + b"\n" + STAR_HEADER + b" 1 2\r\n" + line
    )
    began = time.process_time()
    assert open_table(path.parent).rows >= 1
    assert time.process_time() - began < 60


def test_part_files_are_read_again(tmp_path):
    """Two runs may have part files of the same names."""
    for text in (b"1 2 3 4\n", b"5 6 7 8\n"):
        table = open_table(put(tmp_path, "m.box", text))
        coordinates.split(
            table, table.fragments[0], np.array([True]), tmp_path / "a", tmp_path / "b"
        )
        coordinates.assemble(table, [tmp_path / "a"], 1, tmp_path, "out.box")
        assert (tmp_path / "out.box").read_bytes() == text
