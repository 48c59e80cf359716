"""The result of `inspect`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from dask_dedup.formatting import counted, html_table
from dask_dedup.inspection import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_dedup.inspection.contents import InspectedInput, Neighbourhood, Pair
    from dask_dedup.inspection.separation import InspectedSample, SeparationAdvice


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """The result of `inspect`.

    Attributes
    ----------
    inputs : tuple of InspectedInput
    pairs : tuple of Pair
        Matches between inputs. Empty if the inputs cannot be compared.
    together : Neighbourhood or None
        Distances between the picks of all inputs, after the advised flips.
    flips : tuple of int
        Ordinals of the inputs to flip because their y axis runs the other way.
    measured : dict of str to int
        Number of ``picks`` and ``micrographs`` in the sample, and of all micrographs (``of_micrographs``).
    separation : SeparationAdvice
        The recommended separation, and the number of kept picks at other separations.
    problems : tuple of str
        Errors that `run` would raise with the same parameters.
    warnings : tuple of str
    advice : tuple of str
    sample : InspectedSample
        Sample for a report page. Not in `to_dict`.
    """

    inputs: tuple[InspectedInput, ...]
    pairs: tuple[Pair, ...]
    together: Neighbourhood | None
    flips: tuple[int, ...]
    measured: dict[str, int]
    separation: SeparationAdvice
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    advice: tuple[str, ...]
    sample: InspectedSample = field(compare=False)

    def to_dict(self, spelled: Callable[[str], str] = str) -> dict[str, Any]:
        """Return the results as JSON values. Unknown numbers are None.

        Parameters
        ----------
        spelled : callable, optional
            Function that replaces parameter names in a message, for example by command-line flags.
        """
        names = [each.name for each in fields(self) if each.name != "sample"]
        values = {name: _plain(getattr(self, name), spelled) for name in names}
        separation = values.pop("separation")
        values["recommended_separation"] = separation.pop("recommended")
        values["kept_at"] = separation.pop("kept_at")
        return values | {"separation": separation}

    @property
    def recommended_separation(self) -> float | None:
        """The recommended separation in angstrom. None without a gap, without duplicates or without a pixel size."""
        return self.separation.recommended

    def lines(self, spelled: Callable[[str], str] = str, *, verbose: bool = True) -> list[str]:
        """Return the results as lines of at most 100 characters. For `spelled`, see `to_dict`.

        The first lines are a summary. Columns, distances and pairs of inputs are shown if `verbose`.
        """
        messages = self._messages()
        # The summary has the advice on the separation.
        shown = [each for each in self.advice if each != self.separation.reason]
        return text.describe(
            self.inputs,
            self.pairs,
            self.together,
            self.measured,
            self.separation,
            messages | {"advice": tuple(shown)},
            spelled,
            verbose=verbose,
        )

    def __repr__(self) -> str:
        rows = sum(entry.rows for entry in self.inputs)
        return (
            f"<Inspection: {counted(len(self.inputs), 'input')}, {counted(rows, 'particle')}, "
            f"{counted(len(self.problems), 'problem')}, {counted(len(self.warnings), 'warning')}>"
        )

    def _repr_html_(self) -> str:
        rows = {entry.path: counted(entry.rows, "particle") for entry in self.inputs}
        messages = {title: "; ".join(each) for title, each in self._messages().items()}
        return html_table("Inspection", rows | messages)

    def _messages(self) -> dict[str, tuple[str, ...]]:
        return {
            "problems (run refuses these inputs)": self.problems,
            "warnings": self.warnings,
            "advice": self.advice,
        }


def _plain(value: Any, spelled: Callable[[str], str]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {
            f"{key:g}" if isinstance(key, float) else str(key): _plain(part, spelled)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(part, spelled) for part in value]
    if isinstance(value, str):
        return spelled(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
