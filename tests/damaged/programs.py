"""STAR files of other programs, or of other kinds than particles."""

from __future__ import annotations

from valid_files import put

from damaged.case import case

MATCHING = (
    b"data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnMicrographName\n"
    b"_rlnAutopickFigureOfMerit\n0.2 0.3 0.5 TS_1.tomostar 9.5\n0.4 0.1 0.6 TS_1.tomostar 9.1\n"
)


@case
def star_optimisation_set_of_warp(folder):
    text = b"data_\n\n_rlnTomoParticlesFile  matching.star\n_rlnTomoTomogramsFile  tomograms.star\n"
    return put(folder, "optimisation_set.star", text)


@case
def star_optimisation_set_as_a_loop(folder):
    text = b'data_optimisation_set\n\nloop_\n_rlnTomoParticlesFile\n_rlnTomoTrajectoriesFile\na.star ""\n'
    return put(folder, "optimisation_set.star", text)


@case
def star_list_of_coordinate_files(folder):
    text = b"data_coordinate_files\n\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\nm.mrc m.star\n"
    return put(folder, "autopick.star", text)


@case
def star_list_for_the_import_of_particles(folder):
    text = b"data_\n\nloop_\n_rlnTomoName\n_rlnTomoImportParticleFile\nTS_1 TS_1.star\n"
    return put(folder, "import.star", text)


@case
def star_list_of_tomograms(folder):
    text = b"data_global\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesStarFile\nTS_1 TS_1.star\n"
    return put(folder, "tomograms.star", text)


@case
def star_of_cistem(folder):
    text = b"data_\n\nloop_\n_cisTEMOriginalXPosition\n_cisTEMOriginalYPosition\n100.0 200.0\n"
    return put(folder, "cistem.star", text)


@case
def star_of_template_matching_in_warp(folder):
    path = put(folder, "TS_1_10.00Apx_clean.star", MATCHING)
    return [*path, "--micrograph-pixel-size", "10"]


@case
def star_of_warp_without_image_names(folder):
    text = (
        b"data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n_rlnImagePixelSize\n"
        b"1 0.7894 4.0\n\ndata_particles\n\nloop_\n_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n"
        b"_rlnCoordinateZ\n_rlnOpticsGroup\nTS_1.tomostar 100 80 60 1\nTS_1.tomostar 132.5 80 60 1\n"
    )
    return [*put(folder, "particles.star", text), "--score-field", "none"]
