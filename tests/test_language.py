"""Rules of style that a program can check, over the whole package."""

from __future__ import annotations

import ast
import re
from functools import cache

import click
from conftest import REPOSITORY

from dask_dedup.cli import main
from dask_dedup.cli.copick import dedup
from dask_dedup.hints import Hint
from dask_dedup.results.command import spell_flag

PACKAGE = REPOSITORY / "dask_dedup"
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
MOST_LINES = 400
#: A first line says what a function returns or does, with a plain verb.
OPENINGS = re.compile(
    r"(Give|Gives|Tell|Tells|Say|Says|Take|Takes|Do as|Look whether|Put into words)\b"
)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
#: Flags of other programs, by the module that names them.
FOREIGN = {
    "cluster/handshake.py": {"--scheduler-file"},  # dask scheduler
    "cluster/preload.py": {"--preload-nanny"},  # dask worker
    "cluster/slurm/allocation.py": {
        # srun
        *("--ntasks", "--cpus-per-task", "--kill-on-bad-exit", "--input", "--output", "--error"),
        # dask worker
        *("--nworkers", "--nthreads", "--memory-limit", "--death-timeout", "--interface"),
        *("--tls-", "--local-directory"),
    },
    "cluster/slurm/jobs.py": {"--lifetime"},  # dask worker
    "cluster/slurm/queue.py": {"--noheader", "--states", "--format", "--jobs"},  # squeue
    "cluster/slurm/settings.py": {"--preload-nanny", "--dashboard-address"},  # dask worker
    "cluster/slurm/walltime.py": {"--lifetime", "--lifetime-stagger"},  # dask worker
    "integrations/relion.py": {"--help"},  # looked for in the arguments of a job
    "monitoring/dashboard/__init__.py": {"--preload"},  # dask scheduler
}


@cache
def tree(name):
    return ast.parse(MODULES[name].read_text())


def docstrings(name):
    """Return the line number and docstring of each module, class and function of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree(name)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


def texts(name):
    """Return the line number and value of each string of a module, docstrings included."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_a_docstring_opens_with_a_plain_verb_or_a_noun():
    found = [(name, each) for name in MODULES for each in docstrings(name)]
    assert [(name, each) for name, each in found if OPENINGS.match(each[1])] == []


def test_only_the_command_line_names_flags():
    found = {
        (name, line, flag)
        for name in MODULES
        for line, text in texts(name)
        for flag in FLAG.findall(text)
        if not name.startswith("cli/") and flag not in FOREIGN.get(name, ())
    }
    assert found == set()


def test_every_foreign_flag_is_used():
    for name, flags in FOREIGN.items():
        assert flags <= {flag for _, text in texts(name) for flag in FLAG.findall(text)}, name


def test_only_storage_and_output_ask_whether_a_path_is_remote():
    found = {
        (name, node.lineno)
        for name in MODULES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Name) and node.id == "is_remote"
    }
    assert {each for each in found if not each[0].startswith(("storage/", "output/"))} == set()


def test_every_module_is_short():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_every_parameter_in_a_message_is_an_option():
    options = {
        name
        for command in (*main.commands.values(), dedup)
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    named = {
        node.args[0].value
        for name in MODULES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "parameter"
        and isinstance(node.args[0], ast.Constant)
    }
    assert {name for name in named if spell_flag(Hint(name)) not in options} == set()


def test_hints_are_spelled_as_flags():
    expected = {
        Hint("invalid", "reject"): "--invalid reject",
        Hint("min_separation"): "--min-separation",
        Hint("undo_symmetry_expansion", "True"): "--undo-symmetry-expansion",
        Hint("seed", "1"): "--seed 1",
        Hint("plot_micrographs"): "--plot-micrograph",
        Hint("coordinate_pixel_size", "{'a.star': 4.0}"): "--coordinate-pixel-size a.star=4.0",
    }
    assert {hint: spell_flag(hint) for hint in expected} == expected
