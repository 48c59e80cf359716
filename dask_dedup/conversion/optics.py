"""Merge the optics groups of several inputs into one table. Groups with the same name but other values are renamed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.conversion.micrographs import name_column
from dask_dedup.errors import InputError
from dask_dedup.formats import read
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.row_keys import RowMicrographs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.formats.star.particle_block import StarDetail
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

    Group = Mapping[str, str]

GROUP, NAME = "rlnOpticsGroup", "rlnOpticsGroupName"
#: Labels that RELION needs in each optics group. RELION also needs a pixel size.
REQUIRED = ("rlnVoltage", "rlnSphericalAberration")
MICROGRAPH_SIZE = "rlnMicrographPixelSize"
PIXEL_SIZES = (MICROGRAPH_SIZE, "rlnImagePixelSize", "rlnTomoTiltSeriesPixelSize")
#: Columns with optics in the rows of a table, and RELION's labels for these columns.
_OF_RELION = {name: name for name in (NAME, *REQUIRED, "rlnAmplitudeContrast")}
_OF_CRYOSPARC = {
    "ctf/accel_kv": "rlnVoltage",
    "ctf/cs_mm": "rlnSphericalAberration",
    "ctf/amp_contrast": "rlnAmplitudeContrast",
}


@dataclass(frozen=True, slots=True)
class InputOptics:
    """The optics groups of one input. Rows refer to their group in one of three ways.

    Attributes
    ----------
    groups : list of dict of str to str
        Labels and values of each group.
    numbers : (g,) int64
        If rows have group numbers: the number of each group, ascending.
    keys, group_of_key : (m,) uint64 and (m,) intp
        If the groups are in the micrograph table: the sorted keys of the micrographs, and the index of the group
        of each micrograph.
    columns : tuple of str
        If the rows have the optics themselves: the columns with the optics.
    """

    groups: list[dict[str, str]]
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    group_of_key: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MergedOptics:
    """One optics table for all inputs.

    Attributes
    ----------
    labels : tuple of str
    rows : tuple of tuple of str
    inputs : tuple of InputOptics
    new : tuple of tuple of int
        For each input, the new numbers of its groups.
    dropped : tuple of str
        Labels that some groups lack. These labels are left out.
    """

    labels: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    inputs: tuple[InputOptics, ...]
    new: tuple[tuple[int, ...], ...]
    dropped: tuple[str, ...]

    def numbers(
        self, fragment: Fragment, keys: NDArray[np.uint64], rows: pa.Table
    ) -> NDArray[np.int64]:
        """Return the (n,) new group numbers of a fragment's rows. `keys` are the (n,) micrograph keys of the rows."""
        source, path = fragment.source, str(fragment)
        optics, new = self.inputs[source], np.array(self.new[source])
        if optics.numbers.size:
            old = Columns(rows, path).floats(GROUP)
            index = np.searchsorted(optics.numbers, old).clip(max=optics.numbers.size - 1)
            known = optics.numbers[index] == old
        elif optics.columns:
            index = _match(_values(rows, optics.columns, path), optics)
            known = index >= 0
        else:
            micrograph = np.searchsorted(optics.keys, keys).clip(max=max(0, optics.keys.size - 1))
            known = optics.keys[micrograph] == keys
            index = optics.group_of_key[micrograph]
        if not known.all():
            path, row = fragment.locate(int(np.argmin(known)))
            what = counted(int(np.sum(~known)), "row", "have no optics group")
            raise InputError(
                f"{path}: {what} (first: row {row}). Add the group, or pass {parameter('output_format', 'native')}."
            )
        return np.asarray(new[index], dtype=np.int64)


def find_optics(
    inputs: Inputs, exposures: ParticleTable | None, sizes: Sequence[float | None]
) -> MergedOptics:
    """Find the optics groups of all inputs, and merge them.

    Parameters
    ----------
    inputs : Inputs
    exposures : ParticleTable, optional
        The micrograph table, for inputs without optics.
    sizes : sequence of float or None
        For each input, the pixel size of its micrographs, or None if it has several.

    Raises
    ------
    InputError
        If the optics of an input lack values that RELION needs.
    """
    found = []
    for table, size in zip(inputs.tables, sizes, strict=True):
        optics = _optics_of(inputs, table, exposures)
        for group in optics.groups:
            if size is not None and group.get(MICROGRAPH_SIZE, "") == "":
                group[MICROGRAPH_SIZE] = f"{size:.6f}"
            _check(group, table, optics)
        found.append(optics)
    return merge_optics(found)


