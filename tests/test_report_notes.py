"""What a run notes for its report equals what is read from its finished datasets, value for value."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from conftest import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from tables import cryosparc, exposures, relion, write_file, write_folder
from test_cross_format import pickers as made_pickers
from test_output import Crash, crashing
from test_resume import write_cs, write_star

from dask_dedup import DedupParams, InputError, report, run
from dask_dedup.formats.cryosparc import cs
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.star import lines as star_lines
from dask_dedup.particles import sample as sampling
from dask_dedup.particles import scanned_sample
from dask_dedup.particles.micrographs.names import MicrographName
from dask_dedup.pipeline import notes, stages
from dask_dedup.pipeline.executors import threads
from dask_dedup.pipeline.notes import FragmentNotes, digest_of
from dask_dedup.results.finished_run import FinishedRun, open_finished_run
from dask_dedup.results.report import datasets
from dask_dedup.results.report.datasets import read_contents

pickers = made_pickers


@pytest.fixture
def many_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 4_000)
    monkeypatch.setattr(cs, "FRAGMENT_BYTES", 1_500)


def assert_same(one, other, path="contents"):
    """Check that two objects are equal, with equal types of numbers."""
    assert type(one) is type(other), path
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            name = field.name
            assert_same(getattr(one, name), getattr(other, name), f"{path}.{name}")
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, path
        np.testing.assert_array_equal(one, other, err_msg=path)
    else:
        assert one == other, path


def check(result):
    """Check what a run has noted against its datasets, and return it."""
    assert_same(result.report_contents, read_contents(open_finished_run(result.output)))
    assert [entry.name for entry in result.output.iterdir() if entry.name.startswith(".")] == []
    return result.report_contents


def files_of_report(result, **options):
    """Write the report of a run, and return its files."""
    report(result.output, **options)
    paths = [result.output / "report.html", *sorted((result.output / "plots").iterdir())]
    return {path.name: path.read_bytes() for path in paths}


def check_pages(result, **options):
    """Check that the page from the notes and the page from the datasets are equal, byte for byte."""
    assert result.report_contents is not None
    noted = files_of_report(result, contents=result.report_contents, **options)
    read = files_of_report(result, **options)
    assert noted.keys() == read.keys()
    assert [name for name in noted if noted[name] != read[name]] == []
    return noted


def scrambled(table, seed=0):
    return table.take(np.random.default_rng(seed).permutation(table.num_rows))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "star", "cs", "csg"])
@pytest.mark.parametrize("output_format", ["native", "parquet", "star"])
def test_every_format(pickers, tmp_path, many_fragments, form, output_format):
    if output_format == "star" and form != "star":
        pytest.skip("STAR is written from STAR")
    params = DedupParams(min_separation=30.0)
    contents = check(run(pickers[form], tmp_path, params, output_format=output_format))
    assert contents.rejected_by_winner.sum() == contents.rejected.sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "star", "csg"])
def test_every_format_on_a_cluster(pickers, tmp_path, monkeypatch, cluster, form):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 40_000)
    monkeypatch.setattr(cs, "FRAGMENT_BYTES", 20_000)
    check(run(pickers[form], tmp_path, DedupParams(min_separation=30.0), cluster))


@pytest.mark.real_data
@pytest.mark.parametrize("output_format", ["native", "relion-coordinates"])
def test_folders_of_pick_files(real_data, tmp_path, output_format):
    folder = real_data / "pick_folders_10017"
    check(
        run(
            [folder / "cryolo" / "STAR", folder / "topaz" / "per_micrograph"],
            tmp_path,
            min_separation=80.0,
            micrograph_pixel_size=1.77,
            match_micrographs="name",
            output_format=output_format,
        )
    )


@pytest.mark.parametrize(
    ("table", "params"),
    [
        (cryosparc(0), {}),
        (cryosparc(300), {"min_separation": 0.0}),
        (cryosparc(300), {"remove_entirely": True, "min_separation": 60.0}),
        (cryosparc(300), {"score_field": "none", "min_separation": 60.0}),
        (cryosparc(300), {"min_score": 0.4, "min_separation": 60.0}),
        (cryosparc(300), {"min_separation": 60.0, "min_votes": 2, "vote_distance": 30.0}),
        (relion(300), {"min_separation": 60.0, "votes": True, "score_scale": "standing"}),
        (relion(300, axes=3), {"min_separation": 60.0}),
        (relion(300), {"between_inputs_only": True, "min_separation": 60.0}),
        (
            relion(300, columns={"rlnAutopickFigureOfMerit": np.full(300, np.nan)}),
            {"min_separation": 60.0},
        ),
    ],
)
def test_unusual_runs(tmp_path, many_fragments, table, params):
    one = write_folder(table, tmp_path / "one", files=2)
    other = write_folder(scrambled(table), tmp_path / "other", files=2)
    check(run([one, other], tmp_path / "out", **params))


def test_symmetry_copies(tmp_path, many_fragments):
    table = cryosparc(100)
    copies = pa.concat_tables([table] * 3)
    uid = np.arange(300, dtype=np.uint64) + np.uint64(1_000)
    copies = copies.append_column("sym_expand/src_uid", copies["uid"]).set_column(0, "uid", [uid])
    path = write_folder(scrambled(copies), tmp_path / "in", files=4)
    contents = check(run(path, tmp_path / "out", undo_symmetry_expansion=True))
    assert contents.rejected.sum() == 200
    assert not contents.distances.any()


@pytest.mark.parametrize("invalid", ["keep", "reject"])
def test_rows_that_cannot_be_compared(tmp_path, many_fragments, invalid):
    fractions = np.random.default_rng(1).random(300, dtype=np.float32)
    fractions[::7] = np.nan
    table = cryosparc(300, columns={"location/center_x_frac": fractions})
    path = write_folder(scrambled(table), tmp_path / "in", files=4)
    contents = check(run(path, tmp_path / "out", invalid=invalid, min_separation=60.0))
    assert len(contents.sample) == 300 - 43


def test_a_table_of_micrographs(tmp_path, many_fragments):
    micrographs = write_file(exposures(), tmp_path / "exposures.parquet")
    path = write_folder(scrambled(cryosparc(300)), tmp_path / "in", files=4)
    contents = check(run(path, tmp_path / "out", micrographs=micrographs, min_separation=60.0))
    assert np.unique(contents.sampled.psize).size == 4


def test_groups(tmp_path, many_fragments):
    session = np.array(["a", "b", "c"])[np.arange(300) % 3]
    table = cryosparc(300, columns={"session": session})
    path = write_folder(table, tmp_path / "in", files=4)
    contents = check(run(path, tmp_path / "out", group_by=("session",), min_separation=60.0))
    assert contents.micrographs.size == 12


def test_two_tables_whose_micrographs_have_other_names(tmp_path, many_fragments):
    names = [f"other/{number % 4:03}_grid.mrc" for number in range(300)]
    tables = [relion(300), relion(300, columns={"rlnMicrographName": sorted(names)})]
    paths = [write_folder(t, tmp_path / f"in{n}", files=3) for n, t in enumerate(tables)]
    params = DedupParams(match_micrographs="name", min_separation=60.0)
    contents = check(run(paths, tmp_path / "out", params))
    assert contents.micrographs.size == 4
    assert {str(name) for name in contents.names.values()} == {
        f"J1/imported/{number:03}_grid.mrc" for number in range(4)
    }


@pytest.mark.parametrize(
    ("engine", "order"),
    [("threads", "sorted"), ("threads without memory", "scrambled"), ("cluster", "scrambled")],
)
def test_a_sample_of_some_micrographs(tmp_path, monkeypatch, request, engine, order):
    for module in (sampling, datasets, scanned_sample):
        monkeypatch.setattr(module, "SAMPLE_PICKS", 400)
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    client = request.getfixturevalue("cluster") if engine == "cluster" else None
    if engine == "threads without memory":
        monkeypatch.setattr(threads, "HELD_BYTES", 0)
    table = cryosparc(2_000, micrographs=50)
    table = scrambled(table) if order == "scrambled" else table
    path = write_folder(table, tmp_path / "in", files=4)
    contents = check(run(path, tmp_path / "out", DedupParams(min_separation=60.0), client))
    assert contents.choice.keys.size < 20
    assert 400 <= len(contents.sample) < 500
    assert contents.kept.sum() + contents.rejected.sum() == 2_000


def test_a_very_large_micrograph_is_noted_by_a_window(tmp_path, monkeypatch):
    for module in (sampling, datasets, scanned_sample):
        monkeypatch.setattr(module, "SAMPLE_PICKS", 100)
    for module in (sampling, datasets, scanned_sample):
        monkeypatch.setattr(module, "MOST_ON_ONE", 300)
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    path = write_folder(scrambled(cryosparc(1_500, micrographs=2)), tmp_path / "in", files=5)
    contents = check(run(path, tmp_path / "out", min_separation=20.0))
    assert not contents.choice.whole.any()
    assert 70 < len(contents.sample) < 150


def test_likely_micrographs_contain_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(scanned_sample, "_LEAST", 0)
    for module in (sampling, datasets, scanned_sample):
        monkeypatch.setattr(module, "SAMPLE_PICKS", 400)
    path = write_folder(scrambled(cryosparc(2_000, micrographs=50)), tmp_path / "in", files=2)
    check(run(path, tmp_path / "out", min_separation=60.0))
    monkeypatch.setattr(scanned_sample, "_MARGIN", 0.01)
    result = run(path, tmp_path / "other", min_separation=60.0)
    assert result.report_contents is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "star", "cs"])
@pytest.mark.parametrize("then", ["threads", "cluster"])
def test_a_resumed_run(tmp_path, monkeypatch, many_fragments, request, kind, then):
    path = {
        "parquet": lambda: write_folder(scrambled(cryosparc(200)), tmp_path / "in", files=10),
        "star": lambda: write_star(relion(200), tmp_path / "in.star"),
        "cs": lambda: write_cs(200, tmp_path / "in.cs"),
    }[kind]()
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        crashing(patch, stages, "write_fragment", call=5)
        with pytest.raises(Crash):
            run(path, out, min_separation=60.0)
    assert list(out.glob(".dask-dedup-*/notes/*.arrow"))
    client = request.getfixturevalue("cluster") if then == "cluster" else None
    check(run(path, out, DedupParams(min_separation=60.0), client))


def test_damaged_notes_are_written_again(tmp_path, monkeypatch, many_fragments):
    path = write_folder(scrambled(cryosparc(200)), tmp_path / "in", files=6)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        crashing(patch, stages, "write_fragment", call=5)
        with pytest.raises(Crash):
            run(path, out, min_separation=60.0)
    missing, damaged, *_ = sorted(out.glob(".dask-dedup-*/notes/*.arrow"))
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    numbers = []
    real = stages.write_fragment
    monkeypatch.setattr(
        stages, "write_fragment", lambda *words: numbers.append(words[2]) or real(*words)
    )
    check(run(path, out, min_separation=60.0))
    assert {int(missing.stem), int(damaged.stem)} <= {*numbers}


def test_notes_about_another_sample_are_not_used(tmp_path, monkeypatch, many_fragments):
    path = write_folder(scrambled(cryosparc(200)), tmp_path / "in", files=6)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "SAMPLE_PICKS", 20)
        crashing(patch, stages, "write_fragment", call=5)
        with pytest.raises(Crash):
            run(path, out, min_separation=60.0)
    result = run(path, out, min_separation=60.0)
    assert result.report_contents is None
    assert len(read_contents(open_finished_run(out)).sample) == 200


def test_a_fragment_that_is_written_twice_is_noted_once(tmp_path, monkeypatch, many_fragments):
    path = write_folder(scrambled(cryosparc(200)), tmp_path / "in", files=6)
    real = stages.write_fragment

    def twice(job, plan, number, moved, *rest):
        real(job, plan, number, moved, *rest)
        return real(job, plan, number, moved, *rest)

    monkeypatch.setattr(stages, "write_fragment", twice)
    check(run(path, tmp_path / "out", min_separation=60.0))


@pytest.mark.slow
def test_a_result_in_an_object_store(there, tmp_path, many_fragments):
    path = write_folder(scrambled(cryosparc(200)), tmp_path / "in", files=5)
    result = run(path, there / "out", min_separation=60.0)
    assert_same(result.report_contents, read_contents(open_finished_run(there / "out")))
    assert not [name for name in there.names() if "notes" in name]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "star", "cs", "csg"])
def test_pages_of_every_format(pickers, tmp_path, many_fragments, form):
    check_pages(run(pickers[form], tmp_path, min_separation=30.0))


def test_pages_of_both_engines(pickers, tmp_path, monkeypatch, cluster):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    out, params = tmp_path / "out", DedupParams(min_separation=30.0)
    one = run(pickers["parquet"], out, params)
    here = check_pages(one)
    out.rename(tmp_path / "here")
    other = run(pickers["parquet"], out, params, cluster)
    assert_same(one.report_contents, other.report_contents)
    times = {name: one.manifest[name] for name in ("created", "seconds")}
    (out / "manifest.json").write_text(json.dumps({**other.manifest, **times}))
    assert check_pages(other) == here


def test_pages_after_an_interruption(tmp_path, monkeypatch, many_fragments):
    path = write_folder(scrambled(cryosparc(400)), tmp_path / "in", files=5)
    with monkeypatch.context() as patch:
        crashing(patch, stages, "write_fragment", call=3)
        with pytest.raises(Crash):
            run(path, tmp_path / "out", min_separation=60.0)
    check_pages(run(path, tmp_path / "out", min_separation=60.0))


@pytest.mark.parametrize(
    "params",
    [
        {"min_separation": 0.0},
        {"min_separation": 60.0, "remove_entirely": True},
        {"min_separation": 60.0, "between_inputs_only": True},
        {"min_separation": 60.0, "min_score": 0.3},
    ],
)
def test_pages_of_unusual_runs(tmp_path, params):
    tables = [cryosparc(300, seed=1), scrambled(cryosparc(300, seed=2))]
    paths = [write_file(t, tmp_path / f"{n}.parquet") for n, t in enumerate(tables)]
    check_pages(run(paths, tmp_path / "out", **params))


def test_pages_of_tomograms(tmp_path):
    path = write_star(relion(400, axes=3), tmp_path / "in.star")
    check_pages(run(path, tmp_path / "out", min_separation=30.0))


def test_pages_of_a_sample(tmp_path, monkeypatch):
    for module in (sampling, datasets, scanned_sample):
        monkeypatch.setattr(module, "SAMPLE_PICKS", 400)
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    path = write_folder(scrambled(cryosparc(2_000, micrographs=50)), tmp_path / "in", files=4)
    check_pages(run(path, tmp_path / "out", min_separation=60.0))


def test_a_micrograph_that_the_user_named_is_noted(tmp_path, monkeypatch):
    for module in (sampling, datasets, scanned_sample):
        monkeypatch.setattr(module, "SAMPLE_PICKS", 200)
    monkeypatch.setattr(scanned_sample, "_LEAST", 0)
    monkeypatch.setattr(scanned_sample, "_MARGIN", 1.5)
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    path = write_folder(scrambled(cryosparc(2_000, micrographs=50)), tmp_path / "in", files=4)
    options = {"min_separation": 60.0, "match_micrographs": "path"}
    usual = run(path, tmp_path / "usual", **options).report_contents
    key = next(key for key in usual.micrographs.tolist() if key not in usual.choice.keys)
    name = usual.names[key].name
    result = run(path, tmp_path / "out", plot_micrographs=[name], **options)
    assert result.manifest["separation"]["picks"] == len(usual.sample)
    noted = result.report_contents
    assert {*noted.choice.keys.tolist()} == {*usual.choice.keys.tolist(), key}
    assert_same(noted, read_contents(open_finished_run(result.output), [name]))
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "read_contents", None)
        report(result.output, contents=noted, plot_micrographs=[name])
    check_pages(result, plot_micrographs=[name])
    with pytest.raises(InputError, match="no micrograph 'unknown'"):
        report(result.output, contents=noted, plot_micrographs=["unknown"])


def test_a_micrograph_that_was_not_noted_is_read(tmp_path, monkeypatch):
    for module in (sampling, datasets, scanned_sample):
        monkeypatch.setattr(module, "SAMPLE_PICKS", 200)
    path = write_folder(scrambled(cryosparc(2_000, micrographs=50)), tmp_path / "in", files=4)
    result = run(path, tmp_path / "out", min_separation=60.0)
    noted = result.report_contents
    key = next(key for key in noted.micrographs.tolist() if key not in noted.choice.keys)
    check_pages(result, plot_micrographs=[str(key)])


def test_the_report_of_a_run_reads_no_dataset(tmp_path, monkeypatch, cli):
    path = write_folder(scrambled(cryosparc(300)), tmp_path / "in", files=3)
    monkeypatch.setattr(datasets, "read_contents", None)
    monkeypatch.setattr(FinishedRun, "read_picks", None)
    done = cli("run", path, "-o", tmp_path / "out", no_report=False)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()
    assert "no report" not in done.stderr


def test_an_earlier_result_has_no_notes(tmp_path):
    path = write_file(cryosparc(200), tmp_path / "in.parquet")
    run(path, tmp_path / "out", min_separation=60.0)
    again = run(path, tmp_path / "out", min_separation=60.0)
    assert again.already_done
    assert again.report_contents is None


def test_pairs_that_the_row_order_decided_are_counted(tmp_path):
    table = relion(200, drop=["rlnOrigin"])
    twice = pa.concat_tables([table, table.slice(0, 30)])
    path = write_file(twice, tmp_path / "in.parquet")
    assert check(run(path, tmp_path / "out", min_separation=0.001)).decided_by_row_order == 30
    paths = [write_file(cryosparc(100), tmp_path / f"{name}.parquet") for name in "ab"]
    contents = check(run(paths, tmp_path / "other", min_separation=0.001))
    assert contents.decided_by_row_order == 100
    ordered = run(paths, tmp_path / "ordered", min_separation=0.001, prefer_input_order=True)
    assert check(ordered).decided_by_row_order == 0


def test_a_copy_at_another_place_may_lose_by_row_order(tmp_path):
    """The uid and the score decide, wherever the two particles are."""
    table = cryosparc(100, micrographs=1)
    moved = np.asarray(table["location/center_x_frac"]) + np.float32(0.002)
    other = table.set_column(
        table.column_names.index("location/center_x_frac"), "location/center_x_frac", [moved]
    )
    paths = [write_file(t, tmp_path / f"{n}.parquet") for n, t in enumerate([table, other])]
    assert check(run(paths, tmp_path / "out", min_separation=1.0)).decided_by_row_order > 90


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_notes_are_read_as_they_were_written(tmp_path, data):
    size = data.draw(st.integers(0, 20))
    rng = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    kind = notes.RejectedCounts
    counts = kind(*(rng.integers(0, 9, size).astype(dtype) for dtype in kind.dtypes.values()))
    kind = sampling.SampledPicks
    sample = kind(*(rng.integers(0, 9, size).astype(dtype) for dtype in kind.dtypes.values()))
    texts = st.text(st.characters(exclude_categories=["Cs"]))
    keys = data.draw(st.dictionaries(st.integers(0, 2**64 - 1), st.tuples(texts, texts)))
    paths = {key: MicrographName(key, "", *more) for key, more in keys.items()}
    FragmentNotes(counts, sample, paths).write(tmp_path / "notes.arrow")
    read = FragmentNotes.read(tmp_path / "notes.arrow")
    assert_same(read.rejected, counts)
    assert_same(read.sample, sample)
    assert read.paths == paths


def test_the_digest_tells_samples_apart():
    one = sampling.choose_sample(np.arange(5, dtype=np.uint64), np.full(5, 9))
    other = sampling.choose_sample(np.arange(6, dtype=np.uint64), np.full(6, 9))
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(
        sampling.choose_sample(np.arange(5, dtype=np.uint64), np.full(5, 8))
    )
