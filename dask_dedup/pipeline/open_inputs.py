"""Open the inputs of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats import open_table, open_tables
from dask_dedup.storage.access import check_access

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import ParticleTable
    from dask_dedup.output.store import ResultStore


def open_inputs(
    paths: list[str | Path],
    params: DedupParams,
    names: Mapping[str, str],
    micrographs: str | Path | None,
    store: ResultStore,
    *,
    allow_outside: bool,
) -> tuple[list[ParticleTable], list[int], ParticleTable | None]:
    """Check the paths of inputs and output. Open the particle tables and the micrograph table.

    The second value lists the ordinals of inputs without a table.
    """
    if not paths:
        raise InputError("no input: pass at least one particle table.")
    given = [*paths, *([micrographs] if micrographs else [])]
    check_access([*given, store.output])
    store.check_separate(given)
    tables, empty = open_tables(paths, params, names=names, allow_outside=allow_outside)
    exposures = open_table(micrographs, allow_outside=allow_outside) if micrographs else None
    return tables, empty, exposures
