"""Check command lines and environment variables that are written in files."""

from __future__ import annotations

import click
import pytest

from dask_dedup.storage.protocols import ENDPOINTS

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def parse(arguments):
    """Return the parameters of a command line, parsed by its program."""
    from distributed.cli import dask_scheduler, dask_worker

    from dask_dedup.cli import main

    programs = {("dask", "scheduler"): dask_scheduler.main, ("dask", "worker"): dask_worker.main}
    programs |= {("dask-dedup", name): command for name, command in main.commands.items()}
    program = programs[tuple(arguments[:2])]
    rest = [word.replace("$(THREADS)", "4") for word in arguments[2:]]
    # Click caches the help option of the first context of a command.
    parent = click.Context(main, **main.context_settings)
    with program.make_context(arguments[1], rest, parent=parent) as context:
        return context.params


def is_read(name):
    """Return whether an installed library reads an environment variable."""
    import dask
    import distributed  # noqa: F401  (its defaults are part of the configuration)

    from dask_dedup.pipeline.executors.watchdog import NO_WORKERS

    known = {"TMPDIR", "MPLCONFIGDIR"}
    if name.startswith("AWS_"):
        session = pytest.importorskip("botocore.configprovider")
        from botocore.credentials import EnvProvider

        defaults = [entry[1] for entry in session.BOTOCORE_DEFAUT_SESSION_VARIABLES.values()]
        known = {*ENDPOINTS, EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY}
        return name in known or any(name == entry or name in (entry or ()) for entry in defaults)
    if name.startswith("DASK_"):
        key = name.removeprefix("DASK_").lower().replace("__", ".")
        if key.replace("_", "-") == NO_WORKERS:
            return True
        try:
            dask.config.get(key)
        except KeyError:
            return False
        return True
    return name in known
