"""The program ``dask-dedup``, also as ``python -m dask_dedup``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Jobs of RELION are watched from outside, so that they end in order without imports, too."""
    if sys.argv[1:2] == ["relion"]:
        from dask_dedup.integrations.relion import main as job

        job(sys.argv[2:])
    from dask_dedup.cli import main as program

    program(prog_name="dask-dedup")


if __name__ == "__main__":
    main()
