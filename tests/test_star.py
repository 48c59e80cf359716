"""STAR files: tables and columns are found, values are read, and lines are written unchanged."""

from __future__ import annotations

import hashlib
import math
import pickle
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables import Output

from dask_dedup import run, verify
from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError, RunError
from dask_dedup.formats import base, open_table
from dask_dedup.formats.star import lines as star_lines
from dask_dedup.formats.star import table as star
from dask_dedup.particles.column_roles import resolve_roles

REAL_STARS = {
    # file: (rows, unit of separation)
    "cdp_annotations/relion_3_star.star": (6, "rlnMicrographName"),
    "cdp_annotations/relion_4_star.star": (6, "rlnTomoName"),
    "cdp_annotations/tomoman_relion_star.star": (6, "rlnTomoName"),
    "cryolo_boxmanager/priors_particles.star": (3010, "rlnMicrographName"),
    "cryo_emmae/prediction_82_test.star": (124, "rlnMicrographName"),
    "cryosegnet_empiar10017/sample.star": (629, "rlnMicrographName"),
    "cylindra_relion5/class3d_run_it025_data.star": (10, "rlnTomoName"),
    "cylindra_relion5/refine3d_run_it050_data.star": (5, "rlnTomoName"),
    "cylindra_relion5/tomograms.star": (2, "rlnTomoName"),
    "dynamo2m_chemoreceptor/relion3.1.star": (57, "rlnMicrographName"),
    "dynamo2m_chemoreceptor/warp2dynamo_example.star": (1399, "rlnMicrographName"),
    "micrograph_cleaner/Ucsf_stack_1142_DW_autopick.star": (45, "rlnMicrographName"),
    "mtcurvefit/CCDC147C_001_particles.star": (1500, "rlnMicrographName"),
    "mtcurvefit/CCDC147C_001_particles_fitted.star": (1023, "rlnTomoName"),
    "mtcurvefit/CCDC147C_001_particles_fitted_cleaned.star": (1003, "rlnTomoName"),
    "mtcurvefit/CCDC147C_001_particles_fitted_cleaned_connected.star": (1012, "rlnTomoName"),
    "mtcurvefit/CCDC147C_001_particles_processed.star": (1012, "rlnTomoName"),
    "mtcurvefit/SPEF1MT2_001_8.48Apx_particles.star": (1500, "rlnMicrographName"),
    "napari_starfile/example_particles.star": (4815, "rlnMicrographName"),
    "napari_starfile/example_particles_with_optics.star": (126, "rlnMicrographName"),
    "pyseg_synaptic/particles.star": (60, "rlnMicrographName"),
}
REFUSED_STARS = {
    # file: start of the message after the path
    "cryolo_boxmanager/star_example.star": "row 0 (line 14) has 9 values, but the table has 10 columns",
}
#: Files that are read as picks, see test_coordinates_tomography.py.
PICK_STARS = {
    *("cdp_annotations/stopgap_star.star", "tomo_forms_chemoreceptor/chemo_stopgap.star"),
}

# --- simulated files, laid out as RELION writes them ---------------------------------------------


def loop(block, labels, rows, *, version=None, numbered=True):
    lines = [f"# version {version}", ""] if version else []
    lines += [f"data_{block}", "", "loop_ "]
    lines += [f"_{label} #{n} " if numbered else f"_{label}" for n, label in enumerate(labels, 1)]
    return "\n".join(["", *lines, *(" ".join(map(str, row)) + " " for row in rows), " ", ""])


def numbers(rows, columns, seed=0):
    values = np.random.default_rng(seed).normal(0, 500, (rows, columns))
    return [[f"{value:12.6f}" for value in row] for row in values.tolist()]


def relion30(rows=40):
    labels = ("CoordinateX", "CoordinateY", "OriginX", "OriginY", "Magnification")
    labels += ("DetectorPixelSize", "ClassNumber", "MicrographName", "ImageName")
    table = [
        [*row, "10000.000000", "    3.540000", f"{n % 3:12}", f"mic{n // 9:03}.mrc", f"{n}@a.mrcs"]
        for n, row in enumerate(numbers(rows, 4))
    ]
    return loop("", [f"rln{label}" for label in labels], table)


OPTICS = loop(
    "optics",
    ("rlnOpticsGroupName", "rlnOpticsGroup", "rlnMicrographPixelSize", "rlnImagePixelSize"),
    [("opticsGroup2", 7, "0.9", 3.6), ("opticsGroup1", 2, "0.885000", 1.77)],
    version=30001,
)


def relion31(rows=40, groups=(7, 2, 2)):
    labels = ("rlnCoordinateX", "rlnCoordinateY", "rlnOriginXAngst", "rlnOriginYAngst")
    labels += ("rlnAutopickFigureOfMerit", "rlnMicrographName", "rlnOpticsGroup", "rlnRandomSubset")
    table = [
        [*row, f"Mot/job2/{n // 9:03}.mrc", f"{groups[n % len(groups)]:12}", f"{n % 2 + 1:12}"]
        for n, row in enumerate(numbers(rows, 5))
    ]
    return OPTICS + loop("particles", labels, table, version=30001)


TOMO_OPTICS = loop(
    "optics",
    ("rlnOpticsGroup", "rlnOpticsGroupName", "rlnTomoTiltSeriesPixelSize", "rlnImagePixelSize"),
    [(1, "optics1", 1.35, 2.7)],
    version=50001,
)


def relion4_tomo(rows=20):
    labels = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "rlnTomoName", "rlnOpticsGroup")
    table = [[*row, f"TS_{n // 7}", 1] for n, row in enumerate(numbers(rows, 3))]
    return TOMO_OPTICS + loop("particles", labels, table, version=30001)


