"""The report shows the findings of the run, needs no inputs, and is safe to open."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from importlib.resources import files
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from tables import cryosparc, exposures, relion, write_file

from dask_dedup import DedupParams, InputError, RunError, report, run, verify
from dask_dedup.hints import parameter
from dask_dedup.output.manifest import to_json, with_checksum
from dask_dedup.particles import sample as sampling
from dask_dedup.results.command import run_command
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.report import datasets
from dask_dedup.results.report.subject import shorten

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>.mrc"
#: Of the vendored d3-zoom, which `make d3-zoom` builds.
D3_ZOOM = "dd5786b0a033bb89c16f4569a6ed1626b935e083f75363471af4805b8569e0d9"


class Page(HTMLParser):
    """The text, the tags and the links of a page."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text()
        self.tags, self.links, self.labels, self.texts, self.ids = [], [], [], [], []
        self.inside = None
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.source)
        self.data = json.loads(found[1])

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        attributes = dict(attrs)
        self.ids.append(attributes.get("id"))
        self.links += [attributes[name] for name in ("src", "href") if attributes.get(name)]
        self.labels.append(attributes.get("aria-label"))

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def micrographs(self):
        """The names of the micrographs in the page."""
        return [each["n"] for each in self.data["micrographs"]]


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
    manifest = open_finished_run(out).manifest
    totals = manifest["totals"]
    assert (
        f"{totals['rejected']:,} of 700 picks were duplicates; {totals['kept']:,} were kept."
        in (page.text)
    )
    for entry, name in zip(totals["by_input"], ("0", "1"), strict=True):
        row = f"{name} {entry['rows']:,} {entry['kept']:,} {entry['rejected']:,}"
        assert row in page.text
    assert manifest["run_id"][:12] in page.text
    assert all(warning[1:] in page.text for warning in manifest["warnings"])
    assert page.data["what"]["kept"][page.data["at"]] == totals["kept"]
    assert sum(each["c"] for each in page.data["micrographs"]) == 700
    assert sum(each["r"] for each in page.data["micrographs"]) == totals["rejected"]


def test_the_page_states_the_rule(tmp_path):
    tables = [cryosparc(60, seed=1), cryosparc(60, seed=2)]
    _, page = made(tmp_path / "a", tables, min_separation=60.0, prefer_input_order=True)
    assert "Two tables of picks from 4 micrographs were combined." in page.text
    assert "if their centres are at most 60 Å (50 pixels) apart" in page.text
    assert "the pick from the table listed first was kept" in page.text
    assert "Within one table, the pick with the higher score was kept." in page.text
    _, page = made(tmp_path / "b", tables, min_separation=60.0)
    assert "In each such pair, the pick with the higher score was kept." in page.text
    _, page = made(tmp_path / "c", tables, min_separation=60.0, score_field="error")
    assert "the pick with the lower score" in page.text
    _, page = made(tmp_path / "d", tables, min_separation=60.0, between_inputs_only=True)
    assert "and they come from different tables" in page.text
    assert "never touch" not in page.text
    _, page = made(tmp_path / "e", [tables[0]], min_separation=60.0)
    assert (
        "Each circle is 60 Å wide, which is the separation, so filled circles never touch."
        in page.text
    )
    assert "particles were duplicates" in page.text
    _, page = made(tmp_path / "f", [tables[0]], min_separation=60.0, remove_entirely=True)
    assert "Every particle that has such a duplicate was rejected." in page.text


def test_the_page_requests_no_other_file(example):
    _, page = example
    assert all(link.startswith("#") for link in page.links)
    assert not set(page.tags) & {"link", "iframe", "object", "form", "base", "img"}
    assert page.tags.count("script") == 2
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert len(page.source) < 3_000_000


def test_the_policy_allows_this_script_only(example):
    _, page = example
    script = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    assert len(script) == 1
    import base64

    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        in (page.source)
    )


