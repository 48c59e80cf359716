"""Micrograph names across programs: what is taken off, compared with brute force, and pick folders."""

from __future__ import annotations

import itertools
import logging
import random
import shutil

import pytest

from dask_dedup import inspect, run, verify
from dask_dedup.dedup.params import DedupParams
from dask_dedup.particles.micrographs.name_match import Names, choose
from dask_dedup.particles.micrographs.stripping import STRIPPINGS, Stripping

PLAIN = DedupParams()
NAMED = {
    "star": "cryolo/STAR",
    "eman": "cryolo/EMAN",
    "cbox": "cryolo/CBOX",
    "topaz": "topaz/topaz_picks.txt",
    "topaz files": "topaz/per_micrograph",
    "autopick": "relion/AutoPick/job010",
    "manualpick": "relion/ManualPick/job011",
    "cryosparc": "cryosparc_named/topaz_picks.star",
}


def names(path, given, group=""):
    return Names(path, frozenset((name, group) for name in given))


def chosen(*inputs, table=None, params=PLAIN):
    """Return the stripping, and how many micrographs of each input are shared or in the table."""
    parties = [names(f"input{n}", given) for n, given in enumerate(inputs)]
    listed = (
        Names("table", frozenset((name, "") for name in table), grouped=False) if table else None
    )
    found = choose(parties, listed, params)
    return found.stripping, [(each.shared, each.in_table) for each in found.inputs], found


class TestChoice:
    def test_names_that_are_equal_stay_as_they_are(self):
        stripping, counts, found = chosen(["a_sum.mrc", "b_sum.mrc"], ["a_sum.mrc", "b_sum.mrc"])
        assert stripping == Stripping()
        assert counts == [(2, None), (2, None)]
        assert found.inputs[0].removed == ""

    def test_an_ending_that_both_have_stays(self):
        stripping, _, _ = chosen(["Movies/a_ali.mrc"], ["Movies/a_ali.star"])
        assert stripping == Stripping("file types")

    def test_folders_stay_if_they_agree(self):
        one = [f"MotionCorr/job002/grid{n}/mic.mrc" for n in (1, 2)]
        other = [f"grid{n}/mic_autopick.star" for n in (1, 2)]
        stripping, counts, _ = chosen(one, other)
        assert stripping == Stripping("picks")
        assert counts == [(2, None)] * 2

    def test_names_of_cryosparc_and_of_cryolo(self):
        number = "009270517818331954156"
        one = [f"J2/motioncorrected/{number}_{n}_patch_aligned_doseweighted.mrc" for n in "ab"]
        stripping, counts, found = chosen(one, ["a", "c"])
        assert stripping == Stripping("movies", folders=True)
        assert counts == [(1, None)] * 2
        assert found.inputs[0].removed == "folders, number, _patch_aligned_doseweighted.mrc"
        assert "input0 1 of 2 (without folders, number, _patch" in str(found)

    def test_a_stripping_that_makes_two_names_one_is_not_used(self):
        stripping, counts, found = chosen(["a_half1.mrc", "a_half2.mrc"], ["a"])
        assert (stripping, counts) == (Stripping(), [(0, None)] * 2)
        assert found.clash == "a_half1.mrc and a_half2.mrc of input0 would both be a"

    def test_sub_folders_stay_if_two_names_would_become_one(self):
        one = ["g1/x_DW.mrc", "g2/x_DW.mrc", "g1/y_DW.mrc"]
        stripping, counts, found = chosen(one, ["g1/x.star", "g2/x.star"])
        assert stripping == Stripping("movies")
        assert counts == [(2, None)] * 2
        assert not found.clash

    def test_the_table_counts(self):
        stripping, counts, _ = chosen(["a"], ["a"], table=["MotionCorr/job002/Micrographs/a.mrc"])
        assert stripping == Stripping("file types", folders=True)
        assert counts == [(1, 1)] * 2

    def test_a_name_of_two_rows_of_the_table_that_become_one(self):
        stripping, counts, found = chosen(["a"], table=["g1/a.mrc", "g2/a.mrc"])
        assert counts == [(None, 0)]
        assert stripping == Stripping()
        assert "g1/a.mrc and g2/a.mrc of table" in found.clash

    def test_numbers_are_text(self):
        assert chosen(["00255"], ["255"])[1] == [(0, None)] * 2
        assert chosen(["00255"], ["00255.mrc"])[1] == [(1, None)] * 2

    def test_groups_keep_names_apart(self):
        one = Names("a", frozenset({("g1/x.mrc", "session=A"), ("g2/x.mrc", "session=B")}))
        other = Names("b", frozenset({("x", "session=A"), ("x", "session=B")}))
        found = choose([one, other], None, PLAIN)
        assert [each.shared for each in found.inputs] == [2, 2]
        table = Names("t", frozenset({("x.mrc", "")}), grouped=False)
        assert [each.in_table for each in choose([one, other], table, PLAIN).inputs] == [1, 1]

    def test_substitutions_come_first(self):
        params = DedupParams(rename_micrographs={"input0": r"s/^s\d_//"})
        assert chosen(["s1_a_DW.mrc"], ["a"], params=params)[1] == [(1, None)] * 2

    def test_a_map_of_names_comes_before_the_overlap(self):
        params = DedupParams(micrograph_map={"20": "TS_20", "TS_21": "TS_21"})
        stripping, counts, _ = chosen(["20"], ["TS_20.mrc", "TS_21.mrc"], params=params)
        assert stripping == Stripping("file types")
        assert counts == [(1, None)] * 2


