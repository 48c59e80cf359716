"""Prepare the contents of a run's report from the scan, and complete them from the notes about the fragments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.output.layout import notes_name
from dask_dedup.particles.micrographs.named import find_micrograph
from dask_dedup.particles.report_contents import DISTANCE_BINS, ReportContents
from dask_dedup.particles.sample import (
    SampledMicrographs,
    SampledPicks,
    choose_sample,
    join_bounds,
)
from dask_dedup.particles.sampled_rows import first_names
from dask_dedup.pipeline.notes import FragmentNotes, digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.output.checkpoints import FragmentCheckpoint
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.micrographs.names import MicrographName
    from dask_dedup.particles.sample import SampleChoice
    from dask_dedup.particles.scan_summary import ScanSummary
    from dask_dedup.pipeline.plan import MicrographCounts

#: Number of fragments whose notes are read at the same time.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class ReportDraft:
    """Contents of the report that are known before the fragments are written.

    Attributes
    ----------
    micrographs, rows : (m,) uint64, (m,) int64
        Keys of all micrographs, and particles on each.
    names : dict of int to MicrographName
    choice : SampleChoice
    measured : SampleChoice
        The same without the micrographs that the user asked for, because these may affect only the pictures.
    sampled : SampledMicrographs
    """

    micrographs: NDArray[np.uint64]
    rows: NDArray[np.int64]
    names: dict[int, MicrographName]
    choice: SampleChoice
    measured: SampleChoice
    sampled: SampledMicrographs

    def complete(
        self, inputs: Inputs, staging: Path, checkpoints: Sequence[FragmentCheckpoint]
    ) -> ReportContents | None:
        """Add the notes about the fragments. Return None if parts of the sample are missing or of another sample."""
        if not np.array_equal(self.sampled.key, self.choice.keys):
            return None
        digest = digest_of(self.choice)
        if any(checkpoint.sample != digest for checkpoint in checkpoints):
            return None
        rejected = np.zeros(self.rows.size, dtype=np.int64)
        paths = [staging / notes_name(checkpoint.fragment) for checkpoint in checkpoints]
        found: set[MicrographName] = set()
        samples = []
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(paths), _AT_ONCE):
                for notes in pool.map(FragmentNotes.read, paths[start : start + _AT_ONCE]):
                    at = np.searchsorted(self.micrographs, notes.rejected.micrograph)
                    rejected[at] += notes.rejected.rejected
                    found.update(notes.paths.values())
                    samples.append(notes.sample)
        rejected_by_winner = np.zeros((len(inputs.tables),) * 2, dtype=np.int64)
        distances = np.zeros(DISTANCE_BINS, dtype=np.int64)
        for checkpoint in checkpoints:
            rejected_by_winner[checkpoint.source] += checkpoint.pairs.by_winner
            distances += checkpoint.pairs.distances
        return ReportContents(
            rejected_by_winner=rejected_by_winner,
            decided_by_row_order=sum(each.pairs.by_row_order for each in checkpoints),
            distances=distances,
            micrographs=self.micrographs,
            kept=self.rows - rejected,
            rejected=rejected,
            names=first_names(found) | self.names,
            choice=self.choice,
            sample=SampledPicks.concatenate(samples).in_order(),
            sampled=self.sampled,
        )


def draft_report(
    summaries: Sequence[ScanSummary], counts: MicrographCounts, named: Sequence[str] = ()
) -> ReportDraft:
    """Choose the sample of the report, and collect the data that the scan has about the sample.

    `named` are additional micrographs to show. Unknown names are ignored.
    """
    scanned = [summary.sample for summary in summaries if summary.sample is not None]
    bounds = join_bounds(counts.keys, ((each.large, each.bounds) for each in scanned))
    # Most fragments have the same names.
    distinct: set[MicrographName] = set()
    distinct.update(*(summary.names for summary in summaries))
    names = first_names(distinct)
    wanted = []
    for name in named:
        with suppress(InputError):
            wanted.append(find_micrograph("", counts.keys.tolist(), names, name))
    measured = choose_sample(counts.keys, counts.rows, bounds)
    choice = choose_sample(counts.keys, counts.rows, bounds, wanted) if wanted else measured
    sampled = SampledMicrographs.concatenate([each.micrographs for each in scanned])
    return ReportDraft(
        micrographs=counts.keys,
        rows=counts.rows,
        names=names,
        choice=choice,
        measured=measured,
        sampled=sampled.take(choice.find(sampled.key) >= 0).firsts(),
    )
