"""Find the CryoSPARC or RELION column for each role (micrograph, position, score ...)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dask_dedup.dedup.score_field import SCORE_DIRECTIONS, ScoreField
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter
from dask_dedup.particles.column_names import (
    ALIGNMENTS,
    CONTENT_COLUMNS,
    CRYOSPARC,
    MICROGRAPH_UID,
    OTHER_SCORES,
    PARTICLE_NAME_COLUMNS,
    PROGRAMS,
    RELION,
    RELION_IMAGE,
    RELION_PARTICLE_PSIZE,
    RELION_SHIFT_ANGSTROM,
    RELION_SHIFT_PIXELS,
    RELION_SUBTOMOGRAM,
    SYMMETRY_SOURCE,
    TRACK_COLUMNS,
    ImageColumns,
    Position,
    Program,
    is_annotation,
    own_pixel_size,
)
from dask_dedup.particles.micrographs.names import Naming
from dask_dedup.particles.missing_columns import (
    explain_no_micrograph,
    explain_no_position,
    in_passthrough,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dask_dedup.dedup.params import DedupParams


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """Column names of one input table by role, such as micrograph, position and score."""

    #: cryosparc or relion.
    convention: str
    #: Name or uid of the micrograph or tomogram.
    micrograph: str
    #: x, y and, for tomograms, z.
    position: tuple[str, ...]
    #: Unit of the position: fraction (of the micrograph), pixel, angstrom, or volume (fraction of the tomogram).
    unit: str
    #: Micrograph shape (ny, nx), which turns fractions into pixels.
    shape: str | None = None
    #: Micrograph pixel size.
    psize_mic: str | None = None
    #: Micrograph pixel size from the parameters, angstrom.
    given_psize: float | None = None
    #: Whether `given_psize` overrides the pixel sizes in the tables.
    overrides_psize: bool = False
    #: Whether the pixel size is 1 because positions are in angstrom from the corner (M).
    in_angstrom: bool = False
    #: Whether positions are in pixels of the binned tomogram. False if the parameters have their pixel size.
    binned: bool = False
    #: Whether `psize_mic` is the pixel size of the positions (in pick files), not of the micrograph.
    own_psize: bool = False
    #: Image columns for positions in pixels of tomograms. None if the parameters have the pixel size.
    image: ImageColumns | None = None
    #: Alignment shift: one vector column, or one column per axis. Empty if no shift is applied.
    shift: tuple[str, ...] = ()
    #: Names of the shifts that were added to the positions of pick files.
    added_shift: tuple[str, ...] = ()
    #: Pixel size column of the shift. None for shifts in angstrom.
    psize_shift: str | None = None
    #: Pixel size of shifts in pixels from the parameters, angstrom.
    given_psize_shift: float | None = None
    #: Orientation of the rotated frame of the shift. Empty if the frame is not rotated.
    subtomogram: tuple[str, ...] = ()
    score: str | None = None
    higher_is_better: bool = True
    #: Rows with a worse score are not compared.
    min_score: float | None = None
    uid: str | None = None
    #: Shifts and angles for the content hash. Empty if the table has uids.
    content: tuple[str, ...] = ()
    particle_name: str | None = None
    half: str | None = None
    #: Column of the filament, or of the source of a symmetry copy, if the parameters need it.
    label: str | None = None
    #: Distance along the filament, if the label is a filament of RELION.
    track: str | None = None
    #: Method of matching micrographs, and the form of their names.
    naming: Naming = field(default_factory=Naming)
    #: Columns that micrographs are grouped by.
    groups: tuple[str, ...] = ()
    #: Path of micrographs that are matched by uid, for warnings. Only used with several inputs.
    micrograph_path: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns that have a role, each once."""
        named = (
            *(self.micrograph, self.shape, self.psize_mic, self.psize_shift, self.score),
            *(self.uid, self.particle_name, self.half, self.label, self.track),
        )
        axes = (*self.position, *self.shift, *self.subtomogram, *self.content)
        every = (*named, *axes, *(self.image or ()), *self.groups)
        return tuple(dict.fromkeys(name for name in every if name is not None))

    @property
    def scanned_columns(self) -> tuple[str, ...]:
        """Names of `columns`, and the path of micrographs that are matched by uid."""
        return tuple(dict.fromkeys((*self.columns, *filter(None, [self.micrograph_path]))))

    @property
    def match(self) -> str:
        """Method of matching micrographs: uid, path or name."""
        return self.naming.match

    @property
    def score_name(self) -> str:
        """Score column and direction as text for messages, or ``none``."""
        direction = "higher" if self.higher_is_better else "lower"
        return f"{self.score} ({direction} is better)" if self.score else "none"

    @property
    def stored_unit(self) -> str:
        """Unit of the position in the table."""
        if self.binned:
            return "binned pixel"
        if self.own_psize:
            return "own pixel"
        return "angstrom" if self.in_angstrom else self.unit

    @property
    def first_half(self) -> int:
        """Value for the first half-set: 0 in CryoSPARC, 1 in RELION."""
        return 1 if self.convention == "relion" else 0

    @property
    def shift_name(self) -> str:
        """Names of the shift columns as text for messages, or ``none``."""
        return " ".join([*self.shift, *self.added_shift]) or "none"


