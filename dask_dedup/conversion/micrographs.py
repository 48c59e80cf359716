"""Names and pixel sizes of micrographs in converted tables. A micrograph has the same name for all inputs."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy
from dask_dedup.dedup.arrays import find_sorted
from dask_dedup.errors import InputError
from dask_dedup.formats import micrographs_of_job, open_table, read
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.column_names import MICROGRAPH_PATH
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.micrographs.stripping import FULL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

#: Columns with the names of micrographs in a micrograph table.
_MICROGRAPH_NAME_COLUMNS = ("rlnTomoName", "rlnMicrographName", "micrograph_blob/path")
SCORE_OF_CRYOSPARC = "pick_stats/ncc_score"
#: Extension of a micrograph's name. The rest of a name may have dots, too.
EXTENSION = re.compile(r"\.(mrcs?|tiff?|eer|spi|img|hdf|rec|st)$", re.IGNORECASE)


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
        """Return the index of each key in `keys` and `names`. Return -1 for unknown keys."""
        return find_sorted(self.keys, keys)

    def texts(self, keys: NDArray[np.uint64]) -> pa.Array:
        """Return the name of each micrograph. Rows without a micrograph have the text ``None``."""
        number = self.numbers(keys)
        return pa.array([*self.names, "None"], pa.string()).take(
            from_numpy(number % (len(self.names) + 1))
        )


def find_names(
    inputs: Inputs, summaries: Sequence[ScanSummary], exposures: ParticleTable | None
) -> MicrographNames:
    """Return the names of all micrographs with particles.

    The name of a micrograph is taken from the first of these sources that has it:

    1. the micrograph table;
    2. if the inputs have only a name without extension: the micrographs of the RELION jobs of the inputs;
    3. the inputs. Names with extension and folder are preferred, then names of earlier inputs;
    4. for matching by uid: the column with the paths of micrographs.

    Raises
    ------
    InputError
        If two micrographs have the same name.
    """
    names: dict[int, str] = {}
    used: set[int] = set()
    if exposures is not None:
        names |= _names_in_table(inputs, exposures)
    stored: dict[int, str] = {}
    for summary in sorted(summaries, key=lambda each: each.fragment):
        used.update(summary.micrographs.tolist())
        for each in summary.names:
            used.add(each.key)
            if each.name and _completeness(each.name) > _completeness(stored.get(each.key, "")):
                stored[each.key] = each.name
    short = {key: name for key, name in stored.items() if not EXTENSION.search(name)}
    names = stored | (_names_in_jobs(inputs, short) if short else {}) | names
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
                f"two micrographs are named {name or '(nothing)'}, so one table cannot distinguish them. Rename one "
                f"with {parameter('rename_micrographs')}, or pass {parameter('output_format', 'native')}."
            )
    return MicrographNames(keys, tuple(listed))


def _completeness(name: str) -> tuple[bool, bool, bool]:
    """Return a sort key: whether a name has an extension, whether it has a folder, whether it is not empty."""
    return EXTENSION.search(name) is not None, "/" in name, bool(name)


def name_warnings(names: Iterable[str]) -> list[str]:
    """Return a list with one warning if micrograph names have no extension, else []."""
    lacking = [name for name in names if not EXTENSION.search(name)]
    if not lacking:
        return []
    return [
        f"{counted(len(lacking), 'micrograph', 'have')} a name without an extension (first: {lacking[0]}), so "
        f"RELION cannot find them by the list of coordinate files. Pass {parameter('micrographs')}, the "
        "table of the micrographs."
    ]


def _names_in_jobs(inputs: Inputs, stored: Mapping[int, str]) -> dict[int, str]:
    """Map micrograph key to its name in the micrographs.star of the RELION job that made the pick files.

    Names are matched without folders, extensions and usual endings, if the match is unique on both sides.
    """
    if inputs.roles[0].match != "name":
        return {}
    found = (micrographs_of_job(table) for table in inputs.tables)
    listed: set[str] = set()
    for path in dict.fromkeys(each.path for each in found if each):
        with suppress(InputError):  # without this table, the names of the inputs are used
            table = open_table(path)
            column = name_column(table)
            if column is None:
                continue
            for fragment in table.fragments:
                rows = Columns(read(table, fragment, [column]), path)
                listed.update(rows.texts(column)[1])
    bare = Counter(map(FULL, listed))
    name_of = {FULL(name): name for name in listed if bare[FULL(name)] == 1}
    alike = Counter(map(FULL, stored.values()))
    names = {key: name_of.get(FULL(name), "") for key, name in stored.items()}
    return {key: name for key, name in names.items() if name and alike[FULL(stored[key])] == 1}


def name_column(exposures: ParticleTable) -> str | None:
    """Return the column of a micrograph table that has the names of micrographs, or None."""
    names = exposures.schema.names
    return next((name for name in _MICROGRAPH_NAME_COLUMNS if name in names), None)


def _names_in_table(inputs: Inputs, exposures: ParticleTable) -> dict[int, str]:
    """Map micrograph key to its name in a micrograph table. Without the group columns of the inputs, return {}."""
    column = name_column(exposures)
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
    """Return the (n,) pixel size of each row's micrograph, in angstrom.

    With the parameter `coordinate_pixel_size`, this differs from the pixel size of the coordinates.
    """
    if inputs.micrographs is not None:
        return inputs.micrographs.psize_at(inputs.micrographs.find(found.micrographs))
    if roles.overrides_psize and found.sizes.stored is not None:
        return found.sizes.stored
    return found.sizes.used


def scanned_pixel_sizes(roles: ColumnRoles, summaries: Iterable[ScanSummary]) -> list[float]:
    """Return the minimum and the maximum pixel size of micrographs in each scan summary of an input."""
    pairs = [
        pair
        for each in summaries
        for pair in ([each.stored_psize] if roles.overrides_psize else each.psize.values())
    ]
    return [size for pair in pairs for size in pair if np.isfinite(size)]


def check_kept_rows(inputs: Inputs, summaries: Sequence[ScanSummary], sources: set[int]) -> None:
    """Raise InputError if rows without a known centre are kept. Only the inputs `sources` are checked."""
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
                f"{table.path}: its positions ({roles.position[0]}) cannot be converted to positions of RELION. "
                f"{native}."
            )
        if roles.overrides_psize and inputs.micrographs is None and roles.psize_mic is None:
            raise InputError(
                f"{table.path}: its coordinates are not in pixels of the micrographs "
                f"({parameter('coordinate_pixel_size')}), and the pixel size of the micrographs is unknown. Pass "
                f"{parameter('micrographs')}."
            )
