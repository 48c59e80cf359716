"""Anything that could silently give a wrong answer is refused, warned about or handled correctly."""

from __future__ import annotations

import hashlib
import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import cryosparc, exposures, relion, write_file

import dask_dedup
from dask_dedup import DedupParams, InputError, RunError, remove_duplicates, run, verify
from dask_dedup.errors import causes
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.star import lines as star_lines
from dask_dedup.output.manifest import with_checksum
from dask_dedup.pipeline import stages

OPTICS = """data_optics

loop_
_rlnOpticsGroup #1
_rlnMicrographPixelSize #2
_rlnVoltage #3
1 1.0 300

"""
ROWS = """data_particles

loop_
_rlnMicrographName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnAutopickFigureOfMerit #4
_rlnOpticsGroup #5
"""


def star(path, rows):
    path.write_text(OPTICS + ROWS + "".join(f"{row} 1\n" for row in rows) + "\n")
    return path


@pytest.mark.parametrize("bytes_of_a_fragment", [2**25, 20])
def test_two_micrographs_with_one_bare_name_are_never_mixed_up(
    tmp_path, monkeypatch, bytes_of_a_fragment
):
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", bytes_of_a_fragment)
    path = star(tmp_path / "a.star", ["g1/m.mrc 50 50 0.5", "g2/m.mrc 51 50 0.4"])
    assert run(path, tmp_path / "by_path").rejected == 0
    by_name = run(path, tmp_path / "by_name", DedupParams(match_micrographs="name"))
    assert by_name.rejected == 0


def test_frames_are_checked_as_files_are(caplog):
    names = pa.array(["g1/m.mrc", "g2/m.mrc"])
    rows = relion(2, columns={"rlnMicrographName": names})
    _, rejected = remove_duplicates(rows, DedupParams(match_micrographs="name"))
    assert rejected.num_rows == 0
    with pytest.raises(InputError, match="1 uid occurs more than once"):
        remove_duplicates(cryosparc(2, columns={"uid": pa.array([7, 7], pa.uint64())}))
    caplog.set_level(logging.WARNING, "dask_dedup")
    remove_duplicates(cryosparc(3, columns={"pick_stats/ncc_score": np.full(3, -999.0)}))
    assert "are -999" in caplog.text


