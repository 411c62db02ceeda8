"""The theory's pages in a browser: all that is loaded is ours, nothing is wider than a phone, formulas are set."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import DESK, PATIENCE, PHONE, chromium
from tests.docs.small_site import Site, claim_page
from theory import ledger
from theory.proof.statement import Verdict

PAGES = [f"theory/{name}" for name in ("index", "where_it_breaks", "what_holds_instead", "notation", "claims/index")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


Opener = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, theory_site: Site) -> Iterator[Opener]:
    """Opens a page so wide; in the end nothing may have come from elsewhere, or have been complained of."""
    contexts, unwanted = [], []

    def open_page(name: str, width: int = DESK) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        made = context.new_page()
        made.set_default_timeout(PATIENCE)
        made.on("console", lambda message: unwanted.append(f"console: {message.text}"))
        made.on("request", lambda request: unwanted.append(request.url) if not ours(request.url) else None)
        made.goto((theory_site.out / f"{name}.html").as_uri())
        made.evaluate("document.fonts.ready")
        return made

    def ours(address: str) -> bool:
        return address.startswith((theory_site.out.as_uri(), "data:"))

    yield open_page
    for context in contexts:
        context.close()
    assert unwanted == []


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", [*PAGES, "wide"])
def test_nothing_is_wider_than_the_window(name: str, width: int, opened: Opener) -> None:
    page = opened(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # what sticks out, but for what lies within a box that scrolls
    assert (
        page.evaluate("""
        [...document.querySelectorAll("article *")].filter((element) => {
          for (let around = element; around.tagName !== "ARTICLE"; around = around.parentElement) {
            if (getComputedStyle(around).overflowX !== "visible") return false;
          }
          return element.getBoundingClientRect().right > innerWidth + 1;
        }).map((element) => element.outerHTML.slice(0, 80))
    """)
        == []
    )


def test_no_claim_is_wider_than_a_phone(opened: Opener, theory_site: Site) -> None:
    page = opened("wide", PHONE)
    for label in ledger.statements():
        page.goto((theory_site.out / f"{claim_page(label)}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE, label


def test_a_wide_formula_scrolls_from_its_beginning_and_a_narrow_one_does_not(opened: Opener) -> None:
    measure = """() => [...document.querySelectorAll(".math-wrapper")].map((box) => {
        const number = box.querySelector(".eqno");
        const [outer, formula] = [box, box.querySelector("math > *")].map((part) => part.getBoundingClientRect());
        return {
          hidden: box.scrollWidth - box.clientWidth,
          below: box.scrollHeight - box.clientHeight,
          before: formula.left - outer.left,
          behind: number ? number.getBoundingClientRect().left - formula.right : 100,
        };
    })"""
    for box in (wide := opened("wide", PHONE).evaluate(measure)):
        assert box["hidden"] > 100
        assert box["below"] == 0
        assert 0 <= box["before"] < 20
        assert box["behind"] > 0, "the number does not cover it"
    assert len(wide) == 2
    for box in opened("wide", DESK).evaluate(measure):
        assert box["hidden"] == box["below"] == 0
        assert box["before"] > 20, "it stands in the middle"
        assert box["behind"] > 20


def test_formulas_are_set_in_the_font_that_comes_along(opened: Opener) -> None:
    page = opened("theory/what_holds_instead")
    assert page.evaluate("[...document.fonts].map((font) => [font.family, font.status])") == [["Formulas", "loaded"]]
    assert page.evaluate("getComputedStyle(document.querySelector('math')).fontFamily").startswith("Formulas")
    # a fraction is as high as two lines, so it has been set and not written out
    assert page.evaluate("document.querySelector('.claim mfrac').getBoundingClientRect().height") > 25


def test_switches_hide_the_claims_of_a_verdict(opened: Opener) -> None:
    page = opened("theory/claims/index")
    rows = page.locator(".verdicts tbody tr")
    assert rows.count() == len(ledger.statements())
    for verdict in Verdict:
        page.get_by_label(verdict.value, exact=True).uncheck()
        assert not page.locator(f'[data-verdict="{verdict.value}"]').first.is_visible()
        shown = sum(statement.verdict is not verdict for _, statement in ledger.statements().values())
        assert sum(rows.nth(number).is_visible() for number in range(rows.count())) == shown
        page.get_by_label(verdict.value, exact=True).check()
