"""Micrographs whose identity the tables leave open."""

from __future__ import annotations

from tables import exposures, relion, write_file, write_hive

from damaged.case import case


def sessions(folder, **columns):
    """Write a folder with a hive key; the same micrographs are under both of its values."""
    table = relion(40, columns={"session": ["A", "B"] * 20, **columns})
    return write_hive(table, folder / "picks", "session")


def named(folder, name="picks.parquet", **columns):
    return write_file(relion(40, columns=columns), folder / name)


@case
def identity_one_name_in_two_sessions(folder):
    return [sessions(folder)]


@case
def identity_groups_without_the_column(folder):
    return [named(folder), "--group-by", "session"]


@case
def identity_groups_and_none(folder):
    return [named(folder), "--group-by", "session", "--group-by", "none"]


@case
def identity_group_of_lists(folder):
    return [named(folder, session=[[1, 2]] * 40), "--group-by", "session"]


@case
def identity_folder_that_is_no_key(folder):
    write_file(relion(40), folder / "picks" / "session=2024" / "03" / "07" / "a.parquet")
    return [folder / "picks"]


@case
def identity_name_missing(folder):
    return [named(folder, rlnMicrographName=["m.mrc", "None", "null", "<NA>"] * 10)]


@case
def identity_table_with_other_paths(folder):
    names = [f"MotionCorr/job002/{n:03}_grid.mrc" for n in range(4)]
    table = exposures(drop=["uid"], columns={"micrograph_blob/path": names})
    return [named(folder), "--micrographs", write_file(table, folder / "m.parquet")]


@case
def identity_table_with_other_names(folder):
    names = [f"other_{n}.mrc" for n in range(4)]
    table = exposures(drop=["uid"], columns={"micrograph_blob/path": names})
    return [named(folder), "--micrographs", write_file(table, folder / "m.parquet")]


@case
def identity_rename_without_a_form(folder):
    return [named(folder), "--rename-micrographs", "_DW"]


@case
def identity_rename_of_no_input(folder):
    return [named(folder), "--rename-micrographs", "b.star=s/_DW//"]


@case
def identity_rename_that_is_no_expression(folder):
    return [named(folder), "--rename-micrographs", "s/(_DW//"]


@case
def identity_rename_to_nothing(folder):
    return [named(folder), "--rename-micrographs", "s/.*//"]


@case
def identity_rename_of_uids(folder):
    options = ("--rename-micrographs", "s/a/b/", "--match-micrographs", "uid")
    return [named(folder), *options]


@case
def identity_map_lacks_a_name(folder):
    table = folder / "map.csv"
    table.write_text("from,to\nJ1/imported/000_grid.mrc,m0\n")
    return [named(folder), "--micrograph-map", table]


@case
def identity_map_with_three_columns(folder):
    table = folder / "map.csv"
    table.write_text("a,b,c\n")
    return [named(folder), "--micrograph-map", table]


@case
def identity_map_missing(folder):
    return [named(folder), "--micrograph-map", folder / "map.csv"]


@case
def identity_map_with_two_new_names(folder):
    table = folder / "map.csv"
    table.write_text("a,b\na,c\n")
    return [named(folder), "--micrograph-map", table]
