"""Which column plays which part, in the column conventions of CryoSPARC and RELION."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.micrographs import MicrographTable
    from dask_dedup.params import DedupParams, ScoreField

_CRYOSPARC_POSITION = ("location/center_x_frac", "location/center_y_frac")
_RELION_PIXELS = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
_RELION_ANGSTROM = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
_RELION_SHIFT_ANGSTROM = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_RELION_SHIFT_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
_SUBTOMOGRAM = tuple(f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi"))

#: RELION columns that hold the particle's own pixel size, the unit of ``rlnOriginX`` in RELION 3.0.
_RELION_PARTICLE_PSIZE = ("rlnImagePixelSize", "rlnPixelSize")

#: Columns a user may rank by, and which way is better there.
_OTHER_SCORES = {
    "alignments3D/cross_cor": "higher",
    "alignments2D/class_posterior": "higher",
    "alignments2D/class_ess": "lower",
    "rlnMaxValueProbDistribution": "higher",
    "rlnLogLikeliContribution": "higher",
    "rlnLCCmax": "higher",
    "rlnNrOfSignificantSamples": "lower",
    "rlnParticleSelectZScore": "lower",
}


@dataclass(frozen=True, slots=True)
class Roles:
    """The columns of one input, by the part they play.

    Attributes
    ----------
    convention : {"cryosparc", "relion"}
    micrograph : str
        The column that tells micrographs (tomograms) apart.
    position : tuple of str
        x, y and, for tomograms, z.
    unit : {"fraction", "pixel", "angstrom"}
        Of `position`.
    shape : str or None
        Micrograph shape (ny, nx), to turn fractions into pixels.
    psize_mic : str or None
        The table's own micrograph pixel size.
    shift : tuple of str
        One vector column, or one column an axis; empty where no shift is applied.
    psize_shift : str or None
        Pixel size of the shift; None for shifts in angstrom.
    subtomogram : tuple of str
        Angles of the frame the shift is given in; empty if none.
    score, uid, half : str or None
    """

    convention: str
    micrograph: str
    position: tuple[str, ...]
    unit: str
    shape: str | None = None
    psize_mic: str | None = None
    shift: tuple[str, ...] = ()
    psize_shift: str | None = None
    subtomogram: tuple[str, ...] = ()
    score: str | None = None
    uid: str | None = None
    half: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that have to be read, each once."""
        single = (self.micrograph, self.shape, self.psize_mic, self.psize_shift)
        named = (*single, self.score, self.uid, self.half)
        every = (*named, *self.position, *self.shift, *self.subtomogram)
        return tuple(dict.fromkeys(name for name in every if name is not None))

    @property
    def shift_name(self) -> str:
        """The applied shift in words."""
        return " ".join(self.shift) if self.shift else "none"


def resolve_roles(columns: Sequence[str], params: DedupParams, table: str) -> Roles:
    """Find the convention of a table and the column for each part.

    Parameters
    ----------
    columns : sequence of str
        The table's column names.
    params : DedupParams
    table : str
        The table's name, for messages.

    Raises
    ------
    InputError
        If a part has no column, or the table follows both conventions.
    """
    present = set(columns)
    cryosparc = set(_CRYOSPARC_POSITION) <= present
    relion = set(_RELION_PIXELS[:2]) <= present or set(_RELION_ANGSTROM) <= present
    if cryosparc and relion:
        raise InputError(
            f"{table}: has both {_CRYOSPARC_POSITION[0]} and RELION coordinates; "
            "drop one set of columns so that the positions are not ambiguous"
        )
    if cryosparc:
        return _cryosparc(present, params, table)
    if relion:
        return _relion(present, params, table)
    partial = sorted(
        name
        for name in present
        if name in (*_CRYOSPARC_POSITION, *_RELION_PIXELS, *_RELION_ANGSTROM)
    )
    found = f" (found only {', '.join(partial)})" if partial else ""
    raise InputError(
        f"{table}: no particle positions{found}; it needs the columns location/center_x_frac and "
        "location/center_y_frac (CryoSPARC), or rlnCoordinateX and rlnCoordinateY (RELION)"
    )


