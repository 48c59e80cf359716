"""Full disk, quota or missing permission: a run fails with one line that names the folder, and can be resumed."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys

import pytest
from disks import enlarge, limit_quota, make_read_only, small_disk, with_quota
from tables import cryosparc, relion, write_folder
from test_output import TABLES, data, hidden
from test_resume import write_cs, write_star

from dask_dedup import run
from dask_dedup.formats.cryosparc import cs
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.star import lines as star_lines
from dask_dedup.output import lock
from dask_dedup.output.local import LocalStore

pytestmark = pytest.mark.slow

PAGE = 4096
#: Disk size as a share of the result: from nothing fits to only the manifest does not fit.
SHARES = (0.0, 0.02, 0.05, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.98)


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 100_000)
    monkeypatch.setattr(cs, "FRAGMENT_BYTES", 20_000)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Tables of 5,000 particles, by kind."""
    folder = tmp_path_factory.mktemp("sources")
    return {
        "parquet": write_folder(cryosparc(5_000, micrographs=50, seed=3), folder / "in", files=10),
        "star": write_star(relion(5_000, micrographs=50), folder / "in.star"),
        "cs": write_cs(5_000, folder / "in.cs"),
    }


def pages(folder):
    """Return the disk space of the data files of a result, in bytes."""
    return sum(-(-len(content) // PAGE) * PAGE for content in data(folder).values())


def assert_nothing_committed(out):
    assert not any((out / name).exists() for name in (*TABLES, "manifest.json"))


def assert_failed(outcome, *phrases):
    assert outcome.exit_code == 1
    line = outcome.stderr.splitlines()[-1]
    assert line.startswith("dask-dedup: ")
    assert line.endswith("run the same command again.")
    for phrase in phrases:
        assert phrase in line
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "star", "cs"])
@pytest.mark.parametrize("share", SHARES)
def test_a_run_resumes_after_the_disk_was_full(cli, tmp_path, sources, kind, share):
    source = sources[kind]
    run(source, tmp_path / "whole")
    # The pieces of .star and .cs exist until they are joined, nearly as large as the result.
    needed = pages(tmp_path / "whole") * (1 if kind == "parquet" else 1.7)
    with small_disk(tmp_path / "disk", size=max(PAGE, int(needed * share))) as disk:
        out = disk / "out"
        outcome = cli("run", source, "-o", out, "--quiet")
        assert_failed(outcome, f"{out}: the disk is full", "Free some space")
        assert_nothing_committed(out)
        enlarge(disk)
        outcome = cli("run", source, "-o", out)
        assert outcome.exit_code == 0, outcome.stderr
        assert data(out) == data(tmp_path / "whole")
        assert hidden(out) == []


@pytest.mark.slow
def test_a_disk_without_free_inodes_is_full(cli, tmp_path, sources):
    with small_disk(tmp_path / "disk", size=500_000_000, files=30) as disk:
        out = disk / "out"
        assert_failed(
            cli("run", sources["parquet"], "-o", out, "--quiet"), f"{out}: ", " more file"
        )
        assert_nothing_committed(out)
        enlarge(disk)
        assert cli("run", sources["parquet"], "-o", out).exit_code == 0
        assert hidden(out) == []


