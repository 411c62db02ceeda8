"""What a browser may do with the site's pages: show them, and run and load nothing but the files that come with them.

A Content-Security-Policy stands at the head of every page, so that no text of a result file, whatever it is, can run a
script or fetch anything from outside. Styles may stand in pages, as the theme's do: they can load nothing either.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from sphinx.application import Sphinx

INLINE = '\n      document.body.dataset.theme = localStorage.getItem("theme") || "auto";\n    '
"""The theme's one script that stands in pages; with another, which another version may bring, browsers complain."""


def policy() -> str:
    """The rules, as the attribute of a meta element holds them."""
    digest = base64.b64encode(hashlib.sha256(INLINE.encode()).digest()).decode()
    rules = [
        "default-src 'none'",
        f"script-src 'self' 'sha256-{digest}'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",  # the search reads pages
        "form-action 'self'",  # its field
        "base-uri 'none'",
    ]
    return "; ".join(rules)


def add_policy(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Put the policy before all that a page loads."""
    rules = f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'
    context["metatags"] = rules + context.get("metatags", "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_policy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
