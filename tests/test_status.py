"""`status` shows what is done and how to resume; `clean` removes leftovers and nothing else."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from tables import contents, cryosparc, write_file
from test_output import Crash, crashing, data, hidden
from test_resume import fail_writing, make_input

from dask_dedup import DedupParams, InputError, run
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.output import lock
from dask_dedup.results.status import clean, status

PARAMS = DedupParams(
    min_separation=12.3456789,
    score_field="alignments3D/error:lower",
    seed=2**63,
    prefer_input_order=True,
    flip_y=(0,),
    match_micrographs="path",
)


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def source(tmp_path):
    return make_input("parquet", tmp_path)


@pytest.fixture
def interrupted(source, out, monkeypatch):
    """A run that failed after five of its ten fragments."""
    fail_writing(monkeypatch, source, out, after=5)
    return out


class TestStatus:
    def test_a_finished_run(self, cli, source, out):
        result = run(source, out)
        text = cli("status", out).stdout
        assert ": finished 20" in text
        assert f"200 particles, {result.kept} kept, {result.rejected} rejected" in text
        found = json.loads(cli("status", out, "--json").stdout)
        assert found["totals"]["kept"] == result.kept
        assert found["attempts"] == found["damaged"] == []
        assert found["holder"] is None

    def test_an_interrupted_run_shows_its_progress(self, interrupted):
        (attempt,) = status(interrupted).attempts
        assert attempt.fragments == 10
        assert 5 <= attempt.fragments_done < 10
        assert attempt.rows == 200
        assert attempt.rows_done == 20 * attempt.fragments_done
        assert not attempt.complete
        text = "\n".join(status(interrupted).lines())
        assert f"{attempt.fragments_done} of 10 fragments written" in text
        assert f"dask-dedup clean {interrupted}" in text

    def test_a_run_of_another_algorithm_cannot_be_resumed(self, cli, interrupted):
        (attempt,) = status(interrupted).attempts
        path = Path(attempt.folder, "request.json")
        request = json.loads(path.read_text())
        request["versions"] |= {"algorithm": "3", "dask-dedup": "0.1"}
        path.write_text(json.dumps(request))
        text = cli("status", interrupted).stdout
        assert "This version cannot resume it: it was made by version 0.1" in text
        assert "To resume" not in text
        assert "To remove it: dask-dedup clean" in text
        assert cli("clean", interrupted).exit_code == 0
        assert not Path(attempt.folder).exists()

    def test_the_command_it_shows_resumes_the_run(self, cli, source, out, monkeypatch):
        fail_writing(monkeypatch, source, out, after=5, params=PARAMS)
        (attempt,) = status(out).attempts
        words = shlex.split(attempt.command)
        assert words[:2] == ["dask-dedup", "run"]
        outcome = cli(*words[1:])
        assert outcome.exit_code == 0
        assert f"resuming: {attempt.fragments_done} of 10" in outcome.stderr

    def test_the_command_protects_names_that_begin_with_a_dash(
        self, cli, source, out, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        source.rename(tmp_path / "-picks")
        fail_writing(monkeypatch, "-picks", out, after=5)
        (attempt,) = status(out).attempts
        words = shlex.split(attempt.command)
        assert words[-2:] == ["--", "-picks"]
        outcome = cli(*words[1:])
        assert outcome.exit_code == 0
        assert "resuming: " in outcome.stderr

    def test_the_commands_protect_an_output_that_begins_with_a_dash(
        self, cli, source, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        fail_writing(monkeypatch, source, "-out", after=5)
        lines = status("-out").lines()
        assert lines[-1] == "To remove it: dask-dedup clean -- -out"
        words = shlex.split(lines[-2])
        assert cli(*words[1:]).exit_code == 0
        (tmp_path / "-out" / ".dask-dedup-0123456789ab").mkdir()
        assert cli("clean", "--", "-out").stdout.startswith("removed -out/")

    def test_the_command_has_the_options_of_the_cluster(self, cli, source, out, monkeypatch):
        options = {"workers": "2", "memory_limit": "1GiB", "verify": True, "no_report": False}
        fail_writing(monkeypatch, source, out, after=5, command_options=options)
        (attempt,) = status(out).attempts
        assert attempt.command.endswith(" --workers 2 --memory-limit 1GiB --verify")
        # Other options resume the same run, and are shown from then on.
        fail_writing(monkeypatch, source, out, after=0, command_options={"jobs": "2"})
        (later,) = status(out).attempts
        assert later.fragments_done >= attempt.fragments_done
        assert later.command.endswith(f" --output {out} --jobs 2")
        assert "options" not in run(source, out).manifest

    def test_from_another_folder_the_command_changes_to_that_of_the_run(
        self, interrupted, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        (attempt,) = status(interrupted).attempts
        assert attempt.command.startswith("cd ")

    def test_an_interrupted_commit(self, source, out, monkeypatch):
        with monkeypatch.context() as patch:
            crashing(patch, os, "link")
            with pytest.raises(Crash):
                run(source, out)
        (attempt,) = status(out).attempts
        assert attempt.complete
        assert "interrupted during the commit. To finish" in "\n".join(status(out).lines())

    def test_a_running_run(self, interrupted):
        with lock.locked(interrupted):
            text = "\n".join(status(interrupted).lines())
        assert "running (process" in text
        assert "so far" in text
        assert "clean" not in text

    def test_an_unfinished_overwrite_and_the_old_result_are_both_shown(
        self, source, out, monkeypatch
    ):
        run(source, out, DedupParams(min_separation=5))
        fail_writing(monkeypatch, source, out, after=5, overwrite=True)
        found = status(out)
        assert found.totals is not None
        assert found.attempts[0].command.endswith("--overwrite")

    def test_a_running_run_shows_its_command(self, cli, interrupted):
        with lock.locked(interrupted):
            text = cli("status", interrupted).stdout
        assert "To resume" not in text
        assert f"dask-dedup run {interrupted.parent}" in text.partition("Its command:\n")[2]

    def test_a_missing_file_is_named(self, cli, source, out):
        run(source, out)
        (out / "particles_kept" / "part-00003.parquet").unlink()
        assert status(out).damaged == [str(out / "particles_kept" / "part-00003.parquet")]
        assert cli("status", out).exit_code == 1

    def test_a_folder_without_a_run_is_an_error(self, cli, tmp_path):
        outcome = cli("status", tmp_path / "nowhere")
        assert outcome.exit_code == 2
        assert "no run found" in outcome.stderr


class TestClean:
    def test_it_removes_the_leftovers_of_an_interrupted_run(
        self, cli, interrupted, source, tmp_path
    ):
        outcome = cli("clean", interrupted)
        assert outcome.exit_code == 0
        assert outcome.stdout.startswith(f"removed {interrupted}/.dask-dedup-")
        assert [*interrupted.iterdir()] == []
        run(source, interrupted)

    def test_it_touches_nothing_else(self, source, out, monkeypatch):
        run(source, out, DedupParams(min_separation=5))
        fail_writing(monkeypatch, source, out, after=5, overwrite=True)
        for name in (".hidden", ".dask-dedup-mine", "notes.txt"):
            (out / name).write_text("mine")
        (out / ".dask-dedup-report-x1").mkdir()
        before = {name: bytes for name, bytes in contents(out).items() if "dask-dedup-" not in name}
        assert len(clean(out)) == 2
        after = contents(out)
        assert after.pop(".dask-dedup-mine") == b"mine"
        assert after == before

    def test_a_finished_run_has_no_leftovers(self, cli, source, out):
        run(source, out)
        before = contents(out)
        assert "nothing to remove" in cli("clean", out).stdout
        assert contents(out) == before

    def test_a_running_run_is_left_alone(self, cli, interrupted):
        before = contents(interrupted)
        with lock.locked(interrupted):
            outcome = cli("clean", interrupted)
        assert outcome.exit_code == 2
        assert "another run is writing there" in outcome.stderr
        assert contents(interrupted) == before

    def test_an_interrupted_commit_is_not_removed(self, source, out, monkeypatch, tmp_path):
        with monkeypatch.context() as patch:
            crashing(patch, os, "link")
            with pytest.raises(Crash):
                run(source, out)
        with pytest.raises(InputError, match="Finish it first: "):
            clean(out)
        run(source, out)
        run(source, tmp_path / "whole")
        assert data(out) == data(tmp_path / "whole")
        assert hidden(out) == []

    def test_no_such_folder_is_an_error(self, cli, tmp_path):
        assert cli("clean", tmp_path / "nowhere").exit_code == 2


def test_a_staging_folder_without_a_request(tmp_path, out):
    write_file(cryosparc(30), tmp_path / "in.parquet")
    (out / ".dask-dedup-0123456789ab").mkdir(parents=True)
    assert "the same command again" in "\n".join(status(out).lines())
    assert len(clean(out)) == 1