def fill(disk):
    """Write a file that leaves no free space on a disk."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * PAGE)
        except OSError:
            return


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stage", "commit"])
def test_a_disk_that_fills_up_keeps_the_written_fragments(
    cli, tmp_path, sources, monkeypatch, name
):
    source = sources["parquet"]
    run(source, tmp_path / "whole")
    with small_disk(tmp_path / "disk", size=50_000_000) as disk:
        out = disk / "out"
        real = getattr(LocalStore, name)

        def filled_up(*arguments):
            fill(disk)
            return real(*arguments)

        if name == "stage":
            # The checkpoints of an earlier attempt must be kept.
            with monkeypatch.context() as patch:
                patch.setattr(LocalStore, "commit", lambda *arguments: 1 / 0)
                assert cli("run", source, "-o", out, "--quiet").exit_code == 1
        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, name, filled_up)
            assert_failed(cli("run", source, "-o", out, "--quiet"), f"{out}: the disk is full")
        assert_nothing_committed(out)
        (disk / "filler").unlink()
        outcome = cli("run", source, "-o", out)
        assert outcome.exit_code == 0
        assert "resuming: 10 of 10 fragments" in outcome.stderr
        assert data(out) == data(tmp_path / "whole")
        assert hidden(out) == []


@pytest.mark.slow
def test_a_full_disk_during_a_run_on_a_cluster(cli, tmp_path, sources, two_workers):
    source = sources["parquet"]
    run(source, tmp_path / "whole", client=two_workers)
    words = ("run", source, "--quiet", "--scheduler", two_workers.scheduler.address)
    with small_disk(tmp_path / "disk", size=pages(tmp_path / "whole") // 2) as disk:
        out = disk / "out"
        assert_failed(cli(*words, "-o", out), f"{out}: the disk is full")
        assert_nothing_committed(out)
        enlarge(disk)
        assert cli(*words, "-o", out).exit_code == 0
        assert data(out) == data(tmp_path / "whole")
        assert hidden(out) == []


@pytest.mark.slow
def test_a_result_without_space_for_its_report_is_complete(cli, tmp_path, sources, monkeypatch):
    real = LocalStore.commit
    with small_disk(tmp_path / "disk", size=50_000_000) as disk:
        out = disk / "out"

        def commit(*arguments):
            committed = real(*arguments)
            fill(disk)
            return committed

        monkeypatch.setattr(LocalStore, "commit", commit)
        outcome = cli("run", sources["parquet"], "-o", out, no_report=False)
        assert outcome.exit_code == 0
        assert "the result is complete, but has no report" in outcome.stderr
        assert "No space left" in outcome.stderr
        assert hidden(out) == []
        (disk / "filler").unlink()
        assert cli("report", out).exit_code == 0
        assert cli("verify", out).exit_code == 0


@pytest.mark.slow
def test_a_quota(cli, tmp_path, sources):
    source = sources["parquet"]
    run(source, tmp_path / "whole")
    with with_quota(tmp_path / "disk", pages(tmp_path / "whole") // 2) as mine:
        out = mine / "out"
        assert_failed(
            cli("run", source, "-o", out, "--quiet"), f"{out}: your disk quota is used up"
        )
        assert_nothing_committed(out)
        limit_quota(mine, "none")
        assert cli("run", source, "-o", out).exit_code == 0
        assert data(out) == data(tmp_path / "whole")
        assert hidden(out) == []


def in_a_process(*words, limit=None, capabilities=True):
    """Run the command line in a new process, with a limit of file sizes or without root capabilities."""
    prefix = []
    if not capabilities:
        if not shutil.which("setpriv"):
            pytest.skip("no setpriv here (Debian: util-linux)")
        drop = "-dac_override,-dac_read_search"
        prefix = ["setpriv", "--bounding-set", drop, "--inh-caps", drop]

    def set_limit():
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code = "from dask_dedup.cli import main; main()"
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code, *map(str, words)],
        preexec_fn=set_limit,
        capture_output=True,
        text=True,
        check=False,
    )
    done.exit_code = done.returncode
    return done


def test_a_limit_on_file_size(tmp_path, sources):
    out = tmp_path / "out"
    words = ("run", sources["parquet"], "-o", out, "--quiet", "--no-report")
    assert_failed(in_a_process(*words, limit=20_000), f"{out}: a file is larger", "ulimit -f")
    assert_nothing_committed(out)
    assert in_a_process(*words).exit_code == 0
    assert hidden(out) == []


class TestPermission:
    def refused(self, *words):
        outcome = in_a_process("run", *words, "--quiet", "--no-report", capabilities=False)
        assert outcome.exit_code == 2
        (line,) = outcome.stderr.splitlines()
        assert line.startswith("dask-dedup: ")
        return line

    def test_no_permission_to_write(self, tmp_path, sources):
        folder = tmp_path / "theirs"
        folder.mkdir(mode=0o555)
        line = self.refused(sources["parquet"], "-o", folder / "out")
        assert f"{folder / 'out'}: cannot be written" in line
        assert f"no permission in {folder}" in line
        assert [*folder.iterdir()] == []

    @pytest.mark.parametrize("kind", ["parquet", "star", "cs"])
    def test_no_permission_to_read(self, tmp_path, sources, kind):
        source = sources[kind]
        file = sorted(source.iterdir())[4] if source.is_dir() else source
        mode = file.stat().st_mode
        file.chmod(0o000)
        try:
            line = self.refused(source, "-o", tmp_path / "out")
        finally:
            file.chmod(mode)
        assert str(file) in line
        assert "ermission" in line
        assert not (tmp_path / "out").exists()

    def test_no_permission_to_overwrite(self, tmp_path, sources):
        out = tmp_path / "out"
        run(sources["parquet"], out)
        out.chmod(0o555)
        try:
            line = self.refused(sources["star"], "-o", out, "--overwrite")
        finally:
            out.chmod(0o755)
        assert f"no permission in {out}" in line


@pytest.mark.slow
def test_a_read_only_disk(cli, tmp_path, sources):
    with small_disk(tmp_path / "disk", size=50_000_000) as disk:
        make_read_only(disk)
        outcome = cli("run", sources["parquet"], "-o", disk / "out")
        assert outcome.exit_code == 2
        assert outcome.stderr.splitlines() == [
            f"dask-dedup: {disk / 'out'}: cannot be written: {disk} is read-only, "
            f"or you have no permission in {disk}."
        ]


@pytest.mark.slow
def test_a_finished_result_on_a_read_only_disk(cli, tmp_path, sources):
    with small_disk(tmp_path / "disk", size=50_000_000) as disk:
        out = disk / "out"
        run(sources["parquet"], out)
        make_read_only(disk)
        assert "nothing to do" in cli("run", sources["parquet"], "-o", out).stderr
        assert cli("status", out).exit_code == 0
        assert cli("verify", out).exit_code == 0
        outcome = cli("clean", out)
        assert outcome.exit_code == 0, outcome.stderr
        outcome = cli("report", out)
        assert outcome.exit_code == 1
        assert outcome.stderr.startswith(f"dask-dedup: {out}: the report cannot be written")


def test_another_user_sees_which_run_holds_the_folder(tmp_path, sources):
    out = tmp_path / "out"
    with lock.locked(out):
        (out / lock.LOCK).chmod(0o444)
        (out / ".dask-dedup-0123456789ab").mkdir()
        seen = in_a_process("status", out, capabilities=False)
        assert seen.exit_code == 0, seen.stderr
        assert f"running (process {os.getpid()} on" in seen.stdout
        refused = in_a_process("clean", out, capabilities=False)
        assert refused.exit_code == 1
        (line,) = refused.stderr.splitlines()
        assert line.startswith("dask-dedup: [Errno 13] Permission denied")
        shutil.rmtree(out / ".dask-dedup-0123456789ab")