def relion5_tomo(rows=20):
    labels = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    labels += ["rlnTomoName", "rlnTomoVisibleFrames", "rlnOpticsGroup"]
    table = [[*row, f"TS_{n // 7}", "[1,1,0]", 1] for n, row in enumerate(numbers(rows, 3))]
    general = "\n# version 50001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks      1\n \n"
    return general + TOMO_OPTICS + loop("particles", labels, table, version=50001)


SIMULATED = {
    "relion30": relion30(),
    "relion31": relion31(),
    "relion4_tomo": relion4_tomo(),
    "relion5_tomo": relion5_tomo(),
    "no optics, no numbers": loop(
        "", ("rlnCoordinateX", "rlnMicrographName"), [(1, "a"), (2, "b")]
    ),
}


@pytest.fixture
def put(tmp_path):
    """Return a function that writes a file and opens it."""

    def put(content, name="particles.star"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return open_table(path)

    return put


@pytest.fixture
def tiny(monkeypatch):
    """Use fragments of a row or two and blocks of a line."""
    monkeypatch.setattr(base, "COPY_BYTES", 60)
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 150)
    monkeypatch.setattr(star_lines, "BLOCK_BYTES", 60)


# --- oracles -------------------------------------------------------------------------------------


def parts_of(content, block):
    """Split a file, line by line, into the text before a block's rows, the rows, and the text after."""
    lines = content.splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.split()[:1] == [b"data_" + block.encode()])
    at = next(n for n in range(at, len(lines)) if lines[n].split()[:1] == [b"loop_"]) + 1
    while at < len(lines) and (_idle(lines[at]) or lines[at].strip().startswith(b"_")):
        at += 1
    starts = []
    for n, line in enumerate(lines[at:], at):
        if re.match(rb"\s*(data_\S*|loop_)\s*(#.*)?$", line):
            break
        if not _idle(line):
            starts.append(n)
    edges = [*starts, starts[-1] + 1] if starts else [at]
    rows = [b"".join(lines[start:stop]) for start, stop in pairwise(edges)]
    return b"".join(lines[: edges[0]]), rows, b"".join(lines[edges[-1] :])


def _idle(line):
    return not line.strip() or line.strip().startswith(b"#")


def tokens(row):
    """Return the values of a row without quotes."""
    found = re.findall(r"(?<!\S)(?:'(.*?)'(?!\S)|\"(.*?)\"(?!\S)|(\S+))", row)
    return [one or two or three for one, two, three in found]


def split(table, keep, folder):
    """Split and assemble as a run does; return the two files."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"kept": [], "rejected": []}
    for fragment in table.fragments:
        mask = keep[fragment.first_row : fragment.first_row + fragment.rows]
        paths = [folder / f"{name}-{fragment.number}" for name in parts]
        star.split(table, fragment, mask, *paths)
        for found, path in zip(parts.values(), paths, strict=True):
            found.append(path)
    results = []
    for name, found in parts.items():
        rows = int(keep.sum() if name == "kept" else (~keep).sum())
        (written,) = star.assemble(table, found, rows, folder, f"{name}.star")
        target = folder / written.path
        assert (written.rows, written.bytes) == (rows, target.stat().st_size)
        assert written.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
        assert all(path.exists() for path in found), "a resumed run needs the parts"
        results.append(target)
    return results


def masks(rows, seed=0):
    rng = np.random.default_rng(seed)
    yield rng.random(rows) < 0.7
    yield np.ones(rows, bool)
    yield np.zeros(rows, bool)


def read_all(table, columns):
    parts = [star.read(table, fragment, columns) for fragment in table.fragments]
    return pa.concat_tables(parts).unify_dictionaries()


def block_of(table):
    """Return the name of the block of the particles."""
    before = Path(table.path).read_bytes()[: table.detail.start]
    return re.findall(rb"^\s*data_(\S*)", before, re.MULTILINE)[-1].decode()


def check_split(table, folder):
    """Check that both outputs hold the input's lines, in order, between the rest of the input."""
    content = Path(table.path).read_bytes()
    head, rows, tail = parts_of(content, block_of(table))
    assert len(rows) == table.rows == sum(fragment.rows for fragment in table.fragments)
    for number, keep in enumerate(masks(len(rows))):
        kept, rejected = split(table, keep, folder / str(number))
        chosen = [row for row, good in zip(rows, keep, strict=True) if good]
        others = [row for row, good in zip(rows, keep, strict=True) if not good]
        assert kept.read_bytes() == head + b"".join(chosen) + tail
        assert rejected.read_bytes() == head + b"".join(others) + tail


def gemmi_tables(path):
    gemmi = pytest.importorskip("gemmi")
    tables = {}
    for block in gemmi.cif.read(str(path)):
        for item in block:
            if item.loop is not None:
                width = item.loop.width()
                values = list(item.loop.values)
                rows = [values[n : n + width] for n in range(0, len(values), width)]
                tables[block.name, item.loop.tags[0]] = (list(item.loop.tags), rows)
            elif item.pair is not None:
                tables[block.name, item.pair[0]] = item.pair
    return tables


def starfile_tables(path):
    starfile = pytest.importorskip("starfile")
    tables = starfile.read(path, always_dict=True, parse_as_string=())
    return {
        name: table if isinstance(table, dict) else table.astype(str).to_dict("list")
        for name, table in tables.items()
    }


def check_readers(table, folder, keep):
    """Check that other programs read both outputs, with the input's other tables and the right rows."""
    outputs = split(table, keep, folder / "readers")
    original = gemmi_tables(table.path)
    particles = next(
        key
        for key, (tags, _) in original.items()
        if list(tags) == [f"_{x}" for x in table.detail.labels]
    )
    for path, mask in zip(outputs, (keep, ~keep), strict=True):
        tables = gemmi_tables(path)
        tags, rows = tables.pop(particles)
        assert tags == original[particles][0]
        assert rows == [row for row, good in zip(original[particles][1], mask, strict=True) if good]
        assert tables == {key: value for key, value in original.items() if key != particles}
    first = starfile_tables(table.path)
    for path, mask in zip(outputs, (keep, ~keep), strict=True):
        tables = starfile_tables(path)
        assert tables.keys() == first.keys()
        for name, content in first.items():
            if isinstance(content, dict) and list(content) == list(table.detail.labels):
                assert {
                    column: len(values) for column, values in tables[name].items()
                } == dict.fromkeys(content, int(mask.sum()))
            else:
                assert tables[name] == content


