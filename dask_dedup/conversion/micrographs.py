"""Names and pixel sizes of micrographs in converted tables. Each micrograph has one name for all inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy
from dask_dedup.errors import InputError
from dask_dedup.formats import read
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.programs import MICROGRAPH_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

#: Columns with the names of micrographs in a micrograph table.
NAME_COLUMNS = ("rlnTomoName", "rlnMicrographName", "micrograph_blob/path")


@dataclass(frozen=True, slots=True)
class MicrographNames:
    """The name of each micrograph, by its key.

    Attributes
    ----------
    keys : (m,) uint64
        Sorted.
    names : tuple of str
    """

    keys: NDArray[np.uint64]
    names: tuple[str, ...]

    def numbers(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the index of each key in `keys` and `names`, -1 for unknown ones."""
        if not self.keys.size:
            return np.full(keys.size, -1, dtype=np.intp)
        row = np.searchsorted(self.keys, keys).clip(max=self.keys.size - 1)
        return np.where(self.keys[row] == keys, row, -1)

    def texts(self, keys: NDArray[np.uint64]) -> pa.Array:
        """Return the name of each micrograph; ``None`` for rows without one."""
        number = self.numbers(keys)
        return pa.array([*self.names, "None"], pa.string()).take(
            from_numpy(number % (len(self.names) + 1))
        )


def find_names(
    inputs: Inputs, summaries: Sequence[ScanSummary], exposures: ParticleTable | None
) -> MicrographNames:
    """Return the names of all micrographs with particles: as in the micrograph table, else as in the first input.

    Raises
    ------
    InputError
        If two micrographs have the same name.
    """
    names: dict[int, str] = {}
    used: set[int] = set()
    if exposures is not None:
        names |= _names_in_table(inputs, exposures)
    for summary in sorted(summaries, key=lambda each: each.fragment):
        used.update(summary.micrographs.tolist())
        for each in summary.names:
            used.add(each.key)
            if each.name:
                names.setdefault(each.key, each.name)
    if inputs.roles[0].match == "uid":
        for key, name in _paths_of_uids(inputs):
            names.setdefault(key, name)
            used.add(key)
    keys = np.array(sorted(used), dtype=np.uint64)
    listed = [names.get(key, "") for key in keys.tolist()]
    first: dict[str, int] = {}
    for key, name in zip(keys.tolist(), listed, strict=True):
        if first.setdefault(name, key) != key:
            raise InputError(
                f"two micrographs are named {name or '(nothing)'}, so one table cannot tell them apart. Rename one "
                f"with {parameter('rename_micrographs')}, or pass {parameter('output_format', 'native')}."
            )
    return MicrographNames(keys, tuple(listed))


def _names_in_table(inputs: Inputs, exposures: ParticleTable) -> dict[int, str]:
    """Map key to name in a micrograph table, unless the inputs have groups that it lacks."""
    column = next((name for name in NAME_COLUMNS if name in exposures.schema.names), None)
    roles = inputs.roles[0]
    if column is None or not set(roles.groups) <= set(exposures.schema.names):
        return {}
    found: dict[int, str] = {}
    for keys, codes, texts in _keys_of_table(inputs, exposures, column):
        pairs = zip(keys.tolist(), codes.tolist(), strict=True)
        found |= {key: texts[code] for key, code in pairs if code >= 0}
    return found


def _keys_of_table(
    inputs: Inputs, exposures: ParticleTable, column: str
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.intp], list[str]]]:
    roles = inputs.roles[0]
    naming = roles.naming.for_input(inputs.params, exposures.path)
    key = "uid" if roles.match == "uid" else column
    for fragment in exposures.fragments:
        wanted = list(dict.fromkeys([key, column, *roles.groups]))
        columns = Columns(read(exposures, fragment, wanted), exposures.path)
        keys = RowMicrographs.read(columns, key, naming, roles.groups).keys
        yield keys, *columns.texts(column)


def _paths_of_uids(inputs: Inputs) -> Iterator[tuple[int, str]]:
    """Yield the uid and the path of each micrograph of CryoSPARC."""
    for fragment in inputs.fragments:
        table, roles = inputs.tables[fragment.source], inputs.roles[fragment.source]
        if MICROGRAPH_PATH not in table.schema.names:
            raise InputError(
                f"{table.path}: has no column {MICROGRAPH_PATH}, so the micrographs have no names. Pass "
                f"{parameter('output_format', 'native')}."
            )
        wanted = list(dict.fromkeys([roles.micrograph, MICROGRAPH_PATH, *roles.groups]))
        columns = Columns(read(table, fragment, wanted), table.path)
        keys, first = np.unique(RowMicrographs.of(columns, roles).keys, return_index=True)
        codes, texts = columns.texts(MICROGRAPH_PATH)
        for key, code in zip(keys.tolist(), codes[first].tolist(), strict=True):
            if code >= 0:
                yield key, texts[code]


def micrograph_pixel_sizes(
    found: Extract, roles: ColumnRoles, inputs: Inputs
) -> NDArray[np.float64]:
    """Return the (n,) pixel size of each row's micrograph, angstrom.

    It differs from the pixel size of the coordinates if the parameter `coordinate_pixel_size` gives that.
    """
    if inputs.micrographs is not None:
        return inputs.micrographs.psize_at(inputs.micrographs.find(found.micrographs))
    if roles.overrides_psize and found.sizes.stored is not None:
        return found.sizes.stored
    return found.sizes.used


def check_kept_rows(inputs: Inputs, summaries: Sequence[ScanSummary], sources: set[int]) -> None:
    """Raise InputError if rows of the inputs `sources` are kept although their centres are unknown."""
    if inputs.params.invalid != "keep":
        return
    for summary in summaries:
        unknown = sum(n for reason, n in summary.invalid.items() if reason != "score")
        if unknown and summary.source in sources:
            raise InputError(
                f"{inputs.tables[summary.source].path}: {counted(unknown, 'row')} that cannot be compared would be "
                f"kept, but have no centre in pixels. Pass {parameter('invalid', 'reject')}."
            )


def check_positions(inputs: Inputs, output_format: str) -> None:
    """Raise InputError if centres in pixels of the micrographs cannot be computed."""
    native = f"Pass {parameter('output_format', 'native')}"
    if not inputs.params.measures:
        raise InputError(
            f"{parameter('output_format', output_format)} needs positions in angstrom, but at separation 0 stored "
            f"coordinates are compared. {native}, or a {parameter('min_separation')} above 0."
        )
    for table, roles in zip(inputs.tables, inputs.roles, strict=True):
        if roles.unit not in ("pixel", "fraction", "angstrom") or roles.in_angstrom:
            raise InputError(
                f"{table.path}: its positions ({roles.position[0]}) cannot be converted to those of RELION. {native}."
            )
        if roles.overrides_psize and inputs.micrographs is None and roles.psize_mic is None:
            raise InputError(
                f"{table.path}: its coordinates are not in pixels of the micrographs "
                f"({parameter('coordinate_pixel_size')}), and the pixel size of the micrographs is unknown. Pass "
                f"{parameter('micrographs')}."
            )
