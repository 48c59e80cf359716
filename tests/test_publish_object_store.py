"""Publish runs from, to and within an object store."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from uuid import uuid4

import pytest
from lake import arrow_sums, finished_run, grouped, in_folders, kept_uids, same, truth
from ports import free_port
from tables import Output

import dask_dedup
from dask_dedup.results.publish import publish
from dask_dedup.storage.credentials import delta_options
from dask_dedup.storage.paths import at

pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A local S3 server in another process, because deltalake waits for it while it holds the GIL."""
    port = free_port()
    log = (tmp_path_factory.mktemp("store") / "log").open("wb")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 60).close()
            break
        except OSError:
            assert process.poll() is None, "the store has ended"
            assert time.monotonic() < end, "the store does not answer"
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()
    log.close()


@pytest.fixture
def bucket(store, monkeypatch):
    """An empty bucket."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"lab-{uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def local(tmp_path):
    return finished_run(tmp_path / "s1")


@pytest.fixture
def remote(local, bucket):
    """The same run with its output in the store."""
    inputs = [entry["path"] for entry in Output(local).manifest["inputs"]]
    dask_dedup.run(inputs, f"{bucket}/runs/s1")
    return f"{bucket}/runs/s1"


class TestDelta:
    deltalake = pytest.importorskip("deltalake")

    def read(self, uri):
        from dask_dedup.storage.credentials import delta_options

        options = delta_options(at(uri))
        return self.deltalake.DeltaTable(uri, storage_options=options).to_pyarrow_table()

    def test_within_a_store(self, cli, local, remote, bucket):
        outcome = cli("publish", remote, "--delta", f"{bucket}/lake/kept", "--link")
        assert outcome.exit_code == 0, outcome.stderr
        assert "copied by the store" in outcome.stdout
        found = arrow_sums(self.read(f"{bucket}/lake/kept"))
        expected = truth(local)
        assert {name: found[run, name] for run, name in found}.keys() == {"topaz", "blob"}
        assert sorted(n for n, _ in found.values()) == sorted(n for n, _ in expected.values())
        again = cli("publish", remote, "--delta", f"{bucket}/lake/kept")
        assert "nothing was changed" in again.stdout

    def test_from_a_local_folder_to_a_store(self, local, bucket):
        done = publish(local, delta=f"{bucket}/lake/kept")
        assert (done.placed, done.missing) == ("written", [])
        assert same(arrow_sums(self.read(f"{bucket}/lake/kept")), truth(local))

    def test_from_a_store_to_a_local_folder(self, local, remote, tmp_path):
        done = publish(remote, delta=tmp_path / "lake")
        assert done.placed == "written"
        table = self.deltalake.DeltaTable(str(tmp_path / "lake")).to_pyarrow_table()
        assert table.num_rows == sum(n for n, _ in truth(local).values())

    def test_a_table_in_a_store_is_an_input(self, cli, local, bucket, tmp_path):
        publish(local, delta=f"{bucket}/lake/kept")
        other = finished_run(tmp_path / "s2", seed=2)
        publish(other, delta=f"{bucket}/lake/kept", mode="replace")
        rows = {
            number: sum(n for n, _ in truth(run).values())
            for number, run in enumerate((local, other))
        }
        for suffix, version in (("", 1), ("?version=0", 0), ("?version=1", 1)):
            uri, out = f"{bucket}/lake/kept{suffix}", tmp_path / f"again{suffix}"
            outcome = cli("run", uri, "--output", out, "--no-report")
            assert outcome.exit_code == 0, outcome.stderr
            assert Output(out).manifest["totals"]["rows"] == rows[version]
            assert dask_dedup.verify(out).verified

    def test_missing_files_are_reported(self, cli, local, bucket):
        publish(local, delta=f"{bucket}/lake/kept")
        next(at(f"{bucket}/lake/kept").rglob("*.parquet")).unlink()
        outcome = cli("publish", local, "--delta", f"{bucket}/lake/kept")
        assert f"{bucket}/lake/kept: 1 file of the table is missing" in outcome.stderr

    def test_concurrent_publishers_publish_a_run_once(self, local, bucket, monkeypatch):
        from dask_dedup.results.publish.delta import DeltaLakeTable

        real = DeltaLakeTable.commit

        def second(*args):
            monkeypatch.setattr(DeltaLakeTable, "commit", real)
            assert publish(local, delta=f"{bucket}/lake/kept").changed
            return real(*args)

        monkeypatch.setattr(DeltaLakeTable, "commit", second)
        assert not publish(local, delta=f"{bucket}/lake/kept").changed
        assert same(arrow_sums(self.read(f"{bucket}/lake/kept")), truth(local))
        assert len(list(at(f"{bucket}/lake/kept").rglob("*.parquet"))) == 2


class TestIceberg:
    def test_a_warehouse_in_the_store(self, local, remote, bucket, tmp_path, monkeypatch):
        catalogs = pytest.importorskip("pyiceberg.catalog")
        monkeypatch.setenv("PYICEBERG_HOME", str(tmp_path))
        settings = {
            "type": "sql",
            "uri": f"sqlite:///{tmp_path / 'catalog.db'}",
            "warehouse": f"{bucket}/warehouse",
        }
        lines = [f"    {key}: {value}" for key, value in settings.items()]
        (tmp_path / ".pyiceberg.yaml").write_text("\n".join(["catalog:", "  lab:", *lines]))
        linked = publish(remote, iceberg=("lab", "em.kept"), link=True)
        assert linked.placed == "copied by the store"
        assert publish(remote, iceberg=("lab", "em.other")).placed == "written"
        # The run is the same for every output folder.
        assert not publish(local, iceberg=("lab", "em.kept")).changed
        from dask_dedup.storage.credentials import iceberg_options

        options = iceberg_options(at(bucket))
        catalog = catalogs.load_catalog("lab", **settings, **options)
        found = [catalog.load_table(f"em.{name}").scan().to_arrow() for name in ("kept", "other")]
        catalog.close()
        for rows in found:
            assert same(arrow_sums(rows), truth(local))


@pytest.mark.parametrize("link", [False, True])
def test_partition_folders_become_partition_columns(tmp_path, bucket, link):
    deltalake = pytest.importorskip("deltalake")
    out = in_folders(tmp_path, {"a%20b": 1, "c": 2})
    publish(out, delta=f"{bucket}/lake", link=link)
    again = in_folders(tmp_path / "again", {"a%20b": 1}, separation=100.0)
    publish(again, delta=f"{bucket}/lake", link=link, mode="replace-tagged")
    done = publish(again, delta=f"{bucket}/lake", link=link)
    assert not done.changed
    assert done.missing == []
    options = delta_options(at(f"{bucket}/lake"))
    table = deltalake.DeltaTable(f"{bucket}/lake", storage_options=options).to_pyarrow_table()
    found = grouped(zip(table["session"].to_pylist(), table["uid"].to_pylist(), strict=True))
    expected = kept_uids(out) | kept_uids(again)
    assert found == {"a b": expected["a%20b"], "c": expected["c"]}