# --- real and simulated files --------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL_STARS)
def test_real_files_are_written_unchanged(real_data, name, tmp_path):
    rows, unit = REAL_STARS[name]
    table = open_table(real_data / name)
    assert table.rows == rows
    assert unit in table.schema.names
    check_split(table, tmp_path)
    if "tomograms" not in name:
        params = DedupParams(min_separation=20, score_field="none", shift_key="none")
        roles = resolve_roles(table.schema.names, params, name)
        assert roles.micrograph == unit


@pytest.mark.real_data
@pytest.mark.parametrize("name", [*REAL_STARS][::2])
def test_other_programs_read_the_output_of_real_files(real_data, name, tmp_path):
    table = open_table(real_data / name)
    check_readers(table, tmp_path, np.arange(table.rows) % 3 > 0)


@pytest.mark.real_data
@pytest.mark.parametrize("name", REFUSED_STARS)
def test_real_files_that_are_refused(real_data, name):
    with pytest.raises(InputError) as error:
        resolve_roles(open_table(real_data / name).schema.names, DedupParams(), real_data / name)
    assert str(error.value).startswith(f"{real_data / name}: {REFUSED_STARS[name]}")


@pytest.mark.real_data
def test_every_real_star_is_listed_here(real_data):
    found = {str(path.relative_to(real_data)) for path in real_data.glob("*/*.star")}
    assert found == {*REAL_STARS, *REFUSED_STARS, *PICK_STARS}


@pytest.mark.real_data
def test_real_files_in_small_fragments_give_the_same_rows(real_data, tmp_path, monkeypatch):
    path = real_data / "dynamo2m_chemoreceptor/warp2dynamo_example.star"
    whole = open_table(path)
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 10_000)
    monkeypatch.setattr(star_lines, "BLOCK_BYTES", 1_000)
    table = open_table(path)
    assert len(table.fragments) > 20
    assert read_all(table, table.schema.names).equals(read_all(whole, table.schema.names))
    check_split(table, tmp_path)


line_ends = pytest.mark.parametrize(("newline", "final"), [("\n", True), ("\r\n", False)])


@pytest.mark.parametrize("name", SIMULATED)
@line_ends
def test_simulated_files_are_written_unchanged(put, tmp_path, name, newline, final):
    content = SIMULATED[name] if final else SIMULATED[name].rstrip()
    table = put(content.replace("\n", newline))
    check_split(table, tmp_path)


@pytest.mark.parametrize("name", SIMULATED)
@line_ends
def test_other_programs_read_the_output_of_simulated_files(put, tmp_path, name, newline, final):
    content = SIMULATED[name] if final else SIMULATED[name].rstrip()
    table = put(content.replace("\n", newline))
    check_readers(table, tmp_path, np.arange(table.rows) % 3 > 0)
    check_readers(table, tmp_path, np.ones(table.rows, bool))