@pytest.mark.parametrize("dropped", ["rlnOriginXAngst", "rlnOriginYAngst"])
def test_half_a_shift_is_refused(tmp_path, dropped):
    table = relion(30)
    for name in ("rlnOriginXAngst", "rlnOriginYAngst"):
        if name not in table.column_names:
            table = table.append_column(name, pa.array(np.zeros(30)))
    path = write_file(table.drop_columns([dropped]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=f"no {dropped}"):
        run(path, tmp_path / "out")
    run(path, tmp_path / "out", DedupParams(shift_key="none"))


def test_pixel_size_and_shape_come_from_the_same_table(tmp_path):
    """Twice the pixel size and half the pixels give the same distances."""
    x = np.array([0.5, 0.5 + 15 / 300])
    changes = {
        "location/micrograph_shape": pa.array([[240, 300]] * 2, pa.list_(pa.uint32(), 2)),
        "location/micrograph_psize_A": np.ones(2, np.float32),
        "location/center_x_frac": x.astype(np.float32),
        "location/center_y_frac": np.full(2, 0.5, np.float32),
    }
    table = cryosparc(2, micrographs=1, columns=changes)
    path = write_file(table, tmp_path / "a.parquet")
    known = pa.table(
        {
            "uid": table["location/micrograph_uid"].slice(0, 1),
            "micrograph_blob/psize_A": pa.array([2.0], pa.float32()),
            "micrograph_blob/shape": pa.array([[120, 150]], pa.list_(pa.uint32(), 2)),
        }
    )
    params = DedupParams(shift_key="none")
    micrographs = write_file(known, tmp_path / "micrographs.parquet")
    assert run(path, tmp_path / "alone", params).rejected == 1
    assert run(path, tmp_path / "with", params, micrographs=micrographs).rejected == 1


def test_a_micrograph_with_two_shapes_is_refused(tmp_path):
    known = exposures()
    shapes = known.column("micrograph_blob/shape").to_pylist()
    other = known.set_column(
        known.column_names.index("micrograph_blob/shape"),
        "micrograph_blob/shape",
        pa.array([[1, 1]] * len(shapes), pa.list_(pa.uint32(), 2)),
    )
    twice = pa.concat_tables([known, other])
    micrographs = write_file(twice, tmp_path / "micrographs.parquet")
    path = write_file(cryosparc(20), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="more than once, with the shapes"):
        run(path, tmp_path / "out", micrographs=micrographs)


def test_half_sets_of_both_programs_are_compared_correctly(tmp_path):
    """CryoSPARC counts them from 0, RELION from 1."""
    rows = ["m.mrc 50 50 0.9 1", "m.mrc 200 200 0.9 2"]
    text = OPTICS + ROWS.replace("_rlnOpticsGroup #5", "_rlnRandomSubset #5\n_rlnOpticsGroup #6")
    (tmp_path / "a.star").write_text(text + "".join(f"{row} 1\n" for row in rows) + "\n")
    changes = {
        "location/micrograph_path": pa.array(["m.mrc"] * 2),
        "location/micrograph_shape": pa.array([[400, 400]] * 2, pa.list_(pa.uint32(), 2)),
        "location/micrograph_psize_A": np.ones(2, np.float32),
        "location/center_x_frac": np.array([0.125, 0.5], np.float32),
        "location/center_y_frac": np.array([0.125, 0.5], np.float32),
        "alignments2D/split": pa.array([0, 0], pa.uint32()),
    }
    table = cryosparc(2, columns=changes, drop=["alignments3D"])
    other = write_file(table, tmp_path / "b.parquet")
    params = DedupParams(shift_key="none", prefer_input_order=True)
    result = run([tmp_path / "a.star", other], tmp_path / "out", params)
    assert result.rejected == 2
    assert result.manifest["totals"]["across_half_sets"] == 1
    assert verify(tmp_path / "out").verified


@pytest.mark.parametrize("high", [(0.0, 1.0), (100.0, 101.0)])
def test_scores_whose_ranges_do_not_overlap_are_warned_about(tmp_path, high):
    inputs = []
    for number, (low, top) in enumerate([(0.0, 1.0), high]):
        scores = np.linspace(low, top, 40).astype(np.float32)
        table = cryosparc(40, seed=number, columns={"pick_stats/ncc_score": scores})
        inputs.append(write_file(table, tmp_path / f"{number}.parquet"))
    result = run(inputs, tmp_path / "out")
    assert any("different scales" in line for line in result.warnings) == (high[0] > 1)


def test_an_input_to_flip_must_exist(tmp_path):
    path = write_file(cryosparc(20), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="flip_y has input 7"):
        run(path, tmp_path / "out", DedupParams(flip_y=(7,)))


def test_a_micrograph_with_uid_zero_is_a_micrograph_and_warned_about(tmp_path):
    zeros = pa.array(np.zeros(60, np.uint64))
    path = write_file(
        cryosparc(60, columns={"location/micrograph_uid": zeros}), tmp_path / "a.parquet"
    )
    found = dask_dedup.inspect(path).to_dict()
    assert found["inputs"][0]["micrographs"] == 1
    by_uid = run(path, tmp_path / "out")
    (line,) = [line for line in by_uid.warnings if "are 0" in line]
    assert "match_micrographs='path'" in line
    by_path = run(path, tmp_path / "path", match_micrographs="path")
    assert by_path.rejected < by_uid.rejected
    assert not any("are 0" in line for line in by_path.warnings)


def test_an_error_while_scanning_is_one_line(cli, tmp_path, monkeypatch):
    def fault(*args, **kwargs):
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr(stages, "extract", fault)
    path = write_file(cryosparc(20), tmp_path / "a.parquet")
    with pytest.raises(RunError, match="ZeroDivisionError: no such thing"):
        run(path, tmp_path / "out")
    assert cli("run", path, "-o", tmp_path / "out").exit_code == 1


@pytest.mark.parametrize(
    ("old", "new"), [("50.000", "5e1   "), (" 300", " 999"), ("# ours", "# mine")]
)
def test_verify_finds_changes_that_do_not_show_in_the_values(tmp_path, old, new):
    path = star(tmp_path / "a.star", ["m.mrc 50.000 50.000 0.5", "m.mrc 51.000 50.000 0.4"])
    path.write_text("# ours\n" + path.read_text())
    out = tmp_path / "out"
    run(path, out)
    assert verify(out).verified
    kept = out / "particles_kept" / "a.star"
    content = kept.read_text()
    assert old in content
    kept.write_text(content.replace(old, new, 1))
    manifest = json.loads((out / "manifest.json").read_text())
    for entry in manifest["outputs"]:
        if entry["path"] == "particles_kept/a.star":
            entry["bytes"] = kept.stat().st_size
            entry["sha256"] = hashlib.sha256(kept.read_bytes()).hexdigest()
    (out / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    report = verify(out)
    assert [check.name for check in report.checks if check.passed is False] == ["rows"]


def test_without_the_input_a_result_is_not_verified(cli, tmp_path):
    path = write_file(cryosparc(20), tmp_path / "a.parquet")
    run(path, tmp_path / "out")
    path.unlink()
    outcome = cli("verify", tmp_path / "out")
    assert outcome.exit_code == 1
    assert "the run was started in" in outcome.stdout
    assert "not verified" in outcome.stdout


def test_a_damaged_result_is_not_finished(cli, tmp_path):
    path = write_file(cryosparc(20), tmp_path / "a.parquet")
    out = tmp_path / "out"
    run(path, out)
    part = out / "particles_kept" / "part-00000.parquet"
    part.write_bytes(part.read_bytes() + b"x")
    outcome = cli("run", path, "-o", out)
    assert outcome.exit_code == 2
    assert "part-00000.parquet: missing or has another size" in outcome.stderr
    assert cli("run", path, "-o", out, "--overwrite").exit_code == 0
    assert verify(out).verified


def test_fixed_and_variable_lists_fit_one_dataset(tmp_path):
    one = cryosparc(20)
    name = "location/micrograph_shape"
    loose = one.column(name).cast(pa.list_(pa.uint32()))
    two = one.set_column(one.column_names.index(name), name, loose)
    two = (
        two.set_column(0, "uid", pa.array(range(20), pa.uint64()))
        if one.column_names[0] == "uid"
        else two
    )
    inputs = [write_file(one, tmp_path / "1.parquet"), write_file(two, tmp_path / "2.parquet")]
    run(inputs, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "particles_kept").schema.field(name).type == pa.list_(
        pa.uint32()
    )
    assert parquet.unify(one.schema, two.schema, "b").field(name).type == pa.list_(pa.uint32())
    assert verify(tmp_path / "out").verified


def test_a_cycle_of_causes_ends():
    first, second = OSError("one"), OSError("two")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second]
