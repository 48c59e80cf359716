"""Micrograph names that differ between programs: warnings, substitutions and maps of names."""

from __future__ import annotations

import json
import logging
import shlex

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import Output, cryosparc, relion, write_file

import dask_dedup
from dask_dedup import DedupParams, InputError, inspect, remove_duplicates, run, verify
from dask_dedup.dedup.renaming import parse_rename
from dask_dedup.particles.micrographs.name_match import Names, choose
from dask_dedup.particles.micrographs.stripping import bare_name
from dask_dedup.results.command import run_command

PARAMS = {"min_separation": 20}
NAME = "rlnMicrographName"
MICROGRAPHS = 10


def picks(path, seed, name, *, axes=2):
    """Write picks on ten micrographs; `name` makes a name of a number."""
    numbers = np.sort(np.random.default_rng(seed).integers(MICROGRAPHS, size=300)).tolist()
    column = "rlnTomoName" if axes == 3 else NAME
    table = relion(300, seed=seed, axes=axes, micrographs=MICROGRAPHS)
    names = pa.array([name(number) for number in numbers], pa.string())
    return write_file(table.set_column(0, column, names), path)


def moved(number):
    """Return a path that equals that of RELION for one micrograph of ten."""
    return relion_name(0) if number == 0 else f"J7/motioncorrected/{number:021}_mic{number}.mrc"


def relion_name(number):
    return f"MotionCorr/job002/Movies/mic{number}.mrc"


@pytest.fixture
def two(tmp_path):
    """Two inputs that share one micrograph of ten by path, and all by name."""
    return [picks(tmp_path / "a.parquet", 1, relion_name), picks(tmp_path / "b.parquet", 2, moved)]


@pytest.fixture
def wanted(tmp_path):
    """The number of rejections if all names are equal, of 600 particles."""
    same = [picks(tmp_path / f"same{seed}.parquet", seed, relion_name) for seed in (1, 2)]
    return run(same, tmp_path / "same", **PARAMS).rejected


