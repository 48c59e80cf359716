"""Fixtures that several test files share."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import distributed  # noqa: F401 (sets up its loggers)
import pytest
from click.testing import CliRunner
from hypothesis import settings

from dask_dedup.cli import main
from dask_dedup.cluster import handshake, scheduler
from dask_dedup.integrations.relion import SUPERVISED
from dask_dedup.pipeline.executors import batching as groups

# pytest adds its handlers to loggers that do not propagate, and a cluster silences the handlers of these two.
for name in ("distributed", "bokeh"):
    logging.getLogger(name).propagate = True

# The time of one example depends on the machine more than on the program.
settings.register_profile("thorough", deadline=None, derandomize="CI" in os.environ)
# For the fast tests. The slow ones repeat the property tests with the other profile.
settings.register_profile("quick", settings.get_profile("thorough"), max_examples=20)
settings.load_profile("quick")


def examples(number, **options):
    """Return settings with this many examples among the slow tests, and as few as the profile among the fast ones."""
    profile = settings.default.max_examples
    quick = profile == settings.get_profile("quick").max_examples
    return settings(max_examples=min(number, profile) if quick else number, **options)


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data():
    """The folder of real picks."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("DASK_DEDUP_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real picks in {folder}; set DASK_DEDUP_REAL_DATA to their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def small_fragments_are_spread_like_large_ones():
    """Give each task of a cluster one fragment; by default it takes many small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "TASK_ROWS", 1)
        patch.setattr(groups, "MOST_TASK_ROWS", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def waits_are_not_announced():
    """Print no line about a wait for a scheduler or its workers, which are slow on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (handshake, scheduler):
            patch.setattr(module, "NOTICE_SECONDS", 600.0)
        yield


#: An idle cluster of Dask looks around 50 times a second, which takes a tenth of a core as long as the tests run.
IDLE = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}


@pytest.fixture(scope="session")
def two_workers():
    """A client of two worker processes that is not the default client."""
    import dask
    from distributed import Client, LocalCluster

    with dask.config.set(IDLE):
        local = LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=":0",
            silence_logs=logging.ERROR,
        )
    with local, Client(local, set_as_default=False) as client:
        yield client


@pytest.fixture
def cluster(two_workers):
    """The same client, as the current one."""
    with two_workers.as_current():
        yield two_workers


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    """An object store (moto) in its own process."""
    for library in ("s3fs", "upath", "moto.server", "boto3"):
        pytest.importorskip(library)
    from object_stores import start_moto

    process, store = start_moto(tmp_path_factory.mktemp("moto"))
    yield store
    process.kill()
    process.wait()


@pytest.fixture
def store(moto, monkeypatch):
    """The same store, configured for this process."""
    moto.use(monkeypatch)
    return moto


@pytest.fixture
def there(store, tmp_path):
    """A prefix of the store for one test."""
    from object_stores import Folder

    return Folder(store, tmp_path.name)


@pytest.fixture
def cli():
    """Call the command line in this process; returns exit_code, stdout and stderr. Runs write no report by default."""
    try:
        runner = CliRunner(mix_stderr=False, env={SUPERVISED: "1"})  # before click 8.2
    except TypeError:
        runner = CliRunner(env={SUPERVISED: "1"})
    logger = logging.getLogger("dask_dedup")
    before = logger.level, logger.handlers

    def call(*arguments, no_report=True):
        strings = [str(word) for word in arguments]
        defaults = {"run": {"no_report": no_report}}
        return runner.invoke(main, strings, catch_exceptions=False, default_map=defaults)

    yield call
    logger.level, logger.handlers = before


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """An authority that signs the certificates of a cluster."""
    from authority import Authority

    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def rogue(tmp_path_factory):
    """Another authority, which the cluster does not trust."""
    from authority import Authority

    return Authority(tmp_path_factory.mktemp("rogue"))
