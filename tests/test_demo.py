"""The demo: one job in one process and on a cluster, with the same bytes."""

from __future__ import annotations

import json
import re

import pytest
from tables import cryosparc, write_file
from test_output import data

from dask_dedup import run
from dask_dedup.results import compare


@pytest.mark.slow
def test_the_demo_writes_the_same_bytes_twice_and_verifies_them(cli, tmp_path):
    out = tmp_path / "demo"
    outcome = cli("demo", "--output", out, "--particles", 700)
    assert outcome.exit_code == 0, outcome.stderr
    assert data(out / "result") == data(out / "result_of_cluster")
    assert "identical byte for byte: 12 files" in outcome.stdout
    votes = json.loads((out / "result" / "manifest.json").read_text())["totals"]["votes"]
    assert len(votes["pickers"]) == 3
    for entry in votes["by_pickers"]:
        number, kept = entry["representatives"], entry["kept"]
        row = [" + ".join(entry["pickers"]), f"{number:,}", f"{kept:,}", f"{number - kept:,}"]
        assert row in [re.split(r" {2,}", line) for line in outcome.stdout.splitlines()]
    assert "live page: http://127.0.0.1:" in outcome.stdout
    assert f"{out / 'result'} is verified" in outcome.stdout
    assert outcome.stdout.splitlines()[-1] == f"report: {out / 'result' / 'report.html'}"
    assert cli("demo", "--output", out, "--particles", 700).exit_code == 2


@pytest.mark.slow
def test_a_demo_whose_results_differ_fails(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(
        compare, "compare_results", lambda *_: compare.Comparison(6, 1, ["duplicates/a"])
    )
    outcome = cli("demo", "--output", tmp_path / "demo", "--particles", 700)
    assert outcome.exit_code == 1
    assert outcome.stderr.splitlines()[-1] == ("dask-dedup: the results differ in duplicates/a")


def test_results_are_compared_byte_by_byte(tmp_path):
    picks_file = write_file(cryosparc(300), tmp_path / "in.parquet")
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        run(picks_file, folder)
    assert str(compare.compare_results(one, other)).startswith("identical byte for byte: 3 files, ")
    changed = next((other / "particles_kept").rglob("*.parquet"))
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    name = str(changed.relative_to(other))
    assert compare.compare_results(one, other).differing == [name]
    assert str(compare.compare_results(one, other)) == f"the results differ in {name}"
