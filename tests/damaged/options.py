"""Options that do not fit the input."""

from __future__ import annotations

from tables import cryosparc, exposures, relion, write_file
from valid_files import put

from damaged.case import case
from damaged.parquet import parquet, picks


def with_options(folder, *options):
    return [*parquet(folder), *options]


@case
def option_separation_negative(folder):
    return with_options(folder, "--min-separation", "-1")


@case
def option_separation_nan(folder):
    return with_options(folder, "--min-separation", "nan")


@case
def option_pixel_size_zero(folder):
    return with_options(folder, "--micrograph-pixel-size", "0")


@case
def option_seed_negative(folder):
    return with_options(folder, "--seed", "-1")


@case
def option_score_unknown(folder):
    return with_options(folder, "--score-field", "quality:higher")


@case
def option_score_without_direction(folder):
    return with_options(folder, "--score-field", "quality")


@case
def option_score_with_an_escape(folder):
    return with_options(folder, "--score-field", "\x1b[2J:higher")


@case
def option_shift_that_is_missing(folder):
    return [
        *parquet(folder, table=cryosparc(30, drop=["alignments2D"])),
        "--shift-key",
        "alignments2D",
    ]


@case
def option_micrographs_missing(folder):
    return with_options(folder, "--micrographs", folder / "micrographs.star")


@case
def option_micrographs_without_pixel_sizes(folder):
    table = exposures(drop=["micrograph_blob/psize_A"])
    return with_options(folder, "--micrographs", write_file(table, folder / "m.parquet"))


@case
def option_micrographs_lack_one(folder):
    return with_options(folder, "--micrographs", write_file(exposures(2), folder / "m.parquet"))


@case
def option_micrographs_is_a_broken_star(folder):
    return with_options(folder, "--micrographs", *put(folder, "m.star", b"data_\nloop_\n"))


@case
def option_flip_of_no_input(folder):
    return with_options(folder, "--flip-y", folder / "other.parquet")


@case
def option_symmetry_without_sources(folder):
    return with_options(folder, "--undo-symmetry-expansion")


@case
def option_filaments_without_tubes(folder):
    return with_options(folder, "--ignore-within-filament")


@case
def option_score_with_a_wrong_direction(folder):
    return [picks(folder), "--score-field", "pick_stats/power:up"]


@case
def option_cryosparc_shift_of_a_relion_table(folder):
    return [write_file(relion(), folder / "picks.parquet"), "--shift-key", "alignments3D"]


@case
def option_infinite_separation(folder):
    return [picks(folder), "--min-separation", "inf"]


@case
def option_nan_pixel_size(folder):
    return [picks(folder), "--micrograph-pixel-size", "nan"]


@case
def option_seed_of_65_bits(folder):
    return [picks(folder), "--seed", str(2**64)]
