"""In a notebook, a run shows a progress bar."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from tables import cryosparc, write_file

from dask_dedup import RunError, run
from dask_dedup.monitoring import progress_bar
from dask_dedup.pipeline import stages


class Notebook:
    """A stand-in for IPython. `cells` holds every version of each output as HTML."""

    def __init__(self, *, kernel):
        self.cells = []
        self.module, self.display_module = ModuleType("IPython"), ModuleType("IPython.display")
        shell = SimpleNamespace(kernel=object()) if kernel else SimpleNamespace()
        self.module.get_ipython = lambda: shell
        self.module.display = self.display_module
        self.display_module.display = self.display

    def display(self, shown, *, display_id):
        assert display_id is True
        versions = []
        self.cells.append(versions)

        def update(shown):
            versions.append(shown._repr_mimebundle_([], [])["text/html"])

        update(shown)
        return SimpleNamespace(update=update)

    def install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "IPython", self.module)
        monkeypatch.setitem(sys.modules, "IPython.display", self.display_module)
        monkeypatch.setattr(progress_bar, "NOTEBOOK_SECONDS", 0.001)
        return self


@pytest.fixture
def source(tmp_path):
    return write_file(cryosparc(2_000), tmp_path / "in.parquet", row_group_size=100)


@pytest.fixture
def notebook(monkeypatch):
    return Notebook(kernel=True).install(monkeypatch)


def test_a_run_shows_one_bar_that_ends_with_the_outcome(notebook, source, tmp_path):
    result = run(source, tmp_path / "out")
    (versions,) = notebook.cells
    assert "<pre" in versions[-1]
    assert f"finished: kept {result.kept:,}, rejected {result.rejected:,} (" in versions[-1]


def test_a_failed_run_shows_the_reason(notebook, source, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is on fire")

    monkeypatch.setattr(stages, "write_fragment", fail)
    with pytest.raises(RunError):
        run(source, tmp_path / "out")
    assert "failed: the disk is on fire" in notebook.cells[0][-1]


def test_a_callback_replaces_the_bar(notebook, source, tmp_path):
    received = []
    run(source, tmp_path / "out", on_event=received.append)
    assert received[-1]["kind"] == "finished"
    assert notebook.cells == []


def test_a_finished_run_shows_none(notebook, source, tmp_path):
    run(source, tmp_path / "out", on_event=lambda _: None)
    run(source, tmp_path / "out")
    assert notebook.cells == []


def test_ipython_in_a_terminal_shows_none(source, tmp_path, monkeypatch):
    notebook = Notebook(kernel=False).install(monkeypatch)
    run(source, tmp_path / "out")
    assert notebook.cells == []


def test_the_bar_fills_while_the_run_is_at_work(notebook):
    import time

    with progress_bar.notebook_bar() as on_event:
        on_event(
            {
                "kind": "started",
                "output": "out",
                "executor": "here",
                "inputs": [],
                "rows": 1000,
                "bytes": 1,
                "fragments": 10,
            }
        )
        on_event({"kind": "scanned", "number": 0, "rows": 600, "seconds": 0.1})
        ends = time.monotonic() + 60
        while "counting: 600 of 1,000" not in notebook.cells[0][-1]:
            assert time.monotonic() < ends
            time.sleep(0.01)
