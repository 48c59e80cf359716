"""The report shows the findings of the run, needs no inputs, and is safe to open."""

from __future__ import annotations

import re
import shlex
import shutil
from html.parser import HTMLParser

import mrcfile
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cryosparc, exposures, relion, write_file

from dask_dedup import DedupParams, InputError, report, run, verify
from dask_dedup.dedup.arrays import constant_column
from dask_dedup.dedup.picks import Picks
from dask_dedup.results.command import run_command
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.report import example as examples
from dask_dedup.results.report import summary as summaries
from dask_dedup.results.report.example import (
    NO_WINNER,
    find_image,
    find_winners,
    make_example,
    read_image,
)
from dask_dedup.results.report.figures import make_figures
from dask_dedup.results.report.micrograph import draw_micrograph
from dask_dedup.results.report.page import sentence
from dask_dedup.results.report.summary import Sample, found_by, nearest_distances, summarize

HOSTILE = "<script>alert(1)</script>.mrc"


class Page(HTMLParser):
    """The text, the tags and the links of a page."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text()
        self.tags, self.links, self.alts, self.texts = [], [], [], []
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.links += [attributes[name] for name in ("src", "href") if attributes.get(name)]
        if tag == "img":
            self.alts.append(attributes.get("alt"))

    def handle_data(self, data):
        self.texts.append(data)


def finished(tmp_path, tables, *, names=None, options=None, **params):
    """Run on tables and return the output folder."""
    names = names or [f"{number}.parquet" for number in range(len(tables))]
    paths = [write_file(t, tmp_path / n) for t, n in zip(tables, names, strict=True)]
    out = tmp_path / "out"
    run(paths, out, DedupParams(**params), **(options or {}))
    return out


def made(tmp_path, tables, **options):
    """Run on tables, write the report, and return the output folder and the page."""
    out = finished(tmp_path, tables, **options)
    return out, Page(report(out))


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The output folder of a run on two tables, and its page. Tests must not change it."""
    folder = tmp_path_factory.mktemp("example")
    return made(folder, [cryosparc(400, seed=1), cryosparc(300, seed=2)], min_separation=60.0)


@pytest.fixture
def copied(example, tmp_path):
    """A copy of the same output folder, for tests that change it."""
    out, _ = example
    return shutil.copytree(out, tmp_path / "copied")


def test_the_page_shows_the_numbers_of_the_manifest(example):
    out, page = example
    result = open_finished_run(out)
    totals = result.manifest["totals"]
    assert sentence(result.manifest, result.params) in page.text
    assert f"Of 700 particles in 2 tables, {totals['rejected']:,} (" in page.text
    for entry in totals["by_input"]:
        assert f"{entry['path']} {entry['rows']:,} {entry['kept']:,} {entry['rejected']:,}" in (
            page.text.replace("  ", " ")
        )
    assert result.manifest["run_id"][:12] in page.text
    assert all(warning in page.text for warning in result.manifest["warnings"])


def test_the_page_has_no_links_to_other_files(example):
    _, page = example
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert not set(page.tags) & {"script", "link", "iframe", "object", "form", "base"}
    assert "url(" not in page.source
    assert all(page.alts)
    assert len(page.source) < 5_000_000


def test_text_from_the_data_is_escaped(tmp_path):
    names = np.array([HOSTILE] * 60 + ["$\\alpha_{$ \x07\n.mrc"] * 40)
    table = relion(100, columns={"rlnMicrographName": names})
    out, page = made(tmp_path, [table], names=["<b onload='x'>&.parquet"], min_separation=200.0)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "<script" not in page.source
    assert HOSTILE in " ".join([*page.alts, page.text])
    assert all(b"<script" not in path.read_bytes() for path in (out / "plots").glob("*.svg"))
    assert {path.suffix for path in (out / "plots").iterdir()} == {".png", ".svg"}
    assert all(re.fullmatch(r"[a-z0-9-]+\.\w+", path.name) for path in (out / "plots").iterdir())


