"""Result files that others wrote: whatever their texts are, the page shows them as text, or is refused in a line."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Route

from findings.provenance import ROOT
from paper_figs.report import judged, page, prose
from tests.browser import chromium
from tests.paper_figs.report_common import Checkout, bridge, toy, tree

HOSTILE = (
    "<script>document.title = 'acted'</script>",
    "<img src=x onerror=\"document.title = 'acted'\"><iframe src='https://acted.example/'></iframe>",
    '"><a href="javascript:document.title=\'acted\'">x</a><style>body { display: none }</style>',
    "'-->]]></script></style></math><svg onload=\"document.title='acted'\"><link rel=stylesheet href=//acted.example/>",
)
"""What must arrive as text."""
FORMULAS = (
    r"\style{position:fixed;inset:0;background:url(https://acted.example/)}{x}",
    r"\href{https://acted.example/}{x}",
    r"\href{javascript:alert(1)}{x}",
    r"\class{acted}{x}",
    r"\color{red}{x}",
    r"\textcolor{url(x)}{x}",
    r"\rule{999cm}{999cm}",
    r"\hspace{9999cm}",
    r"\fbox{x}",
    "x" * 5000,
)
"""More than formulas."""


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every text and key of a document that is no verdict."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        if isinstance(inner, str):
            yield (*where, key)
        yield from places(inner, (*where, key))


def changed(document: dict[str, Any], where: tuple[Any, ...], text: str) -> dict[str, Any]:
    """The document with another text in one place."""
    copied = copy.deepcopy(document)
    inner: Any = copied
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = text
    return copied


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
        everywhere, refused = document, 0
        fields = list(places(document))
        for place, where in enumerate(fields):
            candidate = changed(everywhere, where, HOSTILE[place % len(HOSTILE)])
            file.write_text(json.dumps(candidate))
            try:
                read(name, file)
            except ValueError as error:
                assert "\n" not in str(error)  # noqa: PT017
                refused += 1
                continue
            everywhere = candidate
        assert refused < len(fields) / 2
        for latex in FORMULAS[:5]:
            file.write_text(json.dumps(changed(everywhere, ("predictions", 0, "statement"), f"${latex}$")))
            with pytest.raises(ValueError, match="allowed"):
                read(name, file)
        file.write_text(json.dumps(everywhere))
        pages[name] = made.root / f"{name}.html"
        pages[name].write_text(page.written(made.report(), made.out, {}), encoding="utf-8")
    return pages


def read(name: str, file: Path) -> object:
    """As the page reads it."""
    return judged.bridge(file, name) if name == "bridge" else judged.toy(file, name)


@pytest.mark.parametrize("name", ["toy", "bridge"])
def test_nothing_in_results_acts_or_is_fetched(hostile: dict[str, Path], name: str) -> None:
    """Read by Chromium: no element, no request and no script comes of them, and the page's own scripts run."""
    asked: list[str] = []
    with chromium() as browser:
        shown = browser.new_page()
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("console", lambda message: asked.append(f"console: {message.text}"))
        shown.on("dialog", lambda dialog: asked.append("dialog"))
        shown.goto(hostile[name].as_uri())
        shown.wait_for_timeout(300)
        assert shown.title() == "Flatness in diffusion models: the report"
        assert shown.locator("iframe, svg[onload], link, a[href^='javascript'], img[onerror], base, form").count() == 0
        assert shown.locator("button.sorts").count() > 0, "the page's own scripts run"
        assert shown.locator("body").is_visible()
        shown.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        assert "acted" in shown.locator("main").inner_text()
    assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
    assert len([address for address in asked if address.startswith("file:")]) == 1


def test_the_policy_stops_what_would_get_into_the_page(hostile: dict[str, Path], tmp_path: Path) -> None:
    """Were something not escaped: an injected script, style and picture do nothing, and nothing is asked for."""
    text = hostile["toy"].read_text(encoding="utf-8")
    injected = (
        "<script>document.title = 'acted'</script><img src='https://acted.example/x.png' "
        "onerror=\"document.title='acted'\"><p id=p style='position:fixed'>x</p>"
        "<style>main { display: none }</style>"
    )
    asked: list[str] = []

    def stopped(route: Route) -> None:
        asked.append(route.request.url)  # what the policy blocks does not come as far
        route.abort()

    with chromium() as browser:
        for within, acts in ((text, False), (text.replace("Content-Security-Policy", "None"), True)):
            path = tmp_path / "page.html"
            path.write_text(within.replace("<main", f"{injected}<main", 1), encoding="utf-8")
            asked.clear()
            shown = browser.new_page()

            shown.route("https://acted.example/*", stopped)
            shown.goto(path.as_uri(), wait_until="domcontentloaded")
            shown.wait_for_timeout(300)
            assert (shown.title() == "acted") is acts
            assert shown.locator("main").is_visible() is not acts
            assert bool(asked) is acts
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
    assert HOSTILE[0] in root.one("section", id="findings").text()
