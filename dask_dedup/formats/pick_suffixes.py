"""What picking programs append to the name of a micrograph to name its pick file."""

from __future__ import annotations

import re

#: Alternatives of a regular expression, without the underscore before them.
PICK_SUFFIXES = (
    "autopick|manualpick|topazpicks?|topaz_picks|automatch|info|particles|picks|train|combined"
    "|extract|blob_pick"
)
PICK_SUFFIX = re.compile(rf"_(?:{PICK_SUFFIXES})$")
