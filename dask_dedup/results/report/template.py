"""Load the templates, styles and scripts of the page."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.resources import files
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined

from dask_dedup.results.report.wording import percent

if TYPE_CHECKING:
    from jinja2.bccache import Bucket


class _CompiledTemplates(FileSystemBytecodeCache):
    """Cache of compiled templates in the folder of compiled modules. Compiling takes as long as writing the report."""

    def dump_bytecode(self, bucket: Bucket) -> None:
        if sys.dont_write_bytecode:
            return
        with suppress(OSError):  # an installation may be read-only
            super().dump_bytecode(bucket)


def environment() -> Environment:
    """Return the environment of the report's templates."""
    folder = Path(cache_from_source(__file__)).parent
    found = Environment(
        loader=PackageLoader("dask_dedup.results.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_CompiledTemplates(str(folder)),
    )
    found.filters |= {"size": show_size, "percent": percent}
    return found


def asset(*path: str) -> str:
    """Return the text of a style or a script of the report."""
    return files("dask_dedup.results.report").joinpath(*path).read_text("utf-8")


def show_size(size: int) -> str:
    """Format a number of bytes.

    Examples
    --------
    >>> show_size(900), show_size(121_900), show_size(3_200_000)
    ('900 B', '122 kB', '3.2 MB')
    """
    if size < 1000:
        return f"{size} B"
    if size < 1e6:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
