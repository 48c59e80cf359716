"""What each program means by its coordinates: two particles, as the program writes them, and their distance.

The page docs/explanation/coordinates.md names these tests.
"""

from __future__ import annotations

import json
import re
import struct

import numpy as np
import pytest
from conftest import REPOSITORY

from dask_dedup import InputError, run, verify

PAGE = REPOSITORY / "docs" / "explanation" / "coordinates.md"


def star(path, columns, optics=None, general=None):
    """Write a STAR file. `columns` and `optics` map labels to values."""
    lines = []
    if general:
        lines += ["data_general", "", *(f"_{name} {value}" for name, value in general.items()), ""]
    if optics:
        lines += ["data_optics", "", "loop_", *(f"_{name}" for name in ("rlnOpticsGroup", *optics))]
        lines += [" ".join(map(str, (1, *optics.values()))), ""]
        columns = {**columns, "rlnOpticsGroup": [1, 1]}
    lines += ["data_particles" if optics else "data_", "", "loop_"]
    lines += [f"_{name}" for name in columns]
    lines += [" ".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([*lines, ""]))
    return path


def pair(x, y=(100.0, 100.0), z=None, name="rlnMicrographName", micrograph="m.mrc"):
    columns = {name: [micrograph] * 2, "rlnCoordinateX": x, "rlnCoordinateY": y}
    return columns if z is None else {**columns, "rlnCoordinateZ": z}


@pytest.fixture
def are_apart(tmp_path):
    """Return a function that checks the distance between the two particles of a table."""

    def check(path, distance, **options):
        options = {"score_field": "none", **options}
        for change, rejected in ((-0.01, 0), (0.01, 1)):
            output = tmp_path / f"out{change}"
            options["overwrite"] = True
            result = run(path, output, min_separation=distance + change, **options)
            assert result.rejected == rejected
            assert verify(output).verified

    return check


def test_relion_3_0_has_pixels_and_shifts_in_particle_pixels(tmp_path, are_apart):
    columns = pair((100.0, 150.0))
    columns |= {"rlnOriginX": [0.0, 5.0], "rlnOriginY": [0.0, 0.0]}
    columns |= {"rlnDetectorPixelSize": [14.0] * 2, "rlnMagnification": [35000.0] * 2}
    path = star(tmp_path / "p.star", columns)
    # Particle pixels of 1e4 * 14 / 35000 = 4 A, micrograph pixels of 2 A.
    are_apart(path, 50 * 2 - 5 * 4, micrograph_pixel_size=2.0)


def test_relion_3_1_has_pixels_and_shifts_in_angstrom(tmp_path, are_apart):
    columns = pair((100.0, 150.0))
    columns |= {"rlnOriginXAngst": [0.0, 20.0], "rlnOriginYAngst": [0.0, 0.0]}
    optics = {"rlnMicrographPixelSize": 2.0, "rlnImagePixelSize": 4.0}
    are_apart(star(tmp_path / "p.star", columns, optics), 80)


def test_relion_3_1_after_extract_asks_for_the_pixel_size(tmp_path, are_apart):
    columns = pair((100.0, 150.0))
    optics = {"rlnMicrographOriginalPixelSize": 1.0, "rlnImagePixelSize": 4.0}
    path = star(tmp_path / "p.star", columns, optics)
    with pytest.raises(InputError, match="rlnMicrographOriginalPixelSize is the pixel size of the"):
        run(path, tmp_path / "no", score_field="none")
    are_apart(path, 100, micrograph_pixel_size=2.0)
    table = {"rlnMicrographName": ["m.mrc"], "rlnMicrographPixelSize": [2.0]}
    known = star(tmp_path / "micrographs.star", table)
    are_apart(path, 100, micrographs=known)