def name_micrographs_alike(
    roles: Sequence[Roles], tables: Sequence[tuple[str, Sequence[str]]]
) -> list[Roles]:
    """Let all inputs name their micrographs the same way: all by uid, or all by path.

    Parameters
    ----------
    roles : sequence of Roles
        One an input.
    tables : sequence of (str, sequence of str)
        Each input's name and column names.

    Raises
    ------
    InputError
        If some have only uids and others only paths.
    """
    uid, path = "location/micrograph_uid", "location/micrograph_path"
    if len({role.micrograph == uid for role in roles}) == 1:
        return list(roles)
    for role, (table, columns) in zip(roles, tables, strict=True):
        if role.micrograph == uid and path not in columns:
            others = ", ".join(sorted({role.micrograph for role in roles} - {uid}))
            raise InputError(
                f"{table}: names micrographs by {uid} only, the other inputs by {others}; "
                f"add {path}, so that the same micrograph can be recognised in all"
            )
    return [replace(role, micrograph=path) if role.micrograph == uid else role for role in roles]


def needs_pixel_size(roles: Roles, params: DedupParams) -> bool:
    """Tell whether the micrograph pixel size matters.

    Coordinates in angstrom need none; at separation 0 without a shift the stored coordinates are
    compared as they are.
    """
    if roles.unit == "angstrom":
        return False
    return params.min_separation > 0 or bool(roles.shift)


_PSIZE_COLUMN = {"cryosparc": "location/micrograph_psize_A", "relion": "rlnMicrographPixelSize"}


def check_pixel_size(
    roles: Roles, params: DedupParams, micrographs: MicrographTable | None, table: str
) -> None:
    """Refuse a table whose micrograph pixel size or shape is needed and nowhere to be had.

    Raises
    ------
    InputError
        Names the ways out.
    """
    if not needs_pixel_size(roles, params):
        return
    if not roles.psize_mic and micrographs is None and params.micrograph_pixel_size is None:
        raise InputError(
            f"{table}: no micrograph pixel size; give --micrographs TABLE, add the column "
            f"{_PSIZE_COLUMN[roles.convention]}, or give --micrograph-pixel-size"
        )
    if roles.unit != "fraction" or roles.shape:
        return
    if micrographs is None or micrographs.shape is None:
        raise InputError(
            f"{table}: no micrograph shape; add the column location/micrograph_shape, or give "
            "--micrographs TABLE with micrograph_blob/shape"
        )


def _cryosparc(present: set[str], params: DedupParams, table: str) -> Roles:
    micrograph = _first(present, "location/micrograph_uid", "location/micrograph_path")
    if micrograph is None:
        raise InputError(
            f"{table}: no micrograph column; it needs location/micrograph_uid or "
            "location/micrograph_path"
        )
    group = _alignment_group(present, params, table)
    shift = f"{group}/shift" if group else None
    if shift and f"{group}/psize_A" not in present:
        raise InputError(
            f"{table}: {shift} is in pixels of {group}/psize_A, which is missing; "
            "add that column or use --shift-key none"
        )
    half = _first(present, f"{group}/split", "alignments3D/split", "alignments2D/split")
    return Roles(
        convention="cryosparc",
        micrograph=micrograph,
        position=_CRYOSPARC_POSITION,
        unit="fraction",
        shape=_first(present, "location/micrograph_shape"),
        psize_mic=_first(present, "location/micrograph_psize_A"),
        shift=(shift,) if shift else (),
        psize_shift=f"{group}/psize_A" if group else None,
        score=_cryosparc_score(present, params, group, table),
        uid=_first(present, "uid"),
        half=half,
    )


def _alignment_group(present: set[str], params: DedupParams, table: str) -> str | None:
    """Name the alignments whose shift is applied."""
    groups = [name for name in ("alignments3D", "alignments2D") if f"{name}/shift" in present]
    if params.shift_key == "none":
        return None
    if params.shift_key == "auto":
        # Separation 0 asks for equal stored coordinates.
        return groups[0] if groups and params.min_separation > 0 else None
    if params.shift_key not in groups:
        others = f"; it has {' and '.join(groups)}" if groups else "; use --shift-key none"
        raise InputError(f"{table}: no column {params.shift_key}/shift for --shift-key{others}")
    return params.shift_key


