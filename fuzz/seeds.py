"""Small valid files of every format. The mutations damage these files."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.recfunctions import repack_fields

if TYPE_CHECKING:
    from pathlib import Path

#: Suffix of the file that is opened.
SUFFIX = {"star": ".star", "npy": ".cs", "csdat": ".cs", "csg": ".csg", "parquet": ".parquet"}

#: pyarrow 17 cannot write views.
_VIEW = pa.string() if pa.__version__.startswith("17.") else pa.string_view()

Files = dict[str, bytes]


def seeds(form: str) -> list[Files]:
    """Return valid inputs of a format. Each input is a dict of files by name; its first file is opened."""
    if form == "csg":
        return [_group(passthrough) for passthrough in (_npy(_records(6)), _csdat(_records(6)))]
    if form in PICKS:
        return PICKS[form]
    contents = {"star": _stars, "npy": _npys, "csdat": _csdats, "parquet": _parquets}[form]()
    return [{f"picks{SUFFIX[form]}": content} for content in contents]


def write_files(files: Files, folder: Path) -> None:
    """Write the files of an input into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _stars() -> list[bytes]:
    relion31 = b"""# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnMicrographPixelSize #3
1 opticsGroup1 1.25
2 'two words' 0.5

data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnAutopickFigureOfMerit #3
_rlnMicrographName #4
_rlnOpticsGroup #5
_rlnClassNumber #6
  12.5   80.25  0.75 mics/a.mrc 1 1
 -1e3   +2.      nan  "mics/b c.mrc" 2 3
# a comment
   7      8     0.5 mics/'c'.mrc 1 2

   9     10     1e300 '' 1 2
"""
    relion30 = b"""data_

loop_
_rlnMicrographName
_rlnCoordinateX
_rlnCoordinateY
_rlnMagnification
_rlnDetectorPixelSize
a.mrc 1 2 10000 5
a.mrc 3 4 10000 5
"""
    single = b"data_optics\n_rlnOpticsGroup 1\n_rlnImagePixelSize 2.5\n" + relion31[
        relion31.index(b"data_particles") :
    ].replace(b" 2 3\n", b" 1 3\n")
    tomograms = b"""data_general
_rlnTomoSubTomosAre2DStacks 1

data_particles
loop_
_rlnTomoName
_rlnCenteredCoordinateXAngst
_rlnCenteredCoordinateYAngst
_rlnCenteredCoordinateZAngst
_rlnRandomSubset
TS_01 -10.0 20 30 1
TS_01 11.5 21 31 2"""
    missing = b"""data_

loop_
_rlnMicrographName
_rlnCoordinateX
_rlnCoordinateY
_rlnHelicalTubeID
_rlnDefocusU
a.mrc 1.5 <NA> 1 None
a.mrc null 2 "" .
'' NaN N/A ? 1e4
"""
    return [relion31, relion30, single, tomograms, missing]


def _records(rows: int) -> np.ndarray:
    records = np.zeros(
        rows,
        [
            ("uid", "<u8"),
            ("location/micrograph_path", "S12"),
            ("location/micrograph_shape", "<u4", (2,)),
            ("location/center_x_frac", "<f4"),
            ("alignments3D/pose", "<f4", (3,)),
            ("ctf/tilt", "<c8"),
            ("sym/matrix", "<f8", (2, 2)),
            ("blob/path", "<U4"),
        ],
    )
    records["uid"] = np.arange(rows, dtype="<u8") * 7919 + 2**63
    texts = [f"mic-{number // 3}" for number in range(rows)]
    for name in ("location/micrograph_path", "blob/path"):
        records[name] = texts
    records["location/center_x_frac"] = np.linspace(0, 1, rows)
    return records


def _npy(records: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, records)
    return file.getvalue()


def _npys() -> list[bytes]:
    plain = _records(5)
    version2 = io.BytesIO()
    np.lib.format.write_array(version2, plain, version=(2, 0))
    others = [("raw", "V8"), ("when", "<M8[s]"), ("nothing", "<f4", (0,)), ("long", "<f16")]
    other = np.zeros(5, [("uid", "<u8"), *others, ("records", [("a", "<f4"), ("b", "S3")], (2,))])
    return [*map(_npy, (plain, _records(0), _records(200), other)), version2.getvalue()]


