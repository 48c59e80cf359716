"""A run for duplicates only, and the particle tables that are written for it later."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client
from tables import (
    contents,
    cryosparc,
    exposures,
    relion,
    stamps,
    write_file,
    write_folder,
    write_hive,
)
from test_chosen_separation import picks
from test_conversion import micrographs, pickers
from test_coordinates_tomography import project as tomography_project
from test_object_stores import make_group
from test_output import Crash, crashing, hidden
from test_resume import write_cs, write_star

from dask_dedup import (
    InputError,
    RunError,
    clean,
    materialize,
    read_kept,
    report,
    run,
    status,
    verify,
)
from dask_dedup.errors import OutputExistsError
from dask_dedup.formats.cryosparc import cs
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.star import lines as star_lines
from dask_dedup.output import local
from dask_dedup.output.layout import LOCK
from dask_dedup.output.manifest import with_checksum
from dask_dedup.pipeline import manifest_content, stages
from dask_dedup.pipeline.executors.memory import WritingMemory

TABLES = ("particles_kept", "particles_rejected", "duplicates", "votes")
PARTICLES = TABLES[:2]


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    """Split small inputs into several fragments."""
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 4_000)
    monkeypatch.setattr(cs, "FRAGMENT_BYTES", 1_600)


def shuffled(seed=3):
    return cryosparc(120, seed=seed).take(np.random.default_rng(seed).permutation(120))


def make_case(kind, folder):
    """Write inputs of a kind. Return them, and the options of their run."""
    if kind == "parquet":
        return [write_folder(shuffled(), folder / "in", files=4)], {}
    if kind == "hive":
        return [write_hive(cryosparc(), folder / "in", "location/micrograph_path")], {}
    if kind == "star":
        return [write_star(relion(120), folder / "in.star")], {}
    if kind == "cs":
        return [write_cs(120, folder / "in.cs")], {}
    if kind == "csg":
        return [make_group(folder / "J1", backwards=True)], {"min_separation": 300.0}
    if kind == "mixed":
        one = write_file(relion(60), folder / "one.parquet")
        two = write_star(relion(60, seed=1), folder / "two.star")
        return [one, two], {"invalid": "reject", "min_score": 0.3}
    if kind == "star to parquet":
        one = write_star(relion(60), folder / "one.star")
        two = write_star(relion(60, seed=1), folder / "two.star")
        return [one, two], {"output_format": "parquet", "compression": "lz4"}
    if kind == "votes":
        paths = [write_file(shuffled(seed), folder / f"{seed}.parquet") for seed in (1, 2)]
        return paths, {"min_votes": 2}
    if kind == "picks":
        return pickers(folder), {"micrograph_pixel_size": 2.0, "match_micrographs": "name"}
    options = {"micrographs": micrographs(folder), "match_micrographs": "name"}
    return pickers(folder), {**options, "prefer_input_order": True, "output_format": kind}


KINDS = ["parquet", "star", "votes"]
SLOW_KINDS = [
    *("hive", "cs", "csg", "mixed", "star to parquet", "picks", "star", "relion-coordinates")
]
each_kind = pytest.mark.parametrize(
    "kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW_KINDS[:-2])]
)


def make_relative_case(kind):
    """Write inputs into the current folder. Return their relative paths, and the options of their run."""
    if kind == "star":
        return [str(write_star(relion(60), Path("in.star")))], {}
    if kind == "micrographs":
        name = write_file(cryosparc(drop=["location/micrograph_psize_A"]), "in.parquet")
        return [str(name)], {"micrographs": str(write_file(exposures(), "mics.parquet"))}
    if kind == "optimisation set":
        write_star(relion(60, axes=3), Path("in.star"))
        Path("set.star").write_text("data_\n\n_rlnTomoParticlesFile in.star\n")
        return ["set.star"], {}
    if kind == "annotations":
        options = {"min_separation": 12.9, "score_field": "none"}
        return [str(tomography_project(Path()))], options
    options = {"match_micrographs": "name", "prefer_input_order": True}
    if kind == "STAR micrographs":
        options["micrographs"] = str(micrographs(Path()))
    else:
        options |= {"micrograph_pixel_size": 2.0, "min_votes": 2, "found_by": ["EMAN"]}
    return list(map(str, pickers(Path()))), options


def data(folder):
    return {name: text for name, text in contents(folder).items() if name.startswith(TABLES)}


def manifest(folder):
    return json.loads((Path(folder) / "manifest.json").read_text())


def lists_of(files):
    """Return the files without those of the particle tables."""
    return {name: text for name, text in files.items() if not name.startswith(PARTICLES)}


def whole(folder, inputs, options):
    """Run with particle tables. Return the files and the manifest; remove the result, so that paths stay the same."""
    run(inputs, folder, **options)
    found = data(folder), manifest(folder)
    shutil.rmtree(folder)
    return found


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder of four files that no test changes, and the files and the manifest of a run with particle tables."""
    folder = tmp_path_factory.mktemp("shared")
    inputs, _ = make_case("parquet", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "FRAGMENT_BYTES", 1)
        return inputs, *whole(folder / "out", inputs, {})


