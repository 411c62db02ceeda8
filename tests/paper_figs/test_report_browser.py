"""The report in a browser: it loads nothing, fits every screen, sorts, filters, and opens sources by keyboard.

The browser is the system's Chromium, driven headless. Where there is none the tests are skipped; in CI they fail.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from paper_figs import build, catalogue
from paper_figs.report import document, page
from tests.browser import CONTRAST, DESK, LEAST_CONTRAST, PATIENCE, PHONE, chromium
from tests.paper_figs.report_common import Checkout


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module", params=["small", "drawn"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small checkout, and that of the figures that are drawn here."""
    folder = tmp_path_factory.mktemp("page")
    if request.param == "small":
        made = Checkout(folder)
        made.pretend()
        text = page.written(made.report(), made.out, {})
    else:
        report = document.find(catalogue.figures())
        assert report is not None
        if set(report.states(build.OUT).values()) == {"missing"}:
            pytest.skip(f"no figure is drawn in {build.OUT}; make figs draws them")
        text = page.written(report, build.OUT, {})
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


Opener = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opener]:
    """Opens the page so wide, light or dark; in the end nothing may have been loaded or complained of."""
    contexts, unwanted = [], []

    def open_page(width: int = DESK, scheme: str = "light", scripts: bool = True) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=scripts,
        )
        contexts.append(context)
        made = context.new_page()
        made.set_default_timeout(PATIENCE)
        made.on("console", lambda message: unwanted.append(f"console: {message.text}"))
        made.on("pageerror", lambda error: unwanted.append(f"error: {error}"))
        made.on("request", lambda request: unwanted.append(request.url[:80]) if not known(request.url) else None)
        made.goto(file.as_uri())
        return made

    def known(address: str) -> bool:
        return address.partition("#")[0] == file.as_uri() or address.startswith("data:")

    yield open_page
    for context in contexts:
        context.close()
    assert unwanted == []


LARGEST, LONGEST = 3_000_000, 15_000
"""Bytes of the page, and pixels that it is long at a desk with its details folded."""
UNFOLD = "for (const details of document.querySelectorAll('details')) details.open = true"
CUT = """
[...document.querySelectorAll("main *")].filter((element) => {
  if (!element.checkVisibility()) return false;
  for (let around = element; around.tagName !== "MAIN"; around = around.parentElement) {
    const scrolls = getComputedStyle(around).overflowX !== "visible" && !around.querySelector(".claims:not(.by-study)");
    if (scrolls || around.classList.contains("skip")) return false;
  }
  return element.getBoundingClientRect().right > innerWidth + 1;
}).map((element) => element.outerHTML.slice(0, 80))
"""
"""What sticks out of the window; wide tables of numbers, claims by study and formulas scroll in their boxes, other
tables of claims may not."""
SCROLL = "[...document.querySelectorAll('.box:has(.claims)')].filter((b) => b.scrollWidth > b.clientWidth + 1).length"
"""Tables of claims that are cut off until they are scrolled: on a phone none, for there a claim is a block."""


def in_scheme(opened: Opener, width: int, scheme: str) -> Page:
    """The report at a width, in light, dark or print."""
    shown = opened(width, "light" if scheme == "print" else scheme)
    if scheme == "print":
        shown.emulate_media(media="print")
    return shown


def test_the_page_is_small_and_short(opened: Opener, file: Path) -> None:
    assert file.stat().st_size < LARGEST
    assert opened(DESK).evaluate("document.documentElement.scrollHeight") < LONGEST


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_all_pictures_load_and_nothing_is_cut_off(opened: Opener, width: int, scheme: str) -> None:
    shown = in_scheme(opened, width, scheme)
    sizes = shown.evaluate("[...document.images].map((image) => [image.complete, image.naturalWidth])")
    assert sizes
    assert all(complete and natural > 0 for complete, natural in sizes)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(CUT) == []
    shown.evaluate(UNFOLD)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(CUT) == []
    if width == PHONE:
        assert shown.evaluate(SCROLL) == 0
    wide = shown.evaluate("[...document.images].filter((i) => i.getBoundingClientRect().right > innerWidth).length")
    assert wide == 0


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_text_can_be_read_in_light_dark_and_print(opened: Opener, width: int, scheme: str) -> None:
    shown = in_scheme(opened, width, scheme)
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme != "dark")
    selectors = ["p", "a", "h2", "nav a", "code", "summary", ".note", "figcaption", "th small", "button.sorts"]
    selectors += [".number > button", ".source b", ".origin", ".decimals", ".filter legend"]
    verdicts = ("holds", "holds-under-conditions", "false-as-printed", "vacuous", "confirmed", "refuted", "undecided")
    selectors += [f".verdict.{name}" for name in verdicts]
    contrasts = shown.evaluate(CONTRAST, selectors)
    assert len(contrasts) >= len(selectors) - 1  # a checkout without tables has no notes under them
    assert [(selector, ratio) for selector, ratio in contrasts if ratio < LEAST_CONTRAST] == []
    # figures are drawn on white, and stay on a light card
    assert shown.evaluate("getComputedStyle(document.images[0]).backgroundColor") == "rgb(255, 255, 255)"


