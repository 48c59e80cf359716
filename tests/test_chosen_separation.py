"""A run warns of a separation outside the gap, and `auto` chooses the recommended one."""

from __future__ import annotations

import json
import logging
import shlex
from unittest.mock import Mock

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import contents, write_file
from test_output import Crash, crashing, data
from test_recommended_separation import apart, jittered

from dask_dedup import InputError, remove_duplicates, run, verify
from dask_dedup.dedup.params import DedupParams
from dask_dedup.dedup.recommended_separation import Spacing
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.output.local import LocalStore
from dask_dedup.particles import sample, scanned_sample
from dask_dedup.pipeline import fragment_files, stages
from dask_dedup.pipeline import run as pipeline
from dask_dedup.pipeline.separation import FoundSpacing
from dask_dedup.results.status import status

AUTO = {"min_separation": "auto"}


def picks(seed, error=6.0, *, micrographs=4):
    """Return the picks of a picker: of the same particles for every seed, 150 A or more apart."""
    found = [jittered(apart(120, 150.0, 3_000.0, n), error, seed + n) for n in range(micrographs)]
    return table(np.concatenate(found), np.repeat(np.arange(micrographs), 120), seed)


def table(points, micrograph, seed=0):
    x, y = points.T
    return pa.table(
        {
            "rlnMicrographName": [f"m{n}.mrc" for n in micrograph],
            "rlnCoordinateX": x,
            "rlnCoordinateY": y,
            "rlnMicrographPixelSize": np.ones(len(x)),
            "rlnAutopickFigureOfMerit": np.random.default_rng(seed).random(len(x)),
        }
    )


@pytest.fixture
def two(tmp_path):
    """Return the tables of two pickers, whose picks have a gap from about 30 to 140 A."""
    return [write_file(picks(100 * n), tmp_path / f"{name}.parquet") for n, name in enumerate("ab")]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def separation_warnings(result):
    return [line for line in result.warnings if "min_separation" in line]


class TestWarning:
    """A separation outside the gap."""

    def test_one_among_the_duplicates(self, two, out):
        result = run(two, out, min_separation=5)
        (line,) = separation_warnings(result)
        assert line.startswith("min_separation=5 leaves duplicates: they end at ")
        number = result.manifest["separation"]["recommended"]
        assert line.endswith(
            f"(960 picks on 4 micrographs were measured). Use min_separation={number:g}."
        )

    def test_none_where_nothing_lies_up_to_the_gap(self, two, out):
        """The end of the duplicates is an edge of a histogram, which may be beyond all of them."""
        gap = Spacing(75.0, 228.0, 130.0, farthest_duplicates=58.0)
        found = FoundSpacing(gap, 0.0, 1_598, 10)
        assert found.warnings(DedupParams(min_separation=60)) == []
        (line,) = found.warnings(DedupParams(min_separation=57))
        assert "leaves duplicates: they end at 58 A" in str(line)

    def test_one_among_the_neighbours(self, two, out):
        (line,) = separation_warnings(run(two, out, min_separation=250))
        assert line.startswith("min_separation=250 rejects real neighbours: they begin at ")

    def test_none_in_the_gap(self, two, out):
        result = run(two, out, min_separation=90)
        assert separation_warnings(result) == []
        found = result.manifest["separation"]
        assert found["duplicates_end"] < 45 < 110 < found["neighbours_begin"]
        assert (found["picks"], found["micrographs"]) == (960, 4)
        assert found["reason"].startswith("duplicates end at ")

    def test_one_beyond_the_neighbours_where_there_are_no_duplicates(self, two, out):
        (line,) = separation_warnings(run(two[:1], out, min_separation=250))
        assert line.startswith("min_separation=250 rejects real neighbours: they begin at ")
        assert line.endswith("Use a smaller one.")

    def test_none_without_a_gap(self, tmp_path, out):
        random = np.random.default_rng(0)
        path = write_file(
            table(random.random((500, 2)) * 2_000, np.arange(500) % 2), tmp_path / "a.parquet"
        )
        result = run(path, out)
        assert separation_warnings(result) == []
        assert result.manifest["separation"]["duplicates_end"] is None

    def test_none_where_no_distances_are_measured(self, two, out):
        result = run(two, out, min_separation=0)
        assert result.manifest["separation"] is None
        assert separation_warnings(result) == []

    def test_of_the_command_line_names_flags(self, two, out, cli):
        result = cli("run", *two, "-o", out, "--min-separation", 5)
        assert result.exit_code == 0
        assert "--min-separation 5 leaves duplicates" in result.stderr
        assert "Use --min-separation " in result.stderr

    def test_of_a_frame(self, caplog):
        both = pa.concat_tables([picks(0), picks(100)])
        with caplog.at_level(logging.WARNING):
            remove_duplicates(both, min_separation=5)
        assert "min_separation=5 leaves duplicates" in caplog.text