class _Shift(NamedTuple):
    columns: tuple[str, ...] = ()
    psize: str | None = None
    subtomogram: tuple[str, ...] = ()
    given_psize: float | None = None
    #: CryoSPARC alignments with this shift. None for RELION.
    group: str | None = None


def resolve_roles(columns: Sequence[str], params: DedupParams, table: str) -> ColumnRoles:
    """Find the column for each role among `columns`. `table` is the name of the table in messages.

    Raises
    ------
    InputError
        If a required role has no column, or the table has columns of both CryoSPARC and RELION.
    """
    present = set(columns)
    program, position = _find_position(present, table)
    micrograph = _first(present, program.micrograph)
    if micrograph is None:
        # Columns of M begin with wrp, columns of RELION with rln.
        prefix = position.columns[0][:3]
        needed = " or ".join(name for name in program.micrograph if name.startswith(prefix))
        raise InputError(
            f"{table}: no micrograph column. It needs {needed}.{explain_no_micrograph(table, needed)}"
            f"{in_passthrough(present, table)}"
        )
    shift = _find_shift(present, params, program, len(position.columns), table)
    groups = (shift.group,) if shift.group else ALIGNMENTS
    override: float | None = params.for_input("coordinate_pixel_size", table)
    if position.unit.endswith("angstrom"):
        useless = "coordinate_pixel_size" if override is not None else ""
        if params.names_input("micrograph_pixel_size", table):
            useless = "micrograph_pixel_size"
        if useless:
            raise InputError(
                f"{table}: {position.columns[0]} is in angstrom, so {parameter(useless)} cannot "
                "apply. Leave it out for this input."
            )
    score, uid = params.score_of(table), _first(present, program.uid)
    content = () if uid else CONTENT_COLUMNS[program.convention]
    own_psize = own_pixel_size(present)
    in_angstrom = position.unit == "corner angstrom"
    if in_angstrom:  # the same as pixels of 1 A
        position, override = Position(position.columns, "pixel"), 1.0
    return ColumnRoles(
        convention=program.convention,
        micrograph=micrograph,
        position=position.columns,
        unit=position.unit,
        shape=_first(present, program.shape),
        psize_mic=None
        if position.unit == "angstrom" or override is not None
        else own_psize or _first(present, program.psize_mic),
        own_psize=own_psize is not None and override is None,
        given_psize=override or params.for_input("micrograph_pixel_size", table),
        overrides_psize=override is not None,
        in_angstrom=in_angstrom,
        binned=override is None and position.unit == "pixel" and is_annotation(present, table),
        image=_find_image(present, position) if override is None else None,
        shift=shift.columns,
        psize_shift=shift.psize,
        given_psize_shift=shift.given_psize,
        subtomogram=shift.subtomogram,
        score=_find_score(present, score, program, groups, table),
        higher_is_better=score is None or score.higher_is_better,
        min_score=params.for_input("min_score", table) if score else None,
        uid=uid,
        content=tuple(name for name in content if name in present),
        particle_name=None if uid else _first(present, PARTICLE_NAME_COLUMNS),
        half=_first(present, _in_groups(program.half, groups)),
        label=_find_label(present, params, program, table),
        track=_first(present, TRACK_COLUMNS) if params.ignore_within_filament else None,
        naming=Naming("uid" if micrograph == MICROGRAPH_UID else "path"),
    )


def _find_position(present: set[str], table: str) -> tuple[Program, Position]:
    found = [
        (program, position)
        for program in PROGRAMS
        for position in program.positions
        if present.issuperset(position.columns)
    ]
    if not found:
        raise InputError(f"{table}: no particle positions{explain_no_position(present, table)}")
    if len({program.convention for program, _ in found}) > 1:
        raise InputError(
            f"{table}: has both {CRYOSPARC.positions[0].columns[0]} and RELION coordinates. "
            "Remove one of the two sets of columns."
        )
    return found[0]


def _find_image(present: set[str], position: Position) -> ImageColumns | None:
    psize = _first(present, RELION_PARTICLE_PSIZE)
    if psize is None or position.unit != "pixel" or len(position.columns) != 3:
        return None
    return ImageColumns(psize, *(_first(present, (name,)) for name in RELION_IMAGE))


def _find_shift(
    present: set[str], params: DedupParams, program: Program, axes: int, table: str
) -> _Shift:
    key = params.shift_key
    groups = [name for name in ALIGNMENTS if f"{name}/shift" in present]
    if key in ALIGNMENTS and (program is RELION or key not in groups):
        way_out = f"Pass {parameter('shift_key', 'auto')} (RELION: rlnOrigin*) or {_no_shift()}."
        if groups:
            way_out = f"The table has {' and '.join(groups)}."
        raise InputError(
            f"{table}: no column {key}/shift for {parameter('shift_key', key)}. {way_out}"
        )
    # Separation 0 compares the stored coordinates.
    if key == "none" or (key == "auto" and not params.measures):
        return _Shift()
    if program is RELION:
        return _relion_shift(present, axes, params, table)
    if not groups:
        return _Shift()
    group = groups[0] if key == "auto" else key
    shift, psize = f"{group}/shift", f"{group}/psize_A"
    _all_or_none(present, (shift, psize), table)
    return _Shift((shift,), psize, group=group)