@pytest.fixture
def listed(tmp_path, out):
    """A result for duplicates only, of a folder of four files; returns the inputs."""
    inputs, _ = make_case("parquet", tmp_path)
    run(inputs, out, duplicates_only=True)
    return inputs


class TestDuplicatesOnly:
    @each_kind
    def test_duplicates_and_votes_are_those_of_a_whole_run(self, tmp_path, out, kind):
        inputs, options = make_case(kind, tmp_path)
        files, expected = whole(out, inputs, options)
        result = run(inputs, out, duplicates_only=True, **options)
        lists = lists_of(files)
        assert data(out) == lists
        assert {"duplicates"} <= {name.split("/")[0] for name in lists}
        assert not any((out / name).exists() for name in PARTICLES)
        assert hidden(out) == []
        assert result.manifest["duplicates_only"] is True
        assert expected["duplicates_only"] is False
        for key in ("run_id", "totals", "plan", "inputs", "warnings"):
            assert result.manifest[key] == expected[key]

    def test_the_payload_is_not_read(self, shared, out, monkeypatch):
        inputs, _, _ = shared
        read, columns = parquet.read, set()

        def noting(table, fragment, names):
            columns.update(names)
            return read(table, fragment, names)

        monkeypatch.setattr(parquet, "read", noting)
        monkeypatch.setattr(parquet, "read_sample", None)
        run(inputs, out, duplicates_only=True)
        assert "pick_stats/ncc_score" in columns
        assert not {"pick_stats/power", "alignments3D/error"} & columns

    def test_a_cluster_lists_the_same(self, tmp_path, out, cluster):
        inputs, options = make_case("votes", tmp_path)
        run(inputs, tmp_path / "threads", duplicates_only=True, **options)
        run(inputs, out, client=cluster, duplicates_only=True, **options)
        assert data(out) == data(tmp_path / "threads")

    def test_the_same_command_has_nothing_to_do(self, listed, out):
        before = stamps(out)
        assert run(listed, out, duplicates_only=True).already_done
        assert stamps(out) == before

    def test_nothing_is_to_do_if_the_tables_are_there(self, shared, out):
        inputs, _, _ = shared
        run(inputs, out)
        before = stamps(out)
        assert run(inputs, out, duplicates_only=True).already_done
        assert stamps(out) == before

    @pytest.mark.parametrize("kind", ["parquet", pytest.param("star", marks=pytest.mark.slow)])
    def test_an_interrupted_run_of_either_kind_is_no_start_for_the_other(
        self, tmp_path, out, monkeypatch, kind
    ):
        inputs, options = make_case(kind, tmp_path)
        files, _ = whole(out, inputs, options)
        for only in (True, False):
            with monkeypatch.context() as patch:
                crashing(patch, stages, "write_fragment", call=3)
                with pytest.raises(Crash):
                    run(inputs, out, duplicates_only=only, **options)
            result = run(inputs, out, duplicates_only=not only, **options)
            assert hidden(out) == []
            names = [name for name in files if only or not name.startswith(PARTICLES)]
            assert data(out) == {name: files[name] for name in names}
            assert result.manifest["duplicates_only"] is not only
            shutil.rmtree(out)

    def test_it_is_resumed(self, shared, out, monkeypatch, caplog):
        inputs, files, _ = shared
        with monkeypatch.context() as patch:
            crashing(patch, stages, "write_fragment", call=3)
            with pytest.raises(Crash):
                run(inputs, out, duplicates_only=True)
        (attempt,) = status(out).attempts
        assert "--duplicates-only" in attempt.command
        caplog.set_level("INFO", "dask_dedup")
        run(inputs, out, duplicates_only=True)
        assert "resuming" in caplog.text
        assert data(out) == lists_of(files)

    def test_it_replaces_a_whole_result_and_is_replaced_by_one(self, tmp_path, out):
        inputs, options = make_case("votes", tmp_path)
        files, _ = whole(out, inputs, options)
        run(inputs, out, **options)
        run(inputs, out, duplicates_only=True, overwrite=True, min_separation=15.0)
        assert {path.name for path in out.iterdir()} == {"duplicates", "manifest.json"}
        assert verify(out).verified
        run(inputs, out, overwrite=True, **options)
        assert data(out) == files

    @pytest.mark.parametrize(
        "options", [{"min_separation": "auto"}, {"remove_entirely": True}], ids=["auto", "entirely"]
    )
    def test_other_options_work_as_ever(self, tmp_path, out, monkeypatch, options):
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 2**20)
        inputs = [write_file(picks(100 * n), tmp_path / f"{n}.parquet") for n in range(2)]
        files, _ = whole(out, inputs, options)
        run(inputs, out, duplicates_only=True, **options)
        assert not run(inputs, out, **options).already_done
        assert data(out) == files