def _optics_of(
    inputs: Inputs, table: ParticleTable, exposures: ParticleTable | None
) -> InputOptics:
    detail = star_detail(table)
    if detail is not None and GROUP in detail.optics and GROUP in detail.labels:
        return _of_table(detail.optics)
    names = table.schema.names
    for columns in (_OF_CRYOSPARC, _OF_RELION):
        if {column for column, label in columns.items() if label in REQUIRED} <= set(names):
            wanted = [column for column in columns if column in names]
            parts = [read(table, fragment, wanted) for fragment in table.fragments]
            return _of_rows(parts, {column: columns[column] for column in wanted}, table.path)
    if exposures is None or "rlnMicrographCoordinates" in exposures.schema.names:
        raise _no_optics(table)
    return _of_micrographs(inputs, exposures, table)


def _no_optics(table: ParticleTable) -> InputError:
    if table.format == "star":
        return InputError(
            f"{table.path}: has no optics groups. Convert it with relion_convert_star, or pass "
            f"{parameter('output_format', 'native')}."
        )
    return InputError(
        f"{table.path}: has no optics (voltage, spherical aberration), which RELION needs. Pass "
        f"{parameter('micrographs')}, a micrographs.star of RELION with optics groups."
    )


def star_detail(table: ParticleTable) -> StarDetail | None:
    """Return the details of the particle table in a STAR file. Return None for other formats."""
    detail: StarDetail | None = table.detail if table.format == "star" else None
    if table.format == "optimisation_set":
        detail = table.detail.particles.detail
    return detail


def _of_table(optics: Mapping[str, tuple[str, ...]]) -> InputOptics:
    rows = [dict(zip(optics, values, strict=True)) for values in zip(*optics.values(), strict=True)]
    by_number = {int(float(row[GROUP])): row for row in rows}
    numbers = sorted(by_number)
    return InputOptics(
        [by_number[number] for number in numbers], numbers=np.array(numbers, np.int64)
    )


def _of_rows(parts: Sequence[pa.Table], labels: Mapping[str, str], path: str) -> InputOptics:
    columns = tuple(column for column in labels if labels[column] != NAME)
    values = np.unique(np.concatenate([_values(rows, columns, path) for rows in parts]), axis=0)
    groups = [
        {
            NAME: f"opticsGroup{number}",
            **{labels[c]: f"{v:.6f}" for c, v in zip(columns, row, strict=True)},
        }
        for number, row in enumerate(values.tolist(), 1)
    ]
    return InputOptics(groups, columns=columns)


def _values(rows: pa.Table, columns: Sequence[str], path: str) -> NDArray[np.float64]:
    """Return (n, c) values of columns, rounded as in the optics table."""
    return np.round(Columns(rows, path).points(tuple(columns)), 6)


def _match(values: NDArray[np.float64], optics: InputOptics) -> NDArray[np.intp]:
    """Return the (n,) index of the group with the values of each row, or -1."""
    index = np.full(len(values), -1, dtype=np.intp)
    labels = [_OF_CRYOSPARC.get(column, column) for column in optics.columns]
    for number, group in enumerate(optics.groups):
        own = np.array([float(group[label]) for label in labels])
        index[(values == own).all(axis=1)] = number
    return index


def _of_micrographs(inputs: Inputs, exposures: ParticleTable, table: ParticleTable) -> InputOptics:
    """Return the optics of the micrograph table. The group of a row is the group of its micrograph."""
    detail = star_detail(exposures)
    roles = inputs.roles[table.source]
    column = name_column(exposures)
    if (
        detail is None
        or not {GROUP} <= set(detail.optics) & set(detail.labels)
        or column is None
        or roles.match == "uid"
        or roles.groups
    ):
        raise InputError(
            f"{table.path}: has no optics (voltage, spherical aberration), and {exposures.path} has no optics "
            f"groups. Pass {parameter('micrographs')}, a micrographs.star of RELION 3.1 or later."
        )
    optics = _of_table(detail.optics)
    naming = roles.naming.for_input(inputs.params, exposures.path)
    keys, numbers = [], []
    for fragment in exposures.fragments:
        columns = Columns(read(exposures, fragment, [column, GROUP]), exposures.path)
        keys.append(RowMicrographs.read(columns, column, naming).keys)
        numbers.append(columns.floats(GROUP))
    distinct, first = np.unique(np.concatenate(keys), return_index=True)
    index = np.searchsorted(optics.numbers, np.concatenate(numbers)[first])
    groups = [dict(group) for group in optics.groups]
    return InputOptics(groups, keys=distinct, group_of_key=index)


