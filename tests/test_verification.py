"""`verify` accepts a correct run and finds every fault."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dask_dedup
from dask_dedup import DedupParams, InputError, formats
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.output.manifest import with_checksum
from dask_dedup.results.verify import kept_and_rejected, rows

CHECKS = [
    "files",
    "inputs",
    "rows",
    "validity",
    "separation",
    "rejections",
    "duplicates",
    "totals",
]
DECISIONS = {"validity", "separation", "rejections", "duplicates"}
NAN_WITH_PAYLOAD = np.array([0x7FC0BEEF], np.uint32).view(np.float32)[0]


def picks(seed, n=500, *, micrographs=6, uid=True, extra=True, expanded=False):
    """Return CryoSPARC picks, many close to or at the position of another, and unusual values."""
    rng = np.random.default_rng(seed)
    positions = np.random.default_rng(7).integers(300, 3700, (max(n // 3, 1), 2))
    which = rng.integers(len(positions), size=n)
    xy = positions[which] + rng.integers(-8, 9, (n, 2)) * rng.integers(0, 2, (n, 1))
    micrograph = which % micrographs
    odd = rng.normal(size=n).astype("f4")
    odd[::7] = NAN_WITH_PAYLOAD
    odd[1::7] = -0.0
    columns = {
        "location/micrograph_uid": (micrograph * 977 + 5).astype("u8"),
        "location/micrograph_path": [f"movies/{m}.mrc" for m in micrograph],
        "location/micrograph_shape": pa.array([[4000, 4000]] * n, pa.list_(pa.uint32(), 2)),
        "location/center_x_frac": (xy[:, 0] / 4000).astype("f4"),
        "location/center_y_frac": (xy[:, 1] / 4000).astype("f4"),
        "location/micrograph_psize_A": np.full(n, 1.5, "f4"),
        "pick_stats/ncc_score": rng.integers(0, 40, n).astype("f4"),
        "alignments2D/shift": pa.array(
            rng.integers(-1, 2, (n, 2)).astype("f4").tolist(), pa.list_(pa.float32(), 2)
        ),
        "alignments2D/psize_A": np.full(n, 1.5, "f4"),
        "alignments2D/split": rng.integers(0, 2, n).astype("u4"),
    }
    if expanded:
        columns["filament/filament_uid"] = rng.integers(0, 3, n).astype("u8")
        columns["sym_expand/src_uid"] = (which * 2**40 + which).astype("u8")
    if uid:
        columns["uid"] = rng.permutation(n).astype("u8") * 31 + seed * 10**6
    if extra:
        columns["odd"] = odd
        columns["text"] = [None if k % 5 == 0 else f"t{k % 9}" for k in range(n)]
        columns["ragged"] = pa.array([[float(k), None][: k % 3] for k in range(n)])
        columns["kind"] = pa.array([f"k{k % 3}" for k in range(n)]).dictionary_encode()
    return pa.table(columns)


def store(table, path, *, files=1, row_group_size=None):
    """Write a table as one file, or as a folder of several."""
    if files == 1:
        # Uncompressed, so that a test can find the bytes of a value.
        pq.write_table(table, path, compression="none", use_dictionary=["kind"])
        return path
    path.mkdir()
    for number, chosen in enumerate(np.array_split(np.arange(len(table)), files)):
        part = table.take(pa.array(chosen))
        pq.write_table(part, path / f"{number}.parquet", row_group_size=row_group_size)
    return path


def failed(verification):
    assert [check.name for check in verification.checks] == CHECKS
    assert all("\n" not in check.detail and check.detail for check in verification.checks)
    assert verification.passed == all(check.passed is not False for check in verification.checks)
    return {check.name for check in verification.checks if check.passed is False}


def detail(verification, name):
    return next(check.detail for check in verification.checks if check.name == name)


def unchecked(verification):
    return {check.name for check in verification.checks if check.passed is None}


def assert_verified(verification):
    assert all(check.passed is True for check in verification.checks), "\n".join(
        verification.lines()
    )


@pytest.fixture
def small_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 4000)


# --- correct runs


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"score_field": "none", "seed": 3},
        {"min_separation": 0},
        {"min_separation": 0, "between_inputs_only": True},
        {"min_separation": 300.0},
        {"remove_entirely": True},
        {"remove_entirely": True, "between_inputs_only": True},
        {"remove_entirely": True, "min_separation": 0},
        {"between_inputs_only": True},
        {"prefer_input_order": True},
        {"shift_key": "none"},
    ],
    ids=str,
)
def test_a_correct_run_of_two_inputs_is_verified(tmp_path, params):
    inputs = [
        store(picks(1), tmp_path / "a.parquet"),
        store(picks(2, 300, extra=False), tmp_path / "b.parquet"),
    ]
    result = dask_dedup.run(inputs, tmp_path / "out", DedupParams(**params))
    assert 0 < result.rejected < result.rows
    assert_verified(dask_dedup.verify(tmp_path / "out"))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"ignore_within_filament": True}, "of different filaments"),
        ({"undo_symmetry_expansion": True}, "copies of one"),
        ({"undo_symmetry_expansion": True, "remove_entirely": True}, "copies of one"),
        ({"undo_symmetry_expansion": True, "between_inputs_only": True}, "different inputs"),
        ({"flip_y": (1,)}, "limit 20 A"),
    ],
    ids=str,
)
def test_filaments_and_symmetry_copies_are_verified(tmp_path, params, words):
    inputs = [store(picks(seed, expanded=True), tmp_path / f"{seed}.parquet") for seed in (1, 2)]
    result = dask_dedup.run(inputs, tmp_path / "out", DedupParams(**params))
    assert result.rejected
    verification = dask_dedup.verify(tmp_path / "out")
    assert_verified(verification)
    assert words in detail(verification, "separation")


@pytest.mark.parametrize("uid", [True, False])
def test_a_correct_run_with_micrographs_in_several_fragments_is_verified_in_several_passes(
    tmp_path, small_fragments, monkeypatch, uid
):
    monkeypatch.setattr(kept_and_rejected, "PASS_ROWS", 60)
    inputs = [
        store(picks(seed, 180, uid=uid), tmp_path / str(seed), files=2, row_group_size=45)
        for seed in (1, 2)
    ]
    result = dask_dedup.run(inputs, tmp_path / "out")
    assert len(result.manifest["outputs"]) > 3 * 4
    assert_verified(dask_dedup.verify(tmp_path / "out"))


def test_two_equal_inputs_are_verified(tmp_path):
    paths = [store(picks(1, uid=False), tmp_path / name) for name in ("a.parquet", "b.parquet")]
    result = dask_dedup.run(paths, tmp_path / "out")
    assert result.rejected >= 500
    assert_verified(dask_dedup.verify(tmp_path / "out"))


def test_an_empty_input_is_verified(tmp_path):
    inputs = [
        store(picks(1, 9).slice(0, 0), tmp_path / "a.parquet"),
        store(picks(2, 50), tmp_path / "b.parquet"),
    ]
    dask_dedup.run(inputs, tmp_path / "out")
    assert_verified(dask_dedup.verify(tmp_path / "out"))


def test_a_run_without_duplicates_is_verified(tmp_path):
    dask_dedup.run(store(picks(1, 3), tmp_path / "a.parquet"), tmp_path / "out")
    verification = dask_dedup.verify(tmp_path / "out")
    assert_verified(verification)
    assert "no two kept particles are within 40 A" in detail(verification, "separation")


def test_tomograms_are_measured_in_three_dimensions(tmp_path):
    rng = np.random.default_rng(0)
    xyz = rng.integers(0, 60, (400, 3)).astype("f8")
    table = pa.table(
        {
            "rlnTomoName": [f"t{k % 3}" for k in range(400)],
            **{f"rlnCoordinate{axis}": xyz[:, k] for k, axis in enumerate("XYZ")},
        }
    )
    path = store(table, tmp_path / "a.parquet")
    params = DedupParams(score_field="none", micrograph_pixel_size=2.0)
    result = dask_dedup.run(path, tmp_path / "out", params)
    assert 0 < result.rejected < 300
    assert_verified(dask_dedup.verify(tmp_path / "out"))


def test_the_closest_kept_pair_is_exact_up_to_twice_the_separation(tmp_path):
    def closest(distance):
        x = np.array([1000.0, 1000.0 + distance, 3000.0])
        table = pa.table(
            {"rlnMicrographName": ["m"] * 3, "rlnCoordinateX": x, "rlnCoordinateY": [0.0] * 3}
        )
        path = store(table, tmp_path / f"{distance}.parquet")
        out = tmp_path / f"out{distance}"
        dask_dedup.run(path, out, DedupParams(score_field="none", micrograph_pixel_size=1.0))
        verification = dask_dedup.verify(out)
        assert_verified(verification)
        return verification.closest_kept_A

    assert closest(20.5) == 20.5
    assert closest(40.0) == 40.0
    assert closest(40.5) is None


def test_the_outcome_as_text_and_as_json(tmp_path):
    dask_dedup.run(store(picks(1), tmp_path / "a.parquet"), tmp_path / "out")
    verification = dask_dedup.verify(tmp_path / "out")
    lines = verification.lines()
    assert len(lines) == len(CHECKS) + 1
    assert lines[0].startswith("ok    files: ")
    assert "limit 20 A" in lines[4]
    assert lines[-1].endswith("is verified")
    stored = json.loads(json.dumps(verification.to_dict()))
    assert stored["passed"] is True
    assert [check["name"] for check in stored["checks"]] == CHECKS


def test_results_are_tables_in_a_notebook(tmp_path):
    result = dask_dedup.run(store(picks(1), tmp_path / "a.parquet"), tmp_path / "<out>")
    verification = dask_dedup.verify(tmp_path / "<out>")
    assert repr(result) == (
        f"<RunResult: {tmp_path / '<out>'}, {result.kept} of {result.rows} particles kept>"
    )
    assert repr(verification) == f"<Verification: {tmp_path / '<out>'} is verified>"
    for shown in (result._repr_html_(), verification._repr_html_()):
        assert "&lt;out&gt;" in shown
        assert "<out>" not in shown
        assert "report.html" not in shown
    assert f"<th>kept</th><td>{result.kept}</td>" in result._repr_html_()
    assert all(f"<th>{name}</th>" in verification._repr_html_() for name in CHECKS)
    (tmp_path / "<out>" / "report.html").touch()
    assert "report.html</a>" in result._repr_html_()


def test_a_folder_without_a_finished_run_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no finished run"):
        dask_dedup.verify(tmp_path)


# --- wrong runs


class Run:
    """A finished run of one fragment, for tests that change its files."""

    def __init__(self, folder, **params):
        self.input = store(picks(1), folder / "a.parquet")
        self.out = folder / "out"
        dask_dedup.run(self.input, self.out, DedupParams(**params))

    @property
    def manifest(self):
        return json.loads((self.out / "manifest.json").read_text())

    def edit(self, change):
        manifest = self.manifest
        change(manifest)
        (self.out / "manifest.json").write_text(json.dumps(with_checksum(manifest)))

    def path(self, name):
        return self.out / name / "part-00000.parquet"

    def read(self, name):
        with pq.ParquetFile(self.path(name)) as file:
            return file.read()

    def write(self, name, content):
        """Replace a part, and update the manifest to match."""
        if isinstance(content, bytes):
            self.path(name).write_bytes(content)
        else:
            pq.write_table(content, self.path(name))

        def update(manifest):
            entry = next(e for e in manifest["outputs"] if e["path"].startswith(f"{name}/"))
            data = self.path(name).read_bytes()
            entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
            if not isinstance(content, bytes):
                entry["rows"] = len(content)

        self.edit(update)

    def replace(self, name, column, change):
        """Change a column of a part with a function of its list of values."""
        table = self.read(name)
        values = table.column(column).to_pylist()
        change(values)
        new = pa.chunked_array([values], table.schema.field(column).type)
        index = table.schema.get_field_index(column)
        self.write(name, table.set_column(index, table.schema.field(column), new))

    def decide(self, keep, duplicates):
        """Replace the decisions of the run in all datasets and in the totals."""
        rows = pq.read_table(self.input)
        self.write("particles_kept", rows.filter(pa.array(keep)))
        self.write("particles_rejected", rows.filter(pa.array(~keep)))
        self.write("duplicates", duplicates)
        pairs = [duplicates.column(name).to_pylist() for name in ("half_set", "winner_half_set")]

        def update(manifest):
            totals = manifest["totals"]
            for entry in (totals, totals["by_input"][0]):
                entry["kept"], entry["rejected"] = int(keep.sum()), int((~keep).sum())
            totals["across_half_sets"] = sum(a != b for a, b in zip(*pairs, strict=True))

        self.edit(update)

    @property
    def kept(self):
        keep = np.ones(500, dtype=bool)
        keep[self.read("duplicates").column("row").to_pylist()] = False
        return keep

    def verify(self):
        return dask_dedup.verify(self.out)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    template = Run(tmp_path_factory.mktemp("template"))
    assert_verified(template.verify())
    return template


@pytest.fixture
def run(template):
    """The same run for every test, with its files restored."""
    folder = template.out.parent
    saved = folder.with_name(folder.name + "-saved")
    if not saved.exists():
        shutil.copytree(folder, saved, copy_function=shutil.copy2)
    shutil.rmtree(folder)
    shutil.copytree(saved, folder, copy_function=shutil.copy2)
    return template


def test_a_flipped_byte_is_found(run):
    data = bytearray(run.path("particles_kept").read_bytes())
    data[len(data) // 3] ^= 0x10
    run.path("particles_kept").write_bytes(data)
    assert "files" in failed(run.verify())


@pytest.mark.parametrize("name", ["particles_kept", "particles_rejected", "duplicates"])
def test_a_file_that_is_not_parquet_fails_its_checks(run, name):
    run.write(name, b"PAR1 but not really PAR1")
    verification = run.verify()
    wrong = {"rows", "totals"}
    if name == "duplicates":
        wrong |= DECISIONS
    assert failed(verification) == wrong


@pytest.mark.parametrize("name", ["particles_kept", "particles_rejected", "duplicates"])
def test_a_missing_file_is_found(run, name):
    run.path(name).unlink()
    verification = run.verify()
    assert {"files", "rows", "totals"} <= failed(verification)
    assert "is missing" in detail(verification, "files")


def test_an_extra_file_is_found(run):
    shutil.copy(run.path("particles_kept"), run.out / "particles_kept" / "part-00001.parquet")
    verification = run.verify()
    assert failed(verification) == {"files"}
    assert "part-00001.parquet is not a file of this run" in detail(verification, "files")


def test_a_row_moved_from_kept_to_rejected_is_found(run):
    kept, rejected = run.read("particles_kept"), run.read("particles_rejected")
    run.write("particles_kept", kept.slice(1))
    run.write("particles_rejected", pa.concat_tables([kept.slice(0, 1), rejected]))
    assert failed(run.verify()) == {"rows", "totals"}


def test_a_particle_rejected_without_a_reason_is_found(run):
    keep, duplicates = run.kept, run.read("duplicates")
    row = int(np.flatnonzero(keep)[10])
    keep[row] = False
    rows = duplicates.to_pylist()
    rows.append({**rows[0], "row": row})
    rows.sort(key=lambda entry: entry["row"])
    run.decide(keep, pa.Table.from_pylist(rows, duplicates.schema))
    verification = run.verify()
    # It may have been the winner of others.
    assert failed(verification) >= {"rejections"}
    assert failed(verification) <= {"rejections", "duplicates"}
    assert f"a.parquet row {row} is rejected" in detail(verification, "rejections")


def test_a_kept_duplicate_is_found(run):
    keep, duplicates = run.kept, run.read("duplicates")
    row = duplicates.column("row")[0].as_py()
    keep[row] = True
    run.decide(keep, duplicates.slice(1))
    verification = run.verify()
    assert "separation" in failed(verification)
    assert "rows" not in failed(verification)
    assert verification.closest_kept_A <= 20


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("winner_row", lambda value: value + 1),
        ("winner_uid", lambda value: value + 1),
        ("winner_uid", lambda _: None),
        ("winner_score", lambda value: value + 1),
        ("winner_input", lambda _: "elsewhere"),
        ("winner_file", lambda _: None),
        ("winner_half_set", lambda value: 1 - value),
        ("distance_A", lambda value: float(np.nextafter(value, 99))),
        ("uid", lambda value: value + 1),
        ("score", lambda _: None),
        ("micrograph", lambda _: "5000"),
        ("input", lambda _: "elsewhere"),
        ("half_set", lambda _: None),
    ],
)
def test_a_wrong_value_in_duplicates_is_found(run, column, change):
    def alter(values):
        values[3] = change(values[3])

    run.replace("duplicates", column, alter)
    verification = run.verify()
    assert "duplicates" in failed(verification)
    # Totals are counted from some of these columns.
    assert failed(verification) <= {"duplicates", "totals"}
    assert f": {column} is " in detail(verification, "duplicates")


@pytest.mark.parametrize(("column", "row"), [("row", 500), ("row", 0), ("file", "x.parquet")])
def test_a_row_of_duplicates_that_is_not_in_the_input_is_found(run, column, row):
    def alter(values):
        values[-1] = row

    run.replace("duplicates", column, alter)
    verification = run.verify()
    assert {"rows", *DECISIONS} <= failed(verification)
    assert "out of order" in detail(verification, "rows")


@pytest.mark.parametrize("name", ["particles_kept", "particles_rejected"])
@pytest.mark.parametrize("column", ["odd", "text", "ragged", "kind", "alignments2D/shift", "uid"])
def test_a_changed_payload_is_found(run, name, column):
    changed = {
        "text": "other",
        "ragged": [7.5],
        "kind": "k9",
        "alignments2D/shift": [np.nextafter(np.float32(1), np.float32(2)), 0.0],
        "uid": 3,
        "odd": 0.5,
    }

    def alter(values):
        values[5] = changed[column]

    run.replace(name, column, alter)
    verification = run.verify()
    assert failed(verification) == {"rows"}
    assert f"column {column} of " in detail(verification, "rows")


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC0BEEF])
def test_a_nan_with_other_bits_is_found(run, bits):
    table = run.read("particles_kept")
    values = table.column("odd").to_numpy().copy()
    row = np.flatnonzero(np.isnan(values))[0]
    values.view(np.uint32)[row] = bits
    index = table.schema.get_field_index("odd")
    run.write("particles_kept", table.set_column(index, "odd", pa.array(values)))
    assert failed(run.verify()) == {"rows"}


def test_a_changed_sign_of_zero_is_found(run):
    table = run.read("particles_kept")
    values = table.column("odd").to_numpy().copy()
    values[np.flatnonzero(values == 0)[0]] = 0.0
    index = table.schema.get_field_index("odd")
    run.write("particles_kept", table.set_column(index, "odd", pa.array(values)))
    assert failed(run.verify()) == {"rows"}


def test_two_rows_swapped_are_found(run):
    table = run.read("particles_kept")
    order = np.arange(len(table))
    order[[4, 5]] = order[[5, 4]]
    run.write("particles_kept", table.take(pa.array(order)))
    assert failed(run.verify()) == {"rows"}


def test_a_changed_schema_is_found(run):
    table = run.read("particles_kept")
    run.write("particles_kept", table.rename_columns([*table.column_names[:-1], "kinds"]))
    assert failed(run.verify()) == {"rows"}


@pytest.mark.parametrize("key", ["rows", "kept", "rejected", "same_uid", "across_half_sets"])
def test_changed_totals_are_found(run, key):
    run.edit(lambda manifest: manifest["totals"].update({key: manifest["totals"][key] + 1}))
    verification = run.verify()
    assert failed(verification) == {"totals"}
    assert detail(verification, "totals").startswith(f"{key} is ")


def test_changed_totals_of_an_input_are_found(run):
    run.edit(lambda manifest: manifest["totals"]["by_input"][0].update(kept=1))
    assert failed(run.verify()) == {"totals"}


def test_a_manifest_without_required_keys_fails(run):
    run.edit(lambda manifest: [manifest.pop(key) for key in ("totals", "inputs", "outputs")])
    verification = run.verify()
    assert failed(verification) == {"files", "inputs", "totals"}
    assert unchecked(verification) == {"rows", *DECISIONS}


def test_decisions_of_another_algorithm_are_not_checked(run):
    run.edit(lambda manifest: manifest["versions"].update(algorithm="3"))
    verification = run.verify()
    assert verification.passed
    assert unchecked(verification) == {"validity", "separation", "rejections", "duplicates"}
    assert "made by algorithm 3" in detail(verification, "separation")


def test_changed_parameters_are_found(run):
    run.edit(lambda manifest: manifest["parameters"].update(min_separation=19.999))
    assert "inputs" in failed(run.verify())


def test_a_changed_input_is_found_and_other_checks_are_not_possible(run):
    table = pq.read_table(run.input)
    pq.write_table(table.slice(1), run.input)
    verification = run.verify()
    assert failed(verification) == {"inputs"}
    assert unchecked(verification) == {"rows", *DECISIONS}
    assert "its number of rows" in detail(verification, "inputs")


def test_an_input_with_a_new_modification_time_is_compared_and_named(run):
    os.utime(run.input, ns=(1, 1))
    verification = run.verify()
    assert verification.verified
    assert f"except for the modification time of {run.input}" in detail(verification, "inputs")


def test_changed_parameters_are_found_with_a_new_modification_time(run):
    os.utime(run.input, ns=(1, 1))
    run.edit(lambda manifest: manifest["parameters"].update(min_separation=19.999))
    assert "inputs" in failed(run.verify())


@pytest.mark.parametrize("time", ["kept", "new"])
def test_an_input_with_changed_bytes_but_the_same_footer_is_found(run, time):
    before, data = run.input.stat(), run.input.read_bytes()
    nan = NAN_WITH_PAYLOAD.tobytes()
    assert nan in data
    run.input.write_bytes(data.replace(nan, b"\x01" + nan[1:], 1))
    if time == "kept":
        os.utime(run.input, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert failed(run.verify()) == {"rows"}


def test_without_an_input_some_checks_are_not_possible(run):
    run.input.unlink()
    verification = run.verify()
    assert failed(verification) == set()
    assert verification.passed
    assert unchecked(verification) == {"inputs", "rows", *DECISIONS}
    assert "is missing" in detail(verification, "inputs")
    assert "6 of 8 checks were not possible" in verification.lines()[-1]
    assert verification.closest_kept_A is None


def test_a_new_file_in_an_input_folder_is_found(tmp_path):
    path = store(picks(1), tmp_path / "a", files=2)
    dask_dedup.run(path, tmp_path / "out")
    shutil.copy(path / "0.parquet", path / "2.parquet")
    verification = dask_dedup.verify(tmp_path / "out")
    assert failed(verification) == {"inputs"}
    assert "list of files" in detail(verification, "inputs")


def test_a_changed_micrograph_table_is_found(tmp_path):
    table = picks(1).drop_columns(["location/micrograph_psize_A"])

    def exposures(psize):
        keys = sorted(set(table.column("location/micrograph_uid").to_pylist()))
        columns = {
            "uid": pa.array(keys, pa.uint64()),
            "micrograph_blob/psize_A": [psize] * len(keys),
        }
        return store(pa.table(columns), tmp_path / "exposures.parquet")

    path = store(table, tmp_path / "a.parquet")
    dask_dedup.run(path, tmp_path / "out", micrographs=exposures(1.5))
    assert_verified(dask_dedup.verify(tmp_path / "out"))
    exposures(0.75)
    verification = dask_dedup.verify(tmp_path / "out")
    assert "inputs" in failed(verification)
    assert "micrograph table" in detail(verification, "inputs")


def test_other_fragments_than_those_of_the_run_are_reported(tmp_path, monkeypatch):
    path = store(picks(1), tmp_path / "a", files=3)
    dask_dedup.run(path, tmp_path / "out")
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 4000)
    verification = dask_dedup.verify(tmp_path / "out")
    undecided = {"rows", *DECISIONS}
    assert failed(verification) == undecided
    monkeypatch.setattr(rows, "__version__", "99")
    assert unchecked(dask_dedup.verify(tmp_path / "out")) == undecided
    assert "has 1 parts, but the inputs have 3 fragments" in detail(verification, "rows")


class Native:
    """A format for the package, with Parquet files."""

    read = staticmethod(parquet.read)

    @staticmethod
    def open_table(path, source):
        return replace(parquet.open_table(path, source), format="native")

    @staticmethod
    def split(table, fragment, keep, kept, rejected):
        rows = parquet.read(table, fragment)
        for mask, path in ((keep, kept), (~keep, rejected)):
            pq.write_table(rows.filter(pa.array(mask)), path)

    @staticmethod
    def assemble(table, pieces, rows, folder, name):
        whole = pa.concat_tables([pq.read_table(path) for path in pieces])
        for path in pieces:
            path.unlink()
        pq.write_table(whole, folder / name, row_group_size=70)
        data = (folder / name).read_bytes()
        return [formats.OutputFile(name, rows, len(data), hashlib.sha256(data).hexdigest())]


@pytest.fixture
def native_run(tmp_path, monkeypatch, small_fragments):
    monkeypatch.setitem(formats._SUFFIXES, ".native", "native")
    monkeypatch.setitem(formats._NATIVE, "native", Native)
    monkeypatch.setitem(formats._FORMATS, "native", Native)
    inputs = [tmp_path / "a.native", tmp_path / "b.parquet", tmp_path / "c.native"]
    for seed, path in enumerate(inputs):
        pq.write_table(picks(seed, 150), path, row_group_size=50)
    dask_dedup.run(inputs, tmp_path / "out")
    return tmp_path / "out"


def test_native_results_are_verified_and_changes_are_found(native_run):
    assert {path.name for path in (native_run / "particles_kept").iterdir()} >= {
        "a.native",
        "c.native",
    }
    assert_verified(dask_dedup.verify(native_run))
    path = native_run / "particles_kept" / "c.native"
    table = pq.read_table(path)
    scores = table.column("pick_stats/ncc_score").to_numpy().copy()
    scores[-1] += 1
    number = table.column_names.index("pick_stats/ncc_score")
    for changed in (
        table.set_column(number, "pick_stats/ncc_score", pa.array(scores)),
        table.slice(0, len(table) - 1),
        pa.concat_tables([table, table.slice(0, 1)]),
        table.drop_columns(["odd"]),
    ):
        pq.write_table(changed, path, row_group_size=70)
        verification = dask_dedup.verify(native_run)
        totals = {"totals"} if len(changed) != len(table) else set()
        assert failed(verification) == {"files", "rows"} | totals
        assert "c.native" in detail(verification, "rows")


@pytest.mark.parametrize("row_is_kept", [True, False])
def test_remove_entirely_is_checked_both_ways(tmp_path, row_is_kept):
    run = Run(tmp_path, remove_entirely=True)
    keep, duplicates = run.kept, run.read("duplicates")
    rows = duplicates.to_pylist()
    if row_is_kept:
        row = int(np.flatnonzero(keep)[0])
        rows.append({**rows[0], "row": row})
        rows.sort(key=lambda entry: entry["row"])
    else:
        row = rows.pop(0)["row"]
    keep[row] = not keep[row]
    run.decide(keep, pa.Table.from_pylist(rows, duplicates.schema))
    nothing = {"same_uid": None, "across_half_sets": None}
    run.edit(lambda manifest: manifest["totals"].update(nothing))
    assert failed(run.verify()) == ({"rejections"} if row_is_kept else {"separation"})


def test_many_fragments_are_merged_in_groups(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.parquet" for number in range(7)]
    for number, path in enumerate(paths):
        pq.write_table(picks(number, 60, micrographs=3), path)
    dask_dedup.run(paths, tmp_path / "out", min_separation=100)
    monkeypatch.setattr(kept_and_rejected, "MERGED_FRAGMENTS", 3)
    assert dask_dedup.verify(tmp_path / "out").verified


@pytest.mark.slow
def test_many_inputs_do_not_need_more_memory_than_their_rows(tmp_path):
    """Arrow gives every small table its own pages: 90 KB an input."""
    for number in range(300):
        pq.write_table(picks(number, 60, micrographs=1), tmp_path / f"{number:03}.parquet")
    program = """
