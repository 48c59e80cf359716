"""Outputs and results of a job in CCP-EM Pipeliner, and in Doppio, its graphical interface.

Only Pipeliner imports this module, through the jobs in `dask_dedup.cli.pipeliner`, whenever it lists jobs. So modules
that read a result are imported only when they are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pipeliner.display_tools import create_results_display_object
from pipeliner.nodes import NODE_LOGFILE
from pipeliner.pipeliner_job import PipelinerJob

from dask_dedup.errors import InputError
from dask_dedup.integrations import FOLDER
from dask_dedup.output.layout import PAGE, REJECTED
from dask_dedup.version import __version__

if TYPE_CHECKING:
    from pipeliner.results_display_objects import ResultsDisplayObject

    from dask_dedup.particles.report_contents import ReportContents
    from dask_dedup.results.finished_run import FinishedRun

#: Entries of the manifest for Pipeliner's report on a project.
_METADATA = ("parameters", "totals", "warnings", "versions", "run_id", "seconds")


class DedupJob(PipelinerJob):  # type: ignore[misc]
    """Job with its result in the subfolder `FOLDER`, and with the kept particles in the folder of the job.

    Attributes
    ----------
    NOUN : str
        The word for the items: particles or coordinates.
    NODE : str
        Type of the inputs and of the output.
    OUTPUT : str
        Name of the output.
    KEYWORDS : list of str
        Further words in the label of the output.
    """

    OUT_DIR = "Select"
    CATEGORY_LABEL = "Subset Selection"
    NOUN: ClassVar[str]
    NODE: ClassVar[str]
    OUTPUT: ClassVar[str]
    KEYWORDS: ClassVar[list[str]]

    def __init__(self) -> None:
        super().__init__()
        info = self.jobinfo
        info.version = __version__
        info.job_author = "the dask-dedup developers"
        info.display_name = f"Remove duplicate {self.NOUN}"
        info.short_desc = f"Remove duplicate {self.NOUN} of one or more pickers"
        info.long_desc = (
            "Finds all particles of a micrograph or tomogram whose centres are closer than the minimum separation, "
            "and keeps the best of each group. Several inputs become one output: a particle that two pickers found "
            "is kept once. Alignment shifts are applied. Rejected particles are written, too."
        )

    @property
    def _folder(self) -> Path:
        return Path(self.output_dir) / FOLDER

    def create_output_nodes(self) -> None:
        """Add the kept particles, so that other jobs can be scheduled after this one."""
        self.add_output_node(self.OUTPUT, self.NODE, [*self.KEYWORDS, "deduplicated"])

    def create_post_run_output_nodes(self) -> None:
        """Add the rejected particles, if there are any, and the report.

        Pipeliner calls this for failed jobs, too.
        """
        from dask_dedup.output.manifest import find_manifest

        manifest = find_manifest(self._folder)
        if manifest is None:
            return
        if manifest["totals"]["rejected"]:
            # A single particle table keeps its name.
            names = [path.name for path in self._folder.glob(f"{REJECTED}/*.star")]
            name = self.OUTPUT if self.OUTPUT in names else names[0]
            keywords = [*self.KEYWORDS, "rejected"]
            self.add_output_node(f"{FOLDER}/{REJECTED}/{name}", self.NODE, keywords)
        if (self._folder / PAGE).is_file():
            self.add_output_node(f"{FOLDER}/{PAGE}", NODE_LOGFILE, ["dask_dedup"])

    def gather_metadata(self) -> dict[str, Any]:
        """Return parameters, counts and warnings from the manifest of the run."""
        from dask_dedup.results.finished_run import open_finished_run

        manifest = open_finished_run(self._folder).manifest
        return {name: manifest[name] for name in _METADATA}

    def create_results_display(self) -> list[ResultsDisplayObject]:
        """Return counts by input, kept and rejected particles of a micrograph, distances, and the report."""
        from dask_dedup.results.finished_run import open_finished_run
        from dask_dedup.results.report.datasets import read_contents

        try:
            run = open_finished_run(self._folder)
        except InputError:
            why = "See run.err for the reason."
            return [
                create_results_display_object("pending", message="There is no result.", reason=why)
            ]
        contents = read_contents(run)
        output = f"{self.output_dir}{self.OUTPUT}"
        shown = [_counts(run, output), *_picture(run, contents, self._folder.parent, output)]
        if contents.distances.any():
            shown.append(_distances(run, contents, output))
        page = str(self._folder / PAGE)
        if Path(page).is_file():
            shown.append(
                create_results_display_object(
                    "html", title="Report", html_file=page, associated_data=[page]
                )
            )
        return shown


def _counts(run: FinishedRun, output: str) -> ResultsDisplayObject:
    totals = run.manifest["totals"]
    entries = totals["by_input"]
    if len(entries) > 1:
        entries = [*entries, totals | {"path": "all"}]
    return create_results_display_object(
        "table",
        title=f"{totals['kept']:,} of {totals['rows']:,} kept, {totals['rejected']:,} rejected",
        headers=["Input", "Particles", "Kept", "Rejected"],
        table_data=[
            [entry["path"], *(f"{entry[key]:,}" for key in ("rows", "kept", "rejected"))]
            for entry in entries
        ],
        associated_data=[output],
    )


def _picture(run: FinishedRun, contents: ReportContents, job: Path, output: str) -> list[Any]:
    """Draw the first micrograph of the report, in the folder for Pipeliner's pictures."""
    from dask_dedup.pipeline.result import RunResult
    from dask_dedup.results.report.picture import save_pictures

    folder = job / "Thumbnails"
    folder.mkdir(exist_ok=True)
    result = RunResult.of(run.output, run.manifest, already_done=True, contents=contents)
    pictures = save_pictures(result, folder)
    if pictures is None:
        return []
    shown = create_results_display_object(
        "image",
        title="Kept and rejected particles",
        image_path=str(pictures.whole),
        image_desc=pictures.caption,
        associated_data=[output],
    )
    return [shown]


def _distances(run: FinishedRun, contents: ReportContents, output: str) -> ResultsDisplayObject:
    """Plot the distances between rejected particles and their winners."""
    edges = np.linspace(0.0, float(run.params.min_separation), contents.distances.size + 1)
    return create_results_display_object(
        "histogram",
        title="Distances of rejected particles from their kept duplicates",
        bins=contents.distances.tolist(),
        bin_edges=edges.tolist(),
        xlabel="Distance (Å)",
        ylabel="Rejected particles",
        associated_data=[output],
    )
