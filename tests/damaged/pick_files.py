"""Folders, lists and files of picks that are not what a picker leaves."""

from __future__ import annotations

from valid_files import put

from damaged.case import case

PIXEL = ("--micrograph-pixel-size", "1.5")
BOX = b"10 20 64 64\n500 600 64 64\n"
SCORED = b"10 20 64 64 0.5\n500 600 64 64 0.75\n"


def star(*labels, rows=(), block=""):
    head = "".join(f"_{label} #{number}\n" for number, label in enumerate(labels, 1))
    lines = "".join(f"{row}\n" for row in rows)
    return f"\ndata_{block}\n\nloop_\n{head}{lines}".encode()


PICKS = star("rlnCoordinateX", "rlnCoordinateY", rows=["10 20", "500 600"])
LIST = ("rlnMicrographName", "rlnMicrographCoordinates")
TOMOGRAMS = ("rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")


def write(folder, **files):
    """Write files. Double underscores in a name stand for folders, and the last underscore for a dot."""
    for name, content in files.items():
        stem, _, suffix = name.replace("__", "/").rpartition("_")
        path = folder / f"{stem}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@case
def picks_folder_of_cryolo(folder):
    cbox = star("CoordinateX", "CoordinateY", "Width", "Height", rows=["1 2 3 4"], block="cryolo")
    write(folder, CBOX__m_cbox=cbox, EMAN__m_box=BOX, STAR__m_star=PICKS)
    return [folder, *PIXEL]


@case
def picks_two_suffixes_for_one_micrograph(folder):
    write(folder, m_autopick_star=PICKS, m_manualpick_star=PICKS)
    return [folder, *PIXEL]


@case
def picks_two_formats_in_a_folder(folder):
    write(folder, m_box=BOX, n_cbox=SCORED, o_box=BOX)
    return [folder, *PIXEL]


@case
def picks_of_two_jobs(folder):
    write(folder, job010__m_box=BOX, job011__m_box=BOX)
    return [folder, *PIXEL]


@case
def picks_of_two_users_of_copick(folder):
    point = b'{"pickable_object_name": "a", "points": [{"location": {"x": 1, "y": 2, "z": 3}}]}'
    for user in "ab":
        put(folder, f"{user}_0_ribosome.json", point)
        write(folder, **{f"TS_01__Picks__{user}_0_ribosome_json": point})
        (folder / f"{user}_0_ribosome.json").unlink()
    return [folder]


@case
def picks_folder_of_empty_files(folder):
    write(folder, m_box=b"", n_box=b"\n")
    return [folder, *PIXEL]


@case
def picks_folder_of_other_text(folder):
    write(folder, m_txt=b"hello world\n", n_txt=b"hello\n")
    return [folder, *PIXEL]


@case
def picks_pattern_that_matches_nothing(folder):
    return [folder / "*.box", *PIXEL]


@case
def picks_without_a_pixel_size(folder):
    write(folder, EMAN__m_box=BOX)
    return [folder / "EMAN", "--score-field", "none"]


@case
def picks_file_that_is_no_pick_file(folder):
    return [*put(folder, "m.box", b"x y width height\n10 20 64 64\n"), *PIXEL]


@case
def picks_line_with_a_value_too_few(folder):
    return [*put(folder, "m.box", BOX + b"10 20 64\n"), *PIXEL]


@case
def picks_line_with_a_word(folder):
    return [*put(folder, "m.box", BOX + b"10 hello 64 64\n"), *PIXEL]


@case
def picks_of_utf16(folder):
    return [*put(folder, "m.box", BOX.decode().encode("utf-16")), *PIXEL]


@case
def picks_some_with_z(folder):
    write(folder, m_csv=b"x,y\n1,2\n", n_csv=b"x,y,z\n1,2,3\n")
    return [folder, *PIXEL]


@case
def picks_csv_of_unknown_columns(folder):
    return [*put(folder, "m.csv", b"left,top,p\n1,2,0.5\n"), *PIXEL]


@case
def picks_csv_with_a_column_twice(folder):
    return [*put(folder, "m.csv", b"x,y,note,note\n1,2,a,b\n"), *PIXEL]


@case
def picks_columns_that_do_not_exist(folder):
    options = ("--columns", "x=left,y=top")
    return [*put(folder, "m.csv", b"left,upper,p\n1,2,0.5\n"), *PIXEL, *options]


@case
def picks_columns_without_y(folder):
    return [*put(folder, "m.csv", b"left,top\n1,2\n"), *PIXEL, "--columns", "x=left"]


@case
def picks_columns_of_an_unknown_role(folder):
    options = ("--columns", "x=left,y=top,size=p")
    return [*put(folder, "m.csv", b"left,top,p\n1,2,0.5\n"), *PIXEL, *options]


@case
def picks_columns_by_name_in_a_table_without_names(folder):
    return [*put(folder, "m.csv", b"7,1,2\n8,3,4\n"), *PIXEL, "--columns", "x=left,y=top"]


@case
def picks_columns_of_boxes(folder):
    return [*put(folder, "m.box", BOX), *PIXEL, "--columns", "x=1,y=2"]


@case
def picks_least_score_of_picks_without_scores(folder):
    return [*put(folder, "m.box", BOX), *PIXEL, "--min-score", "0.5"]


