"""CryoSPARC .cs files: records are written byte for byte, and broken files are refused in one line."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import struct
import sys
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.lib.recfunctions import repack_fields
from tables import Output

from dask_dedup import DedupParams, InputError, RunError, run, verify
from dask_dedup.formats import native_format, open_table
from dask_dedup.formats.cryosparc import cs, npy

PARTICLE = [
    ("uid", "<u8"),
    ("location/micrograph_uid", "<u8"),
    ("location/exp_group_id", "<u4"),
    ("location/micrograph_path", "S40"),
    ("location/micrograph_shape", "<u4", (2,)),
    ("location/center_x_frac", "<f4"),
    ("location/center_y_frac", "<f4"),
    ("location/micrograph_psize_A", "<f4"),
    ("pick_stats/ncc_score", "<f4"),
    ("alignments2D/shift", "<f4", (2,)),
    ("alignments2D/psize_A", "<f4"),
    ("alignments3D/pose", "<f4", (3,)),
    ("alignments3D_multi/pose", "<f4", (4, 3)),
    ("blob/path", "S31"),
    ("blob/sign", "<f4"),
    ("flag", "?"),
]


def particles(rows, *, dtype=PARTICLE, seed=0, per_micrograph=7):
    """Simulate records; every byte of the numbers is random, including NaN payloads."""
    rng = np.random.default_rng(seed)
    records = np.frombuffer(rng.bytes(rows * np.dtype(dtype).itemsize), dtype).copy()
    micrograph = np.arange(rows) // per_micrograph
    names = records.dtype.names
    if "flag" in names:
        records["flag"] = rng.random(rows) < 0.5
    for field, width in (("location/micrograph_path", 40), ("blob/path", 31)):
        if field in names:
            texts = [f"J1/{number:05d}_µ_{field[:4]}.mrc".encode() for number in micrograph]
            records[field] = np.array(texts, f"S{width}")
    sensible = {
        "location/micrograph_uid": micrograph.astype(np.uint64) + np.uint64(2**63),
        "location/micrograph_shape": (4092, 5760),
        "location/micrograph_psize_A": 0.8,
        "location/center_x_frac": rng.random(rows, np.float32),
        "location/center_y_frac": rng.random(rows, np.float32),
        "pick_stats/ncc_score": rng.random(rows, np.float32),
        "alignments2D/shift": rng.normal(size=(rows, 2)),
        "alignments2D/psize_A": 1.6,
    }
    for field in names:
        if field in sensible:
            records[field] = sensible[field]
    return records


def save(path, records):
    with path.open("wb") as file:
        np.save(file, records)
    return path


def saved(records):
    """Return the bytes that `numpy.save` writes."""
    file = io.BytesIO()
    np.save(file, records)
    return file.getvalue()


def split(table, keep, folder):
    """Write kept and rejected as a run does; return the output files of each."""
    folder.mkdir()
    parts = {"kept": [], "rejected": []}
    for fragment in table.fragments:
        paths = [folder / f"{outcome}-{fragment.number:05d}" for outcome in parts]
        mine = keep[fragment.first_row : fragment.first_row + fragment.rows]
        native_format(table).split(table, fragment, mine, *paths)
        for paths_so_far, path in zip(parts.values(), paths, strict=True):
            paths_so_far.append(path)
    written = {}
    for outcome, rows in (("kept", keep.sum()), ("rejected", (~keep).sum())):
        target = folder / outcome
        target.mkdir()
        name = table.path.rpartition("/")[2]
        assemble = native_format(table).assemble
        written[outcome] = assemble(table, parts[outcome], int(rows), target, name)
    assert all(path.exists() for paths in parts.values() for path in paths), (
        "a resumed run needs them"
    )
    for outcome, files in written.items():
        for file in files:
            content = (folder / outcome / file.path).read_bytes()
            assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    return written


def rows_of(table, names=None):
    names = names or table.schema.names
    parts = [native_format(table).read(table, part, names) for part in table.fragments]
    assert all(part.column_names == list(names) for part in parts)
    return pa.concat_tables(parts).unify_dictionaries()


def message(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def small_steps(monkeypatch):
    """Use many fragments with many batches in each."""
    monkeypatch.setattr(cs, "FRAGMENT_BYTES", 20_000)
    monkeypatch.setattr(npy, "BATCH_BYTES", 3_000)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("share", [0, 0.001, 0.4, 1])
@pytest.mark.parametrize("rows", [1, 2, 999, 5_000])
def test_kept_and_rejected_are_what_numpy_would_save(tmp_path, rows, share):
    records = particles(rows)
    table = open_table(save(tmp_path / "particles.cs", records))
    assert table.rows == rows
    keep = np.random.default_rng(1).random(rows) < share
    written = split(table, keep, tmp_path / "out")
    for outcome, mask in (("kept", keep), ("rejected", ~keep)):
        file = tmp_path / "out" / outcome / "particles.cs"
        assert file.read_bytes() == saved(records[mask])
        assert [entry.rows for entry in written[outcome]] == [mask.sum()]
        assert open_table(file).rows == mask.sum()


@pytest.mark.usefixtures("small_steps")
def test_fragments_cover_the_rows_in_order(tmp_path):
    table = open_table(save(tmp_path / "particles.cs", particles(5_000)), 3)
    assert len(table.fragments) > 20
    assert [part.number for part in table.fragments] == list(range(len(table.fragments)))
    assert {part.source for part in table.fragments} == {3}
    stops = np.cumsum([part.rows for part in table.fragments])
    assert [part.first_row for part in table.fragments] == [0, *stops[:-1]]
    assert stops[-1] == 5_000
    assert table.fragments[1].locate(2) == (table.path, table.fragments[1].first_row + 2)
    sizes = [part.rows for part in table.fragments]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.usefixtures("small_steps")
def test_columns_have_the_values_that_numpy_reads(tmp_path):
    records = particles(1_000)
    table = open_table(save(tmp_path / "particles.cs", records))
    rows = rows_of(table)
    assert table.schema.names == list(records.dtype.names)
    assert table.schema.field("uid").type == pa.uint64()
    assert table.schema.field("location/micrograph_path").type == pa.string()
    assert table.schema.field("flag").type == pa.bool_()
    assert table.schema.field("alignments3D_multi/pose").type == pa.list_(
        pa.list_(pa.float32(), 3), 4
    )
    assert records["uid"].max() > 2**63
    assert rows.column("uid").to_pylist() == records["uid"].tolist()
    for name in ("location/micrograph_path", "blob/path"):
        assert rows.schema.field(name).type == pa.dictionary(pa.int32(), pa.string())
        assert rows.column(name).to_pylist() == [text.decode() for text in records[name]]
    for name in ("alignments2D/shift", "alignments3D/pose", "alignments3D_multi/pose"):
        values = rows.column(name).combine_chunks()
        while not pa.types.is_floating(values.type):
            values = values.flatten()
        np.testing.assert_array_equal(values.to_numpy(), records[name].reshape(-1))
    assert rows.column("flag").to_pylist() == records["flag"].tolist()
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        if not pa.types.is_string(kind):
            assert rows.schema.field(name).type == kind


def test_the_schema_survives_parquet(tmp_path):
    table = open_table(save(tmp_path / "particles.cs", particles(10)))
    rows = rows_of(table).cast(table.schema)
    assert rows.schema.equals(table.schema, check_metadata=True)
    pq.write_table(rows, tmp_path / "particles.parquet")
    assert str(pq.read_schema(tmp_path / "particles.parquet")) == str(table.schema)


def test_columns_are_read_in_the_requested_order(tmp_path):
    records = particles(10)
    table = open_table(save(tmp_path / "particles.cs", records))
    names = ["pick_stats/ncc_score", "uid"]
    assert cs.read(table, table.fragments[0], names).column_names == names


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("kind", ["S24", "<U24", ">U24"])
def test_texts_in_any_order(tmp_path, kind):
    rng = np.random.default_rng(0)
    texts = rng.choice(["", "a", "aa", "b" * 24, "a b", "x/y.mrc"], 3_000)
    records = np.zeros(texts.size, [("uid", "<u8"), ("text", kind), ("two", kind, (2,))])
    records["text"] = texts
    records["two"] = texts[::-1, None]
    rows = rows_of(open_table(save(tmp_path / "a.cs", records)))
    assert rows.column("text").to_pylist() == texts.tolist()
    assert rows.column("two").to_pylist() == [[text, text] for text in texts[::-1].tolist()]


def test_text_that_is_not_utf8_is_shown_with_backslashes_and_written_unchanged(tmp_path):
    records = np.array([(b"\xe9a", "\ud800"), (b"e\0a", "é")], [("path", "S5"), ("u", "<U2")])
    table = open_table(save(tmp_path / "a.cs", records))
    rows = rows_of(table)
    assert rows.column("path").to_pylist() == ["\\xe9a", "e\0a"]
    assert rows.column("u").to_pylist()[1] == "é"
    split(table, np.array([True, False]), tmp_path / "out")
    assert (tmp_path / "out" / "kept" / "a.cs").read_bytes() == saved(records[:1])


def test_fields_of_other_kinds(tmp_path):
    kinds = [">u4", ">f8", "<f2", "i1", "<i2", ">i8", "?", "S0", "<c8", "<c16"]
    dtype = np.dtype([(f"f{n}", kind) for n, kind in enumerate(kinds)] + [("g", ">f4", (2,))])
    records = np.zeros(3, dtype)
    for n in range(6):
        records[f"f{n}"] = [1, 2, 3]
    records["f8"] = records["f9"] = [1 + 2j, 3j, 4]
    records["g"] = [[1, 2], [3, 4], [5, 6]]
    table = open_table(save(tmp_path / "a.cs", records))
    rows = rows_of(table)
    for n in range(6):
        assert rows.column(f"f{n}").to_pylist() == [1, 2, 3]
    assert rows.column("f7").to_pylist() == ["", "", ""]
    assert rows.column("f8").to_pylist() == [[1, 2], [0, 3], [4, 0]] == rows["f9"].to_pylist()
    assert rows.column("g").to_pylist() == records["g"].tolist()
    keep = np.array([False, True, True])
    split(table, keep, tmp_path / "out")
    assert (tmp_path / "out" / "kept" / "a.cs").read_bytes() == saved(records[keep])


OTHER_KINDS = {
    "void": "V8",
    "records": [("a", ">f4"), ("b", "S3")],
    "dates": "<M8[s]",
    "durations": ">m8[ns]",
    "long floats": "<f16",
    "long complex numbers": "<c32",
    "vectors of records": ([("a", "<f4")], (2,)),
    "no values": ("<f4", (0,)),
    "no bytes": "V0",
}


@pytest.mark.parametrize("output_format", ["native", "parquet"])
def test_fields_of_another_kind_are_carried(tmp_path, output_format):
    """Nobody needs these fields; their bytes go to the output, if they have any."""
    plain = particles(60, per_micrograph=30)
    fields = [
        (name, *kind) if isinstance(kind, tuple) else (name, kind)
        for name, kind in OTHER_KINDS.items()
    ]
    dtype = np.dtype([*PARTICLE, *fields])
    size = np.dtype(fields).itemsize
    cells = np.random.default_rng(0).bytes(60 * size)
    content = b"".join(
        plain[row].tobytes() + cells[row * size : (row + 1) * size] for row in range(60)
    )
    records = np.frombuffer(content, dtype)
    path = save(tmp_path / "a.cs", records)
    run(path, tmp_path / "out", min_separation=1000, output_format=output_format)
    assert verify(tmp_path / "out").verified
    out = Output(tmp_path / "out")
    rejected = sorted(out.duplicates["row"].to_pylist())
    assert rejected
    if output_format == "native":
        (written,) = out.parts("particles_rejected")
        assert written.read_bytes() == saved(records[rejected])
        return
    for name in OTHER_KINDS:
        if name.startswith("no "):
            assert name not in out.rejected.column_names
            continue
        column = out.rejected[name].combine_chunks()
        found = (column.flatten() if pa.types.is_nested(column.type) else column).to_pylist()
        assert b"".join(found) == records[name][rejected].tobytes(), name


def test_padding_between_fields_is_kept(tmp_path):
    dtype = np.dtype([("uid", "<u8"), ("flag", "u1"), ("x", "<f4")], align=True)
    content = np.random.default_rng(0).bytes(50 * dtype.itemsize)
    path = save(tmp_path / "a.cs", np.frombuffer(content, dtype))
    header = path.stat().st_size - len(content)
    path.write_bytes(path.read_bytes()[:header] + content)
    keep = np.arange(50) % 2 == 0
    split(open_table(path), keep, tmp_path / "out")
    cells = np.frombuffer(content, f"V{dtype.itemsize}")[keep].tobytes()
    assert (tmp_path / "out" / "kept" / "a.cs").read_bytes().endswith(cells)
    assert np.load(tmp_path / "out" / "kept" / "a.cs").dtype == dtype


def test_nan_payloads_survive(tmp_path):
    records = np.zeros(4, [("uid", "<u8"), ("score", "<f4")])
    bits = np.array([0x7FC0BEEF, 0xFFC00001, 0x7F800001, 0x7FC00000], np.uint32)
    records["score"].view(np.uint32)[:] = bits
    split(open_table(save(tmp_path / "a.cs", records)), bits > 2**31, tmp_path / "out")
    parts = [np.load(tmp_path / "out" / name / "a.cs") for name in ("kept", "rejected")]
    assert np.concatenate(parts)["score"].view(np.uint32).tolist() == bits[[1, 0, 2, 3]].tolist()


@pytest.mark.real_data
def test_a_real_file_without_rows(tmp_path, real_data):
    path = real_data / "cryosparc_schema" / "4k_dataset.cs"
    table = open_table(path)
    assert (table.rows, len(table.fragments), table.fragments[0].slices) == (0, 1, ())
    assert table.schema.field("uid").type == pa.uint64()
    assert table.schema.field("alignments3D/pose").type == pa.list_(pa.float32(), 3)
    assert table.schema.field("location/micrograph_shape").type == pa.list_(pa.uint32(), 2)
    assert table.schema.field("location/micrograph_path").type == pa.string()
    assert rows_of(table).num_rows == 0
    split(table, np.zeros(0, bool), tmp_path / "out")
    for outcome in ("kept", "rejected"):
        assert (tmp_path / "out" / outcome / path.name).read_bytes() == path.read_bytes()


@pytest.mark.real_data
def test_records_with_the_fields_of_a_real_file(tmp_path, real_data):
    dtype = np.load(real_data / "cryosparc_schema" / "4k_dataset.cs").dtype
    wide = [
        (name, "S40" if dtype[name].kind == "S" else dtype[name].base, dtype[name].shape)
        for name in dtype.names
    ]
    records = particles(500, dtype=wide)
    keep = np.random.default_rng(2).random(500) < 0.6
    table = open_table(save(tmp_path / "particles.cs", records))
    split(table, keep, tmp_path / "out")
    for outcome, mask in (("kept", keep), ("rejected", ~keep)):
        file = tmp_path / "out" / outcome / "particles.cs"
        assert np.load(file, max_header_size=10**6).tobytes() == records[mask].tobytes()
        assert file.read_bytes() == saved(records[mask])


@pytest.mark.parametrize("fields", [400, 3_000])
def test_headers_longer_than_numpy_reads_by_default(tmp_path, fields):
    dtype = [("uid", "<u8"), *[(f"alignments_class_{n}/posterior", "<f4") for n in range(fields)]]
    records = particles(20, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, that a header over 64 KiB needs version 2
        path = save(tmp_path / "a.cs", records)
        expected = saved(records[:5])
    with pytest.raises(ValueError, match="max_header_size"):
        np.load(path)
    table = open_table(path)
    assert rows_of(table, ["uid"]).column("uid").to_pylist() == records["uid"].tolist()
    split(table, np.arange(20) < 5, tmp_path / "out")
    assert (tmp_path / "out" / "kept" / "a.cs").read_bytes() == expected


def test_a_header_from_python_2(tmp_path):
    text = b"{'descr': [('uid', '<u8')], 'fortran_order': False, 'shape': (2L,), }\n"
    path = tmp_path / "old.cs"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16))
    assert open_table(path).rows == 2


def test_a_table_can_be_pickled(tmp_path):
    table = open_table(save(tmp_path / "particles.cs", particles(10)))
    there = pickle.loads(pickle.dumps(table))
    assert there == table
    assert rows_of(there, ["uid"]) == rows_of(table, ["uid"])


def test_different_content_has_a_different_fingerprint(tmp_path):
    records = particles(2_000)
    first = open_table(save(tmp_path / "a.cs", records)).files[0].fingerprint
    records["uid"][-1] += 1
    assert open_table(save(tmp_path / "b.cs", records)).files[0].fingerprint != first


# Refused files.


def header(descr, shape, *, fortran=False, version=(1, 0)):
    text = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode() + b"\n"
    width = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(width, len(text)) + text


class Trap:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def pickled(dtype):
    objects = np.empty(2, dtype)
    objects[:] = Trap() if dtype == "O" else [(1, Trap()), (2, Trap())]
    file = io.BytesIO()
    np.save(file, objects, allow_pickle=True)
    return file.getvalue()


RECORDS = saved(particles(30))
UID = [("uid", "<u8")]
REFUSED = {
    "empty": (b"", "not a CryoSPARC table"),
    "text": (b"data_particles\nloop_\n_rlnCoordinateX\n", "not a CryoSPARC table"),
    "without its header": (RECORDS[-3_000:], "not a CryoSPARC table"),
    "only a magic": (RECORDS[:6], "cut off"),
    "cut in the header": (RECORDS[:300], "cut off or damaged"),
    "cut in the data": (RECORDS[:-1], "cut off or damaged"),
    "a byte too much": (RECORDS + b"\0", "cut off or damaged"),
    "pickled objects": (pickled("O"), "pickled"),
    "a pickled field": (pickled([("uid", "<u8"), ("path", "O")]), "pickled"),
    "a plain array": (saved(np.zeros(5)), "plain array of float64"),
    "a scalar": (saved(np.array(5)), "plain array of int64"),
    "two dimensions": (saved(np.zeros((2, 3), UID)), "shape (2, 3)"),
    "Fortran order": (saved(np.zeros((2, 3), UID, order="F")), "Fortran"),
    "one dimension in Fortran order": (header(UID, (1,), fortran=True) + bytes(8), "Fortran"),
    "rows below 0": (header(UID, (-1,)) + bytes(8), "cut off or damaged"),
    "more rows than memory": (header(UID, (2**60,)) + bytes(8), "cut off or damaged"),
    "no fields": (header([], (3,)), "plain array"),
    "fields of no size": (header([("a", "|S0")], (3,)), "plain array"),
    "a field twice": (header([*UID, *UID], (1,)) + bytes(16), "describes no array"),
    "not a header": (header("<u8", (1,)).replace(b"fortran", b"FORTRAN"), "describes no array"),
    "a header that is code": (header("", ()).replace(b"False", b"exit()"), "describes no array"),
    "a header nested deeply": (
        b"\x93NUMPY\2\0" + struct.pack("<I", 300_000) + b"(" * 300_000,
        "describes no array",
    ),
    "a header of minus signs": (
        b"\x93NUMPY\2\0" + struct.pack("<I", 300_000) + b"-" * 299_999 + b"1",
        "describes no array",
    ),
    "an array of arrays": (header([("a", ("<u4", (4,)), (2,))], (0,)), "describes no array"),
    "a wrong header length": (b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(100), "cut off or damaged"),
    "version 3": (header(UID, (0,), version=(3, 0)), "format 3.0"),
    "version 9": (header(UID, (0,), version=(9, 9)), "format 9.9"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_files_that_are_not_tables_are_refused(tmp_path, content, reason):
    path = tmp_path / "particles.cs"
    path.write_bytes(content)
    text = message(open_table, path)
    assert text.startswith(str(path))
    assert reason in text


def test_damaged_headers_raise_only_input_errors(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "particles.cs"
    length = len(RECORDS) - 30 * np.dtype(PARTICLE).itemsize
    for _ in range(400):
        content = bytearray(RECORDS)
        for offset in rng.integers(6, length, rng.integers(1, 4)):
            content[offset] = (
                rng.integers(256) if rng.random() < 0.5 else ord(rng.choice([*"(),'{"]))
            )
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            open_table(path)


def test_a_file_that_shrinks_during_the_run_is_refused(tmp_path):
    path = save(tmp_path / "particles.cs", particles(1_000))
    table = open_table(path)
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(RunError, match="changed during the run"):
        cs.read(table, table.fragments[0], ["uid"])
    path.unlink()
    assert "cannot be read" in message(cs.read, table, table.fragments[0], ["uid"])


# CSDAT, CryoSPARC's compressed format.


@pytest.fixture
def dataset():
    return pytest.importorskip("cryosparc.dataset")


def save_csdat(path, records, library):
    library.Dataset(records).save(str(path), format=library.CSDAT_FORMAT)
    return path


def plain(records):
    """Drop the field that cryosparc-tools cannot store."""
    return repack_fields(records[[name for name in records.dtype.names if name != "flag"]])


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("share", [0, 0.6, 1])
@pytest.mark.parametrize("rows", [0, 1, 2_000])
def test_csdat_files_are_written_as_csdat(tmp_path, dataset, rows, share):
    records = plain(particles(rows))
    table = open_table(save_csdat(tmp_path / "particles.cs", records, dataset))
    assert (table.rows, len(table.fragments)) == (rows, 1)
    keep = np.random.default_rng(1).random(rows) < share
    split(table, keep, tmp_path / "out")
    for outcome, mask in (("kept", keep), ("rejected", ~keep)):
        file = tmp_path / "out" / outcome / "particles.cs"
        assert file.read_bytes().startswith(b"\x95CSDAT")
        assert open_table(file).rows == mask.sum()
        found = dataset.Dataset.load(str(file))
        assert list(found) == list(records.dtype.names)
        for name in records.dtype.names:
            expected = records[name][mask]
            if expected.dtype.kind == "S":
                assert found[name].tolist() == [text.decode() for text in expected]
            else:
                assert np.asarray(found[name]).tobytes() == expected.tobytes()


def test_csdat_and_numpy_files_give_the_same_columns(tmp_path, dataset):
    records = plain(particles(500))
    mine = open_table(save_csdat(tmp_path / "a.cs", records, dataset))
    other = open_table(save(tmp_path / "b.cs", records))
    assert mine.schema == other.schema
    # As text, because a NaN is not equal to itself.
    assert str(rows_of(mine).to_pydict()) == str(rows_of(other).to_pydict())


def test_csdat_without_compression_and_with_long_texts(tmp_path, dataset):
    records = plain(particles(300))
    data = dataset.Dataset(records)
    data["blob/path"][7] = "µ" * 5_000
    path = tmp_path / "particles.cs"
    path.write_bytes(b"".join(data.stream(compression=None)))
    table = open_table(path)
    texts = rows_of(table, ["blob/path"])["blob/path"].to_pylist()
    assert texts == list(data["blob/path"])
    keep = np.arange(300) % 2 == 1
    split(table, keep, tmp_path / "out")
    kept = dataset.Dataset.load(str(tmp_path / "out" / "kept" / "particles.cs"))
    assert kept["uid"].tolist() == records["uid"][keep].tolist()
    assert kept["blob/path"].tolist() == list(data["blob/path"][keep])


def test_csdat_needs_no_other_library(tmp_path, dataset, monkeypatch):
    path = save_csdat(tmp_path / "particles.cs", plain(particles(30)), dataset)
    monkeypatch.setitem(sys.modules, "cryosparc.dataset", None)
    assert rows_of(open_table(path)).num_rows == 30


def edited(content, **changes):
    """Return a CSDAT file with changed header entries."""
    length = int.from_bytes(content[6:10], "little")
    new = json.dumps({**json.loads(content[10 : 10 + length]), **changes}).encode()
    return content[:6] + struct.pack("<I", len(new)) + new + content[10 + length :]


@pytest.mark.parametrize("compressed", [False, True])
def test_csdat_fields_of_other_kinds_are_carried(tmp_path, compressed):
    """cryosparc-tools cannot write them. A column without bytes may have been compressed to one."""
    columns = {
        "uid": np.arange(4, dtype="<u8"),
        "nothing": np.zeros((4, 0), "<f4"),
        "raw": np.frombuffer(np.random.default_rng(0).bytes(32), "V8"),
    }
    kinds = [["uid", "<u8"], ["nothing", "<f4", [0]], ["raw", "|V8"]]
    header = json.dumps(
        {
            "length": 4,
            "dtype": kinds,
            "compression": "lz4" if compressed else None,
            "compressed_fields": list(columns) if compressed else [],
        }
    ).encode()
    content = b"\x95CSDAT" + struct.pack("<I", len(header)) + header
    for column in columns.values():
        stored = column.tobytes()
        if compressed:
            stored = pa.Codec("lz4_raw").compress(stored, asbytes=True)
        content += struct.pack("<I", len(stored)) + stored
    (tmp_path / "a.cs").write_bytes(content)
    table = open_table(tmp_path / "a.cs")
    assert table.schema.names == ["uid", "raw"]
    raw = [cell.tobytes() for cell in columns["raw"]]
    assert rows_of(table)["raw"].to_pylist() == raw
    split(table, np.array([True, False, True, True]), tmp_path / "out")
    kept = rows_of(open_table(tmp_path / "out" / "kept" / "a.cs"))
    assert kept["uid"].to_pylist() == [0, 2, 3]
    assert kept["raw"].to_pylist() == [raw[0], raw[2], raw[3]]


DAMAGE = {
    "cut in the header": lambda content: content[:50],
    "cut after the magic": lambda content: content[:8],
    "cut in the columns": lambda content: content[:1_500],
    "a wrong header length": lambda content: content[:6] + b"\xff" * 4 + content[10:],
    "no JSON": lambda content: content[:10] + b"x" * (len(content) - 10),
    "more rows": lambda content: edited(content, length=2**40),
    "one row more": lambda content: edited(content, length=301),
    "rows below 0": lambda content: edited(content, length=-1),
    "rows that are no number": lambda content: edited(content, length="300"),
    "no fields": lambda content: edited(content, dtype=[]),
    "no uid": lambda content: edited(content, dtype=[["a", "<u8"]]),
    "fields of no type": lambda content: edited(content, dtype=[["uid", "spam"]]),
    "an array of arrays": lambda content: edited(content, length=0, dtype=[["uid", "4u4", [2]]]),
    "no list of fields": lambda content: edited(content, dtype=7),
    "no list of compressed fields": lambda content: edited(content, compressed_fields=None),
    "uid compressed": lambda content: edited(content, compressed_fields=["uid"]),
    "no column content": lambda content: content[:-4_000] + bytes(4_000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_csdat_is_refused(tmp_path, dataset, damage):
    path = save_csdat(tmp_path / "particles.cs", plain(particles(300)), dataset)
    path.write_bytes(damage(path.read_bytes()))
    assert message(lambda: rows_of(open_table(path))).startswith(str(path))


def test_damaged_csdat_raises_only_input_errors(tmp_path, dataset):
    rng = np.random.default_rng(0)
    path = save_csdat(tmp_path / "particles.cs", plain(particles(100)), dataset)
    content = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(content)
        for offset in rng.integers(10, len(content), 3):
            damaged[offset] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            rows_of(open_table(path))


# A whole run.


def test_a_run_decides_as_on_parquet(tmp_path):
    records = plain(particles(400, per_micrograph=50))
    path = save(tmp_path / "particles.cs", records)
    table = open_table(path)
    rows = rows_of(table).cast(table.schema)
    pq.write_table(rows, tmp_path / "particles.parquet")
    params = DedupParams(min_separation=300.0)
    mine = run(path, tmp_path / "cs", params)
    other = run(tmp_path / "particles.parquet", tmp_path / "parquet", params)
    kept = np.load(tmp_path / "cs" / "particles_kept" / "particles.cs")
    expected = pq.read_table(tmp_path / "parquet" / "particles_kept")
    assert 0 < mine.kept == other.kept < 400
    assert kept["uid"].tolist() == expected.column("uid").to_pylist()
    rejected = np.load(tmp_path / "cs" / "particles_rejected" / "particles.cs")
    mask = np.isin(records["uid"], kept["uid"])
    assert kept.tobytes() == records[mask].tobytes()
    assert rejected.tobytes() == records[~mask].tobytes()
