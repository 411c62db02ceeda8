"""The site's pages run and load only what comes with them, whatever is in them."""

from pathlib import Path

from playwright.sync_api import Page, Route

from docs.extensions import policy
from tests.browser import PATIENCE, chromium
from tests.docs.small_site import FORMULAS, build

BOTH = (FORMULAS, "docs.extensions.policy")
INJECTED = """
# Page

<script>document.title = 'acted'</script>

<img src="https://acted.example/x.png" onerror="document.title = 'acted'">

<iframe src="https://acted.example/frame"></iframe> <link rel="stylesheet" href="https://acted.example/x.css">
<object data="https://acted.example/object"></object> <base href="https://acted.example/">

<p style="background: url(https://acted.example/style.png)">x</p> <svg onload="document.title = 'acted'"></svg>

<form action="https://acted.example/form"><button id="sends">x</button></form>
"""


def shown(page: Page, address: str) -> tuple[str, list[str]]:
    """A page's title once it has been read and its form sent, and what was asked for from outside."""
    requests: list[str] = []

    def stopped(route: Route) -> None:
        requests.append(route.request.url)
        route.abort()

    page.set_default_timeout(PATIENCE)
    page.route("https://acted.example/**", stopped)
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_timeout(300)
    title = page.title()
    page.evaluate("document.getElementById('sends').click()")
    page.wait_for_timeout(100)
    return title, requests


def test_what_gets_into_a_page_neither_acts_nor_fetches(tmp_path: Path) -> None:
    """Raw HTML, as Markdown may hold it; without the policy all of it acts."""
    with chromium() as browser:
        for name, extensions, acts in (("with", BOTH, False), ("without", (FORMULAS,), True)):
            site = build(tmp_path / name, {"index": INJECTED}, extensions)
            title, requests = shown(browser.new_page(), (site.out / "index.html").as_uri())
            assert ("acted" in title) is acts
            assert (len(requests) >= 5) is acts, requests
            assert bool(requests) is acts


def test_the_policy_stands_before_all_that_is_loaded_and_allows_the_themes_own(tmp_path: Path) -> None:
    site = build(tmp_path, {"index": "# Page\n\n$x$\n", "other": "---\norphan: true\n---\n# Other\n"}, BOTH)
    for name in ("index", "other", "search", "genindex"):
        html = site.html(name)
        at = html.index("Content-Security-Policy")
        assert all(at < html.find(mark) for mark in ("<script", "<link", "<style", "<title", "<body"))
        assert html.count("Content-Security-Policy") == 1
        assert policy.INLINE in html
    complaints: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.goto((site.out / "index.html").as_uri())
        assert page.evaluate("document.body.dataset.theme") == "auto", "the theme's script ran"
    assert complaints == []
