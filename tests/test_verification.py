"""`verify` believes a right run and finds what is wrong with any other."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
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
from dask_dedup.output.checksum import with_checksum
from dask_dedup.results.verify import decisions, rows

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
    """CryoSPARC picks, many near or precisely at another's place, with an odd payload."""
    rng = np.random.default_rng(seed)
    places = np.random.default_rng(7).integers(300, 3700, (max(n // 3, 1), 2))
    which = rng.integers(len(places), size=n)
    xy = places[which] + rng.integers(-8, 9, (n, 2)) * rng.integers(0, 2, (n, 1))
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
        # Plain, so that a test can find a value's bytes.
        pq.write_table(table, path, compression="none", use_dictionary=["kind"])
        return path
    path.mkdir()
    for number, chosen in enumerate(np.array_split(np.arange(len(table)), files)):
        part = table.take(pa.array(chosen))
        pq.write_table(part, path / f"{number}.parquet", row_group_size=row_group_size)
    return path


def failed(report):
    assert [check.name for check in report.checks] == CHECKS
    assert all("\n" not in check.detail and check.detail for check in report.checks)
    assert report.passed == all(check.passed is not False for check in report.checks)
    return {check.name for check in report.checks if check.passed is False}


def detail(report, name):
    return next(check.detail for check in report.checks if check.name == name)


def open_checks(report):
    return {check.name for check in report.checks if check.passed is None}


def assert_verified(report):
    assert all(check.passed is True for check in report.checks), "\n".join(report.lines())


@pytest.fixture
def small_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 4000)


# --- right runs


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
def test_a_right_run_of_two_inputs_is_verified(tmp_path, params):
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
    report = dask_dedup.verify(tmp_path / "out")
    assert_verified(report)
    assert words in detail(report, "separation")


@pytest.mark.parametrize("uid", [True, False])
def test_a_right_run_over_straddling_micrographs_is_verified_in_several_passes(
    tmp_path, small_fragments, monkeypatch, uid
):
    monkeypatch.setattr(decisions, "PASS_ROWS", 150)
    inputs = [
        store(picks(seed, uid=uid), tmp_path / str(seed), files=3, row_group_size=60)
        for seed in (1, 2)
    ]
    result = dask_dedup.run(inputs, tmp_path / "out")
    assert len(result.manifest["outputs"]) > 3 * 4
    assert_verified(dask_dedup.verify(tmp_path / "out"))


def test_one_input_given_twice_is_verified(tmp_path):
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
    report = dask_dedup.verify(tmp_path / "out")
    assert_verified(report)
    assert "no two kept particles are within 40 A" in detail(report, "separation")


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
        report = dask_dedup.verify(out)
        assert_verified(report)
        return report.closest_kept_A

    assert closest(20.5) == 20.5
    assert closest(40.0) == 40.0
    assert closest(40.5) is None


def test_the_report_can_be_read_and_stored(tmp_path):
    dask_dedup.run(store(picks(1), tmp_path / "a.parquet"), tmp_path / "out")
    report = dask_dedup.verify(tmp_path / "out")
    lines = report.lines()
    assert len(lines) == len(CHECKS) + 1
    assert lines[0].startswith("ok    files: ")
    assert "limit 20 A" in lines[4]
    assert lines[-1].endswith("is verified")
    stored = json.loads(json.dumps(report.to_dict()))
    assert stored["passed"] is True
    assert [check["name"] for check in stored["checks"]] == CHECKS


def test_results_show_themselves_in_a_notebook(tmp_path):
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


def test_the_proof_does_not_import_what_it_proves():
    folder = Path(dask_dedup.__file__).parent
    modules = sorted((folder / "results" / "verify").glob("*.py"))
    assert len(modules) > 1
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            assert not {"dask_dedup.dedup.decide", "dask_dedup.dedup.greedy"} & set(names)


# --- wrong runs


class Run:
    """A finished run of one file of one fragment, to be tampered with."""

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
        """Replace a part, and mend the manifest so that nobody is the wiser."""
        if isinstance(content, bytes):
            self.path(name).write_bytes(content)
        else:
            pq.write_table(content, self.path(name))

        def mend(manifest):
            entry = next(e for e in manifest["outputs"] if e["path"].startswith(f"{name}/"))
            data = self.path(name).read_bytes()
            entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
            if not isinstance(content, bytes):
                entry["rows"] = len(content)

        self.edit(mend)

    def replace(self, name, column, change):
        """Change a column of a part, given as a list."""
        table = self.read(name)
        values = table.column(column).to_pylist()
        change(values)
        new = pa.chunked_array([values], table.schema.field(column).type)
        index = table.schema.get_field_index(column)
        self.write(name, table.set_column(index, table.schema.field(column), new))

    def decide(self, keep, duplicates):
        """Put another decision in the place of the run's, consistent all through."""
        rows = pq.read_table(self.input)
        self.write("particles_kept", rows.filter(pa.array(keep)))
        self.write("particles_rejected", rows.filter(pa.array(~keep)))
        self.write("duplicates", duplicates)
        pairs = [duplicates.column(name).to_pylist() for name in ("half_set", "winner_half_set")]

        def mend(manifest):
            totals = manifest["totals"]
            for entry in (totals, totals["by_input"][0]):
                entry["kept"], entry["rejected"] = int(keep.sum()), int((~keep).sum())
            totals["across_half_sets"] = sum(a != b for a, b in zip(*pairs, strict=True))

        self.edit(mend)

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
    """The same run for every test: its files are put back as they were."""
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
def test_a_file_that_is_no_parquet_fails_its_checks_in_a_line_each(run, name):
    run.write(name, b"PAR1 but not really PAR1")
    report = run.verify()
    wrong = {"rows", "totals"}
    if name == "duplicates":
        wrong |= DECISIONS
    assert failed(report) == wrong


@pytest.mark.parametrize("name", ["particles_kept", "particles_rejected", "duplicates"])
def test_a_missing_file_is_found(run, name):
    run.path(name).unlink()
    report = run.verify()
    assert {"files", "rows", "totals"} <= failed(report)
    assert "is missing" in detail(report, "files")


def test_an_extra_file_is_found(run):
    shutil.copy(run.path("particles_kept"), run.out / "particles_kept" / "part-00001.parquet")
    report = run.verify()
    assert failed(report) == {"files"}
    assert "part-00001.parquet is not a file of this run" in detail(report, "files")


def test_a_row_moved_from_kept_to_rejected_is_found(run):
    kept, rejected = run.read("particles_kept"), run.read("particles_rejected")
    run.write("particles_kept", kept.slice(1))
    run.write("particles_rejected", pa.concat_tables([kept.slice(0, 1), rejected]))
    assert failed(run.verify()) == {"rows", "totals"}


def test_a_particle_rejected_for_no_reason_is_found(run):
    keep, told = run.kept, run.read("duplicates")
    row = int(np.flatnonzero(keep)[10])
    keep[row] = False
    rows = told.to_pylist()
    rows.append({**rows[0], "row": row})
    rows.sort(key=lambda entry: entry["row"])
    run.decide(keep, pa.Table.from_pylist(rows, told.schema))
    report = run.verify()
    # Others may have lost their winner with it.
    assert failed(report) >= {"rejections"}
    assert failed(report) <= {"rejections", "duplicates"}
    assert f"a.parquet row {row} is rejected" in detail(report, "rejections")


def test_a_duplicate_that_was_kept_is_found(run):
    keep, told = run.kept, run.read("duplicates")
    row = told.column("row")[0].as_py()
    keep[row] = True
    run.decide(keep, told.slice(1))
    report = run.verify()
    assert "separation" in failed(report)
    assert "rows" not in failed(report)
    assert report.closest_kept_A <= 20


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
def test_a_false_word_about_a_rejected_particle_is_found(run, column, change):
    def alter(values):
        values[3] = change(values[3])

    run.replace("duplicates", column, alter)
    report = run.verify()
    assert "duplicates" in failed(report)
    # The counts of the manifest rest on these.
    assert failed(report) <= {"duplicates", "totals"}
    assert f": {column} is " in detail(report, "duplicates")


@pytest.mark.parametrize(("column", "row"), [("row", 500), ("row", 0), ("file", "x.parquet")])
def test_a_decision_about_a_row_that_is_not_there_is_found(run, column, row):
    def alter(values):
        values[-1] = row

    run.replace("duplicates", column, alter)
    report = run.verify()
    assert {"rows", *DECISIONS} <= failed(report)
    assert "out of place" in detail(report, "rows")


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
    report = run.verify()
    assert failed(report) == {"rows"}
    assert f"column {column} of " in detail(report, "rows")


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC0BEEF])
def test_another_nan_is_another_value(run, bits):
    table = run.read("particles_kept")
    values = table.column("odd").to_numpy().copy()
    row = np.flatnonzero(np.isnan(values))[0]
    values.view(np.uint32)[row] = bits
    index = table.schema.get_field_index("odd")
    run.write("particles_kept", table.set_column(index, "odd", pa.array(values)))
    assert failed(run.verify()) == {"rows"}


