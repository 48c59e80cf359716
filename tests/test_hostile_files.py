"""Hostile files: their content is treated as data, their claims are checked, and memory stays bounded."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged.parquet import with_rows
from tables import Output, assert_same_rows, bits, cryosparc, write_file
from valid_files import STAR, csdat, npy, records

from dask_dedup import report, run
from dask_dedup.errors import InputError, RunError
from dask_dedup.formats import native_format, open_table, read
from dask_dedup.formats.parquet import table as parquet

NASTY = {
    "climbing": "../../../../etc/cron.d/x.mrc",
    "absolute": "/etc/passwd",
    "escape": "mic\x1b[2J\x1b]0;owned\x07.mrc",
    "html": "<script>alert(1)</script><img src=x onerror=alert(2)>.mrc",
    "long": "n" * 10_000 + ".mrc",
    "format": "%s%n{0}{x!r}.mrc",
    "formula": "=cmd|'/c calc'!A1",
    "right-to-left": "mic\u202egpj.mrc",
    "two": "mic\x85\x9b31m\u2028.mrc",
}
#: Names that are a problem for a web page or a figure.
PICTURED = ("html", "long", "nul", "two")
WITH_BREAKS = {**NASTY, "newline": "mic\nrejected: 0\r\n.mrc", "nul": "mic\0.mrc"}


def run_and_check_output(cli, table, folder):
    """Run, check that all printed text is printable, and return the output."""
    outcome = cli("run", table, "--output", folder / "out")
    assert outcome.exit_code == 0, outcome.stderr
    assert cli("verify", folder / "out").exit_code == 0
    for line in (outcome.stdout + outcome.stderr).split("\n"):
        assert line.isprintable(), line
    return folder / "out"


def test_star_preserves_hostile_names(cli, tmp_path):
    rows = []
    for text in map(str.encode, NASTY.values()):
        quote = b'"' if b"'" in text else b"'"
        rows.append(b"50 50 0.1 " + quote + text + quote + b" 1\n")
    best = [row.replace(b"0.1", b"0.2") for row in rows]
    path = tmp_path / "picks.star"
    path.write_bytes(STAR + b"".join(rows + best))
    out = run_and_check_output(cli, path, tmp_path)
    rejected = (out / "particles_rejected" / "picks.star").read_bytes()
    kept = (out / "particles_kept" / "picks.star").read_bytes()
    assert [rejected.count(row) for row in rows] == [1] * len(rows)
    assert [kept.count(row) for row in best] == [1] * len(rows)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "picks.star"]


@pytest.mark.parametrize("names", [["newline"], ["nul"], [*WITH_BREAKS]], ids=len)
def test_parquet_preserves_hostile_names(cli, tmp_path, names):
    paths = pa.array([WITH_BREAKS[name] for name in names] * 15 + ["a.mrc"] * 15)
    table = cryosparc(len(paths), drop=["location/micrograph_uid", "location/micrograph_path"])
    table = table.append_column("location/micrograph_path", paths)
    path = write_file(table, tmp_path / "picks.parquet")
    output = Output(run_and_check_output(cli, path, tmp_path))
    both = pa.concat_tables([output.kept, output.rejected]).sort_by("uid")
    assert_same_rows(both.combine_chunks(), pq.read_table(path).sort_by("uid").combine_chunks())


def test_a_report_shows_hostile_names_as_text(tmp_path):
    names = [WITH_BREAKS[name] for name in PICTURED]
    table = cryosparc(60, drop=["location/micrograph_uid", "location/micrograph_path"])
    table = table.append_column("location/micrograph_path", pa.array(names * 15))
    run(write_file(table, tmp_path / "picks.parquet"), tmp_path / "out")
    page = report(tmp_path / "out", plot_micrographs=names).read_text()
    plots = [path.name for path in (tmp_path / "out" / "plots").iterdir()]
    assert sum(re.fullmatch(r"micrograph-\d+\.svg", name) is not None for name in plots) == len(
        names
    )
    assert "mic" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page


@pytest.mark.parametrize("form", [npy, csdat])
def test_cs_preserves_bytes_that_are_not_text(cli, tmp_path, form):
    made = records(location__micrograph_path=[b"\xff\xfe\x1b[2J"] * 6)
    (tmp_path / "picks.cs").write_bytes(form(made))
    before = read(
        open_table(tmp_path / "picks.cs"),
        open_table(tmp_path / "picks.cs").fragments[0],
        ["location/micrograph_path"],
    )
    out = run_and_check_output(cli, tmp_path / "picks.cs", tmp_path)
    for name in ("particles_kept", "particles_rejected"):
        content = (out / name / "picks.cs").read_bytes()
        assert b"\xff\xfe\x1b[2J" in content or not open_table(out / name / "picks.cs").rows
    assert before.column(0)[0].as_py() == "\\xff\\xfe\x1b[2J"


def test_control_characters_in_a_file_name_are_escaped(cli, tmp_path):
    path = write_file(cryosparc(30), tmp_path / "picks\x1b[2J\n.parquet")
    outcome = cli("run", path, "--output", tmp_path / "out\x07")
    assert outcome.exit_code == 0
    assert "picks\\x1b[2J\\n.parquet" in outcome.stdout
    for line in (outcome.stdout + outcome.stderr).split("\n"):
        assert line.isprintable()


# Problems that fuzzing found in the STAR reader.


def split_again(path, folder):
    """Split every second row of a table from the others; return the bytes of both parts."""
    table = open_table(path)
    (fragment,) = table.fragments
    keep = np.arange(fragment.rows) % 2 == 0
    native_format(table).split(table, fragment, keep, folder / "k", folder / "r")
    return (folder / "k").read_bytes(), (folder / "r").read_bytes()


def test_a_first_row_that_begins_like_a_label_is_a_row(tmp_path):
    labels = b"data_particles\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n"
    path = tmp_path / "picks.star"
    path.write_bytes(labels + b"_mic 1 2\na.mrc 1 2\n")
    assert open_table(path).rows == 2
    assert split_again(path, tmp_path) == (b"_mic 1 2\n", b"a.mrc 1 2\n")


def test_a_control_character_before_a_label_is_white_space(tmp_path):
    path = tmp_path / "picks.star"
    path.write_bytes(STAR.replace(b"_rlnCoordinateY", b"\x05_rlnCoordinateY"))
    assert "rlnCoordinateY" in open_table(path).schema.names


# Problems that fuzzing found in the Parquet reader.


def parquet_bytes(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_text_stored_as_differences_is_read(tmp_path):
    table = cryosparc(30)
    encoding = {"location/micrograph_path": "DELTA_BYTE_ARRAY"}
    path = write_file(
        table, tmp_path / "picks.parquet", use_dictionary=False, column_encoding=encoding
    )
    opened = open_table(path)
    names = read(opened, opened.fragments[0], ["location/micrograph_path"]).column(0)
    assert pa.types.is_dictionary(names.type)
    assert bits(names) == bits(table["location/micrograph_path"])


def test_a_column_name_that_is_not_text_is_refused(tmp_path):
    content = parquet_bytes(pa.table({"uid": [1], "note": [2]}), store_schema=False)
    (tmp_path / "a.parquet").write_bytes(content.replace(b"note", b"n\xff\xfee"))
    with pytest.raises(InputError, match="not a readable Parquet file"):
        open_table(tmp_path / "a.parquet")


def test_text_that_is_not_utf8_is_refused_before_it_is_used(tmp_path):
    content = parquet_bytes(pa.table({"name": ["mic-a", "mic-b"]}), compression="none")
    (tmp_path / "a.parquet").write_bytes(content.replace(b"mic-b", b"mic\xff\xfe"))
    table = open_table(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="cannot be read from row 0 on"):
        read(table, table.fragments[0], ["name"])


def test_a_row_group_with_fewer_rows_than_the_footer_claims_is_refused(tmp_path):
    content = parquet_bytes(
        pa.table({"uid": pa.array([1], pa.uint64())}),
        use_dictionary=False,
        compression="none",
        write_statistics=False,
    )
    (tmp_path / "a.parquet").write_bytes(with_rows(content, 1000))
    table = open_table(tmp_path / "a.parquet")
    assert table.rows == 1000
    with pytest.raises(InputError, match=r"a\.parquet"):
        read(table, table.fragments[0], ["uid"])


def test_row_groups_that_are_tiny_on_disk_are_split_by_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 2**16)
    same = pa.table({"uid": np.zeros(200_000, np.uint64), "x": np.zeros(200_000)})
    path = write_file(same, tmp_path / "a.parquet", row_group_size=1_000)
    assert path.stat().st_size < 2**17
    table = open_table(path)
    assert len(table.fragments) == 50
    assert max(fragment.rows for fragment in table.fragments) * 16 <= 2**16


# Memory.


@pytest.fixture(autouse=True)
def _needs_proc(request):
    if "no_memory" in request.node.name and not Path("/proc/self/status").exists():
        pytest.skip("this system has no /proc/self/status to read peak memory from")


def peak_of_a_refusal(path, *arguments):
    """Run the command line in a new process; return its message and its peak memory in MiB."""
    code = (
        "import re, sys; from pathlib import Path; from dask_dedup.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code)\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())\n"
        "print(int(peak[1]) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", path, "--output", path.parent / "out", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    status, peak = done.stdout.split()
    assert status == "2", done.stderr
    (line,) = done.stderr.splitlines()
    return line, int(peak)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "number"), [(STAR, 22), (b"", 1)], ids=["row", "first"])
def test_an_endless_line_takes_no_memory(tmp_path, before, number):
    small, large = tmp_path / "small.star", tmp_path / "large.star"
    small.write_bytes(b"Dear colleague,\n")
    with large.open("wb") as file:
        file.write(before)
        for _ in range(150):
            file.write(b"x" * 2**20)
    _, base = peak_of_a_refusal(small)
    line, peak = peak_of_a_refusal(large)
    large.unlink()
    assert f"line {number}: longer than" in line
    assert peak < base + 80


def test_a_claim_of_billions_of_rows_takes_no_memory(tmp_path):
    content = parquet_bytes(
        cryosparc(1).select(["uid"]),
        use_dictionary=False,
        compression="none",
        write_statistics=False,
    )
    path = tmp_path / "a.parquet"
    path.write_bytes(with_rows(content, 2**40))
    _, peak = peak_of_a_refusal(path)
    assert peak < 300


def test_a_parquet_file_that_shrinks_during_the_run_is_refused(tmp_path):
    path = write_file(cryosparc(10_000), tmp_path / "picks.parquet")
    table = open_table(path)
    read(table, table.fragments[0], ["uid"])  # so that the footer is known
    size, stamp = path.stat().st_size, path.stat().st_mtime_ns
    with path.open("rb+") as file:
        file.truncate(4096)
        file.truncate(size)
    os.utime(path, ns=(stamp, stamp))
    with pytest.raises(InputError, match="cannot be read from row 0 on"):
        read(table, table.fragments[0], table.schema.names)
    os.truncate(path, 4096)
    with pytest.raises(InputError, match=r"picks\.parquet"):
        read(table, table.fragments[0], table.schema.names)


def test_a_cs_file_that_shrinks_during_the_run_is_refused(tmp_path):
    path = tmp_path / "picks.cs"
    path.write_bytes(npy(records(1000)))
    table = open_table(path)
    os.truncate(path, 300)
    with pytest.raises(RunError, match="changed during the run"):
        read(table, table.fragments[0], ["uid"])
