"""Parts of micrograph names that programs add: which there are, and a name without them.

Folders stand in front of a name, and so does a number by CryoSPARC. Endings stand behind it: file
types, and what motion correction, pickers and tomography programs append.
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
#: CryoSPARC prefixes the names of its files with 15 to 21 digits.
_NUMBER = re.compile(r"^\d{15,21}_")
_RECONSTRUCTION = "rec_"
_PICK_FILES = sorted(extension.removeprefix(".") for extension in EXTENSIONS)
#: Endings by the character that they begin with, and by kind. Some of the last kind may be part of a
#: real name. Each kind also covers those before it.
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
    # The set in front lets the search skip to these characters. The leftmost match wins, so
    # `_patch_aligned` goes as a whole.
    return re.compile(rf"[._:-](?:{'|'.join(ways)})\Z", re.IGNORECASE)


def take_off_front(name: str) -> tuple[str, str, list[str]]:
    """Split a name into folder and rest, without RELION's job folder and CryoSPARC's number.

    Also return which of the two there were, as ``folders`` and ``number``.
    """
    given = name.replace("\\", "/")
    inside = _JOB.sub("", given) if "/job" in given else given
    folder, _, base = inside.rpartition("/")
    rest = _NUMBER.sub("", base) or base
    return folder, rest, ["folders"] * (inside != given) + ["number"] * (rest != base)


def take_off_endings(bare: str, kind: str) -> str:
    """Return a name without folders and without its endings up to this kind. Something is always left."""
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
    """Which parts are taken off micrograph names.

    Attributes
    ----------
    endings : {"", "file types", "picks", "movies", "all"}
        With any, the folder of a RELION job and the number by CryoSPARC are taken off, too. With
        none, names stay as they are.
    folders : bool
        Whether all folders are taken off.
    """

    endings: str = ""
    folders: bool = False

    def __call__(self, name: str) -> str:
        """Return a name without these parts. Something is always left."""
        return self.split(name)[0]

    def split(self, name: str) -> tuple[str, list[str], str]:
        """Return a name without these parts, what was taken off its front, and what off its end.

        Examples
        --------
        >>> FULL.split("J7/imported/003942345678901234567_m1_DW.mrc")
        ('m1', ['folders', 'number'], '_DW.mrc')
        """
        if not self.endings:
            return name, [], ""
        folder, whole, removed = take_off_front(name)
        bare = whole
        for kind in KINDS[: KINDS.index(self.endings) + 1]:
            bare = take_off_endings(bare, kind)
        start = whole.find(bare)  # at the front but for `rec_`
        if self.folders and folder and "folders" not in removed:
            removed = ["folders", *removed]
        removed += [_RECONSTRUCTION] * (start > 0)
        return self.join(folder, bare), removed, whole[start + len(bare) :]

    def join(self, folder: str, bare: str) -> str:
        """Return a name made of its folder and the rest."""
        return f"{folder}/{bare}" if folder and not self.folders else bare

    def __str__(self) -> str:
        return f"{self.endings}{', folders' if self.folders else ''}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the stripping that `str` made the text of."""
        endings, _, folders = text.partition(", ")
        return cls(endings, bool(folders))


#: From the one that takes off least to the one that takes off most.
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
