"""Folders that are not what a picker leaves: each is reported in one clear line."""

from __future__ import annotations

import os
import time

import pytest
from test_coordinates_lines import put

from dask_dedup.errors import InputError
from dask_dedup.formats import open_table

BOX = b"1 2 3 4\n"


def refused(path):
    with pytest.raises(InputError) as error:
        open_table(path)
    assert str(error.value).isprintable()
    return str(error.value).removeprefix(f"{path}")


def test_a_folder_of_100_000_empty_files(tmp_path):
    folder = tmp_path / "picks"
    folder.mkdir()
    for number in range(100_000):
        os.close(os.open(folder / f"{number}.box", os.O_CREAT | os.O_WRONLY))
    began = time.process_time()
    assert refused(folder) == ": no picks: 100,000 files are empty. Leave it out."
    assert time.process_time() - began < 30


def test_empty_files_are_micrographs_without_picks(tmp_path):
    put(tmp_path, "picks/a.box", b"")
    put(tmp_path, "picks/b.box", BOX)
    put(tmp_path, "picks/c.box", b"\r\n")
    table = open_table(tmp_path / "picks")
    assert table.rows == 1
    assert [each.name for each in table.detail.members] == ["a.box", "b.box", "c.box"]


def test_loops_of_links_are_searched_once(tmp_path):
    put(tmp_path, "picks/Micrographs/a.box", BOX)
    (tmp_path / "picks/Micrographs/up").symlink_to(tmp_path / "picks")
    (tmp_path / "picks/Micrographs/here").symlink_to(".")
    assert open_table(tmp_path / "picks").rows == 1


@pytest.mark.parametrize("kind", ["loop", "broken", "fifo"])
def test_what_is_no_file_is_named(tmp_path, kind):
    put(tmp_path, "picks/a.box", BOX)
    other = tmp_path / "picks/b.box"
    if kind == "fifo":
        os.mkfifo(other)
    else:
        other.symlink_to("b.box" if kind == "loop" else "missing.box")
    assert refused(tmp_path / "picks") == (
        "/b.box: a broken link, or not a regular file. Remove it."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_unreadable_files_are_named(tmp_path):
    put(tmp_path, "picks/a.box", BOX).chmod(0)
    assert refused(tmp_path / "picks") == "/a.box: cannot be read: Permission denied"


def test_names_with_line_breaks_are_refused(tmp_path):
    put(tmp_path, "picks/a\nb.box", BOX)
    assert "a\\nb.box: the name of the file has a line break" in refused(tmp_path / "picks")


def test_names_that_differ_by_case_are_refused(tmp_path):
    put(tmp_path, "picks/a.box", BOX)
    put(tmp_path, "picks/A.box", BOX)
    assert refused(tmp_path / "picks") == (
        "/a.box: differs only by upper and lower case from A.box. Rename one of the two files."
    )


def test_two_suffixes_for_one_micrograph_are_refused(tmp_path):
    star = b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n"
    put(tmp_path, "picks/m_autopick.star", star)
    put(tmp_path, "picks/m_manualpick.star", star)
    assert refused(tmp_path / "picks") == (
        ": has two pick files for one micrograph: m_autopick.star and m_manualpick.star. Put them into two "
        "folders, one for _autopick and one for _manualpick."
    )


def test_two_formats_are_refused(tmp_path):
    put(tmp_path, "picks/m.box", BOX)
    put(tmp_path, "picks/m.cbox", b"1 2 3 4 0.5\n")
    assert refused(tmp_path / "picks") == (
        ": has pick files of several formats: EMAN boxes (1 file, such as m.box), crYOLO CBOX (before 1.8) (1 file, "
        "such as m.cbox). Put each format into its own folder."
    )


def test_picks_in_several_folders_are_refused(tmp_path):
    put(tmp_path, "picks/job010/m.box", BOX)
    put(tmp_path, "picks/job011/m.box", BOX)
    assert refused(tmp_path / "picks") == (
        ": has picks in 2 folders (job010, job011). Pass one of them, or each as an input."
    )


def test_other_files_are_ignored_with_a_note(tmp_path):
    put(tmp_path, "picks/m_automatch.box", BOX)
    put(tmp_path, "picks/m_rejected.box", BOX)
    put(tmp_path, "picks/job.star", b"data_job\n")
    put(tmp_path, "picks/logfile.pdf", b"%PDF")
    put(tmp_path, "picks/README.txt", b"hello\n")
    put(tmp_path, "picks/DISTR/m.cbox", b"1 2 3 4 0.5\n")
    put(tmp_path, "picks/other.txt", b"words\n")
    table = open_table(tmp_path / "picks")
    assert [each.micrograph for each in table.detail.members] == ["m"]
    assert table.detail.notes == (
        "5 other files ignored (.pdf, README.txt, _rejected, job.star, m.cbox)",
        "1 file of no known format ignored (other.txt, ...)",
    )


def test_picks_below_a_folder_of_many_images_are_found(tmp_path):
    for number in range(1100):
        put(tmp_path, f"job/{number}.mrc", b"")
    put(tmp_path, "job/picks/m.box", BOX)
    assert open_table(tmp_path / "job").rows == 1


def test_a_pick_file_can_have_the_name_of_a_table_of_micrographs(tmp_path):
    star = b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n"
    put(tmp_path, "picks/micrographs_1.star", star)
    put(tmp_path, "picks/micrographs_ctf.star", b"data_\nloop_\n_rlnMicrographName\nm.mrc\n")
    table = open_table(tmp_path / "picks")
    assert [each.micrograph for each in table.detail.members] == ["micrographs_1"]
    assert table.detail.notes == ("1 file of no known format ignored (micrographs_ctf.star, ...)",)
