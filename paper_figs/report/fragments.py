"""Fragments of HTML that the report and the site share: the story, the ledger's rows, and claims that were judged.

Both print the macros of templates/macros.html through one environment, which escapes, knows no undefined names, and
prints no number without its source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from findings.ladder_page import columns_of
from paper_figs import story
from paper_figs.report import claims, judged, prose, sourced
from paper_figs.report.sourced import Number, Source

TEMPLATES = Path(__file__).parent / "templates"
TOY = "results/toy.json"


def plain(text: str | Number) -> Markup:
    """A text without marks, escaped, for an attribute; of a number what is shown."""
    if isinstance(text, Number):
        return escape(text.text)
    return escape(text.striptags() if isinstance(text, Markup) else text)


def chip(part: story.Part) -> Number:
    """The source of a part of the story, as a thing to press."""
    file, command = part.source
    source = Source(file, f"what the part {part.name!r} counts", "as each study says", "that of the file", command)
    return Number("where these numbers stand", 0.0, source)


def own(target: str) -> str | None:
    """A link's address on a page that has nothing of the repository beside it: None for what lies there."""
    return target if target.startswith(("https://", "#")) else None


def environment(
    printer: sourced.Printer | None = None,
    *,
    address: Callable[[str], str | None] = own,
    interactive: bool = True,
) -> jinja2.Environment:
    """Jinja for one page.

    Args:
        printer: of its numbers.
        address: the page's address of a link in the story; None where it has none.
        interactive: whether the page has the scripts that sort tables.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printer or sourced.Printer(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "anchor": sourced.anchor,
        "chip": chip,
        "plain": plain,
        "prose": prose.prose,
        "quoted": prose.quoted,
        "rich": lambda text: prose.rich(text, address),
        "sortable": sourced.sortable,
    }
    made.globals |= {
        "interactive": interactive,
        "owners": {key: Markup(words) for key, words in judged.OWNERS.items()},
        "claim_heading": Markup("h4" if interactive else "h2"),  # a claim has a page of its own on the site
    }
    return made


def bridges(root: Path) -> list[judged.Document]:
    """Every bridge.json of the checkout and of a folder outside.

    Raises:
        ValueError: one cannot be read.
    """
    from paper_figs import catalogue
    from paper_figs.report.document import BRIDGES

    return [judged.bridge(path, name) for name, path in catalogue.matches(BRIDGES, root).items()]


def toy(root: Path) -> judged.Document | None:
    """The toy's predictions; None where it was not measured."""
    return judged.toy(root / TOY, TOY) if (root / TOY).is_file() else None


CALLS: Mapping[str, str] = {
    "ladder": "{% if ladder is none %}<p>Not measured yet.</p>{% else %}{{ m.whole_ladder(ladder) }}{% endif %}",
    "predictions": "{% if toy is none %}<p>Not measured yet.</p>{% else %}{{ m.document(toy) }}{% endif %}",
    "bridge": "{% for one in bridges %}{{ m.document(one) }}{% else %}<p>Not measured yet.</p>{% endfor %}",
}
"""The fragments that a page of the site can ask for by name."""


def _rendered(name: str, call: str, content: Mapping[str, Any]) -> str:
    """A call of a macro, with the notes of its numbers' sources."""
    printer = sourced.Printer(f"source-{name}")
    template = environment(printer, interactive=False).from_string(
        '{% import "macros.html" as m with context %}' + call
    )
    return str(template.render(content)) + str(printer.notes())


def ledger_rows(rows: Sequence[claims.Claim], label: str) -> str:
    """Claims of the theory as a table for a page of the site; `label` is what a reader of screens is told of it."""
    return _rendered("ledger", "{{ m.ledger_rows(rows, label) }}", {"rows": rows, "label": label})


def claim(shown: claims.Claim) -> str:
    """A claim of the theory in full for a page of the site."""
    call = "<p>{{ m.standing(claim) }}</p>{{ m.claim_in_full(claim) }}"
    return _rendered("claim", call, {"claim": shown})


def fragment(name: str, root: Path) -> str:
    """A fragment for a page of the site, from the results.

    Args:
        name: one of CALLS.
        root: the checkout.

    Raises:
        ValueError: there is no such fragment, or a result cannot be read.
    """
    if name not in CALLS:
        raise ValueError(f"name is {name!r}; allowed: {', '.join(CALLS)}")
    contents: dict[str, Callable[[], dict[str, Any]]] = {
        "ladder": lambda: {"ladder": judged.ladder(root / "results" / "ladder")},
        "predictions": lambda: {"toy": toy(root)},
        "bridge": lambda: {"bridges": bridges(root)},
    }
    return _rendered(name, CALLS[name], contents[name]())


def parts(root: Path) -> list[story.Part]:
    """The story, from the results that a checkout has."""
    return story.parts(columns_of(root / "results" / "ladder"))