class TestAuto:
    """The recommended separation as `min_separation`."""

    def test_decides_as_the_number_does(self, two, out, tmp_path, caplog):
        with caplog.at_level(logging.INFO):
            result = run(two, out, **AUTO)
        number = result.manifest["parameters"]["min_separation"]
        assert 40 < number < 120
        assert number == result.manifest["separation"]["recommended"]
        assert f"min_separation={number:g}: duplicates end at " in caplog.text
        given = run(two, tmp_path / "given", min_separation=number)
        assert given.manifest["run_id"] == result.manifest["run_id"]
        assert data(out) == data(tmp_path / "given")
        assert separation_warnings(result) == []
        assert verify(out).verified

    def test_the_same_command_does_nothing_more(self, two, out):
        first = run(two, out, **AUTO)
        before = contents(out)
        again = run(two, out, **AUTO)
        assert again.already_done
        number = first.manifest["parameters"]["min_separation"]
        assert run(two, out, min_separation=number).already_done
        assert contents(out) == before

    @pytest.mark.parametrize("min_separation", ["auto", 0])
    def test_a_result_is_recognised_before_anything_is_read(
        self, two, out, monkeypatch, min_separation
    ):
        run(two, out, min_separation=min_separation)
        monkeypatch.setattr(stages, "scan_fragment", Mock(side_effect=AssertionError))
        monkeypatch.setattr(LocalStore, "check_writable", Mock(side_effect=AssertionError))
        if min_separation == "auto":
            assert run(two, out, **AUTO).already_done
        else:
            with pytest.raises(InputError, match="holds another run"):
                run(two, out, **AUTO)

    def test_refuses_the_result_of_another_run(self, two, out):
        run(two, out, min_separation=50)
        before = contents(out)
        with pytest.raises(InputError, match="overwrite"):
            run(two, out, **AUTO)
        assert contents(out) == before
        assert not run(two, out, overwrite=True, **AUTO).already_done

    def test_on_a_cluster_is_the_same_number(self, two, out, tmp_path, cluster):
        here = run(two, out, **AUTO)
        there = run(two, tmp_path / "there", client=cluster, **AUTO)
        assert there.manifest["run_id"] == here.manifest["run_id"]
        assert there.manifest["separation"] == here.manifest["separation"]
        assert data(tmp_path / "there") == data(out)

    @pytest.mark.parametrize("on_cluster", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_of_a_large_table_is_that_of_a_sample(
        self, tmp_path, out, monkeypatch, request, on_cluster
    ):
        # Fragments of a micrograph each, in random order of rows.
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        monkeypatch.setattr(sample, "SAMPLE_PICKS", 900)
        monkeypatch.setattr(sample, "_CANDIDATES", 2_700)
        both = pa.concat_tables([picks(0, micrographs=12), picks(100, micrographs=12)])
        order = np.random.default_rng(0).permutation(len(both))
        path = write_file(both.take(order), tmp_path / "a.parquet", row_group_size=200)
        # The workers of the cluster have the usual sample, so that candidates are not enough.
        client = request.getfixturevalue("cluster") if on_cluster else None
        found = run(path, out, client=client, **AUTO).manifest["separation"]
        assert (found["picks"], found["micrographs"]) == (960, 4)
        assert found["duplicates_end"] < found["recommended"] < found["neighbours_begin"]

    def test_does_not_depend_on_files_and_order(self, two, tmp_path):
        both = pa.concat_tables(pq.read_table(path) for path in two)
        order = np.random.default_rng(1).permutation(len(both))
        path = write_file(both.take(order), tmp_path / "c.parquet", row_group_size=100)
        one = run(two, tmp_path / "one", **AUTO).manifest["separation"]
        assert one == run(path, tmp_path / "other", **AUTO).manifest["separation"]

    def test_candidates_that_are_not_enough_are_read_again(self, two, tmp_path, monkeypatch):
        expected = run(two, tmp_path / "one", **AUTO).manifest["separation"]
        monkeypatch.setattr(sample, "_CANDIDATES", 10)
        assert run(two, tmp_path / "other", **AUTO).manifest["separation"] == expected

    def test_too_many_candidates_are_not_kept(self, two, tmp_path, monkeypatch):
        expected = run(two, tmp_path / "one", **AUTO).manifest["separation"]
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        monkeypatch.setattr(scanned_sample, "MOST_NOTED", 700)
        noted = []
        real = pipeline.limit_picks

        def limit(summaries):
            found = real(summaries)
            noted.extend(each.sample.picks for each in found)
            return found

        monkeypatch.setattr(pipeline, "limit_picks", limit)
        assert run(two, tmp_path / "other", **AUTO).manifest["separation"] == expected
        assert [each is None for each in noted] == [False, True]

    def test_of_one_large_micrograph_is_that_of_a_window(self, tmp_path, out, monkeypatch):
        for module in (sample, scanned_sample):
            monkeypatch.setattr(module, "MOST_ON_ONE", 1_000)
        monkeypatch.setattr(sample, "SAMPLE_PICKS", 1_000)
        found = apart(2_000, 100.0, 7_000.0)
        points = np.concatenate([jittered(found, 5, 1), jittered(found, 5, 2)])
        path = write_file(table(points, np.zeros(4_000, int)), tmp_path / "a.parquet")
        separation = run(path, out, **AUTO).manifest["separation"]
        assert 900 < separation["picks"] < 1_100
        assert 30 < separation["recommended"] < 90

    def test_is_an_error_where_nothing_is_recommended(self, two, out, tmp_path):
        with pytest.raises(InputError, match="there are no duplicates to separate") as error:
            run(two[:1], out, **AUTO)
        assert str(error.value).startswith("min_separation='auto': ")
        assert "Pass min_separation in angstrom" in str(error.value)
        random = np.random.default_rng(0)
        some = table(random.random((500, 2)) * 2_000, np.arange(500) % 2)
        with pytest.raises(InputError, match="there is no gap"):
            run(write_file(some, tmp_path / "random.parquet"), out, **AUTO)
        assert not out.exists() or not any(out.iterdir())

    def test_is_refused_for_symmetry_copies(self, two, out):
        with pytest.raises(InputError, match="undo_symmetry_expansion"):
            run(two, out, undo_symmetry_expansion=True, **AUTO)

    def test_an_interrupted_run_is_resumed(self, two, out, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        with monkeypatch.context() as patch:
            crashing(patch, fragment_files.parquet, "write", call=2)
            with pytest.raises(Crash):
                run(two, out, **AUTO)
        (attempt,) = status(out).attempts
        command = shlex.split(attempt.command)
        number = command[command.index("--min-separation") + 1]
        result = run(two, out, **AUTO)
        assert f"{result.manifest['parameters']['min_separation']:g}" == number
        run(two, tmp_path / "fresh", min_separation=float(number))
        assert data(out) == data(tmp_path / "fresh")

    def test_of_the_command_line(self, two, out, cli):
        result = cli("run", *two, "-o", out, "--min-separation", "auto", "--json")
        assert result.exit_code == 0
        number = json.loads((out / "manifest.json").read_text())["parameters"]["min_separation"]
        assert json.loads(result.stdout)["min_separation"] == number
        result = cli("run", *two, "-o", out.with_name("again"), "--min-separation", "auto")
        assert f"--min-separation {number:g}: duplicates end at " in result.stderr
        assert result.stderr.count("duplicates end at") == 1

    def test_of_the_command_line_without_a_number_ends_with_exit_code_2(self, two, out, cli):
        result = cli("run", two[0], "-o", out, "--min-separation", "auto")
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith(
            "dask-dedup: --min-separation auto: there are no duplicates to separate"
        )

    def test_another_text_is_refused(self, two, out, cli):
        result = cli("run", *two, "-o", out, "--min-separation", "automatic")
        assert result.exit_code == 2
        assert "'automatic' is neither a number in angstrom nor auto" in result.stderr
        with pytest.raises(InputError, match="it must be a number"):
            run(two, out, min_separation="automatic")

    def test_of_a_frame(self):
        both = pa.concat_tables([picks(0), picks(100)])
        kept, _ = remove_duplicates(both, **AUTO)
        assert 480 <= len(kept) < 500
        with pytest.raises(InputError, match="there are no duplicates"):
            remove_duplicates(picks(0), **AUTO)

    def test_of_a_dask_frame_is_refused(self):
        frame = dd.from_pandas(picks(0).to_pandas(), npartitions=2)
        with pytest.raises(InputError, match="a Dask frame is lazy"):
            remove_duplicates(frame, **AUTO)
        assert isinstance(remove_duplicates(frame, min_separation=90)[0].compute(), pd.DataFrame)