class TestNamesThatMatchOnlyInPart:
    def test_a_run_warns_with_both_counts(self, two, tmp_path, wanted, caplog):
        caplog.set_level(logging.WARNING, "dask_dedup")
        by_path = run(two, tmp_path / "out", **PARAMS)
        (line,) = (w for w in by_path.warnings if "by name" in w)
        assert "the inputs have only 1 micrograph in common by path, but 10 by name (" in line
        assert line.endswith("Pass match_micrographs='name'.")
        assert line in caplog.text
        by_name = run(two, tmp_path / "by_name", match_micrographs="name", **PARAMS)
        assert by_path.rejected < by_name.rejected == wanted
        assert not any("by name" in w for w in by_name.warnings)
        assert verify(tmp_path / "by_name").verified

    def test_the_command_line_names_the_flag(self, cli, two, tmp_path):
        printed = cli("run", *two, "-o", tmp_path / "out").stderr
        assert printed.count("Pass --match-micrographs name.") == 1

    def test_an_inspection_warns_too(self, cli, two):
        (line,) = (w for w in inspect(two, **PARAMS).warnings if "by name" in w)
        assert "only 1 micrograph in common by path, but 10 by name" in line
        assert "--match-micrographs name" in " ".join(cli("inspect", *two).stdout.split())

    def test_without_any_common_path_it_is_one_warning(self, tmp_path):
        other = picks(tmp_path / "b.parquet", 2, lambda n: f"J7/{n:021}_mic{n}.mrc")
        inputs = [picks(tmp_path / "a.parquet", 1, relion_name), other]
        lines = [w for w in run(inputs, tmp_path / "out", **PARAMS).warnings if "common" in w]
        assert len(lines) == 1
        assert "no micrograph in common by path" in lines[0]
        assert "but 10 by name" in lines[0]

    def test_a_few_more_are_no_reason(self, tmp_path):
        def other(number):
            return relion_name(number)

        inputs = [picks(tmp_path / f"{n}.parquet", n, other) for n in (1, 2)]
        assert not any("matching" in w for w in run(inputs, tmp_path / "o", **PARAMS).warnings)

    def test_bare_names_that_clash_within_an_input_need_another_cure(self, tmp_path):
        def grids(number):
            return f"grid{number % 2}/FoilHole_{number // 2}.mrc"

        def elsewhere(number):
            return f"moved/grid{number % 2}/FoilHole_{number // 2}.mrc"

        one, other = (
            picks(tmp_path / "a.parquet", 1, grids),
            picks(tmp_path / "b.parquet", 2, elsewhere),
        )
        # Bare names that are unique in both: none, so nothing would be united.
        (line,) = (
            w for w in run([one, other], tmp_path / "out", **PARAMS).warnings if "common" in w
        )
        assert "pass rename_micrographs or micrograph_map" in line
        assert "grid0/FoilHole_0.mrc" in line
        renamed = run(
            [one, other], tmp_path / "r", rename_micrographs={str(other): "s|^moved/||"}, **PARAMS
        )
        assert renamed.rejected > run([one, other], tmp_path / "out", **PARAMS).rejected
        assert not any("common" in w for w in renamed.warnings)

    def test_an_input_that_shares_nothing_is_named(self, tmp_path):
        inputs = [picks(tmp_path / f"{n}.parquet", n, relion_name) for n in (1, 2)]
        inputs.append(
            picks(tmp_path / "3.parquet", 3, lambda n: f"X{n}_fractions_aligned_mic_DW.mrc")
        )
        (line,) = (w for w in run(inputs, tmp_path / "out", **PARAMS).warnings if "common" in w)
        assert line.startswith(f"{inputs[2]}: no micrograph in common with the other inputs")

    def test_one_of_three_inputs_is_named_with_its_counts(self, tmp_path):
        inputs = [picks(tmp_path / f"{n}.parquet", n, relion_name) for n in (1, 2)]
        inputs.append(picks(tmp_path / "3.parquet", 3, moved))
        (line,) = (w for w in run(inputs, tmp_path / "out", **PARAMS).warnings if "by name" in w)
        found = f"{inputs[0]} and {inputs[2]} have only 1 micrograph in common by path, but"
        assert line.startswith(f"{found} 10 by name (")
        assert line.endswith("Pass match_micrographs='name'.")

    def test_one_of_three_inputs_without_any_common_path(self, tmp_path):
        inputs = [picks(tmp_path / f"{n}.parquet", n, relion_name) for n in (1, 2)]
        inputs.append(picks(tmp_path / "3.parquet", 3, lambda n: f"J7/mic{n}.mrc"))
        (line,) = run(inputs, tmp_path / "out", **PARAMS).warnings
        assert f"{inputs[0]} and {inputs[2]} have no micrograph in common by path" in line
        assert line.endswith("Pass match_micrographs='name'.")

    def test_two_pairs_of_inputs_with_the_same_paths(self, tmp_path):
        inputs = [
            picks(tmp_path / f"{n}.parquet", n, lambda m, n=n: f"J{n // 2}/mic{m}.mrc")
            for n in range(4)
        ]
        (line,) = run(inputs, tmp_path / "out", **PARAMS).warnings
        assert f"{inputs[0]} and {inputs[2]} have no micrograph in common by path" in line

    def test_few_common_names_are_counted(self, tmp_path):
        inputs = [
            picks(tmp_path / "1.parquet", 1, lambda n: f"TS_{n:02}", axes=3),
            picks(
                tmp_path / "2.parquet",
                2,
                lambda n: f"TS_{n:02}{'-lamella2' if n else ''}",
                axes=3,
            ),
        ]
        (line,) = (w for w in run(inputs, tmp_path / "out", **PARAMS).warnings if "common" in w)
        assert line.startswith(f"{inputs[0]}: only 1 of 10 micrographs in common with the other")
        assert "TS_01, TS_02" in line
        assert "TS_01-lamella2" in line
        assert "pass rename_micrographs" in line

    def test_an_input_with_few_of_the_micrographs_is_normal(self, tmp_path):
        inputs = [
            picks(tmp_path / "1.parquet", 1, relion_name),
            picks(tmp_path / "2.parquet", 2, lambda n: relion_name(0)),
        ]
        assert not run(inputs, tmp_path / "out", **PARAMS).warnings

    def test_files_of_one_micrograph_each_are_normal(self, tmp_path):
        inputs = [picks(tmp_path / f"{n}.parquet", n, lambda _, n=n: f"TS_{n}") for n in range(3)]
        assert not run(inputs, tmp_path / "out", **PARAMS).warnings
        inputs.append(picks(tmp_path / "other.parquet", 3, lambda n: f"TS_{n}-lamella2"))
        (line,) = run(inputs, tmp_path / "both", **PARAMS).warnings
        assert line.startswith(f"{inputs[3]}: no micrograph in common with the other inputs")

    def test_groups_are_compared_with_their_names(self, tmp_path):
        tables = []
        for seed, name in ((1, relion_name), (2, moved)):
            path = picks(tmp_path / f"{seed}.parquet", seed, name)
            table = pa.parquet.read_table(path)
            grouped = table.append_column("session", pa.array([f"S{seed}"] * table.num_rows))
            tables.append(write_file(grouped, path))
        result = run(tables, tmp_path / "out", group_by="session", **PARAMS)
        assert not any("matching" in w for w in result.warnings)
        (line,) = (w for w in result.warnings if "no micrograph in common" in w)
        assert "The names are the same, but the groups (column session) differ." not in line
        same = [picks(tmp_path / f"{n}.parquet", n, relion_name) for n in (1, 2)]
        for number, path in enumerate(same):
            rows = pa.parquet.read_table(path)
            write_file(rows.append_column("session", pa.array([f"S{number}"] * len(rows))), path)
        (line,) = run(same, tmp_path / "same", group_by="session", **PARAMS).warnings
        assert f"{relion_name(0)} (session=S0)" in line
        assert "The names are the same, but the groups (column session) differ." in line
        assert "rename_micrographs" not in line

    def test_uids_of_two_imports(self, tmp_path):
        one = write_file(cryosparc(30), tmp_path / "1.parquet")
        strangers = {"location/micrograph_uid": np.arange(30, dtype=np.uint64)}
        other = write_file(cryosparc(30, seed=1, columns=strangers), tmp_path / "2.parquet")
        (line,) = (w for w in run([one, other], tmp_path / "out").warnings if "common" in w)
        assert "no micrograph in common by uid" in line
        assert line.endswith("but 4 by name. Pass match_micrographs='name'.")

    def test_uids_of_two_imports_that_have_one_in_common(self, cli, tmp_path):
        one = write_file(cryosparc(90), tmp_path / "1.parquet")
        rows = cryosparc(90, seed=1)
        uids = rows["location/micrograph_uid"].to_numpy()
        rows = cryosparc(
            90, seed=1, columns={"location/micrograph_uid": uids + np.uint64(7) * (uids > uids[0])}
        )
        other = write_file(rows, tmp_path / "2.parquet")
        (line,) = (w for w in run([one, other], tmp_path / "out").warnings if "by name" in w)
        assert line == (
            "the inputs have only 1 micrograph in common by uid, but 4 by name. "
            "Pass match_micrographs='name'."
        )
        assert "only 1 micrograph in common by uid" in " ".join(
            cli("inspect", one, other).stdout.split()
        )
        assert verify(tmp_path / "out").verified
        unnamed = [write_file(rows.drop_columns(["location/micrograph_path"]), other), one]
        assert not any("by name" in w for w in run(unnamed, tmp_path / "unnamed").warnings)

    def test_one_uid_of_two_micrographs(self, tmp_path):
        rows = cryosparc(90)
        uid = rows["location/micrograph_uid"][0].as_py()
        same = {"location/micrograph_uid": np.full(90, uid)}
        one = write_file(cryosparc(90, columns=same), tmp_path / "1.parquet")
        other = write_file(cryosparc(90, seed=1), tmp_path / "2.parquet")
        (line,) = (
            w for w in run([one, other], tmp_path / "out").warnings if "have the same uid" in w
        )
        assert line.startswith(f"{one}: the micrographs ")
        assert line.endswith("pass match_micrographs='path'.")


