"""Result files that others wrote, on the site: pages show their texts as texts, even without the site's policy."""

import functools
import json
import operator
import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route

from docs.extensions import benchmarks
from docs.extensions import fragments as directives
from findings.provenance import ROOT
from paper_figs import story
from paper_figs.report import judged
from tests.browser import PATIENCE, chromium
from tests.docs.small_site import FORMULAS as SETS_FORMULAS
from tests.docs.small_site import Site, build
from tests.hostile import HOSTILE, everywhere, places, renamed
from tests.paper_figs.report_common import bridge, toy

REGIME = "24 points"
"""Of the ladder's first rung, one that pages name."""


def ladder() -> dict[str, Any]:
    """results/ladder/ring.json, as somebody could have written it anew."""
    document: dict[str, Any] = json.loads((ROOT / "results" / "ladder" / "ring.json").read_bytes())
    return {key: value for key, value in document.items() if key not in ("checksum", "verdicts")}


def names(document: dict[str, Any]) -> list[str]:
    """What a ladder's document calls things, outside of its rows and what they were configured with; and its regime."""
    own = {key: value for key, value in document.items() if key not in ("rows", "configuration")}
    texts: list[Any] = [functools.reduce(operator.getitem, where, own) for where in places(own)]
    return sorted({REGIME, *texts})


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results, hostile wherever that is read."""
    root = tmp_path_factory.mktemp("hostile")
    toys, bridges, rows = (root / "results" / name for name in ("toy.json", "small/bridge.json", "ladder/ring.json"))
    for path in (toys, bridges, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
    assert everywhere(toys, toy(), lambda: judged.toy(toys, "toy")) < 1 / 2
    assert everywhere(bridges, bridge(), lambda: judged.bridge(bridges, "bridge")) < 1 / 2
    document = ladder()
    for place, text in enumerate(names(document)):
        document = renamed(document, text, HOSTILE[place % len(HOSTILE)] + str(place))
    rows.write_text(json.dumps(document))
    where = {"versions": {HOSTILE[1]: HOSTILE[2]}, "commit": HOSTILE[3], "device": HOSTILE[0], "cores": HOSTILE[1]}
    measured = [dict.fromkeys(("measured", "result", "against"), text) for text in HOSTILE]
    room = {"title": HOSTILE[0], "wall_seconds": 1.0, "rows": measured, "provenance": where}
    (root / "benchmarks.json").write_text(json.dumps({"rooms": {"hostile": room}}))
    (root / "printed.txt").write_text("\n".join(HOSTILE))
    return root


PAGES = {
    "index": "# Page\n\n```{toctree}\nladder\npredictions\nbridge\nstory\nbenchmarks\nprinted\n```\n",
    "ladder": "# Ladder\n\n```{fragment} ladder\n```\n",
    "predictions": "# Toy\n\n```{fragment} predictions\n```\n",
    "bridge": "# Bridge\n\n```{fragment} bridge\n```\n",
    "story": "# Story\n\n```{story} question by-rung findings advice unknown\n```\n",
    "benchmarks": "# Benchmarks\n\n```{benchmarks} hostile\n```\n",
    "printed": "# Printed\n\n```{literalinclude} printed.txt\n```\n",
}
ACTS = "script, style, iframe, base, form, link, [onload], [onerror], a[href*='acted'], img[src='x']"


@pytest.fixture(scope="module")
def site(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Pages of all that the site takes from results, without its policy: what holds here holds by what is written."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs" / "images", folder / "pages" / "images")
    shutil.copy(checkout / "printed.txt", folder / "pages")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(directives, "ROOT", checkout)
        patched.setattr(benchmarks, "FILE", checkout / "benchmarks.json")
        extensions = (SETS_FORMULAS, "docs.extensions.fragments", "docs.extensions.benchmarks")
        return build(folder, PAGES, extensions)


def test_a_caption_on_the_site_is_text() -> None:
    part = story.Part("p", "", (story.Picture("ladder", f"caption {HOSTILE[0]}", "a\n:class: b", 10),))
    text = story.markdown(part, directives.figure)
    assert "caption \\<" in text
    assert ":alt: a :class: b\n" in text


def test_nothing_in_results_acts_or_is_fetched(site: Site) -> None:
    requested: list[str] = []

    def stopped(route: Route) -> None:
        requested.append(route.request.url)
        route.abort()

    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.route(lambda address: not address.startswith(("file:", "data:")), stopped)
        page.on("dialog", lambda dialog: requested.append("dialog"))
        for name in sorted(set(PAGES) - {"index"}):
            page.goto((site.out / f"{name}.html").as_uri(), wait_until="domcontentloaded")
            page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
            page.wait_for_timeout(200)
            article = page.locator("article")
            assert article.is_visible()
            shows = "acted" in article.inner_text()
            assert shows or name == "story", f"{name} shows no hostile text"  # the story has numbers alone of results
            assert "acted" not in page.title()
            acts = article.locator(ACTS)
            assert acts.count() == 0, (name, acts.first.evaluate("node => node.outerHTML"))
    assert requested == []
