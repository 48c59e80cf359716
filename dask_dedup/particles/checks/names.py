"""Checks of micrograph names: clashes, and names that occur under two values of a hive key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.validity import NAMED_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary


def check_names(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Check that different micrographs have different keys (hashes).

    Two micrographs of an input may have the same bare name (if these are compared). Any two may have
    the same 64-bit hash (a chance of 3 in 10**8 for 10**6 micrographs).
    """
    compared: dict[int, str] = {}
    stored: dict[tuple[int, int], str] = {}
    for summary in summaries:
        naming = inputs.roles[summary.source].naming
        for each in summary.names:
            name, key = each.name, each.key
            other = stored.setdefault((summary.source, key), name)
            same_bare_name = naming.match == "name" and naming.bare(other) == naming.bare(name)
            if same_bare_name and naming.renamed(other) != naming.renamed(name):
                raise InputError(
                    f"{inputs.tables[summary.source].path}: the micrographs {other} and {name} "
                    "have the same bare name, so they cannot be matched by name. "
                    f"Pass {parameter('match_micrographs', 'path')} or "
                    f"{parameter('match_micrographs', 'uid')}."
                )
            # Groups of uids have no name.
            as_compared = str(each._replace(name=naming.compared(name))) if name else each.group
            if compared.setdefault(key, as_compared) != as_compared:
                raise InputError(
                    f"the micrographs {compared[key]} and {as_compared} have the same hash. "
                    "Rename one of them."
                )


def check_new_names(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Check that no name becomes empty by `rename_micrographs`, and that `micrograph_map` has every name.

    Raises
    ------
    InputError
        The message names the first micrographs.
    """
    listed = inputs.params.names_of_micrographs
    unlisted: dict[str, None] = {}
    for summary in summaries:
        naming = inputs.roles[summary.source].naming
        if not (naming.renames or naming.new_names):
            continue
        known = {*naming.new_names, *naming.new_names.values()}
        for name in dict.fromkeys(each.name for each in summary.names if each.name):
            if not naming.renamed(name).strip():
                raise InputError(
                    f"{inputs.tables[summary.source].path}: {parameter('rename_micrographs')} leaves "
                    f"nothing of the micrograph name {name}. Change the pattern."
                )
            if known and naming.bare(name) not in known:
                unlisted[f"{naming.bare(name)} ({inputs.tables[summary.source].path})"] = None
    if unlisted:
        raise InputError(
            f"{counted(len(unlisted), 'micrograph name', 'are')} not in "
            f"{listed.path or parameter('micrograph_map')}, neither as old nor as new name: "
            f"{', '.join(list(unlisted)[:NAMED_ROWS])}. Add them."
        )


def check_groups(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Check that no micrograph name occurs under two values of a hive key, unless `group_by` decides.

    Raises
    ------
    InputError
        The message names every such key, two of its values, and both ways out.
    """
    clashes = list(_hive_clashes(inputs, summaries))
    if not clashes:
        return
    places = " and ".join(place for _, place in clashes)
    keys = " or ".join(parameter("group_by", key) for key, _ in clashes)
    if len(clashes) > 1:
        keys += " (repeat it for several)"
    raise InputError(
        f"{places}. If these are different micrographs, pass {keys}. If they are the same, as when "
        f"the key names the picker, pass {parameter('group_by', 'none')}."
    )


def _hive_clashes(inputs: Inputs, summaries: Sequence[ScanSummary]) -> Iterator[tuple[str, str]]:
    """Yield each hive key that has one micrograph name under two values, with a description of them."""
    for hive_key in dict.fromkeys(key for summary in summaries for key in summary.hive_values):
        found = [
            (value, summary.source, keys)
            for summary in summaries
            for value, keys in summary.hive_values.get(hive_key, {}).items()
        ]
        values = sorted({value for value, _, _ in found})
        keys = np.concatenate([each for _, _, each in found])
        codes = np.concatenate([np.full(each.size, values.index(v)) for v, _, each in found])
        sources = np.concatenate([np.full(each.size, source) for _, source, each in found])
        order = np.lexsort((sources, codes, keys))
        keys, codes, sources = keys[order], codes[order], sources[order]
        clash = np.flatnonzero((keys[1:] == keys[:-1]) & (codes[1:] != codes[:-1]))
        if not clash.size:
            continue
        names = {each.key: each.name for summary in summaries for each in summary.names}
        # The first in the order of names.
        row = min(clash.tolist(), key=lambda row: names[int(keys[row])])
        one, other = (inputs.tables[sources[at]].path for at in (row, row + 1))
        description = (
            f"{one}: the micrograph {names[int(keys[row])]} is under {hive_key}={values[codes[row]]} and "
            f"{hive_key}={values[codes[row + 1]]}{f' of {other}' if other != one else ''}"
        )
        more = np.unique(keys[clash]).size - 1
        yield hive_key, description + (f" (and {more:,} more)" if more else "")