class TestMicrographsMissingFromTheTable:
    def table(self, tmp_path, name):
        lines = "".join(f"{name(n)} 1.2\n" for n in range(MICROGRAPHS))
        path = tmp_path / "micrographs.star"
        path.write_text(f"data_\n\nloop_\n_{NAME}\n_rlnMicrographPixelSize\n{lines}")
        return path

    def test_matching_by_name_is_named_if_it_finds_more(self, cli, tmp_path):
        source = picks(tmp_path / "a.parquet", 1, relion_name)
        known = self.table(tmp_path, moved)
        outcome = cli("run", source, "-o", tmp_path / "out", "--micrographs", known)
        assert outcome.exit_code == 2
        assert f"are on a micrograph missing from {known}" in outcome.stderr
        assert (
            f"{known} has 1 of 10 micrographs by path, but 10 by name: pass --match-micrographs name."
        ) in outcome.stderr
        options = {"micrographs": known, "match_micrographs": "name"}
        run(source, tmp_path / "out", **options, **PARAMS)
        (problem,) = inspect(source, micrographs=known, **PARAMS).problems
        assert "10 by name" in problem

    def test_other_names_are_shown(self, tmp_path):
        source = picks(tmp_path / "a.parquet", 1, lambda n: f"X{n}_odd_frames_avg.mrc")
        known = self.table(tmp_path, lambda n: f"X{n}.mrc")
        with pytest.raises(InputError) as caught:
            run(source, tmp_path / "out", micrographs=known, **PARAMS)
        assert "names such as X0_odd_frames_avg.mrc, but the table has names such as X0.mrc" in str(
            caught.value
        )
        assert "pass rename_micrographs or micrograph_map" in str(caught.value)
        rename = "s/_odd_frames_avg//"
        options = {"micrographs": known, "rename_micrographs": rename}
        result = run(source, tmp_path / "out", **options, **PARAMS)
        assert verify(tmp_path / "out").verified
        # A substitution of the table alone.
        options["rename_micrographs"] = {str(known): r"s/\.mrc/_odd_frames_avg.mrc/"}
        assert run(source, tmp_path / "other", **options, **PARAMS).rejected == result.rejected
        assert verify(tmp_path / "other").verified

    def test_rows_set_aside_are_explained_too(self, tmp_path):
        source = picks(tmp_path / "a.parquet", 1, relion_name)
        known = self.table(tmp_path, moved)
        result = run(source, tmp_path / "out", micrographs=known, invalid="reject", **PARAMS)
        assert any("10 by name" in line for line in result.warnings)