def test_relion_4_tomograms_have_pixels_of_the_tilt_series(tmp_path, are_apart):
    columns = pair((100.0, 150.0), z=(50.0, 50.0), name="rlnTomoName", micrograph="TS_1")
    columns["rlnImageName"] = [f"Extract/job7/Subtomograms/TS_1/{n}_data.mrc" for n in (1, 2)]
    columns |= {f"rlnOrigin{axis}Angst": [0.0, 0.0] for axis in "YZ"}
    columns["rlnOriginXAngst"] = [0.0, 20.0]
    optics = {
        "rlnTomoTiltSeriesPixelSize": 2.0,
        "rlnTomoSubtomogramBinning": 2.0,
        "rlnImagePixelSize": 4.0,
    }
    are_apart(star(tmp_path / "p.star", columns, optics), 80)


def test_relion_rotates_shifts_of_subtomograms(tmp_path, are_apart):
    columns = pair((100.0, 150.0), z=(50.0, 50.0), name="rlnTomoName", micrograph="TS_1")
    columns |= {"rlnOriginXAngst": [0.0, 0.0], "rlnOriginYAngst": [0.0, 20.0]}
    columns |= {"rlnOriginZAngst": [0.0, 0.0], "rlnTomoSubtomogramRot": [0.0, 90.0]}
    columns |= {f"rlnTomoSubtomogram{angle}": [0.0, 0.0] for angle in ("Tilt", "Psi")}
    # RELION's matrix turns a shift along y by 90 degrees to one along x.
    path = star(tmp_path / "p.star", columns, {"rlnTomoTiltSeriesPixelSize": 2.0})
    are_apart(path, 80)


def test_relion_5_tomograms_have_angstrom_from_the_middle(tmp_path, are_apart):
    columns = {"rlnTomoName": ["TS_1"] * 2}
    columns |= {f"rlnCenteredCoordinate{axis}Angst": [0.0, 0.0] for axis in "YZ"}
    columns |= {"rlnCenteredCoordinateXAngst": [-40.0, 60.0], "rlnOriginXAngst": [0.0, 20.0]}
    columns |= {f"rlnOrigin{axis}Angst": [0.0, 0.0] for axis in "YZ"}
    optics = {"rlnTomoTiltSeriesPixelSize": 2.0, "rlnImagePixelSize": 4.0}
    are_apart(star(tmp_path / "p.star", columns, optics), 80)


def test_relion_5_annotations_have_pixels_of_the_binned_tomogram(tmp_path, are_apart):
    folder = tmp_path / "Picks" / "job007" / "annotations"
    folder.mkdir(parents=True)
    columns = pair((100.0, 110.0), z=(50.0, 50.0), name="rlnTomoName", micrograph="TS_1")
    path = star(folder / "TS_1_particles.star", columns)
    table = {"rlnTomoName": ["TS_1"], "rlnTomoTiltSeriesPixelSize": [2.0]}
    table |= {f"rlnTomoSize{axis}": [600] for axis in "XYZ"}
    unbinned = star(tmp_path / "tilt_series.star", table)
    wrong = {"micrographs": unbinned}, {"micrograph_pixel_size": 2.0}, {}
    for options in wrong:
        with pytest.raises(InputError, match="binned tomogram") as error:
            run(path, tmp_path / "no", score_field="none", **options)
        assert "micrograph_pixel_size" not in str(error.value)
    are_apart(path, 80, coordinate_pixel_size=8.0)
    table["rlnTomoTomogramBinning"] = [4.0]
    known = star(tmp_path / "tomograms.star", table)
    are_apart(path, 80, micrographs=known)
    # The same particles, in unbinned pixels
    columns |= {
        f"rlnCoordinate{axis}": [4 * x for x in columns[f"rlnCoordinate{axis}"]] for axis in "XYZ"
    }
    other = star(tmp_path / "particles.star", columns, {"rlnTomoTiltSeriesPixelSize": 2.0})
    both = run(
        [path, other], tmp_path / "both", score_field="none", micrographs=known, min_separation=0.1
    )
    assert (both.kept, both.rejected, both.warnings) == (2, 2, [])
    inputs = json.loads((tmp_path / "both" / "manifest.json").read_text())["inputs"]
    assert [entry["position_unit"] for entry in inputs] == ["own pixel", "pixel"]
    assert verify(tmp_path / "both").verified


