"""Links between the documents are valid."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY

DOCUMENTS = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").glob("*.md"),
        *(REPOSITORY / "deploy").rglob("*.md"),
        *(REPOSITORY / "examples").glob("*.md"),
        *(REPOSITORY / "benchmarks").glob("*.md"),
    ]
)


def without_code(text):
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(document):
    """Yield the anchors of the headings."""
    for heading in re.findall(r"^#+ +(.+)$", without_code(document.read_text()), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        yield words.strip().replace(" ", "-")


def links(document):
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(REPOSITORY)) for path in DOCUMENTS]
)
def test_every_link_has_a_file_and_a_heading(document):
    lost = []
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        there = target.is_relative_to(REPOSITORY) and target.exists()
        if not there or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A b: c\n[here](#a-b-c) [there](gone.md#x) [out](https://example.org)\n")
    assert links(page) == ["#a-b-c", "gone.md#x"]
    assert list(anchors(page)) == ["a-b-c"]
