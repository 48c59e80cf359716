"""Choose the parts to remove from micrograph names, so that names from different programs match.

The scan computes the keys of micrographs, which are hashes of names. So names are read before the scan, only from the
micrograph column, and only if micrographs are matched by name.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dask_dedup.errors import InputError
from dask_dedup.formats import names_of_files, read
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.names import Naming, is_missing
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.micrographs.stripping import (
    STRIPPINGS,
    Stripping,
    remove_endings,
    remove_front,
)
from dask_dedup.particles.micrographs.table import name_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles

    #: A name and its group.
    Name = tuple[str, str]

#: Number of threads that read the names of fragments.
_THREADS = 4
#: Largest numbers of inputs and of endings in a log line.
_LISTED = 5
_ENDINGS = 2
#: Folders in which programs put the files of all micrographs.
_PLAIN_FOLDERS = {"micrographs", "movies", "raw"}


class Names(NamedTuple):
    """Stored micrograph names of an input or of the micrograph table, with their groups."""

    path: str
    names: frozenset[Name]
    #: Whether the names have groups. False only for a micrograph table without the group columns.
    grouped: bool = True
    #: Whether the names come from pick files, with the folders within the input.
    of_files: bool = False


class InputMatch(NamedTuple):
    """Number of matched micrographs of an input."""

    path: str
    micrographs: int
    #: Number of micrographs that are also in another input. None for a single input.
    shared: int | None
    #: Number of micrographs in the micrograph table. None without a micrograph table.
    in_table: int | None
    #: Description of the parts removed from the names.
    removed: str

    @property
    def counts(self) -> str:
        """The counts and the removed parts, for a message."""
        found = []
        if self.shared is not None:
            found.append(f"{self.shared:,} of {self.micrographs:,}")
        if self.in_table is not None:
            found.append(f"{self.in_table:,} in the micrograph table")
        without = f" (without {self.removed})" if self.removed else ""
        return f"{', '.join(found)}{without}"


@dataclass(frozen=True, slots=True)
class NameMatch:
    """Match of micrographs by name.

    Attributes
    ----------
    stripping : Stripping
        The parts removed from all names.
    inputs : tuple of InputMatch
        Match of each input. Empty if nothing had to be matched.
    clash : str
        Reason why no more parts were removed although more micrographs would match. Empty otherwise.
    folders : str
        Number of matched micrographs with pick files in different folders, with an example. Empty if there are none.
    """

    stripping: Stripping = STRIPPINGS[0]
    inputs: tuple[InputMatch, ...] = ()
    clash: str = ""
    folders: str = ""

    def __str__(self) -> str:
        shown = "; ".join(f"{each.path} {each.counts}" for each in self.inputs[:_LISTED])
        more = len(self.inputs) - _LISTED
        rest = f"; and {more} more, in the manifest" if more > 0 else ""
        return f"micrographs matched by name: {shown}{rest}"

    def to_dict(self) -> dict[str, Any]:
        """Return the match for JSON."""
        return {
            "stripping": str(self.stripping),
            "inputs": [each._asdict() for each in self.inputs],
        }


def match_names(
    tables: Sequence[ParticleTable],
    roles: Sequence[ColumnRoles],
    params: DedupParams,
    exposures: ParticleTable | None,
) -> NameMatch:
    """Read the micrograph names of all inputs and of the micrograph table, and choose how they match."""
    if len(tables) + (exposures is not None) < 2:
        return NameMatch()
    inputs = [_read_names(table, role) for table, role in zip(tables, roles, strict=True)]
    listed = None
    if exposures:
        groups = params.group_columns
        column = name_column(exposures.schema.names)
        grouped = set(groups) <= set(exposures.schema.names)
        found = _read_column(exposures, column, groups if grouped else ()) if column else ()
        listed = Names(exposures.path, frozenset(found), grouped)
    return choose(inputs, listed, params)


def _read_names(table: ParticleTable, roles: ColumnRoles) -> Names:
    """Return the names of an input. Names from pick files were read when the files were opened."""
    names: Iterable[Name] = ()
    known = names_of_files(table)
    if known is not None:
        names = ((name, "") for name in known)
    elif roles.micrograph in table.schema.names:  # a missing column is reported elsewhere
        names = _read_column(table, roles.micrograph, roles.groups)
    return Names(table.path, frozenset(names), of_files=known is not None)


def _read_column(table: ParticleTable, column: str, groups: Sequence[str]) -> set[Name]:
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(partial(_read_fragment, table, column, groups), table.fragments)
        return set().union(*found)


def _read_fragment(
    table: ParticleTable, column: str, groups: Sequence[str], fragment: Fragment
) -> set[Name]:
    return distinct_names(
        Columns(read(table, fragment, [column, *groups]), table.path), column, groups
    )


def distinct_names(columns: Columns, column: str, groups: Sequence[str] = ()) -> set[Name]:
    """Return the distinct names in a column, with their groups."""
    rows = RowMicrographs.read(columns, column, Naming(), groups)
    return {(each.name, each.group) for each in rows.named()}


class _Forms:
    """Names of an input after each stripping. Each kind of endings starts from the result of the kind before."""

    def __init__(self, names: Sequence[Name]) -> None:
        self.names = [name for name, _ in names]
        self.folders: list[str] = []
        self.of_kind: dict[str, list[str]] = {}

    def of(self, stripping: Stripping) -> list[str]:
        """Return the form of each name."""
        kind = stripping.endings
        if not kind:
            return self.names
        if not self.of_kind:
            fronts = [remove_front(name) for name in self.names]
            self.folders = [folder for folder, _, _ in fronts]
            self.of_kind[""] = [rest for _, rest, _ in fronts]
        if kind not in self.of_kind:
            before = list(self.of_kind.values())[-1]
            self.of_kind[kind] = [remove_endings(name, kind) for name in before]
        return list(map(stripping.join, self.folders, self.of_kind[kind]))


class _Overlap(NamedTuple):
    #: Negative number of names that are not in the parameter `micrograph_map`.
    unlisted: int
    #: Number of micrographs that are also in another input or in the table, summed over the inputs.
    matched: int
    #: Numbers for each input. `shared` has None for a single input, `in_table` without a table.
    shared: tuple[int | None, ...]
    in_table: tuple[int | None, ...]
    clash: str
    complete: bool


def choose(inputs: Sequence[Names], listed: Names | None, params: DedupParams) -> NameMatch:
    """Choose the parts to remove from the names of all inputs and of the micrograph table `listed`.

    A stripping is possible only if names stay distinct within each input and within the table. Of the possible
    strippings with the most matches, the first in the order of `STRIPPINGS` is used. The order of inputs does not
    matter.
    """
    sources = [*inputs, *([listed] if listed else [])]
    renamed = [_renamed(source, params) for source in sources]
    forms = [_Forms(names) for names in renamed]
    best: tuple[Stripping, _Overlap] | None = None
    refused: list[_Overlap] = []
    last: list[list[str]] = []
    for stripping in STRIPPINGS:
        bare = [each.of(stripping) for each in forms]
        if bare == last:  # nothing more was removed
            continue
        last = bare
        try:
            naming = Naming.of(params, "name", stripping)
        except InputError:  # two names of the map become equal
            continue
        namings = [naming.for_input(params, source.path) for source in sources]
        found = _overlap(sources, renamed, bare, namings, has_table=listed is not None)
        if found.clash:
            refused.append(found)
            continue
        if best is None or found[:2] > best[1][:2]:
            best = stripping, found
        if found.complete:
            break
    if best is None:  # for the error of the parameter `micrograph_map`
        return NameMatch()
    stripping, overlap = best
    more = [found for found in refused if found[:2] > overlap[:2]]
    return NameMatch(
        stripping,
        tuple(
            InputMatch(source.path, len(names), shared, in_table, _describe(names, stripping))
            for source, names, shared, in_table in zip(
                inputs, renamed, overlap.shared, overlap.in_table, strict=False
            )
        ),
        max(more, key=lambda found: found[:2]).clash if more else "",
        _differing_folders(inputs, forms, stripping) if stripping.folders else "",
    )


def _differing_folders(
    inputs: Sequence[Names], forms: Sequence[_Forms], stripping: Stripping
) -> str:
    """Describe the micrographs with pick files in different folders of two inputs. Other names are ignored.

    Two folders do not differ if one is above the other, or if programs use one of them for all micrographs.
    """
    first: dict[str, tuple[tuple[str, ...], str]] = {}
    found: list[tuple[str, str]] = []
    for source, each in zip(inputs, forms, strict=False):
        for bare, name, folder in zip(
            each.of(stripping), each.names, each.folders if source.of_files else (), strict=False
        ):
            parts = tuple(x for x in folder.split("/") if x and x.lower() not in _PLAIN_FOLDERS)
            if not parts:
                continue
            other, other_name = first.setdefault(bare, (parts, f"{name} of {source.path}"))
            shorter = min(len(parts), len(other))
            if parts[-shorter:] != other[-shorter:]:
                found.append((other_name, f"{name} of {source.path}"))
    if not found:
        return ""
    one, two = found[0]
    return f"{counted(len(found), 'micrograph')} (first: {one} and {two})"


def _renamed(source: Names, params: DedupParams) -> list[Name]:
    """Return the distinct names after the substitutions of the parameter `rename_micrographs`, sorted."""
    naming = Naming().for_input(params, source.path)
    names = {(naming.renamed(name), group) for name, group in source.names if not is_missing(name)}
    return sorted(names)


def _overlap(
    sources: Sequence[Names],
    renamed: Sequence[Sequence[Name]],
    forms: Sequence[Sequence[str]],
    namings: Sequence[Naming],
    *,
    has_table: bool,
) -> _Overlap:
    """Count the names that match in the given forms. `namings` contain the map of names in the same forms."""
    compared: list[set[Name]] = []
    clash, unlisted = "", 0
    for source, names, form, naming in zip(sources, renamed, forms, namings, strict=True):
        first: dict[Name, str] = {}
        known = {*naming.new_names, *naming.new_names.values()}
        for (name, group), bare in zip(names, form, strict=True):
            other = first.setdefault((bare, group), name)
            if other != name and not clash:
                clash = f"{other} and {name} of {source.path} would both be {bare}"
            unlisted += bool(known) and bare not in known
        compared.append({(naming.new_names.get(bare, bare), group) for bare, group in first})
    inputs = compared[:-1] if has_table else compared
    counts = Counter(name for names in inputs for name in names)
    several = len(inputs) > 1
    shared = [sum(counts[name] > 1 for name in names) if several else None for names in inputs]
    in_table: list[int | None] = [None] * len(inputs)
    if has_table:
        known_names = _of_table(compared[-1], grouped=sources[-1].grouped)
        in_table = [
            len(_of_table(names, grouped=sources[-1].grouped) & known_names) for names in inputs
        ]
    matched = sum(each or 0 for each in (*shared, *in_table))
    possible = sum(map(len, inputs)) * (several + has_table)
    return _Overlap(
        -unlisted,
        matched,
        tuple(shared),
        tuple(in_table),
        clash,
        complete=matched == possible and not unlisted,
    )


def _of_table(names: Iterable[Name], *, grouped: bool) -> set[Name]:
    """Return names without their groups if the micrograph table has no groups."""
    return {(name, group if grouped else "") for name, group in names}


def _describe(names: Sequence[Name], stripping: Stripping) -> str:
    """Describe the parts that a stripping removes from the names of an input."""
    fronts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for name, _ in names:
        _, front, end = stripping.split(name)
        fronts.update(front)
        ends.update([end] if end else [])
    shown = [end for end, _ in ends.most_common(_ENDINGS)]
    shown += [f"{counted(len(ends) - _ENDINGS, 'other ending')}"] if len(ends) > _ENDINGS else []
    return ", ".join([*sorted(fronts), *shown])


def match_warnings(found: NameMatch | None, params: DedupParams) -> list[str]:
    """Return warnings about names that are not distinct, and about names that match only without their folders."""
    lines = []
    if found and found.clash:
        lines.append(
            f"more micrographs would match by shorter names, but {found.clash}. So folders and endings "
            f"that keep them apart stay. Pass {parameter('rename_micrographs')} or "
            f"{parameter('micrograph_map')} if micrographs are not matched."
        )
    if found and found.folders and params.match_micrographs == "auto":
        lines.append(
            f"matched without their folders, which differ: {found.folders}. If these are different micrographs, "
            f"pass {parameter('match_micrographs', 'path')}, with {parameter('rename_micrographs')} if other "
            "names then differ."
        )
    return lines
