"""The page itself: everything it shows, put into the templates; one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from findings.files import json_bytes, write_whole
from paper_figs.report import bridge, claims, findings, mathfont, pictures, predictions, prose, sourced
from paper_figs.report.document import TOY, Report

HERE = Path(__file__).parent
ENTRY = "page.html"
_FORMULA = re.compile(r"<math.*?</math>", re.DOTALL)


def environment() -> jinja2.Environment:
    """Jinja that escapes, knows no undefined names, and prints no number without its source."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=sourced.Printer(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"anchor": sourced.anchor, "prose": prose.prose, "sortable": sourced.sortable}
    return made


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
    toy = report.root / TOY
    study = predictions.study(toy, TOY) if toy.is_file() else None
    ledger = claims.claims()
    return {
        "styles": [_inlined("vendor", "simple.min.css", "</style"), _inlined("templates", "report.css", "</style")],
        "scripts": [_inlined("vendor", "sortable.min.js", "</script"), _inlined("templates", "report.js", "</script")],
        "claims": ledger,
        "claim_verdicts": claims.VERDICTS,
        "theory": findings.theory(ledger),
        "study": study,
        "study_file": prose.prose(TOY),
        "findings": findings.toy(study) if study is not None else [],
        "prediction_verdicts": predictions.VERDICTS,
        "bridges": bridge.bridges(report.root),
        "bridge_command": prose.prose(bridge.COMMAND),
        "pictures": pictures.pictures(report, out, failed),
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
    templates = environment()
    main = Markup(templates.get_template("main.html").render(content))
    font = mathfont.style(_FORMULA.findall(main))
    content |= {"main": main, "font": font, "policy": policy([font, *content["styles"]], content["scripts"])}
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
    write_whole(out / f"{report.name}.stamp", json_bytes(stamp))
    return report.file(out)