def _csdat(records: np.ndarray, *, compressed: bool = False) -> bytes:
    """Return records as a CSDAT file; see dask_dedup.formats.cryosparc.csdat."""
    heap, stored, fields = b"\0", [], []
    for name in records.dtype.names or ():
        kind, column = records.dtype[name], records[name]
        if kind.kind in "SUO":
            offsets = []
            for text in column.tolist():
                offsets.append(len(heap))
                heap += (text if isinstance(text, bytes) else text.encode()) + b"\0"
            column = np.array(offsets, "<u8")
        content = np.ascontiguousarray(column).tobytes()
        if compressed:
            content = bytes(pa.Codec("lz4_raw").compress(content, asbytes=True))
        stored.append(len(content).to_bytes(4, "little") + content)
        text = "|O" if kind.kind in "SUO" else kind.base.str
        fields.append([name, text, list(kind.shape)] if kind.shape else [name, text])
    header = json.dumps(
        {
            "length": records.size,
            "dtype": fields,
            "compression": "lz4" if compressed else None,
            "compressed_fields": list(records.dtype.names or ()) if compressed else [],
        }
    ).encode()
    columns = b"".join(stored) if records.size else b""
    return b"\x95CSDAT" + len(header).to_bytes(4, "little") + header + columns + heap


def _csdats() -> list[bytes]:
    return [
        _csdat(_records(5)),
        _csdat(_records(60), compressed=True),
        _csdat(_records(0)),
        _csdat(_records(1), compressed=True),
    ]


def _group(passthrough: bytes) -> Files:
    text = b"""created: 2024-05-01 12:00:00.000000
group: {description: x, name: particles, title: All particles, type: particle}
results:
  blob: &blob
    metafile: '>J1_particles.cs'
    num_items: 6
    type: particle.blob
  location:
    metafile: ">J1_passthrough.cs"
    num_items: 6
    type: particle.location
  alias: *blob
version: v4.4.1
"""
    fields = ["uid", "alignments3D/pose", "blob/path"]
    main = repack_fields(_records(6)[fields])[::-1]
    return {
        "picks.csg": text,
        "J1_particles.cs": _npy(main),
        "J1_passthrough.cs": passthrough,
    }


def _parquets() -> list[bytes]:
    rows = 40
    table = pa.table(
        {
            "uid": pa.array(range(rows), pa.uint64()),
            "location/micrograph_path": pa.array([f"mic-{n // 9}" for n in range(rows)]),
            "location/center_x_frac": pa.array(np.linspace(0, 1, rows), pa.float32()),
            "location/center_y_frac": pa.array([None, *[0.5] * (rows - 1)], pa.float64()),
            "alignments3D/shift": pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32(), 2)),
            "tags": pa.array([None if n % 3 else ["a", "b"] for n in range(rows)]),
            "of": pa.array([{"a": n, "b": None} for n in range(rows)]),
            "when": pa.array(range(rows), pa.timestamp("us")),
            "flag": pa.array([n % 2 == 0 for n in range(rows)]),
            "class": pa.array([f"c{n % 2}" for n in range(rows)]).dictionary_encode(),
            "view": pa.array([None if n % 5 else f"v{n}" for n in range(rows)], _VIEW),
            "map": pa.array([[("a", 0.5)], None] * (rows // 2), pa.map_(pa.string(), pa.float32())),
            "decimal": pa.array([None, *range(1, rows)]).cast(pa.decimal128(20, 0)),
        }
    )
    settings = [
        {"compression": "zstd", "row_group_size": 16},
        {"compression": "snappy", "write_page_checksum": True, "data_page_version": "2.0"},
        {"compression": "none", "use_dictionary": False, "store_schema": False},
        {"compression": "lz4", "data_page_size": 64, "write_page_index": True},
        {
            "compression": "gzip",
            "use_dictionary": False,
            "column_encoding": {
                "uid": "DELTA_BINARY_PACKED",
                "location/micrograph_path": "DELTA_BYTE_ARRAY",
            },
        },
    ]
    contents = []
    for number, options in enumerate(settings):
        sink = io.BytesIO()
        # The last file has few columns, so that more mutations damage pages.
        part = table.select(range(3)) if number == len(settings) - 1 else table
        pq.write_table(part, sink, **options)
        contents.append(sink.getvalue())
    return contents