def _relion_shift(present: set[str], axes: int, params: DedupParams, table: str) -> _Shift:
    columns, psize, given = RELION_SHIFT_ANGSTROM[:axes], None, None
    if not _all_or_none(present, columns, table):
        columns = RELION_SHIFT_PIXELS[:axes]
        if not _all_or_none(present, columns, table):
            return _Shift()
        psize = _first(present, RELION_PARTICLE_PSIZE)
        given = params.for_input("particle_pixel_size", table)
        if psize is None and given is None:
            raise InputError(
                f"{table}: has {columns[0]} in pixels but no {RELION_PARTICLE_PSIZE[0]}. Pass "
                f"{parameter('particle_pixel_size')}, add that column, or pass {_no_shift()}."
            )
    if not _all_or_none(present, RELION_SUBTOMOGRAM, table):
        return _Shift(columns, psize, given_psize=given)
    if axes == 2:  # cannot be rotated
        _all_or_none(present, (RELION_SUBTOMOGRAM[0], "rlnCoordinateZ"), table)
    return _Shift(columns, psize, RELION_SUBTOMOGRAM, given)


def _no_shift() -> str:
    return parameter("shift_key", "none")


def _all_or_none(present: set[str], names: tuple[str, ...], table: str) -> bool:
    """Return whether all `names` are in `present`. Raise InputError if only some are."""
    missing = [name for name in names if name not in present]
    if missing and len(missing) < len(names):
        there = next(name for name in names if name in present)
        raise InputError(
            f"{table}: has {there} but no {missing[0]}. Add that column, or pass {_no_shift()}."
        )
    return not missing


def _find_label(present: set[str], params: DedupParams, program: Program, table: str) -> str | None:
    """Return the name of the column with filaments or with symmetry sources. Return None if neither is needed."""
    if params.undo_symmetry_expansion:
        name, needed_by = SYMMETRY_SOURCE, "undo_symmetry_expansion"
    elif params.ignore_within_filament:
        name, needed_by = program.filament, "ignore_within_filament"
    else:
        return None
    if name not in present:
        instead = ""
        if params.undo_symmetry_expansion:
            instead = f" {parameter('min_separation', 0)} keeps one of the particles at the same position."
        raise InputError(f"{table}: no column {name}, which {parameter(needed_by)} needs.{instead}")
    return name


def _find_score(
    present: set[str],
    score: ScoreField | None,
    program: Program,
    groups: Sequence[str],
    table: str,
) -> str | None:
    if score is None:
        return None
    names = _score_columns(score, program, groups)
    column = _first(present, names)
    if column is not None:
        return column
    usable = [
        f"{name}:lower" if value == score.name else value
        for name, value in score_fields(present).items()
    ]
    wanted = "" if score.custom or not names else f" (column {' or '.join(names)})"
    raise InputError(
        f"{table}: no score {score.name}{wanted}. Set {parameter('score_field')} to "
        f"{', '.join([*dict.fromkeys(usable), 'none'])} (a seeded choice), or to COLUMN:higher or "
        "COLUMN:lower."
    )


def _score_columns(
    score: ScoreField, program: Program, groups: Sequence[str] = ALIGNMENTS
) -> list[str]:
    """Return the possible column names of a score, the preferred name first."""
    return [score.name] if score.custom else _in_groups(program.scores.get(score.name, ()), groups)


def has_score(columns: Collection[str], score: ScoreField | None) -> bool:
    """Return whether `columns` include a column of the score, of either program."""
    return score is not None and any(
        name in columns for program in PROGRAMS for name in _score_columns(score, program)
    )


def score_fields(columns: Collection[str]) -> dict[str, str]:
    """Map each column that can be a score to the value of `score_field` that selects the column."""
    fields: dict[str, str] = {}
    for program in PROGRAMS:
        for name, templates in program.scores.items():
            found = [column for column in _in_groups(templates) if column in columns]
            fields |= {column: f"{column}:{SCORE_DIRECTIONS[name]}" for column in found}
            fields |= dict.fromkeys(found[:1], name)
    others = {column: value for column, value in OTHER_SCORES.items() if column in columns}
    return fields | {column: f"{column}:{better}" for column, better in others.items()}


def _in_groups(names: Sequence[str], groups: Sequence[str] = ALIGNMENTS) -> list[str]:
    """Replace ``{group}`` in each column name by each of `groups`, such as alignments3D."""
    return list(dict.fromkeys(name.format(group=group) for name in names for group in groups))


def _first(present: set[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in present), None)


def needs_pixel_size(roles: ColumnRoles, params: DedupParams) -> bool:
    """Return whether the micrograph pixel size is needed to compare the positions of a table.

    Coordinates in angstrom need no pixel size. At separation 0 without a shift, stored coordinates are compared.
    """
    return roles.unit != "angstrom" and (params.measures or bool(roles.shift))
