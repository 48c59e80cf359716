"""Real picks of three pickers on the 12 micrographs of EMPIAR-10017 in REPIC."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
from conftest import REPOSITORY
from oracle import content_hashes, rank_tuple
from scipy.spatial import cKDTree
from tables import Output, values, write_file

from dask_dedup import DedupParams, run, verify

sys.path.insert(0, str(REPOSITORY / "examples"))
from converters import combine, read_boxes

pytestmark = pytest.mark.real_data

PICKERS = ("crYOLO", "topaz", "deepPicker")
PSIZE = 1.77
PICKED = {"crYOLO": 8_908, "topaz": 9_518, "deepPicker": 3_964}


@pytest.fixture(scope="module")
def folders(real_data):
    folder = real_data / "repic_empiar10017"
    if not folder.is_dir():
        pytest.skip(f"no REPIC picks in {folder}")
    return [folder / name for name in PICKERS]


@pytest.fixture(scope="module")
def boxes(folders):
    """Per picker: micrograph names, centres in angstrom and scores, read line by line."""
    picks = {}
    for folder in folders:
        rows = [
            (path.stem, *map(float, line.split()))
            for path in sorted(folder.glob("*.box"))
            for line in path.read_text().splitlines()
        ]
        names, x, y, width, height, score = zip(*rows, strict=True)
        assert {*width, *height} == {180.0}
        centres = (np.column_stack([x, y]) + 90) * PSIZE
        picks[folder.name] = (np.array(names), centres, np.array(score))
    return picks


@pytest.fixture(scope="module")
def result(folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("combined")
    params = DedupParams(min_separation=100, micrograph_pixel_size=PSIZE)
    combine(folders, folder, params)
    return Output(folder / "result")


def centres_of(table):
    """Return centres with the micrograph as third coordinate, so that one KD-tree suffices."""
    names = table["rlnMicrographName"].to_pylist()
    number = {name: n for n, name in enumerate(sorted(set(names)))}
    micrograph = np.array([number[name] for name in names])
    xy = [values(table, f"rlnCoordinate{axis}") * PSIZE for axis in "XY"]
    return np.column_stack([*xy, micrograph * 1e5])


def greedy(names, centres, ranks, separation):
    """Return which rows a greedy walk keeps, one micrograph after the other."""
    kept = np.zeros(len(names), dtype=bool)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        here = []
        for row in sorted(rows.tolist(), key=ranks.__getitem__):
            step = centres[here] - centres[row]
            if not here or (np.sqrt((step**2).sum(axis=1)) > separation).all():
                here.append(row)
        kept[here] = True
    return kept


def test_the_files_have_the_expected_numbers_of_picks(boxes):
    assert {name: len(scores) for name, (_, _, scores) in boxes.items()} == PICKED
    assert len({name for names, _, _ in boxes.values() for name in names}) == 12


def test_every_pick_is_kept_or_rejected(result):
    totals = result.manifest["totals"]
    assert totals["rows"] == totals["kept"] + totals["rejected"] == 22_390
    assert result.kept.num_rows + result.rejected.num_rows == 22_390


def test_the_closest_kept_pair_is_above_100_angstrom(result):
    centres = centres_of(result.kept)
    nearest = cKDTree(centres).query(centres, k=2)[0][:, 1]
    assert nearest.min() > 100


def test_every_rejected_pick_has_a_kept_one_within_100_angstrom(result):
    together = centres_of(result.kept.select(range(4)))
    nearest = cKDTree(together).query(centres_of(result.rejected))[0]
    assert nearest.max() <= 100
    assert values(result.duplicates, "distance_A").max() <= 100


def test_kept_per_picker_as_in_the_readme(result, boxes):
    expected = {"crYOLO": 992, "topaz": 9_176, "deepPicker": 1_551}
    by_input = result.manifest["totals"]["by_input"]
    assert dict(zip(PICKERS, (entry["kept"] for entry in by_input), strict=True)) == expected
    names, centres, _ = (np.concatenate(part) for part in zip(*boxes.values(), strict=True))
    columns = ["rlnCoordinateX", "rlnCoordinateY", "score"]
    number = Counter(score for _, _, scores in boxes.values() for score in scores.tolist())

    def uid(centre, score):
        """Return the hash of a pick. It counts only if another one has the same score."""
        if number[score] == 1:
            return 0
        pick = dict(zip(columns, [*(centre / PSIZE).tolist(), score], strict=True))
        return content_hashes([pick], "score")[0]

    ranks = [
        rank_tuple(uid=uid(centre, score), score=score, priority=0, source=source, row=row)
        for source, (_, each, scores) in enumerate(boxes.values())
        for row, (centre, score) in enumerate(zip(each, scores.tolist(), strict=True))
    ]
    kept = greedy(names, centres, ranks, 100)
    source = np.repeat(np.arange(3), list(PICKED.values()))
    assert np.bincount(source[kept]).tolist() == list(expected.values())


@pytest.mark.parametrize("picker", PICKERS)
def test_single_pickers_have_no_duplicates_within_80_angstrom(folders, tmp_path, picker):
    (folder,) = (folder for folder in folders if folder.name == picker)
    table = read_boxes(folder)
    centres = centres_of(table)
    assert cKDTree(centres).query(centres, k=2)[0][:, 1].min() > 80
    path = write_file(table, tmp_path / "picks.parquet")
    params = DedupParams(min_separation=80, micrograph_pixel_size=PSIZE)
    result = run(path, tmp_path / "out", params)
    assert (result.kept, result.rejected) == (PICKED[picker], 0)


def test_the_result_is_verified(result):
    verification = verify(result.folder)
    assert verification.passed, verification.lines()
    assert all(check.passed for check in verification.checks)
    assert verification.closest_kept_A > 100
