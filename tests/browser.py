"""A headless browser that collects errors and requests to other hosts."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

#: Seconds that a busy machine may need for anything.
PATIENCE = 90
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


class Visit:
    """A page and the problems on it.

    Attributes
    ----------
    page : playwright.sync_api.Page
    problems : list of str
        Errors on the console, failed requests, and requests to any other host. The live page asks for its numbers
        every few seconds: a request that is given up, because the page is left or the machine is busy, is no problem.
    """

    def __init__(self, page, host):
        self.page, self.problems = page, []
        page.on("console", self._add_message)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("requestfailed", self._add_failure)
        page.on("request", lambda request: self._add_request(request.url, host))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))

    def _add_message(self, message):
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _add_failure(self, request):
        given_up = request.failure == "net::ERR_ABORTED"
        if not (given_up and request.url.endswith("/json/dedup.json")):
            self.problems.append(f"failed: {request.url}: {request.failure}")

    def _add_request(self, url, host):
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "file") and parts.netloc != host:
            self.problems.append(f"outside: {url}")

    @property
    def width(self):
        """Width of the whole page, in pixels."""
        return self.page.evaluate("document.documentElement.scrollWidth")


@contextmanager
def browsing():
    """Yield a function that opens an address at a width. A trusted page may run scripts that it does not name."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium; .ci/packages installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)

        def visit(url, width=1280, *, javascript=True, scheme="light", trusted=False):
            page = browser.new_page(
                viewport={"width": width, "height": 900},
                java_script_enabled=javascript,
                color_scheme=scheme,
                bypass_csp=trusted,
            )
            page.set_default_timeout(PATIENCE * 1000)
            visit = Visit(page, urlsplit(url).netloc)
            page.goto(url)
            return visit

        try:
            yield visit
        finally:
            browser.close()
