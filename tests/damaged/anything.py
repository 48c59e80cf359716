"""Broken inputs of any format."""

from __future__ import annotations

import os

from valid_files import put

from damaged.case import case


@case
def any_missing(folder):
    return [folder / "picks.star"]


@case
def any_missing_in_a_missing_folder(folder):
    return [folder / "no" / "picks.cs"]


@case
def any_name_that_is_too_long(folder):
    return [folder / ("x" * 300 + ".star")]


@case
def any_name_with_a_newline_and_an_escape(folder):
    return [folder / "picks\n\x1b[31m.star"]


@case
def any_name_that_is_not_utf8(folder):
    return [os.fsdecode(os.fsencode(folder) + b"/picks\xff.star")]


@case
def any_pipe_instead_of_a_file(folder):
    os.mkfifo(folder / "picks.star")
    return [folder / "picks.star"]


@case
def any_device_instead_of_a_file(folder):
    return ["/dev/zero"]


@case
def any_table_of_an_unknown_kind(folder):
    return put(folder, "picks.dat", b"10\t20\t64\t64\n")


@case
def any_table_of_scipion(folder):
    return put(folder, "particles.sqlite", b"SQLite format 3\0" + bytes(100))


@case
def any_boxes_of_cryolo(folder):
    return put(folder, "mic1.cbox", b"data_global\n\n_version 1.0\n")


@case
def any_folder_of_boxes(folder):
    put(folder, "mic1.box", b"10 20 64\n")
    return [folder]


@case
def any_table_of_no_known_suffix(folder):
    return put(folder, "picks.dat", b"1 2 3\n")


@case
def any_folder_named_like_a_star(folder):
    (folder / "picks.star").mkdir()
    return [folder / "picks.star"]
