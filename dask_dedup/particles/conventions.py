"""Which column plays which part, in the column conventions of CryoSPARC and RELION."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.dedup.params import DedupParams, ScoreField
    from dask_dedup.particles.micrographs import MicrographTable

_UID, _PATH = "location/micrograph_uid", "location/micrograph_path"
_CRYOSPARC_POSITION = ("location/center_x_frac", "location/center_y_frac")
_RELION_PIXELS = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
_RELION_ANGSTROM = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
_RELION_SHIFT_ANGSTROM = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_RELION_SHIFT_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
_SUBTOMOGRAM = tuple(f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi"))

#: RELION columns that hold the particle's own pixel size, the unit of ``rlnOriginX`` in RELION 3.0.
_RELION_PARTICLE_PSIZE = ("rlnImagePixelSize", "rlnPixelSize")

#: Columns a user may rank by, and which way is better there.
OTHER_SCORES = {
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
class ColumnRoles:
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
    label : str or None
        Of the filament, or of the particle that a symmetry copy was made from, if that matters.
    match : {"uid", "path", "name"}
        How micrographs are told to be the same.
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
    label: str | None = None
    match: str = "path"

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that have to be read, each once."""
        single = (self.micrograph, self.shape, self.psize_mic, self.psize_shift)
        named = (*single, self.score, self.uid, self.half, self.label)
        every = (*named, *self.position, *self.shift, *self.subtomogram)
        return tuple(dict.fromkeys(name for name in every if name is not None))

    @property
    def first_half(self) -> int:
        """Number of the first half-set: CryoSPARC counts from 0, RELION from 1."""
        return 1 if self.convention == "relion" else 0

    @property
    def shift_name(self) -> str:
        """The applied shift in words."""
        return " ".join(self.shift) if self.shift else "none"


def resolve_roles(columns: Sequence[str], params: DedupParams, table: str) -> ColumnRoles:
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
    hint = ""
    if "uid" in present and table.endswith(".cs"):
        hint = "; if they are in a passthrough file, give the job's .csg, which joins the two"
    elif "rlnMicrographCoordinates" in present:
        hint = "; this is a list of coordinate files, give the particles.star of an Extract job"
    raise InputError(
        f"{table}: no particle positions{found}; it needs the columns location/center_x_frac and "
        "location/center_y_frac (CryoSPARC), or rlnCoordinateX and rlnCoordinateY (RELION)"
        f"{hint}"
    )


def compare_roles(
    roles: Sequence[ColumnRoles], tables: Sequence[tuple[str, Sequence[str]]], params: DedupParams
) -> list[ColumnRoles]:
    """Let all inputs name micrographs and give positions in the same way.

    Parameters
    ----------
    roles : sequence of Roles
        One an input.
    tables : sequence of (str, sequence of str)
        Each input's name and column names.
    params : DedupParams

    Raises
    ------
    InputError
        If their micrographs or their positions cannot be compared.
    """
    _check_positions(roles, [table for table, _ in tables], params)
    if params.match_micrographs != "auto":
        match = params.match_micrographs
    elif all(role.micrograph == _UID for role in roles):
        match = "uid"
    else:
        match = "name" if len({role.convention for role in roles}) > 1 else "path"
    matched = []
    for role, (table, columns) in zip(roles, tables, strict=True):
        column = role.micrograph
        if role.convention == "cryosparc":
            column = _UID if match == "uid" else _PATH
        if column not in columns or (match == "uid" and role.convention == "relion"):
            wanted = _UID if match == "uid" else column
            raise InputError(
                f"{table}: the inputs' micrographs are matched by {match}, but it has no {wanted}; "
                "add that column, or choose another way with --match-micrographs"
            )
        matched.append(replace(role, micrograph=column, match=match))
    return matched


def _check_positions(
    roles: Sequence[ColumnRoles], tables: Sequence[str], params: DedupParams
) -> None:
    if len({len(role.position) for role in roles}) > 1:
        flat = next(t for t, role in zip(tables, roles, strict=True) if len(role.position) == 2)
        raise InputError(f"{flat}: has no z coordinate, but other inputs have; run them apart")
    units = {role.unit for role in roles}
    if len(units) > 1 and ("angstrom" in units or not params.measures):
        listed = ", ".join(f"{t} {r.position[0]}" for t, r in zip(tables, roles, strict=True))
        raise InputError(f"the inputs' positions cannot be compared ({listed}); run them apart")


