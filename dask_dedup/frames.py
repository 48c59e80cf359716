"""Remove duplicates from pandas, Polars and Dask data frames and pyarrow tables."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import cast_views, filter_rows
from dask_dedup.dedup.decide import decide
from dask_dedup.dedup.params import DedupParams
from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.errors import InputError
from dask_dedup.formats import FileSlice, Fragment, ParticleTable, StoredSchema
from dask_dedup.formats.base import InputFile
from dask_dedup.hints import parameter
from dask_dedup.particles.checks.names import check_new_names
from dask_dedup.particles.checks.scales import check_row_scales
from dask_dedup.particles.checks.scanned_inputs import check_rows, check_scanned, find_warnings
from dask_dedup.particles.checks.uids import find_repeated_uids, sorted_uids
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.particles.inputs import Inputs, check_inputs, find_roles, find_unit, use_stripping
from dask_dedup.particles.micrographs.name_match import NameMatch, Names, choose, distinct_names
from dask_dedup.particles.micrographs.table import micrograph_table, name_column
from dask_dedup.particles.pickers import make_voting
from dask_dedup.particles.scan_summary import summarize
from dask_dedup.pipeline.executors.splitting import rows_by
from dask_dedup.pipeline.separation import spacing_of_picks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import dask.dataframe as dd
    import pandas as pd
    from numpy.typing import NDArray

    from dask_dedup.particles.column_roles import ColumnRoles

Frame = TypeVar("Frame")

_LIBRARIES = ("pandas", "polars", "dask.dataframe")
#: Name of a frame in messages.
_NAME = "the table"
_TABLE = "micrographs"

data_warnings = logging.getLogger("dask_dedup.warnings")


def remove_duplicates(
    particles: Frame, params: DedupParams | None = None, *, micrographs: Any = None, **keywords: Any
) -> tuple[Frame, Frame]:
    """Split a data frame of particles into kept and rejected particles.

    Parameters
    ----------
    particles : pandas, Polars or Dask DataFrame, or pyarrow.Table
        One row per particle, with the column names of CryoSPARC or RELION. Any other object with
        the Arrow PyCapsule interface (``__arrow_c_stream__``) is read as a pyarrow table.
    params : DedupParams, optional
    micrographs : pandas or Polars DataFrame, or pyarrow.Table, optional
        One row per micrograph, with its pixel size and shape.
    **keywords
        The parameters of `DedupParams`, instead of `params`: ``min_separation=100``.

    Returns
    -------
    kept, rejected : same type as `particles`
        All columns. The rows are in the order of `particles` and, for Dask, in the same partitions.

    Raises
    ------
    InputError
        If a column is missing or a row cannot be compared. Rows of Dask frames are checked when
        the result is computed.
    TypeError
        If `particles` is of another type, or a keyword is not a parameter.

    Notes
    -----
    Dask frames stay lazy. One shuffle moves the picks (numbers only: position, score, uid) by micrograph. Both
    results share this shuffle. The rows stay in their partitions. Each partition is read twice, so its rows must be
    the same each time. If `micrographs` has the sizes of tomograms, the first partition is computed at once, because
    its coordinates may be fractions of the tomogram. The separation ``auto`` is refused. Four problems are not
    detected: repeated uids, clashing micrograph names, odd scores, and pixel coordinates that are all from 0 to 1.

    Examples
    --------
    >>> import pandas as pd
    >>> picks = pd.DataFrame(
    ...     {
    ...         "rlnMicrographName": ["a.mrc", "a.mrc", "b.mrc"],
    ...         "rlnCoordinateX": [100.0, 103.0, 100.0],
    ...         "rlnCoordinateY": [200.0, 200.0, 200.0],
    ...         "rlnAutopickFigureOfMerit": [0.7, 0.9, 0.5],
    ...     }
    ... )
    >>> kept, rejected = remove_duplicates(picks, min_separation=20, micrograph_pixel_size=1.5)
    >>> rejected.index.tolist()
    [0]
    """
    params = DedupParams.given(params, keywords)
    if params.columns:
        raise InputError(
            f"{parameter('columns')} is for text tables of picks in files. Rename the columns of {_NAME} to those of "
            "RELION or CryoSPARC, such as rlnCoordinateX."
        )
    if params.counts_votes:
        raise InputError(
            f"{parameter(params.votes_parameter)} needs several pickers, but {_NAME} is one input. Pass the "
            "tables of the pickers to run."
        )
    frame = _as_frame(particles)
    lazy = _is_from(frame, "dask.dataframe")
    if lazy and params.chooses_separation:
        raise InputError(
            f"{parameter('min_separation', 'auto')} needs the particles at once, but a Dask frame is lazy. "
            "Pass a number; inspect recommends one for particles in files."
        )
    columns = [str(name) for name in _column_names(frame)]
    table = _describe(_NAME, columns)
    (roles,) = find_roles([table], params)
    if lazy:
        _check_client()
    known = None
    rows = None if micrographs is None else _as_arrow(_as_frame(micrographs))
    if roles.match == "name" and not (lazy and rows is not None):
        roles = _with_matched_names(frame, roles, rows, params)
    if rows is not None:
        known = micrograph_table(rows, _TABLE, roles.naming, roles.groups)
    roles = find_unit(roles, params, known, _NAME, _parts(frame, roles.position))
    inputs = Inputs.of([table], [roles], params, known)
    check_inputs(inputs)
    if lazy:
        return _split_dask(frame, inputs)
    rows = _as_arrow(frame, roles.columns)
    counted = Inputs.of([_describe(_NAME, columns, {_NAME: rows.num_rows})], [roles], params, known)
    (rejected,) = _reject([rows], counted)
    return _filter(frame, ~rejected), _filter(frame, rejected)


def reject_rows(
    inputs: Mapping[str, Mapping[str, pa.Table]], params: DedupParams
) -> list[NDArray[np.bool_]]:
    """Find the rejected rows of several inputs in memory, with positions in angstrom.

    Parameters
    ----------
    inputs : mapping of str to mapping of str to pyarrow.Table
        For each input, in order, its parts by name, such as one part per tomogram. All parts have the same columns.
        Messages and parameters use these names. Micrographs have the same names in all inputs.
    params : DedupParams

    Returns
    -------
    list of (n,) bool
        For each part, whether each row is rejected. Parts of the first input come first, then of the second, and so on.

    Raises
    ------
    InputError
        If a column is missing or a row cannot be compared.
    """
    tables = []
    for source, (name, parts) in enumerate(inputs.items()):
        columns = next(iter(parts.values())).column_names
        counts = {part: rows.num_rows for part, rows in parts.items()}
        tables.append(_describe(name, columns, counts, source))
    roles = find_roles(tables, params)
    voting = make_voting([(name, name) for name in inputs], params, {})
    opened = replace(Inputs.of(tables, roles, params), voting=voting)
    check_inputs(opened)
    rows = [
        _as_arrow(part, role.columns)
        for role, parts in zip(roles, inputs.values(), strict=True)
        for part in parts.values()
    ]
    return _reject(rows, opened)


def _reject(rows: Sequence[pa.Table], inputs: Inputs) -> list[NDArray[np.bool_]]:
    """Return a mask of the rejected rows of each fragment. Log the warnings."""
    params = inputs.params
    picks, warnings = _read_picks(rows, inputs)
    if params.measures:
        found = spacing_of_picks(picks, params)
        params = found.choose(params) if params.chooses_separation else params
        warnings += found.warnings(params)
    for line in warnings:
        data_warnings.warning("%s", line)
    decisions, _ = decide(picks, params, inputs.higher_is_better, inputs.voting)
    rejected = decisions.rejections.in_order()
    bounds = np.searchsorted(rejected.fragment, np.arange(len(rows) + 1))
    masks = [np.zeros(each.num_rows, dtype=bool) for each in rows]
    for mask, start, stop in zip(masks, bounds, bounds[1:], strict=False):
        mask[rejected.row[start:stop]] = True
    return masks


def _with_matched_names(
    frame: Any, roles: ColumnRoles, micrographs: pa.Table | None, params: DedupParams
) -> ColumnRoles:
    """Choose which parts of names to ignore, so that a frame matches the micrograph table. Return the new roles."""
    found = NameMatch()
    if micrographs is not None:
        column = _as_arrow(frame, [roles.micrograph])
        names = distinct_names(Columns(column, _NAME), roles.micrograph)
        key = name_column(micrographs.column_names)
        listed = distinct_names(Columns(micrographs, _TABLE), key) if key else set()
        found = choose([Names(_NAME, frozenset(names))], Names(_TABLE, frozenset(listed)), params)
    return use_stripping([_NAME], [roles], params, found.stripping)[0]


def _as_frame(given: Any) -> Any:
    """Return `given` if its type is supported, otherwise convert it to a pyarrow table."""
    if isinstance(given, pa.Table) or any(map(partial(_is_from, given), _LIBRARIES)):
        return given
    if hasattr(given, "__arrow_c_stream__"):
        return pa.table(given)
    raise TypeError(
        f"cannot read particles from a {type(given).__name__}. "
        "Pass a pandas, Polars or Dask DataFrame, or a pyarrow Table."
    )


def _is_from(frame: Any, library: str) -> bool:
    """Return whether `frame` is a DataFrame of `library`. The library is not imported."""
    module = sys.modules.get(library)
    return module is not None and isinstance(frame, module.DataFrame)


def _column_names(frame: Any) -> Sequence[Any]:
    names: Sequence[Any] = frame.column_names if isinstance(frame, pa.Table) else frame.columns
    return names


def _as_arrow(frame: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """Convert a frame to an Arrow table with the given columns (default: all)."""
    columns = list(_column_names(frame) if columns is None else columns)
    if isinstance(frame, pa.Table):
        return cast_views(frame.select(columns))
    if _is_from(frame, "polars"):
        return frame.select(columns).to_arrow()
    return pa.Table.from_pandas(frame[columns], preserve_index=False)


def _parts(frame: Any, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of a frame, with the given columns. The partitions of a Dask frame are computed one by one."""
    if not _is_from(frame, "dask.dataframe"):
        yield _as_arrow(frame, columns)
        return
    for part in frame[list(columns)].partitions:
        yield _as_arrow(part.compute())