def until(page: Page, expression: str) -> None:
    """Wait for an expression to be true, asked from outside: the page's policy lets nothing be evaluated inside."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(expression)


def test_tables_sort_by_number_and_by_word(opened: Opener) -> None:
    shown = opened()
    shown.evaluate(UNFOLD)
    read = "[...document.querySelectorAll('#picture-table_1 tbody tr')]"
    values = f"{read}.map((row) => +row.cells[1].dataset.sort)"
    before = [value for value in shown.evaluate(values) if not math.isnan(value)]
    empty = len(shown.evaluate(values)) - len(before)
    header = shown.locator("#picture-table_1 thead th").nth(1)
    header.locator("button").focus()
    shown.keyboard.press("Enter")
    until(shown, f"{values}[0] === {max(before)}")
    assert shown.evaluate(values)[: len(before)] == sorted(before, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"
    shown.keyboard.press("Enter")
    until(shown, f"{values}[0] === {min(before)}")
    assert shown.evaluate(values)[: len(before)] == sorted(before)
    assert all(map(math.isnan, shown.evaluate(values)[len(before) :]))  # what a row lacks is last, whichever the order
    assert len(shown.evaluate(values)) == len(before) + empty
    assert header.get_attribute("aria-sort") == "ascending"
    words = (
        "[...document.querySelectorAll('#ledger table')[0].querySelectorAll('tbody tr')].map((r) => r.dataset.verdict)"
    )
    shown.locator("#ledger table").first.locator("thead th", has_text="verdict").locator("button").click()
    until(shown, f"{words}[0] === 'false as printed'")
    assert shown.evaluate(words) == sorted(shown.evaluate(words))


def test_the_filter_shows_one_verdict(opened: Opener) -> None:
    shown = opened()
    shown.evaluate(UNFOLD)
    items = "#claims [data-verdict]"
    visible = (
        f"[...document.querySelectorAll('{items}')].filter((i) => i.checkVisibility()).map((i) => i.dataset.verdict)"
    )
    everything = shown.evaluate(visible)
    assert set(everything) == {"holds", "holds under conditions", "false as printed", "vacuous"}
    shown.locator("#ledger fieldset").get_by_label("false as printed").check()
    assert shown.evaluate(visible) == ["false as printed"] * everything.count("false as printed")
    others = "document.querySelectorAll('#predictions [data-verdict][hidden]').length"
    assert shown.evaluate(others) == 0  # each section has a filter of its own
    shown.locator("#ledger fieldset").get_by_label("all").check()
    assert shown.evaluate(visible) == everything


def test_a_source_opens_by_keyboard_and_by_click_and_says_the_number_s_own_key(opened: Opener) -> None:
    shown = opened()
    shown.evaluate(UNFOLD)
    first, second = (shown.locator("#predictions tbody tr").nth(row).locator(".number").last for row in (0, 1))
    button = first.locator("button")
    note = shown.locator(f"#{button.get_attribute('popovertarget')}")
    assert not note.is_visible()
    button.focus()
    shown.keyboard.press("Enter")
    assert note.is_visible()
    assert "results/toy.json" in note.inner_text()
    assert "python -m toy" in note.inner_text()
    assert note.locator(".key").inner_text() == button.get_attribute("title")
    box = note.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= DESK
    shown.keyboard.press("Escape")
    assert not note.is_visible()
    second.locator("button").click()
    assert note.is_visible()  # numbers of one file share it
    assert note.locator(".key").inner_text() == second.locator("button").get_attribute("title")
    second.locator("button").click()
    assert not note.is_visible()


def test_a_source_opens_without_scripts_and_fits_a_phone(opened: Opener) -> None:
    shown = opened(PHONE, scripts=False)
    button = shown.locator("#findings .number button").first
    button.click()
    box = shown.locator(f"#{button.get_attribute('popovertarget')}").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE
    assert not shown.locator("fieldset").first.is_visible()  # a filter would do nothing


def test_a_link_opens_the_claim_that_it_names(opened: Opener) -> None:
    shown = opened()
    claim = shown.locator("[id='claim-theorem-3.8']")
    assert claim.get_attribute("open") is None
    shown.locator("#claims > summary").click()
    shown.locator("#ledger fieldset").get_by_label("false as printed").check()  # hides it
    shown.locator("#ledger table a[href='#claim-theorem-3.8']").click()
    until(shown, "document.getElementById('claim-theorem-3.8').open")
    assert claim.is_visible()
    assert claim.locator("math").first.is_visible()


def test_in_print_nothing_is_left_to_press(opened: Opener) -> None:
    shown = opened()
    shown.emulate_media(media="print")
    for selector in ("nav", "#ledger fieldset", ".source"):
        assert not shown.locator(selector).first.is_visible()
    assert shown.locator("#ledger table").first.is_visible()
    assert shown.pdf(format="A4").startswith(b"%PDF")