def needs_pixel_size(roles: ColumnRoles, params: DedupParams) -> bool:
    """Tell whether the micrograph pixel size matters.

    Coordinates in angstrom need none; at separation 0 without a shift the stored coordinates are
    compared as they are.
    """
    if roles.unit == "angstrom":
        return False
    return params.measures or bool(roles.shift)


_PSIZE_COLUMN = {"cryosparc": "location/micrograph_psize_A", "relion": "rlnMicrographPixelSize"}


def check_pixel_size(
    roles: ColumnRoles, params: DedupParams, micrographs: MicrographTable | None, table: str
) -> None:
    """Refuse a table whose micrograph pixel size or shape is needed and nowhere to be had.

    Raises
    ------
    InputError
        Names the ways out.
    """
    if not needs_pixel_size(roles, params):
        return
    hint = ""
    if roles.convention == "relion" and roles.unit == "pixel":
        hint = (
            "; RELION's Extract drops it, and the particles' own rlnImagePixelSize is another one "
            "if they were down-sampled"
        )
    if not roles.psize_mic and micrographs is None and params.micrograph_pixel_size is None:
        raise InputError(
            f"{table}: no micrograph pixel size; give --micrographs TABLE, add the column "
            f"{_PSIZE_COLUMN[roles.convention]}, or give --micrograph-pixel-size{hint}"
        )
    if roles.unit != "fraction" or roles.shape:
        return
    if micrographs is None or micrographs.shape is None:
        raise InputError(
            f"{table}: no micrograph shape; add the column location/micrograph_shape, or give "
            "--micrographs TABLE with micrograph_blob/shape"
        )


def check_flip(
    roles: ColumnRoles, params: DedupParams, micrographs: MicrographTable | None, table: str
) -> None:
    """Refuse to flip coordinates in pixels of micrographs whose height nothing tells.

    Raises
    ------
    InputError
    """
    told = params.micrograph_height or (micrographs is not None and micrographs.shape is not None)
    if roles.unit == "pixel" and not told:
        raise InputError(
            f"{table}: --flip-y needs the micrographs' height; give --micrograph-height, or "
            "--micrographs TABLE with micrograph_blob/shape"
        )


def _cryosparc(present: set[str], params: DedupParams, table: str) -> ColumnRoles:
    micrograph = _first(present, _UID, _PATH)
    if micrograph is None:
        raise InputError(f"{table}: no micrograph column; it needs {_UID} or {_PATH}")
    group = _alignment_group(present, params, table)
    shift = f"{group}/shift" if group else None
    if shift and f"{group}/psize_A" not in present:
        raise InputError(
            f"{table}: {shift} is in pixels of {group}/psize_A, which is missing; "
            "add that column or use --shift-key none"
        )
    both = ["alignments3D", "alignments2D"]
    groups = [group] if group else both
    half = _first(present, *(f"{each}/split" for each in (*groups, *both)))
    named = {name: [f"{each}/{name}" for each in groups] for name in ("error", "error_min")}
    named["ncc_score"] = ["pick_stats/ncc_score"]
    return ColumnRoles(
        convention="cryosparc",
        micrograph=micrograph,
        position=_CRYOSPARC_POSITION,
        unit="fraction",
        shape=_first(present, "location/micrograph_shape"),
        psize_mic=_first(present, "location/micrograph_psize_A"),
        shift=(shift,) if shift else (),
        psize_shift=f"{group}/psize_A" if group else None,
        score=_score(present, params, named, table),
        uid=_first(present, "uid"),
        half=half,
        label=_label(present, params, "filament/filament_uid", table),
        match="uid" if micrograph == _UID else "path",
    )


def _label(present: set[str], params: DedupParams, filament: str, table: str) -> str | None:
    """Name the column that tells filaments, or sources of symmetry copies, apart."""
    if params.undo_symmetry_expansion:
        name, option = "sym_expand/src_uid", "--undo-symmetry-expansion"
    elif params.ignore_within_filament:
        name, option = filament, "--ignore-within-filament"
    else:
        return None
    if name not in present:
        raise InputError(f"{table}: no column {name}, which {option} needs")
    return name


