"""Parts of micrograph names that programs add: which there are, and a name without them.

Folders stand in front of a name, and so does a number by CryoSPARC. Endings stand behind it: file
types, and what motion correction, pickers and tomography programs append.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

#: The folder of a RELION job, and folders above it.
_JOB = re.compile(r"^(?:.*/)?[A-Za-z]\w*/job\d{3,}/")
#: CryoSPARC prefixes the names of its files with 15 to 21 digits.
_NUMBER = re.compile(r"^\d{15,21}_")
_RECONSTRUCTION = "rec_"
_TYPES = (
    r"\.(?:mrcs?|tiff?|eer|rec|st|ali|tomostar|star|box|cbox|txt|csv|tsv|json|coords|gz|bz2)"
    r"|:mrcs?"
)
_PICKS = (
    r"_(?:autopick|manualpick|topazpicks?|topaz_picks|automatch|info|particles|picks|train|combined"
    r"|extract|blob_pick)"
)
_MOVIES = (
    r"_(?:patch|rigid|full|local)_aligned|_aligned(?:_mic)?|_doseweighted|_background|_denoised"
    r"|_dw|_nodw|-a-dw|[._]frames|_fractions|_movie|_eer"
)
#: Some of these may be part of a real name.
_OTHERS = r"_\d+\.\d+Apx.*|_bin\d+|_half[12]|_vol|_rec|_ali|_mic|_sum"
#: Kinds of endings. Each also covers those before it.
_KINDS = ("file types", "picks", "movies", "all")


@lru_cache(maxsize=len(_KINDS))
def _endings(kind: str) -> re.Pattern[str]:
    parts = (_TYPES, _PICKS, _MOVIES, _OTHERS)[: _KINDS.index(kind) + 1]
    # The leftmost match wins, so `_patch_aligned` goes as a whole.
    return re.compile(rf"(?:{'|'.join(parts)})\Z", re.IGNORECASE)


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
        given = name.replace("\\", "/")
        inside = _JOB.sub("", given)
        folder, _, base = inside.rpartition("/")
        whole = bare = _NUMBER.sub("", base)
        pattern, start = _endings(self.endings), 0
        while True:
            shorter = pattern.sub("", bare)
            if self.endings == _KINDS[-1] and shorter.startswith(_RECONSTRUCTION):
                shorter = shorter.removeprefix(_RECONSTRUCTION)
                start += len(_RECONSTRUCTION) if shorter else 0
            if shorter in (bare, ""):
                break
            bare = shorter
        removed = ["folders"] * (inside != given or (self.folders and bool(folder)))
        removed += ["number"] * (whole != base) + [_RECONSTRUCTION] * (start > 0)
        result = f"{folder}/{bare}" if folder and not self.folders else bare
        return result, removed, whole[start + len(bare) :]

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
    *(Stripping(kind) for kind in _KINDS),
    *(Stripping(kind, folders=True) for kind in _KINDS),
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
