"""Functions of a client for the live page of a cluster (`monitoring.dashboard`)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dask_dedup.monitoring.progress import PAGE_METADATA, TOPIC

if TYPE_CHECKING:
    from distributed import Client, Scheduler

    from dask_dedup.monitoring.progress import Event


def live_page_link(client: Client) -> str | None:
    """Return the URL of the live page (`monitoring.dashboard`), or None if the scheduler serves no such page."""
    page = client.get_metadata([PAGE_METADATA], None)
    link: str = client.dashboard_link or ""
    if not (page and link):
        return None
    if client.scheduler.address.startswith("inproc://"):
        # In this case Dask returns the machine's network address, but the page may listen only on another address.
        options = getattr(client.cluster, "scheduler_spec", {}).get("options", {})
        host = str(options.get("dashboard_address", "")).rpartition(":")[0]
        if host in ("0.0.0.0", ""):
            host = "127.0.0.1"
        link = urlsplit(link)._replace(netloc=f"{host}:{urlsplit(link).port}").geturl()
    if page["https"]:
        link = link.replace("http://", "https://", 1)
    return link.removesuffix("/status") + str(page["path"])


def show_report(client: Client, event: Event) -> None:
    """Send the event that the report is written to the live page. Do nothing if the scheduler does not answer."""
    with suppress(OSError, TimeoutError):
        if client.status == "running":
            client.log_event(TOPIC, event)


def wait_for_visitors(client: Client) -> None:
    """Wait until the open live pages show the end of the run, because the cluster closes next."""
    from asyncio import CancelledError

    with suppress(OSError, TimeoutError, CancelledError):
        if client.status == "running" and live_page_link(client):
            client.run_on_scheduler(_wait_for_visitors)


async def _wait_for_visitors(dask_scheduler: Scheduler) -> None:
    from dask_dedup.monitoring.dashboard.plugin import DedupPlugin

    await dask_scheduler.plugins[DedupPlugin.name].wait_for_visitors()
