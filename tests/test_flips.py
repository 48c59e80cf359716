"""One flipped bit in any file of a result, or in a row of its inputs, is found; a receipt with one is not believed."""

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

FLIPS = 12


def flips(path, number=FLIPS):
    """Flip a bit of a file, its first, its last and some in between, as an old disk does; put it back each time."""
    content, state = path.read_bytes(), path.stat()
    chance = random.Random(path.name)
    places = [0, len(content) - 1, *(chance.randrange(len(content)) for _ in range(number - 2))]
    for place in places:
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << chance.randrange(8)
        path.write_bytes(spoilt)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        yield place
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.fixture(params=["parquet", "star", "cs", "csg"])
def result(request, tmp_path):
    """A finished run of an input of each kind, and the input's files."""
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
    """Give what of a file are its rows: of Parquet, not what its pages and columns say of themselves."""
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


def test_in_a_file_of_the_result(result):
    out, _ = result
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= {"particles_kept", "duplicates", "out"}
    for path in files:
        for place in flips(path):
            assert is_found(out), (path, place)
    assert verify(out).verified


def test_in_a_file_of_the_inputs(result):
    out, inputs = result
    for path in inputs:
        whole = rows_of(path)
        found = 0
        for place in flips(path):
            if is_found(out):
                found += 1
            else:
                assert rows_of(path) == whole, (path, place)
        assert found > FLIPS / 2


def test_in_the_manifest_whatever_it_says(tmp_path):
    """Also what no other check looks at: times, warnings, versions."""
    out = tmp_path / "out"
    run(write_file(cryosparc(60), tmp_path / "in.parquet"), out)
    for place in flips(out / "manifest.json", 150):
        assert is_found(out), place
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"created": "2', '"created": "1'))
    (checksums,) = (check for check in verify(out).checks if check.passed is False)
    assert checksums.detail == f"{out / 'manifest.json'} has changed (its checksum differs)"


def test_in_a_receipt(tmp_path, monkeypatch):
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
