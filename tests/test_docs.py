"""The documentation: its commands run, its links and names exist, its reference is complete."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from conftest import REPOSITORY

import dask_dedup
from dask_dedup.cli import main
from dask_dedup.cli.copick import dedup as copick_dedup
from dask_dedup.results.report.sections.provenance import cite
from dask_dedup.simulation import simulate_pickers

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
PROSE = [
    *PAGES,
    *(REPOSITORY / name for name in ("CHANGELOG.md", "CONTRIBUTING.md")),
    *(
        path
        for name in ("benchmarks", "deploy", "examples")
        for path in (REPOSITORY / name).rglob("*.md")
    ),
]
BLOCK = re.compile(
    r"(?:^<!-- (.*?) -->\n)?^```(console|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
OUTPUT_FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE
FENCED = re.compile(r"^ *(```+|:::+).*?^ *\1$", re.DOTALL | re.MULTILINE)


def name_of(path):
    return str(path.relative_to(REPOSITORY))


def example(name):
    path = REPOSITORY / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands_of(block):
    """Return (command, expected output) of a console block: commands follow ``$``, or are all lines."""
    block = block.replace("\\\n", "")
    if not block.startswith("$ "):
        return [(command, "") for command in block.splitlines()]
    return [text.partition("\n")[::2] for text in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]


def blocks_of(page):
    """Return (language, text) of the blocks of a page that are to run here."""
    blocks = []
    for mark, language, text in BLOCK.findall(page.read_text()):
        if mark.startswith("not tested: "):
            continue
        if mark.startswith("needs: ") and not importlib.util.find_spec(
            mark.removeprefix("needs: ")
        ):
            continue
        blocks.append((language, text))
    return blocks


def pages_to_run():
    for page in PAGES:
        if blocks_of(page):
            slow = "<!-- slow -->" in page.read_text()
            yield pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if slow else [])


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Return a folder with the tables that the pages name."""
    folder = tmp_path_factory.mktemp("tables")
    relion, cryosparc = example("relion_round_trip"), example("cryosparc_round_trip")
    pickers = simulate_pickers(
        folder / "picks", particles=600, micrographs=3, pickers=("blob", "template", "topaz")
    )
    for job, picker in zip(("J11", "J10", "J12"), pickers, strict=True):
        relion.write_star(picker, folder / f"{picker.name}.star")
        cryosparc.write_group(cryosparc.records_of(picker), folder / job, job)
    text = (folder / "template.star").read_text()
    text = text.replace(
        "_rlnMicrographPixelSize #3\n_rlnImagePixelSize #4", "_rlnImagePixelSize #3"
    )
    (folder / "extracted.star").write_text(text.replace("1 0.830000 1.660000", "1 1.660000"))
    picks = pq.read_table(folder / "picks" / "template")
    expanded = example("undo_symmetry_expansion").expand(picks, 4, seed=0)
    pq.write_table(expanded, folder / "expanded.parquet")
    x = picks.column("location/center_x_frac").to_numpy().copy()
    x[3] = np.nan
    number = picks.column_names.index("location/center_x_frac")
    damaged = picks.set_column(number, picks.schema.field(number), pa.array(x))
    pq.write_table(damaged, folder / "damaged.parquet")
    return folder


def call(program, *arguments):
    """Run a command of a program that dask-dedup is a plugin of."""
    assert program == "copick"
    from copick.cli.cli import cli

    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.mark.parametrize("page", list(pages_to_run()))
# Dask 2026.8 calls what pandas 3.1 deprecates.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_the_commands_of_a_page_run(page, cli, tables, tmp_path, monkeypatch):
    folder = shutil.copytree(tables, tmp_path / "work")
    monkeypatch.chdir(folder)
    names = {"__name__": "page"}
    for language, text in blocks_of(page):
        if language == "python":
            exec(compile(text, name_of(page), "exec"), names)
            continue
        for command, expected in commands_of(text):
            program, *arguments = shlex.split(command, comments=True)
            outcome = cli(*arguments) if program == "dask-dedup" else call(program, *arguments)
            assert outcome.exit_code == 0, f"{command}\n{outcome.stderr}"
            if expected:
                same = OutputChecker().check_output(expected, outcome.stdout, OUTPUT_FLAGS)
                assert same, f"{command}\n{outcome.stdout}"


COMMANDS = tuple(sorted(main.commands.items()))


