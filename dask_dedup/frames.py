"""`remove_duplicates`: a pandas, pyarrow or Dask frame in, the kept and the rejected rows out."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.decide import decide
from dask_dedup.dedup.params import DedupParams
from dask_dedup.dedup.picks import PICKS_DTYPES, Picks
from dask_dedup.errors import InputError
from dask_dedup.formats import FileSlice, Fragment, ParticleTable, StoredSchema
from dask_dedup.formats.base import InputFile
from dask_dedup.particles.checks import check_names, check_uids, describe_problem, find_warnings
from dask_dedup.particles.extract import extract, summarize_fragment
from dask_dedup.particles.inputs import Inputs, check_inputs, find_roles
from dask_dedup.particles.micrographs import MicrographTable, micrograph_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.dataframe as dd
    import pandas as pd
    from numpy.typing import NDArray

    from dask_dedup.particles.conventions import ColumnRoles

Frame = TypeVar("Frame")

_NAME = "the table"

log = logging.getLogger("dask_dedup")


def remove_duplicates(
    particles: Frame, params: DedupParams | None = None, *, micrographs: Any = None
) -> tuple[Frame, Frame]:
    """Split a frame of particles into those kept and those rejected.

    Parameters
    ----------
    particles : pandas.DataFrame, pyarrow.Table or dask.dataframe.DataFrame
        One row a particle, with the column names of CryoSPARC or RELION.
    params : DedupParams, optional
    micrographs : pandas.DataFrame or pyarrow.Table, optional
        One row a micrograph: its pixel size and shape.

    Returns
    -------
    kept, rejected : of the type of `particles`
        All its columns, rows in its order (and, for Dask, its partitions).

    Raises
    ------
    InputError
        If a column is missing or a row cannot be used; for Dask, the latter when it is computed.

    Notes
    -----
    The Dask frames are lazy. Only numbers travel (position, score, uid), in one shuffle by
    micrograph that both results share; the rows themselves stay in their partitions. The input's
    partitions are read for the picks and again for the payload, so they must be the same each time.
    Invalid rows are dealt with in either case; that uids are unique, that names do not clash and that
    scores make sense is looked at in pandas and pyarrow frames only.
    """
    params = DedupParams.given(params)
    columns = [str(name) for name in _column_names(particles)]
    table = _describe(columns, 0)
    (roles,) = find_roles([table], params)
    known = None
    if micrographs is not None:
        known = micrograph_table(_arrow(micrographs), "micrographs", match=roles.match)
    check_inputs(Inputs.of([table], [roles], params, known))
    if _is_dask(particles):
        return _split_lazily(particles, roles, params, known)
    narrow = (
        particles.select(roles.columns)
        if isinstance(particles, pa.Table)
        else (
            _arrow(particles[list(roles.columns)])  # type: ignore[index]
        )
    )
    picks = _picks(narrow, _NAME, 0, 0, roles, params, known)
    for line in _check(narrow, columns, roles, params, known):
        log.warning("warning: %s", line)
    rejected = np.zeros(narrow.num_rows, dtype=bool)
    rejected[decide(picks, params)[0].row] = True
    return _where(particles, ~rejected), _where(particles, rejected)


def _column_names(particles: Any) -> list[str]:
    if isinstance(particles, pa.Table):
        return list(particles.column_names)
    if hasattr(particles, "columns"):
        return list(particles.columns)
    raise InputError(
        f"cannot take particles from a {type(particles).__name__}; "
        "give a pandas or Dask DataFrame or a pyarrow Table"
    )


def _is_dask(particles: Any) -> bool:
    # A Dask frame can only exist where dask.dataframe is loaded; nobody else should wait for it.
    module = sys.modules.get("dask.dataframe")
    return module is not None and isinstance(particles, module.DataFrame)


def _arrow(frame: Any) -> pa.Table:
    return (
        frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    )


def _where(particles: Any, mask: NDArray[np.bool_]) -> Any:
    return particles.filter(pa.array(mask)) if isinstance(particles, pa.Table) else particles[mask]


def _describe(columns: Sequence[str], rows: int) -> ParticleTable:
    """Return a description of a frame as if it were one file with one fragment."""
    schema = StoredSchema.of(pa.schema([(name, pa.null()) for name in columns]))
    pieces = (FileSlice(_NAME, 0, rows),) if rows else ()
    files = (InputFile(_NAME, 0, 0, rows, ""),)
    return ParticleTable("frame", _NAME, 0, schema, files, (Fragment(0, 0, 0, rows, pieces),))


def _check(
    narrow: pa.Table,
    columns: Sequence[str],
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> list[str]:
    """Check the rows as a run does, and return the same warnings."""
    inputs = Inputs.of([_describe(columns, narrow.num_rows)], [roles], params, micrographs)
    summaries = [summarize_fragment(narrow, inputs.fragments[0], roles, params, micrographs)]
    check_uids(inputs, summaries)
    check_names(inputs, summaries)
    return find_warnings(inputs, summaries)


def _picks(
    narrow: pa.Table,
    name: str,
    number: int,
    first_row: int,
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> Picks:
    fragment = Fragment(number, 0, first_row, narrow.num_rows, ())
    found = extract(narrow, fragment, roles, params, micrographs)
    if found.problems and params.invalid == "error":
        worst = found.problems[0]
        rows = ", ".join(map(str, worst.first))
        raise InputError(
            f"{name}: {describe_problem(worst)}, first {rows}; mend that, or set such rows aside "
            'with invalid="reject" or "keep"'
        )
    return found.picks


def _split_lazily(
    particles: dd.DataFrame,
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> tuple[dd.DataFrame, dd.DataFrame]:
    import dask
    import dask.dataframe as dd
    import pandas as pd

    partitions = particles.npartitions
    narrow = particles[list(roles.columns)]
    vectors = [roles.shape, *(roles.shift if len(roles.shift) == 1 else ())]
    for name in vectors:
        if name and isinstance(narrow._meta[name].dtype, pd.StringDtype):
            raise InputError(
                f"{_NAME}: Dask holds the lists of {name} as text; make the frame under "
                'dask.config.set({"dataframe.convert-string": False})'
            )
    lengths = [dask.delayed(len)(part) for part in narrow.to_delayed()] if not roles.uid else []
    numbers = dd.from_map(_number_frame, range(partitions), meta=_number_frame(0).iloc[:0])
    meta = pd.DataFrame({name: np.empty(0, dtype) for name, dtype in PICKS_DTYPES.items()})
    picks = dd.map_partitions(
        _partition_picks,
        numbers,
        narrow,
        dask.delayed(_first_rows)(lengths),
        roles,
        params,
        micrographs,
        meta=meta,
        align_dataframes=False,
    )
    rejected = picks.shuffle(on="micrograph").map_partitions(
        _decide_partition,
        params,
        meta=pd.DataFrame({"fragment": np.empty(0, "i8"), "row": np.empty(0, "i8")}),
    )
    back = rejected.set_index("fragment", divisions=(*range(partitions), partitions))
    kept, out = (
        dd.map_partitions(
            _select, particles, back, keep, meta=particles._meta, align_dataframes=False
        )
        for keep in (True, False)
    )
    return kept, out


def _number_frame(number: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"partition": [number]})


def _first_rows(lengths: list[int]) -> list[int]:
    return [0, *np.cumsum(lengths, dtype=np.int64).tolist()]


def _partition_picks(
    numbers: pd.DataFrame,
    narrow: pd.DataFrame,
    first_rows: list[int],
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
) -> pd.DataFrame:
    import pandas as pd

    number = int(numbers["partition"].iloc[0])
    first_row = first_rows[number] if len(first_rows) > 1 else 0
    name = f"partition {number} of {_NAME}"
    picks = _picks(_arrow(narrow), name, number, first_row, roles, params, micrographs)
    return pd.DataFrame(picks.columns())


def _decide_partition(frame: pd.DataFrame, params: DedupParams) -> pd.DataFrame:
    import pandas as pd

    picks = Picks.from_columns({name: frame[name].to_numpy() for name in PICKS_DTYPES})
    rejections, _ = decide(picks, params)
    return pd.DataFrame({"fragment": rejections.fragment, "row": rejections.row})


def _select(particles: pd.DataFrame, rejected: pd.DataFrame, keep: bool) -> pd.DataFrame:
    mask = np.full(len(particles), keep)
    mask[rejected["row"].to_numpy()] = not keep
    return particles[mask]