@case
def picks_least_score_of_an_unknown_input(folder):
    return [*put(folder, "m.box", SCORED), *PIXEL, "--min-score", "topaz=0.5"]


@case
def picks_list_that_has_a_file_twice(folder):
    write(folder, autopick_star=star(*LIST, rows=["m.mrc m.star", "n.mrc m.star"]), m_star=PICKS)
    return [folder, *PIXEL]


@case
def picks_list_with_missing_files(folder):
    rows = [f"{name}.mrc job010/{name}.star" for name in "mnopq"]
    write(folder, job010__autopick_star=star(*LIST, rows=rows), job010__m_star=PICKS)
    return [folder / "job010", *PIXEL]


@case
def picks_list_of_other_files(folder):
    listed = star(*LIST, rows=["m.mrc m.star"])
    write(folder, autopick_star=listed, m_star=star("rlnMicrographName", rows=["m.mrc"]))
    return [folder, *PIXEL]


@case
def picks_list_without_rows(folder):
    write(folder, autopick_star=star(*LIST))
    return [folder, *PIXEL]


@case
def picks_list_with_a_value_too_few(folder):
    write(folder, autopick_star=star(*LIST, rows=["m.mrc m.star", "n.mrc"]), m_star=PICKS)
    return [folder, *PIXEL]


@case
def picks_list_without_the_columns_of_a_list(folder):
    write(folder, autopick_star=star("rlnMicrographName", rows=["m.mrc"]), m_star=PICKS)
    return [folder, *PIXEL]


@case
def picks_two_lists_in_a_job(folder):
    listed = star(*LIST, rows=["m.mrc m.star"])
    write(folder, autopick_star=listed, manualpick_star=listed, m_star=PICKS)
    return [folder, *PIXEL]


@case
def picks_list_of_relion_3_without_its_micrographs(folder):
    write(folder, coords_suffix_autopick_star=b"CtfFind/job003/micrographs_ctf.star\n")
    return [folder, *PIXEL]


@case
def picks_list_of_relion_3_without_pick_files(folder):
    micrographs = star("rlnMicrographName", rows=["m.mrc"])
    write(folder, coords_suffix_autopick_star=b"mics.star\n", mics_star=micrographs)
    return [folder, *PIXEL]


@case
def picks_set_without_its_particles(folder):
    text = b"data_\n\n_rlnTomoParticlesFile matching.star\n"
    return put(folder, "matching_optimisation_set.star", text)


@case
def picks_set_that_names_no_particles(folder):
    text = b'data_\n\n_rlnTomoParticlesFile ""\n_rlnTomoTomogramsFile tomograms.star\n'
    return put(folder, "optimisation_set.star", text)


@case
def picks_fractions_of_an_unknown_volume(folder):
    labels = (*TOMOGRAMS[1:], "rlnMicrographName", "rlnAutopickFigureOfMerit")
    write(folder, matching__TS_01_star=star(*labels, rows=["0.25 0.5 0.75 TS_01 9.5"]))
    return [folder / "matching"]


@case
def picks_annotations_without_the_table_of_tomograms(folder):
    rows = ["TS_01 10 20 30", "TS_01 50 60 70"]
    write(folder, annotations__TS_01_particles_star=star(*TOMOGRAMS, rows=rows))
    return [folder / "annotations", "--score-field", "none"]


@case
def picks_of_dynamo_with_too_few_columns(folder):
    return [*put(folder, "picks.tbl", b"1 1 1 0 0 0 30 60 90\n"), *PIXEL]


@case
def picks_motive_list_that_is_cut_off(folder):
    content = b"\6\0\0\5" + b"\x14\0\0\0\2\0\0\0\1\0\0\0" + bytes(496 + 100)
    return [*put(folder, "picks.em", content), *PIXEL]


@case
def picks_model_of_something_else(folder):
    return [*put(folder, "picks.mod", b"mod file\n"), *PIXEL]


@case
def picks_json_of_another_program(folder):
    return [*put(folder, "picks.json", b'{"boxes": [[1, 2]]}'), *PIXEL]


@case
def picks_read_only_in_their_own_form(folder):
    text = b'{"boxes": [[1, 2, "manual"]]}'
    write(folder, info__m_info_json=text)
    return [folder / "info", "--score-field", "none"]


@case
def picks_two_pickers_of_one_name_in_an_option(folder):
    write(folder, a__EMAN__m_box=SCORED, b__EMAN__m_box=SCORED)
    options = ("--min-score", "EMAN=0.5")
    return [folder / "a/EMAN", folder / "b/EMAN", *PIXEL, *options]


@case
def picks_name_of_a_picker_with_a_blank(folder):
    write(folder, EMAN__m_box=SCORED)
    return [f"my picks={folder / 'EMAN'}", *PIXEL]


@case
def picks_renaming_that_is_no_expression(folder):
    write(folder, EMAN__m_box=SCORED)
    return [folder / "EMAN", *PIXEL, "--rename-micrographs", "s/a"]


@case
def picks_map_that_lacks_a_micrograph(folder):
    write(folder, EMAN__m_box=SCORED, map_csv=b"from,to\nn,other\n")
    return [folder / "EMAN", *PIXEL, "--micrograph-map", folder / "map.csv"]