FOLDERS = ("", "g1/", "g2/", "MotionCorr/job002/g1/", "J2/imported/009270517818331954156_")
ENDS = ("", ".mrc", "_autopick.star", "_patch_aligned.mrc", "_frames_sum.cbox", "_sum", "_bin4.rec")


def test_the_choice_is_that_of_brute_force_in_any_order():
    for seed in range(60):
        check_choice(seed)


def check_choice(seed):
    rng = random.Random(seed)
    inputs = [
        sorted(
            {
                rng.choice(FOLDERS[: rng.randint(1, 5)])
                + rng.choice("abcd")
                + rng.choice(ENDS[: 1 + seed % 7])
                for _ in range(rng.randint(1, 5))
            }
        )
        for _ in range(rng.randint(2, 3))
    ]
    table = inputs.pop() if seed % 2 and len(inputs) > 2 else None

    def overlap(stripping):
        bare = [[stripping(name) for name in given] for given in inputs]
        listed = [stripping(name) for name in table or ()]
        if any(len(set(each)) < len(each) for each in [*bare, listed]):
            return None
        return [
            (
                sum(any(n in o for o in bare if o is not mine) for n in mine),
                sum(n in listed for n in mine),
            )
            for mine in bare
        ]

    results = [(each, overlap(each)) for each in STRIPPINGS]
    allowed = [(each, counts) for each, counts in results if counts is not None]
    wanted = max(allowed, key=lambda pair: sum(map(sum, pair[1])))  # the first of the best
    for order in itertools.permutations(range(len(inputs))):
        stripping, counts, _ = chosen(*(inputs[n] for n in order), table=table)
        assert stripping == wanted[0]
        assert [(a, b or 0) for a, b in counts] == [wanted[1][n] for n in order]


@pytest.fixture
def picks(real_data):
    return real_data / "pick_folders_10017"


EXPECTED = [
    (["cryosparc", "star"], [3052, 184]),
    (["autopick", "cryosparc"], [3052, 0]),
    (["star", "topaz files"], [2470, 779]),
    (["cbox", "autopick"], [2719, 620]),
    (["star", "autopick", "manualpick"], [2470, 779, 532]),
]


@pytest.mark.real_data
@pytest.mark.parametrize(("inputs", "wanted"), EXPECTED)
def test_programs_match_by_default(picks, tmp_path, inputs, wanted, caplog):
    caplog.set_level(logging.INFO, "dask_dedup")
    result = run(
        [picks / NAMED[name] for name in inputs],
        tmp_path / "out",
        min_separation=80,
        prefer_input_order=True,
        micrographs=picks / "relion/CtfFind/job003/micrographs_ctf.star",
    )
    assert [entry["kept"] for entry in result.by_input] == wanted
    matched = result.manifest["micrograph_names"]
    assert matched["match"] == "name"
    assert [each["shared"] for each in matched["inputs"]] == [4] * len(inputs)
    assert [each["in_table"] for each in matched["inputs"]] == [4] * len(inputs)
    (line,) = (r.getMessage() for r in caplog.records if "matched by name: " in r.getMessage())
    assert "4 of 4, 4 in the micrograph table" in line
    assert verify(tmp_path / "out").verified


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("inputs", "form"),
    [
        (["autopick"], "star"),
        (["star", "autopick"], "relion-coordinates"),
        (["cryosparc", "cbox"], "star"),
    ],
)
def test_conversions_find_the_micrographs_in_the_table(picks, tmp_path, inputs, form):
    paths = [picks / NAMED[name] for name in inputs]
    table = picks / "relion/CtfFind/job003/micrographs_ctf.star"
    options = {"micrographs": table, "min_separation": 80, "output_format": form}
    run(paths, tmp_path / "out", **options)
    assert verify(tmp_path / "out").verified


