"""`status` says what is done, what is missing and what to run; `clean` removes leavings and nothing else."""

from __future__ import annotations

import json
import os
import shlex

import pytest
from tables import contents, cryosparc, write_file
from test_output import Crash, crashing, data, hidden
from test_resume import die_writing, make_input

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
def cut_short(source, out, monkeypatch):
    """A run that died when five of its ten fragments were written."""
    die_writing(monkeypatch, source, out, after=5)
    return out


class TestStatus:
    def test_a_finished_run(self, cli, source, out):
        result = run(source, out)
        told = cli("status", out).stdout
        assert ": finished 20" in told
        assert f"200 particles, {result.kept} kept, {result.rejected} rejected" in told
        found = json.loads(cli("status", out, "--json").stdout)
        assert found["totals"]["kept"] == result.kept
        assert found["attempts"] == found["damaged"] == []
        assert found["holder"] is None

    def test_one_that_was_cut_short_says_how_far_it_is(self, cut_short):
        (attempt,) = status(cut_short).attempts
        assert attempt.fragments == 10
        assert 5 <= attempt.fragments_done < 10
        assert attempt.rows == 200
        assert attempt.rows_done == 20 * attempt.fragments_done
        assert not attempt.complete
        told = "\n".join(status(cut_short).lines())
        assert f"{attempt.fragments_done} of 10 fragments written" in told
        assert f"dask-dedup clean {cut_short}" in told

    @pytest.mark.parametrize("params", [DedupParams(), PARAMS], ids=["plain", "many"])
    def test_the_command_it_names_goes_on(self, cli, source, out, monkeypatch, params):
        die_writing(monkeypatch, source, out, after=5, params=params)
        (attempt,) = status(out).attempts
        words = shlex.split(attempt.command)
        assert words[:2] == ["dask-dedup", "run"]
        outcome = cli(*words[1:])
        assert outcome.exit_code == 0
        assert f"resuming: {attempt.fragments_done} of 10" in outcome.stderr

    def test_from_another_folder_the_command_goes_there_first(
        self, cut_short, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        (attempt,) = status(cut_short).attempts
        assert attempt.command.startswith("cd ")

    def test_one_that_died_in_its_commit(self, source, out, monkeypatch):
        with monkeypatch.context() as patch:
            crashing(patch, os, "link")
            with pytest.raises(Crash):
                run(source, out)
        (attempt,) = status(out).attempts
        assert attempt.complete
        assert "put into place. To finish" in "\n".join(status(out).lines())

    def test_one_at_work(self, cut_short):
        with lock.locked(cut_short):
            told = "\n".join(status(cut_short).lines())
        assert "running (process" in told
        assert "so far" in told
        assert "clean" not in told

    def test_an_unfinished_overwrite_stands_beside_the_old_result(self, source, out, monkeypatch):
        run(source, out, DedupParams(min_separation=5))
        die_writing(monkeypatch, source, out, after=5, overwrite=True)
        found = status(out)
        assert found.totals is not None
        assert found.attempts[0].command.endswith("--overwrite")

    def test_a_file_that_is_gone_is_named(self, cli, source, out):
        run(source, out)
        (out / "particles_kept" / "part-00003.parquet").unlink()
        assert status(out).damaged == [str(out / "particles_kept" / "part-00003.parquet")]
        assert cli("status", out).exit_code == 1

    def test_a_place_without_any_run_is_an_error(self, cli, tmp_path):
        outcome = cli("status", tmp_path / "nowhere")
        assert outcome.exit_code == 2
        assert "no run found" in outcome.stderr


class TestClean:
    def test_it_removes_what_a_dead_run_left(self, cli, cut_short, source, tmp_path):
        outcome = cli("clean", cut_short)
        assert outcome.exit_code == 0
        assert outcome.stdout.startswith(f"removed {cut_short}/.dask-dedup-")
        assert [*cut_short.iterdir()] == []
        run(source, cut_short)

    def test_it_touches_nothing_else(self, source, out, monkeypatch):
        run(source, out, DedupParams(min_separation=5))
        die_writing(monkeypatch, source, out, after=5, overwrite=True)
        for name in (".hidden", ".dask-dedup-mine", "notes.txt"):
            (out / name).write_text("mine")
        (out / ".dask-dedup-report-x1").mkdir()
        before = {name: bytes for name, bytes in contents(out).items() if "dask-dedup-" not in name}
        assert len(clean(out)) == 2
        after = contents(out)
        assert after.pop(".dask-dedup-mine") == b"mine"
        assert after == before

    def test_a_finished_place_has_nothing_to_remove(self, cli, source, out):
        run(source, out)
        before = contents(out)
        assert "nothing to remove" in cli("clean", out).stdout
        assert contents(out) == before

    def test_it_keeps_off_a_run_at_work(self, cli, cut_short):
        before = contents(cut_short)
        with lock.locked(cut_short):
            outcome = cli("clean", cut_short)
        assert outcome.exit_code == 2
        assert "another run is writing there" in outcome.stderr
        assert contents(cut_short) == before

    def test_a_result_half_put_into_place_is_not_lost(self, source, out, monkeypatch, tmp_path):
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


def test_a_folder_that_died_before_it_could_say_what_it_was_for(tmp_path, out):
    write_file(cryosparc(30), tmp_path / "in.parquet")
    (out / ".dask-dedup-0123456789ab").mkdir(parents=True)
    assert "the same command again" in "\n".join(status(out).lines())
    assert len(clean(out)) == 1
