"""Fuzzing of the readers: it runs, can be repeated, and survives crashes and hangs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from fuzz import readers
from fuzz.execution import HangError, Outcome, _limited, execute
from fuzz.readers import Campaign, damaged_files
from fuzz.seeds import FORMATS, seeds, write_files


@pytest.mark.slow
def test_a_short_campaign_over_all_formats_finds_nothing(tmp_path):
    command = [
        sys.executable,
        "-m",
        "fuzz.readers",
        "--executions",
        str(50 * len(FORMATS)),
        "--seed",
        "7",
    ]
    done = subprocess.run(
        [*command, "--findings", tmp_path / "findings"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{50 * len(FORMATS):,} executions" in done.stdout
    for form in FORMATS:
        assert re.search(rf"{form}: 50 executions.*accepted [1-9]", done.stdout)
    assert not (tmp_path / "findings").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_valid_files_are_accepted(tmp_path, form):
    for number, files in enumerate(seeds(form)):
        folder = tmp_path / str(number)
        (folder / "out").mkdir(parents=True)
        write_files(files, folder)
        assert execute(folder / next(iter(files)), folder / "out") == Outcome("accepted")


@pytest.mark.parametrize("form", FORMATS)
def test_an_execution_can_be_repeated_and_differs_from_others(form):
    assert damaged_files(form, 1, 2) == damaged_files(form, 1, 2)
    made = [tuple(damaged_files(form, 1, number).values()) for number in range(50)]
    assert len(set(made)) > 40


def test_a_crash_of_the_interpreter_is_found_and_the_campaign_continues(tmp_path, monkeypatch):
    def crash_at_3(path, scratch):
        if path.parent.name == "3":
            os.kill(os.getpid(), signal.SIGSEGV)
        return Outcome("refused")

    monkeypatch.setattr(readers, "execute", crash_at_3)
    campaign = Campaign("star", 0, tmp_path / "findings", tmp_path)
    campaign.batch(10)
    assert campaign.next == 10
    assert sum(campaign.counts.values()) == 10
    assert dict(campaign.found) == {"crash exit code -11": 1}
    (found,) = (tmp_path / "findings").iterdir()
    assert (found / "picks.star").read_bytes() == damaged_files("star", 0, 3)["picks.star"]


def test_an_endless_execution_is_stopped():
    def forever():
        with _limited(0.2):
            while True:
                pass

    with pytest.raises(HangError):
        forever()
