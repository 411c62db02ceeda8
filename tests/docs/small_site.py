"""Small sites, built in this process: pages of a test's own, or the theory's pages as they are."""

from __future__ import annotations

import io
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from docs.extensions import claim_pages

ROOT = Path(__file__).parent.parent.parent
THEORY = ROOT / "docs" / "theory"
FORMULAS, CLAIMS = "docs.extensions.formulas", "docs.extensions.claims"
DETAILS = re.compile(r"<details.*?</details>", re.DOTALL)
_ELSEWHERE = re.compile(r"\]\(\.\./([\w/]+\.md)[)#]")


@dataclass
class Site:
    """What became of a build.

    Attributes:
        folder: with the sources and what was built.
        warnings: what Sphinx complained of.
        failed: whether `sphinx -W` would.
        read: the pages that were read anew.
        environment: what Sphinx knows of the pages.
        articles: those that were looked at, by page.
    """

    folder: Path
    warnings: str
    failed: bool
    read: list[str]
    environment: Any
    articles: dict[str, BeautifulSoup] = field(default_factory=dict, repr=False)

    @property
    def out(self) -> Path:
        """The folder of the built pages."""
        return self.folder / "out"

    def html(self, page: str) -> str:
        """A built page."""
        return (self.out / f"{page}.html").read_text(encoding="utf-8")

    def article(self, page: str) -> BeautifulSoup:
        """The page's own part, without what surrounds it and without sources of modules."""
        if page not in self.articles:  # the sources are most of a page, and take long to parse
            article = BeautifulSoup(DETAILS.sub("", self.html(page)), "html.parser").find("article")
            self.articles[page] = article  # type: ignore[assignment]
        return self.articles[page]


def build(folder: Path, pages: Mapping[str, str], extensions: tuple[str, ...] = (FORMULAS,)) -> Site:
    """Build pages, index among them; without a network, and with warnings counted as errors.

    Args:
        folder: of the sources; one that was built before is built again.
        pages: Markdown by name.
        extensions: of this project.
    """
    for name, text in pages.items():
        path = folder / "pages" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    settings = {
        "extensions": ["myst_parser", *extensions],
        "myst_enable_extensions": ["colon_fence", "deflist", "dollarmath"],
        "html_theme": "furo",
    }
    complaints, read = io.StringIO(), []
    with docutils_namespace(), warnings.catch_warnings():  # what Sphinx registers is for this build
        for kind in (DeprecationWarning, PendingDeprecationWarning):  # of Sphinx, which are for MyST's authors
            warnings.filterwarnings("ignore", category=kind, module="myst_parser")
        app = Sphinx(
            folder / "pages", None, folder / "out", folder / "trees", "html",
            confoverrides=settings, status=None, warning=complaints, warningiserror=True,
        )  # fmt: skip
        app.connect("source-read", lambda app, name, text: read.append(name))
        app.build()
    return Site(folder, complaints.getvalue(), app.statuscode != 0, read, app.env)


def build_theory(folder: Path, **changed: str) -> Site:
    """Build the theory's pages; those that they link to outside are empty.

    Args:
        folder: for the sources and what is built.
        changed: other text for some pages.
    """
    pages = {"index": "# Site\n\n```{toctree}\ntheory/index\n```\n"}
    for path in THEORY.glob("*.md"):
        pages[f"theory/{path.stem}"] = path.read_text(encoding="utf-8")
        for other in _ELSEWHERE.findall(path.read_text(encoding="utf-8")):
            pages[other.removesuffix(".md")] = "---\norphan: true\n---\n# Elsewhere\n"
    (folder / "pages").mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "docs" / "images", folder / "pages" / "images", dirs_exist_ok=True)
    return build(folder, pages | changed, (FORMULAS, CLAIMS))


def claim_page(label: str) -> str:
    """The name of a claim's page."""
    return f"{claim_pages.FOLDER}/{label}"
