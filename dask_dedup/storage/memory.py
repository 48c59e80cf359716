"""Whether what must be in memory at once fits there."""

from __future__ import annotations

import os

from dask_dedup.errors import InputError

#: What is read whole is there twice while it is split.
SHARE = 0.5


def check_fits(what: str, rows: int, held: float, remedy: str) -> None:
    """Refuse rows that cannot be held whole, before any memory is taken for them.

    Parameters
    ----------
    what : str
        The file, and the part of it.
    rows : int
    held : float
        What the rows take at least, bytes.
    remedy : str
        What to do about it.

    Raises
    ------
    InputError
        If they take more than `SHARE` of this machine's memory.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if held > SHARE * memory:
        raise InputError(
            f"{what} has {rows:,} rows, which take {held / 2**30:,.0f} GiB of memory at once; {remedy}"
        )
