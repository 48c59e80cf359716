"""The section on the settings of the run: first the changed settings, then all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from dask_dedup.dedup.params import DedupParams
from dask_dedup.results.command import RUN_DEFAULTS, as_flag

if TYPE_CHECKING:
    from dask_dedup.results.report.subject import Subject

#: The meaning of each parameter, for a run on picks.
_MEANINGS = {
    "min_separation": "picks at most this far apart are one particle",
    "columns": "columns with positions and scores",
    "micrograph_pixel_size": "Å per pixel of the micrographs",
    "coordinate_pixel_size": "Å per pixel of the coordinates, in place of the values in the tables",
    "particle_pixel_size": "Å per pixel of the particle images, for shifts",
    "shift_key": "alignment shifts that move the centres",
    "score_field": "decides which pick of a group is kept",
    "min_score": "picks with a worse score are rejected beforehand",
    "score_scale": "scores as stored, or ranks by score within a table and micrograph",
    "votes": "count the pickers that found each particle",
    "min_votes": "keep particles that at least this many pickers found",
    "found_by": "keep particles that these pickers found",
    "not_found_by": "keep particles that these pickers did not find",
    "vote_distance": "largest distance from a pick to the particle it votes for",
    "relax_unseen": "if fewer pickers have picks on a micrograph, the votes of all these are enough",
    "remove_entirely": "reject every pick that has a duplicate",
    "seed": "chooses between equal scores",
    "prefer_input_order": "picks of the table listed first are kept, whatever their scores",
    "between_inputs_only": "picks of one table are never duplicates of each other",
    "ignore_within_filament": "picks of one filament are never duplicates of each other",
    "undo_symmetry_expansion": "symmetry copies of one particle are duplicates",
    "match_micrographs": "method to match the micrographs of several tables",
    "rename_micrographs": "changes to micrograph names before the matching",
    "micrograph_map": "old and new names of micrographs",
    "group_by": "columns that distinguish micrographs with the same name",
    "flip_y": "tables with an inverted y axis",
    "micrograph_height": "pixels of a micrograph along y, to invert the y axis",
    "invalid": "treatment of rows without a position or micrograph",
    "micrographs": "table of pixel sizes and shapes",
    "output_format": "format of the tables written",
    "compression": "compression of the Parquet files written",
    "duplicates_only": "list the duplicates, but write no particles",
}


class Setting(NamedTuple):
    """One line of the table of settings."""

    flag: str
    value: str
    meaning: str
    is_default: bool


def settings(subject: Subject) -> dict[str, Any]:
    """Return the settings that were changed, and all settings."""
    manifest = subject.manifest
    others = {name: default for name, default in RUN_DEFAULTS.items() if name in _MEANINGS}
    defaults = {**DedupParams().to_dict(), **others}
    given = {
        **manifest["parameters"],
        **{name: manifest.get(name, default) for name, default in others.items()},
    }
    inputs = [entry["path"] for entry in manifest["inputs"]]
    every = [
        Setting(
            as_flag(name),
            _show(name, value, inputs),
            re.sub(r"\bpick(?=s?\b)", subject.noun, _MEANINGS.get(name, "")),
            value == defaults.get(name),
        )
        for name, value in given.items()
    ]
    changed = [each for each in every if not each.is_default]
    first = next(each for each in every if each.flag == as_flag("min_separation"))
    if first.is_default and subject.params.measures:
        changed.insert(0, first)
    return {"changed": changed, "all": every}


def _show(name: str, value: Any, inputs: list[str]) -> str:
    if name == "micrograph_map":
        return str(value["path"]) if value and value["path"] else "not set"
    if value is None or value == [] or value == "":
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in ("min_separation", "vote_distance"):
        return f"{value:g} Å"
    if name == "flip_y":
        return ", ".join(inputs[number] for number in value)
    if isinstance(value, list):
        return "; ".join(_pair(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pair(each: Any) -> str:
    if not isinstance(each, list):
        return str(each)
    path, value = each
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{path}: {shown}" if path else shown