#: Real names of programs, and the name that they have in common.
FOIL_HOLE = "FoilHole_8636125_Data_8578080_8578082_20220309_232859"
SARCOMERE = "SarcDros_20201107_tomo3"
REAL_NAMES = {
    "J2/motioncorrected/009270517818331954156_14sep05c_00024sq_00003hl_00002es.frames"
    "_patch_aligned_doseweighted.mrc": "14sep05c_00024sq_00003hl_00002es",
    "MotionCorr/job002/Movies/20170629_00021_frameImage.mrc": "20170629_00021_frameImage",
    "AutoPick/job010/Micrographs/mic1_autopick.star": "mic1",
    "ManualPick/job011/Movies/mic1_manualpick.star": "mic1",
    "mic1_topazpicks.star": "mic1",
    "mic1_automatch.box": "mic1",
    "info/mic1_info.json": "mic1",
    f"{FOIL_HOLE}_fractions_aligned_mic_DW.mrc": FOIL_HOLE,
    f"{FOIL_HOLE}_fractions.tiff": FOIL_HOLE,
    f"x/{FOIL_HOLE}_EER.eer": FOIL_HOLE,
    "20dec04c_Grey1_00003enn2-a-DW.mrc": "20dec04c_Grey1_00003enn2",
    "TcdA1-0018_frames_sum.cbox": "TcdA1-0018",
    "TS_1.tomostar": "TS_1",
    "reconstruction/TS_1_10.00Apx.mrc": "TS_1",
    "matching/TS_1_10.00Apx_emd_15854_clean.star": "TS_1",
    "tomo_ts01.mrc_15.00Apx.mrc": "tomo_ts01",
    "Position_2_7_ali_7.90Apx.mrc": "Position_2_7",
    "Position_2_7_ali.tomostar": "Position_2_7",
    "rec_TS_01.mrc": "TS_01",
    "rec_TS_01_half1.mrc": "TS_01",
    "Picks/job012/annotations/TS_01_particles.star": "TS_01",
    "TS_01.rec": "TS_01",
    "TS_001_aligned.st:mrc": "TS_001",
    "Position_1_Vol.mrc": "Position_1",
    f"{SARCOMERE}_10.96Apx_bin4_lp60.tomostar": SARCOMERE,
    "20211007_tomo10.mrc.tomostar": "20211007_tomo10",
    "20": "20",
    "00255": "00255",
    "Movies\\Grid1_0042.tiff": "Grid1_0042",
}