_CBOX = b"""data_global
_cbox_format_version 1.0

data_cryolo
loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Confidence #6
10.5 20 <NA> 180 180 0.9
30.5 20 <NA> 180 180 <NA>

data_cryolo_include
loop_
_slice_index #1
"""
_COPICK = {
    "pickable_object_name": "a",
    "run_name": None,
    "points": [
        {"location": {"x": 1, "y": 2.5, "z": 3}, "transformation_": np.eye(4).tolist(), "score": 1},
        {"location": {"x": 4, "y": 5, "z": 6}, "instance_id": 2},
    ],
}
_MOTIVE_LIST = b"\6\0\0\5" + np.array([20, 2, 1], "<i4").tobytes() + bytes(496)
_CONTOUR = np.array([2, 0, 0, 0], ">i4").tobytes() + np.arange(6).astype(">f4").tobytes()


def _star(labels: str, *rows: str, block: str = "") -> bytes:
    head = "".join(f"_{label} #{number}\n" for number, label in enumerate(labels.split(), 1))
    return f"\ndata_{block}\n\nloop_\n{head}{chr(10).join(rows)}\n".encode()


_XYZ = "rlnCoordinateX rlnCoordinateY rlnCoordinateZ"
_AUTOPICK = _star("rlnCoordinateX rlnCoordinateY rlnAutopickFigureOfMerit", "1 2 0.5", "3 4 -999")
_TOMOGRAMS = _star(
    "rlnTomoName rlnTomoTiltSeriesPixelSize rlnTomoTomogramBinning rlnTomoSizeX rlnTomoSizeY rlnTomoSizeZ",
    "TS_01 1.35 10 4000 4000 1200",
    block="global",
)
_MATCHES = _star(
    f"{_XYZ} rlnMicrographName rlnAutopickFigureOfMerit",
    *(f"0.25 0.{n} 0.75 TS_01 {n}" for n in (5, 6)),
)
_PEAKS = _star(
    f"rlnTomoName {_XYZ} rlnLCCmax rlnDetectorPixelSize", "TS_01 1 2 3 0.5 10", "TS_01 4 5 6 0.4 10"
)
_SUBTOMOGRAMS = _star(f"rlnTomoName {_XYZ}", "TS_01 1 2 3", "TS_01 4 5 6", block="particles")
_LIST = _star(
    "rlnMicrographName rlnMicrographCoordinates",
    "mics/a.mrc mics/a_autopick.star",
    "'mics/b c.mrc' 'mics/b c_autopick.star'",
    block="coordinate_files",
)
_TABLE = b"".join(
    b"%d 1 1 %s\n" % (number, b" ".join(b"%d" % column for column in range(32)))
    for number in (1, 2)
)


def _files(*files: tuple[str, bytes]) -> Files:
    return dict(files)


def _single(suffix: str, *contents: bytes) -> list[Files]:
    return [{f"picks{suffix}": content} for content in contents]


