"""Folders that are not what a picker leaves: each is reported in one clear line."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

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


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return a function that makes 100,000 empty files."""

    def make(suffix):
        folder = tmp_path_factory.mktemp("picks")
        for number in range(100_000):
            os.close(os.open(folder / f"{number}{suffix}", os.O_CREAT | os.O_WRONLY))
        return folder

    return make


@pytest.mark.slow
def test_a_folder_of_100_000_empty_files(many, cli, tmp_path):
    folder = many(".box")
    began = time.process_time()
    assert refused(folder) == ": no picks: 100,000 files are empty. Leave it out."
    assert time.process_time() - began < 120
    (folder / "a.box").write_bytes(BOX)
    began = time.process_time()
    table = open_table(folder)
    assert (table.rows, len(table.detail.members)) == (1, 100_001)
    assert time.process_time() - began < 120


@pytest.mark.slow
def test_a_folder_of_100_000_other_files(many):
    folder = many(".mrc")
    began = time.process_time()
    assert refused(folder).endswith("0.mrc is an image. Pass the table of particles.")
    (folder / "a.box").write_bytes(BOX)
    table = open_table(folder)
    assert table.detail.notes == ("100,000 other files ignored (.mrc)",)
    assert time.process_time() - began < 120


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
        "/b.box: a broken link, or not a regular file. Repair or remove it."
    )


@pytest.fixture
def readable_by_all(monkeypatch):
    """Return a folder, and work as a user who is not root: root can read every file."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "picks/sub").mkdir(parents=True)
    put(folder, "picks/b.box", BOX)
    yield folder
    if os.getuid() == 0:
        os.seteuid(0)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["a.box", "sub", ""])
def test_what_cannot_be_read_is_named(readable_by_all, name):
    folder = readable_by_all / "picks"
    (folder / "a.box").write_bytes(BOX)
    (folder / name).chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    try:
        text = refused(folder).rstrip(".")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        (folder / name).chmod(0o755)
    assert text == f"{'/' if name else ''}{name}: cannot be read: Permission denied"


def test_names_with_line_breaks_are_refused(tmp_path):
    put(tmp_path, "picks/a\nb.box", BOX)
    assert (
        "a\\nb.box: the name of the file has characters that cannot be printed, such as a line break"
        in refused(tmp_path / "picks")
    )


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


def links(folder):
    (folder / "a.box").symlink_to("b.box")
    (folder / "b.box").symlink_to("a.box")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: os.mkfifo(folder / "m.box"), "not a regular file. Repair or remove it."),
        (links, "a broken link"),
        (
            lambda folder: put(folder, "a\n\x1b[2J.box", BOX),
            "a\\n\\x1b[2J.box: the name of the file",
        ),
        (
            lambda folder: (folder / os.fsdecode(b"\xff.box")).write_bytes(BOX),
            "bytes that are not UTF-8",
        ),
        (
            lambda folder: [put(folder, name, BOX) for name in ("m.box", "M.box")],
            "Rename one of the",
        ),
        (
            lambda folder: [put(folder, name, b"") for name in ("m.box", "n.box")],
            "2 files are empty",
        ),
        (lambda folder: put(folder, "m.box", b"\0" * 10**6), "NUL bytes"),
        (lambda folder: put(folder, "m.box/n.box", BOX), ""),
    ],
)
def test_a_run_says_in_one_line_what_is_wrong(cli, tmp_path, make, words):
    folder = tmp_path / "picks"
    folder.mkdir()
    make(folder)
    options = ("--output", tmp_path / "out", "--micrograph-pixel-size", 1, "--min-separation", 1)
    outcome = cli("run", folder, *options)
    assert outcome.exit_code == (2 if words else 0)
    assert words in outcome.stderr
    assert all(line.isprintable() for line in outcome.stderr.splitlines())
    if words:
        assert len(outcome.stderr.splitlines()) == 1
        assert not (tmp_path / "out").exists()
