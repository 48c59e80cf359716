"""Find inputs with contradicting pixel sizes or sizes of a micrograph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dask_dedup.dedup.arrays import begins_run
from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.pixel_sizes import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

    Floats = NDArray[np.float64]

#: Columns of `MicrographScales`.
_PSIZE, _SIZE = slice(0, 1), slice(1, 3)


class _Conflict(NamedTuple):
    """Micrographs with two values, and the inputs and values of the first micrograph."""

    micrographs: int
    key: int
    inputs: tuple[int, int]
    #: The two values: each a pixel size, or a height and width.
    values: tuple[Floats, Floats]


def check_micrograph_sizes(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError if a micrograph has two sizes in angstrom, because then distances are wrong."""
    conflict = _find_conflict(summaries, _SIZE)
    if conflict is None:
        return
    paths = _locations(inputs, conflict)
    advice = f", or pass {parameter('coordinate_pixel_size')} for the input that is wrong"
    if any(inputs.roles[source].overrides_psize for source in conflict.inputs):
        advice = ""
    alike = _is_ten(*(float(value[1]) for value in conflict.values))
    nanometre = "A factor of 10 suggests nanometres. " if alike else ""
    sizes = [f"{width:.4g} x {height:.4g} A" for height, width in conflict.values]
    raise InputError(
        f"{counted(conflict.micrographs, 'micrograph', 'have')} two sizes "
        f"({_columns(inputs, conflict, shape=True)}; first: {micrograph_name(summaries, conflict.key)}, "
        f"{sizes[0]} in {paths[0]}, {sizes[1]} in {paths[1]}). "
        f"{nanometre}Fix the pixel size or the shape{advice}."
    )


def _is_ten(one: float, other: float) -> bool:
    """Return whether one of two sizes is ten times the other. Both are 0 or more."""
    low, high = sorted((one, other))
    return bool(abs(high - 10 * low) <= TOLERANCE * 10 * low)


def conflict_warnings(inputs: Inputs, summaries: Sequence[ScanSummary]) -> list[str]:
    """Return a list of one warning if micrographs of unknown size have two pixel sizes, else []."""
    conflict = _find_conflict(summaries, _PSIZE)
    if conflict is None:
        return []
    paths = _locations(inputs, conflict)
    low, high = (float(value[0]) for value in conflict.values)
    nanometre = advice = ""
    if _is_ten(low, high):
        nanometre, advice = " A factor of 10 suggests nanometres.", f" {10 * low:g} for {paths[0]}"
    return [
        f"{counted(conflict.micrographs, 'micrograph', 'have')} two pixel sizes "
        f"({_columns(inputs, conflict, shape=False)}; first: {micrograph_name(summaries, conflict.key)}, "
        f"{low:g} A in {paths[0]}, {high:g} A in {paths[1]}): unless the coordinates are in pixels of "
        f"these sizes, distances are wrong.{nanometre} "
        f"To override one, pass {parameter('coordinate_pixel_size')}{advice}."
    ]


def _find_conflict(summaries: Sequence[ScanSummary], which: slice) -> _Conflict | None:
    """Find micrographs with values in the columns `which` that differ by more than the tolerance."""
    known = [(summary, summary.scales) for summary in summaries if summary.scales is not None]
    if not known:
        return None
    if not _differ(
        np.vstack([scales.least for _, scales in known]),
        np.vstack([scales.greatest for _, scales in known]),
        np.zeros(1, np.intp),
    )[:, which].any():
        return None
    keys = np.concatenate([summary.micrographs for summary, _ in known])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(begins_run(keys))
    least, greatest = (
        np.vstack(
            [
                np.broadcast_to(getattr(s, side), (summary.micrographs.size, 3))
                for summary, s in known
            ]
        )[order]
        for side in ("least", "greatest")
    )
    differ = _differ(least, greatest, starts)[:, which].any(axis=1)
    if which == _PSIZE:  # rows with a size are compared by their size
        unknown = np.isnan(least[:, _SIZE]).any(axis=1)
        differ &= np.logical_or.reduceat(unknown, starts)
    if not differ.any():
        return None
    first = int(np.argmax(differ))
    rows = slice(starts[first], np.append(starts, keys.size)[first + 1])
    column = which.start + int(
        np.argmax(_differ(least[rows], greatest[rows], np.zeros(1, int))[0, which])
    )
    low = rows.start + int(np.nanargmin(least[rows, column]))
    high = rows.start + int(np.nanargmax(greatest[rows, column]))
    source = np.concatenate([np.full(s.micrographs.size, s.source) for s, _ in known])[order]
    return _Conflict(
        int(differ.sum()),
        int(keys[rows.start]),
        (int(source[low]), int(source[high])),
        (least[low, which], greatest[high, which]),
    )


def _differ(least: Floats, greatest: Floats, starts: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return, for each group of rows and each column, whether the values differ by more than the tolerance."""
    low, high = np.fmin.reduceat(least, starts), np.fmax.reduceat(greatest, starts)
    with np.errstate(invalid="ignore"):
        return np.asarray(high > low * (1 + TOLERANCE))


def _locations(inputs: Inputs, conflict: _Conflict) -> list[str]:
    return [inputs.tables[source].path for source in conflict.inputs]


def _columns(inputs: Inputs, conflict: _Conflict, *, shape: bool) -> str:
    """Return the names of the columns and parameters that the values come from."""
    names: dict[str, None] = {}
    for source in conflict.inputs:
        roles = inputs.roles[source]
        psize = roles.psize_mic or parameter("micrograph_pixel_size")
        if roles.overrides_psize:
            psize = parameter("coordinate_pixel_size")
        elif inputs.micrographs is not None:
            psize = inputs.micrographs.path
        names[f"{roles.shape} x {psize}" if shape else psize] = None
    return ", ".join(names)


def micrograph_name(summaries: Sequence[ScanSummary], key: int) -> str:
    """Return the name of a micrograph, or its uid if micrographs are matched by uid."""
    named = (str(each) for summary in summaries for each in summary.names if each.key == key)
    return next(named, f"uid {key}")