def _filter(frame: Any, mask: NDArray[np.bool_]) -> Any:
    if isinstance(frame, pa.Table):
        return filter_rows(frame, mask)
    return frame.filter(mask) if _is_from(frame, "polars") else frame[mask]


def _describe(
    name: str, columns: Sequence[str], rows: Mapping[str, int] | None = None, source: int = 0
) -> ParticleTable:
    """Make a `ParticleTable` for an input in memory, with a file and a fragment for each part.

    `rows` has the number of rows of each part by its name.
    """
    schema = StoredSchema.of(pa.schema([(column, pa.null()) for column in columns]))
    files: list[InputFile] = []
    fragments: list[Fragment] = []
    first = 0
    for part, count in (rows or {name: 0}).items():
        slices = (FileSlice(part, 0, count),) if count else ()
        files.append(InputFile(part, 0, 0, count, ""))
        fragments.append(Fragment(len(fragments), source, first, count, slices))
        first += count
    return ParticleTable("frame", name, source, schema, tuple(files), tuple(fragments))


def _read_picks(rows: Sequence[pa.Table], inputs: Inputs) -> tuple[Picks, list[str]]:
    """Extract the picks from the rows of all fragments, and check the rows. Return picks and warnings."""
    picks, summaries, uids = [], [], {}
    for fragment, each in zip(inputs.fragments, rows, strict=True):
        roles = inputs.roles[fragment.source]
        found = extract(each, fragment, roles, inputs.params, inputs.micrographs)
        picks.append(found.picks)
        summaries.append(summarize(found, fragment, roles, inputs.params))
        uids[fragment.number] = sorted_uids(found.picks, roles)
    check_scanned(inputs, summaries, repeated := find_repeated_uids(inputs, uids))
    warnings = find_warnings(inputs, summaries, repeated)
    return Picks.concatenate(picks), warnings


