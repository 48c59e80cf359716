"""The page of `inspect --html`: what a run would do."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from browser import browsing
from tables import write_file
from test_chosen_separation import picks, table

from dask_dedup import inspect, run


@pytest.fixture
def two(tmp_path):
    return [write_file(picks(100 * n), tmp_path / f"{name}.parquet") for n, name in enumerate("ab")]


def data_of(page):
    (found,) = re.findall(
        '<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL
    )
    return json.loads(found)


@pytest.mark.parametrize(
    "options", [{}, {"prefer_input_order": True}, {"between_inputs_only": True}]
)
def test_the_page_shows_what_a_run_does(two, tmp_path, cli, options):
    page = tmp_path / "page.html"
    flags = [f"--{name.replace('_', '-')}" for name in options]
    outcome = cli("inspect", *two, *flags, "--html", page)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-1] == f"page: {page}"
    shown = data_of(page)
    number = inspect(two, **options).recommended_separation
    assert shown["separations"][shown["at"]] == number
    result = run(two, tmp_path / "out", min_separation=number, **options)
    assert shown["what"]["kept"][shown["at"]] == result.kept
    assert shown["what"]["total"] == result.rows
    assert sum(each["r"] for each in shown["micrographs"]) == result.rejected
    assert sum(each["c"] for each in shown["micrographs"]) == result.rows
    text = page.read_text()
    assert f"960 picks in 2 inputs; {number:g} Å separates duplicates from neighbours." in text
    assert f"it keeps {result.kept:,} and rejects {result.rejected:,}" in text


def test_without_a_number_the_given_separation_is_shown(tmp_path, cli):
    random = np.random.default_rng(0)
    some = table(random.random((500, 2)) * 2_000, np.arange(500) % 2)
    path, page = write_file(some, tmp_path / "a.parquet"), tmp_path / "page.html"
    assert cli("inspect", path, "--min-separation", 35, "--html", page).exit_code == 0
    shown = data_of(page)
    assert shown["separations"][shown["at"]] == 35
    assert "500 picks; no separation is recommended." in page.read_text()


def test_json_is_printed_alone(two, tmp_path, cli):
    outcome = cli("inspect", *two, "--json", "--html", tmp_path / "page.html")
    assert json.loads(outcome.stdout)["recommended_separation"] > 0
    assert (tmp_path / "page.html").exists()


def test_what_cannot_be_shown_is_refused(tmp_path, cli):
    page = tmp_path / "page.html"
    bare = picks(0).drop_columns(["rlnMicrographPixelSize"])
    for number, (rows, message) in enumerate(
        [(bare, "needs the pixel size"), (picks(0).slice(0, 0), "there are no picks")]
    ):
        path = write_file(rows, tmp_path / f"{number}.parquet")
        outcome = cli("inspect", path, "--html", page)
        assert outcome.exit_code == 2
        assert message in outcome.stderr
    path = write_file(picks(0), tmp_path / "good.parquet")
    outcome = cli("inspect", path, "--html", tmp_path / "missing" / "page.html")
    assert outcome.exit_code == 2
    assert "Choose a file that can be written" in outcome.stderr
    assert not page.exists()


@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path, cli):
    rows = pa.concat_tables([picks(0), picks(100)])
    names = ["</script><img src=x onerror=alert(1)>" + name for name in rows[0].to_pylist()]
    rows = rows.set_column(0, "rlnMicrographName", pa.array(names))
    path, page = write_file(rows, tmp_path / "a.parquet"), tmp_path / "page.html"
    assert cli("inspect", path, "--html", page).exit_code == 0
    with browsing() as visit:
        for width in (1280, 400):
            seen = visit(page.as_uri(), width)
            seen.page.wait_for_selector("#list li, #pick option", state="attached")
            before = seen.page.inner_text("#diff1")
            seen.page.evaluate(
                "const s = document.getElementById('slide1'); s.value = s.min;"
                "s.dispatchEvent(new Event('input'))"
            )
            assert seen.page.inner_text("#diff1") != before
            assert before == "The picture shows what a run would do."
            seen.page.click("button.reset >> nth=-1")
            text = seen.page.inner_text("main")
            assert "picks would be kept" in text
            for word in (
                "were kept",
                "were rejected",
                "the result",
                "After the run",
                "this result",
            ):
                assert word not in text
            assert seen.width <= width
            assert seen.problems == []
        bare = visit(page.as_uri(), javascript=False)
        assert bare.page.is_visible(".still svg")
        assert bare.problems == []
