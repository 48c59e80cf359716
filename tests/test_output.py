"""What a run writes: the first time, the second time, and after a crash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import (
    Output,
    assert_same_rows,
    contents,
    cryosparc,
    relion,
    stamps,
    uids,
    values,
    write_file,
    write_folder,
)

import dask_dedup
from dask_dedup import DedupParams, run
from dask_dedup.errors import OutputExistsError
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet import writer
from dask_dedup.output import lock
from dask_dedup.output.local import LocalStore
from dask_dedup.output.manifest import FORMAT
from dask_dedup.pipeline import fragment_files, stages

TABLES = ("particles_kept", "particles_rejected", "duplicates")


@pytest.fixture
def path(tmp_path):
    return write_file(cryosparc(), tmp_path / "picks.parquet")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def fragments_of_30(monkeypatch):
    """Cut inputs at every row group and file."""
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)


class Crash(BaseException):
    """The end of the process: nothing catches this."""


def crashing(monkeypatch, owner, name, *, call=1, error=Crash):
    """Make one call of `owner.name` raise, by its number; later calls work again."""
    real, count = getattr(owner, name), iter(range(1, 10_000))

    def flaky(*args, **kwargs):
        if next(count) == call:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, flaky)


def hidden(folder):
    return [entry.name for entry in Path(folder).iterdir() if entry.name.startswith(".")]


class TestFiles:
    def test_the_folder_holds_three_datasets_and_the_manifest(self, path, out):
        run(path, out)
        expected = {*TABLES, "manifest.json"}
        assert expected <= {entry.name for entry in out.iterdir()}
        assert hidden(out) == []
        for name in TABLES:
            assert [part.suffix for part in (out / name).iterdir()] == [".parquet"]

    def test_missing_parent_folders_are_created(self, path, tmp_path):
        run(path, tmp_path / "a" / "b" / "out")
        assert (tmp_path / "a" / "b" / "out" / "manifest.json").exists()

    def test_every_row_is_there_once_in_the_order_of_its_fragment(
        self, tmp_path, out, fragments_of_30
    ):
        table = cryosparc(150, seed=4)
        folder = write_folder(table, tmp_path / "in", files=5)
        run(folder, out)
        sources = [pq.read_table(part) for part in sorted(folder.iterdir())]
        kept, rejected = (
            [pq.read_table(part) for part in Output(out).parts(name)] for name in TABLES[:2]
        )
        assert len(kept) == len(rejected) == 5
        for source, mine, others in zip(sources, kept, rejected, strict=True):
            stays = [uid in set(uids(mine)) for uid in uids(source)]
            assert_same_rows(mine, source.filter(pa.array(stays)))
            assert_same_rows(others, source.filter(pa.array(np.logical_not(stays))))

    def test_any_reader_opens_the_folders(self, path, out):
        result = run(path, out)
        assert pq.read_table(out / "particles_kept").num_rows == result.kept
        assert pq.read_table(out / "particles_rejected").num_rows == result.rejected
        assert pq.read_table(out / "duplicates").num_rows == result.rejected


class TestManifest:
    def test_it_has_parameters_versions_and_plan(self, path, out):
        params = DedupParams(min_separation=12.5, score_field="error", seed=3)
        result = run(path, out, params)
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest == json.loads(json.dumps(result.manifest))
        found = manifest["parameters"]
        assert (found["min_separation"], found["seed"]) == (12.5, 3)
        assert found["score_field"] == [["", "error"]]
        assert set(found) == set(DedupParams.__slots__)
        assert manifest["versions"]["dask-dedup"] == dask_dedup.__version__
        assert manifest["versions"]["pyarrow"] == pa.__version__
        assert manifest["plan"]["rows"] == 120
        assert manifest["plan"]["micrographs"] == 4
        assert manifest["overwrite"] is False
        assert manifest["micrographs"] is None

    @pytest.mark.parametrize("found", [1, None], ids=["older", "without"])
    @pytest.mark.parametrize("command", ["run", "status", "clean", "verify", "report"])
    def test_another_format_version_is_refused(self, cli, path, out, found, command):
        result = run(path, out)
        manifest = {**result.manifest, "format": found}
        if found is None:
            del manifest["format"]
        (out / "manifest.json").write_text(json.dumps(manifest))
        (out / ".dask-dedup-0123456789ab").mkdir()
        outcome = cli(command, *([path, "-o"] if command == "run" else []), out)
        if command == "clean":
            assert outcome.exit_code == 0
            return
        assert outcome.exit_code == 2
        (line,) = outcome.stderr.splitlines()
        assert f"result format {found or 'unknown'}, but " in line
        assert f"reads format {FORMAT}" in line

    def test_it_has_inputs_with_size_rows_and_fingerprint(self, path, tmp_path, out):
        folder = write_folder(cryosparc(90, seed=1), tmp_path / "in")
        result = run([path, folder], out)
        one, two = result.manifest["inputs"]
        assert (one["path"], one["rows"], one["bytes"]) == (str(path), 120, path.stat().st_size)
        assert [file["path"] for file in two["files"]] == [str(p) for p in sorted(folder.iterdir())]
        assert [file["rows"] for file in two["files"]] == [30, 30, 30]
        prints = [file["fingerprint"] for entry in (one, two) for file in entry["files"]]
        assert len(set(prints)) == 4
        assert all(len(fingerprint) == 64 for fingerprint in prints)
        assert one["columns"]["shift"] == ["alignments3D/shift"]

    def test_it_lists_every_data_file(self, path, tmp_path, out):
        write_folder(cryosparc(90, seed=1), tmp_path / "in")
        run([path, tmp_path / "in"], out)
        listed = {entry["path"]: entry for entry in Output(out).manifest["outputs"]}
        there = {name: data for name, data in contents(out).items() if name.startswith(TABLES)}
        assert set(listed) == set(there)
        for name, data in there.items():
            assert listed[name]["bytes"] == len(data)
            assert listed[name]["sha256"] == hashlib.sha256(data).hexdigest()
            assert listed[name]["rows"] == pq.read_metadata(out / name).num_rows

    def test_totals_are_conserved(self, path, tmp_path, out):
        other = write_file(cryosparc(80, seed=1), tmp_path / "other.parquet")
        result = run([path, other], out)
        totals = result.manifest["totals"]
        assert totals["kept"] + totals["rejected"] == totals["rows"] == 200
        for key in ("kept", "rejected", "rows"):
            assert sum(entry[key] for entry in totals["by_input"]) == totals[key]
        assert result.kept == Output(out).kept.num_rows
        assert result.rejected == Output(out).rejected.num_rows

    def test_a_lost_row_fails_the_run(self, path, out, monkeypatch):
        real = writer.split

        def lossy(*args, **kwargs):
            kept, rejected = real(*args, **kwargs)
            return dask_dedup.formats.OutputFile(kept.path, kept.rows - 1, 1, ""), rejected

        monkeypatch.setattr(writer, "split", lossy)
        with pytest.raises(dask_dedup.RunError, match="nothing was committed"):
            run(path, out)
        assert not (out / "manifest.json").exists()


class TestAgain:
    def test_the_same_command_does_nothing_and_says_so(self, cli, path, out):
        first = cli("run", path, "--output", out)
        before = stamps(out)
        again = cli("run", path, "--output", out)
        assert again.exit_code == 0
        assert "already holds this run" in again.stderr
        assert stamps(out) == before
        assert again.stdout == first.stdout

    def test_json_says_so_too(self, cli, path, out):
        found = [json.loads(cli("run", path, "-o", out, "--json").stdout) for _ in range(2)]
        assert [answer.pop("already_done") for answer in found] == [False, True]
        assert found[0] == found[1]
        assert found[0]["kept"] + found[0]["rejected"] == 120

    def test_a_changed_input_makes_it_another_run(self, path, out):
        run(path, out)
        write_file(cryosparc(seed=1), path)
        with pytest.raises(OutputExistsError):
            run(path, out)

    @pytest.mark.parametrize(
        "other", [{"min_separation": 5}, {"seed": 1}, {"remove_entirely": True}], ids=str
    )
    def test_other_parameters_are_refused(self, path, out, other):
        run(path, out)
        before = stamps(out)
        with pytest.raises(OutputExistsError, match="pass overwrite"):
            run(path, out, DedupParams(**other))
        assert stamps(out) == before

    def test_overwrite_replaces_everything(self, path, out, tmp_path):
        other = DedupParams(min_separation=60)
        run(path, out)
        run(path, out, other, overwrite=True)
        run(path, tmp_path / "fresh", other)
        assert data(out) == data(tmp_path / "fresh")
        assert Output(out).manifest["run_id"] == Output(tmp_path / "fresh").manifest["run_id"]
        assert hidden(out) == []

    def test_overwrite_repeats_the_same_run(self, path, out):
        run(path, out)
        before = data(out)
        result = run(path, out, overwrite=True)
        assert not result.already_done
        assert data(out) == before
        assert hidden(out) == []

    def test_overwrite_with_fewer_files_leaves_none_of_the_old(self, tmp_path, out, monkeypatch):
        folder = write_folder(cryosparc(90), tmp_path / "in", files=3)
        with monkeypatch.context() as patch:
            patch.setattr(parquet, "FRAGMENT_BYTES", 1)
            run(folder, out)
        assert len(Output(out).parts("particles_kept")) == 3
        run(folder, out, overwrite=True)
        assert len(Output(out).parts("particles_kept")) == 1

    def test_overwrite_keeps_the_old_result_if_the_new_run_fails(self, path, tmp_path, out):
        run(path, out)
        before = stamps(out)
        broken = write_file(cryosparc(drop=["uid", "pick_stats"]), tmp_path / "broken.parquet")
        with pytest.raises(dask_dedup.InputError):
            run(broken, out, overwrite=True)
        assert stamps(out) == before


def data(folder):
    return {name: bytes for name, bytes in contents(folder).items() if name.startswith(TABLES)}


#: Calls at which a commit may be interrupted, by their number.
STOPS = [
    *(("draft", Path, "rename", 1),),
    *((f"rename {n}", Path, "rename", n) for n in (2, 3, 4)),
    ("link", os, "link", 1),
    ("sweep", shutil, "rmtree", 1),
]
OVERWRITE_STOPS = [
    *((f"rename {n}", Path, "rename", n) for n in range(1, 9)),
    ("link", os, "link", 1),
    ("sweep", shutil, "rmtree", 1),
]


class TestCrash:
    def expected(self, path, folder, **params):
        run(path, folder, DedupParams(**params))
        return data(folder)

    def test_a_run_that_crashes_while_writing_is_repeated(self, path, tmp_path, out, monkeypatch):
        with monkeypatch.context() as patch:
            crashing(patch, fragment_files.parquet, "write")
            with pytest.raises(Crash):
                run(path, out)
        assert not any((out / name).exists() for name in (*TABLES, "manifest.json"))
        run(path, out)
        assert data(out) == self.expected(path, tmp_path / "fresh")
        assert hidden(out) == []

    def test_leftovers_of_another_run_do_not_block(self, path, tmp_path, out, monkeypatch):
        with monkeypatch.context() as patch:
            crashing(patch, fragment_files.parquet, "write")
            with pytest.raises(Crash):
                run(path, out, DedupParams(min_separation=5))
        run(path, out)
        assert data(out) == self.expected(path, tmp_path / "fresh")

    @pytest.mark.parametrize(
        ("owner", "name", "call"), [s[1:] for s in STOPS], ids=next(zip(*STOPS, strict=True))
    )
    def test_an_interrupted_commit_is_finished_by_the_same_command(
        self, path, tmp_path, out, monkeypatch, owner, name, call
    ):
        with monkeypatch.context() as patch:
            crashing(patch, owner, name, call=call)
            with pytest.raises(Crash):
                run(path, out)
        result = run(path, out)
        assert data(out) == self.expected(path, tmp_path / "fresh")
        assert result.manifest["run_id"] == Output(tmp_path / "fresh").manifest["run_id"]
        assert hidden(out) == []

    @pytest.mark.parametrize(
        ("owner", "name", "call"),
        [s[1:] for s in OVERWRITE_STOPS],
        ids=next(zip(*OVERWRITE_STOPS, strict=True)),
    )
    def test_an_interrupted_overwrite_is_finished_by_the_same_command(
        self, path, tmp_path, out, monkeypatch, owner, name, call
    ):
        other = DedupParams(min_separation=60)
        run(path, out)
        with monkeypatch.context() as patch:
            crashing(patch, owner, name, call=call)
            with pytest.raises(Crash):
                run(path, out, other, overwrite=True)
        run(path, out, other, overwrite=True)
        assert data(out) == self.expected(path, tmp_path / "fresh", min_separation=60)
        assert hidden(out) == []

    def test_a_manifest_never_stands_beside_the_data_of_another_run(
        self, path, tmp_path, out, monkeypatch
    ):
        first, second = DedupParams(min_separation=5), DedupParams(min_separation=60)
        with monkeypatch.context() as patch:
            crashing(patch, shutil, "rmtree")
            with pytest.raises(Crash):
                run(path, out, first, overwrite=True)
        run(path, out, second, overwrite=True)
        result = run(path, out, first, overwrite=True)
        assert result.kept == Output(out).kept.num_rows
        assert data(out) == self.expected(path, tmp_path / "fresh", min_separation=5)

    def test_a_commit_that_fails_is_a_run_error(self, cli, path, out, monkeypatch):
        with monkeypatch.context() as patch:
            crashing(patch, Path, "rename", call=3, error=OSError(28, "No space left on device"))
            outcome = cli("run", path, "--output", out, "--quiet")
        assert outcome.exit_code == 1
        warning, line = outcome.stderr.splitlines()
        assert warning.endswith("not committed. Run the same command to finish.")
        assert line.startswith("dask-dedup: ")
        assert f"{out}: the disk is full" in line
        assert not (out / "manifest.json").exists()
        assert cli("run", path, "--output", out).exit_code == 0

    def test_a_file_system_without_hard_links_works(self, path, out, monkeypatch):
        def link(*args, **kwargs):
            raise PermissionError(1, "Operation not permitted")  # FAT, SMB, many FUSE mounts

        monkeypatch.setattr(os, "link", link)
        run(path, out)
        assert (out / "manifest.json").exists()
        assert hidden(out) == []


class TestTwoRunsAtOnce:
    """A second run starts and ends during a step of the first, on a file system without locks."""

    @pytest.fixture(autouse=True)
    def no_locks(self, monkeypatch):
        def flock(*args):
            raise OSError(errno.ENOLCK, "No locks available")  # some parallel file systems

        monkeypatch.setattr(lock.fcntl, "flock", flock)

    def during(self, monkeypatch, owner, name, action):
        real = getattr(owner, name)

        def after_action(*args, **kwargs):
            monkeypatch.setattr(owner, name, real)
            action()
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, after_action)

    @pytest.mark.parametrize(
        ("owner", "name"),
        [(stages, "write_fragment"), (LocalStore, "commit")],
        ids=["write", "commit"],
    )
    def test_a_result_that_came_first_is_left_alone(self, path, out, monkeypatch, owner, name):
        other = DedupParams(min_separation=60)
        self.during(monkeypatch, owner, name, lambda: run(path, out, other))
        with pytest.raises(OutputExistsError, match="meanwhile"):
            run(path, out)
        result = Output(out)
        assert result.manifest["parameters"]["min_separation"] == 60
        listed = {entry["path"]: entry["sha256"] for entry in result.manifest["outputs"]}
        assert {
            name: hashlib.sha256(content).hexdigest() for name, content in data(out).items()
        } == listed
        assert hidden(out) == []

    @pytest.mark.parametrize(
        ("owner", "name"),
        [(stages, "write_fragment"), (LocalStore, "commit")],
        ids=["write", "commit"],
    )
    def test_the_same_run_twice_gives_one_result(
        self, path, tmp_path, out, monkeypatch, owner, name
    ):
        self.during(monkeypatch, owner, name, lambda: run(path, out))
        with suppress(dask_dedup.DedupError):  # one of the two may give up, but not the result
            run(path, out)
        assert run(path, out).already_done
        monkeypatch.undo()
        run(path, tmp_path / "fresh")
        assert data(out) == data(tmp_path / "fresh")


@pytest.fixture(scope="class")
def result(tmp_path_factory):
    """Two inputs of several files and row groups, with half-sets."""
    folder = tmp_path_factory.mktemp("duplicates")
    one, two = cryosparc(150, seed=1), cryosparc(140, seed=2)
    inputs = [
        write_folder(one, folder / "one", files=3, row_group_size=20),
        write_file(two, folder / "two.parquet", row_group_size=33),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "FRAGMENT_BYTES", 1)
        run(inputs, folder / "out")
    return Output(folder / "out")


class TestDuplicates:
    def rows_at(self, found, prefix=""):
        """Read the rows that the table points to."""
        files = {file: pq.read_table(file) for file in set(found[f"{prefix}file"].to_pylist())}
        rows_of_files = zip(found[f"{prefix}file"], found[f"{prefix}row"], strict=True)
        return pa.concat_tables(
            [files[file.as_py()].slice(row.as_py(), 1) for file, row in rows_of_files]
        )

    def test_the_columns_are_those_of_the_design(self, result):
        names = "uid winner_uid distance_A score winner_score input winner_input file row"
        halves = "winner_file winner_row half_set winner_half_set"
        assert set(f"{names} {halves}".split()) <= set(result.duplicates.schema.names)
        assert result.duplicates.schema.field("uid").type == pa.uint64()
        assert result.duplicates.num_rows == result.rejected.num_rows
        assert uids(result.duplicates) == uids(result.rejected)

    @pytest.mark.parametrize("prefix", ["", "winner_"])
    def test_file_and_row_point_to_the_rows(self, result, prefix):
        found = result.duplicates
        rows = self.rows_at(found, prefix)
        assert found[f"{prefix}uid"].to_pylist() == uids(rows)
        scores = values(found, f"{prefix}score")
        assert scores.tolist() == values(rows, "pick_stats/ncc_score").tolist()
        halves = found[f"{prefix}half_set"].to_pylist()
        assert halves == rows["alignments3D/split"].to_pylist()
        micrographs = set(rows["location/micrograph_uid"].cast(pa.string()).to_pylist())
        assert set(found["micrograph"].to_pylist()) >= micrographs
        inputs = found[f"{prefix}input"].to_pylist()
        files = found[f"{prefix}file"].to_pylist()
        assert all(file.startswith(name) for file, name in zip(files, inputs, strict=True))

    def test_winners_are_kept_and_better(self, result):
        found = result.duplicates
        kept = set(uids(result.kept))
        assert set(found["winner_uid"].to_pylist()) <= kept
        assert (values(found, "score") < values(found, "winner_score")).all()

    def test_distances_are_those_of_the_shifted_centres(self, result):
        found = result.duplicates
        rejected, winner = (self.centres(self.rows_at(found, prefix)) for prefix in ("", "winner_"))
        distance = np.linalg.norm(rejected - winner, axis=1)
        np.testing.assert_allclose(values(found, "distance_A"), distance, rtol=1e-9)
        assert distance.max() <= 20

    @staticmethod
    def centres(rows):
        shape = values(rows, "location/micrograph_shape")[:, ::-1]
        xy = [values(rows, f"location/center_{axis}_frac") for axis in "xy"]
        pixels = np.column_stack(xy) * shape
        shift = values(rows, "alignments3D/shift") * values(rows, "alignments3D/psize_A")[:, None]
        return pixels * values(rows, "location/micrograph_psize_A")[:, None] - shift

    def test_pairs_across_half_sets_are_counted(self, result):
        found = result.duplicates
        across = values(found, "half_set") != values(found, "winner_half_set")
        assert result.manifest["totals"]["across_half_sets"] == across.sum() > 0

    def test_a_table_without_half_sets_scores_or_uids_has_nulls(self, tmp_path, out):
        table = cryosparc(drop=["uid", "alignments", "pick_stats"])
        run(write_file(table, tmp_path / "in.parquet"), out, DedupParams(score_field="none"))
        found = Output(out).duplicates
        for name in ("uid", "score", "half_set"):
            assert found[name].null_count == found[f"winner_{name}"].null_count == found.num_rows
        assert found["row"].null_count == found["winner_row"].null_count == 0

    def test_relion_half_sets_are_listed(self, tmp_path, out):
        table = relion()
        run(write_file(table, tmp_path / "in.parquet"), out)
        found = Output(out).duplicates
        rows = self.rows_at(found)
        assert found["half_set"].to_pylist() == rows["rlnRandomSubset"].to_pylist()
        assert found["micrograph"].to_pylist() == rows["rlnMicrographName"].to_pylist()

    def test_remove_entirely_has_no_winners(self, path, out):
        run(path, out, DedupParams(remove_entirely=True))
        found = Output(out).duplicates
        assert found.num_rows > 0
        for name in ("uid", "score", "input", "file", "row", "half_set"):
            assert found[f"winner_{name}"].null_count == found.num_rows
        assert found["uid"].null_count == found["distance_A"].null_count == 0
        assert values(found, "distance_A").max() <= 20
        assert Output(out).manifest["totals"]["same_uid"] is None

    def test_columns_and_types_are_the_same_in_every_part(self, result):
        schemas = [pq.read_schema(part) for part in result.parts("duplicates")]
        assert len(schemas) > 3
        assert all(schema == schemas[0] for schema in schemas)
