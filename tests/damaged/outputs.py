"""Outputs that cannot be written."""

from __future__ import annotations

from tables import cryosparc, exposures, write_folder

from damaged.case import case
from damaged.parquet import picks


@case
def output_overwrite_of_other_files(folder):
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    return [picks(folder), "--output", folder / "out", "--overwrite"]


@case
def output_has_a_manifest_of_something_else(folder):
    (folder / "out").mkdir()
    (folder / "out" / "manifest.json").write_text('{"name": "app"}')
    return [picks(folder), "--output", folder / "out", "--overwrite"]


@case
def output_is_an_input(folder):
    batches = write_folder(cryosparc(30), folder / "batches")
    return [batches, "--output", batches]


@case
def output_inside_an_input_through_a_link(folder):
    batches = write_folder(cryosparc(30), folder / "batches")
    (folder / "link").symlink_to(batches)
    return [batches, "--output", folder / "link" / ".." / "batches" / "result"]


@case
def output_inside_the_micrograph_table(folder):
    known = write_folder(exposures(), folder / "micrographs")
    return [picks(folder), "--micrographs", known, "--output", known / "result"]


@case
def output_below_a_file(folder):
    (folder / "notes.txt").write_text("mine")
    return [picks(folder), "--output", folder / "notes.txt" / "result"]


@case
def output_inside_an_input(folder):
    write_folder(cryosparc(30), folder / "picks")
    return [folder / "picks", "--output", folder / "picks" / "out"]


@case
def output_is_a_file(folder):
    (folder / "out").write_text("mine")
    return [picks(folder), "--output", folder / "out"]


@case
def output_is_not_empty(folder):
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    return [picks(folder), "--output", folder / "out"]