def test_very_long_names_are_shortened(tmp_path):
    names = np.array([f"{number}{'x' * 10_000}.mrc" for number in range(40)])
    _, page = made(tmp_path, [relion(40, columns={"rlnMicrographName": names})])
    assert len(page.source) < 1_000_000


@pytest.mark.slow
def test_a_report_without_the_inputs_is_the_same_page_and_pictures(tmp_path):
    out, before = made(tmp_path, [cryosparc(100)], min_separation=60.0)
    pictures = {path.name: path.read_bytes() for path in (out / "plots").iterdir()}
    (tmp_path / "0.parquet").unlink()
    shutil.rmtree(out / "plots")
    (out / "report.html").unlink()
    assert Page(report(out)).source == before.source
    assert {path.name: path.read_bytes() for path in (out / "plots").iterdir()} == pictures
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_a_result_with_a_report_is_verified_and_already_done(example):
    out, _ = example
    assert (out / "report.html").exists()
    assert verify(out).verified
    inputs = [out.parent / "0.parquet", out.parent / "1.parquet"]
    assert run(inputs, out, DedupParams(min_separation=60.0)).already_done


def test_overwriting_a_result_removes_its_report(tmp_path, copied):
    table = write_file(cryosparc(200), tmp_path / "0.parquet")
    assert (copied / "report.html").exists()
    run(table, copied, DedupParams(min_separation=10.0), overwrite=True)
    assert not (copied / "report.html").exists()
    assert not (copied / "plots").exists()


@pytest.mark.usefixtures("unrendered_figures")
def test_the_page_shows_whether_the_result_is_verified(tmp_path):
    out, page = made(tmp_path, [cryosparc(200)], min_separation=60.0)
    assert "Not verified yet" in page.text
    page = Page(report(out, verification=verify(out)))
    assert "The result is verified." in page.text
    assert "rejections" in page.text
    part = next((out / "particles_kept").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    wrong = verify(out)
    shutil.copy(next((out / "particles_rejected").iterdir()), part)
    assert "is NOT correct" in Page(report(out, verification=wrong)).text


@pytest.mark.parametrize(
    ("table", "params", "reason"),
    [
        (cryosparc(0), {}, "There are no particles"),
        (cryosparc(1), {}, "There is one input"),
        (cryosparc(50), {"min_separation": 0.0}, "measured no distances"),
        (cryosparc(50), {"score_field": "none"}, "ranked particles without a score"),
        (cryosparc(80), {"remove_entirely": True, "min_separation": 90.0}, "entirely"),
        (relion(50).drop_columns(["rlnRandomSubset"]), {}, "no half-sets"),
    ],
)
@pytest.mark.usefixtures("unrendered_figures")
def test_a_figure_without_data_is_replaced_by_the_reason(tmp_path, table, params, reason):
    _, page = made(tmp_path, [table], **params)
    assert reason in page.text


@pytest.mark.usefixtures("unrendered_figures")
def test_without_the_micrograph_table_the_page_explains_why_distances_are_missing(tmp_path):
    write_file(exposures(), tmp_path / "mics.parquet")
    table = cryosparc(200).drop_columns(["location/micrograph_psize_A"])
    options = {"micrographs": tmp_path / "mics.parquet"}
    out, page = made(tmp_path, [table], options=options, min_separation=60.0)
    assert "circles" in page.text.lower()
    (tmp_path / "mics.parquet").unlink()
    page = Page(report(out))
    assert "is missing" in page.text
    assert "Particles: 200" in page.text


def brute_nearest(points):
    distance = np.sqrt(((points[:, np.newaxis] - points[np.newaxis]) ** 2).sum(axis=2))
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1)


