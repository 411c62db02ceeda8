"""Result files that others wrote: whatever their texts are, the page shows them as text, or is refused in a line."""

import functools
import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Route

from findings.provenance import ROOT
from paper_figs.report import judged, page, prose
from tests.browser import chromium
from tests.hostile import FORMULAS, HOSTILE, changed, everywhere
from tests.paper_figs.report_common import Checkout, bridge, toy, tree


def test_formulas_that_are_more_than_formulas_are_refused() -> None:
    for latex in FORMULAS:
        with pytest.raises(ValueError, match="allowed"):
            prose.formula(latex)
        with pytest.raises(ValueError, match="allowed"):
            prose.quoted(f"a ${latex}$ b")


def test_ordinary_formulas_are_set() -> None:
    ordinary = [r"\frac{a}{b}", r"\sqrt[3]{x}", r"\begin{cases} a & b \\ c & d \end{cases}", r"\hat{p}\,\overline{q}"]
    ordinary += [r"\left\| x \right\|_2^2 \ge \mathbb{E} \sum_{i} \mathcal{N}", r"\underbrace{a}_b \; \binom{n}{k}"]
    for latex in ordinary:
        assert "<math" in prose.formula(latex)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of results with a hostile text in every field, those that could be written; at least one of each file."""
    pages: dict[str, Path] = {}
    for name, document in (("toy", toy()), ("bridge", bridge())):
        made = Checkout(tmp_path_factory.mktemp(name))
        made.pretend()
        file = made.root / {"toy": "results/toy.json", "bridge": "results/small/bridge.json"}[name]
        assert everywhere(file, document, functools.partial(read, name, file)) < 1 / 2
        hostile_document = json.loads(file.read_bytes())
        for latex in FORMULAS[:5]:
            file.write_text(json.dumps(changed(hostile_document, ("predictions", 0, "statement"), f"${latex}$")))
            with pytest.raises(ValueError, match="allowed"):
                read(name, file)
        file.write_text(json.dumps(hostile_document))
        pages[name] = made.root / f"{name}.html"
        pages[name].write_text(page.written(made.report(), made.out, {}), encoding="utf-8")
    return pages


def read(name: str, file: Path) -> object:
    """As the page reads it."""
    return judged.bridge(file, name) if name == "bridge" else judged.toy(file, name)


@pytest.mark.parametrize("name", ["toy", "bridge"])
def test_nothing_in_results_acts_or_is_fetched(hostile: dict[str, Path], name: str) -> None:
    """Read by Chromium: no element, no request and no script comes of them, and the page's own scripts run."""
    requested: list[str] = []
    with chromium() as browser:
        shown = browser.new_page()
        shown.on("request", lambda request: requested.append(request.url))
        shown.on("console", lambda message: requested.append(f"console: {message.text}"))
        shown.on("dialog", lambda dialog: requested.append("dialog"))
        shown.goto(hostile[name].as_uri())
        shown.wait_for_timeout(300)
        assert shown.title() == "Flatness in diffusion models: the report"
        assert shown.locator("iframe, svg[onload], link, a[href^='javascript'], img[onerror], base, form").count() == 0
        assert shown.locator("button.sorts").count() > 0, "the page's own scripts run"
        assert shown.locator("body").is_visible()
        shown.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        assert "acted" in shown.locator("main").inner_text()
    assert [address for address in requested if not address.startswith(("file:", "data:"))] == []
    assert len([address for address in requested if address.startswith("file:")]) == 1


def test_the_policy_stops_what_would_get_into_the_page(hostile: dict[str, Path], tmp_path: Path) -> None:
    """Were something not escaped: an injected script, style and picture do nothing, and nothing is asked for."""
    text = hostile["toy"].read_text(encoding="utf-8")
    injected = (
        "<script>document.title = 'acted'</script><img src='https://acted.example/x.png' "
        "onerror=\"document.title='acted'\"><p id=p style='position:fixed'>x</p>"
        "<style>main { display: none }</style>"
    )
    requested: list[str] = []

    def stopped(route: Route) -> None:
        requested.append(route.request.url)  # what the policy blocks does not come as far
        route.abort()

    with chromium() as browser:
        for within, acts in ((text, False), (text.replace("Content-Security-Policy", "None"), True)):
            path = tmp_path / "page.html"
            path.write_text(within.replace("<main", f"{injected}<main", 1), encoding="utf-8")
            requested.clear()
            shown = browser.new_page()

            shown.route("https://acted.example/*", stopped)
            shown.goto(path.as_uri(), wait_until="domcontentloaded")
            shown.wait_for_timeout(300)
            assert (shown.title() == "acted") is acts
            assert shown.locator("main").is_visible() is not acts
            assert bool(requested) is acts
            shown.close()


STORY = (
    "[x](javascript:document.title='acted')",
    "[x](https://acted.example/?q)",
    "[x](//acted.example/)",
    "**<img src=x onerror=1>**",
    "`</code><script>1</script>`",
)
"""Texts that hold the story's marks."""


@pytest.mark.parametrize("text", [*HOSTILE, *STORY])
def test_the_story_sets_marks_and_nothing_else(text: str) -> None:
    """A name out of a result file that looks like a mark: no element but these, and no address but the page's own."""
    shown = BeautifulSoup(prose.rich(text, lambda target: target), "html.parser")
    assert {tag.name for tag in shown.find_all(True)} <= {"code", "strong", "a"}
    assert all(re.fullmatch(r"https://[\w./-]+", str(tag["href"])) for tag in shown.find_all("a"))
    assert all(set(tag.attrs) <= {"href"} for tag in shown.find_all(True))


def test_a_regime_of_the_ladder_with_a_hostile_name_is_text(tmp_path: Path) -> None:
    ring = json.loads((ROOT / "results" / "ladder" / "ring.json").read_bytes())
    for row in ring["rows"]:
        if row["regime"] == "24 points":
            row["regime"] = HOSTILE[0]
    made = Checkout(tmp_path)
    made.pretend()
    ring.pop("checksum", None)
    made.write("results/ladder/ring.json", json.dumps(ring))
    root = tree(page.written(made.report(), made.out, {}))
    assert len(root.all("script")) == 2
    assert HOSTILE[0] in root.one("section", id="ladder").text()
    assert "acted" not in root.one("section", id="findings").text()  # the story has numbers alone of results
