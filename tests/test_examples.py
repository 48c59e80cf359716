"""The examples run as scripts."""

from __future__ import annotations

import runpy
import subprocess
import sys

import pytest
import yaml
from conftest import REPOSITORY

from dask_dedup import verify

pytestmark = pytest.mark.slow


def script(name, *arguments, **options):
    path = REPOSITORY / "examples" / f"{name}.py"
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, **options)


@pytest.fixture
def printed(monkeypatch, capsys):
    """Run an example in this process, and return what it prints."""

    def call(name, *arguments):
        path = str(REPOSITORY / "examples" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return call


def test_undo_symmetry_expansion(tmp_path, printed):
    shown = printed("undo_symmetry_expansion", "--output", tmp_path, "--particles", 600)
    assert "each particle is kept exactly once" in shown
    report = verify(tmp_path / "result")
    assert report.passed, report.lines()


@pytest.mark.slow
def test_dask_dataframe(tmp_path, two_workers):
    address = two_workers.scheduler.address
    outcomes = [
        script("dask_dataframe", "--output", tmp_path / name, "--particles", 3_000, *where)
        for name, where in (("here", ()), ("there", ("--scheduler", address)))
    ]
    for outcome in outcomes:
        assert outcome.returncode == 0, outcome.stderr
    here, there = (outcome.stdout for outcome in outcomes)
    assert here == there
    rows, kept, rejected = (
        int(word.replace(",", "")) for word in here.splitlines()[0].split() if word[0].isdigit()
    )
    assert rows == kept + rejected
    assert 0 < rejected < kept


@pytest.mark.parametrize("name", ["relion_round_trip", "cryosparc_round_trip"])
def test_a_round_trip_changes_no_row(tmp_path, name, printed):
    shown = printed(name, "--output", tmp_path, "--particles", 300)
    assert shown.count("kept") == 2
    assert "SOME CHANGED" not in shown
    assert verify(tmp_path / "result").verified


def test_an_example_that_fails_prints_one_line(tmp_path):
    (tmp_path / "picks" / "blob").mkdir(parents=True)
    outcome = script("relion_round_trip", "--output", tmp_path)
    assert outcome.returncode == 1
    (line,) = outcome.stderr.splitlines()
    assert "exists" in line


@pytest.mark.slow
def test_object_store(store):
    from object_stores import BUCKET

    outcome = script("object_store", "--bucket", BUCKET, "--particles", 600, env=store.around())
    assert outcome.returncode == 0, outcome.stderr
    first, verified, last = outcome.stdout.splitlines()
    assert verified == f"s3://{BUCKET}/dask-dedup-example/result is verified"
    assert first.split()[2] == last.split()[0]
    outcome = script("object_store", "--bucket", "no-such-bucket", env=store.around())
    assert outcome.returncode == 1
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
def test_lake(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    deltalake = pytest.importorskip("deltalake")
    outcome = script("lake", "--output", tmp_path, "--particles", 600, "--days", 4)
    assert outcome.returncode == 0, outcome.stderr
    printed = outcome.stdout
    assert printed.count("particles kept") == 4
    # Only the micrograph that was imported twice on day 4.
    suspicious = printed.split("within 2 A of each other?")[1].split("How many particles")[0]
    assert [line.split()[1] for line in suspicious.splitlines() if "2024" in line] == ["2024-03-07"]
    drift = printed.split("drift over the week?")[1].split("Which micrographs")[0]
    scores = [float(line.split()[3]) for line in drift.splitlines() if "2024" in line]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert "which was kept" in printed
    # The queries also run as one file, and on the plain files without a Delta library.
    with duckdb.connect() as connection:
        for table in ("kept", "rejected", "duplicates"):
            files = tmp_path / "lake" / table / "**" / "*.parquet"
            scan = f"read_parquet('{files}', hive_partitioning = true)"
            connection.sql(f"create view {table} as select * from {scan}")
            rows = connection.sql(f"select count(*) from {table}").fetchall()[0][0]
            assert rows == deltalake.DeltaTable(str(tmp_path / "lake" / table)).count()
        connection.execute((REPOSITORY / "examples" / "lake.sql").read_text())


def test_the_kubernetes_cluster_is_like_that_of_dask_kubernetes(printed):
    """Offline: the ports, names, service and selectors that the operator needs."""
    kubecluster = pytest.importorskip("dask_kubernetes.operator")
    image = "registry.example.org/dask-dedup:1"
    shown = printed(
        "kubernetes",
        "s3://a/b",
        "--output",
        "s3://a/c",
        "--image",
        image,
        "--workers",
        3,
        "--print",
    )
    ours = yaml.safe_load(shown)
    theirs = kubecluster.make_cluster_spec("dask-dedup", image=image, n_workers=3)
    assert (ours["apiVersion"], ours["kind"]) == (theirs["apiVersion"], theirs["kind"])
    assert ours["metadata"]["name"] == theirs["metadata"]["name"]
    assert ours["spec"]["worker"]["replicas"] == theirs["spec"]["worker"]["replicas"] == 3

    def ports(found):
        return {port["name"]: port["containerPort"] for port in found["ports"]}

    for role in ("scheduler", "worker"):
        (mine,), (its,) = (spec["spec"][role]["spec"]["containers"] for spec in (ours, theirs))
        assert mine["name"] == its["name"]
        assert mine["image"] == its["image"] == image
        assert ports(its).items() <= ports(mine).items()
        if "livenessProbe" in its:
            assert mine["livenessProbe"]["httpGet"] == its["livenessProbe"]["httpGet"]
            assert mine["readinessProbe"]["httpGet"] == its["readinessProbe"]["httpGet"]
    mine, its = (spec["spec"]["scheduler"]["service"] for spec in (ours, theirs))
    assert (mine["type"], mine["selector"]) == (its["type"], its["selector"])
    assert [port | {"protocol": "TCP"} for port in mine["ports"]] == its["ports"]
    # The operator finds the worker to retire by this name.
    arguments = ours["spec"]["worker"]["spec"]["containers"][0]["args"]
    assert "--name=$(DASK_WORKER_NAME)" in arguments


def test_every_example_is_in_the_list():
    folder = REPOSITORY / "examples"
    text = (folder / "README.md").read_text()
    files = {file.name for file in folder.iterdir() if file.suffix in (".py", ".sh", ".ipynb")}
    assert {name for name in files if text.count(f"\n| [{name}]({name}) |") != 1} == set()