def picks_of(points, micrograph, **columns):
    n = len(points)
    defaults = {
        "micrograph": np.asarray(micrograph, dtype=np.uint64),
        "x": points[:, 0],
        "y": points[:, 1],
        "z": constant_column(0.0, n),
        "score": np.arange(n, dtype=float),
        "uid": np.arange(n, dtype=np.uint64),
        "row_id": np.arange(n, dtype=np.uint64),
        "source": np.zeros(n, dtype=np.uint16),
        "half": np.full(n, -1, dtype=np.int8),
        "label": np.full(n, -1, dtype=np.int64),
        "invalid": np.zeros(n, dtype=np.uint16),
    }
    return Picks.from_columns(defaults | columns)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_nearest_distances_equal_those_of_all_pairs(seed, number):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 40, (number, 2)).astype(float)
    micrograph = rng.integers(0, 3, number)
    expected = np.full(number, np.inf)
    for one in range(3):
        mine = micrograph == one
        if mine.any():
            expected[mine] = brute_nearest(points[mine])
    expected[expected >= 25.0] = np.inf
    np.testing.assert_allclose(nearest_distances(picks_of(points, micrograph), 25.0), expected)


@pytest.mark.parametrize("kind", [cryosparc, relion])
@pytest.mark.parametrize("output_format", ["native", "parquet"])
def test_every_rejected_particle_is_joined_to_its_recorded_winner(tmp_path, kind, output_format):
    tables = [kind(250, seed=1), kind(250, seed=2)]
    names = ["a.parquet", "b.parquet"]
    options = {"output_format": output_format}
    out = finished(tmp_path, tables, names=names, options=options, min_separation=70.0)
    result = open_finished_run(out)
    summary = summarize(result)
    seen = 0
    for key in summary.micrographs.tolist():
        sample = summaries.sample_of(result, summary, key)
        winner = find_winners(sample)
        assert (winner != NO_WINNER).all()
        kept, rejected = sample.kept.take(winner), sample.rejected
        distance = np.hypot(kept.x - rejected.x, kept.y - rejected.y)
        listed = sample.winners
        np.testing.assert_allclose(distance, listed["distance_A"].to_numpy(), atol=1e-6)
        np.testing.assert_array_equal(kept.score, listed["winner_score"].to_numpy())
        seen += len(rejected)
    assert seen == result.manifest["totals"]["rejected"] > 50


def test_the_summary_counts_every_micrograph(tmp_path):
    table = cryosparc(600, micrographs=9)
    out = finished(tmp_path, [table], min_separation=60.0)
    summary = summarize(open_finished_run(out))
    uid = table["location/micrograph_uid"].to_numpy()
    keys, counts = np.unique(uid, return_counts=True)
    np.testing.assert_array_equal(summary.micrographs, keys)
    np.testing.assert_array_equal(summary.kept + summary.rejected, counts)
    listed = pq.read_table(out / "duplicates")["micrograph"].to_pylist()
    rejected = {key: listed.count(str(key)) for key in keys.tolist()}
    assert dict(zip(keys.tolist(), summary.rejected.tolist(), strict=True)) == rejected
    assert summary.drawn_from == ""


@pytest.mark.usefixtures("unrendered_figures")
def test_a_large_result_is_sampled_by_whole_micrographs(tmp_path, monkeypatch):
    table = cryosparc(2_000, micrographs=40)
    out = finished(tmp_path, [table], min_separation=60.0)
    monkeypatch.setattr(summaries, "SAMPLE_ROWS", 800)
    result = open_finished_run(out)
    summary = summarize(result)
    sample = summary.sample
    assert summary.kept.sum() + summary.rejected.sum() == 2_000
    assert 5 < summary.sampled_micrographs < 35
    keys = np.union1d(sample.kept.micrograph, sample.rejected.micrograph)
    assert keys.size == summary.sampled_micrographs
    whole = np.isin(summary.micrographs, keys)
    assert len(sample.kept) == summary.kept[whole].sum()
    assert len(sample.rejected) == summary.rejected[whole].sum() == sample.winners.num_rows
    for key, kept, rejected in zip(
        summary.micrographs, summary.kept, summary.rejected, strict=True
    ):
        one = summaries.sample_of(result, summary, int(key))
        assert (len(one.kept), len(one.rejected), one.winners.num_rows) == (
            kept,
            rejected,
            rejected,
        )
    assert f"drawn from {keys.size} of 40 micrographs" in Page(report(out)).text.lower()


