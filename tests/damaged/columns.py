"""Tables whose columns are missing or of the wrong type."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from tables import relion, write_file

from damaged.case import case
from damaged.parquet import picks


@case
def column_no_position(folder):
    return [picks(folder, drop=["location/center"])]


@case
def column_only_y(folder):
    return [picks(folder, drop=["location/center_x"])]


@case
def column_no_micrograph(folder):
    return [picks(folder, drop=["location/micrograph_uid", "location/micrograph_path"])]


@case
def column_no_micrograph_in_relion(folder):
    return [write_file(relion(drop=["rlnMicrographName"]), folder / "picks.parquet")]


@case
def column_both_conventions_in_one_table(folder):
    pixels = {"rlnCoordinateX": np.ones(30), "rlnCoordinateY": np.ones(30)}
    return [picks(folder, columns=pixels)]


@case
def column_no_score(folder):
    return [picks(folder, drop=["pick_stats"])]


@case
def column_no_score_in_relion(folder):
    table = relion(
        columns={"rlnLogLikeliContribution": np.ones(120)}, drop=["rlnAutopickFigureOfMerit"]
    )
    return [write_file(table, folder / "picks.parquet")]


@case
def column_no_error(folder):
    return [picks(folder, drop=["alignments"]), "--score-field", "error"]


@case
def column_shift_without_a_pixel_size(folder):
    return [picks(folder, drop=["alignments3D/psize_A"])]


@case
def column_text_for_a_score(folder):
    return [picks(folder, columns={"pick_stats/ncc_score": ["good"] * 30})]


@case
def column_fractions_for_uids(folder):
    return [picks(folder, columns={"uid": np.linspace(0, 1, 30)})]


@case
def column_lists_of_the_wrong_length(folder):
    shape = [[240, 300]] * 4 + [[240]] + [[240, 300]] * 25
    return [picks(folder, columns={"location/micrograph_shape": pa.array(shape)})]


@case
def column_lists_of_the_wrong_length_in_the_second_file(folder):
    shape = [[240, 300], [240]] + [[240, 300]] * 28
    good = {"location/micrograph_shape": pa.array([[240, 300]] * 30)}
    picks(folder / "batches", name="a.parquet", columns=good)
    wrong = {"location/micrograph_shape": pa.array(shape)}
    picks(folder / "batches", name="b.parquet", columns=wrong, seed=1)
    return [folder / "batches"]


@case
def column_a_number_where_a_pair_should_be(folder):
    return [picks(folder, columns={"alignments3D/shift": np.ones(30)})]
