"""Names of files and folders in an output folder, during and after a run.

::

    OUT/particles_kept/ particles_rejected/ duplicates/    the tables
    OUT/votes/                                             if votes are counted
    OUT/report.html  plots/  verification.json             the report
    OUT/manifest.json                                      written last, when the result is finished
    OUT/.dask-dedup-<id>/                                  the staging folder of an unfinished run:
        request.json  checkpoints/  notes/  pieces/        (and, on a local file system, its tables)
"""

from __future__ import annotations

KEPT, REJECTED, DUPLICATES = "particles_kept", "particles_rejected", "duplicates"
VOTES = "votes"
TABLES = (KEPT, REJECTED, DUPLICATES, VOTES)
#: The particle tables, which a run for duplicates only does not write.
PARTICLES = (KEPT, REJECTED)
MANIFEST = "manifest.json"
PAGE, PLOTS = "report.html", "plots"
#: Outcome of the last verification that a report shows.
VERIFICATION = "verification.json"

STAGING_PREFIX = ".dask-dedup-"
LOCK = f"{STAGING_PREFIX}lock"
REPORT_PREFIX = f"{STAGING_PREFIX}report-"
#: Request of the run: everything that determines its files, and the parameters to resume the run.
REQUEST = "request.json"
#: One file per written fragment.
CHECKPOINTS = "checkpoints"
#: One file per written fragment, with data for the report.
NOTES = "notes"
#: Part files of tables in the input's format, before these files are joined.
PIECES = "pieces"
#: Folders in which tasks write before they move their files.
DRAFTS = "drafts"


def checkpoint_name(fragment: int) -> str:
    """Return the path of a fragment's checkpoint, relative to the staging folder."""
    return f"{CHECKPOINTS}/{fragment:05d}.json"


def notes_name(fragment: int) -> str:
    """Return the path of the notes about a fragment, relative to the staging folder."""
    return f"{NOTES}/{fragment:05d}.arrow"


def piece_name(table: str, fragment: int) -> str:
    """Return the path of a fragment's part of a STAR or CryoSPARC table, relative to the staging folder."""
    return f"{PIECES}/{table}-{fragment:05d}"
