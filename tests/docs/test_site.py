"""The site as it is built: no complaint, no network, no link that leads nowhere, no figure missing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page

import flatness
from flatness.cli.options import MeasureOptions
from tests.browser import CONTRAST, DESK, LEAST_CONTRAST, PATIENCE, PHONE, chromium
from tests.once import made_once
from theory import ledger

ROOT = Path(__file__).parent.parent.parent


def build(out: Path) -> None:
    """Build the site as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "trees")]
    built = subprocess.run([*command, "docs", str(out / "html")], cwd=ROOT, capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site, which takes more than a minute."""
    return made_once(tmp_path_factory, "site", build) / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, BeautifulSoup]:
    return {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in sorted(site.rglob("*.html"))
    }


def unresolved(pages: dict[Path, BeautifulSoup]) -> list[str]:
    """What pages refer to that is not there: links with their anchors, images, styles and scripts."""
    lines = []
    anchors = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in pages.items()}
    for path, page in pages.items():
        for tag, attribute in (("a", "href"), ("img", "src"), ("link", "href"), ("script", "src")):
            for element in page.find_all(tag, {attribute: True}):
                address = urlsplit(str(element[attribute]))
                if address.scheme or address.netloc:
                    if tag != "a":
                        lines.append(f"{path.name} loads {element[attribute]}")
                    continue
                target = (path.parent / unquote(address.path)).resolve() if address.path else path
                # search.html and the like exist for scripts; anchors of pages that we did not write are not ours
                missing = not target.is_file()
                lost = bool(address.fragment) and target in anchors and unquote(address.fragment) not in anchors[target]
                if missing or lost:
                    lines.append(f"{path.name} refers to {element[attribute]}")
    return lines


def test_every_link_leads_somewhere(pages: dict[Path, BeautifulSoup]) -> None:
    assert len(pages) > 50
    assert unresolved(pages) == []


def test_links_that_lead_nowhere_are_noticed(site: Path, pages: dict[Path, BeautifulSoup]) -> None:
    for html, expected in (
        ('<a href="none.html">x</a>', "none.html"),
        ('<a href="index.html#none">x</a>', "index.html#none"),
        ('<img src="none.png">', "none.png"),
        ('<script src="https://example.org/x.js"></script>', "https://example.org/x.js"),
    ):
        index = site / "index.html"
        broken = {site / "broken.html": BeautifulSoup(html, "html.parser"), index: pages[index]}
        (complaint,) = [line for line in unresolved(broken) if line.startswith("broken.html")]
        assert complaint.endswith(expected)


def test_everything_public_stands_in_the_reference(pages: dict[Path, BeautifulSoup]) -> None:
    defined = {str(tag["id"]) for page in pages.values() for tag in page.find_all("dt", id=True)}
    assert {f"flatness.{name}" for name in flatness.__all__} - defined == set()


def test_every_claim_has_its_page(site: Path) -> None:
    for label in ledger.statements():
        assert (site / "theory" / "claims" / f"{label}.html").is_file(), label


def names_in(table: str) -> list[str]:
    """The first column of a table as a terminal shows it; a name may run on over lines without a number."""
    names: list[str] = []
    for line in table.split("\n"):
        if line.startswith("│"):
            name, value = (cell.strip() for cell in line.split("│")[1:3])
            if value:
                names.append(name)
            else:
                names[-1] += f" {name}"
    return names


def test_the_tutorial_shows_what_the_command_prints_today(pages: dict[Path, BeautifulSoup], site: Path) -> None:
    """Each measure's name in the recorded table is one that the command gives a number, and all of them stand there."""
    measured, compared = (
        names_in(block.get_text()) for block in pages[site / "tutorial.html"].find_all("pre") if "┏" in block.get_text()
    )
    for bits in MeasureOptions().bits:
        assert f"rise, rounded to {bits} bits" in measured
    for steps in MeasureOptions().steps:
        assert f"exposure bias, T' = {steps}: norm's gap" in measured
    ((_, recorded),) = json.loads((ROOT / "results/tutorial/measure.json").read_bytes())["sources"].items()
    assert measured == [number["words"] for number in recorded["numbers"].values()]
    assert compared == [name for name in measured if "distance" not in name]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def look(page: Page, scheme: str) -> None:
    """Show the page in light, dark, or as it is printed."""
    page.emulate_media(
        media="print" if scheme == "print" else "screen", color_scheme="dark" if scheme == "dark" else "light"
    )


TEXTS = ["article p", "article a", "article h1", "article h2", "article th", "article td", "article code", "summary"]
TEXTS += [".sidebar-tree a", ".verdict", ".fragment .claims th small", ".fragment .note", "article pre span"]
TEXTS += ["article dt", "article dd", "article em", "figcaption", ".admonition p"]
SEEN = "[getComputedStyle(document.body).backgroundColor, document.documentElement.scrollWidth <= innerWidth]"


def test_every_page_loads_nothing_from_elsewhere_misses_nothing_fits_and_can_be_read(
    site: Path, browser: Browser
) -> None:
    """In light, dark and print, on a phone and at a desk: each page is opened once, and looked at in all of them."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("request", lambda made: wrong.append(made.url) if not made.url.startswith(("file:", "data:")) else None)
    page.on("requestfailed", lambda made: wrong.append(f"failed: {made.url}"))
    compared = 0
    for path in sorted(site.rglob("*.html")):
        if "_modules" in path.parts:
            continue
        page.set_viewport_size({"width": DESK, "height": 900})
        page.goto(path.as_uri())
        name = path.relative_to(site).as_posix()
        sizes = page.evaluate(
            "[...document.images].map((image) => [image.src, image.complete && image.naturalWidth > 0])"
        )
        wrong += [f"{name}: no picture at {address}" for address, shown in sizes if not shown]
        for width in (DESK, PHONE):
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in ("light", "dark", "print"):
                look(page, scheme)
                background, fits = page.evaluate(SEEN)
                wrong += [] if fits else [f"{name} in {scheme} is wider than {width}"]
                if scheme != "print" and (background == "rgb(255, 255, 255)") != (scheme == "light"):
                    wrong.append(f"{name} in {scheme} lies on {background}")
                if width == DESK:
                    ratios = page.evaluate(CONTRAST, TEXTS)
                    compared += len(ratios)
                    wrong += [f"{name} in {scheme}: {of} {r:.1f}" for of, r in ratios if r < LEAST_CONTRAST]
    context.close()
    assert wrong == []
    assert compared > 1000


def test_a_phone_cuts_off_no_column_of_the_claims(site: Path, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto((site / "index.html").as_uri())
    boxes = page.evaluate(
        "[...document.querySelectorAll('#claims-by-rung .table-wrapper')].map((b) => [b.scrollWidth, b.clientWidth])"
    )
    assert len(boxes) == 1
    assert all(inside <= outside for inside, outside in boxes)
    page.close()


def test_the_search_finds_a_function(site: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{(site / 'search.html').as_uri()}?q=low_pass_filter")
    page.locator("#search-results li a").first.wait_for()
    addresses = page.locator("#search-results li a").evaluate_all("(links) => links.map((link) => link.href)")
    assert any("reference/measuring.html" in address for address in addresses)
    page.close()