def test_d3_zoom_is_vendored_with_its_notices():
    vendored = files("dask_dedup.results.report").joinpath("vendor")
    content = vendored.joinpath("d3-zoom.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == D3_ZOOM
    notices = vendored.joinpath("NOTICE.js").read_bytes()
    assert content.startswith(notices)
    for text in (b"Mike Bostock", b"Robert Penner", b"THE SOFTWARE IS PROVIDED", b"d3-ease"):
        assert text in notices
    assert b"</script" not in content
    package = json.loads(vendored.joinpath("package.json").read_text())
    locked = json.loads(vendored.joinpath("package-lock.json").read_text())["packages"]
    for name, version in (package["dependencies"] | package["devDependencies"]).items():
        assert locked[f"node_modules/{name}"]["version"] == version
        assert locked[f"node_modules/{name}"]["integrity"]


def test_the_script_is_valid(example, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    _, page = example
    (tmp_path / "page.js").write_text(
        re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)[0]
    )
    subprocess.run([node, "--check", tmp_path / "page.js"], check=True, timeout=200)


def test_text_from_the_data_is_escaped(tmp_path):
    names = np.array([HOSTILE] * 60 + ["$\\alpha_{$ \x07\n.mrc"] * 40)
    table = relion(100, columns={"rlnMicrographName": names})
    out, page = made(tmp_path, [table], names=["<b onload='x'>&.parquet"], min_separation=200.0)
    assert page.tags.count("script") == 2
    assert not set(page.tags) & {"b", "img"}
    assert HOSTILE in page.micrographs
    assert escape(HOSTILE) in page.source
    for path in (out / "plots").iterdir():
        assert re.fullmatch(r"[a-z0-9-]+\.svg", path.name)
        tags = [each.tag.split("}")[-1] for each in ElementTree.parse(path).iter()]
        assert not set(tags) & {"script", "img", "b"}


def test_very_long_names_are_shortened(tmp_path):
    names = np.array([f"{number}{'x' * 10_000}.mrc" for number in range(40)])
    _, page = made(tmp_path, [relion(40, columns={"rlnMicrographName": names})])
    assert len(page.source) < 1_000_000


def test_plots_are_the_figures_of_the_page(example):
    out, page = example
    names = {path.name for path in (out / "plots").iterdir()}
    assert names == {
        "distances-after.svg",
        "distances-before.svg",
        "kept-by-separation.svg",
        "micrograph-1.svg",
        "scores-1.svg",
        "scores-2.svg",
        "share-rejected.svg",
    }
    for path in (out / "plots").iterdir():
        text = path.read_text()
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "var(--" not in text
    shape = re.search(r'id="d-before" d="([^"]+)"', page.source)
    assert shape[1] in (out / "plots" / "distances-before.svg").read_text()


def test_a_report_without_the_inputs_is_the_same_page_and_pictures(tmp_path):
    out, before = made(tmp_path, [cryosparc(100)], min_separation=60.0)
    pictures = {path.name: path.read_bytes() for path in (out / "plots").iterdir()}
    (tmp_path / "0.parquet").unlink()
    shutil.rmtree(out / "plots")
    (out / "report.html").unlink()
    assert Page(report(out)).source == before.source
    assert {path.name: path.read_bytes() for path in (out / "plots").iterdir()} == pictures
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("options", [("--verify",), ("--min-separation", 0)])
def test_the_page_of_a_run_is_the_page_of_report(tmp_path, cli, options):
    paths = [write_file(cryosparc(300, seed=n), tmp_path / f"{n}.parquet") for n in range(2)]
    out = tmp_path / "out"
    options = ("--min-separation", 60, *options)
    assert cli("run", *paths, "-o", out, *options, no_report=False).exit_code == 0
    before = {path.name: path.read_bytes() for path in (out / "plots").iterdir()}
    page = (out / "report.html").read_bytes()
    again = [option for option in options if option == "--verify"]
    assert cli("report", out, *again).exit_code == 0
    assert (out / "report.html").read_bytes() == page
    assert {path.name: path.read_bytes() for path in (out / "plots").iterdir()} == before


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


def test_the_page_shows_whether_the_result_is_verified(tmp_path):
    out, page = made(tmp_path, [cryosparc(200)], min_separation=60.0)
    assert "Not verified yet" in page.text
    page = Page(report(out, verification=verify(out)))
    assert re.search(r"Verified: all \d checks passed", page.text)
    assert "rejections" in page.text
    part = next((out / "particles_kept").iterdir())
    content = part.read_bytes()
    part.write_bytes(content[:-1] + b"x")
    wrong = verify(out)
    part.write_bytes(content)
    page = Page(report(out, verification=wrong))
    assert "The result is not correct" in page.text
    shutil.copy(next((out / "particles_rejected").iterdir()), part)
    with pytest.raises(RunError, match="has other rows than the run wrote"):
        report(out)


@pytest.mark.parametrize(
    ("table", "params", "there", "absent"),
    [
        (cryosparc(0), {}, "There were no particles.", "micrographs separation scores halves"),
        (cryosparc(1), {}, "No duplicates: the one particle was kept.", "separation halves"),
        (cryosparc(30), {"min_separation": 0.0}, "stored coordinates are equal", "separation"),
        (cryosparc(50), {"score_field": "none"}, "fixed random number", "scores"),
        (cryosparc(80), {"remove_entirely": True, "min_separation": 90.0}, "removed", "halves"),
        (relion(50, drop=["rlnRandomSubset"]), {"min_separation": 50.0}, "kept", "halves"),
    ],
)
def test_a_section_without_meaning_is_left_out(tmp_path, table, params, there, absent):
    _, page = made(tmp_path, [table], **params)
    assert there in page.text
    for name in (*absent.split(), "pickers"):
        assert name not in page.ids
        assert f'href="#{name}"' not in page.source
    assert "None" not in page.text
    assert "[]" not in page.text


def test_words_of_the_implementation_are_not_on_the_page(example):
    _, page = example
    for word in ("fragment", "bucket", "payload", "seeded", "straddling", "shuffle"):
        assert word not in page.text


def test_settings_name_the_options(tmp_path):
    _, page = made(tmp_path, [cryosparc(50)], min_separation=33.0, seed=7)
    changed = page.text.partition("Settings option value meaning")[2].partition("All ")[0]
    assert changed.split("--")[1:] == [
        "min-separation 33 Å particles at most this far apart are one particle ",
        "seed 7 chooses between equal scores ",
    ]
    assert "count the pickers that found each particle" in page.text


def test_warnings_are_on_the_page(tmp_path):
    low = {"pick_stats/ncc_score": np.linspace(0, 0.5, 300)}
    high = {"pick_stats/ncc_score": np.linspace(5, 9, 300)}
    tables = [cryosparc(300, seed=1, columns=low), cryosparc(300, seed=2, columns=high)]
    _, page = made(tmp_path, tables, names=["relion.parquet", "log.parquet"], min_separation=60.0)
    assert "scores are on different scales" in page.text
    assert "relion scores run from 0 to 0.5, log scores from 5 to 9." in page.text
    assert re.search(
        r"If both pickers had a pick of the same particle, log won all \d+ times", page.text
    )
    assert "add --prefer-input-order" in page.text


def test_without_the_micrograph_table_the_page_explains_why_positions_are_missing(tmp_path):
    write_file(exposures(), tmp_path / "mics.parquet")
    table = cryosparc(200).drop_columns(["location/micrograph_psize_A"])
    options = {"micrographs": tmp_path / "mics.parquet"}
    out, page = made(tmp_path, [table], options=options, min_separation=60.0)
    assert "circles" in page.text.lower()
    (tmp_path / "mics.parquet").unlink()
    page = Page(report(out))
    assert "is missing" in page.text
    assert page.data["micrographs"] == []


def test_micrographs_that_are_asked_for_are_embedded(tmp_path):
    table = relion(9_000, micrographs=90)
    out = finished(tmp_path, [table], min_separation=60.0)
    page = Page(report(out))
    assert len(page.micrographs) == 40
    other = next(
        name
        for name in sorted(set(table["rlnMicrographName"].to_pylist()))
        if name not in page.micrographs
    )
    assert "40 of 90 micrographs are embedded" in page.text
    page = Page(report(out, plot_micrographs=[other]))
    assert other in page.micrographs
    assert len(page.micrographs) == 40
    assert (out / "plots" / "micrograph-2.svg").exists()
    with pytest.raises(InputError, match=r"no micrograph 'no-such'.*Similar names"):
        report(out, plot_micrographs=["no-such"])


@pytest.mark.slow
def test_the_page_is_small_whatever_the_table(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(60):
        names = [f"session/{HOSTILE}{micrograph}" for micrograph in range(50)]
        columns = {
            "rlnMicrographName": names * 20,
            "rlnCoordinateX": rng.random(1_000) * 3_000,
            "rlnCoordinateY": rng.random(1_000) * 3_000,
            "rlnAutopickFigureOfMerit": rng.random(1_000),
        }
        paths.append(write_file(pa.table(columns), tmp_path / f"{number}.parquet"))
    run(paths, tmp_path / "out", min_separation=50.0, micrograph_pixel_size=1.0)
    page = Page(report(tmp_path / "out"))
    assert len(page.source.encode()) < 3_000_000
    assert page.tags.count("script") == 2
    assert sum(each["p"] for each in page.data["micrographs"]) <= 40_000
    assert "45 more pickers" in page.text


@pytest.mark.slow
def test_200_000_picks_on_one_micrograph_are_a_window(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "rlnMicrographName": pa.array(["one.mrc"] * 200_000),
        "rlnCoordinateX": rng.random(200_000) * 30_000,
        "rlnCoordinateY": rng.random(200_000) * 30_000,
        "rlnAutopickFigureOfMerit": rng.random(200_000),
    }
    path = write_file(pa.table(columns), tmp_path / "a.parquet")
    run(path, tmp_path / "out", min_separation=50.0, micrograph_pixel_size=1.0)
    page = Page(report(tmp_path / "out"))
    assert len(page.source.encode()) < 3_000_000
    (shown,) = page.data["micrographs"]
    assert shown["c"] == 200_000
    assert 2_000 < shown["p"] <= 5_000
    assert re.search(r"the (pick|particle)s in the window with the most rejected \1s", page.text)


def test_a_micrograph_that_is_too_large_for_the_sample_is_a_window(tmp_path, monkeypatch):
    out = finished(tmp_path, [cryosparc(900, micrographs=1)], min_separation=20.0)
    for module in (sampling, datasets):
        monkeypatch.setattr(module, "MOST_ON_ONE", 300)
        monkeypatch.setattr(module, "SAMPLE_PICKS", 100)
    page = Page(report(out))
    (shown,) = page.data["micrographs"]
    assert shown["c"] == 900
    assert 50 < shown["p"] < 200
    assert "separation" in page.ids
    assert "sepfig" not in page.ids
    assert "This was measured in a window of each micrograph" in page.text
    assert "This is from a part of the picks." in page.text
    assert re.search(r"the (pick|particle)s in the window with the most rejected \1s", page.text)


def test_names_are_shortened_by_what_all_share():
    assert shorten(["J1/a-12_0", "J1/a-13_0"]) == ["12_0", "13_0"]
    assert shorten(["same", "same"]) == ["same", "same"]
    assert shorten(["grid1", "grid2"]) == ["grid1", "grid2"]


@pytest.mark.parametrize(
    "options",
    [
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


def test_run_writes_a_report_by_default(tmp_path, cli):
    path = write_file(cryosparc(200), tmp_path / "a.parquet")
    found = cli("run", path, "-o", tmp_path / "with", "--verify", no_report=False)
    assert found.exit_code == 0
    assert f"report: {tmp_path / 'with' / 'report.html'}" in found.stdout
    assert "is verified" in found.stdout
    assert "<b>Verified:</b>" in (tmp_path / "with" / "report.html").read_text()
    page = (tmp_path / "with" / "report.html").read_bytes()
    cli("report", tmp_path / "with")
    assert (tmp_path / "with" / "report.html").read_bytes() == page
    cli("run", path, "-o", tmp_path / "with", "--min-separation", 21, "--overwrite")
    assert not (tmp_path / "with" / "verification.json").exists()
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


def test_an_outcome_of_another_run_is_not_shown(tmp_path):
    out = finished(tmp_path, [cryosparc(200)])
    report(out, verification=verify(out))
    stored = out / "verification.json"
    for text in (stored.read_text().replace('"created": "2', '"created": "1'), "{", "[]"):
        stored.write_text(text)
        assert "Not verified yet" in Page(report(out)).text


def test_warnings_name_flags_and_keep_names_as_they_are(tmp_path, cli):
    (tmp_path / "topaz").mkdir()
    paths = [
        write_file(cryosparc(300, seed=n), tmp_path / "topaz" / f"{n}.parquet") for n in range(2)
    ]
    cli("run", *paths, "-o", tmp_path / "out", no_report=False)
    manifest = open_finished_run(tmp_path / "out").manifest
    manifest["marked_warnings"] = [
        f"{parameter('min_separation', 20)} is small. Use {parameter('min_separation', 88)}.",
        f"topaz/0: 2 rows, or {parameter('min_score', {'topaz/0': 0.5})}.",
        "topaz: no uid",
        "the rows differ",
    ]
    del manifest["checksum"]
    (tmp_path / "out" / "manifest.json").write_text(to_json(with_checksum(manifest)))
    text = Page(report(tmp_path / "out")).text
    assert "--min-separation 20 is small. Use --min-separation 88." in text
    assert "topaz/0: 2 rows, or --min-score topaz/0=0.5." in text
    assert "topaz: no uid" in text
    assert "The rows differ" in text


@pytest.mark.parametrize(("gap", "said"), [(0.001, False), (0.5, True)])
def test_only_a_clear_difference_of_scores_is_told(tmp_path, gap, said):
    x = np.repeat(np.arange(100) * 90.0, 2) + np.tile([0.0, 3.0], 100)
    scores = np.repeat(np.linspace(0, 1, 100), 2) + np.tile([gap, 0.0], 100)
    table = pa.table(
        {
            "rlnMicrographName": ["a.mrc"] * 200,
            "rlnMicrographPixelSize": np.ones(200),
            "rlnCoordinateX": x,
            "rlnCoordinateY": x * 0,
            "rlnAutopickFigureOfMerit": scores,
        }
    )
    _, page = made(tmp_path, [table], min_separation=20.0)
    assert "100 of 200 picks were duplicates" in page.text
    assert ("Kept picks tend to score better" in page.text) == said


def test_the_headline_adds_up_with_a_limit_on_scores(tmp_path):
    tables = [cryosparc(300, seed=1), cryosparc(300, seed=2)]
    out, page = made(tmp_path, tables, min_separation=60.0, min_score=0.3)
    totals = open_finished_run(out).manifest["totals"]
    low, kept = totals["low_score"], totals["kept"]
    assert low > 0
    duplicates = 600 - kept - low
    assert (
        f"{duplicates:,} of 600 picks were duplicates, {low:,} scored worse than the limit; {kept:,} were kept."
        in page.text
    )
    assert f"The {low:,} picks with a score worse than the limit are not shown." in page.text


def test_a_tomogram_with_positions_in_angstrom_has_no_pixels(tmp_path):
    rng = np.random.default_rng(0)
    names = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
    columns = {name: rng.random(300) * 900 for name in names}
    table = pa.table({"rlnTomoName": ["t1", "t2"] * 150, **columns})
    out, page = made(
        tmp_path, [table], min_separation=60.0, micrograph_pixel_size=1.0, score_field="none"
    )
    assert "60 Å (60 pixels) apart" in page.text
    assert "1 Å per pixel (--micrograph-pixel-size)" in page.text
    assert "Tomograms Separation" in page.text
    manifest = open_finished_run(out).manifest
    for entry in manifest["inputs"]:
        entry["pixel_size"]["source"] = "positions in angstrom"
    (out / "manifest.json").write_text(to_json(with_checksum(manifest)))
    page = Page(report(out))
    assert "at most 60 Å apart" in page.text
    assert "positions in Å" in page.text
    assert "positions in angstrom" not in page.text