def _cryosparc_score(
    present: set[str], params: DedupParams, group: str | None, table: str
) -> str | None:
    score = params.score
    if score is None:
        return None
    if score.custom:
        candidates = [score.name]
    elif score.name == "ncc_score":
        candidates = ["pick_stats/ncc_score"]
    else:
        groups = [group] if group else ["alignments3D", "alignments2D"]
        candidates = [f"{name}/{score.name}" for name in groups]
    return _first(present, *candidates) or _no_score(present, score, candidates, table)


def _relion(present: set[str], params: DedupParams, table: str) -> Roles:
    tomogram = "rlnTomoName" in present
    micrograph = _first(present, "rlnTomoName", "rlnMicrographName")
    if micrograph is None:
        raise InputError(
            f"{table}: no micrograph column; it needs rlnMicrographName or rlnTomoName"
        )
    if set(_RELION_ANGSTROM) <= present:
        position, unit = _RELION_ANGSTROM, "angstrom"
    else:
        axes = 3 if _RELION_PIXELS[2] in present else 2
        position, unit = _RELION_PIXELS[:axes], "pixel"
    shift, psize_shift = _relion_shift(present, params, len(position), table)
    rotated = bool(shift) and set(_SUBTOMOGRAM) <= present
    score = _relion_score(present, params, table)
    psize = ("rlnTomoTiltSeriesPixelSize",) if tomogram else ()
    return Roles(
        convention="relion",
        micrograph=micrograph,
        position=position,
        unit=unit,
        psize_mic=None if unit == "angstrom" else _first(present, *psize, "rlnMicrographPixelSize"),
        shift=shift,
        psize_shift=psize_shift,
        subtomogram=_SUBTOMOGRAM if rotated else (),
        score=score,
        half=_first(present, "rlnRandomSubset"),
    )


def _relion_shift(
    present: set[str], params: DedupParams, axes: int, table: str
) -> tuple[tuple[str, ...], str | None]:
    if params.shift_key in ("alignments2D", "alignments3D"):
        raise InputError(
            f"{table}: --shift-key {params.shift_key} names a CryoSPARC shift, but the table has "
            "RELION columns; use auto (rlnOrigin*) or none"
        )
    if params.shift_key == "none" or params.min_separation == 0:
        return (), None
    angstrom, pixels = _RELION_SHIFT_ANGSTROM[:axes], _RELION_SHIFT_PIXELS[:axes]
    if set(angstrom) <= present:
        return angstrom, None
    if set(pixels) <= present:
        psize = _first(present, *_RELION_PARTICLE_PSIZE)
        if psize is None:
            raise InputError(
                f"{table}: {pixels[0]} is in particle pixels, but no column gives their size; "
                "add rlnImagePixelSize or use --shift-key none"
            )
        return pixels, psize
    return (), None


def _relion_score(present: set[str], params: DedupParams, table: str) -> str | None:
    score = params.score
    if score is None:
        return None
    if score.custom:
        candidates = [score.name]
    elif score.name == "ncc_score":
        candidates = ["rlnAutopickFigureOfMerit"]
    else:
        candidates = []
    return _first(present, *candidates) or _no_score(present, score, candidates, table)


def _no_score(present: set[str], score: ScoreField, candidates: list[str], table: str) -> str:
    known = {
        "pick_stats/ncc_score": "ncc_score",
        "rlnAutopickFigureOfMerit": "ncc_score",
        **{f"alignments{d}D/{name}": name for d in (3, 2) for name in ("error", "error_min")},
        **{name: f"{name}:{direction}" for name, direction in _OTHER_SCORES.items()},
    }
    usable = dict.fromkeys(value for name, value in known.items() if name in present)
    wanted = f" (column {' or '.join(candidates)})" if candidates and not score.custom else ""
    raise InputError(
        f"{table}: no score {score.name}{wanted} to rank by; "
        f"--score-field could be {', '.join([*usable, 'none'])}, or COLUMN:higher or COLUMN:lower"
    )


def _first(present: set[str], *names: str) -> str | None:
    return next((name for name in names if name in present), None)
