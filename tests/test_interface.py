"""The interface: public names, commands, options and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import REPOSITORY
from tables import OLD_PYARROW, cryosparc, write_file

import dask_dedup
from dask_dedup import errors
from dask_dedup.cli import main
from dask_dedup.pipeline import run as pipeline
from dask_dedup.results import verify as verification

HEAVY = ("pyarrow", "pandas", "scipy", "dask", "distributed", "numpy")
COMMANDS = sorted(main.commands)


def loaded_by(statement, names=HEAVY):
    """Return which of some packages a statement loads in a new process."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    # Earlier tests leave Dask variables in the environment, which would import Dask.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=bare)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.split()


class TestNames:
    def test_they_are_sorted(self):
        assert sorted(dask_dedup.__all__) == list(dask_dedup.__all__)

    def test_a_star_import_gives_all_of_them(self):
        scope = {}
        exec("from dask_dedup import *", scope)
        assert set(scope) - {"__builtins__"} == set(dask_dedup.__all__)
        assert all(getattr(dask_dedup, name) is scope[name] for name in dask_dedup.__all__)

    @pytest.mark.parametrize("name", dask_dedup.__all__)
    def test_each_is_documented_and_listed(self, name):
        assert getattr(dask_dedup, name).__doc__
        assert name in dir(dask_dedup)

    def test_an_unknown_name_is_an_error(self):
        with pytest.raises(AttributeError, match="no_such_name"):
            dask_dedup.no_such_name  # noqa: B018

    def test_errors_have_the_expected_base_classes(self):
        assert issubclass(dask_dedup.InputError, (dask_dedup.DedupError, ValueError))
        assert issubclass(errors.OutputExistsError, dask_dedup.InputError)
        assert issubclass(dask_dedup.RunError, RuntimeError)

    def test_the_version_is_that_of_the_installation(self):
        from importlib.metadata import version

        assert version("dask-dedup") == dask_dedup.__version__


class TestImports:
    def test_importing_the_package_loads_nothing_heavy(self):
        assert loaded_by("import dask_dedup") == []

    def test_help_loads_nothing_heavy(self):
        statement = (
            "from click.testing import CliRunner\nfrom dask_dedup.cli import main\n"
            "assert CliRunner().invoke(main, ['run', '--help']).exit_code == 0"
        )
        assert loaded_by(statement) == []

    def test_dedup_and_geometry_load_only_numpy(self):
        statement = "import dask_dedup.dedup, dask_dedup.particles.geometry, dask_dedup.dedup.rank"
        # SciPy is loaded when a tree is built.
        assert set(loaded_by(statement)) == {"numpy"}

    def test_a_run_in_a_single_process_loads_only_what_it_needs(self, tmp_path):
        path = write_file(cryosparc(200), tmp_path / "picks.parquet")
        output = str(tmp_path / "out")
        statement = (
            f"import dask_dedup\ndone = dask_dedup.run({str(path)!r}, {output!r})\n"
            f"dask_dedup.report({output!r}, contents=done.report_contents)"
        )
        unneeded = ("dask", "distributed", "pandas", "scipy", "yaml", "dask_dedup.conversion.star")
        # pyarrow 17 and earlier always import pandas.
        assert loaded_by(statement, unneeded) == ["pandas"] * OLD_PYARROW

    def test_a_short_command_looks_for_no_garbage(self, tmp_path):
        path = write_file(cryosparc(20), tmp_path / "picks.parquet")
        arguments = ["dask-dedup", "run", str(path), "--output", str(tmp_path / "out"), "--quiet"]
        statement = (
            "import gc, sys\nfrom dask_dedup.__main__ import main\n"
            f"sys.argv, searches = {arguments!r}, []\n"
            "gc.callbacks.append(lambda phase, _: searches.append(phase))\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
            "assert not searches"
        )
        assert loaded_by(statement, ()) == []


