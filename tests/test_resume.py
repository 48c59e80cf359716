"""The same command resumes an interrupted run, and gives the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from tables import contents, cryosparc, relion, write_folder
from test_output import Crash, crashing, data, hidden

from dask_dedup import DedupParams, InputError, RunError, run, verify
from dask_dedup.errors import OutputExistsError
from dask_dedup.formats.cryosparc import cs
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.star import lines as star_lines
from dask_dedup.output import lock
from dask_dedup.output.local import LocalStore
from dask_dedup.pipeline import stages
from dask_dedup.pipeline.manifest_content import versions

FORMATS = ["parquet", "star", "cs"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    """Split small inputs into about ten fragments."""
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 2_000)
    monkeypatch.setattr(cs, "FRAGMENT_BYTES", 800)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return an input that no test changes, and the result of an uninterrupted run."""
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = make_input(kind, folder), folder / "whole"
            run(*made[kind])
        return made[kind]

    return make


def make_input(kind, folder):
    """Write 200 particles as a table of about ten fragments."""
    if kind in ("parquet", "scrambled"):
        table = cryosparc(200, seed=3)
        if kind == "scrambled":
            table = table.take(np.random.default_rng(0).permutation(200))
        else:
            table = table.sort_by("location/micrograph_uid")
        return write_folder(table, folder / "in", files=10)
    if kind == "star":
        return write_star(relion(200), folder / "in.star")
    return write_cs(200, folder / "in.cs")


def write_star(table, path):
    names = table.column_names
    loop = "".join(f"_{name} #{number}\n" for number, name in enumerate(names, 1))
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    lines = "".join(" ".join(str(value) for value in row) + "\n" for row in rows)
    path.write_text(f"data_particles\n\nloop_\n{loop}{lines}\n")
    return path


def write_cs(rows, path):
    rng = np.random.default_rng(1)
    records = np.zeros(
        rows,
        dtype=[
            ("uid", "u8"),
            ("location/micrograph_uid", "u8"),
            ("location/micrograph_shape", "u4", (2,)),
            ("location/micrograph_psize_A", "f4"),
            ("location/center_x_frac", "f4"),
            ("location/center_y_frac", "f4"),
            ("pick_stats/ncc_score", "f4"),
        ],
    )
    records["uid"] = np.arange(rows) + 1
    records["location/micrograph_uid"] = rng.integers(1, 5, rows)
    records["location/micrograph_shape"] = (300, 300)
    records["location/micrograph_psize_A"] = 1.0
    for name in ("x", "y"):
        records[f"location/center_{name}_frac"] = rng.random(rows)
    records["pick_stats/ncc_score"] = rng.random(rows)
    with path.open("wb") as file:
        np.save(file, records)
    return path


def written(monkeypatch):
    """Record the number of every fragment that is written from now on."""
    numbers = []
    real = stages.write_fragment

    def noting(job, plan, number, *rest):
        checkpoint = real(job, plan, number, *rest)
        numbers.append(number)
        return checkpoint

    monkeypatch.setattr(stages, "write_fragment", noting)
    return numbers


def fail_writing(monkeypatch, source, out, *, after, **options):
    """Make a run fail after it has written some fragments."""
    with monkeypatch.context() as patch:
        crashing(patch, stages, "write_fragment", call=after + 1)
        with pytest.raises(Crash):
            run(source, out, **options)


@pytest.mark.parametrize(
    ("kind", "after"), [("parquet", 1), ("scrambled", 6), ("star", 1), ("cs", 6)]
)
def test_the_same_command_writes_only_what_is_missing(whole, out, monkeypatch, caplog, kind, after):
    source, uninterrupted = whole(kind)
    fail_writing(monkeypatch, source, out, after=after)
    assert not (out / "manifest.json").exists()
    done = {int(file.stem) for file in out.glob(".dask-dedup-*/checkpoints/*.json")}
    assert len(done) >= after
    numbers = written(monkeypatch)
    caplog.set_level("INFO", "dask_dedup")
    monkeypatch.chdir(out.parent)
    result = run(source, out)
    assert f"resuming: {len(done)} of" in caplog.text
    fragments = result.manifest["plan"]["fragments"]
    assert fragments > 6
    assert sorted(numbers) == sorted(set(range(fragments)) - done)
    assert data(out) == data(uninterrupted)
    assert hidden(out) == []
    assert verify(out).verified


@pytest.mark.parametrize("kind", ["scrambled", pytest.param("star", marks=pytest.mark.slow)])
def test_a_cluster_resumes_a_run_of_this_process(whole, out, monkeypatch, cluster, kind):
    source, uninterrupted = whole(kind)
    fail_writing(monkeypatch, source, out, after=4)
    result = run(source, out, client=cluster)
    assert data(out) == data(uninterrupted)
    assert result.manifest["plan"] == run(source, uninterrupted).manifest["plan"]
    assert hidden(out) == []


