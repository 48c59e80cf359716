"""Pick files come back byte for byte, in every format that is written, whatever their line ends, comments and names."""

from __future__ import annotations

import json
import re

import pytest
from test_coordinates_folders import tree
from test_coordinates_lines import put
from test_coordinates_tomography import CENTRES

import dask_dedup
from dask_dedup.formats import open_table

XY, XYZ = CENTRES[:2], CENTRES
SCORE = "rlnAutopickFigureOfMerit"


def star(labels, rows, block=""):
    head = "".join(f"_{label} #{number}\n" for number, label in enumerate(labels, 1))
    return f"\n# version 30001\n\ndata_{block}\n\nloop_\n{head}", rows, "\n"


ROWS = ["10.5 20 0.75", "11 20.25 0.625", "500 600 -1e-3", "1e3 7 nan"]
PLACES = ["10 20", "11 20", "500 600", "1000 7"]
BOXES = [f"{place} 64 64" for place in PLACES]
POINTS = ["10 20 30", "11 20 30", "500 600 30", "1e3 7 30"]


def numbered(rows, end):
    """Return rows with an end that has their number."""
    return [row + end.format(n=number) for number, row in enumerate(rows)]


DYNAMO = [
    f"{tag} 1 1 {shift} 0 0 30.5 60 90 0.{tag} 0 0 1 -60 60 0 0 0 0 @ 0 0 0 {point} 0 0 0 0 7 0 0 0 0"
    for tag, shift, point in zip("1234", ("0", "-0.5", "1e-3", "2"), POINTS, strict=True)
]
CBOX_HEAD = "data_global\n\n_cbox_format_version 1.0\n\n"
CBOX_TAIL = "\n\ndata_cryolo_include\n\nloop_\n_slice_index #1\n7\n"
CBOX = ("CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height", "Confidence")
MOTIVES = ("tomo_num", "orig_x", "orig_y", "orig_z", "x_shift", "y_shift", "z_shift", "score")
MANUAL = (*XY, "rlnParticleSelectionType", "rlnAnglePsi")
CRYOLO = (*XY, "rlnClassNumber", SCORE)
PEAKS = (*XYZ, "rlnLCCmax", "rlnDetectorPixelSize", "rlnTomoName")
FILAMENTS = (*XY, "rlnHelicalTubeID", "rlnAngleTiltPrior")
#: What follows the micrograph's name in that of the file, and the file's header, rows and tail.
#: ``@`` in a row stands for the micrograph.
FORMATS = {
    "relion autopick": ("_autopick.star", star((*XY, SCORE), ROWS)),
    "relion manualpick": ("_manualpick.star", star(MANUAL, numbered(PLACES, " 2 -999"))),
    "relion filaments": ("_autopick.star", star(FILAMENTS, numbered(PLACES, " {n} 90"))),
    "cryolo star": (".star", star(CRYOLO, numbered(PLACES, " -999 -999"))),
    "cbox": (".cbox", star(CBOX, numbered(PLACES, " <NA> 64 64 0.{n}5"), "cryolo")),
    "cbox of 5 columns": (".cbox", ("", numbered(BOXES, " 0.{n}5"), "")),
    "cbox of 7 columns": (".cbox", ("", numbered(BOXES, " 0.{n}5 60 <NA>"), "")),
    "box of 4 columns": (".box", ("", BOXES, "")),
    "box of 5 columns": (".box", ("", numbered(BOXES, "\t0.{n}5"), "")),
    "box of helices": (".box", ("#micrograph: m.mrc\n#helix: (1,2),(3,4),26\n", PLACES, "")),
    "coords": (".coords", ("", POINTS, "")),
    "coords of filaments": (".coords", ("", numbered(POINTS, " {n}"), "")),
    "topaz": (".txt", ("image_name\tx_coord\ty_coord\tscore\n", numbered(
        [f"@ {place}".replace(" ", "\t") for place in PLACES], "\t-0.{n}5"), "")),
    "csv": (".csv", ('x,"y",score,note\n', [f'{row.replace(" ", ",")},"a, b"' for row in ROWS], "")),
    "csv with semicolons": (".csv", ("X;Y\n", [place.replace(" ", ";") for place in PLACES], "")),
    "tsv": (".tsv", ("x\ty\tscore\n", [row.replace(" ", "\t") for row in ROWS], "")),
    "table without names": (".csv", ("", [place.replace(" ", ",") for place in PLACES], "")),
    "dynamo": (".tbl", ("", DYNAMO, "")),
    "stopgap": (".star", star(MOTIVES, numbered([f"@ {row}" for row in POINTS], " 0.5 0 -1 0.{n}5"),
                              "stopgap_motivelist")),
    "pytom": (".star", star(PEAKS, numbered(POINTS, " 0.{n}5 10.0 @"))),
    "warp matching": ("_10.00Apx.star", star((*XYZ, SCORE, "rlnMicrographName"), numbered(
        ["0.25 0.5 0.25", "0.375 0.5 0.25", "0.5 0 0", "1 0.75 0.5"], " {n}.5 @"))),
    "relion tomogram picks": (".star", star(XYZ, POINTS)),
    "relion annotations": ("_particles.star", star((*XYZ, "rlnTomoName"), numbered(POINTS, " @"))),
}  # fmt: skip
FORMATS["cbox"] = (".cbox", (CBOX_HEAD + FORMATS["cbox"][1][0], FORMATS["cbox"][1][1], CBOX_TAIL))
#: A value that may be missing, in formats that have one.
MISSING = {
    **dict.fromkeys(("cbox", "cbox of 5 columns", "cbox of 7 columns", "box of 5 columns"), "0.15"),
    **dict.fromkeys(("pytom", "stopgap"), "0.15"),
    "topaz": "-0.15",
    **dict.fromkeys(("csv", "tsv", "relion autopick"), "0.625"),
    "cryolo star": "-999",
}
#: Formats whose pixel size is known.
SCALED = ("pytom", "warp matching", "relion annotations")