class TestMaterialize:
    @each_kind
    @pytest.mark.parametrize("on_a_cluster", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_the_bytes_are_those_of_a_whole_run(self, tmp_path, out, kind, on_a_cluster, request):
        inputs, options = make_case(kind, tmp_path)
        client = request.getfixturevalue("cluster") if on_a_cluster else None
        check_bytes(out, inputs, options, client)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["star", "relion-coordinates"])
    @pytest.mark.parametrize("on_a_cluster", [False, True])
    @pytest.mark.parametrize("again", ["materialize", "run"])
    def test_so_are_those_of_conversions(self, tmp_path, out, kind, on_a_cluster, request, again):
        options = {"micrographs": micrographs(tmp_path), "match_micrographs": "name"}
        options |= {"prefer_input_order": True, "output_format": kind}
        client = request.getfixturevalue("cluster") if on_a_cluster else None
        check_bytes(out, pickers(tmp_path), options, client, again)

    @pytest.mark.parametrize(
        "kind",
        [
            *("star", "votes"),
            *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("hive", "parquet")),
        ],
    )
    def test_the_same_run_without_the_option_writes_them_too(self, tmp_path, out, kind):
        inputs, options = make_case(kind, tmp_path)
        check_bytes(out, inputs, options, None, "run")

    def test_a_second_call_has_nothing_to_do(self, listed, out):
        assert not materialize(out).already_done
        before = stamps(out)
        assert materialize(out).already_done
        assert run(listed, out).already_done
        assert stamps(out) == before

    @pytest.mark.parametrize(
        "kind",
        ["star", "micrographs", "STAR micrographs", "optimisation set", "votes", "annotations"],
    )
    def test_relative_inputs_are_found_from_another_folder(self, tmp_path, out, monkeypatch, kind):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        inputs, options = make_relative_case(kind)
        files, _ = whole(out, inputs, options)
        run(inputs, out, duplicates_only=True, **options)
        monkeypatch.chdir(tmp_path / "elsewhere")
        checks = verify(out)
        assert checks.verified, checks.lines()
        assert len(read_kept(out)) == manifest(out)["totals"]["kept"]
        materialize(out)
        assert data(out) == files
        for folder in (Path.cwd(), tmp_path):
            monkeypatch.chdir(folder)
            checks = verify(out)
            assert checks.verified, checks.lines()

    def test_conversions_are_made_in_the_folder_of_relative_inputs(
        self, tmp_path, out, monkeypatch
    ):
        pickers(tmp_path)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        options = {"micrograph_pixel_size": 2.0, "match_micrographs": "name"}
        options["output_format"] = "relion-coordinates"
        files, _ = whole(out, ["EMAN", "topaz/picks.txt"], options)
        run(["EMAN", "topaz/picks.txt"], out, duplicates_only=True, **options)
        monkeypatch.chdir(tmp_path / "elsewhere")
        with pytest.raises(InputError, match=f"relative to {tmp_path}. Run the same command"):
            materialize(out)
        monkeypatch.chdir(tmp_path)
        materialize(out)
        assert data(out) == files

    def test_absolute_inputs_are_converted_in_any_folder(self, tmp_path, out, monkeypatch):
        options = {"micrograph_pixel_size": 2.0, "match_micrographs": "name"}
        options["output_format"] = "relion-coordinates"
        inputs = pickers(tmp_path)
        files, _ = whole(out, inputs, options)
        run(inputs, out, duplicates_only=True, **options)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        materialize(out)
        assert data(out) == files

    @pytest.mark.parametrize("change", ["time", "content", "deleted", "added"])
    def test_a_changed_input_is_refused_and_nothing_is_written(self, listed, out, cli, change):
        file = sorted(listed[0].iterdir())[1]
        if change == "time":
            os.utime(file, ns=(1, 1))
        elif change == "content":
            write_file(cryosparc(7), file)
        elif change == "deleted":
            file.unlink()
        else:
            shutil.copy(file, file.with_name("more.parquet"))
        before = stamps(out)
        outcome = cli("materialize", out)
        assert outcome.exit_code == 2, outcome.stderr
        assert str(listed[0]) in outcome.stderr
        assert "has changed since the run" in outcome.stderr
        assert outcome.stdout == ""
        assert stamps(out) == before

    def test_the_time_of_an_input_can_be_set_back(self, listed, out, cli):
        os.utime(sorted(listed[0].iterdir())[1], ns=(1, 1))
        message = cli("materialize", out).stderr
        command = message.strip().partition("set the time back: ")[2]
        subprocess.run(shlex.split(command), check=True)
        assert not materialize(out).already_done

    def test_a_missing_input_is_refused(self, listed, out, cli):
        shutil.rmtree(listed[0])
        outcome = cli("materialize", out)
        assert outcome.exit_code == 2
        assert f"the input {listed[0]} is missing" in outcome.stderr

    def test_an_input_that_changes_meanwhile_fails(self, listed, out):
        before, file = contents(out), sorted(listed[0].iterdir())[-1]

        def on_event(event):
            if event["kind"] == "started":
                os.utime(file, ns=(1, 1))

        with pytest.raises(RunError, match="was changed"):
            materialize(out, on_event=on_event)
        assert contents(out) == before

    def test_changed_duplicates_are_not_trusted(self, listed, out, cli):
        file = sorted((out / "duplicates").iterdir())[1]
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        before = stamps(out)
        outcome = cli("materialize", out)
        assert outcome.exit_code == 1
        assert f"{file}: missing or changed since the run" in outcome.stderr
        assert {name: at for name, at in stamps(out).items() if name in before} == before
        assert not any((out / name).exists() for name in PARTICLES)

    def test_a_changed_manifest_is_not_trusted(self, listed, out):
        changed = manifest(out)
        changed["outputs"][0]["sha256"] = "0" * 64
        (out / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match="its checksum differs"):
            materialize(out)

    def test_a_folder_in_the_way_is_named_and_left_alone(self, listed, out):
        (out / "particles_kept").mkdir()
        (out / "particles_kept" / "mine").write_text("x")
        with pytest.raises(
            OutputExistsError, match="particles_kept: exists, but is not part of this result"
        ):
            materialize(out)
        assert (out / "particles_kept" / "mine").read_text() == "x"
        assert not (out / "particles_rejected").exists()

    def test_a_result_of_another_algorithm_is_refused(self, listed, out, monkeypatch):
        monkeypatch.setattr("dask_dedup.results.materialize.ALGORITHM", 99)
        with pytest.raises(InputError, match="with another algorithm"):
            materialize(out)

    def test_other_fragments_are_refused(self, listed, out, monkeypatch):
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 10**9)
        with pytest.raises(InputError, match="in 4 fragments, but this version makes 1"):
            materialize(out)

    def test_a_folder_without_a_run_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no finished run"):
            materialize(tmp_path)

    @pytest.mark.parametrize("on_a_cluster", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_memory_is_reserved_for_particles_only(self, tmp_path, out, monkeypatch, on_a_cluster):
        inputs, _ = make_case("parquet", tmp_path)
        reserved, real = [], WritingMemory.reserved

        def noting(memory, fragment):
            reserved.append(fragment.number)
            return real(memory, fragment)

        monkeypatch.setattr(WritingMemory, "reserved", noting)
        with ExitStack() as stack:
            client = None
            if on_a_cluster:
                # In threads of this process, so that the function above is used.
                options = {"processes": False, "n_workers": 1, "dashboard_address": ":0"}
                client = stack.enter_context(Client(**options))
            run(inputs, out, client=client, duplicates_only=True)
            assert reserved == []
            materialize(out, client)
        assert sorted(reserved) == [0, 1, 2, 3]

    def test_events_tell_of_the_written_fragments(self, listed, out):
        found = []
        materialize(out, on_event=found.append)
        kinds = [event["kind"] for event in found]
        assert kinds == ["started", *["written"] * 4, "finished"]
        assert found[0]["stages"] == ["written"]
        assert sum(event["kept"] for event in found[1:-1]) == manifest(out)["totals"]["kept"]


def check_bytes(out, inputs, options, client, again="materialize"):
    files, expected = whole(out, inputs, options)
    run(inputs, out, client=client, duplicates_only=True, **options)
    same = again == "run"
    result = run(inputs, out, client=client, **options) if same else materialize(out, client)
    assert data(out) == files
    assert hidden(out) == []
    assert not result.already_done
    found = manifest(out)
    assert found.pop("materialized")["versions"] == found["versions"]
    for each in (found, expected):
        for key in ("created", "seconds", "checksum"):
            del each[key]
    assert found == expected
    checks = verify(out)
    assert checks.verified, checks.lines()


#: Calls at which `materialize` may end, by their number, and what finishes it: while fragments are written, in the
#: commit, and after it.
STOPS = [
    (stages, "split_fragment", 3, "materialize"),
    pytest.param(Path, "rename", 1, "run", marks=pytest.mark.slow),
    pytest.param(Path, "rename", 3, "materialize", marks=pytest.mark.slow),
    (Path, "rename", 4, "run"),
    (Path, "replace", 1, "run"),
    (local, "remove", 1, "materialize"),
]


class TestInterruptions:
    @pytest.mark.parametrize(("owner", "name", "call", "again"), STOPS)
    def test_the_result_stays_and_a_repetition_finishes(
        self, shared, out, monkeypatch, owner, name, call, again
    ):
        inputs, files, _ = shared
        run(inputs, out, duplicates_only=True)
        before = manifest(out)
        with monkeypatch.context() as patch:
            crashing(patch, owner, name, call=call)
            with pytest.raises(Crash):
                materialize(out)
        after = manifest(out)
        assert after == before or data(out) == files
        assert verify(out).verified
        materialize(out) if again == "materialize" else run(inputs, out)
        assert data(out) == files
        assert hidden(out) == []
        assert verify(out).verified

    @pytest.mark.parametrize(
        ("owner", "name", "call"), [(Path, "rename", 3), (local.os, "link", 1)]
    )
    def test_an_interrupted_commit_of_duplicates_is_finished_by_a_whole_run(
        self, shared, out, monkeypatch, owner, name, call
    ):
        inputs, files, _ = shared
        with monkeypatch.context() as patch:
            crashing(patch, owner, name, call=call)
            with pytest.raises(Crash):
                run(inputs, out, duplicates_only=True)
        assert status(out).attempts[0].complete
        result = run(inputs, out)
        assert not result.already_done
        assert data(out) == files
        assert hidden(out) == []
        assert result.manifest == manifest(out)
        assert verify(out).verified

    def test_an_interrupted_commit_of_particles_is_finished_by_a_run_for_duplicates_only(
        self, shared, out, monkeypatch
    ):
        inputs, files, _ = shared
        with monkeypatch.context() as patch:
            crashing(patch, local.os, "link")
            with pytest.raises(Crash):
                run(inputs, out)
        run(inputs, out, duplicates_only=True)
        assert data(out) == files
        assert not manifest(out)["duplicates_only"]
        assert verify(out).verified

    def test_a_part_of_a_joined_table_is_not_visible(self, tmp_path, out, monkeypatch):
        inputs, _ = make_case("star", tmp_path)
        files, _ = whole(out, inputs, {})
        run(inputs, out, duplicates_only=True)
        with monkeypatch.context() as patch:
            crashing(patch, manifest_content.stages, "assemble", call=2)
            with pytest.raises(Crash):
                materialize(out)
        assert not any((out / name).exists() for name in PARTICLES)
        with monkeypatch.context() as patch:
            patch.setattr(stages, "split_fragment", None)  # all fragments have checkpoints
            materialize(out)
        assert data(out) == files

    def test_status_and_clean_after_one(self, listed, out, monkeypatch, cli):
        with monkeypatch.context() as patch:
            crashing(patch, stages, "split_fragment", call=3)
            with pytest.raises(Crash):
                materialize(out)
        (attempt,) = status(out).attempts
        assert (attempt.fragments, attempt.complete) == (4, False)
        assert attempt.command == f"dask-dedup materialize {out}"
        assert cli("status", out).exit_code == 0
        assert len(clean(out)) == 1
        assert hidden(out) == []
        assert verify(out).verified

    def test_an_interrupted_commit_must_be_finished(self, listed, out, monkeypatch):
        with monkeypatch.context() as patch:
            crashing(patch, Path, "replace", call=1)
            with pytest.raises(Crash):
                materialize(out)
        assert status(out).attempts[0].complete
        with pytest.raises(InputError, match=f"Finish it first: dask-dedup materialize {out}"):
            clean(out)
        # The inputs are no longer needed.
        shutil.rmtree(listed[0])
        materialize(out)
        assert not manifest(out)["duplicates_only"]
        assert hidden(out) == []

    def test_the_rest_of_a_replaced_result_can_be_removed(self, listed, out, monkeypatch):
        with monkeypatch.context() as patch:
            crashing(patch, Path, "rename", call=3)
            with pytest.raises(Crash):
                materialize(out)
        run(listed, out, overwrite=True, min_separation=15.0)
        assert verify(out).verified
        assert not status(out).attempts[0].complete
        assert "replaced" in "\n".join(status(out).lines())
        clean(out)
        assert hidden(out) == []
        assert verify(out).verified

    def test_ctrl_c_keeps_what_is_written(self, listed, out, monkeypatch, cli):
        with monkeypatch.context() as patch:
            crashing(patch, stages, "split_fragment", call=3, error=KeyboardInterrupt)
            outcome = cli("materialize", out, "--threads", 1)
        assert outcome.exit_code == 130
        assert f"interrupted; to resume: dask-dedup materialize {out}" in outcome.stderr
        assert "Traceback" not in outcome.stderr
        assert cli("materialize", out).exit_code == 0
        assert verify(out).verified

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["parquet", "star"])
    def test_a_killed_process_leaves_a_result_that_can_be_finished(self, tmp_path, out, kind):
        inputs, _ = make_case(kind, tmp_path)
        files, _ = whole(out, inputs, {})
        run(inputs, out, duplicates_only=True)
        before = contents(out)
        points = ["stages.split_fragment", "Path.rename", "Path.replace", "local.remove"]
        kills = 0
        for point in [*points, *["stages.assemble"] * (kind == "star")]:
            call = 1
            while kill_at(out, point, call):
                assert manifest(out)["duplicates_only"] or data(out) == files
                checks = verify(out)
                assert checks.verified, checks.lines()
                materialize(out)
                assert data(out) == files
                assert {*hidden(out)} <= {LOCK}
                restore(out, before)
                call, kills = call + 1, kills + 1
            restore(out, before)
        assert kills > 9