@given(st.data())
def test_particles_are_counted_by_the_inputs_that_found_them(data):
    sources = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=30))
    number = len(sources)
    lost_to = [data.draw(st.integers(-1, number - 1)) for _ in range(number)]
    kept = [row for row in range(number) if lost_to[row] in (-1, row)]
    rejected = [row for row in range(number) if row not in kept]
    winner = [lost_to[row] if lost_to[row] in kept else kept[0] for row in rejected if kept]
    if not kept:
        return
    inputs = [f"{source}.star" for source in range(4)]
    points = np.zeros((number, 2))
    every = picks_of(points, np.zeros(number), source=np.array(sources, dtype=np.uint16))
    winners = pa.table(
        {
            "winner_uid": pa.array(winner, pa.uint64()),
            "winner_score": pa.array([0.0] * len(winner), pa.float64()),
            "distance_A": pa.array([0.0] * len(winner), pa.float64()),
            "winner_input": pa.array([inputs[sources[row]] for row in winner], pa.string()),
            "winner_file": pa.array([inputs[sources[row]] for row in winner], pa.string()),
            "winner_row": pa.array(winner, pa.int64()),
        }
    )
    expected = {}
    for row in kept:
        found = {sources[row]}
        found |= {sources[r] for r, w in zip(rejected, winner, strict=True) if w == row}
        expected[tuple(sorted(found))] = expected.get(tuple(sorted(found)), 0) + 1
    sample = Sample(every.take(np.array(kept)), every.take(np.array(rejected, dtype=int)), winners)
    assert found_by(sample, inputs) == expected


def test_the_examples_are_the_most_rejected_the_median_and_requested_ones(tmp_path):
    table = relion(900, micrographs=9)
    out = finished(tmp_path, [table], min_separation=60.0)
    result = open_finished_run(out)
    summary = summarize(result)
    chosen = examples.choose_examples(result, summary, [])
    rejected = dict(zip(summary.micrographs.tolist(), summary.rejected.tolist(), strict=True))
    assert rejected[chosen[0][0]] == max(rejected.values())
    assert rejected[chosen[1][0]] == sorted(rejected.values())[4]
    other = next(key for key in rejected if key not in dict(chosen))
    name = summary.name_of(other)
    page = Page(report(out, plot_micrographs=[name]))
    assert any(name in alt and "requested" in alt for alt in page.alts)
    assert (out / "plots" / "micrograph-3.svg").exists()
    with pytest.raises(InputError, match=r"no micrograph 'no-such'.*Similar names"):
        report(out, plot_micrographs=["no-such"])


def mrc(path, rows=90, columns=120):
    """An image whose values increase along y."""
    values = np.repeat(np.arange(rows, dtype=np.float32)[:, np.newaxis], columns, axis=1)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(values)
    return path


def example_with_image(tmp_path, **field):
    mrc(tmp_path / "m.mrc", **field)
    columns = {
        "rlnMicrographName": np.array(["m.mrc"] * 3),
        "rlnCoordinateX": np.array([10.0, 14.0, 100.0]),
        "rlnCoordinateY": np.array([20.0, 20.0, 80.0]),
    }
    out, page = made(tmp_path, [relion(3, columns=columns)], min_separation=10.0, shift_key="none")
    result = open_finished_run(out)
    key = int(summarize(result).micrographs[0])
    return make_example(result, summarize(result), key, "test"), page


