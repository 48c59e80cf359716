"""The column maps, one module per program. The first that recognises a file applies."""

from __future__ import annotations

from dask_dedup.formats.coordinates.programs.cryolo import CBOX, CBOX_OLD, COORDS
from dask_dedup.formats.coordinates.programs.delimited import DELIMITED
from dask_dedup.formats.coordinates.programs.eman import BOX, HELIX
from dask_dedup.formats.coordinates.programs.eman2 import EMAN2
from dask_dedup.formats.coordinates.programs.relion import RELION
from dask_dedup.formats.coordinates.programs.topaz import TOPAZ

MAPS = (CBOX, CBOX_OLD, HELIX, BOX, COORDS, TOPAZ, RELION, EMAN2, DELIMITED)
MAP_OF = {each.name: each for each in MAPS}
EXTENSIONS = frozenset(extension for each in MAPS for extension in each.extensions)