def restore(folder, files):
    """Replace the content of a folder."""
    shutil.rmtree(folder)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def kill_at(out, point, call):
    """Materialize a result in a process that ends by SIGKILL at a call of a function. Return its exit code."""
    script = f"""
        import os, signal
        from pathlib import Path
        from dask_dedup import materialize
        from dask_dedup.formats.cryosparc import cs
        from dask_dedup.formats.parquet import table as parquet
        from dask_dedup.formats.star import lines
        from dask_dedup.output import local
        from dask_dedup.pipeline import stages
        parquet.FRAGMENT_BYTES, lines.FRAGMENT_BYTES, cs.FRAGMENT_BYTES = 1, 4_000, 1_600
        owner, name = {point.split(".")[0]}, {point.split(".")[1]!r}
        real, calls = getattr(owner, name), iter(range(1, 1000))
        def deadly(*args, **kwargs):
            if next(calls) == {call}:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        setattr(owner, name, deadly)
        materialize({str(out)!r}, threads=1)
    """
    code = subprocess.run([sys.executable, "-c", textwrap.dedent(script)]).returncode
    assert code in (0, -signal.SIGKILL)
    return code


class TestOtherCommands:
    def test_verify_says_that_there_are_no_particles(self, listed, out):
        checks = verify(out)
        assert checks.verified
        (rows,) = [check for check in checks.checks if check.name == "rows"]
        assert "there are no particle tables" in rows.detail
        listed_rows = manifest(out)["totals"]["rejected"]
        assert f"lists {listed_rows} of 120 rows" in rows.detail

    @pytest.mark.parametrize("kind", ["parquet", "votes", "star"])
    def test_verify_finds_a_missing_row(self, tmp_path, out, kind):
        inputs, options = make_case(kind, tmp_path)
        run(inputs, out, duplicates_only=True, **options)
        changed = manifest(out)
        entry = next(each for each in changed["outputs"] if each["path"].startswith("duplicates/"))
        file = out / entry["path"]
        rows = pq.read_table(file).slice(1)
        pq.write_table(rows, file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        entry |= {"rows": len(rows), "bytes": file.stat().st_size, "sha256": digest}
        (out / "manifest.json").write_text(json.dumps(with_checksum(changed)))
        failed = {check.name for check in verify(out).checks if not check.passed}
        assert {"separation", "totals"} <= failed
        with pytest.raises(RunError, match="according to the manifest"):
            materialize(out)

    def test_verify_finds_particles_that_no_run_wrote(self, listed, out):
        (out / "particles_kept").mkdir()
        write_file(cryosparc(3), out / "particles_kept" / "part-00000.parquet")
        failed = [check for check in verify(out).checks if not check.passed]
        assert [check.name for check in failed] == ["files"]

    def test_the_commands_name_materialize(self, listed, out, cli, tmp_path):
        command = f"dask-dedup materialize {out}"
        assert command in cli("status", out).stdout
        shown = cli("run", *listed, "-o", tmp_path / "more", "--duplicates-only")
        assert shown.exit_code == 0
        assert f"to write them: dask-dedup materialize {tmp_path / 'more'}" in shown.stdout
        assert "particles_kept" not in shown.stdout
        done = cli("materialize", out)
        assert done.exit_code == 0, done.stderr
        assert "materialize" not in done.stdout
        shown = cli("status", out).stdout
        assert "materialize" not in shown
        assert f"particle tables written {manifest(out)['materialized']['created']}" in shown
        again = cli("materialize", out)
        assert again.exit_code == 0
        assert "already has its particle tables" in again.stderr

    def test_the_outcome_as_json(self, listed, out, cli):
        outcome = json.loads(cli("materialize", out, "--json").stdout)
        totals = manifest(out)["totals"]
        assert outcome == {"output": str(out), "already_done": False, **totals}

    @pytest.mark.parametrize("table", ["kept", "rejected"])
    def test_particles_are_published_only_once_they_are_there(self, listed, out, table, tmp_path):
        pytest.importorskip("deltalake")
        from dask_dedup import publish

        with pytest.raises(InputError, match=f"dask-dedup materialize {out}"):
            publish(out, delta=tmp_path / "lake", table=table)
        assert not (tmp_path / "lake").exists()
        publish(out, delta=tmp_path / "duplicates", table="duplicates")
        materialize(out)
        publish(out, delta=tmp_path / "lake", table=table)

    @pytest.mark.parametrize("kind", ["parquet", pytest.param("star", marks=pytest.mark.slow)])
    def test_the_report_is_the_same_from_the_run_and_from_the_result(self, tmp_path, out, kind):
        inputs, options = make_case(kind, tmp_path)
        result = run(inputs, out, duplicates_only=True, **options)
        page = report(out, contents=result.report_contents).read_bytes()
        assert report(out).read_bytes() == page
        assert b"--duplicates-only" in page
        command = f"dask-dedup materialize {out}".encode()
        assert command in page
        materialize(out)
        assert (out / "report.html").read_bytes() == page
        assert command not in report(out).read_bytes()
        assert verify(out).verified

    def test_a_verification_of_the_lists_is_not_shown_for_the_tables(self, listed, out):
        report(out, verification=verify(out))
        materialize(out)
        assert "there are no particle tables" not in report(out).read_text()

    def test_a_cluster_of_its_own_writes_them(self, listed, out, cli):
        outcome = cli("materialize", out, "--threads", 2, "--workers", 2)
        assert outcome.exit_code == 2
        assert "exclude each other" in outcome.stderr
