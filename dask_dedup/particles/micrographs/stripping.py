"""Removal of the parts that programs add to micrograph names.

Folders and CryoSPARC's number are at the front of a name. Endings are at its end: file types, and the endings of motion
correction, pickers and tomography programs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from dask_dedup.formats.coordinates.programs import EXTENSIONS
from dask_dedup.formats.pick_suffixes import PICK_SUFFIXES

#: The folder of a RELION job, and folders above it.
_JOB = re.compile(r"^(?:.*/)?[A-Za-z]\w*/job\d{3,}/")
#: CryoSPARC's number: 15 to 21 digits before the name of a file.
_NUMBER = re.compile(r"^\d{15,21}_")
_RECONSTRUCTION = "rec_"
_PICK_FILES = sorted(extension.removeprefix(".") for extension in EXTENSIONS)
#: Endings by kind. Removal of a kind also removes the kinds before it. Some endings of the last kind may be part of a
#: real name.
_ENDINGS = {
    "file types": {
        ".": "mrcs?|tiff?|eer|rec|st|ali|tomostar|gz|bz2|" + "|".join(_PICK_FILES),
        ":": "mrcs?",
    },
    "picks": {
        "_": PICK_SUFFIXES,
    },
    "movies": {
        "_": "(?:patch|rigid|full|local)_aligned|aligned(?:_mic)?|doseweighted|background|denoised"
        "|dw|nodw|frames|fractions|movie|eer",
        ".": "frames",
        "-": "a-dw",
    },
    "all": {"_": r"\d+\.\d+Apx.*|bin\d+|half[12]|vol|rec|ali|mic|sum"},
}
KINDS = tuple(_ENDINGS)


@lru_cache(maxsize=len(KINDS))
def _endings(kind: str) -> re.Pattern[str]:
    ways = [
        f"(?<={re.escape(first)})(?:{endings})"
        for each in KINDS[: KINDS.index(kind) + 1]
        for first, endings in _ENDINGS[each].items()
    ]
    # The search skips to the characters in front. The leftmost match is used, so `_patch_aligned` is one ending.
    return re.compile(rf"[._:-](?:{'|'.join(ways)})\Z", re.IGNORECASE)


def remove_front(name: str) -> tuple[str, str, list[str]]:
    """Split a name into folder and rest, without RELION's job folder and CryoSPARC's number.

    Also return a list of the removed parts: ``folders`` and ``number``.
    """
    given = name.replace("\\", "/")
    inside = _JOB.sub("", given) if "/job" in given else given
    folder, _, base = inside.rpartition("/")
    rest = _NUMBER.sub("", base) or base
    return folder, rest, ["folders"] * (inside != given) + ["number"] * (rest != base)


def remove_endings(bare: str, kind: str) -> str:
    """Remove the endings up to this kind from a name without folders. The result is never empty."""
    find = _endings(kind).search
    while True:
        ending = find(bare)
        shorter = bare[: ending.start()] if ending else bare
        if kind == KINDS[-1]:
            shorter = shorter.removeprefix(_RECONSTRUCTION)
        if shorter in (bare, ""):
            return bare
        bare = shorter


@dataclass(frozen=True, slots=True)
class Stripping:
    """The parts to remove from micrograph names.

    Attributes
    ----------
    endings : {"", "file types", "picks", "movies", "all"}
        Kind of endings to remove. Any kind also removes the folder of a RELION job and CryoSPARC's number. With "",
        names stay unchanged.
    folders : bool
        Whether to remove all folders.
    """

    endings: str = ""
    folders: bool = False

    def __call__(self, name: str) -> str:
        """Return a name without these parts. The result is never empty."""
        return self.split(name)[0]

    def split(self, name: str) -> tuple[str, list[str], str]:
        """Return a name without these parts, the kinds of parts removed from its front, and the removed ending.

        Examples
        --------
        >>> FULL.split("J7/imported/003942345678901234567_m1_DW.mrc")
        ('m1', ['folders', 'number'], '_DW.mrc')
        """
        if not self.endings:
            return name, [], ""
        folder, whole, removed = remove_front(name)
        bare = whole
        for kind in KINDS[: KINDS.index(self.endings) + 1]:
            bare = remove_endings(bare, kind)
        start = whole.find(bare)  # 0, except after `rec_`
        if self.folders and folder and "folders" not in removed:
            removed = ["folders", *removed]
        removed += [_RECONSTRUCTION] * (start > 0)
        return self.join(folder, bare), removed, whole[start + len(bare) :]

    def join(self, folder: str, bare: str) -> str:
        """Join the folder and the rest of a name."""
        return f"{folder}/{bare}" if folder and not self.folders else bare

    def __str__(self) -> str:
        return f"{self.endings}{', folders' if self.folders else ''}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Restore a stripping from the result of `str`."""
        endings, _, folders = text.partition(", ")
        return cls(endings, bool(folders))


#: All strippings, ordered by how much they remove.
STRIPPINGS = (
    Stripping(),
    *(Stripping(kind) for kind in KINDS),
    *(Stripping(kind, folders=True) for kind in KINDS),
)
FULL = STRIPPINGS[-1]


def bare_name(name: str) -> str:
    """Return a micrograph name without all parts that programs add.

    Examples
    --------
    >>> bare_name("J7/motioncorrected/003942345678901234567_Grid1_0042_patch_aligned_doseweighted.mrc")
    'Grid1_0042'
    >>> bare_name("MotionCorr/job002/Movies/Grid1_0042_fractions.mrc")
    'Grid1_0042'
    >>> bare_name("reconstruction/rec_TS_1_10.00Apx.mrc")
    'TS_1'
    """
    return FULL(name)
