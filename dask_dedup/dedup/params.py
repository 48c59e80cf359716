"""The parameters of deduplication, which are immutable and checked on creation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self, cast

from dask_dedup.dedup.limits import AUTO, NUMBERS, OPTIONAL, PIXEL_SIZES, as_number
from dask_dedup.dedup.per_input import (
    NAMED_PICKERS,
    PerInput,
    as_input,
    named_twice_error,
    normalize,
)
from dask_dedup.dedup.pick_columns import normalize_columns, parse_columns
from dask_dedup.dedup.renaming import MicrographMap, parse_rename
from dask_dedup.dedup.score_field import DEFAULT_SCORE, ScoreField, parse_score_field
from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

#: Possible values of each parameter with a fixed set of values.
CHOICES: dict[str, tuple[str, ...]] = {
    "shift_key": ("auto", "none", "alignments2D", "alignments3D"),
    "match_micrographs": ("auto", "uid", "path", "name"),
    "invalid": ("error", "reject", "keep"),
    "score_scale": ("stored", "standing"),
}
#: Parameters that may have a value for each input.
PER_INPUT: tuple[str, ...] = (*PIXEL_SIZES, "score_field", "min_score", "columns")
#: Parameter that may have several values for each input.
RENAMES = "rename_micrographs"
#: Votes are counted if any of these parameters has another value than this.
_WITHOUT_VOTES: dict[str, object] = {
    "min_votes": 1,
    **dict.fromkeys(NAMED_PICKERS, ()),
    "vote_distance": None,
    "votes": False,
}


@dataclass(frozen=True, slots=True)
class DedupParams:
    """Parameters that define which particles are duplicates, and which one is kept.

    Parameters
    ----------
    min_separation : float or "auto"
        Minimum distance between two particle centres, in angstrom. Particles at exactly this distance are
        duplicates. At 0, only particles with equal coordinates are. ``auto``: the value that `inspect` recommends.
    columns : str or mapping, optional
        Columns of text tables of picks by role, as names or numbers: ``"x=cx,y=cy,score=p"`` or
        ``{"x": "cx", "y": "cy"}``. A mapping {input: columns} sets the columns of single inputs.
    micrograph_pixel_size : float or mapping, optional
        Micrograph pixel size in angstrom, for tables that do not contain it. A mapping
        {input: value} gives a value for each input, by its path.
    coordinate_pixel_size : float or mapping, optional
        Pixel size of the stored coordinates in angstrom. It overrides the tables. As above, one value for all
        inputs or a mapping.
    particle_pixel_size : float or mapping, optional
        Pixel size of the particle images in angstrom, for shifts in pixels (rlnOriginX) of tables that do
        not contain it.
    shift_key : {"auto", "none", "alignments2D", "alignments3D"}
        Alignment shift that is subtracted from the positions. ``auto`` uses alignments3D if present, else
        alignments2D, else none. Shifts in pick files are added when they are read, unless it is ``none``.
    score_field : str or dict of str to str
        Score that ranks the particles: ``ncc_score``, ``error``, ``error_min``, or a column with its
        direction (``NAME:higher`` or ``NAME:lower``). ``none`` ranks at random, by `seed`. A dict
        {input: score} sets the score of single inputs. The other inputs have ``ncc_score``, or the score of
        the key ``""``.
    min_score : float or mapping, optional
        Particles with a worse score (lower if high scores win, else higher) are rejected before any comparison.
        Particles without a score are compared. As above, one value for all inputs that have a score, or a
        mapping.
    score_scale : {"stored", "standing"}
        Values to compare: the stored scores, or the standing of each particle. The standing is the rank of the
        particle by score within its input and micrograph.
    remove_entirely : bool
        Reject all particles with another particle within the separation. By default the best of them is kept.
    seed : int
        Seed of the random choice between equal scores, from 0 to 2**64 - 1.
    prefer_input_order : bool
        Prefer particles of the first input, then of the second, and so on, at any score.
    between_inputs_only : bool
        Compare particles of different inputs only.
    ignore_within_filament : bool
        Do not compare particles of the same filament (helical tube).
    undo_symmetry_expansion : bool
        Treat the symmetry copies of a particle (equal ``sym_expand/src_uid``) as duplicates, at any distance.
    votes : bool
        Count the votes of each remaining particle: the pickers that found it. The parameters below imply it.
    min_votes : int
        Keep only particles that at least this many pickers found.
    found_by, not_found_by : tuple of str
        Names of pickers, or paths of inputs. Keep only particles that all pickers in `found_by` found, and no
        picker in `not_found_by`.
    vote_distance : float, optional
        Largest distance between a pick and the particle that it votes for, in angstrom. By default `min_separation`.
    relax_unseen : bool
        On micrographs where fewer than `min_votes` pickers have particles, require only the votes of these
        pickers. Also do not require `found_by` pickers that have no particles on the micrograph.
    match_micrographs : {"auto", "uid", "path", "name"}
        Column to match micrographs across inputs. ``name`` removes parts that programs add to names (folders,
        CryoSPARC's number, usual endings). It removes the fewest parts that match the most micrographs, and only
        if names stay distinct within each input. ``auto`` matches by name if an input is of pick files or the
        tables are of different programs, by uid if all inputs have uids, else by path.
    rename_micrographs : str, sequence of str or mapping, optional
        Substitutions ``s/PATTERN/REPLACEMENT/``, applied in order to micrograph names before these are
        compared. The tables keep their names. A mapping {input: substitutions} sets the substitutions of single
        inputs.
    micrograph_map : mapping or MicrographMap, optional
        Old and new names of micrographs, applied after `rename_micrographs`. Every name must be an
        old name or a new name.
    group_by : str or tuple of str
        Columns (or hive keys) such as ``session``. Particles with different values in one of these columns are
        on different micrographs, even if the micrographs have the same name. ``none`` compares micrographs of
        the same name under all hive keys.
    flip_y : tuple of int
        Ordinals (from 0) of the inputs with y axes that point the other way.
    micrograph_height : int, optional
        Micrograph height in pixels, to flip y of tables that do not contain the height.
    invalid : {"error", "reject", "keep"}
        Treatment of rows that cannot be compared (for example, without a finite position): raise an error,
        reject the rows or keep them.

    Raises
    ------
    InputError
        If a value is out of range. The message contains the name of the parameter.
    """

    min_separation: float = 20.0
    columns: PerInput[str] | Mapping[str, Any] | str | None = None
    micrograph_pixel_size: PerInput[float] | Mapping[str, float] | float | None = None
    coordinate_pixel_size: PerInput[float] | Mapping[str, float] | float | None = None
    particle_pixel_size: PerInput[float] | Mapping[str, float] | float | None = None
    shift_key: str = "auto"
    score_field: PerInput[str] | Mapping[str, str] | str = DEFAULT_SCORE
    min_score: PerInput[float] | Mapping[str, float] | float | None = None
    score_scale: str = "stored"
    remove_entirely: bool = False
    seed: int = 0
    prefer_input_order: bool = False
    between_inputs_only: bool = False
    ignore_within_filament: bool = False
    undo_symmetry_expansion: bool = False
    votes: bool = False
    min_votes: int = 1
    found_by: tuple[str, ...] = ()
    not_found_by: tuple[str, ...] = ()
    vote_distance: float | None = None
    relax_unseen: bool = False
    match_micrographs: str = "auto"
    rename_micrographs: PerInput[str] | Mapping[str, Any] | Sequence[str] | str | None = ()
    micrograph_map: MicrographMap | Mapping[str, str] | None = None
    group_by: tuple[str, ...] = ()
    flip_y: tuple[int, ...] = ()
    micrograph_height: int | None = None
    invalid: str = "error"

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", normalize_columns(self.columns))
        for name in PER_INPUT:
            object.__setattr__(self, name, normalize(name, getattr(self, name)))
        renames = normalize(RENAMES, self.rename_micrographs, repeatable=True)
        object.__setattr__(self, RENAMES, renames)
        for _, rename in renames:
            parse_rename(rename)
        object.__setattr__(self, "micrograph_map", MicrographMap.of(self.micrograph_map))
        for name in NUMBERS:
            given = getattr(self, name)
            if name in PER_INPUT:
                given = PerInput((path, as_number(name, value, path)) for path, value in given)
            elif given is not None or name not in OPTIONAL:
                given = as_number(name, given)
            object.__setattr__(self, name, given)
        object.__setattr__(self, "flip_y", tuple(self.flip_y))
        for name in ("group_by", *NAMED_PICKERS):
            given = getattr(self, name)
            texts = (given,) if isinstance(given, str | PurePath) else tuple(given or ())
            if name in NAMED_PICKERS:
                texts = tuple(map(as_input, texts))
            object.__setattr__(self, name, tuple(dict.fromkeys(texts)))
        if "none" in self.group_by and len(self.group_by) > 1:
            raise InputError(
                f"{parameter('group_by')} has both none and columns. Pass one of the two."
            )
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise InputError(
                    f"{parameter(name)} is {value!r}; it must be one of {', '.join(choices)}."
                )
        unused = parameter("min_separation", AUTO) if self.chooses_separation else ""
        if self.ignore_within_filament:
            unused = parameter("ignore_within_filament")
        if self.undo_symmetry_expansion and unused:
            raise InputError(
                f"{unused} has no effect together with {parameter('undo_symmetry_expansion')}, "
                "which compares no distances. Drop one of them."
            )
        if "" not in dict(self._score_fields):
            fields = PerInput([("", DEFAULT_SCORE), *self._score_fields])
            object.__setattr__(self, "score_field", fields)
        for _, field in self._score_fields:
            parse_score_field(field)
        if self.uses_standing and not self.scored:
            raise InputError(
                f"{parameter('score_scale', 'standing')} needs a score, but {parameter('score_field')} is none."
            )
        self._check_votes()

    def _check_votes(self) -> None:
        """Raise InputError if the parameters of votes contradict each other or other parameters."""
        if self.counts_votes and self.remove_entirely:
            raise InputError(
                f"{parameter(self.votes_parameter)} has no effect together with {parameter('remove_entirely')}, "
                "which keeps no particle that a second picker found. Drop one of them."
            )
        if self.relax_unseen and self.min_votes == 1 and not self.found_by:
            asked = f"{parameter('min_votes')} of at least 2 or {parameter('found_by')}"
            raise InputError(
                f"{parameter('relax_unseen')} has no effect without {asked}. Add one of them, or drop it."
            )
        if both := [picker for picker in self.found_by if picker in self.not_found_by]:
            raise named_twice_error(both[0])
        if (distance := self.vote_distance) is None:
            return
        if not self.measures:
            undone = parameter("undo_symmetry_expansion") if self.undo_symmetry_expansion else ""
            other = undone or parameter("min_separation", 0)
            raise InputError(
                f"{parameter('vote_distance')} has no effect together with {other}, which measures no "
                "distances. Drop one of them."
            )
        if distance <= 0:
            limits = NUMBERS["vote_distance"][-1]
            raise InputError(f"{parameter('vote_distance')} is 0; it must be {limits}.")
        if not self.chooses_separation and distance > self.min_separation:
            limit = parameter("min_separation", f"{self.min_separation:g}")
            raise InputError(
                f"{parameter('vote_distance')} is {distance:g}; it must be at most {limit}."
            )

    @property
    def votes_parameter(self) -> str:
        """The first parameter that requires votes to be counted, or an empty text."""
        given = (name for name, unset in _WITHOUT_VOTES.items() if getattr(self, name) != unset)
        return next(given, "")

    @property
    def counts_votes(self) -> bool:
        """Whether votes are counted."""
        return self.votes_parameter != ""

    @property
    def votes_decide(self) -> bool:
        """Whether particles can be rejected for their votes."""
        return self.min_votes > 1 or bool(self.found_by or self.not_found_by)

    @property
    def uses_standing(self) -> bool:
        """Whether scores are compared by standing."""
        return self.score_scale == "standing"

    @property
    def _score_fields(self) -> PerInput[str]:
        return cast("PerInput[str]", self.score_field)

    @property
    def scored(self) -> bool:
        """Whether particles of any input are ranked by a score."""
        return any(parse_score_field(field) for _, field in self._score_fields)

    def score_of(self, path: str) -> ScoreField | None:
        """Return the score that ranks the particles of the input `path`, or None for ``none``."""
        return parse_score_field(self.for_input("score_field", path))

    def columns_of(self, path: str) -> dict[str, str]:
        """Return the columns by role of the input `path`, empty if the parameter `columns` has none for it."""
        text = self.for_input("columns", path)
        return parse_columns(text) if text else {}

    def names_input(self, name: str, path: str) -> bool:
        """Return whether the per-input parameter `name` has a value for the single input `path`."""
        pairs: PerInput[Any] = getattr(self, name)
        return pairs.names(path)

    def without_scores(self, paths: Iterable[str]) -> Self:
        """Return the parameters with the score ``none`` for the inputs `paths`."""
        none = dict.fromkeys(map(as_input, paths), "none")
        return replace(self, score_field={**dict(self._score_fields), **none})

    def renames_of(self, path: str) -> tuple[str, ...]:
        """Return the substitutions in the micrograph names of the input (or micrograph table) `path`."""
        return tuple(cast("PerInput[str]", self.rename_micrographs).values_for(path))

    @property
    def adds_shifts(self) -> bool:
        """Whether shifts in pick files are added to their positions."""
        return self.shift_key != "none"

    @property
    def names_of_micrographs(self) -> MicrographMap:
        """The parameter `micrograph_map`, empty if it was not passed."""
        return cast("MicrographMap", self.micrograph_map)

    @property
    def group_columns(self) -> tuple[str, ...]:
        """The columns in `group_by`, without ``none``."""
        return tuple(name for name in self.group_by if name != "none")

    @property
    def measures(self) -> bool:
        """Whether duplicates are defined by a distance in angstrom, not by equal coordinates or equal sources."""
        return not self.undo_symmetry_expansion and cast("object", self.min_separation) != 0

    @property
    def chooses_separation(self) -> bool:
        """Whether `min_separation` is ``auto``. A number must replace it before particles are compared."""
        return cast("object", self.min_separation) == AUTO

    @classmethod
    def given(cls, params: Self | None, keywords: Mapping[str, Any]) -> Self:
        """Return `params` if passed, otherwise make parameters from `keywords`.

        Raises
        ------
        InputError
            If a value is out of its range.
        TypeError
            If both are passed, or a keyword is not a parameter.
        """
        if params is not None:
            if keywords:
                raise TypeError(
                    f"pass either params or the keyword {next(iter(keywords))}, not both"
                )
            if not isinstance(params, cls):
                raise InputError(f"params is a {type(params).__name__}; pass a DedupParams.")
            return params
        names = [field.name for field in fields(cls)]
        for name in keywords.keys() - set(names):
            similar = get_close_matches(name, names, n=1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            raise TypeError(f"unknown parameter {name}{hint}")
        return cls(**keywords)

    def for_input(self, name: str, path: str) -> Any:
        """Return the value of the per-input parameter `name` for the input `path`, or None."""
        pairs: PerInput[Any] = getattr(self, name)
        return pairs.value_for(path)

    def check_inputs(self, paths: Iterable[str], micrographs: str | None = None) -> None:
        """Raise InputError if a per-input parameter has a value for an input that is not in `paths`.

        `rename_micrographs` may also have a value for the micrograph table.
        """
        inputs = {as_input(path) for path in paths}
        for name in (*PER_INPUT, RENAMES):
            known = inputs | {as_input(micrographs or "")} if name == RENAMES else inputs
            unknown = [path for path, _ in getattr(self, name) if path and path not in known]
            if unknown:
                raise InputError(
                    f"{parameter(name)} has a value for {unknown[0]}, which is not one of the inputs. "
                    "Write the path as in the inputs."
                )

    def without_inputs(self, paths: Sequence[str], left_out: Collection[int]) -> Self:
        """Return the parameters for `paths` after removal of the inputs in `left_out` (ordinals)."""
        remaining = [number for number in range(len(paths)) if number not in left_out]
        ordinals = {number: new for new, number in enumerate(remaining)}
        removed = {as_input(paths[number]) for number in left_out}
        changes: dict[str, Any] = {
            name: tuple(pair for pair in getattr(self, name) if pair[0] not in removed)
            for name in (*PER_INPUT, RENAMES)
        }
        flipped = (number for number in self.flip_y if number not in left_out)
        return replace(self, **changes, flip_y=tuple(ordinals.get(n, n) for n in flipped))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Restore parameters from the result of `to_dict`, also after a round trip through JSON."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a dict for JSON, for the manifest and the run id."""
        lists: dict[str, Any] = {
            name: [list(pair) for pair in getattr(self, name)] for name in (*PER_INPUT, RENAMES)
        }
        lists["micrograph_map"] = self.names_of_micrographs.to_dict()
        lists |= {
            name: list(getattr(self, name)) for name in ("flip_y", "group_by", *NAMED_PICKERS)
        }
        return {**asdict(self), **lists}
