"""Pixel size used for each input, its source, and checks of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formats import by_source, pixel_size_source
from dask_dedup.formatting import counted, number_range
from dask_dedup.hints import Message, parameter
from dask_dedup.particles import pixel_sizes
from dask_dedup.particles.checks.micrograph_scales import micrograph_name
from dask_dedup.particles.checks.pixel_size import fractions_error, no_pixel_size
from dask_dedup.particles.column_names import TOMOGRAM_BINNING
from dask_dedup.particles.column_roles import needs_pixel_size
from dask_dedup.particles.pixel_sizes import TOLERANCE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

#: Smallest relative difference of pixel sizes for a warning.
_NOTABLE = 1e-3
#: Positions are fractions if at least this fraction of the rows is from 0 to 1.
_NEARLY_ALL = 0.95
#: Largest number of pixel sizes in the log line.
_LISTED = 5


class InputScale(NamedTuple):
    """Pixel size used to read the coordinates of an input."""

    #: Smallest pixel size, angstrom. None if no pixel size was needed or the input is empty.
    least: float | None
    greatest: float | None
    source: str

    @property
    def text(self) -> str:
        """The pixel size and its source as marked-up text: ``1.35 A (rlnMicrographPixelSize)``."""
        if self.least is None or self.greatest is None:
            return Message(self.source).raw
        return f"{number_range(self.least, self.greatest)} A ({Message(self.source).raw})"

    def to_dict(self) -> dict[str, float | str | None]:
        """Return the pixel size and its source for JSON."""
        return {"least": self.least, "greatest": self.greatest, "source": str(self.source)}


def find_scales(inputs: Inputs, summaries: Sequence[ScanSummary]) -> list[InputScale]:
    """Return the pixel size used for each input, and its source."""
    of_input = by_source(summaries)
    return [_describe(inputs, number, of_input[number]) for number in range(len(inputs.tables))]


def describe_scales(inputs: Inputs, scales: Sequence[InputScale]) -> Message:
    """Return a log line with the pixel sizes of the inputs and their sources. Inputs with the same text are counted."""
    paths: dict[str, list[str]] = {}
    for table, scale in zip(inputs.tables, scales, strict=True):
        paths.setdefault(scale.text, []).append(table.path)
    if len(paths) == 1:
        return Message(f"pixel size: {next(iter(paths))}")
    shown = []
    for text, mine in paths.items():
        more = f" and {len(mine) - 1} more" if len(mine) > 1 else ""
        shown.append(f"{mine[0]}{more} {text}")
    rest = f"; and {len(shown) - _LISTED} more, in the manifest" if len(shown) > _LISTED else ""
    return Message(f"pixel size: {'; '.join(shown[:_LISTED])}{rest}")


def _describe(inputs: Inputs, number: int, summaries: Sequence[ScanSummary]) -> InputScale:
    roles = inputs.roles[number]
    if roles.stored_unit == "angstrom":
        return InputScale(None, None, "coordinates in angstrom")
    if not needs_pixel_size(roles, inputs.params):
        return InputScale(None, None, "not needed")
    job = inputs.psize_sources.get(inputs.tables[number].path)
    binned = f"{inputs.micrographs.path}, {TOMOGRAM_BINNING}" if inputs.micrographs else ""
    names = {
        pixel_sizes.COORDINATE_OPTION: Message(parameter("coordinate_pixel_size")),
        pixel_sizes.IMAGE: f"{roles.image.psize if roles.image else ''}, as exported by Warp",
        pixel_sizes.TABLE: inputs.micrographs.path if inputs.micrographs else "",
        pixel_sizes.BINNED: binned,
        pixel_sizes.COLUMN: roles.psize_mic or "",
        pixel_sizes.OWN: pixel_size_source(inputs.tables[number]) or roles.psize_mic or "",
        pixel_sizes.MICROGRAPH_OPTION: str(job)
        if job
        else Message(parameter("micrograph_pixel_size")),
        UNKNOWN: "unknown",
    }
    used = sorted({each for summary in summaries for each in summary.psize})
    source = Message("; ".join(Message(names[each]).raw for each in used) or "no rows")
    low, high = _join(pair for summary in summaries for pair in summary.psize.values())
    return InputScale(None, None, source) if np.isnan(low) else InputScale(low, high, source)


def _join(ranges: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the minimum and maximum of several ranges. A range without values has NaN."""
    known = np.array([*ranges]).reshape(-1, 2)
    known = known[np.isfinite(known).all(axis=1)]
    return (float(known.min()), float(known.max())) if known.size else (np.nan, np.nan)


