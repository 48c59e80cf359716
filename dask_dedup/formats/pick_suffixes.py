"""Suffixes that picking programs append to the name of a micrograph to make the name of its pick file."""

from __future__ import annotations

import re

#: Alternatives of a regular expression. The underscore before the suffix is not included.
PICK_SUFFIXES = (
    "autopick|manualpick|topazpicks?|topaz_picks|automatch|info|particles|picks|train|combined"
    "|extract|blob_pick"
)
PICK_SUFFIX = re.compile(rf"_(?:{PICK_SUFFIXES})$")
