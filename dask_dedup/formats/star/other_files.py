"""Recognise STAR files of RELION that hold no particles, and name the file to pass instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.formats.star.blocks import Layout

#: Labels outside a loop that name the file with the particles.
_NAMING = {
    "rlnTomoParticlesFile": "an optimisation set",
    "rlnExperimentalDataStarFile": "an optimiser file",
}
#: Blocks of files without particles.
_BLOCKS = {
    "joboptions_values": "the settings of a RELION job. Pass the particles.star of the job.",
    "pipeline_processes": "RELION's list of jobs. Pass the particles.star of one of them.",
    "model_classes": "a model file. Pass the file of the same job and iteration that ends in _data.star.",
    "sampling_general": "a sampling file. Pass the file of the same job and iteration that ends in _data.star.",
}
#: RELION's file with one line, which names micrographs.
_COORDS_SUFFIX = "coords_suffix_"


def describe_other_file(path: Path, layout: Layout) -> str | None:
    """Return a message about a STAR file that is known to hold no particles, or None."""
    for items in layout.items.values():
        for label, kind in _NAMING.items():
            name = items.get(label, b"").strip(b"'\"").decode(errors="replace")
            if name:
                return f"{path}: {kind}. Pass the file that it names: {name}"
    blocks = {*layout.items, *(loop.block for loop in layout.loops)}
    found = next((text for block, text in _BLOCKS.items() if block in blocks), None)
    return found and f"{path}: {found}"


def describe_coords_suffix(path: Path) -> str | None:
    """Return a message if the file is RELION's ``coords_suffix_*.star``, which is no STAR file, or None."""
    if not path.name.startswith(_COORDS_SUFFIX):
        return None
    suffix = path.name.removeprefix(_COORDS_SUFFIX)
    return f"{path}: names the micrographs of a job, not its picks. Pass the job's files that end in _{suffix}."
