"""Configuration of the documentation site: `make docs` builds it into build/docs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
REPOSITORY = DOCS.parent
sys.path.insert(0, str(REPOSITORY))  # this clone, not an installed version

from dask_dedup import __version__ as release  # noqa: E402

project = "dask-dedup"
author = "the dask-dedup developers"
html_title = f"dask-dedup {release}"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]

source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # numpydoc shows the types of the docstring
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
autosummary_generate = False
default_role = "py:obj"

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "dask-dedup"},
    "show_prev_next": False,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
    "article_footer_items": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "contributing/changelog": []}
html_context = {"default_mode": "auto"}
copyright = "the dask-dedup developers. BSD-3-Clause"
# Options in help texts keep both hyphens.
smartquotes = False

#: Files of the repository that a page of the site includes.
PAGES = {
    "CHANGELOG.md": "contributing/changelog.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "benchmarks/README.md": "contributing/benchmarks.md",
    "benchmarks/RESULTS.md": "contributing/benchmark-results.md",
    "deploy/README.md": "guides/cluster-by-hand.md",
    "deploy/kubernetes/README.md": "guides/kubernetes.md",
    "deploy/monitoring/README.md": "guides/monitoring.md",
    "deploy/slurm/README.md": "guides/slurm.md",
    "examples/README.md": "guides/examples.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s]+)\)")


def resolve_link(included: Path, text: str, target: str) -> str:
    """Return a Markdown link of an included file as a link of the site.

    Parameters
    ----------
    included : Path
        File of the repository in which the link is.
    text, target : str
    """
    if re.match(r"[a-z]+:|#", target):
        return f"[{text}]({target})"
    name, _, anchor = target.partition("#")
    path = (included.parent / name).resolve()
    relative = path.relative_to(REPOSITORY).as_posix()
    if page := PAGES.get(relative):
        link = f"/{page}"
    elif path.is_relative_to(DOCS):
        link = f"/{path.relative_to(DOCS).as_posix()}"
    elif path.is_file():
        link = f"/../{relative}"  # Sphinx offers it for download
    else:
        return f"`{relative}`"
    return f"[{text}]({link}{'#' + anchor if anchor else ''})"


def resolve_links(_: Sphinx, path: Path, __: str, content: list[str]) -> None:
    """Resolve the links of an included file, which are relative to its folder."""
    included = (DOCS / path).resolve()
    content[0] = _LINK.sub(lambda link: resolve_link(included, *link.groups()), content[0])


def restore_brackets(_: Sphinx, __: click.Context, lines: list[str]) -> None:
    """Restore the first bracket of a placeholder such as ``[INPUT=]A``, which sphinx-click removes."""
    lines[:] = [re.sub(r"<([A-Z]+=?)\]", r"<[\1]", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect the handlers of this file."""
    app.connect("include-read", resolve_links)
    app.connect("sphinx-click-process-options", restore_brackets)