def check_micrographs(
    optics: MergedOptics, inputs: Inputs, summaries: Sequence[ScanSummary], table: str
) -> None:
    """Raise InputError if rows have no optics group in the micrograph table `table`.

    Inputs that do not use the optics in this table are not checked.
    """
    for summary in summaries:
        keys = optics.inputs[summary.source].keys
        if not keys.size:
            continue
        path = inputs.tables[summary.source].path
        advice = f"Remove the rows, or pass {parameter('output_format', 'native')}."
        names = sorted(each.name for each in summary.names if each.key not in keys)
        if names:
            raise InputError(
                f"{path}: {counted(len(names), 'micrograph', 'are')} not in {table} (first: {names[0]}), so their "
                f"particles have no optics group. Add them to that table. {advice}"
            )
        unnamed = summary.invalid.get("micrograph", 0)
        if unnamed:
            raise InputError(
                f"{path}: {counted(unnamed, 'row', 'have no micrograph')}, and so no optics group. {advice}"
            )


def _check(group: Mapping[str, str], table: ParticleTable, optics: InputOptics) -> None:
    """Raise InputError if a group lacks values that RELION needs."""
    missing = [label for label in REQUIRED if not _is_number(group.get(label, ""))]
    if not any(_is_number(group.get(label, "")) for label in PIXEL_SIZES):
        missing.append(f"a pixel size ({MICROGRAPH_SIZE})")
    if not missing:
        return
    subject = "its optics groups" if optics.numbers.size else "its optics"
    advice = f"Add them to data_optics, or pass {parameter('output_format', 'native')}."
    if optics.keys.size:
        subject, advice = (
            "the optics groups of its micrographs",
            "Add them to data_optics of that table.",
        )
    elif optics.columns:
        advice = f"Pass {parameter('micrograph_pixel_size')}."
    raise InputError(
        f"{table.path}: {subject} lack {', '.join(missing)}, which RELION needs. {advice}"
    )


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def merge_optics(found: Sequence[InputOptics]) -> MergedOptics:
    """Merge the optics groups of all inputs. Groups with equal names and values become one group.

    A group is renamed if another group has its name but other values. Labels that some groups lack are left out.
    """
    every = [group for optics in found for group in optics.groups]
    common = [label for label in every[0] if all(label in group for group in every)]
    dropped = dict.fromkeys(label for group in every for label in group if label not in common)
    dropped.pop(NAME, None)
    labels = [label for label in common if label not in (GROUP, NAME)]
    rows: list[tuple[str, ...]] = []
    named: dict[str, tuple[str, ...]] = {}
    number_of: dict[str, int] = {}
    new = []
    for optics in found:
        mine: list[int] = []
        own: set[str] = set()
        for number, group in enumerate(optics.groups, 1):
            name = group.get(NAME, f"opticsGroup{number}")
            values = tuple(group[label] for label in labels)
            unique, count = name, 1
            while unique in own or (unique in named and not _equal(named[unique], values)):
                count += 1
                unique = f"{name}_{count}"
            if unique not in named:
                named[unique] = values
                number_of[unique] = len(rows) + 1
                rows.append((str(len(rows) + 1), unique, *values))
            own.add(unique)
            mine.append(number_of[unique])
        new.append(tuple(mine))
    return MergedOptics(
        (GROUP, NAME, *labels), tuple(rows), tuple(found), tuple(new), tuple(dropped)
    )


def _equal(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two groups have equal values. Numeric texts are compared as numbers."""
    return all(
        a == b or (_is_number(a) and _is_number(b) and float(a) == float(b))
        for a, b in zip(one, other, strict=True)
    )
