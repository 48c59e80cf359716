"""The data of a report: the manifest, the contents, and values derived from both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.formatting import printable
from dask_dedup.particles.micrographs.stripping import bare_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.separation import SeparationAnalysis
    from dask_dedup.particles.report_contents import ReportContents
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.verify import Verification

#: Number of pickers with a colour. The others are grey.
COLOURS = 4
#: Maximum number of characters in the name of a picker or a micrograph.
_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Picker:
    """One or more inputs that are shown in one colour.

    Attributes
    ----------
    number : int
        Position among the pickers.
    name : str
    sources : tuple of int
        Ordinals of the inputs.
    paths : tuple of str
    """

    number: int
    name: str
    sources: tuple[int, ...]
    paths: tuple[str, ...]

    @property
    def colour(self) -> str:
        """CSS class of the colour."""
        return f"c{self.number}" if self.number < COLOURS else "cg"


@dataclass(frozen=True)
class Subject:
    """The data for the sections of a report.

    Attributes
    ----------
    run : FinishedRun
        Only its manifest is read.
    contents : ReportContents
    analysis : SeparationAnalysis or None
        Outcomes of the sampled picks at other separations. None if no distances were measured.
    verification : Verification or None
    is_planned : bool
        Whether the page is about a planned run. Nothing was written then.
    """

    run: FinishedRun
    contents: ReportContents
    analysis: SeparationAnalysis | None = None
    verification: Verification | None = None
    is_planned: bool = False

    @property
    def were(self) -> str:
        """The verb for the outcome of picks: "were" or "would be"."""
        return "would be" if self.is_planned else "were"

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the run."""
        return self.run.manifest

    @property
    def params(self) -> DedupParams:
        """The parameters of the run."""
        return self.run.params

    @cached_property
    def pickers(self) -> list[Picker]:
        """The pickers, in the order of their first inputs."""
        entries = self.manifest["inputs"]
        sources: dict[str, list[int]] = {}
        for source, entry in enumerate(entries):
            sources.setdefault(entry["picker"], []).append(source)
        return [
            Picker(n, printable(name, _LENGTH), tuple(s), tuple(entries[i]["path"] for i in s))
            for n, (name, s) in enumerate(sources.items())
        ]

    @cached_property
    def picker_of_source(self) -> NDArray[np.int64]:
        """Number of the picker of each input, (i,)."""
        found = np.zeros(len(self.manifest["inputs"]), dtype=np.int64)
        for picker in self.pickers:
            found[list(picker.sources)] = picker.number
        return found

    @cached_property
    def picker(self) -> NDArray[np.int64]:
        """Number of the picker of each pick of the sample, (n,)."""
        return np.asarray(self.picker_of_source[self.contents.sample.source])

    @cached_property
    def rejected_by_winner(self) -> NDArray[np.int64]:
        """Number of rejected rows by their picker and the picker of their winner, (p, p)."""
        found = np.zeros((len(self.pickers), len(self.pickers)), dtype=np.int64)
        at = np.ix_(self.picker_of_source, self.picker_of_source)
        np.add.at(found, at, self.contents.rejected_by_winner)
        return found

    @property
    def has_uids(self) -> bool:
        """Whether all inputs have uids."""
        return all(entry["columns"]["uid"] for entry in self.manifest["inputs"])

    @cached_property
    def winner(self) -> NDArray[np.intp]:
        """Row number of the winner of each pick of the sample, (n,); -1 without a winner."""
        return self.contents.sample.winners()

    @cached_property
    def micrograph(self) -> NDArray[np.intp]:
        """For each pick of the sample, the row number of its micrograph in ``contents.choice``, (n,)."""
        return self.contents.choice.find(self.contents.sample.micrograph)

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """Positions at which the picks of the sample are drawn: x and y in `unit`, (n, 2)."""
        sample = self.contents.sample
        positions = np.column_stack([sample.x, sample.y])
        return positions * self._sizes if self._in_fractions else positions

    @cached_property
    def _units(self) -> set[str]:
        return {entry["position_unit"] for entry in self.manifest["inputs"]}

    @cached_property
    def _in_fractions(self) -> bool:
        """Whether centres are fractions of micrographs, and the micrographs' sizes in pixels are known."""
        fractions = self._units == {"fraction"} and not self.params.measures
        return fractions and bool(np.isfinite(self._sizes).all())

    @cached_property
    def _sizes(self) -> NDArray[np.float64]:
        """Width and height of the micrograph of each pick of the sample, (n, 2)."""
        sampled = self.contents.sampled
        at = np.searchsorted(sampled.key, self.contents.sample.micrograph)
        return np.column_stack([sampled.width, sampled.height])[at]

    @cached_property
    def is_tomogram(self) -> bool:
        """Whether picks have three coordinates."""
        return bool(self.contents.sample.z.any())

    @property
    def sampled_from(self) -> str:
        """A sentence on the number of micrographs in the sample. Empty if the sample has all picks."""
        choice = self.contents.choice
        number, all_of_them = choice.keys.size, self.contents.micrographs.size
        if number == all_of_them:
            return "" if choice.whole.all() else "This is from a part of the picks."
        return f"This is from {number:,} of {all_of_them:,} {self.image_kind}s."

    @property
    def measured_from(self) -> str:
        """A sentence on the number of whole micrographs in the sample. Empty if the sample has all picks."""
        contents = self.contents
        if contents.choice.whole.all():
            return self.sampled_from
        number, all_of_them = np.count_nonzero(contents.choice.whole), contents.micrographs.size
        return (
            f"This is from {number:,} of {all_of_them:,} {self.image_kind}s. If only a window of a {self.image_kind} "
            f"is in the sample, because it has very many {self.noun}s, the {self.image_kind} is left out."
        )

    @cached_property
    def noun(self) -> str:
        """The word for a row: "pick" or "particle"."""
        columns = [entry["columns"] for entry in self.manifest["inputs"]]
        aligned = any(each["shift"] or each["half_set"] for each in columns)
        return "particle" if aligned and len(self.pickers) == 1 else "pick"

    @property
    def image_kind(self) -> str:
        """The word for the image with the picks: "micrograph" or "tomogram"."""
        return "tomogram" if self.is_tomogram else "micrograph"

    @cached_property
    def unit(self) -> str:
        """Unit of the centres: Å, px, or empty."""
        if self.params.measures:
            return "Å"
        if self._in_fractions or self._units in ({"pixel"}, {"binned pixel"}):
            return "px"
        return "Å" if self._units == {"angstrom"} else ""

    @property
    def draws_circles(self) -> bool:
        """Whether circles as wide as the separation can be drawn."""
        return self.params.measures and not self.run.no_distances_because

    @property
    def has_winners(self) -> bool:
        """Whether each duplicate has a winner."""
        return not self.params.remove_entirely

    @property
    def separation(self) -> float:
        """The separation in angstrom, or 0 if the run measured no distances."""
        return self.params.min_separation if self.params.measures else 0.0

    @property
    def votes(self) -> dict[str, Any] | None:
        """The counts of votes in the manifest, or None if votes were not counted."""
        votes: dict[str, Any] | None = self.manifest["totals"]["votes"]
        return votes

    @property
    def vote_distance(self) -> float:
        """The largest distance of a vote in angstrom, or 0 if the run measured no distances."""
        given = self.params.vote_distance
        return self.separation if given is None else given

    @property
    def outvoted(self) -> int:
        """Number of rows that were rejected for their votes."""
        return int(self.manifest["totals"]["outvoted"])

    @property
    def duplicates(self) -> int:
        """Number of rows that were rejected as duplicates."""
        totals = self.manifest["totals"]
        invalid = totals["invalid"] if self.params.invalid == "reject" else 0
        return int(totals["rejected"] - invalid - totals["low_score"] - totals["outvoted"])

    @cached_property
    def short_names(self) -> list[str]:
        """The names of the sampled micrographs without their common beginning, in the order of ``choice``."""
        full = [self.contents.name_of(key) for key in self.contents.choice.keys.tolist()]
        bare = [bare_name(name) for name in full]
        return shorten(bare if len(set(bare)) == len(set(full)) else full)


def shorten(names: list[str]) -> list[str]:
    """Leave out the beginning that all names share, up to a hyphen, a slash or a blank.

    Examples
    --------
    >>> shorten(["Falcon_2012_06-15_53_09", "Falcon_2012_06-14_33_35"])
    ['15_53_09', '14_33_35']
    >>> shorten(["grid"])
    ['grid']
    """
    shared = 0
    if len(set(names)) > 1:
        first, last = min(names), max(names)
        while shared < min(len(first), len(last)) and first[shared] == last[shared]:
            shared += 1
        shared = max(first.rfind(mark, 0, shared) for mark in "-/ ") + 1
    return [printable(name[shared:], _LENGTH) for name in names]