class TestHelp:
    def test_it_lists_every_command(self, cli):
        outcome = cli("--help")
        assert outcome.exit_code == 0
        listed = outcome.stdout.split("Commands:")[1]
        assert [command for command in COMMANDS if f"  {command} " not in listed] == []
        assert {"run", "verify", "demo"} <= set(COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_some(self, cli, command):
        outcome = cli(command, "--help")
        assert outcome.exit_code == 0
        assert len(main.commands[command].help) > 40
        assert outcome.stdout == cli(command, "-h").stdout

    def test_the_version_is_printed(self, cli):
        assert cli("--version").stdout.strip() == f"dask-dedup, version {dask_dedup.__version__}"

    def test_the_command_is_installed(self):
        outcome = subprocess.run(
            [sys.executable, "-c", "from dask_dedup.cli import main; main()", "--version"],
            capture_output=True,
            text=True,
        )
        assert outcome.stdout.endswith(f"version {dask_dedup.__version__}\n")


class TestDaskCommand:
    def test_dask_dedup_is_the_same_command(self, monkeypatch):
        import dask.cli

        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        ((name, target),) = project["entry-points"]["dask_cli"].items()
        command = EntryPoint(name, target, "dask_cli").load()
        assert command.name == "dedup"
        monkeypatch.setitem(dask.cli.cli.commands, command.name, command)
        outcome = CliRunner().invoke(dask.cli.cli, ["dedup", "--help"])
        assert outcome.exit_code == 0
        assert "Remove duplicate particle picks" in outcome.output
        outcome = CliRunner().invoke(
            dask.cli.cli, ["dedup", "run", "no-such-file.star", "-o", "out"]
        )
        assert outcome.exit_code == 2
        assert outcome.output == "dask-dedup: no-such-file.star: no such file or folder\n"


class TestExitCodes:
    @pytest.fixture
    def arguments(self, tmp_path):
        path = write_file(cryosparc(), tmp_path / "picks.parquet")
        return ("run", path, "--output", tmp_path / "out")

    def failing(self, monkeypatch, error):
        def run(*args, **kwargs):
            raise error

        monkeypatch.setattr(pipeline, "run", run)

    def test_0_means_done(self, cli, arguments, tmp_path):
        outcome = cli(*arguments)
        assert outcome.exit_code == 0
        assert str(tmp_path / "out") in outcome.stdout

    def test_1_means_the_run_failed(self, cli, arguments, monkeypatch):
        self.failing(monkeypatch, dask_dedup.RunError("the disk is full; free space, run again"))
        outcome = cli(*arguments)
        assert outcome.exit_code == 1
        assert outcome.stderr == "dask-dedup: the disk is full; free space, run again\n"

    def test_1_means_a_failed_write_too(self, cli, arguments, monkeypatch, tmp_path):
        from dask_dedup.formats.parquet import writer

        def split(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(writer, "split", split)
        outcome = cli(*arguments, "--quiet")
        assert outcome.exit_code == 1
        (line,) = outcome.stderr.splitlines()
        assert line.startswith("dask-dedup: ")
        assert "out: the disk is full" in line
        assert "run the same command again" in line
        assert not (tmp_path / "out" / "manifest.json").exists()

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "not an address"])
    def test_1_means_no_scheduler_answers(self, cli, arguments, monkeypatch, address):
        from dask_dedup.cluster import handshake

        monkeypatch.setattr(handshake, "CONNECT_SECONDS", 1)
        outcome = cli(*arguments, "--scheduler", address)
        assert outcome.exit_code == 1
        (line,) = outcome.stderr.splitlines()
        assert line.startswith(f"dask-dedup: cannot connect to the Dask scheduler at {address}")

    def test_1_means_verify_found_a_fault(self, cli, arguments, tmp_path):
        assert cli(*arguments).exit_code == 0
        assert cli("verify", tmp_path / "out").exit_code == 0
        (tmp_path / "out" / "particles_kept" / "part-00000.parquet").unlink()
        assert cli("verify", tmp_path / "out").exit_code == 1

    def test_2_means_wrong_input_or_usage(self, cli, arguments):
        assert cli(*arguments, "--min-separation", "-1").exit_code == 2
        assert cli(*arguments, "--no-such-option").exit_code == 2
        assert cli("no-such-command").exit_code == 2

    def test_130_means_interrupted(self, cli, arguments, monkeypatch):
        self.failing(monkeypatch, KeyboardInterrupt())
        outcome = cli(*arguments)
        assert outcome.exit_code == 130
        (line,) = outcome.stderr.splitlines()
        assert line == "dask-dedup: interrupted; nothing was written"

    def test_an_interrupted_overwrite_says_that_the_earlier_result_is_unchanged(
        self, cli, arguments, monkeypatch
    ):
        assert cli(*arguments).exit_code == 0
        self.failing(monkeypatch, KeyboardInterrupt())
        outcome = cli(*arguments, "--overwrite", "--seed", 1)
        assert outcome.exit_code == 130
        line = outcome.stderr.splitlines()[-1]
        assert line == "dask-dedup: interrupted; the earlier result is unchanged"

    def test_an_interrupt_before_any_fragment_is_written_leaves_nothing(
        self, cli, arguments, monkeypatch, tmp_path
    ):
        from dask_dedup.formats.parquet import writer

        def split(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(writer, "split", split)
        assert cli(*arguments).exit_code == 130
        assert not (tmp_path / "out").exists()


class TestMessages:
    def test_quiet_prints_nothing_without_errors(self, cli, tmp_path):
        path = write_file(cryosparc(), tmp_path / "picks.parquet")
        outcome = cli("run", path, "-o", tmp_path / "out", "--quiet")
        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "", "")

    def test_parameters_are_logged_and_the_plan_only_if_verbose(self, cli, tmp_path):
        path = write_file(cryosparc(), tmp_path / "picks.parquet")
        printed = cli("run", path, "-o", tmp_path / "out").stderr
        for phrase in ("20 A", "alignments3D/shift", "ncc_score (higher is better)"):
            assert phrase in printed
        assert not any(word in printed for word in ("fragment", "thread", "shuffle"))
        printed = cli("run", path, "-o", tmp_path / "verbose", "--verbose").stderr
        assert "120 particles on 4 micrographs" in printed
        assert "nothing is shuffled" in printed

    def test_the_table_counts_by_input_and_in_all(self, cli, tmp_path):
        paths = [
            write_file(cryosparc(1200, seed=s, micrographs=40), tmp_path / f"{s}.parquet")
            for s in (1, 2)
        ]
        printed = cli("run", *paths, "-o", tmp_path / "out").stdout
        lines = [line.split() for line in printed.splitlines()[:4]]
        assert lines[0] == ["input", "particles", "kept", "rejected"]
        assert [line[:2] for line in lines[1:]] == [
            [str(paths[0]), "1,200"],
            [str(paths[1]), "1,200"],
            ["all", "2,400"],
        ]
        counts = [int(word.replace(",", "")) for word in lines[3][1:4]]
        assert counts[0] == counts[1] + counts[2]

    def test_a_constant_score_is_warned_about(self, cli, tmp_path):
        rows = cryosparc(30, columns={"pick_stats/ncc_score": [0.0] * 30})
        path = write_file(rows, tmp_path / "picks.parquet")
        printed = cli("run", path, "-o", tmp_path / "out", "--quiet").stderr
        assert "the scores in pick_stats/ncc_score are zero-filled" in printed

    def test_inputs_without_a_common_micrograph_are_warned_about(self, cli, tmp_path):
        one = write_file(cryosparc(30), tmp_path / "1.parquet")
        strangers = {"location/micrograph_uid": np.arange(30, dtype=np.uint64)}
        two = write_file(cryosparc(30, seed=1, columns=strangers), tmp_path / "2.parquet")
        printed = cli("run", one, two, "-o", tmp_path / "out", "--quiet").stderr
        assert "no micrograph in common" in printed

    def test_warnings_come_last_and_once(self, cli, tmp_path):
        rows = cryosparc(30, drop=["uid"], columns={"pick_stats/ncc_score": [0.0] * 30})
        path = write_file(rows, tmp_path / "picks.parquet")
        options = ("-o", tmp_path / "out", "--prefer-input-order")
        lines = cli("run", path, *options).stderr.splitlines()
        warnings = [line for line in lines if line.startswith("warning: ")]
        assert len(warnings) == len(set(warnings)) >= 2
        assert lines[-len(warnings) :] == warnings

    def test_flags_are_spelled_as_on_the_command_line(self, cli, tmp_path):
        path = write_file(cryosparc(30), tmp_path / "picks.parquet")
        printed = cli("run", path, "-o", tmp_path / "out", "--prefer-input-order").stderr
        assert "--prefer-input-order" in printed
        assert "prefer_input_order" not in printed

    def test_an_unexpected_error_is_one_line(self, cli, tmp_path, monkeypatch):
        def fail(*args, **kwargs):
            raise ZeroDivisionError("no such thing")

        monkeypatch.setattr(verification, "verify", fail)
        outcome = cli("verify", tmp_path)
        assert outcome.exit_code == 1
        (line,) = outcome.stderr.splitlines()
        assert line.endswith("(ZeroDivisionError: no such thing)")


def test_an_error_names_its_parameters_for_programs():
    with pytest.raises(dask_dedup.InputError) as caught:
        dask_dedup.DedupParams(min_separation=-1)
    assert [hint.parameter for hint in caught.value.hints] == ["min_separation"]
    assert str(caught.value).startswith("min_separation is -1")
