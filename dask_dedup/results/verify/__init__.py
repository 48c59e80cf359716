"""Verify a finished run from its files and its inputs.

The decisions of the run are not trusted, and the code that made them is not used. Verification
trusts the reader of the inputs (`formats`), the centres, labels and micrograph keys
(`particles.extract`), and the rank keys (`dedup.rank`).

Two checks together show that the kept particles are *the* result of greedy suppression:

- "separation": no two kept particles are within the separation.
- "rejections": every rejected particle has a better-ranked kept particle within the separation.

The proof is by induction from the best rank down. A kept particle has no better-ranked kept particle
within the separation, so greedy suppression keeps it. A rejected particle has such a particle, so
greedy suppression rejects it.

If votes are counted, these two checks are about the representatives. Representatives are the kept
particles and the particles that were rejected for their votes. A third check, "votes", shows that:

- each particle votes for the nearest representative, as ``votes`` lists it;
- the representatives with the required votes are the kept particles.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dask_dedup.results.finished_run import open_finished_run
from dask_dedup.results.verify.files import check_files, check_inputs
from dask_dedup.results.verify.kept_and_rejected import check_decisions, decision_checks
from dask_dedup.results.verify.outcome import Check, Verification
from dask_dedup.results.verify.rows import compare_rows, compare_totals

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Check", "Verification", "verify"]

#: Maximum number of fragments read at the same time.
MAX_THREADS = 8


def verify(output: str | Path) -> Verification:
    """Verify a finished run with an independent algorithm.

    The inputs are read from the paths in the manifest. At most a few fragments,
    or the picks of `kept_and_rejected.PASS_ROWS` rows, are in memory at a time.

    Parameters
    ----------
    output : str or Path
        Folder of the run.

    Returns
    -------
    Verification

    Raises
    ------
    InputError
        If there is no finished run.
    """
    run = open_finished_run(output)
    closest = None
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), MAX_THREADS)) as pool:
        files = Check.of("files", check_files, run, pool)
        unchanged, inputs = check_inputs(run)
        if inputs is None:
            detail = f"not checked: {unchanged.detail}"
            names = ("rows", *decision_checks(run))
            checks = [Check(name, passed=None, detail=detail) for name in names]
        else:
            rows = Check.of("rows", compare_rows, run, inputs, pool)
            decisions, closest = check_decisions(run, inputs, pool)
            checks = [rows, *decisions]
        totals = Check.of("totals", compare_totals, run)
    return Verification(run.output, (files, unchanged, *checks, totals), closest)