@pytest.mark.parametrize("name", SIMULATED)
@line_ends
def test_many_fragments_equal_one(put, tmp_path, name, newline, final, monkeypatch):
    content = (SIMULATED[name] if final else SIMULATED[name].rstrip()).replace("\n", newline)
    whole = put(content)
    columns = whole.schema.names
    expected = read_all(whole, columns)
    for size in (1, 100, 333):
        monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", size)
        monkeypatch.setattr(star_lines, "BLOCK_BYTES", max(1, size // 3))
        table = put(content)
        assert size > 1 or len(table.fragments) == table.rows
        firsts = np.cumsum([0] + [fragment.rows for fragment in table.fragments])[:-1].tolist()
        assert [fragment.first_row for fragment in table.fragments] == firsts
        assert table.schema == whole.schema
        assert read_all(table, columns).equals(expected)
        check_split(table, tmp_path / str(size))


def test_tables_can_be_pickled(put):
    table = put(relion31())
    same = pickle.loads(pickle.dumps(table))
    assert same == table
    assert star.read(same, same.fragments[0], ["rlnOpticsGroup"]).num_rows == table.rows


# --- columns and types ---------------------------------------------------------------------------


def test_types_follow_labels_then_values(put):
    labels = ("rlnCoordinateX", "rlnMicrographName", "rlnClassNumber", "rlnHelicalTubeID")
    labels += ("rlnDefocusU", "rlnBodyKept", "rlnGroupName", "rlnRandomSubset", "myLabel")
    table = put(
        loop("particles", labels, [("1", "001", 3, "2.000", "7", "yes", 5, "1.5", "[1,2]")])
    )
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "rlnCoordinateX": pa.float64(),
        "rlnMicrographName": pa.string(),
        "rlnClassNumber": pa.int64(),
        "rlnHelicalTubeID": pa.int64(),
        "rlnDefocusU": pa.float64(),
        "rlnBodyKept": pa.string(),
        "rlnGroupName": pa.string(),
        "rlnRandomSubset": pa.float64(),
        "myLabel": pa.string(),
    }
    rows = read_all(table, table.schema.names)
    assert rows.to_pylist()[0] == {
        "rlnCoordinateX": 1.0,
        "rlnMicrographName": "001",
        "rlnClassNumber": 3,
        "rlnHelicalTubeID": 2,
        "rlnDefocusU": 7.0,
        "rlnBodyKept": "yes",
        "rlnGroupName": "5",
        "rlnRandomSubset": 1.5,
        "myLabel": "[1,2]",
    }
    assert rows.schema.field("rlnMicrographName").type == pa.dictionary(pa.int32(), pa.string())


def test_only_the_requested_columns_are_read_in_the_requested_order(put):
    table = put(relion31())
    rows = star.read(table, table.fragments[0], ["rlnRandomSubset", "rlnCoordinateX"])
    assert rows.column_names == ["rlnRandomSubset", "rlnCoordinateX"]
    assert star.read(table, table.fragments[0], ["rlnCoordinateY"]).num_columns == 1


@pytest.mark.parametrize(
    "token",
    [
        "0.1",
        "1e-320",
        "4.9e-324",
        "1e-400",
        "1.7976931348623157e308",
        "1e999",
        ".5",
        "5.",
        "+3.25",
        "-0.0",
        "1E5",
        "007",
        "1e+05",
        "-0",
        "nan",
        "NaN",
        "-nan",
        "inf",
        "-inf",
        "Infinity",
        "123456789012345678",
        "9007199254740993",
        "3.4028235e+38",
        "0.1000000000000000055511151",
    ],
)
def test_numbers_are_parsed_as_python_does(put, token):
    table = put(loop("particles", ("rlnCoordinateX", "rlnCoordinateY"), [(token, 1), (2, token)]))
    rows = read_all(table, ["rlnCoordinateX", "rlnCoordinateY"])
    for value in (rows["rlnCoordinateX"][0].as_py(), rows["rlnCoordinateY"][1].as_py()):
        expected = float(token)
        same = value == expected and math.copysign(1, value) == math.copysign(1, expected)
        assert same or (math.isnan(value) and math.isnan(expected))


MISSING = ["<NA>", "None", "null", "NULL", "NA", "N/A", "nan", '""', "''", ".", "?"]


@pytest.mark.parametrize("token", MISSING)
@pytest.mark.parametrize("first", [True, False])
def test_missing_numbers_are_read_as_missing(put, tmp_path, token, first):
    labels = ("rlnMicrographName", "rlnCoordinateX", "rlnHelicalTubeID", "rlnDefocusU")
    rows = [("a", 1.5, 7, 2), (token, token, token, token)]
    table = put(loop("particles", labels, [rows[1], rows[0]] if first else rows))
    read = read_all(table, list(labels))
    values = {name: read[name].to_pylist()[:: -1 if first else 1] for name in labels}
    assert values["rlnMicrographName"] == ["a", "" if token in ("''", '""') else token]
    for name, expected in (("rlnCoordinateX", 1.5), ("rlnHelicalTubeID", 7), ("rlnDefocusU", 2)):
        value, missing = values[name]
        assert value == expected
        assert missing is None or math.isnan(missing)
    check_split(table, tmp_path)


def test_a_column_of_missing_values_only_stays_text(put):
    table = put(loop("particles", ("rlnCoordinateX", "other"), [(1, "<NA>"), (2, "None")]))
    assert table.schema.field("other").type == pa.string()


@pytest.mark.parametrize("token", ["missing", "--", "<na", "1,5"])
def test_other_words_are_no_numbers(put, token):
    table = put(loop("particles", ("rlnCoordinateX",), [(1,), (token,)]))
    with pytest.raises(InputError, match="which is not a number"):
        read_all(table, ["rlnCoordinateX"])


def test_a_missing_pixel_size_of_an_optics_group_is_missing_in_its_rows(put):
    labels = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnOpticsGroup")
    optics = loop("optics", ("rlnOpticsGroup", "rlnMicrographPixelSize"), [(1, "<NA>"), (2, 1.5)])
    table = put(optics + loop("particles", labels, [("a", 1, 2, 1), ("b", 1, 2, 2)]))
    missing, size = read_all(table, ["rlnMicrographPixelSize"])[0].to_pylist()
    assert size == 1.5
    assert math.isnan(missing)


def test_a_row_without_an_optics_group_is_refused(put):
    labels = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnOpticsGroup")
    table = put(OPTICS + loop("particles", labels, [("a", 1, 2, "<NA>")]))
    with pytest.raises(InputError, match=r"row 0 .* has no optics group"):
        read_all(table, ["rlnMicrographPixelSize"])


def test_missing_values_written_by_starfile(tmp_path):
    """Filaments, half-sets and scores that some rows lack; rows without a position are refused."""
    import pandas as pd
    import starfile

    frame = pd.DataFrame(
        {
            "rlnMicrographName": ["m.mrc"] * 4,
            "rlnCoordinateX": [10.0, 12.0, 300.0, 500.0],
            "rlnCoordinateY": [10.0, 12.0, 300.0, 500.0],
            "rlnMicrographPixelSize": [1.0] * 4,
            "rlnAutopickFigureOfMerit": [None, 0.5, 0.1, None],
            "rlnHelicalTubeID": pd.array([None, 1, 1, None], "Int64"),
            "rlnRandomSubset": pd.array([1, None, 2, None], "Int64"),
            "comment": [None, "x", None, "y"],
        }
    )
    starfile.write(frame, tmp_path / "a.star")
    assert "<NA>" in (tmp_path / "a.star").read_text()
    score = "rlnAutopickFigureOfMerit:higher"
    for output_format in ("native", "parquet"):
        out = tmp_path / output_format
        run(
            tmp_path / "a.star",
            out,
            score_field=score,
            ignore_within_filament=True,
            output_format=output_format,
        )
        assert verify(out).verified
        assert Output(out).duplicates["row"].to_pylist() == [0]
    frame.loc[2, "rlnCoordinateX"] = None
    starfile.write(frame, tmp_path / "b.star", overwrite=True)
    with pytest.raises(InputError, match="1 row has no finite position"):
        run(tmp_path / "b.star", tmp_path / "out", score_field=score)


def test_optics_groups_give_each_row_its_pixel_sizes(put):
    table = put(relion31(groups=(7, 2, 2)))
    assert table.schema.names[-2:] == ["rlnMicrographPixelSize", "rlnImagePixelSize"]
    rows = read_all(table, ["rlnImagePixelSize", "rlnOpticsGroup", "rlnMicrographPixelSize"])
    group = rows["rlnOpticsGroup"].to_numpy()
    np.testing.assert_array_equal(rows["rlnMicrographPixelSize"], np.where(group == 7, 0.9, 0.885))
    np.testing.assert_array_equal(rows["rlnImagePixelSize"], np.where(group == 7, 3.6, 1.77))


def test_tomograms_get_the_tilt_series_pixel_size(put):
    rows = read_all(put(relion4_tomo()), ["rlnTomoTiltSeriesPixelSize"])
    assert set(rows[0].to_pylist()) == {1.35}


def test_a_pixel_size_in_the_rows_overrides_the_optics_table(put):
    particles = loop("particles", ("rlnImagePixelSize", "rlnOpticsGroup"), [(9.5, 7)])
    table = put(OPTICS + particles)
    assert table.schema.names == ["rlnImagePixelSize", "rlnOpticsGroup", "rlnMicrographPixelSize"]
    assert read_all(table, ["rlnImagePixelSize"])[0].to_pylist() == [9.5]


def test_a_single_optics_group_without_a_loop(put):
    optics = "data_optics\n\n_rlnOpticsGroup 3\n_rlnImagePixelSize '2.5' # binned\n"
    table = put(optics + loop("particles", ("rlnCoordinateX", "rlnOpticsGroup"), [(1, 3)]))
    assert read_all(table, ["rlnImagePixelSize"])[0].to_pylist() == [2.5]


def test_an_unknown_optics_group_is_refused(put, tiny):
    table = put(relion31(groups=(7, 7, 7, 7, 5)))
    assert read_all(table, ["rlnOpticsGroup"]).num_rows == 40
    with pytest.raises(InputError, match=r"row 4 \(line \d+\) has optics group 5.*has only 2, 7"):
        read_all(table, ["rlnImagePixelSize"])


def test_contradictory_optics_groups_are_refused(put):
    optics = loop("optics", ("rlnOpticsGroup", "rlnImagePixelSize"), [(1, 2.0), (1, 3.0)])
    with pytest.raises(InputError, match="data_optics lists optics group 1 twice"):
        put(optics + loop("particles", ("rlnCoordinateX", "rlnOpticsGroup"), [(1, 1)]))
    optics = loop("optics", ("rlnOpticsGroup", "rlnImagePixelSize"), [(1, "unknown")])
    with pytest.raises(InputError, match="data_optics has 'unknown' for rlnImagePixelSize"):
        put(optics + loop("particles", ("rlnCoordinateX", "rlnOpticsGroup"), [(1, 1)]))


def test_relion_3_0_particle_pixel_size_is_computed_from_detector_and_magnification(put):
    table = put(relion30())
    assert table.schema.names[-1] == "rlnImagePixelSize"
    assert set(read_all(table, ["rlnImagePixelSize"])[0].to_pylist()) == {1e4 * 3.54 / 1e4}


def test_relion_3_0_micrograph_pixel_size_is_computed_in_micrograph_tables(put):
    labels = ("rlnMicrographName", "rlnMagnification", "rlnDetectorPixelSize")
    table = put(loop("", labels, [("a.mrc", 5000, 0.5)]), "micrographs.star")
    assert read_all(table, ["rlnMicrographPixelSize"])[0].to_pylist() == [1.0]
    assert "rlnImagePixelSize" not in table.schema.names


def test_micrograph_tables_open_the_same_way(put):
    micrographs = loop("micrographs", ("rlnMicrographName", "rlnOpticsGroup"), [("a.mrc", 2)])
    table = put(OPTICS + micrographs, "micrographs.star")
    rows = read_all(table, ["rlnMicrographName", "rlnMicrographPixelSize"])
    assert rows.to_pylist() == [{"rlnMicrographName": "a.mrc", "rlnMicrographPixelSize": 0.885}]


@pytest.mark.real_data
def test_tomogram_tables_open_the_same_way(real_data):
    table = open_table(real_data / "cylindra_relion5/tomograms.star")
    rows = read_all(table, ["rlnTomoName", "rlnTomoTiltSeriesPixelSize"])
    assert rows.to_pydict() == {
        "rlnTomoName": ["TS_01", "TS_02"],
        "rlnTomoTiltSeriesPixelSize": [10.52, 10.52],
    }


@pytest.mark.parametrize(
    ("file", "micrograph"),
    [
        ("mic_1_autopick.star", "mic_1.mrc"),
        ("mic_1_manualpick.star", "mic_1.mrc"),
        ("mic_1_topazpicks.star", "mic_1.mrc"),
        ("mic.1_autopick.star", "mic.1.mrc"),
    ],
)
def test_a_coordinate_file_of_a_picker_names_its_micrograph(put, file, micrograph):
    table = put(loop("", ("rlnCoordinateX", "rlnCoordinateY"), [(1, 2), (3, 4)]), file)
    assert read_all(table, ["rlnMicrographName"])[0].to_pylist() == [micrograph] * 2


@pytest.mark.parametrize("file", ["particles.star", "mic1.star"])
def test_a_micrograph_is_not_guessed_from_other_file_names(put, file):
    table = put(loop("", ("rlnCoordinateX", "rlnCoordinateY"), [(1, 2), (3, 4)]), file)
    assert "rlnMicrographName" not in table.schema.names


def test_a_micrograph_is_not_guessed_from_the_image(put):
    table = put(loop("particles", ("rlnCoordinateX", "rlnImageName"), [(1, "000001@J/mic.mrcs")]))
    assert "rlnMicrographName" not in table.schema.names


# --- syntax --------------------------------------------------------------------------------------

LABELS = "_rlnMicrographName\n_rlnCoordinateX\n_rlnClassNumber\n"
SYNTAX = {
    "plain": f"data_particles\nloop_\n{LABELS}a 1 2\nb 3 4\n",
    "numbers behind labels": "data_particles\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX#2\n"
    "  _rlnClassNumber\t #  3  \na 1 2\nb 3 4\n",
    "tabs and indents": f"data_particles\n\tloop_ \n{LABELS}\ta\t1 \t2\t\n   b  3   4",
    "blank lines": f"\n\ndata_particles\n\n\nloop_\n\n{LABELS}\na 1 2\n\n \t \nb 3 4\n\n  \n",
    "comments": f"# v\ndata_particles # x\nloop_ # y\n{LABELS}# z\na 1 2\n# it's\n  # 5 6 7\nb 3 4\n# e\n",
    "a comment behind a row": f"data_particles\nloop_\n{LABELS}a 1 2 # one\nb 3 4 #two'\n",
    "single quotes": f"data_particles\nloop_\n{LABELS}'a' 1 2\n'b' '3' 4\n",
    "double quotes": f'data_particles\nloop_\n{LABELS}"a" 1 2\n"b" "3" 4\n',
    "byte order mark": f"\ufeffdata_particles\nloop_\n{LABELS}a 1 2\nb 3 4\n",
    "images": f"data_images\nloop_\n{LABELS}a 1 2\nb 3 4\n",
    "unnamed": f"data_\nloop_\n{LABELS}a 1 2\nb 3 4\n",
    "another name": f"data_mine\nloop_\n{LABELS}a 1 2\nb 3 4\n",
    "upper case": f"DATA_particles\nLOOP_\n{LABELS}a 1 2\nb 3 4\n",
    "values after the rows": f"data_particles\nloop_\n{LABELS}a 1 2\nb 3 4\n_rlnX 5\n_rlnY 'a b'\n",
    "tables after it": f"data_particles\nloop_\n{LABELS}a 1 2\nb 3 4\ndata_z\nloop_\n_a\n1\n2\n",
    "micrographs beside it": f"data_micrographs\nloop_\n_rlnMicrographName\na\n\ndata_particles\nloop_\n"
    f"{LABELS}a 1 2\nb 3 4\n",
    "a job beside it": f"data_job\n_rlnJobTypeLabel relion.x\ndata_joboptions_values\nloop_\n_a\n_b\nx y\n"
    f"data_picks\nloop_\n{LABELS}a 1 2\nb 3 4\n",
}


@pytest.mark.parametrize("name", SYNTAX)
@pytest.mark.parametrize(("newline", "small"), [("\n", False), ("\r\n", True)])
def test_syntax(put, tmp_path, request, name, newline, small):
    if small:
        request.getfixturevalue("tiny")
    table = put(SYNTAX[name].replace("\n", newline))
    rows = read_all(table, ["rlnMicrographName", "rlnCoordinateX", "rlnClassNumber"])
    assert [list(row.values()) for row in rows.to_pylist()] == [["a", 1.0, 2], ["b", 3.0, 4]]
    content = Path(table.path).read_bytes()
    for number, keep in enumerate([[True, False], [False, True], [True, True], [False, False]]):
        keep = np.array(keep)
        kept, rejected = split(table, keep, tmp_path / str(number))
        start, stop = table.detail.start, table.detail.stop
        for path, mask in ((kept, keep), (rejected, ~keep)):
            output = path.read_bytes()
            assert output.startswith(content[:start])
            assert output.endswith(content[stop:])
            if mask.all():
                assert output == content
            again = open_table(path)
            assert again.rows == mask.sum()
            assert read_all(again, rows.column_names).to_pylist() == rows.filter(mask).to_pylist()


def test_quoted_values(put, tmp_path):
    rows = [
        "'a b' 1",
        '"it\'s" 2',
        "O'Neil.mrc 3",
        "'x # y' 4",
        "'' 5",
        '"" 6',
        "'he said \"a\"' 7",
    ]
    rows += ['"a\'  b\tc" 8', "a'b' 9", "'don't' 10", "' lead' 11"]
    table = put("data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n" + "\n".join(rows))
    read = read_all(table, ["rlnMicrographName", "rlnCoordinateX"])
    names = ["a b", "it's", "O'Neil.mrc", "x # y", "", "", 'he said "a"', "a'  b\tc"]
    assert read["rlnMicrographName"].to_pylist() == [*names, "a'b'", "don't", " lead"]
    assert read["rlnCoordinateX"].to_pylist() == list(range(1, 12))
    check_split(table, tmp_path)


def test_rows_may_begin_like_structure(put, tmp_path, tiny):
    rows = ["data_001.mrc 1 2", "loop_x 1 2", "_mic.mrc 1 2", "data/a.mrc 1 2", "Data 1 2", "d 1 2"]
    table = put(f"data_\nloop_\n{LABELS}" + "\n".join(rows) + "\ndata_next\n_a 1\n")
    assert table.rows == len(rows)
    names = read_all(table, ["rlnMicrographName"])[0].to_pylist()
    assert names == [row.split()[0] for row in rows]
    check_split(table, tmp_path)


def test_a_comment_between_rows_stays_with_the_row_before_it(put, tmp_path):
    table = put(f"data_\nloop_\n{LABELS}a 1 2\n# of a\n\nb 3 4\n# after all\n")
    kept, rejected = split(table, np.array([False, True]), tmp_path)
    assert kept.read_text() == f"data_\nloop_\n{LABELS}b 3 4\n# after all\n"
    assert rejected.read_text() == f"data_\nloop_\n{LABELS}a 1 2\n# of a\n\n# after all\n"


def test_text_that_is_not_utf8_is_written_unchanged(put, tmp_path):
    table = put(f"data_\nloop_\n{LABELS}ok 1 2\n".encode() + b"m\xe9t 3 4\n")
    check_split(table, tmp_path)
    assert read_all(table, ["rlnCoordinateX"])[0].to_pylist() == [1, 3]
    with pytest.raises(InputError, match=r"row 1 \(line 7\) has b'm\\xe9t' for rlnMicrographName"):
        read_all(table, ["rlnMicrographName"])


def test_an_empty_table(put, tmp_path):
    table = put(OPTICS + f"data_particles\nloop_\n{LABELS}\n\ndata_next\n_a 1\n")
    assert table.rows == 0
    assert len(table.fragments) == 1
    assert read_all(table, ["rlnCoordinateX", "rlnMicrographName"]).num_rows == 0
    kept, rejected = split(table, np.zeros(0, bool), tmp_path / "out")
    assert kept.read_bytes() == rejected.read_bytes() == Path(table.path).read_bytes()


def test_the_fingerprint_covers_every_byte(put, tiny):
    content = relion31().encode()
    table = put(content)
    assert put(content).files[0].fingerprint == table.files[0].fingerprint
    seen = {table.files[0].fingerprint}
    for offset in (2, content.index(b"0.885"), table.detail.start + 3, len(content) // 2 + 80):
        changed = bytearray(content)
        changed[offset] ^= 1
        try:
            seen.add(put(bytes(changed)).files[0].fingerprint)
        except InputError:
            seen.add(str(offset))
    seen.add(put(content.rstrip(b"\n")).files[0].fingerprint)
    assert len(seen) == 6


# --- errors --------------------------------------------------------------------------------------

GOOD = f"data_particles\nloop_\n{LABELS}" + "mic.mrc 1.5 2\n" * 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x00\x01\x02" * 50, "a binary file, not a STAR file"),
        (b"\x93NUMPY\x01\x00v\x00{}", "a binary file"),
        ("hello world\n", "line 1: not STAR"),
        ("rlnCoordinateX,rlnCoordinateY\n1,2\n", "line 1: not STAR"),
        ("# only a comment\n", r"no table could hold the particles \(found: nothing\)"),
        ("data_particles\n\n_rlnX 1\n", "no table .* data_particles \\(not a loop\\)"),
        (OPTICS, "no table could hold the particles \\(found: data_optics \\(2 rows\\)\\)"),
        ("loop_\n_a\n1\n", "line 1: not STAR"),
        ("data_\nloop_\n1 2\n", "line 3: not STAR"),
        ("data_\nloop_ _rlnX\n1 2\n", "line 2: not STAR"),
        ("data_\nloop_\n_rlnX 5\n1\n", "line 3: the label of a loop is followed by a value"),
        ("data_\nloop_\n_rlnX\n_rlnX\n1 1\n", "the label _rlnX occurs more than once"),
        (
            "data_a\nloop_\n_x\n1\ndata_b\nloop_\n_x\n1\n2\n",
            r"several tables .*data_a \(1 row\), data_b",
        ),
        ("data_particles\nloop_\n_x\n1\nloop_\n_y\n2\n", "several tables"),
        (GOOD.encode() + b"mic.mrc 1.5 2\n" * 5000 + b"m\0c 1 2\n", "line 5036: a NUL byte"),
        (GOOD.encode() + b"x" * 2**21, "line 36: longer than 1,048,576 bytes"),
        (b"#" * 2**21, "line 1: longer than"),
        (f"data_\nloop_\n{LABELS}a 1 2\n;text\n;\n", "line 7: multi-line text .* is not supported"),
        (b"data_\nloop_\n_rln\xff\n1\n", "line 3: the name .* is not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_files_that_are_refused(put, request, content, message, small):
    if small:
        request.getfixturevalue("tiny")
    with pytest.raises(InputError, match=message) as error:
        put(content)
    assert "\n" not in str(error.value)
    assert "particles.star" in str(error.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("mic.mrc 1.5", "has 2 values, but the table has 3 columns"),
        ("mic.mrc 1.5 2 7", "has 4 values, but the table has 3 columns"),
        ("mic.mrc 1.5 # 2", "has 2 values, but the table has 3 columns"),
        ("mic.mrc 1.5 2 mic.mrc 1.5 2", "has 6 values, but the table has 3 columns"),
        ("mic.mrc 1.5\n2", "has 2 values, but the table has 3 columns"),
        ("mic.mrc 1_0 2", "has '1_0' for rlnCoordinateX"),
        ("mic.mrc 0x10 2", "has '0x10' for rlnCoordinateX"),
        ("mic.mrc 1,5 2", "has '1,5' for rlnCoordinateX"),
        ("mic.mrc 1.5 2.5", "has 2.5 for rlnClassNumber, which is not a whole number"),
    ],
)
@pytest.mark.parametrize("where", [25, 30])
@pytest.mark.parametrize("small", [False, True])
def test_rows_that_are_refused(put, monkeypatch, bad, message, where, small):
    # The first rows decide the types.
    monkeypatch.setattr("dask_dedup.formats.star.particle_block._SAMPLE_BYTES", 60)
    if small:
        monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", 100)
        monkeypatch.setattr(star_lines, "BLOCK_BYTES", 60)
    lines = GOOD.splitlines(keepends=True)
    lines.insert(5 + where, bad + "\n")
    table = put("".join(lines))
    with pytest.raises(InputError, match=message) as error:
        read_all(table, ["rlnMicrographName", "rlnCoordinateX", "rlnClassNumber"])
    assert f"row {where} (line {where + 6}) " in str(error.value)
    if "values" in message:
        with pytest.raises(InputError, match=message):
            read_all(table, ["rlnMicrographName"])
    else:
        assert read_all(table, ["rlnMicrographName"]).num_rows == 31


def test_an_unclosed_quote_is_refused(put):
    with pytest.raises(InputError, match="line 36: a quote is not closed"):
        put(GOOD + "'mic.mrc 1 2\n")


def test_a_truncated_last_row_is_refused(put, tiny):
    with pytest.raises(
        InputError, match=r"row 29 \(line 35\) has 2 values, but the table has 3 columns"
    ):
        read_all(put(GOOD[:-3]), ["rlnCoordinateX"])


def test_a_short_row_among_the_first_is_refused_on_opening(put):
    with pytest.raises(
        InputError, match=r"row 1 \(line 7\) has 2 values, but the table has 3 columns"
    ):
        put(f"data_\nloop_\n{LABELS}a 1 2\nb 3\nc 4 5\n")


def test_a_file_that_changes_during_the_run_is_refused(put, tmp_path):
    table = put(GOOD)
    path, fragment = Path(table.path), table.fragments[0]
    keep = np.ones(30, bool)
    path.write_text(GOOD.replace("mic.mrc 1.5 2\n", "mic.mrc 1.5 2 \n", 1))
    for action in (
        lambda: star.read(table, fragment, ["rlnCoordinateX"]),
        lambda: star.split(table, fragment, keep, tmp_path / "a", tmp_path / "b"),
        lambda: star.assemble(table, [], 0, tmp_path, "c.star"),
    ):
        with pytest.raises(RunError, match=r"the file changed during the run\. Run again\."):
            action()
    path.write_text(GOOD.replace("mic.mrc 1.5 2\nmic", "mic.mrc 1.5 2 mic", 1))
    with pytest.raises((RunError, InputError)):
        star.split(table, fragment, keep, tmp_path / "a", tmp_path / "b")
    path.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        star.read(table, fragment, ["rlnCoordinateX"])


def test_assembling_twice_gives_the_same(put, tmp_path):
    table = put(GOOD)
    parts = [tmp_path / "k", tmp_path / "r"]
    star.split(table, table.fragments[0], np.arange(30) % 2 > 0, *parts)
    first = star.assemble(table, parts[:1], 15, tmp_path, "kept.star")
    assert star.assemble(table, parts[:1], 15, tmp_path, "kept.star") == first
    assert not (tmp_path / "kept.star.draft").exists()


def test_fragments_may_be_written_twice(put, tmp_path):
    table = put(GOOD)
    keep = np.arange(30) % 2 > 0
    for _ in range(2):
        star.split(table, table.fragments[0], keep, tmp_path / "k", tmp_path / "r")
    assert (tmp_path / "k").read_bytes() == (tmp_path / "r").read_bytes() == b"mic.mrc 1.5 2\n" * 15
    with pytest.raises(RunError, match="changed during the run"):
        star.split(table, table.fragments[0], keep[1:], tmp_path / "k", tmp_path / "r")


# --- random tables -------------------------------------------------------------------------------

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12
)
REALS = st.floats(width=64).map(repr) | st.decimals(-5000, 5000, places=6).map(str)
GAPS = st.text(" \t", min_size=1, max_size=4)


def quoted(word):
    """Quote a word if STAR needs it."""
    if word.startswith(("'", '"', "#", "_", ";")) or re.match("(?i)data_|loop_", word):
        return f"'{word}'" if not word.endswith("'") else f'"{word}"'
    return word


@st.composite
def tables(draw):
    rows = draw(st.lists(st.tuples(REALS, WORDS, st.integers(-99, 10**6), WORDS), max_size=15))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    lines = []
    for row in rows:
        lines.append(
            draw(GAPS | st.just("")) + draw(GAPS).join(quoted(str(value)) for value in row)
        )
        lines += draw(st.lists(st.sampled_from(["", "  ", "# c", " #'"]), max_size=1))
    head = ["data_particles", "loop_", "_rlnCoordinateX #1", "_rlnMicrographName"]
    head += ["_rlnClassNumber #3", "_rlnImageName #4"]
    after = draw(
        st.sampled_from([[], [""], ["", "data_next", "loop_", "_a", "1"], ["_rlnLast 'x y'"]])
    )
    content = newline.join([*head, *lines, *after]) + draw(st.sampled_from(["", newline]))
    return content, rows, draw(st.integers(1, 300)), draw(st.integers(1, 300))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables(), st.randoms(use_true_random=False))
