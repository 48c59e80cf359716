"""The program ``dask-dedup``, also as ``python -m dask_dedup``."""

from __future__ import annotations

import gc
import sys

#: New objects after which Python looks for garbage. The imports of a command make fewer, none of them garbage.
GARBAGE_OBJECTS = 200_000


def main() -> None:
    """Run the command line. Jobs of RELION are watched from outside, so that they end in order without imports, too."""
    if sys.argv[1:2] == ["relion"]:
        from dask_dedup.integrations.relion import main as job

        job(sys.argv[2:])
    gc.set_threshold(GARBAGE_OBJECTS)
    from dask_dedup.cli import main as program

    try:
        program(prog_name="dask-dedup")
    finally:
        # Python looks for garbage at its end, too: with the imports, a sixth of the time of a short command.
        gc.freeze()


if __name__ == "__main__":
    main()