@pytest.mark.parametrize("kind", ["star", "cs"])
def test_a_run_that_crashes_while_joining_pieces_is_resumed(whole, out, monkeypatch, kind):
    source, uninterrupted = whole(kind)
    with monkeypatch.context() as patch:
        crashing(patch, stages, "assemble", call=2)
        with pytest.raises(Crash):
            run(source, out)
    numbers = written(monkeypatch)
    run(source, out)
    assert numbers == []
    assert data(out) == data(uninterrupted)
    assert hidden(out) == []


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "pattern", "damage"),
    [
        ("parquet", "particles_kept/*", flip_a_bit),
        ("parquet", "particles_rejected/*", Path.unlink),
        ("star", "duplicates/*", flip_a_bit),
        ("star", "pieces/particles_kept-*", Path.unlink),
        ("cs", "pieces/particles_rejected-*", flip_a_bit),
    ],
)
def test_a_checkpoint_without_its_files_is_ignored(whole, out, monkeypatch, kind, pattern, damage):
    source, uninterrupted = whole(kind)
    fail_writing(monkeypatch, source, out, after=5)
    (staging,) = out.glob(".dask-dedup-*")
    damage(sorted(staging.glob(pattern))[0])
    there = len([*staging.glob("checkpoints/*")])
    numbers = written(monkeypatch)
    result = run(source, out)
    assert len(numbers) == result.manifest["plan"]["fragments"] - there + 1
    assert data(out) == data(uninterrupted)


def test_damaged_checkpoints_are_ignored(whole, out, monkeypatch):
    source, uninterrupted = whole("parquet")
    fail_writing(monkeypatch, source, out, after=6)
    checkpoints = sorted(out.glob(".dask-dedup-*/checkpoints/*"))
    for path, content in zip(checkpoints, ["", "{", "[]", "{}", "null"], strict=False):
        path.write_text(content)
    numbers = written(monkeypatch)
    result = run(source, out)
    assert len(numbers) == result.manifest["plan"]["fragments"] - len(checkpoints) + 5
    assert data(out) == data(uninterrupted)


def test_nothing_is_reused_by_another_run(whole, tmp_path, out, monkeypatch):
    source, _ = whole("parquet")
    fail_writing(monkeypatch, source, out, after=5)
    numbers = written(monkeypatch)
    other = DedupParams(min_separation=30)
    result = run(source, out, other)
    assert len(numbers) == result.manifest["plan"]["fragments"]
    run(source, tmp_path / "whole", other)
    assert data(out) == data(tmp_path / "whole")


def test_nothing_is_reused_after_an_input_changed(tmp_path, out, monkeypatch):
    source = make_input("parquet", tmp_path)
    fail_writing(monkeypatch, source, out, after=5)
    first = sorted(source.iterdir())[0]
    os.utime(first, ns=(1, 1))
    numbers = written(monkeypatch)
    result = run(source, out)
    assert len(numbers) == result.manifest["plan"]["fragments"]


def test_nothing_is_reused_after_a_library_changed(whole, out, monkeypatch):
    source, _ = whole("parquet")
    fail_writing(monkeypatch, source, out, after=5)
    changed = {**versions(), "pyarrow": "0.0"}
    for module in ("manifest_content", "run"):
        monkeypatch.setattr(f"dask_dedup.pipeline.{module}.versions", lambda: changed)
    numbers = written(monkeypatch)
    result = run(source, out)
    assert len(numbers) == result.manifest["plan"]["fragments"]
    assert hidden(out) == []


def test_an_interrupted_overwrite_keeps_the_old_result_and_is_resumed(whole, out, monkeypatch):
    source, uninterrupted = whole("parquet")
    run(source, out, DedupParams(min_separation=5))
    before = contents(out)
    fail_writing(monkeypatch, source, out, after=5, overwrite=True)
    after = contents(out)
    assert {name: after[name] for name in before} == before
    numbers = written(monkeypatch)
    result = run(source, out, overwrite=True)
    assert 0 < len(numbers) < result.manifest["plan"]["fragments"]
    assert data(out) == data(uninterrupted)


class TestInputsThatChange:
    """An input is replaced after the scan."""

    def after_the_scan(self, monkeypatch, action):
        real = LocalStore.stage

        def stage(*args):
            action()
            return real(*args)

        monkeypatch.setattr(LocalStore, "stage", stage)

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_replaced_input_fails_the_run(self, tmp_path, out, monkeypatch, kind):
        source = make_input(kind, tmp_path)
        file = sorted(source.iterdir())[0] if source.is_dir() else source
        content = file.read_bytes()
        self.after_the_scan(monkeypatch, lambda: (file.unlink(), file.write_bytes(content)))
        with pytest.raises(RunError, match=r"changed|run again"):
            run(source, out)
        assert not out.exists()

    @pytest.mark.parametrize(
        "kind", ["parquet", pytest.param("star", marks=pytest.mark.slow), "cs"]
    )
    def test_an_input_replaced_during_writing_fails_the_run(self, tmp_path, out, kind):
        source = make_input(kind, tmp_path)
        file = sorted(source.iterdir())[-1] if source.is_dir() else source
        content = file.read_bytes()
        done = []

        def on_event(event):
            if event["kind"] == "written" and not done:
                done.append(event)
                file.unlink()
                file.write_bytes(content)

        with pytest.raises((RunError, InputError), match=r"changed|run again"):
            run(source, out, on_event=on_event)
        assert done
        assert not out.exists()
        assert not run(source, out).already_done

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_deleted_input_fails_the_run(self, cli, tmp_path, out, monkeypatch, kind):
        source = make_input(kind, tmp_path)
        file = sorted(source.iterdir())[0] if source.is_dir() else source
        self.after_the_scan(monkeypatch, file.unlink)
        outcome = cli("run", source, "-o", out, "--quiet")
        assert outcome.exit_code in (1, 2)
        assert str(file) in outcome.stderr
        assert outcome.stderr.splitlines()[-1].startswith("dask-dedup: ")
        assert not out.exists()


