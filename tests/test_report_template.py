"""The templates of the report are compiled once for an installation, where that is possible."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dask_dedup.results.report import template


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(template, "cache_from_source", lambda _: str(tmp_path / "cache" / "x.pyc"))
    return tmp_path / "cache"


def compiled(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_compiled_template_is_kept_and_used(folder, monkeypatch):
    folder.mkdir()
    template.environment().get_template("preview.html.j2")
    before = compiled(folder)
    assert before
    monkeypatch.setattr(template.Environment, "compile", lambda *_: pytest.fail("compiled again"))
    template.environment().get_template("preview.html.j2")
    assert compiled(folder) == before


def test_python_that_writes_no_bytecode_uses_compiled_templates_and_keeps_none(folder, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    template.environment().get_template("preview.html.j2")
    assert not compiled(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    template.environment().get_template("preview.html.j2")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(template.Environment, "compile", lambda *_: pytest.fail("compiled again"))
    assert template.environment().get_template("preview.html.j2")


def test_without_a_writable_folder_a_template_is_compiled(folder):
    assert template.environment().get_template("preview.html.j2")
    assert not Path(folder).exists()