def _alignment_group(present: set[str], params: DedupParams, table: str) -> str | None:
    """Name the alignments whose shift is applied."""
    groups = [name for name in ("alignments3D", "alignments2D") if f"{name}/shift" in present]
    if params.shift_key == "none":
        return None
    if params.shift_key == "auto":
        # Separation 0 asks for equal stored coordinates.
        return groups[0] if groups and params.measures else None
    if params.shift_key not in groups:
        others = f"; it has {' and '.join(groups)}" if groups else "; use --shift-key none"
        raise InputError(f"{table}: no column {params.shift_key}/shift for --shift-key{others}")
    return params.shift_key


def _relion(present: set[str], params: DedupParams, table: str) -> ColumnRoles:
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
    rotated = bool(shift) and _all_or_none(present, _SUBTOMOGRAM, table)
    if rotated and len(position) == 2:
        raise InputError(
            f"{table}: has {_SUBTOMOGRAM[0]} but no z coordinate, so the shift cannot be turned; "
            "add rlnCoordinateZ or use --shift-key none"
        )
    score = _score(present, params, {"ncc_score": ["rlnAutopickFigureOfMerit"]}, table)
    psize = ("rlnTomoTiltSeriesPixelSize",) if tomogram else ()
    return ColumnRoles(
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
        label=_label(present, params, "rlnHelicalTubeID", table),
    )


def _relion_shift(
    present: set[str], params: DedupParams, axes: int, table: str
) -> tuple[tuple[str, ...], str | None]:
    if params.shift_key in ("alignments2D", "alignments3D"):
        raise InputError(
            f"{table}: --shift-key {params.shift_key} names a CryoSPARC shift, but the table has "
            "RELION columns; use auto (rlnOrigin*) or none"
        )
    if params.shift_key == "none" or not params.measures:
        return (), None
    angstrom, pixels = _RELION_SHIFT_ANGSTROM[:axes], _RELION_SHIFT_PIXELS[:axes]
    if _all_or_none(present, angstrom, table):
        return angstrom, None
    if _all_or_none(present, pixels, table):
        psize = _first(present, *_RELION_PARTICLE_PSIZE)
        if psize is None:
            raise InputError(
                f"{table}: {pixels[0]} is in particle pixels, but no column gives their size; "
                "add rlnImagePixelSize or use --shift-key none"
            )
        return pixels, psize
    return (), None


def _all_or_none(present: set[str], names: tuple[str, ...], table: str) -> bool:
    """Tell whether all columns are there; some but not all are an error."""
    missing = [name for name in names if name not in present]
    if missing and len(missing) < len(names):
        there = next(name for name in names if name in present)
        raise InputError(
            f"{table}: has {there} but no {missing[0]}; add that column or use --shift-key none"
        )
    return not missing


def _score(
    present: set[str], params: DedupParams, named: Mapping[str, Sequence[str]], table: str
) -> str | None:
    """Find the column to rank by; `named` gives those that may hold each named score."""
    score = params.score
    if score is None:
        return None
    candidates = [score.name] if score.custom else list(named.get(score.name, ()))
    return _first(present, *candidates) or _no_score(present, score, candidates, table)


def _no_score(present: set[str], score: ScoreField, candidates: list[str], table: str) -> str:
    known = {
        "pick_stats/ncc_score": "ncc_score",
        "rlnAutopickFigureOfMerit": "ncc_score",
        **{
            f"alignments{d}D/{name}": f"alignments{d}D/{name}:lower" if score.name == name else name
            for d in (3, 2)
            for name in ("error", "error_min")
        },
        **{name: f"{name}:{direction}" for name, direction in OTHER_SCORES.items()},
    }
    usable = dict.fromkeys(value for name, value in known.items() if name in present)
    wanted = f" (column {' or '.join(candidates)})" if candidates and not score.custom else ""
    raise InputError(
        f"{table}: no score {score.name}{wanted} to rank by; "
        f"--score-field could be {', '.join([*usable, 'none'])} (a seeded choice), "
        "or COLUMN:higher or COLUMN:lower"
    )


def _first(present: set[str], *names: str) -> str | None:
    return next((name for name in names if name in present), None)