def test_the_image_is_under_the_picks_to_scale_and_not_flipped(tmp_path):
    example, page = example_with_image(tmp_path)
    assert example.image is not None
    psize = example.psize
    assert example.field == (120 * psize, 90 * psize)
    drawn = draw_micrograph(example, 10.0)
    left, right = drawn.axes[:2]
    low, high = left.get_ylim()
    assert low > high  # y grows downwards
    x0, x1, y0, y1 = left.images[0].get_extent()
    assert (x1 - x0, y0 - y1) == example.field
    assert left.images[0].get_array()[0].max() < left.images[0].get_array()[-1].min()
    circles = [c for c in right.collections if hasattr(c, "_widths")]
    centres = np.concatenate([c.get_offsets() for c in circles])
    expected = np.array([[10.0, 20.0], [14.0, 20.0]]) * psize
    np.testing.assert_allclose(centres[np.argsort(centres[:, 0])], expected)
    assert f"Image: {tmp_path / 'm.mrc'}" in page.text


@pytest.mark.usefixtures("unrendered_figures")
def test_an_image_of_another_shape_is_not_drawn(tmp_path):
    mrc(tmp_path / "m.mrc")
    shape = pa.FixedSizeListArray.from_arrays(pa.array([4096] * 4, pa.uint32()), 2)
    columns = {
        "location/micrograph_path": np.array(["m.mrc"] * 2),
        "location/micrograph_shape": shape,
    }
    _, page = made(tmp_path, [cryosparc(2, micrographs=1, columns=columns)])
    assert "The image has 120 x 90 pixels, but the micrograph 4096 x 4096" in page.text


@pytest.mark.usefixtures("unrendered_figures")
def test_a_damaged_image_is_left_out_with_the_reason(tmp_path):
    (tmp_path / "m.mrc").write_bytes(b"no image" * 40)
    names = {"rlnMicrographName": np.array(["m.mrc"] * 3)}
    _, page = made(tmp_path, [relion(3, columns=names)])
    assert "cannot be read" in page.text


def test_images_are_found_by_the_names_that_programs_store(tmp_path):
    project = tmp_path / "project"
    (project / "Extract" / "job9").mkdir(parents=True)
    (project / "MotionCorr").mkdir()
    path = mrc(project / "MotionCorr" / "m.mrc")
    folders = [project / "Extract" / "job9"]
    assert find_image("MotionCorr/m.mrc", folders) == path
    assert find_image(">MotionCorr/m.mrc", folders) == path
    assert find_image("000012@MotionCorr/m.mrc", folders) == path
    assert find_image(str(path), []) == path
    assert find_image("elsewhere/m.mrc", [path.parent]) == path
    assert find_image("m.tif", [path.parent]) is None
    assert find_image("x" * 5_000 + ".mrc", folders) is None
    assert find_image("m\0.mrc", folders) is None


def test_a_large_image_is_binned_by_averaging(tmp_path):
    image = read_image(mrc(tmp_path / "m.mrc", rows=3_200, columns=1_000))
    assert image.shape == (3_200, 1_000)
    assert max(image.pixels.shape) <= 1_500
    np.testing.assert_allclose(image.pixels[:3, 0], [1.0, 4.0, 7.0])
    assert image.low < image.high


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--min-separation", "33.25", "--remove-entirely", "--seed", "7"],
        ["--score-field", "pick_stats/ncc_score:lower", "--between-inputs-only"],
        ["--micrograph-pixel-size", "1.2", "--prefer-input-order", "--output-format", "parquet"],
    ],
)
def test_the_command_on_the_page_repeats_the_run(tmp_path, cli, options):
    a, b = (
        write_file(cryosparc(60, seed=seed), tmp_path / f"{name}.parquet")
        for seed, name in ((1, "a b"), (2, "it's"))
    )
    assert cli("run", a, b, "-o", tmp_path / "one", *options).exit_code == 0
    manifest = open_finished_run(tmp_path / "one").manifest
    words = shlex.split(run_command(manifest, str(tmp_path / "two")))
    assert words[0] == "dask-dedup"
    assert cli(*words[1:]).exit_code == 0
    assert open_finished_run(tmp_path / "two").manifest["run_id"] == manifest["run_id"]


