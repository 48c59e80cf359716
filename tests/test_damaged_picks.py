"""Folders of picks with damaged files, and with files of other kinds."""

from __future__ import annotations

import json

import pytest
from test_coordinates_lines import put

from dask_dedup.errors import InputError
from dask_dedup.formats import open_table

STAR = b"data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n10 20\n30 40\n"
TOPAZ = b"image_name\tx_coord\ty_coord\tscore\nm\t1\t2\t0.5\n"
PYTOM = b"data_particles\n\nloop_\n" + b"".join(
    b"_%s #%d\n" % (name, number)
    for number, name in enumerate(
        (
            *(b"rlnCoordinateX", b"rlnCoordinateY", b"rlnCoordinateZ"),
            *(b"rlnLCCmax", b"rlnDetectorPixelSize", b"rlnMicrographName"),
        ),
        1,
    )
)
COPICK = json.dumps(
    {
        "pickable_object_name": "ribosome",
        "run_name": "a",
        "points": [{"location": {"x": 1, "y": 2, "z": 3}}],
    }
).encode()
#: Name of a pick file, with % for the micrograph, its content, and where the damaged copy is cut.
DAMAGED = {
    "relion": ("%_autopick.star", STAR, 30),
    "cryolo star": ("%.star", STAR, 5),
    "topaz": ("%.txt", TOPAZ, 20),
    "csv": ("%.csv", b"x,y,score\n1,2,0.5\n", 6),
    "pytom": ("%_particles.star", PYTOM + b"1 2 3 0.5 10 a\n", 90),
    "copick": ("%/Picks/user_1_ribosome.json", COPICK, 60),
    "portal": ("%.ndjson", b'{"location": {"x": 1, "y": 2, "z": 3}}\n', 20),
}


@pytest.mark.parametrize("pattern", [False, True])
@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_pick_file_is_refused(tmp_path, kind, pattern):
    name, content, cut = DAMAGED[kind]
    for micrograph in "abc":
        text = content[:cut] if micrograph == "b" else content.replace(b"m\t", micrograph.encode())
        put(tmp_path, "picks/" + name.replace("%", micrograph), text)
    folder = tmp_path / "picks"
    path = folder / name.replace("%", "*") if pattern else folder
    with pytest.raises(InputError) as error:
        open_table(path)
    damaged = folder / name.replace("%", "b")
    text = str(error.value)
    fault = {
        "relion": ", because it is cut off",
        "pytom": ", because it is cut off",
        "cryolo star": ", because it has no loop_",
    }
    documents = {
        "copick": ", because it is cut off or not JSON",
        "portal": ", because it is cut off or not JSON",
    }
    why = (fault | documents).get(kind, "")
    assert text.startswith(f"{damaged}: cannot be read as picks{why}, unlike ")
    assert ("/Picks/" in text.split(", unlike ")[1].split(". Repair")[0]) == (kind == "copick")
    assert str(error.value).endswith(f" Repair it, or move it out of {folder}.")


def test_whole_files_of_other_kinds_are_ignored(tmp_path):
    put(tmp_path, "picks/a.star", STAR)
    put(
        *(tmp_path, "picks/tomograms.star"),
        b"data_\n\nloop_\n_rlnTomoName #1\n_rlnTomoSizeX #2\na 100\n",
    )
    put(tmp_path, "picks/set.star", b"data_\n_rlnTomoParticlesFile particles.star\n")
    put(tmp_path, "picks/b.star", b"# no picks\n")
    put(tmp_path, "picks/words.txt", b"words\n")
    table = open_table(tmp_path / "picks")
    assert [each.micrograph for each in table.detail.members] == ["a", "b"]
    assert table.detail.notes == ("3 files of no known format ignored (set.star, ...)",)
    put(tmp_path, "copick/runs/a/Picks/u_1_ribosome.json", COPICK)
    put(tmp_path, "copick/config.json", b'{"pickable_objects": []}')
    assert open_table(tmp_path / "copick").rows == 1


def test_two_sets_of_picks_in_a_folder_are_refused(tmp_path):
    put(tmp_path, "topaz/a.txt", TOPAZ.replace(b"m\t", b"a\t"))
    put(tmp_path, "topaz/b.txt", TOPAZ.replace(b"m\t", b"b\t"))
    assert open_table(tmp_path / "topaz").rows == 2
    rows = b"b\t1\t2\t0.5\nc\t1\t2\t0.5\n"
    put(tmp_path, "topaz/topaz_picks.txt", TOPAZ.replace(b"m\t1\t2\t0.5\n", rows))
    for path in (tmp_path / "topaz", tmp_path / "topaz/*.txt"):
        with pytest.raises(InputError) as error:
            open_table(path)
        assert str(error.value) == (
            f"{path}: has two sets of picks of b: b.txt and topaz_picks.txt. Pass each set as an input, or one of them."
        )
    put(tmp_path, "pytom/a_particles.star", PYTOM + b"1 2 3 0.5 10 a\n")
    put(tmp_path, "pytom/a_ribo_particles.star", PYTOM + b"1 2 3 0.5 10 a\n")
    with pytest.raises(InputError, match=r"two sets of picks of a: a_particles\.star and a_ribo_"):
        open_table(tmp_path / "pytom")