def test_random_tables(tmp_path, monkeypatch, drawn, random):
    content, rows, fragment_bytes, block_bytes = drawn
    monkeypatch.setattr(star_lines, "FRAGMENT_BYTES", fragment_bytes)
    monkeypatch.setattr(star_lines, "BLOCK_BYTES", block_bytes)
    path = tmp_path / "random.star"
    path.write_bytes(content.encode())
    table = open_table(path)
    assert table.rows == len(rows)
    found = read_all(
        table, ["rlnCoordinateX", "rlnMicrographName", "rlnClassNumber", "rlnImageName"]
    )
    assert [[repr(float(x)), m, n, i] for x, m, n, i in rows] == [
        [repr(x), m, n, i] for x, m, n, i in zip(*found.to_pydict().values(), strict=True)
    ]
    keep = np.array([random.random() < 0.6 for _ in rows], dtype=bool)
    original = path.read_bytes()
    kept, rejected = (file.read_bytes() for file in split(table, keep, tmp_path / "out"))
    start, stop = table.detail.start, table.detail.stop
    both = []
    for output in (kept, rejected):
        assert output[:start] == original[:start]
        assert output[len(output) - (len(original) - stop) :] == original[stop:]
        both.append(
            iter(output[start : len(output) - (len(original) - stop)].splitlines(keepends=True))
        )
    for good, line in zip(keep.tolist(), star_rows(original[start:stop]), strict=True):
        for part in line.splitlines(keepends=True):
            assert next(both[0] if good else both[1]) == part
    assert not [line for rest in both for line in rest]


def star_rows(content):
    """Return the lines of each row, with the idle lines that follow it."""
    rows = []
    for line in content.splitlines(keepends=True):
        if _idle(line):
            rows[-1] += line
        else:
            rows.append(line)
    return rows