def variants(form):
    """Map names of micrographs to the contents of files, which differ in all but their picks."""
    _, (head, rows, tail) = FORMATS[form]
    text = "".join([head, *(f"{row}\n" for row in rows), tail])
    commented = [rows[0], "# two, 1 2 3 4 5", *rows[1:], " # three", ""]
    found = {
        "00255": text,
        "007": text.replace("\n", "\r\n"),
        "blank lines": "\n \t\r\n" + head + "\n".join([rows[0], "", "\t", *rows[1:], ""]) + tail,
        "no final newline": head + "\n".join(rows),
        "CRLF, no final newline": (head + "\n".join(rows)).replace("\n", "\r\n"),
        "comments": "# one\n" + head + "\n".join(commented) + tail,
        "blanks": head + "".join(f"{row} \n" for row in rows) + tail,
        "header only": head,
        "empty": "",
        "white space": "\n\r\n",
        "comment only": "# no picks\n",
    }
    if form in MISSING:
        missing = [row.replace(MISSING[form], "<NA>", 1) for row in rows]
        assert missing != rows
        found["missing"] = head + "\n".join([*missing, ""]) + tail
    if "loop_" in head:
        other = "\n\ndata_other\n\nloop_\n_rlnCoordinateX #1\n1\n2\n\ndata_more\n_a 5\n"
        found["other blocks"] = text + other
        lines = text.splitlines(keepends=True)
        bare = [re.sub(" #\\d+$", "", line) if line.startswith("_") else line for line in lines]
        found["labels without numbers"] = "".join(bare)
    return {
        name: content.replace("@", str(1000 + number))
        for number, (name, content) in enumerate(found.items())
    }


def folder_of(form, tmp_path):
    """Write the variants of a format into a folder."""
    suffix, _ = FORMATS[form]
    folder = tmp_path / ("annotations" if "annotations" in form else "picks")
    for name, text in variants(form).items():
        put(folder, f"{name}{suffix}", text.encode())
    if form in ("warp matching", "relion annotations"):
        labels = ("rlnTomoName", "rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning")
        labels += tuple(f"rlnTomoSize{axis}" for axis in "XYZ")
        rows = [f"{1000 + number} 1.25 8 4000 4000 1000\n" for number in range(20)]
        head, _, _ = star(labels, [], "global")
        put(tmp_path, "tomograms.star", "".join([head, *rows]).encode())
    return folder


def run(path, output, separation, **options):
    result = dask_dedup.run(path, output, min_separation=separation, **options)
    outcome = dask_dedup.verify(output)
    assert outcome.verified, [check for check in outcome.checks if not check.passed]
    kept, rejected = (tree(output / each) for each in ("particles_kept", "particles_rejected"))
    for found in (kept, rejected):
        found.pop(f"{path.name}_tomograms.star", None)
    return result, kept, rejected