@pytest.mark.parametrize(("stored", "name"), REAL_NAMES.items())
def test_real_names_of_programs_have_their_name_in_common(stored, name):
    assert bare_name(stored) == name
    parties = [Names(path, frozenset({(each, "")})) for path, each in (("a", stored), ("b", name))]
    found = choose(parties, None, DedupParams(match_micrographs="name"))
    assert [each.shared for each in found.inputs] == [1, 1]


@pytest.mark.parametrize("stored", [*REAL_NAMES][::9])
def test_real_names_of_programs_match_without_options_but_by_name(tmp_path, stored):
    name = REAL_NAMES[stored]
    one = picks(tmp_path / "a.parquet", 1, lambda n: stored)
    other = picks(tmp_path / "b.parquet", 2, lambda n: name)
    result = run([one, other], tmp_path / "out", match_micrographs="name", **PARAMS)
    assert result.manifest["plan"]["micrographs"] == 1
    assert [e["shared"] for e in result.manifest["micrograph_names"]["inputs"]] == [1, 1]


#: Names that need a substitution: EPU's id; `_ali` of an input that has the name with and without it.
@pytest.mark.parametrize(
    ("stored", "name", "rename"),
    [
        (
            f"x/{FOIL_HOLE}_EER.eer",
            "FoilHole_8636125_Data_8578080_8578082",
            r"s/.*(FoilHole_\d+_Data_\d+_\d+).*/\1/",
        ),
        ("TS_1_v2.mrc", "TS_1", "s/_v2//"),
    ],
)
def test_a_substitution_makes_the_common_name(tmp_path, stored, name, rename):
    one = picks(tmp_path / "a.parquet", 1, lambda n: stored)
    other = picks(tmp_path / "b.parquet", 2, lambda n: name)
    options = {"rename_micrographs": {str(one): rename}, "match_micrographs": "name"}
    result = run([one, other], tmp_path / "out", **options, **PARAMS)
    assert result.manifest["plan"]["micrographs"] == 1