def test_zero_is_not_minus_zero(run):
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
def test_altered_totals_are_found(run, key):
    run.edit(lambda manifest: manifest["totals"].update({key: manifest["totals"][key] + 1}))
    report = run.verify()
    assert failed(report) == {"totals"}
    assert detail(report, "totals").startswith(f"{key} is ")


def test_altered_totals_of_an_input_are_found(run):
    run.edit(lambda manifest: manifest["totals"]["by_input"][0].update(kept=1))
    assert failed(run.verify()) == {"totals"}


def test_a_manifest_without_its_parts_fails_and_does_not_crash(run):
    run.edit(lambda manifest: [manifest.pop(key) for key in ("totals", "inputs", "outputs")])
    report = run.verify()
    assert failed(report) == {"files", "inputs", "totals"}
    assert open_checks(report) == {"rows", *DECISIONS}


def test_altered_parameters_are_found(run):
    run.edit(lambda manifest: manifest["parameters"].update(min_separation=19.999))
    assert "inputs" in failed(run.verify())


def test_a_changed_input_is_found_and_says_what_cannot_be_checked(run):
    table = pq.read_table(run.input)
    pq.write_table(table.slice(1), run.input)
    report = run.verify()
    assert failed(report) == {"inputs"}
    assert open_checks(report) == {"rows", *DECISIONS}
    assert "its number of rows" in detail(report, "inputs")