import sys, pyarrow, dask_dedup
from pathlib import Path
folder = Path(sys.argv[1])
if sys.argv[2] == "run":
    dask_dedup.run(sorted(folder.glob("*.parquet")), folder / "out", min_separation=100)
else:
    assert dask_dedup.verify(folder / "out").verified
    print(pyarrow.default_memory_pool().max_memory())
"""
    words = [sys.executable, "-c", program, str(tmp_path)]
    subprocess.run([*words, "run"], check=True, capture_output=True)
    done = subprocess.run([*words, "verify"], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 15e6


STARTED_ELSEWHERE = {
    "folders": (["x/1.parquet", "y/1.parquet"], {}),
    "star": (
        ["a.star", "b.star"],
        {"micrograph_pixel_size": 1.0, "score_field": "rlnAutopickFigureOfMerit:higher"},
    ),
    "star as parquet": (
        ["a.star"],
        {
            "micrograph_pixel_size": 1.0,
            "score_field": "none",
            "output_format": "parquet",
            "invalid": "reject",
        },
    ),
    "cs": (["a.cs", "b.cs"], {}),
}


class TestAnotherFolder:
    """Relative inputs are those of the folder in which the run was started."""

    def run_in(self, folder, monkeypatch, inputs, write, **options):
        folder.mkdir()
        monkeypatch.chdir(folder)
        for number, name in enumerate(inputs):
            write(Path(name), number)
        dask_dedup.run(inputs, "out", **options)
        return folder / "out"

    def parquet(self, path, number):
        path.parent.mkdir(exist_ok=True, parents=True)
        pq.write_table(picks(number), path)

    def star(self, path, number):
        positions = np.random.default_rng(number).integers(0, 300, (80, 2))
        rows = "".join(f"m.mrc {x} {y} {n / 80}\n" for n, (x, y) in enumerate(positions))
        labels = ("MicrographName", "CoordinateX", "CoordinateY", "AutopickFigureOfMerit")
        header = "data_\nloop_\n" + "".join(f"_rln{label}\n" for label in labels)
        path.write_text(header + rows)

    def records(self, path, number):
        table = picks(number, extra=False)
        fields = [("uid", "u8"), ("location/micrograph_uid", "u8")]
        fields += [(f"location/center_{axis}_frac", "f4") for axis in "xy"]
        fields += [("location/micrograph_psize_A", "f4"), ("location/micrograph_shape", "u4", (2,))]
        fields += [("pick_stats/ncc_score", "f4")]
        records = np.zeros(len(table), fields)
        for name in records.dtype.names:
            records[name] = table[name].to_pylist()
        with path.open("wb") as file:
            np.save(file, records)

    @pytest.mark.parametrize("case", STARTED_ELSEWHERE)
    def test_a_result_is_verified_from_any_folder(self, tmp_path, monkeypatch, case):
        inputs, options = STARTED_ELSEWHERE[case]
        write = self.star if "star" in case else self.records if case == "cs" else self.parquet
        self.run_in(tmp_path / "project", monkeypatch, inputs, write, **options)
        assert dask_dedup.verify("out").verified
        monkeypatch.chdir(tmp_path)
        verification = dask_dedup.verify("project/out")
        assert verification.verified, verification.lines()

    def test_another_table_of_that_name_does_not_count(self, tmp_path, monkeypatch):
        out = self.run_in(tmp_path / "project", monkeypatch, ["a.parquet"], self.parquet)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        self.parquet(Path("a.parquet"), 7)
        assert dask_dedup.verify(out).verified

    def test_a_project_that_was_moved(self, tmp_path, monkeypatch):
        self.run_in(tmp_path / "project", monkeypatch, ["a.parquet"], self.parquet)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "project").rename(tmp_path / "archive")
        assert not dask_dedup.verify("archive/out").verified
        monkeypatch.chdir(tmp_path / "archive")
        assert dask_dedup.verify("out").verified

    def test_a_wrong_file_name_in_duplicates_is_found(self, tmp_path, monkeypatch):
        inputs = ["a.parquet", "b.parquet"]
        out = self.run_in(tmp_path / "project", monkeypatch, inputs, self.parquet)
        monkeypatch.chdir(tmp_path)
        (part, *_) = sorted((out / "duplicates").iterdir())
        table = pq.read_table(part)
        number = table.schema.get_field_index("winner_file")
        wrong = pa.array(["c.parquet"] * len(table)).dictionary_encode()
        pq.write_table(table.set_column(number, "winner_file", wrong), part)
        verification = dask_dedup.verify(out)
        (found,) = (check for check in verification.checks if check.name == "duplicates")
        assert found.passed is False
        assert "winner_file" in found.detail