def options_of(form):
    return {} if form in SCALED else {"micrograph_pixel_size": 2.0}


@pytest.mark.parametrize("form", FORMATS)
def test_files_come_back_byte_for_byte(tmp_path, form):
    folder = folder_of(form, tmp_path)
    result, kept, rejected = run(folder, tmp_path / "out", 0.0001, **options_of(form))
    assert result.rejected == 0
    assert kept == {f"{folder.name}/{name}": text for name, text in tree(folder).items()}
    _, (_, rows, _) = FORMATS[form]
    starts = tuple(row.split("@")[0] or str(1000) for row in rows)
    for name, text in rejected.items():
        lines = text.decode().splitlines()
        others = [line for line in kept[name].decode().splitlines() if line.strip()]
        assert [line for line in lines if line.strip()] == [
            line for line in others if not is_pick(line, form)
        ], (name, starts)


def is_pick(line, form):
    """Return whether a line is one of the rows of a format."""
    _, (_, rows, _) = FORMATS[form]
    patterns = [re.escape(row).replace("@", r"\d{4}") for row in rows]
    if form in MISSING:
        patterns += [each.replace(re.escape(MISSING[form]), "<NA>", 1) for each in patterns]
    return any(re.fullmatch(pattern, line.strip()) for pattern in patterns)


#: One or two formats of each kind of file.
SPLIT = [
    *("relion autopick", "cbox", "cbox of 7 columns", "box of helices", "coords of filaments"),
    *("topaz", "csv", "dynamo", "stopgap", "warp matching", "relion annotations"),
]


@pytest.mark.parametrize("form", SPLIT)
def test_every_line_is_in_the_kept_or_the_rejected_file(tmp_path, form):
    folder = folder_of(form, tmp_path)
    separation = 700 if form == "warp matching" else 21 if form in SCALED else 5
    result, kept, rejected = run(folder, tmp_path / "out", separation, **options_of(form))
    assert 0 < result.rejected < result.rows / 2
    for path in folder.iterdir():
        lines = path.read_bytes().decode().split("\n")
        others = [line for line in lines if not is_pick(line, form)]
        parts = [
            each[f"{folder.name}/{path.name}"].decode().split("\n") for each in (kept, rejected)
        ]
        picks = [[line for line in part if is_pick(line, form)] for part in parts]
        assert sorted([*picks[0], *picks[1]]) == sorted(
            line for line in lines if is_pick(line, form)
        )
        for part in parts:
            found = [line for line in part if not is_pick(line, form)]
            assert [line for line in found if line.strip()] == [
                line for line in others if line.strip()
            ]


COPICK = {
    "pickable_object_name": "é",
    "run_name": "00255",
    "points": [
        {"location": {"x": x, "y": 20.0, "z": 1e-3}, "score": 0.5, "note": [1, {"a": "]"}]}
        for x in (10.0, 10.5, 900)
    ],
    "voxel_spacing": 7.84,
}


@pytest.mark.parametrize(("indent", "end"), [(None, ""), (2, "\n"), ("\t", "\r\n")])
def test_documents_of_copick_come_back_byte_for_byte(tmp_path, indent, end):
    text = (json.dumps(COPICK, indent=indent, ensure_ascii=indent is None) + end).encode()
    if end == "\r\n":
        text = text.replace(b"\n", b"\r\n").replace(b"\r\r\n", b"\r\n")
    path = put(tmp_path, "00255/Picks/a_0_b.json", text)
    pattern = tmp_path / "*/Picks/a_0_b.json"
    result, kept, rejected = run(pattern, tmp_path / "out", 0.0001)
    name = f"{tmp_path.name}/00255/Picks/a_0_b.json"
    assert (result.rejected, kept) == (0, {name: text})
    assert json.loads(rejected[name]) == {**COPICK, "points": []}
    result, kept, rejected = run(pattern, tmp_path / "two", 1.0)
    (winner,) = [
        point for point in json.loads(kept[name])["points"] if point["location"]["x"] < 900
    ]
    (loser,) = json.loads(rejected[name])["points"]
    assert sorted((winner["location"]["x"], loser["location"]["x"])) == [10.0, 10.5]
    assert open_table(path).rows == 3