class TestRenameMicrographs:
    def warp(self, tmp_path):
        one = picks(tmp_path / "a.parquet", 1, lambda n: f"TS_{n:02}_10.00Apx", axes=3)
        return [one, picks(tmp_path / "b.parquet", 2, lambda n: f"TS_{n:02}", axes=3)]

    def wanted(self, tmp_path):
        same = [
            picks(tmp_path / f"same{n}.parquet", n, lambda m: f"TS_{m:02}", axes=3) for n in (1, 2)
        ]
        return run(same, tmp_path / "same", **PARAMS).rejected

    @pytest.mark.slow
    @pytest.mark.parametrize("where", ["threads", "cluster"])
    def test_tomograms_of_warp(self, tmp_path, where, request):
        client = request.getfixturevalue("two_workers") if where == "cluster" else None
        inputs, out = self.warp(tmp_path), tmp_path / "out"
        rename = r"s/_10\.00Apx$//"
        result = run(inputs, out, client=client, rename_micrographs=rename, **PARAMS)
        assert result.rejected == self.wanted(tmp_path)
        assert verify(out).verified
        # The tables keep their names, also in the list of duplicates.
        stored = Output(out).kept["rlnTomoName"].to_pylist()
        assert any(name.endswith("Apx") for name in stored)
        assert any(
            name.endswith("Apx") for name in Output(out).duplicates["micrograph"].to_pylist()
        )

    def test_on_the_command_line_for_one_input(self, cli, tmp_path):
        one, other = self.warp(tmp_path)
        out = tmp_path / "out"
        options = ["--rename-micrographs", f"{one}=s/_10\\.00Apx$//", "--min-separation", 20]
        outcome = cli("run", one, other, "-o", out, *options)
        assert outcome.exit_code == 0, outcome.stderr
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["totals"]["rejected"] == self.wanted(tmp_path)
        assert manifest["parameters"]["rename_micrographs"] == [[str(one), r"s/_10\.00Apx$//"]]
        # The command of the manifest is the same run.
        program, *arguments = shlex.split(run_command(manifest, str(out)))
        assert program == "dask-dedup"
        again = cli(*arguments)
        assert again.exit_code == 0
        assert "already holds this run" in again.stderr
        assert any("common" in w for w in inspect([one, other], **PARAMS).warnings)
        printed = cli("inspect", one, other, *options).stdout
        assert "no micrograph in common" not in printed

    def test_several_in_their_order(self, tmp_path):
        inputs = self.warp(tmp_path)
        renames = ["s/_10.00Apx/_x/", "s/_x$//"]
        result = run(inputs, tmp_path / "out", rename_micrographs=renames, **PARAMS)
        assert result.rejected == self.wanted(tmp_path)
        swapped = run(inputs, tmp_path / "o2", rename_micrographs=renames[::-1], **PARAMS)
        assert swapped.rejected < result.rejected

    @pytest.mark.parametrize("kind", ["pandas", "pyarrow", "dask"])
    def test_frames(self, kind):
        frame = pa.table(
            {
                NAME: ["m1_DW.mrc", "m1.mrc"],
                "rlnCoordinateX": [1.0, 2.0],
                "rlnCoordinateY": [50.0, 50.0],
                "rlnAutopickFigureOfMerit": [0.5, 0.6],
                "rlnMicrographPixelSize": [1.0, 1.0],
            }
        )
        if kind != "pyarrow":
            frame = frame.to_pandas()
        if kind == "dask":
            import dask.dataframe as dd

            frame = dd.from_pandas(frame, npartitions=2)
        for options, rejected in (
            ({}, 0),
            ({"rename_micrographs": "s/_DW//"}, 1),
            ({"micrograph_map": {"m1_DW.mrc": "m1.mrc"}}, 1),
        ):
            assert len(remove_duplicates(frame, **options, **PARAMS)[1]) == rejected
        with pytest.raises(InputError, match="1 micrograph name is not in"):
            len(remove_duplicates(frame, micrograph_map={"a": "m1.mrc"}, **PARAMS)[1])

    def test_uids_are_left_for_names(self, tmp_path):
        path = write_file(cryosparc(60), tmp_path / "a.parquet")
        result = run(path, tmp_path / "out", rename_micrographs="s/^J1/J2/")
        assert result.rejected == run(path, tmp_path / "plain").rejected
        with pytest.raises(InputError, match="match_micrographs='uid' ignores them"):
            run(path, tmp_path / "x", rename_micrographs="s/a/b/", match_micrographs="uid")

    def test_one_that_changes_nothing_is_warned_about(self, tmp_path):
        inputs = self.warp(tmp_path)
        result = run(inputs, tmp_path / "out", rename_micrographs="s/_9.00Apx//", **PARAMS)
        (line,) = (w for w in result.warnings if "changes no" in w)
        assert "(such as TS_00_10.00Apx)" in line
        rename = {str(inputs[1]): "s/_10.00Apx//"}
        result = run(inputs, tmp_path / "out2", rename_micrographs=rename, **PARAMS)
        assert any(w.startswith(f"{inputs[1]}: ") and "changes no" in w for w in result.warnings)

    def test_two_names_that_become_one_are_warned_about(self, tmp_path):
        path = picks(tmp_path / "a.parquet", 1, lambda n: f"grid{n % 2}/m{n // 2}.mrc")
        result = run(path, tmp_path / "out", rename_micrographs="s/grid.//", **PARAMS)
        (line,) = (w for w in result.warnings if "become" in w)
        assert "10 micrograph names become 5 (grid0/m0.mrc and grid1/m0.mrc both /m0.mrc)" in line
        assert line.endswith("change rename_micrographs.")
        assert verify(tmp_path / "out").verified
        assert any("become 5" in w for w in inspect(path, rename_micrographs="s/grid.//").warnings)

    def test_an_empty_name_is_refused(self, tmp_path):
        path = picks(tmp_path / "a.parquet", 1, relion_name)
        with pytest.raises(InputError, match="leaves nothing of the micrograph name MotionCorr"):
            run(path, tmp_path / "out", rename_micrographs="s/.*//", **PARAMS)

    def test_an_unknown_input_is_refused(self, cli, tmp_path):
        path = picks(tmp_path / "a.parquet", 1, relion_name)
        outcome = cli("run", path, "-o", tmp_path / "out", "--rename-micrographs", "b.star=s/a/b/")
        assert outcome.exit_code == 2
        assert "b.star is not one of the inputs" in outcome.stderr
        with pytest.raises(
            InputError, match=r"has a value for b\.star, which is not one of the inputs"
        ):
            run(path, tmp_path / "out", rename_micrographs={"b.star": "s/a/b/"})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("_DW", "write it as s/PATTERN/REPLACEMENT/"),
        ("s/a/b", "write it as s/PATTERN"),
        ("s/a/b/c/", "write it as s/PATTERN"),
        ("s/a/b/x", "write it as s/PATTERN"),
        ("sxaxbx", "write it as s/PATTERN"),
        ("s/(a/b/", "is no regular expression"),
        (r"s/a/\1/", "stands for a group in parentheses"),
        (7, "write it as s/PATTERN"),
    ],
)
def test_a_wrong_substitution_is_refused(text, why):
    with pytest.raises(InputError, match="rename_micrographs") as caught:
        DedupParams(rename_micrographs=text)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "result"),
    [
        ("s/a/b/", "aa", "ba"),
        ("s/a/b/g", "aa", "bb"),
        ("s/A/b/gi", "aA", "bb"),
        ("s/[0-9]+/<&>/", "m12", "m<12>"),
        (r"s/m/\&/", "m12", "&12"),
        (r"s|a\|b|x|", "a|b", "x|b"),
        (r"s/a\/b/x/", "a/b", "x"),
        (r"s/(.)(.)/\2\1/", "ab", "ba"),
        (r"s/(a)|(b)/[\2]/", "a", "[]"),
        (r"s/b/\\/", "b", "\\"),
        ("s,/,_,g", "a/b/c", "a_b_c"),
        (r"s/(a)/\²/", "a", "²"),
    ],
)
def test_substitutions_are_those_of_sed(text, name, result):
    assert parse_rename(text)(name) == result