def _split_dask(particles: dd.DataFrame, inputs: Inputs) -> tuple[dd.DataFrame, dd.DataFrame]:
    import dask.dataframe as dd

    from dask_dedup.pipeline.executors.exchange import PIECES_META, exchange, fragment_numbers

    (roles,) = inputs.roles
    narrow = particles[list(roles.columns)]
    vectors = [
        name for name in (*roles.shift, *roles.content) if name.endswith(("/shift", "/pose"))
    ]
    _check_lists(narrow, [roles.shape, *vectors])
    number = particles.npartitions
    picks = dd.map_partitions(
        _partition_picks,
        fragment_numbers([part] for part in range(number)),
        narrow,
        inputs,
        number,
        meta=PIECES_META,
        align_dataframes=False,
    )
    rejected = exchange(
        picks,
        _decide_partition,
        inputs.params,
        inputs.higher_is_better,
        partitions=number,
        groups=number,
    )
    kept, out = (
        dd.map_partitions(
            _select, particles, rejected, keep, meta=particles._meta, align_dataframes=False
        )
        for keep in (True, False)
    )
    return kept, out


def _check_client() -> None:
    """Raise InputError if the default Dask client is asynchronous."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return
    from dask_dedup.pipeline.executors.select import check_synchronous

    try:
        client = distributed.default_client()
    except ValueError:
        return
    check_synchronous(client)


def _check_lists(narrow: dd.DataFrame, columns: Sequence[str | None]) -> None:
    import pandas as pd

    for name in columns:
        if name and isinstance(narrow._meta[name].dtype, pd.StringDtype):
            raise InputError(
                f"{_NAME}: Dask stores the lists of {name} as text. Make the frame under "
                'dask.config.set({"dataframe.convert-string": False}).'
            )


def _partition_picks(
    numbers: pd.DataFrame, narrow: pd.DataFrame, inputs: Inputs, number: int
) -> pd.DataFrame:
    """Extract the picks of one partition of a Dask frame. Assign each pick to one of `number` shuffle partitions."""
    from dask_dedup.pipeline.executors.exchange import picks_frame

    part, rows = int(numbers["fragment"].iloc[0]), _as_arrow(narrow)
    (roles,), params = inputs.roles, inputs.params
    fragment = Fragment(part, 0, 0, rows.num_rows, ())
    found = extract(rows, fragment, roles, params, inputs.micrographs)
    renames = bool(roles.naming.renames or roles.naming.new_names)
    if found.problems or found.psize is not None or renames:
        name = f"partition {part} of {_NAME}"
        table = _describe(name, rows.column_names, {name: rows.num_rows})
        checked = Inputs.of([table], [roles], params, inputs.micrographs)
        summaries = [summarize(found, table.fragments[0], roles, params)]
        check_row_scales(checked, summaries)
        check_rows(checked, summaries)
        check_new_names(checked, summaries)
    partition = splitmix64(found.picks.micrograph) % np.uint64(number)
    return picks_frame(found.picks, partition)


def _decide_partition(picks: Picks, *rule: Any) -> dict[int, NDArray[np.int64]]:
    rejections = decide(picks, *rule)[0].rejections
    return {number: rejections.row[rows] for number, rows in rows_by(rejections.fragment)}


def _select(particles: pd.DataFrame, rejected: pd.DataFrame, keep: bool) -> pd.DataFrame:
    from dask_dedup.pipeline.executors.exchange import pieces_in

    mask = np.full(len(particles), keep)
    for rows in pieces_in(rejected):
        mask[rows] = not keep
    return particles[mask]
