"""The report in a browser: nothing fails, nothing is requested, and everything can be used."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from browser import browsing
from tables import write_file

from dask_dedup import report, run

pytestmark = pytest.mark.slow

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>.mrc"
#: Cells of tables that are beyond the screen or break within a name of a picker.
CUT_OFF = """[...document.querySelectorAll('table td, table th')].filter(cell => {
  const box = cell.getBoundingClientRect();
  const lines = cell.textContent.trim().startsWith("deepPicker only") && box.height > 40;
  return box.width && (box.right > innerWidth || cell.scrollWidth > cell.clientWidth + 1 || lines);
}).map(cell => cell.outerHTML)"""
AXE = Path(__file__).parent / "accessibility" / "node_modules" / "axe-core" / "axe.min.js"


def picks(seed, shift=0.0):
    """Picks of 200 particles on each of three micrographs, on a loose grid."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(10)), -1).reshape(-1, 2) * 150.0 + 100
    names, places = [], []
    for number, name in enumerate((HOSTILE, "grid_1.mrc", "grid_2.mrc")):
        found = rng.random(200) < 0.9 - 0.2 * number
        places.append(grid[found] + rng.normal(shift, 8, (found.sum(), 2)))
        names += [name] * int(found.sum())
    x, y = np.concatenate(places).T
    columns = {"rlnMicrographName": names, "rlnCoordinateX": x, "rlnCoordinateY": y}
    return pa.table({**columns, "rlnAutopickFigureOfMerit": rng.random(len(names))})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The tables of three pickers."""
    folder = tmp_path_factory.mktemp("browser")
    return [
        write_file(picks(n), folder / f"{name}.parquet")
        for n, name in enumerate(("a", "topaz", "deepPicker"))
    ]


@pytest.fixture(scope="module")
def page(inputs, tmp_path_factory):
    """The address of the report of a run on three pickers."""
    out = tmp_path_factory.mktemp("result") / "out"
    run(inputs, out, min_separation=60, micrograph_pixel_size=1.0)
    return report(out).as_uri()


@pytest.fixture(scope="module")
def visit():
    with browsing() as visit:
        yield visit


def test_no_error_no_request_and_nothing_too_wide(page, visit):
    for width in (1280, 400):
        seen = visit(page, width)
        assert seen.page.locator("#viewer").is_visible()
        assert seen.width <= width
        assert seen.problems == []
        seen.page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        assert seen.width <= width
        assert seen.page.evaluate(CUT_OFF) == []
        titles = seen.page.evaluate("[...document.querySelectorAll('#list li')].map(e => e.title)")
        assert HOSTILE in titles
        assert seen.page.locator("script").count() == 2
        assert seen.page.locator("img").count() == 0


@pytest.mark.slow
def test_a_page_with_votes_shows_them_for_each_pick(inputs, tmp_path, visit):
    params = {"min_separation": 60, "micrograph_pixel_size": 1.0, "min_votes": 2}
    page = report(run(inputs, tmp_path / "out", **params).output).as_uri()
    for width in (400, 1280):
        seen = visit(page, width)
        seen.page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        assert seen.width <= width
        assert seen.page.evaluate(CUT_OFF) == []
    counts = re.findall(r"\d+", seen.page.locator("#name small").inner_text())
    number, kept, duplicates, outvoted = map(int, counts)
    assert number == kept + duplicates + outvoted
    assert min(kept, duplicates, outvoted) > 0
    said = {}
    seen.page.locator("#canvas").focus()
    for _ in range(number):
        seen.page.keyboard.press("n")
        text = seen.page.locator("#say").text_content()
        said[re.search("pick, (.*?)[.]", text)[1]] = text
        if len(said) == 3:
            break
    assert "found by 1 of 3 pickers" in said["rejected for its votes"]
    assert re.search("found by [23] of 3 pickers", said["kept"])
    assert re.search("kept instead|winner", said["duplicate"])
    seen.page.keyboard.press("Escape")
    seen.page.locator("#chips select").select_option("3")
    seen.page.keyboard.press("Escape")
    seen.page.locator("#canvas").focus()
    seen.page.keyboard.press("n")
    assert "found by 3 of 3 pickers" in seen.page.locator("#say").text_content()
    assert seen.problems == []


def test_the_slider_shows_another_separation_and_returns(page, visit):
    seen = visit(page)
    before = seen.page.locator("#line2").inner_text()
    curve = seen.page.locator("#d-after").get_attribute("d")
    seen.page.locator("#slide1").focus()
    seen.page.keyboard.press("ArrowRight")
    assert "would be kept" in seen.page.locator("#line2").inner_text()
    assert "--min-separation 66" in seen.page.locator("#line2").inner_text()
    assert seen.page.locator("#viewer.preview").count() == 1
    for _ in range(9):
        seen.page.keyboard.press("ArrowLeft")
    assert seen.page.locator("#d-after").get_attribute("d") != curve
    seen.page.locator("#viewer .reset").click()
    assert seen.page.locator("#line2").inner_text() == before
    assert seen.page.locator("#viewer.preview").count() == 0
    assert seen.problems == []


def test_pressing_on_a_chart_chooses_a_separation(page, visit):
    seen = visit(page)
    box = seen.page.locator("#p-curve").bounding_box()
    seen.page.locator("#p-curve").scroll_into_view_if_needed()
    box = seen.page.locator("#p-curve").bounding_box()
    seen.page.mouse.click(box["x"] + 5, box["y"] + 20)
    assert seen.page.locator("#viewer.preview").count() == 1
    assert "more than now" in seen.page.locator("#line2").inner_text()


def test_keys_choose_micrographs_and_picks(page, visit):
    seen = visit(page)
    first = seen.page.locator("#name").inner_text()
    seen.page.locator("#canvas").focus()
    seen.page.keyboard.press("ArrowRight")
    assert seen.page.locator("#name").inner_text() != first
    seen.page.keyboard.press("n")
    said = seen.page.locator("#say").text_content()
    assert "pick, " in said
    assert seen.page.locator("#tip").is_visible()
    seen.page.keyboard.press("n")
    assert seen.page.locator("#say").text_content() != said
    seen.page.keyboard.press("p")
    assert seen.page.locator("#say").text_content() == said
    seen.page.keyboard.press("Escape")
    assert not seen.page.locator("#tip").is_visible()
    for key in ("b", "+", "-", "0"):
        seen.page.keyboard.press(key)
    assert seen.problems == []


def test_the_list_can_be_searched_and_sorted(page, visit):
    seen = visit(page)
    seen.page.locator("#find").fill("grid")
    assert seen.page.locator("#list li").count() == 2
    seen.page.locator("#find").fill("nowhere")
    assert seen.page.locator("#none").is_visible()
    seen.page.locator("#find").fill("")
    seen.page.locator("#sort").select_option("name")
    assert seen.page.locator("#list li").count() == 3


def test_pointing_at_a_pick_shows_it(page, visit):
    seen = visit(page)
    seen.page.locator("#canvas").scroll_into_view_if_needed()
    box = seen.page.locator("#canvas").bounding_box()
    for step in range(40):
        x = box["x"] + box["width"] * (0.3 + 0.01 * step)
        seen.page.mouse.move(x, box["y"] + box["height"] * (0.4 + 0.005 * step))
        if seen.page.locator("#tip").is_visible():
            break
    assert "score" in seen.page.locator("#tip").inner_text()


def test_the_wheel_scrolls_the_page_until_the_picture_is_clicked(page, visit):
    seen = visit(page)
    seen.page.locator("#canvas").scroll_into_view_if_needed()
    box = seen.page.locator("#canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    seen.page.mouse.move(*middle)
    start = seen.page.evaluate("scrollY")
    zoom = "d3.zoomTransform(document.getElementById('canvas')).k"
    seen.page.mouse.wheel(0, 40)
    seen.page.wait_for_function("wanted => scrollY >= wanted", arg=start + 40)
    assert seen.page.evaluate(zoom) == 1
    seen.page.mouse.click(*middle)
    at = seen.page.evaluate("scrollY")
    seen.page.mouse.wheel(0, -200)
    seen.page.wait_for_function(f"{zoom} > 1")
    assert seen.page.evaluate("scrollY") == at


def test_save_png_gives_a_picture(page, visit):
    seen = visit(page)
    with seen.page.expect_download() as download:
        seen.page.locator("#save").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    assert download.value.suggested_filename.endswith(".png")
    assert "<" not in download.value.suggested_filename


def test_without_javascript_all_figures_are_there(page, visit):
    seen = visit(page, javascript=False)
    assert not seen.page.locator("#viewer").is_visible()
    stills = seen.page.locator(".still svg")
    assert stills.count() in (1, 2)
    assert stills.first.is_visible()
    assert seen.page.locator("svg.plot").count() >= 6
    assert not seen.page.locator(".slide").first.is_visible()


def test_a_printed_page_has_the_figures_and_no_controls(page, visit):
    seen = visit(page)
    seen.page.emulate_media(media="print")
    assert seen.page.locator(".still svg").first.is_visible()
    assert seen.page.locator("svg.plot").first.is_visible()
    for name in ("#viewer", "nav", ".slide >> nth=0", "button >> nth=0"):
        assert not seen.page.locator(name).is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(page, visit, scheme):
    if not AXE.exists():
        pytest.skip("no axe-core; make axe-core installs it")
    seen = visit(page, scheme=scheme, trusted=True)
    seen.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    seen.page.evaluate(AXE.read_text())
    found = seen.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