def warp(path, *, unbinned, **more):
    columns = pair((100.0, 120.0), z=(50.0, 50.0), name="rlnTomoName", micrograph="TS_1.tomostar")
    columns["rlnImageName"] = [f"../TS_1/TS_1_4.00A_00000{n}.mrcs" for n in (1, 2)]
    optics = {"rlnTomoTiltSeriesPixelSize": unbinned, "rlnTomoSubtomogramBinning": 4.0 / unbinned}
    optics["rlnImagePixelSize"] = 4.0
    return star(path, {**columns, **more}, optics, {"rlnTomoSubTomosAre2DStacks": 1})


@pytest.mark.parametrize("unbinned", [1.35, 4.0], ids=["up to 2.0.0dev39", "from 2.0.0dev40"])
def test_warp_has_pixels_of_the_exported_image(tmp_path, are_apart, unbinned):
    are_apart(warp(tmp_path / "p.star", unbinned=unbinned), 80)


def test_warp_exports_refined_in_relion_keep_their_pixels(tmp_path, are_apart):
    shifts = {f"rlnOrigin{axis}Angst": [0.0, 0.0] for axis in "YZ"}
    path = warp(tmp_path / "p.star", unbinned=1.35, rlnOriginXAngst=[0.0, 20.0], **shifts)
    are_apart(path, 60)


def test_warp_1_and_volumes_have_pixels_of_the_exported_image(tmp_path, are_apart):
    columns = pair((100.0, 120.0), z=(50.0, 50.0), micrograph="TS_1.mrc_15.00Apx.mrc")
    columns["rlnImageName"] = [f"TS_1/TS_1.mrc_000000{n}_4.00A.mrc" for n in (1, 2)]
    columns |= {"rlnDetectorPixelSize": [4.0] * 2, "rlnMagnification": [10000.0] * 2}
    are_apart(star(tmp_path / "p.star", columns), 80)


def test_warp_template_matching_has_fractions_of_the_tomogram(tmp_path, are_apart):
    columns = pair((0.5, 0.51), (0.1, 0.1), (0.2, 0.2), micrograph="TS_1.tomostar")
    path = star(tmp_path / "TS_1_10.00Apx_emd_15854.star", columns)
    with pytest.raises(InputError, match="fractions of the tomogram"):
        run(path, tmp_path / "no", score_field="none", micrograph_pixel_size=10.0)
    sizes = {"rlnTomoSizeX": [4000], "rlnTomoSizeY": [4000], "rlnTomoSizeZ": [2000]}
    table = {"rlnTomoName": ["TS_1.tomostar"], **sizes, "rlnTomoTiltSeriesPixelSize": [2.0]}
    are_apart(path, 80, micrographs=star(tmp_path / "tomograms.star", table))


def test_m_has_angstrom_from_the_corner(tmp_path, are_apart):
    columns = {"wrpCoordinateX1": [400.0, 480.0], "wrpCoordinateY1": [320.0] * 2}
    columns |= {"wrpCoordinateZ1": [240.0] * 2, "wrpSourceName": ["TS_1.tomostar"] * 2}
    are_apart(star(tmp_path / "particles.star", columns), 80)


def cryosparc(*, psize=True):
    """Return two particles: 100 pixels of 2 A apart along x, the second shifted by 5 pixels of 4 A."""
    fields = [
        ("uid", "<u8"),
        ("location/micrograph_uid", "<u8"),
        ("location/micrograph_shape", "<u4", (2,)),
        ("location/center_x_frac", "<f4"),
        ("location/center_y_frac", "<f4"),
        ("alignments3D/shift", "<f4", (2,)),
        ("alignments3D/psize_A", "<f4"),
    ]
    if psize:
        fields.append(("location/micrograph_psize_A", "<f4"))
    rows = np.zeros(2, fields)
    rows["uid"] = [11, 12]
    rows["location/micrograph_uid"] = 7
    rows["location/micrograph_shape"] = (400, 800)  # ny, nx
    rows["location/center_x_frac"] = [0.25, 0.375]
    rows["location/center_y_frac"] = 0.5
    rows["alignments3D/shift"] = [(0, 0), (5, 0)]
    rows["alignments3D/psize_A"] = 4.0
    if psize:
        rows["location/micrograph_psize_A"] = 2.0
    return rows


