"""Bad input ends with exit code 2, one clear line and no output."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import (
    MICROGRAPH_UID,
    Output,
    cryosparc,
    exposures,
    relion,
    spoilt_column,
    stamps,
    uids,
    vectors,
    write_file,
    write_folder,
)

CASES = []


def bad(*phrases):
    """Register a case: a function of a folder that returns the arguments; the line has the phrases."""

    def register(function):
        name = function.__name__.replace("_", " ")
        CASES.append(pytest.param(function, phrases, id=name))
        return function

    return register


def picks(folder, *, name="picks.parquet", rows=30, **options):
    return write_file(cryosparc(rows, **options), folder / name)


def damaged(column, bad_value, rows=(3, 4, 7, 9)):
    return spoilt_column(column, bad_value, rows)


@pytest.mark.parametrize(("prepare", "phrases"), CASES)
def test_bad_input_ends_with_code_2_and_one_line_and_no_output(cli, tmp_path, prepare, phrases):
    folder = tmp_path / "in"
    folder.mkdir()
    arguments = list(prepare(folder))
    if "--output" not in arguments:
        arguments += ["--output", tmp_path / "out"]
    before = stamps(tmp_path)
    outcome = cli("run", *arguments)
    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert stamps(tmp_path) == before
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("dask-dedup: ")
    assert [phrase for phrase in phrases if phrase not in line] == []


# Columns


@bad("picks.parquet: no particle positions", "location/center_x_frac", "rlnCoordinateX")
def no_position(folder):
    return [picks(folder, drop=["location/center"])]


@bad("no particle positions", "found only location/center_y_frac")
def half_a_position(folder):
    return [picks(folder, drop=["location/center_x"])]


@bad("picks.parquet: no micrograph column", "location/micrograph_uid", "location/micrograph_path")
def no_micrograph_column(folder):
    return [picks(folder, drop=["location/micrograph_uid", "location/micrograph_path"])]


@bad("no micrograph column", "rlnMicrographName")
def no_micrograph_column_in_relion(folder):
    return [write_file(relion(drop=["rlnMicrographName"]), folder / "picks.parquet")]


@bad("both", "location/center_x_frac", "RELION")
def both_conventions_in_one_table(folder):
    pixels = {"rlnCoordinateX": np.ones(30), "rlnCoordinateY": np.ones(30)}
    return [picks(folder, columns=pixels)]


@bad("picks.parquet: no score ncc_score", "pick_stats/ncc_score", "error, error_min, ")
def no_score(folder):
    return [picks(folder, drop=["pick_stats"])]


@bad("no score ncc_score", "rlnAutopickFigureOfMerit", "rlnLogLikeliContribution:higher", "none")
def no_score_in_relion(folder):
    table = relion(
        columns={"rlnLogLikeliContribution": np.ones(120)}, drop=["rlnAutopickFigureOfMerit"]
    )
    return [write_file(table, folder / "picks.parquet")]


@bad("no score error", "alignments3D/error", "ncc_score")
def no_error(folder):
    return [picks(folder, drop=["alignments"]), "--score-field", "error"]


@bad("no score my_score", "COLUMN:higher")
def unknown_score(folder):
    return [picks(folder), "--score-field", "my_score:lower"]


@bad("--score-field 'my_score'", "my_score:higher or my_score:lower")
def score_without_a_direction(folder):
    return [picks(folder), "--score-field", "my_score"]


@bad("unknown direction 'up'", "pick_stats/power:higher or pick_stats/power:lower")
def score_with_a_strange_direction(folder):
    return [picks(folder), "--score-field", "pick_stats/power:up"]


@bad("no column alignments2D/shift", "alignments3D")
def missing_alignment(folder):
    return [picks(folder, drop=["alignments2D"]), "--shift-key", "alignments2D"]


@bad("alignments3D/psize_A", "--shift-key none")
def shift_without_a_pixel_size(folder):
    return [picks(folder, drop=["alignments3D/psize_A"])]


@bad("--shift-key alignments3D", "RELION")
def cryosparc_shift_of_a_relion_table(folder):
    return [write_file(relion(), folder / "picks.parquet"), "--shift-key", "alignments3D"]


@bad("picks.parquet", "pick_stats/ncc_score occurs more than once")
def duplicate_column_names(folder):
    table = cryosparc(30)
    twice = table.append_column("pick_stats/ncc_score", table["pick_stats/power"])
    pq.write_table(twice, folder / "picks.parquet")
    return [folder / "picks.parquet"]


@bad("picks.parquet: the column location/center_x_frac holds", "not numbers")
def text_where_numbers_should_be(folder):
    return [picks(folder, columns={"location/center_x_frac": ["0.5"] * 30})]


@bad("the column pick_stats/ncc_score holds", "not numbers")
def text_for_a_score(folder):
    return [picks(folder, columns={"pick_stats/ncc_score": ["good"] * 30})]


@bad("the column uid holds", "not integers")
def fractions_for_uids(folder):
    return [picks(folder, columns={"uid": np.linspace(0, 1, 30)})]


@bad("the column location/micrograph_shape must hold 2 numbers a row", "picks.parquet", "row 4")
def lists_of_the_wrong_length(folder):
    shape = [[240, 300]] * 4 + [[240]] + [[240, 300]] * 25
    return [picks(folder, columns={"location/micrograph_shape": pa.array(shape)})]


@bad("the column location/micrograph_shape must hold 2 numbers a row", "b.parquet", "row 1")
def lists_of_the_wrong_length_in_the_second_file(folder):
    shape = [[240, 300], [240]] + [[240, 300]] * 28
    good = {"location/micrograph_shape": pa.array([[240, 300]] * 30)}
    picks(folder / "batches", name="a.parquet", columns=good)
    wrong = {"location/micrograph_shape": pa.array(shape)}
    picks(folder / "batches", name="b.parquet", columns=wrong, seed=1)
    return [folder / "batches"]


@bad("alignments3D/shift holds", "not 2 numbers a row")
def a_number_where_a_pair_should_be(folder):
    return [picks(folder, columns={"alignments3D/shift": np.ones(30)})]


# Values


@bad("4 rows have no finite position", "center_x_frac", "first: row 3,", "row 4,", "row 7")
def nan_coordinates(folder):
    return [picks(folder, columns=damaged("location/center_x_frac", np.nan))]


@bad("4 rows have no finite position", "center_y_frac", "row 3")
def infinite_coordinates(folder):
    return [picks(folder, columns=damaged("location/center_y_frac", np.inf))]


@bad("2 rows have no finite position", "batch-001.parquet row 3", "batch-002.parquet row 5")
def nan_coordinates_in_a_folder_are_named_by_file(folder):
    table = cryosparc(30, columns=damaged("location/center_x_frac", np.nan, rows=[13, 25]))
    return [write_folder(table, folder / "batches")]


@bad("3 rows have no micrograph", "location/micrograph_uid", "row 0")
def null_micrograph(folder):
    column = pa.array([None] * 3 + [MICROGRAPH_UID] * 27, pa.uint64())
    return [picks(folder, columns={"location/micrograph_uid": column})]


@bad("3 rows have no micrograph", "location/micrograph_path")
def null_micrograph_path(folder):
    column = pa.array([None] * 3 + ["a.mrc"] * 27)
    columns = {"location/micrograph_path": column}
    return [picks(folder, columns=columns, drop=["location/micrograph_uid"])]


@bad("30 rows have no micrograph")
def micrograph_column_without_a_value(folder):
    columns = {"location/micrograph_path": pa.nulls(30)}
    return [picks(folder, columns=columns, drop=["location/micrograph_uid"])]


@bad("4 rows have no finite shift", "alignments3D/shift")
def nan_shifts(folder):
    shifts = np.zeros((30, 2))
    shifts[[3, 4, 7, 9], 1] = np.nan
    return [picks(folder, columns={"alignments3D/shift": vectors(shifts)})]


@bad("2 rows have no uid")
def null_uids(folder):
    column = pa.array([None, None, *range(1, 29)], pa.uint64())
    return [picks(folder, columns={"uid": column})]


@bad("2 uids occur more than once", "7", "8")
def duplicate_uids_in_one_input(folder):
    return [picks(folder, columns={"uid": pa.array([7, 7, 8, 8, 8, *range(10, 35)])})]


@bad("batches: 30 uids occur more than once")
def the_same_file_twice_in_one_folder(folder):
    picks(folder / "batches", name="a.parquet")
    picks(folder / "batches", name="b.parquet")
    return [folder / "batches"]


# Pixel sizes


@bad("--micrographs", "location/micrograph_psize_A", "--micrograph-pixel-size")
def no_pixel_size(folder):
    return [picks(folder, drop=["location/micrograph_psize_A"])]


@bad("--micrographs", "rlnMicrographPixelSize", "--micrograph-pixel-size")
def no_pixel_size_in_relion(folder):
    return [write_file(relion(drop=["rlnMicrographPixelSize"]), folder / "picks.parquet")]


@bad("4 rows have no pixel size above 0", "location/micrograph_psize_A", "row 3")
def zero_pixel_sizes(folder):
    return [picks(folder, columns=damaged("location/micrograph_psize_A", 0))]


@bad("4 rows have no pixel size above 0", "location/micrograph_psize_A")
def nan_pixel_sizes(folder):
    return [picks(folder, columns=damaged("location/micrograph_psize_A", np.nan))]


@bad("4 rows have no pixel size above 0", "alignments3D/psize_A")
def negative_pixel_sizes_of_the_shift(folder):
    return [picks(folder, columns=damaged("alignments3D/psize_A", -1))]


@bad("30 rows have no micrograph shape above 0", "location/micrograph_shape")
def zero_shapes(folder):
    column = pa.array([[0, 0]] * 30, pa.list_(pa.uint32(), 2))
    return [picks(folder, columns={"location/micrograph_shape": column})]


@bad("no micrograph shape", "location/micrograph_shape", "micrograph_blob/shape")
def no_shape(folder):
    return [picks(folder, drop=["location/micrograph_shape"])]


@bad("micrographs.parquet", "no such file")
def no_micrograph_table(folder):
    return [picks(folder), "--micrographs", folder / "micrographs.parquet"]


@bad("micrographs.parquet", "are on a micrograph missing from", "rows", "location/micrograph_uid")
def micrograph_table_lacks_a_micrograph(folder):
    known = write_file(exposures(3), folder / "micrographs.parquet")
    return [picks(folder), "--micrographs", known]


@bad("m: the micrograph table has no pixel size", "micrograph_blob/psize_A (CryoSPARC)")
def micrograph_table_is_a_folder_of_something_else(folder):
    columns = ["micrograph_blob/psize_A", "micrograph_blob/shape"]
    return [picks(folder), "--micrographs", write_folder(exposures(drop=columns), folder / "m")]


@bad("m: the folder has no Parquet files")
def micrograph_table_is_an_empty_folder(folder):
    (folder / "m").mkdir()
    return [picks(folder), "--micrographs", folder / "m"]


@bad("4 micrographs have a micrograph_blob/psize_A that is not above 0", "row 0")
def micrograph_table_with_pixel_size_0(folder):
    known = exposures(columns={"micrograph_blob/psize_A": np.zeros(4)})
    return [picks(folder), "--micrographs", write_file(known, folder / "m.parquet")]


@bad("occurs more than once, with the pixel sizes 1.0 and 2.0")
def micrograph_table_contradicts_itself(folder):
    columns = {
        "uid": pa.array([MICROGRAPH_UID] * 2, pa.uint64()),
        "micrograph_blob/psize_A": np.array([1.0, 2.0]),
    }
    known = write_file(exposures(2, columns=columns), folder / "m.parquet")
    return [picks(folder), "--micrographs", known]


# Options


@bad("--min-separation is -1;")
def negative_separation(folder):
    return [picks(folder), "--min-separation", "-1"]


@bad("--min-separation is nan")
def nan_separation(folder):
    return [picks(folder), "--min-separation", "nan"]


@bad("--min-separation is inf")
def infinite_separation(folder):
    return [picks(folder), "--min-separation", "inf"]


@bad("--micrograph-pixel-size is 0;")
def pixel_size_0(folder):
    return [picks(folder), "--micrograph-pixel-size", "0"]


@bad("--micrograph-pixel-size is nan")
def nan_pixel_size(folder):
    return [picks(folder), "--micrograph-pixel-size", "nan"]


@bad("--seed is -1")
def negative_seed(folder):
    return [picks(folder), "--seed", "-1"]


@bad("--seed is 18446744073709551616")
def seed_of_65_bits(folder):
    return [picks(folder), "--seed", str(2**64)]


# Files


@bad("nowhere.parquet: no such file or folder")
def no_such_file(folder):
    return [folder / "nowhere.parquet"]


@bad("nowhere: no such file or folder")
def one_of_two_inputs_is_missing(folder):
    return [picks(folder), folder / "nowhere"]


@bad("batches: the folder has no Parquet files")
def empty_folder(folder):
    (folder / "batches").mkdir()
    return [folder / "batches"]


@bad("batches: the folder has no Parquet files")
def folder_of_hidden_files_only(folder):
    picks(folder / "batches", name="_part.parquet")
    return [folder / "batches"]


@bad("picks.parquet: not a readable Parquet file")
def text_file(folder):
    (folder / "picks.parquet").write_text("uid,x,y\n1,2,3\n" * 50)
    return [folder / "picks.parquet"]


@bad("picks.parquet: not a readable Parquet file")
def empty_file(folder):
    (folder / "picks.parquet").touch()
    return [folder / "picks.parquet"]


@bad("picks.parquet: not a readable Parquet file")
def file_of_three_bytes(folder):
    (folder / "picks.parquet").write_bytes(b"PAR")
    return [folder / "picks.parquet"]


@bad("picks.parquet: not a readable Parquet file")
def file_cut_in_its_footer(folder):
    path = picks(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return [path]


@bad("batch-001.parquet: not a readable Parquet file")
def one_file_of_a_folder_is_cut(folder):
    write_folder(cryosparc(30), folder / "batches")
    path = folder / "batches" / "batch-001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    return [folder / "batches"]


def blank(path, column, *, remove=False):
    """Blank (or remove) the bytes of a column chunk; the footer stays intact."""
    metadata = pq.read_metadata(path)
    chunk = metadata.row_group(0).column(metadata.schema.names.index(column))
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    content = path.read_bytes()
    size = chunk.total_compressed_size
    middle = b"" if remove else b"\0" * size
    path.write_bytes(content[:start] + middle + content[start + size :])
    return path


@bad("picks.parquet: cannot be read from row 0 on")
def middle_is_damaged_and_the_footer_is_good(folder):
    return [blank(picks(folder), "location/center_x_frac")]


@bad("picks.parquet: cannot be read from row 0 on")
def middle_is_missing_and_the_footer_is_good(folder):
    return [blank(picks(folder), "uid", remove=True)]


# The payload is read last, when the plan has been printed, so --quiet.
@bad("picks.parquet: cannot be read from row 0 on")
def payload_is_damaged(folder):
    return [blank(picks(folder), "pick_stats/power"), "--quiet"]


@bad("picks.csv")
def directory_with_a_file_of_another_format(folder):
    (folder / "picks.csv").write_text("uid,x,y\n")
    return [folder / "picks.csv"]


# Several inputs


@bad("two.parquet: the column pick_stats/power has type string, but float", "Cast")
def types_that_do_not_fit(folder):
    two = {"pick_stats/power": ["strong"] * 30}
    return [picks(folder), picks(folder, name="two.parquet", seed=1, columns=two)]


@bad("two.parquet", "location/micrograph_path")
def micrographs_by_uid_here_and_by_path_there(folder):
    one = picks(folder, name="one.parquet", drop=["location/micrograph_uid"])
    two = picks(folder, name="two.parquet", seed=1, drop=["location/micrograph_path"])
    return [one, two]


@bad("two.parquet: no score ncc_score")
def one_of_two_inputs_has_no_score(folder):
    return [picks(folder), picks(folder, name="two.parquet", seed=1, drop=["pick_stats/ncc"])]


@bad("2 uids occur more than once", "two.parquet")
def duplicate_uids_in_the_second_input(folder):
    columns = {"uid": pa.array([7, 7, 8, 8, *range(10, 36)], pa.uint64())}
    return [picks(folder), picks(folder, name="two.parquet", columns=columns)]


# Output


@bad("out is a file", "name a folder")
def output_is_a_file(folder):
    (folder / "out").write_text("mine")
    return [picks(folder), "--output", folder / "out"]


@bad("not empty", "notes.txt")
def output_is_a_folder_with_something_in_it(folder):
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    return [picks(folder), "--output", folder / "out"]


@bad("not empty", "notes.txt")
def overwrite_does_not_empty_a_folder_of_something_else(folder):
    return [*output_is_a_folder_with_something_in_it(folder), "--overwrite"]


@bad("manifest.json", "manifest")
def output_has_a_manifest_of_something_else(folder):
    (folder / "out").mkdir()
    (folder / "out" / "manifest.json").write_text('{"name": "app"}')
    return [picks(folder), "--output", folder / "out", "--overwrite"]


@bad("lies inside the input", "batches")
def output_inside_an_input(folder):
    batches = write_folder(cryosparc(30), folder / "batches")
    return [batches, "--output", batches / "result"]


@bad("lies inside the input")
def output_is_an_input(folder):
    batches = write_folder(cryosparc(30), folder / "batches")
    return [batches, "--output", batches]


@bad("lies inside the input")
def output_inside_an_input_by_a_detour(folder):
    batches = write_folder(cryosparc(30), folder / "batches")
    (folder / "link").symlink_to(batches)
    return [batches, "--output", folder / "link" / ".." / "batches" / "result"]


@bad("lies inside the input")
def output_inside_the_micrograph_table(folder):
    known = write_folder(exposures(), folder / "micrographs")
    return [picks(folder), "--micrographs", known, "--output", known / "result"]


@bad("cannot be written")
def output_below_a_file(folder):
    (folder / "notes.txt").write_text("mine")
    return [picks(folder), "--output", folder / "notes.txt" / "result"]


# Outputs that hold a result


def test_the_result_of_another_run_is_refused_and_left_unchanged(cli, tmp_path):
    path, out = picks(tmp_path), tmp_path / "out"
    assert cli("run", path, "--output", out).exit_code == 0
    before = stamps(out)
    outcome = cli("run", path, "--output", out, "--min-separation", 5)
    assert outcome.exit_code == 2
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("dask-dedup: ")
    assert "--overwrite" in line
    assert stamps(out) == before


def test_a_result_cannot_be_overwritten_by_a_run_on_itself(cli, tmp_path):
    path, out = picks(tmp_path), tmp_path / "out"
    assert cli("run", path, "--output", out).exit_code == 0
    before = stamps(out)
    outcome = cli("run", out / "particles_kept", "--output", out, "--overwrite")
    assert outcome.exit_code == 2
    assert "lies inside --output" in outcome.stderr
    assert stamps(out) == before


def test_a_failed_run_leaves_an_empty_output_folder_empty(cli, tmp_path):
    (tmp_path / "out").mkdir()
    path = blank(picks(tmp_path), "pick_stats/power")
    assert cli("run", path, "--output", tmp_path / "out").exit_code == 2
    assert list((tmp_path / "out").iterdir()) == []


def test_a_uid_in_two_inputs_is_the_same_particle(cli, tmp_path):
    one = cryosparc(30)
    two = cryosparc(30, columns={"uid": pa.array([*uids(one)[:12], *range(18)], pa.uint64())})
    paths = [write_file(one, tmp_path / "1.parquet"), write_file(two, tmp_path / "2.parquet")]
    out = tmp_path / "out"
    outcome = cli("run", *paths, "--output", out, "--min-separation", 0)
    assert outcome.exit_code == 0
    assert "12 uids occur in more than one input" in outcome.stderr
    totals = Output(out).manifest["totals"]
    assert (totals["rejected"], totals["same_uid"]) == (30, 12)


def test_rows_without_a_uid_are_never_the_same_particle(cli, tmp_path):
    # The first input uses row numbers as uids; the uids of the second are as small.
    one = write_file(cryosparc(30, drop=["uid"]), tmp_path / "1.parquet")
    two = picks(tmp_path, columns={"uid": pa.array(range(30), pa.uint64())})
    out = tmp_path / "out"
    assert cli("run", one, two, "--output", out, "--min-separation", 0).exit_code == 0
    totals = Output(out).manifest["totals"]
    assert (totals["rejected"], totals["same_uid"]) == (30, 0)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--no-such-option"], "No such option"),
        (["--min-separation", "wide"], "--min-separation"),
        (["--shift-key", "alignments4D"], "--shift-key"),
        (["--workers", "0"], "--workers"),
        (["--seed", "1.5"], "--seed"),
        (["--scheduler", "tcp://a:1", "--workers", "2"], "exclude each other"),
    ],
)
def test_invalid_options_are_a_usage_error(cli, tmp_path, options, phrase):
    outcome = cli("run", picks(tmp_path), "--output", tmp_path / "out", *options)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("Usage: ")
    assert phrase in outcome.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["run"], ["run", "--output", "out"], ["run", "in.parquet"]])
def test_a_missing_argument_is_a_usage_error(cli, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    outcome = cli(*arguments)
    assert outcome.exit_code == 2
    assert "Missing" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_verify_refuses_a_folder_without_a_run(cli, tmp_path):
    outcome = cli("verify", tmp_path)
    assert outcome.exit_code == 2
    assert "no finished run here" in outcome.stderr
