"""Small valid files, as bytes, for tests that damage them."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa

STAR = b"""# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnMicrographPixelSize #3
1 opticsGroup1 1.2

data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnAutopickFigureOfMerit #3
_rlnMicrographName #4
_rlnOpticsGroup #5
10.5 20.5 0.9 mics/a.mrc 1
11.5 20.5 0.8 mics/a.mrc 1
90.5 80.5 0.7 mics/b.mrc 1
"""

GROUP = """created: 2024-05-01 12:00:00.000000
group: {description: Particles, name: particles, title: All particles, type: particle}
results:
  blob:
    metafile: '>J7_particles.cs'
    num_items: 6
    type: particle.blob
  location:
    metafile: '>J7_passthrough_particles.cs'
    num_items: 6
    type: particle.location
version: v4.4.1
"""

KINDS = {
    "uid": "<u8",
    "pick_stats/ncc_score": "<f4",
    "location/micrograph_uid": "<u8",
    "location/micrograph_path": "S16",
    "location/micrograph_shape": ("<u4", (2,)),
    "location/micrograph_psize_A": "<f4",
    "location/center_x_frac": "<f4",
    "location/center_y_frac": "<f4",
}


def records(rows=6, **changed):
    """Return picks as in a .cs file; `changed` replaces columns, with `__` for the slash."""
    table = np.zeros(
        rows,
        [(name, *((kind,) if isinstance(kind, str) else kind)) for name, kind in KINDS.items()],
    )
    table["uid"] = np.arange(rows) + 100
    table["pick_stats/ncc_score"] = np.linspace(0.1, 0.9, rows)
    table["location/micrograph_uid"] = 7
    table["location/micrograph_path"] = b"mics/a.mrc"
    table["location/micrograph_shape"] = (240, 300)
    table["location/micrograph_psize_A"] = 1.2
    table["location/center_x_frac"] = table["location/center_y_frac"] = np.linspace(0, 1, rows)
    for name, values in changed.items():
        table[name.replace("__", "/")] = values
    return table


def npy(table):
    file = io.BytesIO()
    np.save(file, table)
    return file.getvalue()


def part(table, *prefixes):
    """Return the fields of records whose names start with a prefix."""
    names = [name for name in table.dtype.names if name.startswith(prefixes)]
    result = np.empty(table.size, [(name, table.dtype[name]) for name in names])
    for name in names:
        result[name] = table[name]
    return result


def csdat(table, *, compressed=True, **header):
    """Return records in the compressed form of CryoSPARC; `header` replaces entries of its header."""
    heap, stored, fields = b"\0", [], []
    for name in table.dtype.names:
        column, kind = table[name], table.dtype[name]
        text = kind.kind == "S"
        if text:
            column, texts = np.empty(table.size, "<u8"), column.tolist()
            for row, value in enumerate(texts):
                column[row] = len(heap)
                heap += value + b"\0"
        content = np.ascontiguousarray(column).tobytes()
        if compressed:
            content = bytes(pa.Codec("lz4_raw").compress(content, asbytes=True))
        stored.append(len(content).to_bytes(4, "little") + content)
        shape = [list(kind.shape)] if kind.shape else []
        fields.append([name, "|O" if text else kind.base.str, *shape])
    full_header = {
        "length": table.size,
        "dtype": fields,
        "compression": "lz4" if compressed else None,
        "compressed_fields": list(table.dtype.names) if compressed else [],
        **header,
    }
    text = json.dumps(full_header).encode()
    return b"\x95CSDAT" + len(text).to_bytes(4, "little") + text + b"".join(stored) + heap


def group(folder, text=GROUP, main=None, passthrough=None):
    """Write a group of two files; return the path of the .csg."""
    folder.mkdir(parents=True, exist_ok=True)
    table = records()
    contents = {
        "J7_particles.csg": text.encode(errors="surrogateescape"),
        "J7_particles.cs": npy(part(table, "uid", "pick_stats")) if main is None else main,
        "J7_passthrough_particles.cs": (
            npy(part(table, "uid", "location")) if passthrough is None else passthrough
        ),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder / "J7_particles.csg"


def put(folder, name, content):
    """Write a file; return the arguments of a run on it."""
    (folder / name).write_bytes(content)
    return [folder / name]