class TestReference:
    """Every command, option and public name is documented."""

    def test_it_is_generated_from_all_commands(self):
        text = (DOCS / "reference" / "command-line.md").read_text()
        directive = ".. click:: dask_dedup.cli:main\n   :prog: dask-dedup\n   :nested: full\n"
        assert directive in text

    @pytest.mark.parametrize(("verb", "command"), [*COMMANDS, ("copick", copick_dedup)])
    def test_nothing_is_hidden_from_it(self, verb, command):
        assert not command.hidden
        options = [option for option in command.params if isinstance(option, click.Option)]
        assert [option.opts for option in options if option.hidden or not option.help] == []

    @pytest.mark.slow
    def test_the_site_is_built_without_warnings_and_has_every_option(self, tmp_path):
        pytest.importorskip("sphinx")
        pytest.importorskip("pydata_sphinx_theme")
        options = ("--fail-on-warning", "--quiet", "--builder", "html")
        outcome = subprocess.run(
            [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert outcome.returncode == 0, outcome.stderr
        reference = (tmp_path / "reference" / "command-line.html").read_text()
        for verb, command in [("", main), *COMMANDS]:
            for option in command.params:
                if isinstance(option, click.Option) and option.name != "version":
                    anchor = f"cmdoption-dask-dedup-{verb}-".replace("--", "-")
                    long = max(option.opts, key=len).removeprefix("--")
                    assert f'id="{anchor}{long}"' in reference, (verb, option.opts)

    def test_every_public_name_is_in_it(self):
        text = (DOCS / "reference" / "api.md").read_text()
        named = re.findall(r"^\.\. auto(?:function|class|exception):: (\w+)", text, re.MULTILINE)
        assert {*dask_dedup.__all__} - {*named} == set()


@pytest.fixture(scope="module")
def output(tables, tmp_path_factory):
    output = tmp_path_factory.mktemp("result") / "out"
    dask_dedup.run(tables / "picks" / "blob", output)
    return output


class TestResult:
    """Every key and column of a result is on the page about its files."""

    TEXT = (DOCS / "reference" / "result.md").read_text()

    def test_keys_of_the_manifest(self, output):
        manifest = json.loads((output / "manifest.json").read_text())
        keys = set(manifest) | set(manifest["plan"]) | set(manifest["totals"])
        for entries in (manifest["inputs"], manifest["outputs"], manifest["totals"]["by_input"]):
            keys |= {key for entry in entries for key in entry}
        keys |= {key for entry in manifest["inputs"] for file in entry["files"] for key in file}
        assert [key for key in sorted(keys) if f"`{key}`" not in self.TEXT] == []

    def test_columns_of_duplicates(self, output):
        columns = pq.read_schema(next((output / "duplicates").iterdir())).names
        assert [name for name in columns if f"`{name}`" not in self.TEXT] == []


class TestNames:
    """What the pages name exists."""

    #: Options of other programs.
    FOREIGN = frozenset(
        [
            "--findings",
            "--format",
            "--help",
            "--host",
            "--lifetime",
            "--local-directory",
            "--preload-nanny",
            "--scratch",
            "--seconds",
            "--sessions",
        ]
    )
    KNOWN = frozenset(
        name
        for command in (main, *main.commands.values(), copick_dedup)
        for option in command.params
        for name in option.opts
    )

    def test_options(self):
        named = set()
        for page in PAGES:
            text = page.read_text()
            spans = re.findall(r"`(-[^`\n]*)`", text)
            spans += re.findall(r"dask-dedup [a-z-]+ [^`\n]*", text)
            names = {n for span in spans for n in re.findall(r"(?<![\w-])--?[a-z][\w-]*", span)}
            named |= {(name_of(page), name) for name in names - self.KNOWN - self.FOREIGN}
        assert named == set()

    def test_links(self):
        missing = []
        for page in PROSE:
            targets = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text()))
            files = {target.partition("#")[0] for target in targets if "://" not in target} - {""}
            missing += [(name_of(page), f) for f in files if not (page.parent / f).exists()]
        assert missing == []

    def test_paths_in_the_repository(self):
        folders = "benchmarks|dask_dedup|deploy|docs|examples|fuzz|reliability|tests"
        missing = []
        for page in PROSE:
            spans = re.findall(r"`([^`\n]+)`", page.read_text())
            words = [word for span in spans for word in span.split()]
            named = [word for word in words if re.fullmatch(rf"(?:{folders})/[\w./-]+", word)]
            missing += [(name_of(page), path) for path in named if not (REPOSITORY / path).exists()]
        assert missing == []

    def test_extras(self):
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"]
        source = "".join(path.read_text() for path in (REPOSITORY / "dask_dedup").rglob("*.py"))
        texts = source + "".join(page.read_text() for page in PROSE)
        named = {
            name
            for names in re.findall(r"dask-dedup\[([a-z0-9,]+)\]", texts)
            for name in names.split(",")
        }
        assert named <= set(extras)
        (everything,) = re.fullmatch(r"dask-dedup\[(.*)\]", extras["all"][0]).groups()
        hosts = {"copick", "cryosparc", "pipeliner"}
        assert set(everything.split(",")) == set(extras) - hosts - {"all", "dev", "docs", "test"}


class TestStyle:
    def test_the_readme_is_short(self):
        assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150

    def test_prose_is_wrapped(self):
        long = []
        for page in PROSE:
            lines = FENCED.sub("", page.read_text()).splitlines()
            prose = [line for line in lines if not line.lstrip().startswith(("|", "<!--"))]
            wide = [line for line in prose if len(line) > 100 and " " in line.strip()]
            long += [(name_of(page), line) for line in wide]
        assert long == []


class TestCitation:
    FILE = REPOSITORY / "CITATION.cff"

    def test_the_report_cites_the_same_title_and_authors(self):
        citation = yaml.safe_load(self.FILE.read_text())
        entry = cite("1.2.3", "2026")
        assert f"  title   = {{{citation['title']}}},\n" in entry
        ((name,),) = (author.values() for author in citation["authors"])
        assert f"  author  = {{{{{name}}}}},\n" in entry
        assert "  version = {1.2.3},\n" in entry
        assert "  year    = {2026}\n" in entry

    def test_it_has_what_version_1_2_0_of_the_format_requires(self):
        citation = yaml.safe_load(self.FILE.read_text())
        assert citation["cff-version"] == "1.2.0"
        assert {"message", "title", "authors"} <= set(citation)
        assert citation["authors"] == [{"name": "the dask-dedup developers"}]

    def test_it_agrees_with_the_package(self):
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        citation = yaml.safe_load(self.FILE.read_text())
        assert citation["version"] == dask_dedup.__version__
        assert citation["license"] == project["license"]
        assert citation["authors"] == project["authors"]
