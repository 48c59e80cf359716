"""Tables with values that cannot be used, and micrograph tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from tables import (
    MICROGRAPH_UID,
    column_with_bad_values,
    cryosparc,
    exposures,
    vectors,
    write_file,
    write_folder,
)

from damaged.case import case
from damaged.parquet import picks


def at_rows(column, value, rows=(3, 4, 7, 9)):
    return column_with_bad_values(column, value, rows)


@case
def value_nan_coordinates(folder):
    return [picks(folder, columns=at_rows("location/center_x_frac", np.nan))]


@case
def value_infinite_coordinates(folder):
    return [picks(folder, columns=at_rows("location/center_y_frac", np.inf))]


@case
def value_nan_coordinates_in_a_folder_are_named_by_file(folder):
    table = cryosparc(30, columns=at_rows("location/center_x_frac", np.nan, rows=[13, 25]))
    return [write_folder(table, folder / "batches")]


@case
def value_null_micrograph(folder):
    column = pa.array([None] * 3 + [MICROGRAPH_UID] * 27, pa.uint64())
    return [picks(folder, columns={"location/micrograph_uid": column})]


@case
def value_null_micrograph_path(folder):
    column = pa.array([None] * 3 + ["a.mrc"] * 27)
    columns = {"location/micrograph_path": column}
    return [picks(folder, columns=columns, drop=["location/micrograph_uid"])]


@case
def value_micrograph_column_without_a_value(folder):
    columns = {"location/micrograph_path": pa.nulls(30)}
    return [picks(folder, columns=columns, drop=["location/micrograph_uid"])]


@case
def value_nan_shifts(folder):
    shifts = np.zeros((30, 2))
    shifts[[3, 4, 7, 9], 1] = np.nan
    return [picks(folder, columns={"alignments3D/shift": vectors(shifts)})]


@case
def value_null_uids(folder):
    column = pa.array([None, None, *range(1, 29)], pa.uint64())
    return [picks(folder, columns={"uid": column})]


@case
def value_duplicate_uids_in_one_input(folder):
    return [picks(folder, columns={"uid": pa.array([7, 7, 8, 8, 8, *range(10, 35)])})]


@case
def value_the_same_file_twice_in_one_folder(folder):
    picks(folder / "batches", name="a.parquet")
    picks(folder / "batches", name="b.parquet")
    return [folder / "batches"]


@case
def pixel_size_missing(folder):
    return [picks(folder, drop=["location/micrograph_psize_A"])]


@case
def pixel_size_zero(folder):
    return [picks(folder, columns=at_rows("location/micrograph_psize_A", 0))]


@case
def pixel_size_nan(folder):
    return [picks(folder, columns=at_rows("location/micrograph_psize_A", np.nan))]


@case
def pixel_size_of_the_shift_negative(folder):
    return [picks(folder, columns=at_rows("alignments3D/psize_A", -1))]


@case
def shape_zero(folder):
    column = pa.array([[0, 0]] * 30, pa.list_(pa.uint32(), 2))
    return [picks(folder, columns={"location/micrograph_shape": column})]


@case
def shape_missing(folder):
    return [picks(folder, drop=["location/micrograph_shape"])]


@case
def micrographs_table_of_something_else(folder):
    columns = ["micrograph_blob/psize_A", "micrograph_blob/shape"]
    return [picks(folder), "--micrographs", write_folder(exposures(drop=columns), folder / "m")]


@case
def micrographs_table_is_an_empty_folder(folder):
    (folder / "m").mkdir()
    return [picks(folder), "--micrographs", folder / "m"]


@case
def micrographs_table_with_pixel_size_0(folder):
    known = exposures(columns={"micrograph_blob/psize_A": np.zeros(4)})
    return [picks(folder), "--micrographs", write_file(known, folder / "m.parquet")]


@case
def micrographs_table_contradicts_itself(folder):
    columns = {
        "uid": pa.array([MICROGRAPH_UID] * 2, pa.uint64()),
        "micrograph_blob/psize_A": np.array([1.0, 2.0]),
    }
    known = write_file(exposures(2, columns=columns), folder / "m.parquet")
    return [picks(folder), "--micrographs", known]
