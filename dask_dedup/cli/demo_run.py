"""The demo: simulated picks, the run, its proof, its report."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError, OutputExistsError
from dask_dedup.pipeline.run import run
from dask_dedup.results.report import report
from dask_dedup.results.verify import Verification, verify
from dask_dedup.simulation import simulate_pickers
from dask_dedup.storage.paths import is_remote

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.pipeline.events import EventHandler
    from dask_dedup.pipeline.result import RunResult


def run_demo(
    folder: Path,
    *,
    particles: int,
    seed: int,
    overwrite: bool,
    on_event: EventHandler | None = None,
) -> tuple[RunResult, Verification, Path]:
    """Simulate two pickers in ``FOLDER/picks``, remove the duplicates into ``FOLDER/result``.

    Parameters
    ----------
    folder : Path
    particles : int
        True particles, about 330 on each micrograph.
    seed : int
    overwrite : bool
        Replace what an earlier demo left in the folder.
    watch : callable, optional
        As for `run`.

    Returns
    -------
    result : RunResult
    proof : Verification
    page : Path
        Of the report.

    Raises
    ------
    OutputExistsError
        If there is an earlier demo and `overwrite` is not set.
    """
    if is_remote(folder):
        raise InputError(f"{folder}: the demo works in a folder of this machine")
    picks = folder / "picks"
    if picks.exists():
        if not overwrite:
            raise OutputExistsError(f"{picks} exists; use --overwrite to simulate anew")
        shutil.rmtree(picks)
    pickers = simulate_pickers(
        picks,
        particles=particles,
        micrographs=max(1, particles // 330),
        pickers=("template", "blob"),
        seed=seed,
    )
    # Their scores are on different scales, so the better picker is named first and wins.
    params = DedupParams(prefer_input_order=True)
    result = run(pickers, folder / "result", params, overwrite=overwrite, on_event=on_event)
    proof = verify(folder / "result")
    return result, proof, report(folder / "result", verification=proof)