def test_an_input_that_was_only_touched_is_compared_and_told_of(run):
    os.utime(run.input, ns=(1, 1))
    report = run.verify()
    assert report.verified
    assert f"except for the modification time of {run.input}" in detail(report, "inputs")


def test_altered_parameters_are_found_though_the_input_was_touched(run):
    os.utime(run.input, ns=(1, 1))
    run.edit(lambda manifest: manifest["parameters"].update(min_separation=19.999))
    assert "inputs" in failed(run.verify())


@pytest.mark.parametrize("time", ["kept", "new"])
def test_an_input_changed_behind_its_own_footer_is_found(run, time):
    before, data = run.input.stat(), run.input.read_bytes()
    nan = NAN_WITH_PAYLOAD.tobytes()
    assert nan in data
    run.input.write_bytes(data.replace(nan, b"\x01" + nan[1:], 1))
    if time == "kept":
        os.utime(run.input, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert failed(run.verify()) == {"rows"}


def test_a_missing_input_leaves_checks_open(run):
    run.input.unlink()
    report = run.verify()
    assert failed(report) == set()
    assert report.passed
    assert open_checks(report) == {"inputs", "rows", *DECISIONS}
    assert "is missing" in detail(report, "inputs")
    assert "6 of 8 checks were not possible" in report.lines()[-1]
    assert report.closest_kept_A is None


def test_a_file_more_in_an_input_folder_is_found(tmp_path):
    path = store(picks(1), tmp_path / "a", files=2)
    dask_dedup.run(path, tmp_path / "out")
    shutil.copy(path / "0.parquet", path / "2.parquet")
    report = dask_dedup.verify(tmp_path / "out")
    assert failed(report) == {"inputs"}
    assert "list of files" in detail(report, "inputs")


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
    report = dask_dedup.verify(tmp_path / "out")
    assert "inputs" in failed(report)
    assert "micrograph table" in detail(report, "inputs")


def test_other_fragments_than_the_runs_are_said_to_be_so(tmp_path, monkeypatch):
    path = store(picks(1), tmp_path / "a", files=3)
    dask_dedup.run(path, tmp_path / "out")
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 4000)
    report = dask_dedup.verify(tmp_path / "out")
    undecided = {"rows", *DECISIONS}
    assert failed(report) == undecided
    monkeypatch.setattr(rows, "__version__", "99")
    assert open_checks(dask_dedup.verify(tmp_path / "out")) == undecided
    assert "has 1 parts, but the inputs have 3 fragments" in detail(report, "rows")


