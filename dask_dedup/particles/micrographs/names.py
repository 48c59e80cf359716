"""Micrograph names: test for missing names, and the form in which names are compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from dask_dedup.dedup.renaming import parse_rename
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter
from dask_dedup.particles.micrographs.stripping import FULL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.particles.micrographs.stripping import Stripping

#: Texts that programs write for a missing name or value, because STAR files have no nulls.
_MISSING = frozenset({"", "None", "none", "null", "NULL", "<NA>", "nan", "NaN"})


def is_missing(text: str) -> bool:
    """Return whether a text means a missing value, such as ``None``, ``null``, ``<NA>`` or an empty text."""
    return text.strip() in _MISSING


def hash_texts(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Hash texts to 64-bit integers. The hashes are the same on every machine."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


@dataclass(frozen=True, slots=True)
class Naming:
    """The form in which the micrograph names of one input are compared.

    Attributes
    ----------
    match : {"uid", "path", "name"}
        Compare uids, stored names, or bare names.
    renames : tuple of str
        Substitutions in stored names, from the parameter `rename_micrographs`.
    new_names : mapping of str to str
        Old and new names from the parameter `micrograph_map`, both in the compared form.
    stripping : Stripping
        Parts removed to make bare names.
    """

    match: str = "path"
    renames: tuple[str, ...] = ()
    new_names: Mapping[str, str] = field(default_factory=dict)
    stripping: Stripping = FULL

    @classmethod
    def of(cls, params: DedupParams, match: str, stripping: Stripping = FULL) -> Self:
        """Make the naming for inputs without substitutions from the parameters."""
        form = cls(match, stripping=stripping).bare
        pairs = params.names_of_micrographs.pairs
        new_names: dict[str, str] = {}
        for old, new in pairs:
            if new_names.setdefault(form(old), form(new)) != form(new):
                raise InputError(
                    f"{parameter('micrograph_map')}: two names have the bare name {form(old)}, but "
                    f"different new names ({new_names[form(old)]} and {form(new)}). Pass "
                    f"{parameter('match_micrographs', 'path')}."
                )
        return cls(match, new_names=new_names, stripping=stripping)

    def for_input(self, params: DedupParams, path: str) -> Self:
        """Return this naming with the substitutions of the input (or micrograph table) `path`.

        All inputs share one `new_names`, because it may have millions of names.
        """
        return replace(self, renames=params.renames_of(path))

    def renamed(self, name: str) -> str:
        """Return a stored name after all substitutions."""
        for rename in self.renames:
            name = parse_rename(rename)(name)
        return name

    def bare(self, name: str) -> str:
        """Return a stored name after all substitutions, as a bare name if bare names are compared."""
        name = self.renamed(name)
        return self.stripping(name) if self.match == "name" else name

    def compared(self, name: str) -> str:
        """Return a stored name in the compared form."""
        name = self.bare(name)
        return self.new_names.get(name, name)

    def keys(self, names: Iterable[str]) -> NDArray[np.uint64]:
        """Return the 64-bit key of each stored name: the hash of the name that `compared` returns."""
        return hash_texts(map(self.compared, names))


class MicrographName(NamedTuple):
    """Stored name of a micrograph, with its key and its group, such as ``session=A``.

    The name is empty if micrographs are matched by uid. Then there may be a path.
    """

    key: int
    name: str
    group: str = ""
    path: str = ""

    def __str__(self) -> str:
        return self._with_group(self.name)

    @property
    def shown(self) -> str:
        """The name (or the path, if micrographs are matched by uid) with the group, for display."""
        return self._with_group(self.name or self.path)

    def _with_group(self, name: str) -> str:
        name = name or f"uid {self.key}"
        return f"{name} ({self.group})" if self.group else name
