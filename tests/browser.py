"""A headless browser that notes what it should not see."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

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
    """A page, and what went wrong on it.

    Attributes
    ----------
    page : playwright.sync_api.Page
    troubles : list of str
        Errors on the console, and requests to any other host.
    """

    def __init__(self, page, host):
        self.page, self.troubles = page, []
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self.troubles.append(f"failed: {request.url}"))
        page.on("request", lambda request: self._note(request.url, host))
        page.on("dialog", lambda dialog: self.troubles.append(f"dialog: {dialog.message}"))

    def _note_message(self, message):
        if message.type == "error":
            self.troubles.append(f"console: {message.text}")

    def _note(self, url, host):
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "file") and parts.netloc != host:
            self.troubles.append(f"outside: {url}")

    @property
    def width(self):
        """Of all that there is to see."""
        return self.page.evaluate("document.documentElement.scrollWidth")


@contextmanager
def browsing():
    """Give a function that opens an address at a width."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium; .ci/packages installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)

        def visit(url, width=1280):
            page = browser.new_page(viewport={"width": width, "height": 900})
            visit = Visit(page, urlsplit(url).netloc)
            page.goto(url)
            return visit

        try:
            yield visit
        finally:
            browser.close()
