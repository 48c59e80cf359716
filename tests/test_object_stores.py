"""Tables and results in an object store: the same bytes as on a local disk, complete or not committed."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from object_stores import BUCKET, KEY, LOST, SECRET, Proxy
from ports import free_port
from tables import contents, cryosparc, exposures, relion, write_file, write_folder, write_hive
from test_cs import particles, plain
from test_csg import GROUP, write_group
from test_output import Crash, crashing
from test_resume import write_cs, write_star, written

from dask_dedup import DedupParams, InputError, RunError, run, verify
from dask_dedup.errors import OutputExistsError
from dask_dedup.formats.cryosparc import cs
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.star import lines as star_lines
from dask_dedup.inspection import inspect
from dask_dedup.output.object_store import ObjectStore
from dask_dedup.pipeline import stages
from dask_dedup.results.status import clean, status
from dask_dedup.storage import protocols
from dask_dedup.storage.paths import at

pytestmark = pytest.mark.slow

DATASETS = ("particles_kept", "particles_rejected")
TABLES = (*DATASETS, "duplicates")
#: Most seconds that a fault may take.
SOON = 60


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch, store):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 8_000)
    monkeypatch.setattr(cs, "FRAGMENT_BYTES", 2_000)


@pytest.fixture
def impatient(monkeypatch):
    """Give up on a lost server after about a second."""
    config = {"retries": {"mode": "standard", "max_attempts": 2}, "connect_timeout": 5}
    monkeypatch.setattr(protocols, "S3_CONFIG", config)


@pytest.fixture
def table(tmp_path):
    """A folder of four files; micrographs span several of them."""
    rows = cryosparc(120, seed=3).take(np.random.default_rng(0).permutation(120))
    return write_folder(rows, tmp_path / "in", files=4)


def make_tables(kind, folder):
    """Write a table of several fragments; return it and the options of its run."""
    if kind == "file":
        return write_file(cryosparc(), folder / "in.parquet", row_group_size=40), {}
    if kind == "folder":
        return write_folder(cryosparc(), folder / "in"), {}
    if kind == "hive":
        return write_hive(cryosparc(), folder / "in", "location/micrograph_path"), {}
    if kind == "star":
        return write_star(relion(200), folder / "in.star"), {}
    if kind == "micrographs":
        table = write_file(cryosparc(drop=["location/micrograph_psize_A"]), folder / "in.parquet")
        return table, {"micrographs": write_file(exposures(), folder / "mics.parquet")}
    if kind == "cs":
        return write_cs(120, folder / "in.cs"), {}
    return make_group(folder / "J1", backwards=kind == "csg reversed"), {
        "params": DedupParams(min_separation=300.0)
    }


def make_group(folder, *, backwards):
    """Write a group of two files, the rows of the second in the order of the first or reversed."""
    rows = plain(particles(120, seed=1, per_micrograph=50))
    two = [
        np.array([tuple(row) for row in rows[names]], [(name, rows.dtype[name]) for name in names])
        for names in (
            ["uid", "pick_stats/ncc_score"],
            ["uid", *(name for name in rows.dtype.names if name.startswith("loc"))],
        )
    ]
    text = GROUP.replace('passthrough_particles.cs", num', 'particles.cs", num')
    return write_group(folder, two[0], two[1][::-1] if backwards else two[1], text)


def result(there, name="out"):
    """Return every data file of a result, by table and name; all must be of one run."""
    files, tokens = {}, set()
    for dataset in TABLES:
        for path, content in there.contents(f"{name}/{dataset}").items():
            token, _, file = path.partition("/")
            tokens.add(token)
            files[f"{dataset}/{file}"] = content
    assert len(tokens) <= 1
    return files


def duplicates(files):
    """Return the rows of ``duplicates`` without the paths of the inputs."""
    parts = [
        pq.read_table(io.BytesIO(content))
        for name, content in sorted(files.items())
        if name.startswith("duplicates/")
    ]
    return [
        part.drop_columns(["input", "winner_input", "file", "winner_file"]).to_pydict()
        for part in parts
    ]


def data(files):
    return {name: content for name, content in files.items() if name.startswith(DATASETS)}


def listed(there, name="out"):
    """Check that a folder holds the files in its manifest and no others; return the manifest."""
    manifest = json.loads(there.read(f"{name}/manifest.json"))
    assert there.names(name) == sorted(
        ["manifest.json", *(entry["path"] for entry in manifest["outputs"])]
    )
    assert there.uploads() == []
    return manifest


def no_change(there, name="out"):
    answer = there.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{there.name}/{name}/")
    return [(entry["Key"], entry["ETag"], entry["LastModified"]) for entry in answer["Contents"]]


def refused(outcome, code=2):
    """Check that a command ended with one clear line; return the line."""
    assert outcome.exit_code == code, outcome.stderr
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("dask-dedup: ")]
    assert len(lines) == 1
    assert "Traceback" not in outcome.stderr
    assert SECRET not in outcome.stderr + outcome.stdout
    return lines[0]


@contextmanager
def behind_proxy(monkeypatch, store, fault, **options):
    with Proxy(store, fault, **options) as proxy:
        proxy.front.use(monkeypatch)
        yield proxy
    store.use(monkeypatch)


class TestSameBytes:
    @pytest.mark.parametrize(
        "kind",
        [
            "hive",
            "star",
            *(
                pytest.param(kind, marks=pytest.mark.slow)
                for kind in ("cs", "csg", "file", "folder", "csg reversed", "micrographs")
            ),
        ],
    )
    def test_data_files_are_identical(self, there, tmp_path, kind):
        source, options = make_tables(kind, tmp_path)
        here = run(source, tmp_path / "out", **options)
        uri = there.put(source.parent if kind.startswith("csg") else source, "in" + source.suffix)
        if kind.startswith("csg"):
            uri = f"{uri}/{source.name}"
        if "micrographs" in options:
            options = {"micrographs": there.put(options["micrographs"])}
        result_there = run(uri, there / "out", **options)
        local = {f"{d}/{n}": c for d in TABLES for n, c in contents(tmp_path / "out" / d).items()}
        remote = result(there)
        assert data(remote) == data(local)
        assert duplicates(remote) == duplicates(local)
        assert len(duplicates(remote)) == here.manifest["plan"]["fragments"]
        assert result_there.kept == here.kept
        listed(there)
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_workers_receive_the_endpoint(self, there, table, tmp_path, cluster):
        """The workers have credentials in their environment, but no endpoint."""
        own = {n: v for n, v in there.store.environment.items() if n != "AWS_ENDPOINT_URL"}

        def know(own, *, forget):
            os.environ.pop("AWS_ENDPOINT_URL", None)
            for name, value in own.items():
                os.environ.pop(name, None) if forget else os.environ.update({name: value})

        run(table, tmp_path / "out")
        cluster.run(know, own, forget=False)
        try:
            run(there.put(table), there / "out", client=cluster)
        finally:
            cluster.run(know, own, forget=True)
        local = {f"{d}/{n}": c for d in TABLES for n, c in contents(tmp_path / "out" / d).items()}
        assert data(result(there)) == data(local)
        listed(there)
        assert cluster.run(lambda: os.environ.get("AWS_ENDPOINT_URL")) == dict.fromkeys(
            cluster.scheduler_info()["workers"]
        )

    @pytest.mark.slow
    def test_every_command_accepts_uris(self, there, table, cli):
        uri, out = there.put(table), there / "out"
        outcome = cli("run", uri, "--output", out, "--verify", no_report=False)
        assert outcome.exit_code == 0, outcome.stderr
        assert f"{out} is verified" in outcome.stdout
        assert f"report: {out}/report.html" in outcome.stdout
        assert "plots/scores-1.svg" in there.names("out")
        assert f"{out}: finished " in cli("status", out).stdout
        assert cli("verify", out).exit_code == 0
        assert cli("report", out).stdout == f"report: {out}/report.html\n"
        assert cli("clean", out).stdout == f"{out}: nothing to remove\n"
        assert re.search("120 on 4 micrographs, 4 files", cli("inspect", uri).stdout)

    @pytest.mark.slow
    def test_local_and_remote_may_be_mixed(self, there, table, tmp_path):
        run(table, there / "out")
        run(there.put(table), tmp_path / "out")
        assert verify(there / "out").verified
        assert verify(tmp_path / "out").verified
        local = {f"{d}/{n}": c for d in TABLES for n, c in contents(tmp_path / "out" / d).items()}
        assert data(result(there)) == data(local)

    def test_the_listed_files_can_be_read_without_others(self, there, table):
        uri = there.put(table)
        outcome = run(uri, there / "out")
        there.write("out/particles_kept/0123456789ab/part-00000.parquet", b"of an interrupted run")
        path = at(there / "out")
        manifest = json.loads((path / "manifest.json").read_text())
        files = [
            str(path / entry["path"]).removeprefix("s3://")
            for entry in manifest["outputs"]
            if entry["path"].startswith("particles_kept/")
        ]
        assert pq.read_table(files, filesystem=path.fs).num_rows == outcome.kept


class TestCommit:
    def test_the_same_command_twice_changes_nothing(self, there, table, cli):
        uri, out = there.put(table), there / "out"
        assert cli("run", uri, "-o", out).exit_code == 0
        before = no_change(there)
        outcome = cli("run", uri, "-o", out)
        assert outcome.exit_code == 0
        assert "already holds this run" in outcome.stderr
        assert no_change(there) == before

    def test_another_run_is_refused(self, there, table, cli):
        uri, out = there.put(table), there / "out"
        run(uri, out)
        before = no_change(there)
        line = refused(cli("run", uri, "-o", out, "--min-separation", "40"))
        assert "holds another run" in line
        assert no_change(there) == before

    def test_a_folder_with_other_files_is_refused(self, there, table, cli):
        uri = there.put(table)
        there.write("out/notes.txt", b"mine")
        assert "not empty" in refused(cli("run", uri, "-o", there / "out"))
        assert "it is a file" in refused(cli("run", uri, "-o", there / "out/notes.txt"))
        assert there.names("out") == ["notes.txt"]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "kind",
        ["folder", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("star", "csg"))],
    )
    def test_an_interrupted_run_is_resumed(self, there, tmp_path, monkeypatch, caplog, kind):
        source, options = make_tables(kind, tmp_path)
        uri = there.put(source.parent if kind == "csg" else source, "in" + source.suffix)
        uri = f"{uri}/{source.name}" if kind == "csg" else uri
        run(uri, there / "whole", **options)
        with monkeypatch.context() as patch:
            crashing(patch, stages, "write_fragment", call=3)
            with pytest.raises(Crash):
                run(uri, there / "out", **options)
        assert "manifest.json" not in there.names("out")
        checkpoints = [name for name in there.names("out") if "/checkpoints/" in name]
        assert len(checkpoints) >= 2
        shown = "\n".join(status(there / "out").lines())
        assert f"{len(checkpoints)} of " in shown
        assert f"dask-dedup --endpoint-url {there.store.url} run {uri}" in shown
        numbers = written(monkeypatch)
        caplog.set_level("INFO", "dask_dedup")
        outcome = run(uri, there / "out", **options)
        assert f"resuming: {len(checkpoints)} of" in caplog.text
        assert len(numbers) == outcome.manifest["plan"]["fragments"] - len(checkpoints)
        assert data(result(there)) == data(result(there, "whole"))
        listed(there)
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_a_missing_file_is_written_again(self, there, table, monkeypatch):
        uri = there.put(table)
        with monkeypatch.context() as patch:
            crashing(patch, stages, "write_fragment", call=4)
            with pytest.raises(Crash):
                run(uri, there / "out")
        (lost, *_) = there.names("out/particles_kept")
        there.remove(f"out/particles_kept/{lost}")
        run(uri, there / "out")
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_a_file_deleted_during_the_run_fails_it(self, there, table):
        uri = there.put(table)

        def steal(event):
            if event["kind"] == "written":
                for name in there.names("out/particles_kept"):
                    there.remove(f"out/particles_kept/{name}")

        with pytest.raises(RunError, match="missing or has another size"):
            run(uri, there / "out", on_event=steal)
        assert "manifest.json" not in there.names("out")
        run(uri, there / "out")
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_clean_removes_an_interrupted_run_and_nothing_else(
        self, there, table, monkeypatch, cli
    ):
        uri = there.put(table)
        run(uri, there / "out")
        before = no_change(there)
        with monkeypatch.context() as patch:
            crashing(patch, stages, "write_fragment", call=3)
            with pytest.raises(Crash):
                run(uri, there / "out", DedupParams(min_separation=40), overwrite=True)
        assert verify(there / "out").verified
        assert len(no_change(there)) > len(before)
        assert "removed " in cli("clean", there / "out").stdout
        assert no_change(there) == before
        listed(there)

    @pytest.mark.slow
    def test_clean_removes_files_of_unknown_runs(self, there, table):
        run(there.put(table), there / "out")
        there.write("out/particles_kept/0123456789ab/part-00000.parquet", b"left by a lost race")
        there.write("out/particles_kept/mine.txt", b"not of this program")
        assert not verify(there / "out").passed
        assert clean(there / "out") == [there / "out/particles_kept/0123456789ab"]
        assert verify(there / "out").verified
        assert "particles_kept/mine.txt" in there.names("out")

    @pytest.mark.slow
    def test_unfinished_uploads_of_a_killed_run_are_aborted(self, there, table, monkeypatch):
        uri = there.put(table)
        with monkeypatch.context() as patch:
            crashing(patch, stages, "write_fragment", call=2)
            with pytest.raises(Crash):
                run(uri, there / "out")
        token = there.names("out/particles_kept")[0].partition("/")[0]
        # The same job can run into a folder whose name begins alike, with the same token.
        others = ["out/other/big.star", f"out2/particles_kept/{token}/big.star"]
        for name in (f"out/particles_kept/{token}/big.star", *others):
            there.client.create_multipart_upload(Bucket=BUCKET, Key=f"{there.name}/{name}")
        run(uri, there / "out")
        assert there.uploads() == [f"{there.name}/{name}" for name in others]


class TestOverwrite:
    OTHER = DedupParams(min_separation=60)

    def whole(self, there, manifest):
        """Return whether all files of a result match its manifest."""
        import hashlib

        return all(
            hashlib.sha256(there.read(f"out/{entry['path']}")).hexdigest() == entry["sha256"]
            for entry in manifest["outputs"]
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("same", [True, False], ids=["the same run", "another run"])
    def test_the_old_result_stays_until_the_new_one_is_complete(self, there, table, same):
        uri = there.put(table)
        old = run(uri, there / "out").manifest
        seen = []

        def look(event):
            if event["kind"] == "written":
                assert json.loads(there.read("out/manifest.json")) == old
                assert self.whole(there, old)
                seen.append(event)

        params = DedupParams() if same else self.OTHER
        new = run(uri, there / "out", params, overwrite=True, on_event=look).manifest
        assert len(seen) == 4
        assert listed(there) == new
        assert new["run_token"] != old["run_token"]
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_an_interrupted_overwrite_keeps_the_old_result(self, there, table, monkeypatch):
        uri = there.put(table)
        old = run(uri, there / "out").manifest
        with monkeypatch.context() as patch:
            crashing(patch, stages, "write_fragment", call=3)
            with pytest.raises(Crash):
                run(uri, there / "out", self.OTHER, overwrite=True)
        assert json.loads(there.read("out/manifest.json")) == old
        assert verify(there / "out").verified
        run(uri, there / "out", self.OTHER, overwrite=True)
        listed(there)
        assert verify(there / "out").verified

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "after",
        [
            "the same command",
            *(pytest.param(how, marks=pytest.mark.slow) for how in ("clean", "another overwrite")),
        ],
    )
    def test_an_overwrite_interrupted_after_its_commit_is_tidied(
        self, there, table, monkeypatch, after
    ):
        uri = there.put(table)
        run(uri, there / "out")
        real, calls = ObjectStore.tidy, []

        def crash_after_commit(*arguments):
            # The first two calls tidy the old result.
            calls.append(arguments)
            if len(calls) > 2:
                raise Crash
            real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(ObjectStore, "tidy", crash_after_commit)
            with pytest.raises(Crash):
                run(uri, there / "out", self.OTHER, overwrite=True)
        assert verify(there / "out").passed is False
        if after == "clean":
            clean(there / "out")
        elif after == "the same command":
            assert run(uri, there / "out", self.OTHER).already_done
        else:
            run(uri, there / "out", self.OTHER, overwrite=True)
        assert listed(there)["parameters"]["min_separation"] == 60
        assert verify(there / "out").verified


class TestTwoAtOnce:
    def start_another(self, there, uri, params, **options):
        """Return an event handler that runs another run once the first has written a fragment."""
        done = []

        def on_event(event):
            if event["kind"] == "written" and not done:
                done.append(True)
                run(uri, there / "out", params, **options)

        return on_event

    @pytest.mark.slow
    def test_of_two_different_runs_the_second_to_finish_fails(self, there, table, cli):
        uri = there.put(table)
        other = DedupParams(min_separation=60)
        with pytest.raises(OutputExistsError, match="another run has finished here meanwhile"):
            run(uri, there / "out", on_event=self.start_another(there, uri, other))
        assert listed(there)["parameters"]["min_separation"] == 60
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_the_same_run_started_twice_is_one_result(self, there, table):
        uri = there.put(table)
        on_event = self.start_another(there, uri, DedupParams())
        assert run(uri, there / "out", on_event=on_event).already_done
        listed(there)
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_of_two_overwrites_one_fails(self, there, table):
        uri = there.put(table)
        run(uri, there / "out")
        others = [DedupParams(min_separation=angstrom) for angstrom in (40, 60)]
        on_event = self.start_another(there, uri, others[1], overwrite=True)
        with pytest.raises(OutputExistsError, match="meanwhile"):
            run(uri, there / "out", others[0], overwrite=True, on_event=on_event)
        assert listed(there)["parameters"]["min_separation"] == 60
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_a_failed_run_keeps_the_files_of_a_concurrent_one(self, there, table, monkeypatch):
        uri = there.put(table)
        on_event = self.start_another(there, uri, DedupParams())
        with monkeypatch.context() as patch:
            crashing(patch, stages, "write_fragment", call=6, error=MemoryError("out of memory"))
            assert run(uri, there / "out", on_event=on_event).already_done
        listed(there)
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_a_store_without_conditional_writes_is_warned_about(
        self, there, table, monkeypatch, store, caplog
    ):
        uri = there.put(table)
        lost = ("Expect", "If-None-Match")
        with behind_proxy(monkeypatch, store, lambda *_: None, lost_headers=lost):
            run(uri, there / "out")
        assert "Make sure that no two runs write into" in caplog.text
        caplog.clear()
        run(uri, there / "other")
        assert "Make sure" not in caplog.text


class TestFaults:
    @pytest.mark.slow
    @pytest.mark.parametrize("status_code", [503, 500])
    def test_requests_to_a_busy_server_are_repeated(
        self, there, table, monkeypatch, store, status_code
    ):
        uri = there.put(table)
        run(uri, there / "whole")
        with behind_proxy(
            monkeypatch, store, lambda number, _: status_code if number % 9 == 0 else None
        ) as proxy:
            run(uri, there / "out")
        assert proxy.refused > 4
        assert data(result(there)) == data(result(there, "whole"))
        listed(there)

    @pytest.mark.slow
    def test_a_lost_response_to_the_commit_does_no_harm(self, there, table, monkeypatch, store):
        """The manifest is written, but the client receives an error and repeats the request."""
        uri = there.put(table)
        done = []

        def fault(number, request):
            if request.startswith("PUT ") and "manifest.json" in request and not done:
                done.append(request)
                there.write("out/manifest.json", manifest_of(proxy))
                return 500
            return None

        def manifest_of(proxy):
            return proxy.last_body

        with behind_proxy(monkeypatch, store, fault) as proxy:
            outcome = run(uri, there / "out")
        assert done
        assert listed(there) == outcome.manifest
        assert verify(there / "out").verified

    @pytest.mark.slow
    def test_a_lost_server_fails_the_run_and_the_same_command_resumes_it(
        self, there, table, monkeypatch, store, cli, impatient
    ):
        uri, out = there.put(table), there / "out"
        gone = []

        def fault(number, request):
            if "checkpoints/0000" in request and request.startswith("PUT"):
                gone.append(request)
            return LOST if len(gone) > 1 else None

        with behind_proxy(monkeypatch, store, fault):
            line = refused(cli("run", uri, "-o", out), code=1)
        assert "no answer from http://127.0.0.1:" in line
        assert "manifest.json" not in there.names("out")
        outcome = cli("run", uri, "-o", out)
        assert outcome.exit_code == 0
        assert "resuming: " in outcome.stderr
        listed(there)
        assert verify(out).verified

    def test_no_permission_to_write(self, there, table, monkeypatch, store, cli):
        uri = there.put(table)

        def fault(number, request):
            return 403 if request.startswith("PUT") else None

        with behind_proxy(monkeypatch, store, fault):
            line = refused(cli("run", uri, "-o", there / "out"))
        assert f"{there / 'out'}: cannot be written: no permission (AccessDenied" in line
        assert there.names("out") == []

    def test_no_permission_to_read(self, there, table, monkeypatch, store, cli):
        uri = there.put(table)
        with behind_proxy(monkeypatch, store, lambda *_: 403):
            line = refused(cli("run", uri, "-o", there / "out"))
        assert f"{uri}: no permission (AccessDenied, bucket {BUCKET})" in line

    def test_a_missing_table(self, there, cli):
        for verb in ("inspect", "run"):
            words = ["-o", there / "out"] if verb == "run" else []
            line = refused(cli(verb, there / "nothing.star", *words))
            assert line == f"dask-dedup: {there / 'nothing.star'}: no such file or folder"
        for verb in ("verify", "report", "status", "clean"):
            assert str(there / "out") in refused(cli(verb, there / "out"))

    @pytest.mark.parametrize("which", ["input", "output"])
    def test_a_missing_bucket(self, there, table, cli, which):
        nowhere = "s3://no-such-bucket/picks"
        uri, out = there.put(table), there / "out"
        locations = (nowhere, out) if which == "input" else (uri, nowhere)
        line = refused(cli("run", locations[0], "-o", locations[1]))
        assert line == f"dask-dedup: {nowhere}: there is no bucket no-such-bucket"
        assert "there is no bucket" in refused(cli("status", nowhere))

    def test_no_credentials(self, there, cli, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        line = refused(cli("inspect", there / "in"))
        assert "Unable to locate credentials. Set AWS_ACCESS_KEY_ID and" in line

    def test_a_missing_profile(self, there, cli, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "missing")
        assert "missing" in refused(cli("inspect", there / "in"))

    def test_no_server_at_the_endpoint(self, there, cli, monkeypatch):
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        unused = f"http://127.0.0.1:{free_port()}"
        # monkeypatch restores the variable that the option sets.
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "")
        line = refused(cli("--endpoint-url", unused, "inspect", there / "in"), code=1)
        assert line.startswith(f"dask-dedup: {there / 'in'}: no answer from {unused}")

    @pytest.mark.parametrize("endpoint", ["minio.lab:9000", "127.0.0.1", "ftp://minio.lab"])
    def test_an_invalid_endpoint(self, there, cli, endpoint):
        assert "is not a URL" in refused(cli("--endpoint-url", endpoint, "inspect", there / "in"))

    def test_wildcards_are_refused(self, there, cli):
        line = refused(cli("inspect", there / "*.parquet"))
        assert "wildcards are not supported. Name a file or a folder" in line

    def test_a_uri_given_as_a_path(self):
        with pytest.raises(InputError, match="must be passed as str"):
            inspect([Path("s3://picks/in.star")])

    @pytest.mark.parametrize(
        ("uri", "library"), [("gs://picks/in.star", "gcsfs"), ("abfs://picks/in.star", "adlfs")]
    )
    def test_a_store_without_its_library(self, uri, library, cli):
        if not pytest.importorskip("importlib.util").find_spec(library):
            assert f"nstall {library}" in refused(cli("inspect", uri))

    @pytest.mark.parametrize(
        "entry",
        ["../elsewhere/J1_particles.cs", "s3://other/J1_particles.cs", "file:///etc/passwd"],
    )
    def test_a_group_that_points_outside_its_folder(self, there, tmp_path, cli, entry):
        source, _ = make_tables("csg", tmp_path)
        there.put(source.parent, "J1")
        there.put(source.parent, "elsewhere")
        text = re.sub(r"'>[^']*'", f"'>{entry}'", source.read_text())
        there.write(f"J1/{source.name}", text.encode())
        line = refused(cli("inspect", there / f"J1/{source.name}"))
        assert "points to" in line


class TestSecrets:
    def everything(self, there, tmp_path):
        yield from (path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        for name in there.names():
            yield there.read(name)

    @pytest.mark.slow
    def test_the_secret_is_in_no_output(
        self, there, table, cli, caplog, capfd, monkeypatch, store, tmp_path
    ):
        caplog.set_level(logging.DEBUG)
        uri, out = there.put(table), there / "out"
        outcomes = []

        def call(*words):
            outcomes.append(cli(*words, no_report=False))

        with monkeypatch.context() as patch:
            crashing(patch, stages, "write_fragment", call=3, error=RunError("stop here"))
            call("run", uri, "-o", out)
        call("status", out)
        pieces = there.names("out")
        assert any("request.json" in name for name in pieces)
        assert not any(SECRET.encode() in each for each in self.everything(there, tmp_path))
        call("run", uri, "-o", out, "--verify", "--json")
        call("verify", out)
        call("run", there / "nothing", "-o", out)
        with behind_proxy(monkeypatch, store, lambda *_: 403):
            call("run", uri, "-o", out)
        assert [outcome.exit_code for outcome in outcomes] == [1, 0, 0, 0, 2, 2]
        said = "".join(each.stdout + each.stderr for each in outcomes)
        said += caplog.text + "".join(capfd.readouterr())
        assert KEY in said or len(caplog.text) > 10_000
        assert SECRET not in said
        assert not any(SECRET.encode() in each for each in self.everything(there, tmp_path))

    @pytest.mark.parametrize(
        "uri",
        [
            f"s3://{KEY}:{SECRET}@picks/in.star",
            f"s3://{SECRET}@picks/in.star",
            f"s3://{KEY}:{SECRET}/picks/in.star",
            f"https://user:{SECRET}@example.org/in.star",
            f"https://example.org/in.star?X-Amz-Signature={SECRET}",
            f"https://account.blob.core.windows.net/c/in.star?sv=1&sig={SECRET}",
            f"s3://picks/in.star?secretAccessKey={SECRET}",
        ],
    )
    def test_a_uri_with_credentials_is_refused_and_not_repeated(self, uri, cli, tmp_path):
        for words in (("inspect", uri), ("run", uri, "-o", tmp_path), ("verify", uri)):
            outcome = cli(*words)
            assert "a URI must not hold credentials" in refused(outcome)
            assert SECRET[:7] not in outcome.stderr + outcome.stdout

    def test_an_endpoint_with_credentials_is_refused_and_not_repeated(
        self, there, cli, monkeypatch
    ):
        endpoint = f"http://{KEY}:{SECRET.replace('/', '')}@127.0.0.1:9"
        outcomes = [cli("--endpoint-url", endpoint, "inspect", there / "in")]
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        outcomes.append(cli("inspect", there / "in"))
        for outcome in outcomes:
            assert "must not hold credentials" in refused(outcome)
            assert SECRET[4:12] not in outcome.stderr

    def test_azure_names_its_container_before_the_account(self):
        pytest.importorskip("upath")
        path = "abfs://picks@account.dfs.core.windows.net/in.star"
        assert protocols.check_no_secret(path) is None