@given(
    st.text(st.sampled_from("ab/|_.1"), max_size=8), st.text(st.sampled_from("ab_1"), max_size=4)
)
def test_literal_text_is_replaced_as_python_does(name, new):
    assert parse_rename(f"s/ab/{new}/g")(name) == name.replace("ab", new)


class TestMicrographMap:
    @pytest.fixture
    def inputs(self, tmp_path):
        def stored(number):
            return f"J2/X{number}_fractions_aligned_mic_DW.mrc"

        return [
            picks(tmp_path / "a.parquet", 1, relion_name),
            picks(tmp_path / "b.parquet", 2, stored),
        ]

    @staticmethod
    def csv(path, rows, header="from,to\n"):
        path.write_text(header + "".join(f"{old},{new}\n" for old, new in rows))
        return path

    def rows(self, count=MICROGRAPHS):
        return [(f"J2/X{n}_fractions_aligned_mic_DW.mrc", relion_name(n)) for n in range(count)]

    def test_names_that_no_rule_covers(self, cli, inputs, tmp_path, wanted):
        table = self.csv(tmp_path / "map.csv", self.rows())
        out = tmp_path / "out"
        outcome = cli("run", *inputs, "-o", out, "--micrograph-map", table, "--verify")
        assert outcome.exit_code == 0, outcome.stderr
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["totals"]["rejected"] == wanted
        assert manifest["parameters"]["micrograph_map"]["path"] == str(table)
        assert len(manifest["parameters"]["micrograph_map"]["pairs"]) == MICROGRAPHS
        assert f"--micrograph-map {table}" in run_command(manifest, str(out))
        assert (
            "no micrograph in common"
            not in cli("inspect", *inputs, "--micrograph-map", table).stdout
        )
        # The run is verified without the file.
        table.unlink()
        assert verify(out).verified

    def test_a_mapping_in_python(self, inputs, tmp_path, wanted):
        assert (
            run(inputs, tmp_path / "o", micrograph_map=dict(self.rows()), **PARAMS).rejected
            == wanted
        )

    def test_bare_names_match_bare_names(self, inputs, tmp_path, wanted):
        names = {f"X{n}_fractions_aligned_mic_DW": f"mic{n}" for n in range(MICROGRAPHS)}
        options = {"micrograph_map": names, "match_micrographs": "name"}
        assert run(inputs, tmp_path / "out", **options, **PARAMS).rejected == wanted

    def test_renames_come_first(self, inputs, tmp_path, wanted):
        names = {f"X{n}": relion_name(n) for n in range(MICROGRAPHS)}
        options = {"rename_micrographs": "s|J2/(X.)_.*|\\1|", "micrograph_map": names}
        assert run(inputs, tmp_path / "out", **options, **PARAMS).rejected == wanted

    def test_the_path_and_the_order_of_the_map_do_not_count(self, tmp_path):
        path = picks(tmp_path / "a.parquet", 1, lambda n: f"m{n}")
        rows = [f"m{n},x{n}" for n in range(MICROGRAPHS)]
        for number, lines in enumerate((rows, rows[::-1])):
            (tmp_path / f"{number}.csv").write_text("\n".join(lines))
            names = dask_dedup.read_micrograph_map(tmp_path / f"{number}.csv")
            result = run(path, tmp_path / "out", micrograph_map=names, **PARAMS)
            assert result.already_done == bool(number)

    def test_a_name_that_is_not_in_it_is_refused(self, inputs, tmp_path):
        table = dask_dedup.read_micrograph_map(self.csv(tmp_path / "m.csv", self.rows(8)))
        with pytest.raises(InputError) as caught:
            run(inputs, tmp_path / "out", micrograph_map=table, **PARAMS)
        message = str(caught.value)
        assert message.startswith("4 micrograph names are not in ")
        assert "neither as old nor as new name: " in message
        (problem,) = inspect(inputs, micrograph_map=table, **PARAMS).problems
        assert "4 micrograph names" in problem

    def test_two_names_that_become_one_are_warned_about(self, tmp_path):
        path = picks(tmp_path / "a.parquet", 1, lambda n: f"m{n}")
        names = {f"m{n}": f"x{n // 2}" for n in range(MICROGRAPHS)}
        result = run(path, tmp_path / "out", micrograph_map=names, **PARAMS)
        assert any(
            "10 micrograph names become 5 (m0 and m1 both x0)" in w
            and w.endswith("change micrograph_map.")
            for w in result.warnings
        )

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("a,b\nc\n", "line 2 is 'c'. Each line needs two names: from,to."),
            ("a,b,c\n", "line 1 is 'a,b,c'"),
            ("a,\n", "line 1 is 'a,'"),
            ("from,to\n", "has no names"),
            ("", "has no names"),
            ("a,b\na,c\n", "a has two new names, b and c"),
            (b"\xff\xfe,b\n", "not a CSV file in UTF-8"),
        ],
    )
    def test_a_wrong_file_is_refused(self, tmp_path, content, why):
        path = tmp_path / "map.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError) as caught:
            dask_dedup.read_micrograph_map(path)
        assert why in str(caught.value)
        assert str(path) in str(caught.value)

    def test_a_missing_file_is_refused(self, cli, tmp_path):
        source = picks(tmp_path / "a.parquet", 1, relion_name)
        outcome = cli("run", source, "-o", tmp_path / "o", "--micrograph-map", tmp_path / "m.csv")
        assert outcome.exit_code == 2
        assert "m.csv: cannot be read: No such file" in outcome.stderr

    def test_what_python_may_pass(self):
        assert DedupParams(micrograph_map={"a": "b"}).names_of_micrographs.pairs == (("a", "b"),)
        for wrong in ("map.csv", {"a": ""}, {1: "b"}):
            with pytest.raises(InputError, match="micrograph_map"):
                DedupParams(micrograph_map=wrong)
        params = DedupParams(micrograph_map={"a": "b"}, rename_micrographs=["s/a/b/", "s/c/d/"])
        assert DedupParams.from_dict(json.loads(json.dumps(params.to_dict()))) == params
        plain = DedupParams()
        assert DedupParams.from_dict(json.loads(json.dumps(plain.to_dict()))) == plain
