"""The score of picks has the name that the program that wrote the files gives it."""

from __future__ import annotations

import pytest
from test_coordinates_lines import put

from dask_dedup import inspect, run

TOPAZ = b"image_name\tx_coord\ty_coord\tscore\nm\t1\t2\t0.5\nm\t100\t200\t0.7\n"
BOX = b"10\t20\t30\t30\n200\t20\t30\t30\n"
STAR = (
    b"data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
    b"_rlnAutopickFigureOfMerit #3\n10 20 0.5\n300 40 0.7\n"
)


@pytest.mark.parametrize(
    ("name", "content", "label"),
    [
        ("m.txt", TOPAZ, "score of topaz"),
        ("m.box", BOX, ""),
        ("m.box", BOX.replace(b"30\n", b"30\t0.5\n"), "score (5th column of EMAN boxes)"),
        ("m_autopick.star", STAR, "rlnAutopickFigureOfMerit"),
    ],
)
def test_a_score_has_the_name_of_its_own_format(tmp_path, caplog, name, content, label):
    put(tmp_path, f"picks/{name}", content)
    options = {"coordinate_pixel_size": 1.0}
    with caplog.at_level("INFO"):
        result = run(tmp_path / "picks", tmp_path / "out", **options)
    shown = f"; {label} (higher is better)" if label else "; score: none, seeded choice"
    shown = shown if label.startswith("score") else shown.replace("; rln", "; score: rln")
    assert shown in caplog.text
    assert result.manifest["inputs"][0]["score_label"] == label
    found = inspect(tmp_path / "picks", **options)
    assert [score.label for score in found.inputs[0].scores if score.used] == [label] * bool(label)
    summary = "\n".join(map(str, found.lines(verbose=False)))
    assert (
        f", {label}" if label.startswith("score") else f", score {label}" if label else "no scores"
    ) in summary


def test_the_summary_names_the_folder_of_picks_that_are_read_only(tmp_path, cli):
    put(tmp_path, "picks/m.ndjson", b'{"location": {"x": 1, "y": 2, "z": 3}}\n')
    options = ("--coordinate-pixel-size", 1, "-o", tmp_path / "out")
    result = cli("run", tmp_path / "picks", *options)
    kept = f"kept: {tmp_path / 'out' / 'particles_kept'} (Parquet, as .ndjson files are read only)"
    assert kept in result.output


def test_patterns_of_file_names_are_told_apart_by_their_folders(tmp_path):
    paths = []
    for folder, files in (("A", "ab"), ("B", "a")):
        for name in files:
            put(tmp_path, f"{folder}/{name}.box", BOX)
        paths.append(tmp_path / folder / "*.box")
    lines = "\n".join(inspect(paths, coordinate_pixel_size=1.0).lines(verbose=False))
    assert "  A/*.box  " in lines
    assert "  B/*.box  " in lines
    assert "A/*.box and B/*.box" in lines
    single = [tmp_path / "A" / "*.box", tmp_path / "B" / "a.box"]
    lines = "\n".join(inspect(single, coordinate_pixel_size=1.0).lines(verbose=False))
    assert "  A/*.box  " in lines