def check_scales(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Check that the pixel size of each input is known, and that parameters and tables agree.

    Raises
    ------
    InputError
        If an input has no pixel size, if the unit of its coordinates is unclear, or if a parameter contradicts a
        table.
    """
    of_input = by_source(summaries)
    for table in inputs.tables:
        mine = of_input[table.source]
        _check_known(inputs, table.source, mine)
        _check_not_normalised(inputs, table.source, mine)
    check_row_scales(inputs, summaries)


def check_row_scales(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Run the checks of `check_scales` that each part of a table must pass.

    Raises
    ------
    InputError
        If the unit of coordinates is unclear, if a table of fractions has other coordinates, or if a parameter
        contradicts a table.
    """
    for table in inputs.tables:
        mine = [summary for summary in summaries if summary.source == table.source]
        _check_normalised(inputs, table.source, mine)
        _check_unclear_rows(inputs, table.source, mine)
        _check_option(inputs, table.source, mine)


def _check_known(inputs: Inputs, source: int, summaries: Sequence[ScanSummary]) -> None:
    roles = inputs.roles[source]
    sources = {number for summary in summaries for number in summary.psize}
    if roles.image and sources == {UNKNOWN}:
        table = inputs.tables[source]
        raise no_pixel_size(roles, table.path, table.schema.names)


def position_warnings(inputs: Inputs, source: int, summaries: Sequence[ScanSummary]) -> list[str]:
    """Return warnings if all coordinates are 0, or if most fractions of the micrograph are outside 0 to 1."""
    roles, lines = inputs.roles[source], []
    filled, names = [each for each in summaries if each.rows], " ".join(roles.position)
    rows = sum(summary.rows for summary in filled)
    if rows > 1 and all(summary.zero_filled for summary in filled):
        lines.append(
            f"{names} are 0 in all rows. If they are zero-filled, pass a table with positions."
        )
    outside = sum(problem.rows for summary in summaries for problem in summary.oddities)
    if roles.unit == "fraction" and outside > rows / 2:
        lines.append(
            f"{counted(outside, 'row')} of {rows:,} are outside the micrograph, but {names} must hold "
            "fractions of the micrograph (0 to 1). Divide pixels by its width and height."
        )
    return lines


def _check_normalised(inputs: Inputs, source: int, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError if a table of fractions also has other coordinates."""
    roles, path = inputs.roles[source], inputs.tables[source].path
    low, high = _join(summary.coordinates for summary in summaries)
    if roles.unit == "volume" and (low < 0 or high > 1):
        outside = sum(problem.rows for summary in summaries for problem in summary.oddities)
        raise InputError(
            f"{path}: {' '.join(roles.position)} begin as fractions of the tomogram (0 to 1), but later "
            f"rows reach {high:g} ({counted(outside, 'row')} in all). Pass "
            f"{parameter('coordinate_pixel_size')} if all are pixels, or "
            "split the table."
        )


def _check_not_normalised(inputs: Inputs, source: int, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError if all pixel coordinates are from 0 to 1."""
    roles, path = inputs.roles[source], inputs.tables[source].path
    if not needs_pixel_size(roles, inputs.params) or roles.overrides_psize:
        return
    low, high = _join(summary.coordinates for summary in summaries)
    names = " ".join(roles.position)
    if roles.unit == "pixel" and low >= 0 and high <= 1:
        raise fractions_error(roles, path)
    if roles.unit == "pixel":
        _check_fractional(path, names, summaries)


def _check_fractional(path: str, names: str, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError if the coordinates of a micrograph, or of nearly all rows, are fractions."""
    if all(summary.fractional is None for summary in summaries):
        return
    keys, number = np.unique(
        np.concatenate([summary.micrographs for summary in summaries]), return_inverse=True
    )
    rows = np.bincount(number, np.concatenate([summary.counts for summary in summaries]))
    found = [
        np.zeros(summary.counts.size) if summary.fractional is None else summary.fractional
        for summary in summaries
    ]
    fractional = np.bincount(number, np.concatenate(found))
    # A single pick may be in the corner of a micrograph.
    wrong = (fractional >= _NEARLY_ALL * rows) & (fractional > 1)
    if not wrong.any() and fractional.sum() < max(_NEARLY_ALL * rows.sum(), 2):
        return
    first = micrograph_name(summaries, int(keys[np.argmax(wrong if wrong.any() else fractional)]))
    outside = int(rows.sum() - fractional.sum())
    raise InputError(
        f"{path}: {names} are fractions (0 to 1) in {counted(int(fractional.sum()), 'row')} (first micrograph: "
        f"{first}) and pixels or outside 0 to 1 in {outside:,}. Split the table or fix these rows, or pass "
        f"{parameter('coordinate_pixel_size')} if all are pixels."
    )


def _check_unclear_rows(inputs: Inputs, source: int, summaries: Iterable[ScanSummary]) -> None:
    """Raise InputError if the coordinates can be in pixels of the tilt series or of the exported images."""
    found = [summary for summary in summaries if summary.unclear_rows]
    if not found:
        return
    table, roles, one = inputs.tables[source], inputs.roles[source], found[0].unclear_rows
    if one is None or roles.image is None:
        return
    rows = sum(summary.unclear_rows.rows for summary in found if summary.unclear_rows)
    where = inputs.describe_row(found[0].fragment, one.first)
    tables = inputs.micrographs.path if inputs.micrographs else roles.psize_mic
    ways = []
    for name, psize in ((tables, one.micrograph_psize), (roles.image.psize, one.image_psize)):
        near = f", nearest neighbour {one.nearest * psize:.4g} A" if one.nearest > 0 else ""
        ways.append(f"{name} ({psize:g} A{near})")
    options = [
        inputs.parameter_of("coordinate_pixel_size", source, psize)
        for psize in (one.micrograph_psize, one.image_psize)
    ]
    raise InputError(
        f"{table.path}: the coordinates of {counted(rows, 'row')} (first: {where}) may be in pixels of "
        f"{ways[0]}, as in RELION, or of {ways[1]}, as exported by Warp. "
        f"Pass {options[0]} or {options[1]}."
    )


def _check_option(inputs: Inputs, source: int, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError if `micrograph_pixel_size` contradicts the pixel size in a table."""
    table, roles = inputs.tables[source], inputs.roles[source]
    given = roles.given_psize
    if given is None or roles.overrides_psize:
        return
    for name, low, high in _from_tables(inputs, source, summaries):
        if max(abs(low / given - 1), abs(high / given - 1)) > TOLERANCE:
            span = f"{low:g} A" if low == high else f"{low:g} to {high:g} A"
            others = ""
            if len(inputs.tables) > 1:
                others = f" (for other inputs: {parameter('micrograph_pixel_size', 'INPUT=A')})"
            raise InputError(
                f"{table.path}: {parameter('micrograph_pixel_size', f'{given:g}')} contradicts {name}, "
                f"which has {span}. Leave it out for this input{others}, or pass "
                f"{parameter('coordinate_pixel_size', f'{given:g}')} to override the table."
            )


def _from_tables(
    inputs: Inputs, source: int, summaries: Sequence[ScanSummary]
) -> list[tuple[str, float, float]]:
    """Return the name, and the minimum and maximum pixel size, of each table or column that was used."""
    roles = inputs.roles[source]
    names = {
        pixel_sizes.IMAGE: f"{roles.image.psize} of a Warp export" if roles.image else "",
        pixel_sizes.TABLE: inputs.micrographs.path if inputs.micrographs else "",
        pixel_sizes.BINNED: f"{TOMOGRAM_BINNING} of {inputs.micrographs.path}"
        if inputs.micrographs
        else "",
        pixel_sizes.COLUMN: f"the column {roles.psize_mic}",
        pixel_sizes.OWN: "the pixel size of its positions",
    }
    found = []
    for number, name in names.items():
        low, high = _join(s.psize[number] for s in summaries if number in s.psize)
        if not np.isnan(low):
            found.append((name, low, high))
    return found


def scale_warnings(inputs: Inputs, source: int, summaries: Sequence[ScanSummary]) -> list[str]:
    """Return warnings about pixel sizes of an input that differ but do not contradict each other."""
    given, lines = inputs.roles[source].given_psize, []
    path = inputs.tables[source].path
    override: float | None = inputs.params.for_input("coordinate_pixel_size", path)
    if override is not None and not needs_pixel_size(inputs.roles[source], inputs.params):
        option = parameter("coordinate_pixel_size", f"{override:g}")
        lines.append(f"{option} was not used, because the stored coordinates are compared")
    used = _from_tables(inputs, source, summaries)
    if given is not None:
        for name, low, high in used:
            if max(abs(low / given - 1), abs(high / given - 1)) > _NOTABLE:
                option = parameter("micrograph_pixel_size", f"{given:g}")
                lines.append(f"{option} was not used, because {name} has {low:g} to {high:g} A")
    least, greatest = _join(summary.stored_psize for summary in summaries)
    column = inputs.roles[source].psize_mic
    if inputs.micrographs and not np.isnan(least):
        for name, low, high in used:
            off = max(abs(low / least - 1), abs(high / greatest - 1))
            if name == inputs.micrographs.path and off > _NOTABLE:
                lines.append(
                    f"the pixel sizes of {name} ({low:g} to {high:g} A) were used, but {column} has "
                    f"{least:g} to {greatest:g} A. If the coordinates are in pixels of "
                    f"{column}, pass {parameter('coordinate_pixel_size', f'{least:g}')}"
                )
    return lines
