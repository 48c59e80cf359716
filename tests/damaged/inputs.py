"""Several inputs that do not fit together."""

from __future__ import annotations

import pyarrow as pa

from damaged.case import case
from damaged.parquet import picks


@case
def inputs_one_is_missing(folder):
    return [picks(folder), folder / "nowhere"]


@case
def inputs_types_that_do_not_fit(folder):
    two = {"pick_stats/power": ["strong"] * 30}
    return [picks(folder), picks(folder, name="two.parquet", seed=1, columns=two)]


@case
def inputs_micrographs_by_uid_and_by_path(folder):
    one = picks(folder, name="one.parquet", drop=["location/micrograph_uid"])
    two = picks(folder, name="two.parquet", seed=1, drop=["location/micrograph_path"])
    return [one, two]


@case
def inputs_none_has_the_score(folder):
    drop = ["pick_stats/ncc"]
    return [picks(folder, drop=drop), picks(folder, name="two.parquet", seed=1, drop=drop)]


@case
def inputs_scores_of_different_directions(folder):
    one, two = picks(folder), picks(folder, name="two.parquet", seed=1)
    return [one, two, "--score-field", f"{two}=error"]


@case
def inputs_one_has_no_score_that_is_named_for_it(folder):
    one, two = picks(folder), picks(folder, name="two.parquet", seed=1)
    return [one, two, "--score-field", f"{two}=quality:higher"]


@case
def inputs_duplicate_uids_in_the_second_input(folder):
    columns = {"uid": pa.array([7, 7, 8, 8, *range(10, 36)], pa.uint64())}
    return [picks(folder), picks(folder, name="two.parquet", columns=columns)]
