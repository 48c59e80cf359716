"""Warn about inputs with few or no common micrographs, and about inputs that would match better by name."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

import numpy as np

from dask_dedup.dedup.arrays import distinct_keys
from dask_dedup.dedup.renaming import parse_rename
from dask_dedup.formats import by_source
from dask_dedup.formats.parquet.footer import parse_hive_key
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.checks.names import KeyClashes
from dask_dedup.particles.column_names import MICROGRAPH_PATH, is_column
from dask_dedup.particles.micrographs.names import hash_texts
from dask_dedup.particles.micrographs.stripping import bare_name
from dask_dedup.storage.table_version import without_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.per_input import PerInput
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

    #: A compared name and its group.
    Name = tuple[str, str]

#: Matching by name is better if the number of common micrographs is larger by this factor than by path.
_CLEARLY_MORE = 1.05
#: Largest number of names of an input in a message.
_NAMED = 3


def shared_warnings(inputs: Inputs, summaries: Sequence[ScanSummary]) -> Iterator[str]:
    """Yield warnings about inputs with few or no common micrographs, or with more common micrographs by name."""
    keys = {
        source: distinct_keys([summary.micrographs for summary in mine])
        for source, mine in by_source(s for s in summaries if s.micrographs.size).items()
    }
    if len(keys) < 2:
        return
    distinct, inputs_with = np.unique(np.concatenate(list(keys.values())), return_counts=True)
    common = {
        source: int((inputs_with[np.searchsorted(distinct, mine)] > 1).sum())
        for source, mine in keys.items()
    }
    names = _compared_names(inputs, summaries, keys)
    stored = _stored_keys(summaries)
    moved: dict[int, int] = {}
    if inputs.roles[0].match != "name":
        bare = _count_bare(names)
        moved = _shared_more_by_name(bare, stored)
        if moved:
            most = max(moved, key=lambda each: moved[each])
            yield _by_name_warning(inputs, names, bare, stored, most)
    alone = [source for source in keys if not common[source] and source not in moved]
    normal = _one_micrograph_each(inputs, names, alone)
    if strange := [source for source in alone if source not in normal]:
        yield _nothing_shared_warning(inputs, names, strange, every=len(strange) == len(keys))
    yield from _few_shared_warnings(inputs, names, keys, common, distinct.size, moved)
    yield from _folder_warnings(inputs, keys)
    yield from _uid_warnings(inputs, summaries)


def _stored_keys(summaries: Sequence[ScanSummary]) -> dict[int, set[int]]:
    """Return the keys of all micrographs with a name, for each input."""
    stored: dict[int, set[int]] = {}
    for summary in summaries:
        stored.setdefault(summary.source, set()).update(each.key for each in summary.names)
    return stored


def _by_name_warning(
    inputs: Inputs,
    names: Mapping[int, set[Name]],
    bare: Mapping[int, Counter[Name]],
    stored: Mapping[int, set[int]],
    moved: int,
) -> str:
    """Return a warning about an input with more micrographs in common with another input by name."""
    unique = _unique(bare[moved])
    pairs = [
        (len(unique & _unique(known)), len(stored[moved] & stored[source]), source)
        for source, known in bare.items()
        if source != moved
    ]
    by_name, by_path, other = max(pairs, key=lambda pair: pair[0] - pair[1])
    one, two = sorted((moved, other))
    which = "the inputs"
    if len(names) > 2:
        which = f"{inputs.tables[one].path} and {inputs.tables[two].path}"
    match = inputs.roles[0].match
    found = f"{which} have no micrograph in common by {match} (column {_columns(inputs)})"
    if by_path:
        found = f"{which} have only {counted(by_path, 'micrograph')} in common by {match}"
    clash = any(count > 1 for known in bare.values() for count in known.values())
    advice = _advice_on_names(inputs) if clash else parameter("match_micrographs", "name")
    examples = _examples(inputs, {one: names[one], two: names[two]})
    listed = f" ({examples})" if examples else ""
    return f"{found}, but {by_name:,} by name{listed}. Pass {advice}."


def _nothing_shared_warning(
    inputs: Inputs, names: Mapping[int, set[Name]], alone: Sequence[int], *, every: bool
) -> str:
    paths = ", ".join(inputs.tables[source].path for source in alone)
    which, others = f"{paths}: no", "with the other inputs "
    if every:
        which, others = "the inputs have no", ""
    listed = _examples(inputs, names, alone[0])
    examples = f"; {listed}" if listed else ""
    line = (
        f"{which} micrograph in common {others}(column {_columns(inputs)}{examples}), so no duplicates "
        "are found between them."
    )
    mine = {name for name, _ in names[alone[0]]}
    theirs = {name for source in names if source != alone[0] for name, _ in names[source]}
    if 2 * len(mine & theirs) > len(mine):
        groups = " or ".join(inputs.params.group_columns)
        return (
            f"{line} The names are the same, but the groups (column {groups}) differ. If these are "
            f"the same micrographs, pass another {parameter('group_by')} or "
            f"{parameter('group_by', 'none')}."
        )
    return (
        f"{line} Do they come from one import of the movies? If the names differ only in form, "
        f"pass {_advice_on_names(inputs)}."
    )


def _few_shared_warnings(
    inputs: Inputs,
    names: Mapping[int, set[Name]],
    keys: Mapping[int, NDArray[np.uint64]],
    common: Mapping[int, int],
    total: int,
    moved: Collection[int],
) -> Iterator[str]:
    """Yield a warning about the input with the fewest common micrographs, if these are under half of the maximum.

    The maximum is the number of micrographs of this input or of the other inputs together, whichever is
    smaller. All inputs together have `total` micrographs.
    """
    found = []
    for source, mine in keys.items():
        others = total - (mine.size - common[source])
        if 0 < 2 * common[source] < min(mine.size, others) and source not in moved:
            found.append((common[source] / mine.size, source))
    if found:
        _, source = min(found)
        listed = _examples(inputs, names, source)
        yield (
            f"{inputs.tables[source].path}: only {common[source]:,} of "
            f"{counted(keys[source].size, 'micrograph')} in common with the other "
            f"inputs (column {_columns(inputs)}{f'; {listed}' if listed else ''}). If the names differ only "
            f"in form, pass {_advice_on_names(inputs)}."
        )


def _one_micrograph_each(
    inputs: Inputs, names: Mapping[int, set[Name]], alone: Sequence[int]
) -> set[int]:
    """Return the inputs with the same columns and one micrograph each, all different. They are files of one picker."""
    files: dict[tuple[str, ...], dict[str, int]] = {}
    for source in alone:
        if len(names[source]) == 1:
            ((name, _),) = names[source]
            files.setdefault(tuple(inputs.tables[source].schema.names), {})[name] = source
    largest = max(files.values(), key=len, default={})
    return set(largest.values()) if len(largest) > 1 else set()


def _uid_warnings(inputs: Inputs, summaries: Sequence[ScanSummary]) -> Iterator[str]:
    """Yield a warning for each input in which a uid has two paths with different bare names."""
    known: dict[tuple[int, int], str] = {}
    warned: set[int] = set()
    for summary in summaries:
        for each in summary.names if summary.source not in warned else ():
            other = known.setdefault((summary.source, each.key), each.path) or each.path
            if other != each.path and each.path and bare_name(other) != bare_name(each.path):
                warned.add(summary.source)
                yield (
                    f"{inputs.tables[summary.source].path}: the micrographs {other} and {each.path} "
                    "have the same uid, so their particles are compared. If they are different, "
                    f"pass {parameter('match_micrographs', 'path')}."
                )
                break


def _folder_warnings(inputs: Inputs, keys: Mapping[int, NDArray[np.uint64]]) -> Iterator[str]:
    """Yield a warning for each hive key with different values above inputs that share micrograph names."""
    if inputs.params.group_by or inputs.roles[0].match == "uid":
        return
    found: dict[str, list[tuple[str, int, NDArray[np.uint64]]]] = {}
    for source in sorted(keys):
        path = without_version(inputs.tables[source].path)
        for key, value in dict(filter(None, map(parse_hive_key, PurePath(path).parts))).items():
            if is_column(key):
                continue
            found.setdefault(key, []).append((value, source, keys[source]))
    for key, values in found.items():
        clashes = KeyClashes.find(values)
        if clashes.keys.size:
            codes, shared = np.unique(clashes.codes, axis=0, return_counts=True)
            one, other = (clashes.values[code] for code in codes[0])
            yield (
                f"{counted(int(shared[0]), 'micrograph name', 'are')} in inputs of {key}={one} and "
                f"of {key}={other}, and treated as the same micrographs. If they are "
                "different, run the inputs separately, or pass the folder above them with "
                f"{parameter('group_by', key)}. If not, pass {parameter('group_by', 'none')}."
            )


def _advice_on_names(inputs: Inputs) -> str:
    if inputs.roles[0].match == "uid":
        return parameter("match_micrographs", "name")
    return f"{parameter('rename_micrographs')} or {parameter('micrograph_map')}"


def _compared_names(
    inputs: Inputs, summaries: Sequence[ScanSummary], sources: Mapping[int, object]
) -> dict[int, set[Name]]:
    """Return the compared names of the micrographs of each input."""
    stored: dict[int, set[Name]] = {source: set() for source in sources}
    for summary in summaries:
        listed = ((each.name or each.path, each.group) for each in summary.names)
        found = (each for each in listed if each[0])
        stored.setdefault(summary.source, set()).update(found)
    return {
        source: {(inputs.roles[source].naming.compared(name), group) for name, group in names}
        for source, names in stored.items()
    }


def _shared_more_by_name(
    bare: Mapping[int, Counter[Name]], stored: Mapping[int, set[int]]
) -> dict[int, int]:
    """Return the inputs with clearly more common micrographs by bare name than by key, and the difference.

    A micrograph counts once for each other input with this micrograph.
    """
    unique = {source: _unique(known) for source, known in bare.items()}
    by_key = Counter(key for source in bare for key in stored[source])
    by_name = Counter(name for known in unique.values() for name in known)
    more = {}
    for source in bare:
        keys = sum(by_key[key] - 1 for key in stored[source])
        names = sum(by_name[name] - 1 for name in unique[source])
        if names > _CLEARLY_MORE * keys:
            more[source] = names - keys
    return more


def _count_bare(names: Mapping[int, set[Name]]) -> dict[int, Counter[Name]]:
    """Count the micrographs of each input by bare name."""
    # Bare names take long to compute, and most inputs have the same names.
    bare = {
        name: bare_name(name) for name in {name for known in names.values() for name, _ in known}
    }
    return {
        source: Counter((bare[name], group) for name, group in known)
        for source, known in names.items()
    }


def _unique(bare: Counter[Name]) -> set[Name]:
    """Return the bare names that belong to only one micrograph of an input. Other names cannot be matched."""
    return {name for name, count in bare.items() if count == 1}


def _columns(inputs: Inputs) -> str:
    return ", ".join(dict.fromkeys(roles.micrograph for roles in inputs.roles))


def _examples(inputs: Inputs, names: Mapping[int, set[Name]], first: int | None = None) -> str:
    """Return, for a message, up to three names of each of two inputs that the other input lacks.

    If `first` is passed, it is one of the two inputs. Return an empty text if no two inputs have names.
    """
    known = sorted((source != first, source) for source in names if names[source])
    if len(known) < 2:
        return ""
    one, other = sorted(source for _, source in known[:2])
    return "; ".join(
        f"{inputs.tables[source].path}: "
        + ", ".join(
            f"{name} ({group})" if group else name
            for name, group in sorted(names[source] - names[rest])[:_NAMED]
        )
        for source, rest in ((one, other), (other, one))
        if names[source] - names[rest]
    )


def rename_warnings(inputs: Inputs, summaries: Sequence[ScanSummary]) -> Iterator[str]:
    """Yield warnings about names of an input that become equal, and about substitutions without effect."""
    idle: dict[tuple[str, str], str] = {}
    used: set[str] = set()
    of_input = by_source(summaries)
    for table, roles in zip(inputs.tables, inputs.roles, strict=True):
        naming = roles.naming
        mine = of_input[table.source]
        names = sorted({(each.name, each.group) for one in mine for each in one.names if each.name})
        if not names or not (naming.renames or naming.new_names):
            continue
        by_new_name: dict[Name, list[str]] = {}
        for name, group in names:
            by_new_name.setdefault((naming.compared(name), group), []).append(name)
        several = [(new[0], old) for new, old in by_new_name.items() if len(old) > 1]
        if several:
            new, old = several[0]
            yield (
                f"{table.path}: {sum(len(each) for _, each in several):,} micrograph names become "
                f"{len(several):,} ({old[0]} and {old[1]} both {new}), so their particles are compared. "
                f"If they are different micrographs, change {_used_for_names(inputs)}."
            )
        current = [name for name, _ in names]
        for rename in naming.renames:
            changed = list(map(parse_rename(rename), current))
            if changed == current:
                idle.setdefault((rename, table.path), current[0])
            else:
                used.add(rename)
            current = changed
    for (rename, path), name in idle.items():
        if rename not in used or any(rename == each and given for given, each in _renames(inputs)):
            used.add(rename)  # one warning for all inputs
            yield (
                f"{path}: {parameter('rename_micrographs', rename)} changes no micrograph name "
                f"(such as {name})"
            )


def _renames(inputs: Inputs) -> PerInput[str]:
    return cast("PerInput[str]", inputs.params.rename_micrographs)


def _used_for_names(inputs: Inputs) -> str:
    """Return the passed parameters that change names, for a message."""
    listed = inputs.params.names_of_micrographs.pairs
    used = [("rename_micrographs", _renames(inputs)), ("micrograph_map", listed)]
    return " or ".join(parameter(name) for name, value in used if value)


def missing_hint(inputs: Inputs, summaries: Sequence[ScanSummary]) -> str:
    """Return advice on missing micrographs, or ""."""
    if inputs.roles[0].match == "uid":
        unnamed = {summary.source for summary in summaries if "micrograph" in summary.invalid}
        if any(MICROGRAPH_PATH in inputs.tables[source].schema.names for source in unnamed):
            return (
                f" Micrographs without a uid may have a name: pass "
                f"{parameter('match_micrographs', 'path')}."
            )
    table = inputs.micrographs
    missing = any("unknown_micrograph" in summary.invalid for summary in summaries)
    if table is None or not missing or inputs.roles[0].match == "uid":
        return ""
    sources = {summary.source: None for summary in summaries}
    every = _compared_names(inputs, summaries, sources).values()
    names = sorted({name for known in every for name, _ in known})
    by_path = np.isin(hash_texts(names), table.name_keys)
    by_name = np.isin(hash_texts(map(bare_name, names)), table.bare_keys)
    if inputs.roles[0].match == "path" and by_name.sum() > _CLEARLY_MORE * by_path.sum():
        return (
            f" {table.path} has {by_path.sum():,} of {counted(len(names), 'micrograph')} by path, but "
            f"{by_name.sum():,} by name: pass {parameter('match_micrographs', 'name')}."
        )
    absent = [name for name, known in zip(names, by_path.tolist(), strict=True) if not known]
    if not absent:  # another group
        return ""
    return (
        f" The missing micrographs have names such as {absent[0]}, but the table has names such as "
        f"{table.example}: if these differ only in form, pass {_advice_on_names(inputs)}."
    )
