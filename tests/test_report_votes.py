"""The report of a run that counts votes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from tables import cryosparc, write_file
from test_report_notes import check_pages

from dask_dedup import run
from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.report.analysis import analyse
from dask_dedup.results.report.datasets import read_contents

PICKERS = ("template", "blob", "topaz")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Three pickers with some picks of each other."""
    folder = tmp_path_factory.mktemp("pickers")
    paths = []
    for number, name in enumerate(PICKERS):
        table = cryosparc(300, micrographs=4, seed=number)
        paths.append(write_file(table, folder / f"{name}.parquet"))
    return paths


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


@pytest.mark.parametrize(
    "params",
    [
        {"votes": True},
        {"found_by": "template", "not_found_by": "topaz", "score_scale": "standing"},
    ],
)
def test_the_page_from_the_notes_is_the_page_from_the_datasets(inputs, tmp_path, params):
    result = run(inputs, tmp_path / "out", **{"min_separation": 40.0, **params})
    page = check_pages(result)["report.html"].decode()
    assert data_of(page)["voters"] == 3
    assert ("for votes</th>" in page) == (result.outvoted > 0)
    assert (result.outvoted > 0) == ("votes" not in params)


def test_the_page_counts_each_outcome(inputs, tmp_path):
    result = run(inputs, tmp_path / "out", min_separation=40.0, min_votes=2)
    page = check_pages(result)["report.html"].decode()
    title = re.search("<h1>(.*?)</h1>", page)[1]
    duplicates = result.rejected - result.outvoted
    row = f"<th>rejected for their votes</th><td>{result.outvoted}</td>"
    assert row in result._repr_html_()
    assert title == (
        f"{duplicates} of {result.rows} picks were duplicates, {result.outvoted} were found by too few "
        f"pickers; {result.kept} were kept."
    )
    assert "Only picks found by at least two of the three pickers were kept." in page
    votes = result.manifest["totals"]["votes"]
    section = page[page.index('id="pickers"') :]
    for entry in votes["by_pickers"]:
        names = " + ".join(entry["pickers"])
        label = names if len(entry["pickers"]) > 1 else f"{names} only"
        row = re.search(rf"</span> {re.escape(label)}</td>.*?</tr>", section, re.S)[0]
        numbers = re.findall(r'<td class="n">([\d,]+)</td>', row)
        assert numbers == [f"{entry[name]:,}" for name in ("representatives", "kept")]


def test_other_separations_keep_what_a_run_keeps_after_its_votes(inputs, tmp_path):
    params = {"min_votes": 2, "vote_distance": 25.0, "found_by": "blob"}
    result = run(inputs, tmp_path / "out", min_separation=40.0, **params)
    finished = open_finished_run(result.output)
    analysis = analyse(finished, read_contents(finished))
    for separation in analysis.separations[[4, 9, -1]].tolist():
        params["vote_distance"] = min(25.0, separation)
        there = tmp_path / f"at_{separation}"
        again = run(inputs, there, min_separation=separation, **params)
        at = int(np.flatnonzero(analysis.separations == separation)[0])
        assert analysis.kept[at].tolist() == [entry["kept"] for entry in again.by_input]
