"""Checks of micrograph names: clashes, and names that occur under two values of a hive key."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.validity import NAMED_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary


def check_names(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Check that different micrographs have different keys (hashes).

    Two micrographs of an input may have the same bare name, if bare names are compared. Any two micrographs may have
    the same 64-bit hash. For 10**6 micrographs, the probability is 3 in 10**8.
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
            # Micrographs that are matched by uid have only a group.
            as_compared = str(each._replace(name=naming.compared(name))) if name else each.group
            if compared.setdefault(key, as_compared) != as_compared:
                raise InputError(
                    f"the micrographs {compared[key]} and {as_compared} have the same hash. "
                    "Rename one of them."
                )


def check_new_names(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Check that `rename_micrographs` leaves no name empty, and that `micrograph_map` has every name.

    Raises
    ------
    InputError
        The message has the names of the first few micrographs.
    """
    listed = inputs.params.names_of_micrographs
    new_names = inputs.roles[0].naming.new_names
    known = {*new_names, *new_names.values()}
    unlisted: dict[str, None] = {}
    for summary in summaries:
        naming = inputs.roles[summary.source].naming
        if not (naming.renames or known):
            continue
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
        The message has every such key, two of its values, and both solutions.
    """
    clashes = list(_hive_clashes(inputs, summaries))
    if not clashes:
        return
    described = " and ".join(description for _, description in clashes)
    keys = " or ".join(parameter("group_by", key) for key, _ in clashes)
    if len(clashes) > 1:
        keys += " (repeat it for several)"
    raise InputError(
        f"{described}. If these are different micrographs, pass {keys}. If they are the same, as when "
        f"the key is the picker, pass {parameter('group_by', 'none')}."
    )


def _hive_clashes(inputs: Inputs, summaries: Sequence[ScanSummary]) -> Iterator[tuple[str, str]]:
    """Yield each hive key with the same micrograph name under two values, and a description of the clash."""
    for hive_key in dict.fromkeys(key for summary in summaries for key in summary.hive_values):
        clashes = KeyClashes.find(
            (value, summary.source, keys)
            for summary in summaries
            for value, keys in summary.hive_values.get(hive_key, {}).items()
        )
        if not clashes.keys.size:
            continue
        names = {each.key: each.name for summary in summaries for each in summary.names}
        # The clash with the first name in alphabetical order.
        row = min(range(clashes.keys.size), key=lambda row: names[int(clashes.keys[row])])
        one, other = (inputs.tables[source].path for source in clashes.sources[row])
        value, other_value = (clashes.values[code] for code in clashes.codes[row])
        description = (
            f"{one}: the micrograph {names[int(clashes.keys[row])]} is under {hive_key}={value} and "
            f"{hive_key}={other_value}{f' of {other}' if other != one else ''}"
        )
        more = np.unique(clashes.keys).size - 1
        yield hive_key, description + (f" (and {more:,} more)" if more else "")


class KeyClashes(NamedTuple):
    """Micrograph keys that occur under two values of a hive key.

    Attributes
    ----------
    values : list of str
        All values of the hive key, sorted.
    keys : ndarray of uint64, (n,)
        A key under k values occurs k - 1 times.
    codes : ndarray of int, (n, 2)
        For each key, the indices in `values` of two of its values.
    sources : ndarray of int, (n, 2)
        For each of the two values, an input that has the key there.
    """

    values: list[str]
    keys: NDArray[np.uint64]
    codes: NDArray[np.int64]
    sources: NDArray[np.int64]

    @classmethod
    def find(cls, found: Iterable[tuple[str, int, NDArray[np.uint64]]]) -> Self:
        """Find the clashes in tuples of hive value, input and micrograph keys."""
        texts, inputs, parts = zip(*found, strict=True)
        values = sorted(set(texts))
        code_of = {value: code for code, value in enumerate(values)}
        sizes = [part.size for part in parts]
        keys = np.concatenate(parts)
        codes = np.repeat([code_of[text] for text in texts], sizes)
        sources = np.repeat(inputs, sizes)
        order = np.lexsort((sources, codes, keys))
        keys, codes, sources = keys[order], codes[order], sources[order]
        row = np.flatnonzero((keys[1:] == keys[:-1]) & (codes[1:] != codes[:-1]))
        two = np.column_stack((row, row + 1))
        return cls(values, keys[row], codes[two], sources[two])
