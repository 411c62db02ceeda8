"""The report's fragments on the site: the story, in Markdown, and what was judged, as HTML.

    ```{story} by-rung unknown      parts of `paper_figs.story`, by name; headings one below the page's own
    ```                             one part alone comes without its heading: the page has its own

    ```{fragment} ladder            claims by study; or predictions (the toy's), or bridge
    ```

A number on the site opens its source as in the report: both print the same macros.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective

from findings.provenance import ROOT
from paper_figs import story
from paper_figs.report import fragments

STYLE = Path(__file__).parent.parent / "_static" / "fragments.css"
PAGES = {"results/ladder/claims.md": "claims_by_rung.md", "theory/README.md": "theory/claims/index.md"}
"""Where the site has what the repository has elsewhere."""


def on_site(text: str) -> str:
    """A part's Markdown with its links led to the site's pages."""

    def target(link: re.Match[str]) -> str:
        path = link[1]
        if path.startswith("https://"):
            return link[0]
        return f"](/{PAGES.get(path, path.removeprefix('docs/'))})"

    return re.sub(r"\]\(([^)]+)\)", target, text)


def figure(picture: story.Picture) -> str:
    """A picture of the site, with its caption."""
    lines = [
        f"```{{figure}} /images/{picture.name}.png",
        f":alt: {picture.alt}",
        ":width: 100%",
        "",
        picture.words,
        "```",
    ]
    return "\n".join(lines)


class Story(SphinxDirective):
    """Parts of the story."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The nodes; an error for a part that there is not."""
        for path in (ROOT / "results" / "ladder").rglob("*.json"):
            self.env.note_dependency(path)
        parts = {part.name: part for part in fragments.parts(ROOT)}
        names = self.arguments[0].split()
        unknown = [name for name in names if name not in parts]
        if unknown:
            raise self.error(f"part is {unknown[0]!r}; allowed: {', '.join(parts)}")
        shown = [parts[name] if len(names) > 1 else replace(parts[name], title="") for name in names]
        text = "\n\n".join(on_site(story.markdown(part, figure)) for part in shown)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Fragment(SphinxDirective):
    """A fragment of what was judged."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Its HTML; an error for one that there is not, or a result that cannot be read."""
        for path in (ROOT / "results").rglob("*.json"):
            self.env.note_dependency(path)
        try:
            text = fragments.fragment(self.arguments[0], ROOT)
        except ValueError as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", f'<div class="fragment">{text}</div>', format="html")]


def _add_style(app: Sphinx, config: Config) -> None:
    config.html_static_path += [str(STYLE)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", _add_style)
    app.add_css_file(STYLE.name)
    app.add_directive("story", Story)
    app.add_directive("fragment", Fragment)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