@pytest.mark.parametrize("on_a_cluster", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_old_result_can_be_read_until_the_new_one_is_complete(
    tmp_path, out, on_a_cluster, request
):
    source = make_input("scrambled", tmp_path)
    run(source, out, DedupParams(min_separation=5))
    before = contents(out)
    seen = []

    def on_event(event):
        if event["kind"] != "finished":
            seen.append({name: (out / name).read_bytes() for name in before} == before)

    client = request.getfixturevalue("cluster") if on_a_cluster else None
    run(source, out, client=client, overwrite=True, on_event=on_event)
    assert len(seen) > 20
    assert all(seen)
    assert contents(out)["manifest.json"] != before["manifest.json"]


class TestTwoCommandsAtOnce:
    """Two processes started at the same moment."""

    def together(self, *commands):
        code = "import dask_dedup.pipeline.run; input(); from dask_dedup.cli import main; main()"
        words = [sys.executable, "-c", code, "run", "--quiet", "--no-report"]
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        both = [subprocess.Popen([*words, *map(str, each)], **pipes) for each in commands]
        for process in both:
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=200)[1] for process in both]
        return [process.returncode for process in both], outputs

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=["plain", "overwrite"])
    @pytest.mark.parametrize("same", [True, False], ids=["same", "different"])
    def test_one_complete_result_remains(self, tmp_path, out, monkeypatch, same, options):
        monkeypatch.undo()  # the processes use the default fragment size
        source = make_input("parquet", tmp_path)
        other = () if same else ("--min-separation", "30")
        codes, outputs = self.together(
            (source, "-o", out, *options), (source, "-o", out, *options, *other)
        )
        assert 0 in codes
        for code, line in zip(codes, outputs, strict=True):
            assert code == 0 or (code == 2 and "another run" in line), line
        assert not (codes == [0, 0] and not same and not options)
        assert verify(out).verified
        assert hidden(out) == []
        winners = [
            run(source, tmp_path / f"alone-{d}", DedupParams(min_separation=d)) for d in (20, 30)
        ]
        assert data(out) in [data(winner.output) for winner in winners]


class TestLock:
    def test_a_second_run_is_refused_and_names_the_first(self, tmp_path, out):
        source = make_input("parquet", tmp_path)
        with lock.locked(out), pytest.raises(OutputExistsError, match=f"process {os.getpid()} on"):
            run(source, out)
        assert not out.exists()
        assert not run(source, out).already_done

    def test_it_ends_with_its_holder_even_if_that_is_killed(self, tmp_path, out):
        script = """
            import sys, time
            from pathlib import Path
            from dask_dedup.output.lock import locked
            with locked(Path(sys.argv[1])):
                print("held", flush=True)
                time.sleep(60)
        """
        words = [sys.executable, "-c", textwrap.dedent(script), str(out)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "held\n"
            assert f"process {process.pid} on" in lock.find_holder(out)
            with pytest.raises(OutputExistsError), lock.locked(out):
                pass
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert lock.find_holder(out) is None
        with lock.locked(out):
            assert lock.find_holder(out)
        assert hidden(out) == []

    def test_it_removes_only_a_folder_that_it_created(self, tmp_path):
        with lock.locked(tmp_path / "a" / "new"):
            pass
        assert not (tmp_path / "a" / "new").exists()
        (tmp_path / "old").mkdir()
        with lock.locked(tmp_path / "old"):
            pass
        assert (tmp_path / "old").exists()


def test_an_interrupt_keeps_what_is_written(cli, tmp_path, out, monkeypatch):
    source = make_input("parquet", tmp_path)
    with monkeypatch.context() as patch:
        crashing(patch, stages, "write_fragment", call=6, error=KeyboardInterrupt)
        outcome = cli("run", source, "-o", out, "--quiet")
    assert outcome.exit_code == 130
    assert "particles are written so far. Run the same command to resume" in outcome.stderr
    numbers = written(monkeypatch)
    assert cli("run", source, "-o", out).exit_code == 0
    assert 0 < len(numbers) < 10


def test_a_damaged_input_leaves_nothing_to_resume(tmp_path, out, monkeypatch):
    source = make_input("parquet", tmp_path)
    with monkeypatch.context() as patch:
        crashing(patch, stages, "write_fragment", call=6, error=InputError("it is broken"))
        with pytest.raises(InputError):
            run(source, out)
    assert not out.exists()
