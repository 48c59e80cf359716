"""The column maps, one module per program. A file is read with the first map that recognises the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formats.coordinates.programs.copick import COPICK
from dask_dedup.formats.coordinates.programs.cryolo import CBOX, CBOX_OLD, COORDS
from dask_dedup.formats.coordinates.programs.delimited import DELIMITED, with_columns
from dask_dedup.formats.coordinates.programs.dynamo import DYNAMO
from dask_dedup.formats.coordinates.programs.eman import BOX, HELIX
from dask_dedup.formats.coordinates.programs.eman2 import EMAN2
from dask_dedup.formats.coordinates.programs.imod import IMOD
from dask_dedup.formats.coordinates.programs.motive_list import MOTIVE_LIST
from dask_dedup.formats.coordinates.programs.portal import PORTAL
from dask_dedup.formats.coordinates.programs.pytom import PYTOM
from dask_dedup.formats.coordinates.programs.relion import ANNOTATIONS, RELION
from dask_dedup.formats.coordinates.programs.stopgap import STOPGAP
from dask_dedup.formats.coordinates.programs.topaz import TOPAZ
from dask_dedup.formats.coordinates.programs.warp import MATCHING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_dedup.formats.coordinates.column_map import ColumnMap

MAPS = (
    *(CBOX, CBOX_OLD, HELIX, BOX, COORDS, TOPAZ, DYNAMO),
    *(ANNOTATIONS, STOPGAP, MATCHING, PYTOM, RELION),
    *(COPICK, EMAN2, PORTAL, MOTIVE_LIST, IMOD),
    DELIMITED,
)
MAP_OF = {each.name: each for each in MAPS}
#: Extensions of pick files. STAR files can also be particle tables.
EXTENSIONS = frozenset(extension for each in MAPS for extension in each.extensions)


def maps_of(columns: Mapping[str, str] | None = None) -> tuple[ColumnMap, ...]:
    """Return all column maps. With `columns`, the first map is for text tables with these columns."""
    return (with_columns(columns), *MAPS) if columns else MAPS
