"""The system's Chromium, driven headless, for tests of what a person sees."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESK = 400, 1400
"""Widths in CSS pixels."""
PATIENCE = 60_000
"""Milliseconds to wait for anything on a page; a busy machine is slow, a fault never ends."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. Where there is none the test is skipped; in CI it fails."""
    executable = next((path for name in EXECUTABLES if (path := shutil.which(name))), None)
    if executable is None:
        reason = f"no browser: none of {', '.join(EXECUTABLES)} is on the PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # as root, in containers, Chromium has no sandbox of its own; the pages are ours and load nothing
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()
