"""What a user types, calls and reads: the names, the verbs, the options, the exit codes."""

from __future__ import annotations

import ast
import subprocess
import sys

import click
import numpy as np
import pytest
from conftest import REPOSITORY
from tables import cryosparc, write_file

import dask_dedup
from dask_dedup import errors
from dask_dedup.cli import main
from dask_dedup.pipeline import run as pipeline

PACKAGE = REPOSITORY / "dask_dedup"
HEAVY = ("pyarrow", "pandas", "scipy", "dask", "distributed", "numpy")
VERBS = sorted(main.commands)
OPTIONS = [
    (verb, parameter)
    for verb in VERBS
    for parameter in main.commands[verb].params
    if isinstance(parameter, click.Option)
]
each_option = pytest.mark.parametrize(
    ("verb", "option"), OPTIONS, ids=[f"{verb} {option.opts[-1]}" for verb, option in OPTIONS]
)


def loaded_by(statement, names=HEAVY):
    """Which of some packages a statement loads, in a process of its own."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.split()


def sources():
    return {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}


def imports(path):
    """Every module a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class TestNames:
    def test_there_are_ten_at_most(self):
        assert len(dask_dedup.__all__) <= 10
        assert sorted(dask_dedup.__all__) == list(dask_dedup.__all__)

    def test_all_is_what_imports(self):
        scope = {}
        exec("from dask_dedup import *", scope)
        assert set(scope) - {"__builtins__"} == set(dask_dedup.__all__)
        assert all(getattr(dask_dedup, name) is scope[name] for name in dask_dedup.__all__)

    @pytest.mark.parametrize("name", dask_dedup.__all__)
    def test_each_is_documented_and_listed(self, name):
        assert getattr(dask_dedup, name).__doc__
        assert name in dir(dask_dedup)

    def test_no_other_name_is_given(self):
        with pytest.raises(AttributeError, match="no_such_name"):
            dask_dedup.no_such_name  # noqa: B018

    def test_errors_are_what_a_caller_would_catch(self):
        assert issubclass(dask_dedup.InputError, (dask_dedup.DedupError, ValueError))
        assert issubclass(errors.OutputExistsError, dask_dedup.InputError)
        assert issubclass(dask_dedup.RunError, RuntimeError)

    def test_the_version_is_that_of_the_installation(self):
        from importlib.metadata import version

        assert version("dask-dedup") == dask_dedup.__version__


class TestHouse:
    def test_importing_the_package_loads_nothing_heavy(self):
        assert loaded_by("import dask_dedup") == []

    def test_help_loads_nothing_heavy(self):
        statement = (
            "from click.testing import CliRunner\nfrom dask_dedup.cli import main\n"
            "assert CliRunner().invoke(main, ['run', '--help']).exit_code == 0"
        )
        assert loaded_by(statement) == []

    def test_kernel_geometry_and_rank_know_arrays_only(self):
        statement = "import dask_dedup.dedup, dask_dedup.particles.geometry, dask_dedup.dedup.rank"
        # SciPy comes where a tree is needed.
        assert set(loaded_by(statement)) == {"numpy"}

    def test_formats_know_no_dask(self):
        for name, path in sources().items():
            if name.startswith("formats/"):
                roots = {module.split(".")[0] for module in imports(path)}
                assert not roots & {"dask", "distributed"}, name

    def test_two_modules_know_dask_dataframe(self):
        assert {
            name
            for name, path in sources().items()
            if any(module.startswith("dask.dataframe") for module in imports(path))
        } == {"frames.py", "pipeline/executors/distributed.py"}

    def test_a_run_in_this_process_loads_neither_dask_dataframe_nor_distributed(self, tmp_path):
        path = write_file(cryosparc(20), tmp_path / "picks.parquet")
        statement = f"import dask_dedup; dask_dedup.run({str(path)!r}, {str(tmp_path / 'out')!r})"
        assert loaded_by(statement, ("dask.dataframe", "distributed")) == []


class TestHelp:
    def test_it_lists_every_verb(self, cli):
        outcome = cli("--help")
        assert outcome.exit_code == 0
        listed = outcome.stdout.split("Commands:")[1]
        assert [verb for verb in VERBS if f"  {verb} " not in listed] == []
        assert {"run", "verify", "demo"} <= set(VERBS)

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_has_some(self, cli, verb):
        outcome = cli(verb, "--help")
        assert outcome.exit_code == 0
        assert len(main.commands[verb].help) > 40
        assert outcome.stdout == cli(verb, "-h").stdout

    @each_option
    def test_every_option_has_some(self, verb, option):
        assert option.help

    def test_the_version_is_told(self, cli):
        assert cli("--version").stdout.strip() == f"dask-dedup, version {dask_dedup.__version__}"

    def test_the_command_is_installed(self):
        outcome = subprocess.run(
            [sys.executable, "-c", "from dask_dedup.cli import main; main()", "--version"],
            capture_output=True,
            text=True,
        )
        assert outcome.stdout.endswith(f"version {dask_dedup.__version__}\n")


