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

LEAST_CONTRAST = 4.5
"""Of text against its background, WCAG 2.1 level AA."""

CONTRAST = """
(selectors) => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (element) => {
    for (let around = element; around; around = around.parentElement) {
      const colour = getComputedStyle(around).backgroundColor;
      if (!/^rgba.*, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return selectors.filter((selector) => document.querySelector(selector)).map((selector) => {
    const element = document.querySelector(selector);
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    return [selector, (pair[0] + 0.05) / (pair[1] + 0.05)];
  });
}
"""
"""Of the first of each selector that is there: its text's contrast with what lies behind it."""


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
