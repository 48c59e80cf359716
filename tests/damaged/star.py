"""Broken .star files."""

from __future__ import annotations

from valid_files import STAR, put

from damaged.case import case


def star(folder, old=b"", new=b"", content=STAR):
    assert old in content
    return put(folder, "picks.star", content.replace(old, new) if old else content)


@case
def star_empty(folder):
    return put(folder, "picks.star", b"")


@case
def star_binary(folder):
    return put(folder, "picks.star", bytes(range(256)) * 4)


@case
def star_nul_byte_in_a_row(folder):
    return star(folder, content=STAR.replace(b"0.9 ", b"0.9 \0") + b" " * 2**16)


@case
def star_nul_byte_far_down(folder):
    return star(folder, content=STAR + b"10 20 0.5 mics/a.mrc 1\n" * 4000 + b"1 2 \0 a.mrc 1\n")


@case
def star_one_endless_line(folder):
    return star(folder, content=STAR + b"x" * (2**20 + 10))


@case
def star_one_endless_line_from_the_start(folder):
    return put(folder, "picks.star", b"x" * (2**20 + 10))


@case
def star_prose(folder):
    return put(folder, "picks.star", b"Dear colleague,\nhere are the picks.\n")


@case
def star_html(folder):
    return put(folder, "picks.star", b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n")


@case
def star_only_a_version(folder):
    return put(folder, "picks.star", b"# version 50001\ndata_\n_rlnVersion 5\n")


@case
def star_cut_off_in_a_row(folder):
    return star(folder, content=STAR[: STAR.rindex(b"mics")])


@case
def star_cut_off_in_the_labels(folder):
    return star(folder, content=STAR[: STAR.index(b"_rlnCoordinateY")])


@case
def star_row_too_long(folder):
    return star(folder, b"0.8 mics/a.mrc 1", b"0.8 mics/a.mrc 1 1")


@case
def star_row_too_short(folder):
    return star(folder, b"0.8 mics/a.mrc 1", b"0.8 mics/a.mrc")


@case
def star_two_rows_in_one_line(folder):
    return star(folder, b"mics/a.mrc 1\n11.5", b"mics/a.mrc 1 11.5")


@case
def star_word_as_number(folder):
    return star(folder, b"11.5", b"eleven")


@case
def star_word_as_number_with_an_escape(folder):
    return star(folder, b"11.5", b"\x7f\xc2\x9b31m")


@case
def star_decimal_comma(folder):
    return star(folder, b"11.5", b"11,5")


@case
def star_position_beyond_float64(folder):
    return star(folder, b"11.5", b"1e999")


@case
def star_fraction_as_group(folder):
    return star(folder, b"0.8 mics/a.mrc 1", b"0.8 mics/a.mrc 1.5")


@case
def star_group_not_listed(folder):
    return star(folder, b"0.8 mics/a.mrc 1", b"0.8 mics/a.mrc 2")


@case
def star_group_with_a_word_as_pixel_size(folder):
    return star(folder, b"opticsGroup1 1.2", b"opticsGroup1 small")


@case
def star_group_twice(folder):
    return star(folder, b"opticsGroup1 1.2\n", b"opticsGroup1 1.2\n1 again 1.3\n")


@case
def star_label_twice_in_optics(folder):
    table = (
        b"data_optics\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n_rlnMicrographPixelSize\n"
        b"1 1.2 0.6\n"
    )
    rows = (
        b"data_particles\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n"
        b"_rlnOpticsGroup\na.mrc 1 2 1\n"
    )
    return put(folder, "picks.star", table + rows)


@case
def star_label_twice_in_optics_without_a_loop(folder):
    table = b"data_optics\n_rlnOpticsGroup 1\n_rlnMicrographPixelSize 1.2\n_rlnMicrographPixelSize 0.6\n"
    rows = (
        b"data_particles\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n"
        b"_rlnOpticsGroup\na.mrc 1 2 1\n"
    )
    return put(folder, "picks.star", table + rows)


@case
def star_pixel_size_negative(folder):
    return star(folder, b"opticsGroup1 1.2", b"opticsGroup1 -1.2")


@case
def star_quote_not_closed(folder):
    return star(folder, b"0.8 mics/a.mrc", b"0.8 'mics/a.mrc")


@case
def star_text_field(folder):
    return star(folder, b"11.5", b";\nlong text\n;\n11.5")


@case
def star_name_not_utf8(folder):
    return star(folder, b"0.8 mics/a.mrc", b"0.8 mics/\xff\xfe.mrc")


@case
def star_label_not_utf8(folder):
    return star(folder, b"_rlnCoordinateY", b"_rln\xff")


@case
def star_label_with_an_escape(folder):
    return star(folder, b"_rlnCoordinateY", b"_rln\x7f\x1b[2J")


@case
def star_label_twice(folder):
    return star(folder, b"_rlnCoordinateY", b"_rlnCoordinateX")


@case
def star_label_after_the_rows(folder):
    return star(folder, content=STAR + b"_rlnMore\n1 2 3 4 5\n")


@case
def star_two_tables_of_particles(folder):
    return star(folder, content=STAR + STAR[STAR.index(b"data_particles") :])


@case
def star_no_rows_but_a_word(folder):
    return put(folder, "picks.star", b"data_particles\nloop_\nrlnCoordinateX\n1\n")


@case
def star_no_position(folder):
    return star(folder, b"_rlnCoordinateX", b"_rlnDefocusU")


@case
def star_with_old_mac_line_ends(folder):
    return star(folder, content=STAR.replace(b"\n", b"\r"))


@case
def star_utf16(folder):
    return put(folder, "picks.star", STAR.decode().encode("utf-16"))


@case
def star_no_score(folder):
    return star(folder, b"_rlnAutopickFigureOfMerit", b"_rlnSomethingElse")


@case
def star_no_pixel_size(folder):
    return star(folder, b"_rlnMicrographPixelSize", b"_rlnSomethingElse")


@case
def star_nan_position(folder):
    return star(folder, b"11.5", b"nan")


@case
def star_list_of_micrographs(folder):
    content = b"data_micrographs\nloop_\n_rlnMicrographName\n_rlnCtfImage\nm1.mrc m1.ctf\n"
    return put(folder, "micrographs_ctf.star", content)


@case
def star_class_averages(folder):
    content = b"data_\nloop_\n_rlnReferenceImage\n_rlnClassDistribution\n1@a.mrcs 0.5\n"
    return put(folder, "class_averages.star", content)


@case
def star_optimiser(folder):
    content = b"data_optimiser_general\n_rlnOutputRootName Refine3D/job1/run\n"
    content += b"_rlnExperimentalDataStarFile Refine3D/job1/run_it025_data.star\n"
    return put(folder, "run_it025_optimiser.star", content)


@case
def star_model(folder):
    content = b"data_model_general\n_rlnReferenceDimensionality 3\ndata_model_classes\nloop_\n"
    content += b"_rlnReferenceImage\n_rlnClassDistribution\na.mrc 1\n"
    return put(folder, "run_it025_model.star", content)


@case
def star_settings_of_a_job(folder):
    content = b"data_job\n_rlnJobTypeLabel relion.extract\ndata_joboptions_values\nloop_\n"
    content += b"_rlnJobOptionVariable\n_rlnJobOptionValue\nbg_diameter -1\n"
    return put(folder, "job.star", content)


@case
def star_list_of_jobs(folder):
    content = b"data_pipeline_general\n_rlnPipeLineJobCounter 8\ndata_pipeline_processes\nloop_\n"
    content += b"_rlnPipeLineProcessName\n_rlnPipeLineProcessAlias\nImport/job001/ None\n"
    return put(folder, "default_pipeline.star", content)


@case
def star_coords_suffix(folder):
    return put(folder, "coords_suffix_autopick.star", b"CtfFind/job003/micrographs_ctf.star\n")


@case
def star_folder_of_a_job(folder):
    for name in ("job.star", "run_it025_optimiser.star", "particles.star"):
        put(folder, name, b"data_\n")
    return [folder]