class Native:
    """A format of its own as far as the package can tell, and Parquet inside."""

    read = staticmethod(parquet.read)

    def __init__(self, rows):
        self.rows = rows

    @staticmethod
    def open_table(path, source):
        return replace(parquet.open_table(path, source), format="native")

    @staticmethod
    def load(table, fragment):
        return Native(parquet.read(table, fragment))

    def columns(self, names):
        return self.rows.select(list(names))

    def split(self, keep, kept, rejected):
        for mask, path in ((keep, kept), (~keep, rejected)):
            pq.write_table(self.rows.filter(pa.array(mask)), path)

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
    monkeypatch.setitem(sys.modules, "dask_dedup.formats.native", Native)
    monkeypatch.setitem(formats._SUFFIXES, ".native", "native")
    monkeypatch.setitem(formats._MODULES, "native", "native")
    inputs = [tmp_path / "a.native", tmp_path / "b.parquet", tmp_path / "c.native"]
    for seed, path in enumerate(inputs):
        pq.write_table(picks(seed), path, row_group_size=100)
    dask_dedup.run(inputs, tmp_path / "out")
    return tmp_path / "out"


def test_results_in_the_inputs_own_format_are_verified(native_run):
    assert {path.name for path in (native_run / "particles_kept").iterdir()} >= {
        "a.native",
        "c.native",
    }
    assert_verified(dask_dedup.verify(native_run))


@pytest.mark.parametrize("change", ["value", "less", "more", "columns"])
def test_a_changed_result_in_an_inputs_own_format_is_found(native_run, change):
    path = native_run / "particles_kept" / "c.native"
    table = pq.read_table(path)
    scores = table.column("pick_stats/ncc_score").to_numpy().copy()
    scores[-1] += 1
    number = table.column_names.index("pick_stats/ncc_score")
    changed = {
        "value": table.set_column(number, "pick_stats/ncc_score", pa.array(scores)),
        "less": table.slice(0, len(table) - 1),
        "more": pa.concat_tables([table, table.slice(0, 1)]),
        "columns": table.drop_columns(["odd"]),
    }[change]
    pq.write_table(changed, path, row_group_size=70)
    report = dask_dedup.verify(native_run)
    rows = {"totals"} if change in ("less", "more") else set()
    assert failed(report) == {"files", "rows"} | rows
    assert "c.native" in detail(report, "rows")


@pytest.mark.parametrize("row_is_kept", [True, False])
def test_remove_entirely_is_checked_both_ways(tmp_path, row_is_kept):
    run = Run(tmp_path, remove_entirely=True)
    keep, told = run.kept, run.read("duplicates")
    rows = told.to_pylist()
    if row_is_kept:
        row = int(np.flatnonzero(keep)[0])
        rows.append({**rows[0], "row": row})
        rows.sort(key=lambda entry: entry["row"])
    else:
        row = rows.pop(0)["row"]
    keep[row] = not keep[row]
    run.decide(keep, pa.Table.from_pylist(rows, told.schema))
    nothing = {"same_uid": None, "across_half_sets": None}
    run.edit(lambda manifest: manifest["totals"].update(nothing))
    assert failed(run.verify()) == ({"rejections"} if row_is_kept else {"separation"})
