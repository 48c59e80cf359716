"""Check converted output (one STAR file, or coordinate files) against the inputs.

The code that wrote the files is not used. The text of particle tables is compared as it is. Other
positions are compared with the centres that `particles.extract` computes from the inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup import formats
from dask_dedup.output.layout import KEPT, REJECTED
from dask_dedup.results.verify.close_pairs import Points, closest_pair
from dask_dedup.results.verify.coordinate_files import CoordinateFiles
from dask_dedup.results.verify.merged_star import MergedStar
from dask_dedup.results.verify.outcome import MismatchError

if TYPE_CHECKING:
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.verify.converted import Converted
    from dask_dedup.results.verify.dataset_files import DatasetFiles


def compare_conversion(run: FinishedRun, inputs: Inputs, duplicates: DatasetFiles) -> str:
    """Check that the converted files have each input row once, with its values, and that no duplicates are left."""
    make = MergedStar if run.manifest["output_format"] == "star" else CoordinateFiles
    rows = 0
    for dataset in (KEPT, REJECTED):
        output = make(run, dataset, inputs)
        for fragment in inputs.fragments:
            keep = duplicates.read_kept(fragment)
            output.compare(fragment, keep if dataset == KEPT else ~keep)
        output.finish()
        rows += output.rows
        if dataset == KEPT:
            _check_separation(output, inputs)
    return f"{rows:,} rows, each in the converted files once, with the values of the inputs"


def count_rows(run: FinishedRun, dataset: str) -> int:
    """Count the rows in the converted files of a dataset."""
    files = [file.path for file in run.files_of(dataset) if file.rows]
    return sum(formats.open_table(path).rows for path in files)


def _check_separation(output: Converted, inputs: Inputs) -> None:
    """Raise MismatchError if two kept particles are closer than the separation by more than rounding errors."""
    if not output.centres:
        return
    labels = [np.concatenate(each) for each in zip(*output.labels, strict=True)]
    points = Points(np.concatenate(output.micrographs), np.concatenate(output.centres), labels)
    limit = inputs.params.min_separation
    if not len(points) or inputs.params.undo_symmetry_expansion:
        return
    pair = closest_pair(points, limit)
    # Rounding of the written coordinates can bring two particles closer.
    largest = float(np.abs(points.centres).max())
    if pair is not None and pair[0] < limit - max(1e-4, 1e-9 * largest):
        raise MismatchError(f"the converted files have two kept particles {pair[0]:.6g} A apart")