class TestReadme:
    TEXT = (REPOSITORY / "README.md").read_text()

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_is_in_it(self, verb):
        assert f"dask-dedup {verb}" in self.TEXT

    @each_option
    def test_every_option_is_in_it(self, verb, option):
        (name,) = (opt for opt in option.opts if opt.startswith("--"))
        assert f"`{name}`" in self.TEXT

    @pytest.mark.parametrize("name", ["run", "remove_duplicates", "verify", "DedupParams"])
    def test_what_one_calls_is_in_it(self, name):
        assert name in self.TEXT

    def test_no_option_in_it_is_made_up(self):
        import re

        known = {name for _, option in OPTIONS for name in option.opts} | {"--help"}
        told = re.findall(r"dask-dedup (?:run|verify|demo|inspect|report|publish)\b.*", self.TEXT)
        assert {name for line in told for name in re.findall(r"--[a-z][a-z-]+", line)} <= known


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
        self.failing(monkeypatch, dask_dedup.RunError("the disk is full; make room, run again"))
        outcome = cli(*arguments)
        assert outcome.exit_code == 1
        assert outcome.stderr == "dask-dedup: the disk is full; make room, run again\n"

    def test_1_means_a_failed_write_too(self, cli, arguments, monkeypatch, tmp_path):
        from dask_dedup.formats.parquet import table as parquet

        def split(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(parquet, "split", split)
        outcome = cli(*arguments, "--quiet")
        assert outcome.exit_code == 1
        (line,) = outcome.stderr.splitlines()
        assert line.startswith("dask-dedup: ")
        assert "out: the disk is too full" in line
        assert "run the same command again" in line
        assert not (tmp_path / "out" / "manifest.json").exists()

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "not an address"])
    def test_1_means_no_scheduler_answers(self, cli, arguments, monkeypatch, address):
        from dask_dedup.cluster import connect as cluster

        monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
        outcome = cli(*arguments, "--scheduler", address)
        assert outcome.exit_code == 1
        (line,) = outcome.stderr.splitlines()
        assert line.startswith(f"dask-dedup: no Dask scheduler answers at {address}")

    def test_1_means_verify_found_a_fault(self, cli, arguments, tmp_path):
        assert cli(*arguments).exit_code == 0
        assert cli("verify", tmp_path / "out").exit_code == 0
        (tmp_path / "out" / "particles_kept" / "part-00000.parquet").unlink()
        assert cli("verify", tmp_path / "out").exit_code == 1

    def test_2_means_the_input_or_the_usage_is_wrong(self, cli, arguments):
        assert cli(*arguments, "--min-separation", "-1").exit_code == 2
        assert cli(*arguments, "--no-such-option").exit_code == 2
        assert cli("no-such-verb").exit_code == 2

    def test_130_means_interrupted(self, cli, arguments, monkeypatch):
        self.failing(monkeypatch, KeyboardInterrupt())
        outcome = cli(*arguments)
        assert outcome.exit_code == 130
        (line,) = outcome.stderr.splitlines()
        assert line.startswith("dask-dedup: interrupted; the same command goes on")

    def test_an_interrupt_while_writing_leaves_nothing(self, cli, arguments, monkeypatch, tmp_path):
        from dask_dedup.formats.parquet import table as parquet

        def split(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(parquet, "split", split)
        assert cli(*arguments).exit_code == 130
        assert not (tmp_path / "out").exists()


class TestMessages:
    def test_quiet_prints_nothing_if_all_is_well(self, cli, tmp_path):
        path = write_file(cryosparc(), tmp_path / "picks.parquet")
        outcome = cli("run", path, "-o", tmp_path / "out", "--quiet")
        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "", "")

    def test_the_plan_and_the_choices_are_told(self, cli, tmp_path):
        path = write_file(cryosparc(), tmp_path / "picks.parquet")
        told = cli("run", path, "-o", tmp_path / "out").stderr
        for phrase in ("20 A", "alignments3D/shift", "ncc_score (higher is better)"):
            assert phrase in told
        assert "120 particles on 4 micrographs, in 1 fragment" in told
        assert "nothing moves" in told

    def test_the_table_counts_by_input_and_in_all(self, cli, tmp_path):
        paths = [
            write_file(cryosparc(1200, seed=s, micrographs=40), tmp_path / f"{s}.parquet")
            for s in (1, 2)
        ]
        told = cli("run", *paths, "-o", tmp_path / "out").stdout
        lines = [line.split() for line in told.splitlines()[:4]]
        assert lines[0] == ["input", "particles", "kept", "rejected"]
        assert [line[:2] for line in lines[1:]] == [
            [str(paths[0]), "1,200"],
            [str(paths[1]), "1,200"],
            ["all", "2,400"],
        ]
        counts = [int(word.replace(",", "")) for word in lines[3][1:4]]
        assert counts[0] == counts[1] + counts[2]

    def test_a_constant_score_is_told(self, cli, tmp_path):
        rows = cryosparc(30, columns={"pick_stats/ncc_score": [0.0] * 30})
        path = write_file(rows, tmp_path / "picks.parquet")
        told = cli("run", path, "-o", tmp_path / "out", "--quiet").stderr
        assert "the scores in pick_stats/ncc_score are zero-filled" in told

    def test_inputs_without_a_common_micrograph_are_told(self, cli, tmp_path):
        one = write_file(cryosparc(30), tmp_path / "1.parquet")
        strangers = {"location/micrograph_uid": np.arange(30, dtype=np.uint64)}
        two = write_file(cryosparc(30, seed=1, columns=strangers), tmp_path / "2.parquet")
        told = cli("run", one, two, "-o", tmp_path / "out", "--quiet").stderr
        assert "no micrograph in common" in told

    @pytest.mark.usefixtures("words_only")
    def test_the_demo_ends_with_what_was_kept_and_a_proof(self, cli, tmp_path):
        outcome = cli("demo", "--output", tmp_path / "demo", "--particles", 700)
        assert outcome.exit_code == 0, outcome.stderr
        assert "kept" in outcome.stdout
        assert f"{tmp_path / 'demo' / 'result'} is verified" in outcome.stdout
        assert cli("demo", "--output", tmp_path / "demo", "--particles", 700).exit_code == 2
        again = cli("demo", "--output", tmp_path / "demo", "--particles", 700, "--overwrite")
        assert again.exit_code == 0
