"""The page itself: everything it shows, put into the templates; one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from findings.checksums import with_checksum
from findings.files import json_bytes, write_whole
from paper_figs import story
from paper_figs.report import claims, fragments, judged, pictures, prose, sourced, typesetting
from paper_figs.report.document import Report

HERE = Path(__file__).parent
ENTRY = "page.html"
PLACES = {
    "results/ladder/claims.md": "#ladder",
    "docs/what_to_do.md": "#story-advice",
    "docs/theory/what_holds_instead.md": "#ledger",
}
"""Where the page has what the repository has elsewhere."""
_FORMULA = re.compile(r"<math.*?</math>", re.DOTALL)


def _inlined(folder: str, name: str, closing: str) -> Markup:
    """A file to stand inside <style> or <script>.

    Raises:
        ValueError: it would end the element that it stands in.
    """
    text = (HERE / folder / name).read_text(encoding="utf-8")
    if closing in text.lower():
        raise ValueError(f"{name} holds {closing}; allowed: a file without it")
    return Markup(text)


def policy(styles: Sequence[str], scripts: Sequence[str]) -> Markup:
    """What a browser may do with the page: show what is in it, and run and load nothing but these very texts."""
    hashes = {
        name: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(f'{chr(10)}{text}{chr(10)}'.encode()).digest()).decode()}'"
            for text in texts
        )
        for name, texts in (("style", styles), ("script", scripts))
    }
    rules = [
        "default-src 'none'",
        f"style-src {hashes['style']}",
        f"script-src {hashes['script']}",
        "img-src data:",
        "font-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return Markup("; ".join(rules))


def _content(report: Report, out: Path, failed: Mapping[str, str]) -> dict[str, Any]:
    """All that the templates are given."""
    ledger, page_story = claims.claims(), fragments.parts(report.root)
    above = {
        block.name: sourced.anchor(f"story-{part.name}")
        for part in page_story
        for block in part.blocks
        if isinstance(block, story.Picture)
    }
    shown = pictures.pictures(report, out, failed, above)
    return {
        "styles": [_inlined("vendor", "simple.min.css", "</style"), _inlined("templates", "report.css", "</style")],
        "scripts": [_inlined("vendor", "sortable.min.js", "</script"), _inlined("templates", "report.js", "</script")],
        "story": page_story,
        "claims": ledger,
        "claim_verdicts": claims.VERDICTS,
        "total": claims.count(ledger, ours=False),
        "proved": claims.count(ledger, ours=True, verdict=claims.VERDICTS[0]),
        "theory_counts": [(one, claims.count(ledger, ours=False, verdict=one)) for one in claims.VERDICTS],
        "theory_faults": [(one, claims.count(ledger, ours=False, fault=one)) for one in claims.FAULTS],
        "ladder": judged.ladder(report.root / "results" / "ladder"),
        "toy": fragments.toy(report.root),
        "toy_file": prose.prose(fragments.TOY),
        "bridges": fragments.bridges(report.root),
        "bridge_command": prose.prose(judged.BRIDGE_COMMAND),
        "pictures": shown,
        "pictures_by_name": {str(one.name): one for one in shown if one.image is not None},
    }


def written(report: Report, out: Path, failed: Mapping[str, str]) -> str:
    """The page's HTML.

    Args:
        report: what it is made of.
        out: the figures' folder.
        failed: figures that failed to be drawn, each with its reason.

    Raises:
        ValueError: a result file or a figure's file is broken.
        TypeError: a template prints a number without a source.
    """
    content = _content(report, out, failed)
    printer = sourced.Printer()
    templates = fragments.environment(printer, address=lambda target: PLACES.get(target, fragments.own(target)))
    main = Markup(templates.get_template("main.html").render(content))
    font = typesetting.style(_FORMULA.findall(main))
    content |= {"main": main, "notes": printer.notes(), "font": font}
    content["policy"] = policy([font, *content["styles"]], content["scripts"])
    return templates.get_template(ENTRY).render(content) + "\n"


def write(report: Report, out: Path, failed: Mapping[str, str] | None = None) -> Path:
    """Write the page and its stamp, each whole or not at all.

    Args:
        report: what it is made of.
        out: the figures' folder, made where it is missing.
        failed: figures that failed to be drawn, each with its reason; the page says so in their place.

    Returns:
        The page's file.

    Raises:
        ValueError: a result file cannot be read.
    """
    failed = failed or {}
    made_of = report.fingerprint(out, failed)  # before anything is read: an edit meanwhile must count as one
    text = written(report, out, failed).encode()
    write_whole(report.file(out), text)
    stamp = {"report": report.name, "fingerprint": made_of, "files": {".html": hashlib.sha256(text).hexdigest()}}
    write_whole(out / f"{report.name}.stamp", json_bytes(with_checksum(stamp)))
    return report.file(out)
