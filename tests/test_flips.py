"""verify finds one flipped bit in a result or its inputs; a checkpoint with one is not used."""

from __future__ import annotations

import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import cryosparc, relion, write_file
from test_csg import members, write_group
from test_output import data
from test_resume import fail_writing, write_cs, write_star, written

from dask_dedup import InputError, run, verify
from dask_dedup.formats.parquet import table as parquet

pytestmark = pytest.mark.slow

FLIPS = 12


def flips(path, number=FLIPS):
    """Flip one bit of a file at a time, as a failing disk does: in the first byte, the last and some between."""
    content, state = path.read_bytes(), path.stat()
    chance = random.Random(path.name)
    offsets = [0, len(content) - 1, *(chance.randrange(len(content)) for _ in range(number - 2))]
    for offset in offsets:
        damaged = bytearray(content)
        damaged[offset] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        yield offset
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.fixture(params=["parquet", "star", "cs", "csg"])
def result(request, tmp_path):
    """A finished run on an input of each kind, and the files of the input."""
    kind = request.param
    if kind == "parquet":
        source = write_file(cryosparc(300), tmp_path / "in.parquet")
    elif kind == "star":
        source = write_star(relion(300), tmp_path / "in.star")
    elif kind == "cs":
        source = write_cs(300, tmp_path / "in.cs")
    else:
        source = write_group(tmp_path / "in", *members(300))
    run(source, tmp_path / "out")
    assert verify(tmp_path / "out").verified
    inputs = [source] if source.parent == tmp_path else [*source.parent.iterdir()]
    return tmp_path / "out", inputs


def rows_of(path):
    """Return the content of the rows of a file; of Parquet, without metadata of pages and columns."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    sink = pa.BufferOutputStream()
    rows = pq.read_table(path)
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def is_found(out):
    try:
        return not verify(out).verified
    except InputError:
        return True  # the manifest is no longer one


def test_a_bit_in_a_file_of_the_result(result):
    out, _ = result
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= {"particles_kept", "duplicates", "out"}
    for path in files:
        for offset in flips(path):
            assert is_found(out), (path, offset)
    assert verify(out).verified


def test_a_bit_in_a_file_of_the_inputs(result):
    out, inputs = result
    for path in inputs:
        whole = rows_of(path)
        found = 0
        for offset in flips(path):
            if is_found(out):
                found += 1
            else:
                assert rows_of(path) == whole, (path, offset)
        assert found > FLIPS / 2


def test_a_bit_anywhere_in_the_manifest(tmp_path):
    """Also in values that no other check reads: times, warnings, versions."""
    out = tmp_path / "out"
    run(write_file(cryosparc(60), tmp_path / "in.parquet"), out)
    for offset in flips(out / "manifest.json", 150):
        assert is_found(out), offset
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"created": "2', '"created": "1'))
    (checksums,) = (check for check in verify(out).checks if check.passed is False)
    assert checksums.detail == f"{out / 'manifest.json'} has changed (its checksum differs)"


def test_a_bit_in_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    source = write_file(cryosparc(200), tmp_path / "in.parquet", row_group_size=20)
    run(source, tmp_path / "whole")
    for number in range(8):
        out = tmp_path / f"out-{number}"
        fail_writing(monkeypatch, source, out, after=5)
        checkpoints = sorted(out.glob(".dask-dedup-*/checkpoints/*"))
        flipping = flips(checkpoints[0], number + 3)
        for _ in range(number + 1):
            next(flipping)
        with monkeypatch.context() as patch:
            numbers = written(patch)
            run(source, out)
        assert len(numbers) == 10 - len(checkpoints) + 1
        assert data(out) == data(tmp_path / "whole")