def test_titles_have_the_numbers_of_the_run(tmp_path):
    out = finished(tmp_path, [cryosparc(400, seed=1), cryosparc(400, seed=2)], min_separation=60.0)
    result = open_finished_run(out)
    summary = summarize(result)
    answers = {answer.key: answer for answer in make_figures(result, summary)}
    every = Picks.concatenate([summary.sample.kept, summary.sample.rejected])
    close = int((nearest_distances(every, 240.0) <= 60.0).sum())
    assert answers["neighbours"].title.startswith(f"{close:,} of 800 particles")
    closest = nearest_distances(summary.sample.kept, 240.0).min()
    assert f"{closest:.4g}" in answers["neighbours"].title
    assert closest > 60.0
    across = result.manifest["totals"]["across_half_sets"]
    assert answers["half-sets"].title.startswith(f"{across:,} of ")
    assert all(answer.figure for answer in answers.values())


@pytest.mark.usefixtures("unrendered_figures")
def test_run_writes_a_report_by_default(tmp_path, cli):
    path = write_file(cryosparc(200), tmp_path / "a.parquet")
    found = cli("run", path, "-o", tmp_path / "with", "--verify", no_report=False)
    assert found.exit_code == 0
    assert f"report: {tmp_path / 'with' / 'report.html'}" in found.stdout
    assert "is verified" in found.stdout
    assert "The result is verified." in (tmp_path / "with" / "report.html").read_text()
    cli("run", path, "-o", tmp_path / "without", "--no-report")
    assert not (tmp_path / "without" / "report.html").exists()
    found = cli("report", tmp_path / "without", "--verify")
    assert found.exit_code == 0
    assert (tmp_path / "without" / "report.html").exists()


def test_an_error_in_the_report_leaves_the_result_complete(tmp_path, cli, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("dask_dedup.results.report._write", fail)
    path = write_file(cryosparc(200), tmp_path / "a.parquet")
    found = cli("run", path, "-o", tmp_path / "out", no_report=False)
    assert found.exit_code == 0
    assert "the result is complete, but has no report" in found.stderr
    assert verify(tmp_path / "out").verified
    found = cli("report", tmp_path / "out")
    assert found.exit_code == 1
    assert "no space left on device" in found.stderr
    assert cli("report", tmp_path).exit_code == 2


@pytest.mark.slow
@pytest.mark.real_data
def test_real_picks_are_on_their_real_micrograph(tmp_path, real_data):
    table = real_data / "micrograph_cleaner" / "Ucsf_stack_1142_DW_autopick.star"
    params = DedupParams(min_separation=150.0, micrograph_pixel_size=4.0)
    result = run(table, tmp_path / "out", params)
    assert (result.kept, result.rejected) == (38, 7)
    opened = open_finished_run(tmp_path / "out")
    summary = summarize(opened)
    example = make_example(opened, summary, int(summary.micrographs[0]), "most rejected")
    assert example.image.shape == (927, 959)
    assert example.field == (959 * 4.0, 927 * 4.0)
    # Particles of this micrograph are darker than the ice, except on the contamination.
    rows = (np.concatenate([example.kept, example.rejected]) / 4.0).round().astype(int)
    inside = (rows[:, 0] < 480) & (rows > 12).all(axis=1) & (rows[:, 1] < 915)
    pixels = example.image.pixels
    means = [pixels[y - 6 : y + 6, x - 6 : x + 6].mean() for x, y in rows[inside]]
    assert np.median(means) < np.median(pixels[100:, :480])
    flipped = [pixels[927 - y - 6 : 927 - y + 6, x - 6 : x + 6].mean() for x, y in rows[inside]]
    assert np.median(means) < np.median(flipped)
    assert "Ucsf_stack_1142_DW.mrc" in Page(report(tmp_path / "out")).text