#: Inputs of each reader of picks.
PICKS: dict[str, list[Files]] = {
    "cryolo": [
        *_single(
            ".cbox",
            _CBOX.replace(b"\n", b"\r\n"),
            b"10 20 64 64 0.5 60 60\n11 21 64 64 0.6 60 60\n",
        ),
        *_single(".coords", b"1 2 3 0\n\n4 5 6 1\n"),
    ],
    "eman": _single(
        ".box",
        b"10\t20\t64\t64\t0.5\n11\t21\t64\t64\t<NA>\n",
        b"10 20 64 64\r\n\r\n# a\r\n30 40 64 64",
        b"#micrograph: a.mrc\n#helix: (1,2),(3,4),26\n1 2\n3 4\n#helix: (5,6),(7,8),26\n5 6",
    ),
    "topaz": _single(
        ".txt",
        b"image_name\tx_coord\ty_coord\tscore\na\t1\t2\t-5.5\nb c\t3\t4\tnan\n",
        b"image_name,x_coord,y_coord\na,1,2\n",
    ),
    "csv": [
        *_single(".csv", b'name,X-Coordinate,Y-Coordinate\n"a, b",1,2\nc,3,4\n', b"1;2\n4;5\n"),
        *_single(".tsv", b"x\ty\tscore\n1\t2\t\n3\t4\t0.5"),
    ],
    "dynamo": [
        *_single(".tbl", _TABLE),
        _files(("picks.tbl", _TABLE), ("picks.doc", b"19 rec/TS_01.mrc\n20 rec/b c.mrc\n")),
    ],
    "stopgap": _single(
        ".star",
        b"\ndata_stopgap_motivelist\n\nloop_\n_tomo_num\n_orig_x\n_orig_y\n_orig_z\n\n1 2 3 4\n",
        _star(
            "tomo_num orig_x orig_y orig_z x_shift y_shift z_shift score",
            *("1 2 3 4 0.5 0 -1 0.9", "2 3 4 5 0 0 0 0.8"),
            block="stopgap_motivelist",
        ),
    ),
    "species": _single(
        ".star",
        _star(
            "wrpCoordinateX1 wrpCoordinateY1 wrpCoordinateZ1 wrpSourceName", "1 2 3 a", "4 5 6 b"
        ),
    ),
    "matching": [
        _files(("matching/TS_01.star", _MATCHES), ("matching/tomograms.star", _TOMOGRAMS))
    ],
    "pytom": _single(".star", _PEAKS),
    "relion": [
        *_single("_autopick.star", _AUTOPICK, _AUTOPICK.replace(b"\n", b"\r\n")),
        _files(("annotations/TS_01_particles.star", _SUBTOMOGRAMS), ("tomograms.star", _TOMOGRAMS)),
    ],
    "list": [
        _files(
            ("autopick.star", _LIST),
            ("mics/a_autopick.star", _AUTOPICK),
            ("mics/b c_autopick.star", _AUTOPICK),
        ),
        _files(
            ("coords_suffix_manualpick.star", b"micrographs.star\n"),
            ("mics/a_manualpick.star", _AUTOPICK),
            (
                "micrographs.star",
                _star("rlnMicrographName", "MotionCorr/job002/mics/a.mrc", block="micrographs"),
            ),
        ),
        _files(
            (
                "import.star",
                _star("rlnTomoName rlnTomoImportParticleFile", "TS_01 a.star", "TS_02 b.star"),
            ),
            ("a.star", _star(_XYZ, "1 2 3")),
            ("b.star", _star(_XYZ, "4 5 6", "7 8 9")),
        ),
    ],
    "set": [
        _files(
            (
                "optimisation_set.star",
                b"data_\n\n_rlnTomoParticlesFile   particles.star\n_rlnTomoTomogramsFile tomograms.star\n",
            ),
            ("particles.star", _SUBTOMOGRAMS),
        ),
        _files(
            (
                "optimisation_set.star",
                _star("rlnTomoParticlesFile rlnTomoTomogramsFile", "particles.star tomograms.star"),
            ),
            ("particles.star", _SUBTOMOGRAMS),
        ),
    ],
    "copick": _single(
        ".json", json.dumps(_COPICK, indent=2).encode(), json.dumps(_COPICK).encode()
    ),
    "eman2": _single(
        "_info.json", b'{"boxes": [[1, 2.5, "manual"], [3, 4, "manual"]], "apix": 1.2}'
    ),
    "portal": _single(
        ".ndjson",
        b'{"location": {"x": 1, "y": 2, "z": 3}}\n{"location": {"x": 4, "y": 5, "z": 6}}\n',
    ),
    "em": _single(".em", _MOTIVE_LIST + np.arange(40).astype("<f4").tobytes()),
    "imod": _single(
        ".mod", b"IMODV1.2" + bytes(232) + b"OBJT" + bytes(176) + b"CONT" + _CONTOUR + b"IEOF"
    ),
}
FORMATS = ("star", "npy", "csdat", "csg", "parquet", *PICKS)
