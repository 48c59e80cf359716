"""Find the rows that cannot be compared, independently of the checks in `particles`."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import is_text
from dask_dedup.dedup.limits import FARTHEST, LARGEST_PIXEL_SIZE, LEAST_PIXEL_SIZE
from dask_dedup.dedup.rank import SCORE_SENTINEL
from dask_dedup.formatting import counted
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.pixel_sizes import TOLERANCE
from dask_dedup.results.verify.outcome import MismatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.particles.column_names import ImageColumns
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.inputs import Inputs

    Bools = NDArray[np.bool_]

_RELION_IMAGE = re.compile(r"(?:^|/)[0-9]+_(?:data|stack2d)\.mrcs?$")
_WARP_IMAGE = re.compile(r"_(\d+\.\d\d)A(_\d+)?\.mrcs?$")
#: Texts that stand for a missing name.
_NO_NAMES = ("", "None", "none", "null", "NULL", "<NA>", "nan", "NaN")
#: Number of rows that cannot be compared, by input and reason.
InvalidCounts = Counter[tuple[int, str]]


def find_reasons(inputs: Inputs, source: int, rows: pa.Table, picks: Picks) -> NDArray[np.object_]:
    """Return why each row cannot be compared, (n,) object: the first reason, or "" for a valid row.

    Parameters
    ----------
    inputs : Inputs
    source : int
        Ordinal of the input.
    rows : pyarrow.Table
        The columns of the roles.
    picks : Picks
        Picks of the same rows, with micrograph keys and centres.
    """
    found = np.full(len(picks), "", dtype=object)
    for reason, wrong in _reasons(inputs, source, Columns(rows, "the input"), picks):
        if wrong.any():
            found[wrong & (found == "")] = reason
    return found


def _reasons(
    inputs: Inputs, source: int, columns: Columns, picks: Picks
) -> Iterator[tuple[str, Bools]]:
    """Yield each reason why rows cannot be compared, by priority, with a (n,) bool mask of these rows."""
    roles, params, table = inputs.roles[source], inputs.params, inputs.micrographs

    limit = params.for_input("min_score", inputs.tables[source].path)
    if limit is not None and roles.score:
        score = columns.floats(roles.score)
        acceptable = score >= limit if roles.higher_is_better else score <= limit
        yield "score", ~(acceptable | np.isnan(score) | (score == SCORE_SENTINEL))
    yield "micrograph", _empty(columns, roles.micrograph)
    listed = np.empty(0, np.intp)
    if table is not None:
        # A micrograph table without group columns is for all groups.
        keys = RowMicrographs.of(columns, roles).keys_within(table.groups)
        yield "unknown_micrograph", ~np.isin(keys, table.keys)
        listed = np.searchsorted(table.keys, keys)
    yield "position", _not_finite(columns, roles.position)
    if roles.shift:
        yield "shift", _not_finite(columns, roles.shift)
        if roles.subtomogram:
            yield "angle", _not_finite(columns, roles.subtomogram)
    in_pixels = roles.unit != "angstrom" and (params.measures or bool(roles.shift))
    sizes = []
    if roles.shift and roles.psize_shift:
        size, given = columns.floats(roles.psize_shift), roles.given_psize_shift
        if given is not None:
            size = np.array([value if value > 0 else given for value in size])
            yield "pixel_size", np.abs(size / given - 1) > TOLERANCE
        sizes = [size]
    if in_pixels and not roles.overrides_psize:
        sizes += _micrograph_sizes(inputs, roles, columns, listed)
        if roles.binned and table is not None and table.binned is not None:
            sizes.append(np.append(table.binned, np.nan)[listed])
    for size in sizes:
        yield "pixel_size", ~((size >= LEAST_PIXEL_SIZE) & (size <= LARGEST_PIXEL_SIZE))
    flipped = source in params.flip_y and roles.unit == "pixel"
    if (in_pixels and roles.unit == "fraction") or flipped:
        shape = np.empty((len(picks), 0))
        if table is not None and table.shape is not None:
            known = np.vstack([table.shape, np.full(2, np.nan)])
            shape = known[listed, : 1 if flipped else 2]
        elif roles.shape:
            shape = columns.vectors(roles.shape, 2)
        yield "shape", ~_all((shape > 0) & np.isfinite(shape))
    if in_pixels and roles.unit == "volume":
        volume = np.full((1, 3), np.nan)
        if table is not None and table.volume is not None:
            volume = np.vstack([table.volume, volume])
        yield "shape", ~_all((volume[listed] > 0) & np.isfinite(volume[listed]))
    centres = np.column_stack([picks.x, picks.y, picks.z])
    yield "too_far", ~_all(np.abs(centres) <= FARTHEST)
    if roles.uid:
        yield "uid", _empty(columns, roles.uid)
    if params.undo_symmetry_expansion and roles.label:
        yield "source", _empty(columns, roles.label)


def _micrograph_sizes(
    inputs: Inputs, roles: ColumnRoles, columns: Columns, listed: NDArray[np.intp]
) -> Iterator[NDArray[np.float64]]:
    """Yield the pixel size of each row, (n,). Yield nothing if no pixel size can be invalid.

    `listed` has the number of each row's micrograph in the micrograph table.
    """
    table, size = inputs.micrographs, np.full(len(columns), np.nan)
    table = None if roles.own_psize else table
    if roles.image is None and (table is not None or roles.psize_mic is None):
        return
    if table is not None:
        size = np.append(table.psize, np.nan)[listed]
    elif roles.psize_mic:
        size = columns.floats(roles.psize_mic)
    if table is None and roles.given_psize:
        size = np.where(size > 0, size, roles.given_psize)
    if roles.image is not None:
        image = columns.floats(roles.image.psize)
        exported = _exported_by_warp(roles, roles.image, columns, image)
        with np.errstate(divide="ignore", invalid="ignore"):
            same = np.abs(image / size - 1) <= TOLERANCE
        size = np.where(exported & (image > 0) & ~same, image, size)
    yield size


def _exported_by_warp(
    roles: ColumnRoles, names: ImageColumns, columns: Columns, image: NDArray[np.float64]
) -> Bools:
    """Return a (n,) bool mask of the rows that Warp exported. `image` is the pixel size of their images."""
    count = len(columns)
    tomograms, images = _names(columns, roles.micrograph), [""] * count
    if names.name:
        images = _names(columns, names.name)
    stacks = columns.floats(names.stacks) if names.stacks else np.zeros(count)
    found = np.zeros(count, dtype=bool)
    for row, (tomogram, name) in enumerate(zip(tomograms, images, strict=True)):
        warp = _WARP_IMAGE.search(name)
        by_name = warp is not None and abs(float(warp[1]) - image[row]) <= 0.0101
        of_relion = _RELION_IMAGE.search(name) is not None
        stacked = stacks[row] == 1 and tomogram.endswith(".tomostar") and not of_relion
        found[row] = by_name or stacked
    return found


def _names(columns: Columns, column: str) -> list[str]:
    codes, texts = columns.texts(column)
    return [texts[code] if code >= 0 else "" for code in codes.tolist()]


def _not_finite(columns: Columns, names: tuple[str, ...]) -> Bools:
    """Return a (n,) bool mask of the rows with a non-finite coordinate.

    `names` are one column per axis, or one nested column of pairs.
    """
    pairs = pa.types.is_nested(columns.rows.schema.field(names[0]).type)
    values = columns.vectors(names[0], 2) if pairs else columns.points(names)
    return ~_all(np.isfinite(values))


def _all(flags: Bools) -> Bools:
    """Return a (n,) bool mask of the rows of `flags` in which all values are True."""
    return np.asarray(flags.all(axis=1))


def _empty(columns: Columns, name: str) -> Bools:
    """Return a (n,) bool mask of the rows with a null or an empty text."""
    if not is_text(columns.rows.schema.field(name).type):
        return columns.nulls(name)
    codes, texts = columns.texts(name)
    return np.array([*(text.strip() in _NO_NAMES for text in texts), True])[codes]


def compare_counts(inputs: Inputs, totals: dict[str, Any], counts: InvalidCounts) -> str:
    """Check that the manifest's counts of invalid rows equal the counts in the inputs."""
    by_reason: Counter[str] = Counter()
    by_input, low_scores = [0] * len(inputs.tables), [0] * len(inputs.tables)
    for (source, reason), rows in counts.items():
        if reason == "score":
            low_scores[source] += rows
            continue
        by_reason[reason] += rows
        by_input[source] += rows
    number, low = sum(by_input), sum(low_scores)
    for key, stated, value in (
        ("low_score", totals["low_score"], low),
        ("low_score by input", [entry["low_score"] for entry in totals["by_input"]], low_scores),
        ("invalid", totals["invalid"], number),
        ("invalid_by_reason", totals["invalid_by_reason"], dict(by_reason)),
        ("invalid by input", [entry["invalid"] for entry in totals["by_input"]], by_input),
    ):
        if stated != value:
            raise MismatchError(f"{key} is {stated} in the manifest, but {value} in the inputs")
    if not number + low:
        return "every row can be compared"
    found = []
    if low:
        found.append(counted(low, "row", "have a score worse than the limit and are rejected"))
    if number:
        outcome = "kept" if inputs.params.invalid == "keep" else "rejected"
        what = "is" if number == 1 else "are"
        found.append(f"{counted(number, 'row')} cannot be compared and {what} {outcome}")
    return f"{'; '.join(found)}; no other row was set aside"