def save(rows, path):
    with path.open("wb") as file:
        np.save(file, rows)
    return path


def test_cryosparc_3_has_fractions_but_no_micrograph_pixel_size(tmp_path, are_apart):
    path = save(cryosparc(psize=False), tmp_path / "particles.cs")
    with pytest.raises(InputError, match="no micrograph pixel size"):
        run(path, tmp_path / "no", score_field="none")
    are_apart(path, 180, micrograph_pixel_size=2.0)
    exposures = np.zeros(1, [("uid", "<u8"), ("micrograph_blob/psize_A", "<f4")])
    exposures["uid"], exposures["micrograph_blob/psize_A"] = 7, 2.0
    are_apart(path, 180, micrographs=save(exposures, tmp_path / "exposures.cs"))


def test_cryosparc_4_has_fractions_of_the_micrograph(tmp_path, are_apart):
    are_apart(save(cryosparc(), tmp_path / "particles.cs"), 180)


def test_cryosparc_5_compressed_tables_mean_the_same(tmp_path, are_apart):
    rows = cryosparc()
    fields = []
    for name in rows.dtype.names:
        shape = rows.dtype[name].shape
        fields.append([name, rows.dtype[name].base.str, *([list(shape)] if shape else [])])
    header = {"length": 2, "dtype": fields, "compression": None, "compressed_fields": []}
    text = json.dumps(header).encode()
    parts = [np.ascontiguousarray(rows[name]).tobytes() for name in rows.dtype.names]
    content = b"\x95CSDAT" + struct.pack("<I", len(text)) + text
    content += b"".join(struct.pack("<I", len(part)) + part for part in parts)
    path = tmp_path / "particles.cs"
    path.write_bytes(content)
    are_apart(path, 180)


def test_dynamo_tables_converted_to_star_have_voxels(tmp_path, are_apart):
    """dynamo2m adds the shifts to the coordinates and names no pixel size."""
    columns = pair((100.0, 110.0), z=(50.0, 50.0), micrograph="TS_1.tomostar")
    columns |= {f"rlnAngle{angle}": [0.0, 30.0] for angle in ("Rot", "Tilt", "Psi")}
    path = star(tmp_path / "p.star", columns)
    with pytest.raises(InputError, match="no micrograph pixel size"):
        run(path, tmp_path / "no", score_field="none")
    are_apart(path, 80, micrograph_pixel_size=8.0)


def test_scipion_exports_mean_what_relion_means(tmp_path, are_apart):
    columns = pair((100.0, 150.0), micrograph="Runs/000123_Proto/extra/m_aligned_mic_DW.mrc")
    columns |= {"rlnOriginXAngst": [0.0, 20.0], "rlnOriginYAngst": [0.0, 0.0]}
    optics = {"rlnMicrographPixelSize": 2.0, "rlnImagePixelSize": 4.0}
    are_apart(star(tmp_path / "p.star", columns, optics), 80)


def test_pytom_has_voxels_and_no_magnification(tmp_path, are_apart):
    columns = pair((100.0, 110.0), z=(50.0, 50.0), micrograph="TS_1.tomostar")
    columns |= {"rlnLCCmax": [0.5, 0.4], "rlnDetectorPixelSize": [8.0] * 2}
    path = star(tmp_path / "TS_1_particles.star", columns)
    are_apart(path, 80, micrograph_pixel_size=8.0, score_field="rlnLCCmax:higher")


def test_cistem_tables_are_refused(tmp_path):
    columns = {"cisTEMOriginalXPosition": [100.0] * 2, "cisTEMOriginalYPosition": [100.0] * 2}
    with pytest.raises(InputError, match="Export the particles from cisTEM for RELION"):
        run(star(tmp_path / "p.star", columns), tmp_path / "out", score_field="none")


def test_the_page_names_every_test_of_this_file():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    here = {name for name in globals() if name.startswith("test_") and "page" not in name}
    assert named == here