@pytest.mark.real_data
def test_an_inspection_matches_and_reports_names(picks):
    found = inspect([picks / NAMED["cryosparc"], picks / NAMED["star"]], micrograph_pixel_size=1.77)
    assert found.pairs[0].match.micrographs == 4
    text = " ".join("\n".join(found.lines()).split())
    assert "4 of 4 (without folders, number, _patch_aligned_doseweighted.mrc)" in text


@pytest.mark.real_data
def test_inputs_without_a_common_name_are_warned_about_with_names_of_both(picks, tmp_path):
    other = tmp_path / "EMAN"
    other.mkdir()
    for path in (picks / NAMED["eman"]).iterdir():
        shutil.copy(path, other / path.name.replace("Falcon", "Titan"))
    inputs = [picks / NAMED["autopick"], other]
    result = run(inputs, tmp_path / "out", min_separation=80, micrograph_pixel_size=1.77)
    (line,) = (each for each in result.warnings if "no micrograph in common" in each)
    assert line.count("Falcon_2012") == line.count("Titan_2012") == 3


FOLDERS = "matched without their folders, which differ"


def boxes(folder, *names, shift=0):
    for name in names:
        path = folder / f"{name}.box"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{100 + shift} 100 10 10\n500 500 10 10\n")
    return folder


def warned(inputs, output, **options):
    options = {"micrograph_pixel_size": 1.0, "prefer_input_order": True} | options
    result = run(inputs, output, **options)
    found = [line for line in result.warnings if FOLDERS in line]
    assert [line for line in inspect(inputs, **options).warnings if FOLDERS in line] == found
    return found, [entry["rejected"] for entry in result.by_input]


def test_different_folders_within_two_pick_folders_are_warned_about(tmp_path):
    one = boxes(tmp_path / "x", "Grid1/FoilHole_1", "Grid1/FoilHole_2")
    two = boxes(tmp_path / "x2", "Grid2/FoilHole_1", "Grid2/FoilHole_2", "Grid2/FoilHole_3")
    found, rejected = warned([one, two], tmp_path / "out")
    assert found == [
        f"{FOLDERS}: 2 micrographs (first: Grid1/FoilHole_1 of {one} and Grid2/FoilHole_1 of {two}). "
        "If these are different micrographs, pass match_micrographs='path', with rename_micrographs "
        "if other names then differ."
    ]
    assert rejected == [0, 4]
    # With the cure, and if the user has chosen to match by name.
    assert warned([one, two], tmp_path / "path", match_micrographs="path") == ([], [0, 0])
    assert warned([one, two], tmp_path / "name", match_micrographs="name") == ([], [0, 4])
    renamed = warned([one, two], tmp_path / "new", rename_micrographs="s/Grid(.)./\\1_/")
    assert renamed == ([], [0, 0])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Micrographs/mic", "mic"),
        ("Micrographs/mic", "Movies/mic"),
        ("raw/Grid1/mic", "Grid1/mic"),
        ("session/Grid1/mic", "Grid1/mic_autopick"),
        ("mic", "mic_DW"),
    ],
)
def test_other_folders_are_not_warned_about(tmp_path, one, two):
    inputs = [boxes(tmp_path / "x", one), boxes(tmp_path / "x2", two)]
    assert warned(inputs, tmp_path / "out") == ([], [0, 2])


@pytest.mark.slow
@pytest.mark.real_data
def test_folders_of_real_pickers_are_not_warned_about(picks, tmp_path):
    inputs = [picks / name for name in NAMED.values()]
    inputs += [picks / name for name in ("csv", "deeppicker_box", "eman2")]
    assert not warned(inputs, tmp_path / "out", micrograph_pixel_size=1.77)[0]
