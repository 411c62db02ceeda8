"""The ledger on the site: every claim has its page, which says what the ledger says, and the other pages discuss it."""

import dataclasses
import importlib
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sympy
from bs4 import BeautifulSoup, Tag

from docs.extensions import claim_pages
from findings.documents import read_document
from paper_figs.report import claims, prose, sourced, typesetting
from tests.docs.small_site import CLAIMS, DETAILS, FORMULAS, THEORY, Site, build, claim_page
from theory import ledger
from theory.proof import notation
from theory.proof.machine_checked import MachineChecked
from theory.proof.statement import Fault, Kind, Statement, Verdict
from toy import sampling_theorems

EVERY = pytest.mark.parametrize(("module", "statement"), ledger.statements().values(), ids=ledger.statements().keys())
BY_HAND = {path.name: path.read_text(encoding="utf-8") for path in sorted(THEORY.glob("*.md"))}


def text_of(part: Tag) -> str:
    return " ".join(part.get_text().replace("’", "'").split())


def set_formulas(formula: sympy.Basic | None) -> Iterator[str]:
    """What a formula of the ledger looks like on a page."""
    if formula is not None and not isinstance(formula, notation.Words):
        yield from (str(prose.formula(line.strip())) for line in typesetting.lines(notation.latex(formula)))


def test_the_theory_s_pages_are_built_without_a_warning(theory_site: Site) -> None:
    assert (theory_site.warnings, theory_site.failed) == ("", False)
    built = {path.stem for path in (theory_site.out / claim_pages.FOLDER).glob("*.html")}
    assert built == {"index", *ledger.statements()}


@EVERY
def test_a_claim_s_page_says_what_the_ledger_says(module: str, statement: Statement, theory_site: Site) -> None:
    html, article = theory_site.html(claim_page(statement.label)), theory_site.article(claim_page(statement.label))
    text = text_of(article)
    assert f"{statement.label}: {statement.title}" in text
    assert " ".join(statement.reason.split()) in text
    assert [badge.get_text() for badge in article.select(".verdict")] == [statement.verdict.value]
    (badge,) = article.select(".verdict")
    assert sourced.anchor(statement.verdict.value) in badge["class"]
    assert statement.source in text or statement.source == "ours"
    for formula in (statement.printed, statement.holds):
        for shown in set_formulas(formula):
            assert shown in html
        if isinstance(formula, notation.Words):
            assert notation.text(formula) in text
    for condition in statement.conditions:
        assert condition in text
    if statement.fault is not None:
        assert f"{statement.verdict.value} {statement.fault.value}" in text
    assert statement.rescue in text
    docstring = " ".join((importlib.import_module(f"theory.claims.{module}").__doc__ or "").split("\n\n")[-1].split())
    assert prose.prose(docstring).striptags() in text
    assert f"python -m theory explain {statement.label}" in text
    assert f"pytest theory/tests/test_{module}.py" in text


@EVERY
def test_the_evidence_is_shown_with_the_numbers_of_counterexamples(
    module: str, statement: Statement, theory_site: Site
) -> None:
    article = theory_site.article(claim_page(statement.label))
    pieces = article.select("ul.evidence > li")
    assert len(pieces) == len(statement.evidence)
    for shown, piece in zip(pieces, statement.evidence, strict=True):
        assert text_of(shown).startswith(f"{piece.kind.value}: {' '.join(piece.shows.split())}")
        computed = piece.kind in claims.SHOWN_IN_FULL
        assert len(shown.select(".comparisons > li")) == (len(list(piece.check())) if computed else 0)


@EVERY
def test_nothing_is_left_unset_and_the_module_s_source_is_there(
    module: str, statement: Statement, theory_site: Site
) -> None:
    details = "".join(DETAILS.findall(theory_site.html(claim_page(statement.label))))
    source = BeautifulSoup(details, "html.parser").select_one("details.source")
    assert source is not None
    assert "open" not in source.attrs
    code = source.select_one("pre")
    assert code is not None
    assert code.get_text().strip() == (ledger.ROOM / "claims" / f"{module}.py").read_text(encoding="utf-8").strip()
    text = text_of(theory_site.article(claim_page(statement.label)))
    assert "$" not in text
    assert "\\" not in text
    assert "{" not in re.sub(r"\{[^{}]*:[^{}]*\}", "", text), "but for sets"


def test_pages_follow_each_other_in_the_ledger_s_order(theory_site: Site) -> None:
    labels = list(ledger.statements())
    for before, after in itertools.pairwise(labels):
        page = BeautifulSoup(DETAILS.sub("", theory_site.html(claim_page(after))), "html.parser")
        (link,) = page.select('link[rel="prev"]')
        assert link["href"] == f"{before}.html"


def test_a_reason_s_other_claims_are_linked(theory_site: Site) -> None:
    links = {a.get_text(): a["href"] for a in theory_site.article(claim_page("corollary-3.9-first-line")).select("p a")}
    assert links["Theorem 3.8"] == "theorem-3.8.html"
    assert links["Eq. (17)"] == "theorem-3.8.html"
    for text, expected in (
        ("as T4 has it", 'as <a href="#theorem-t4">T4</a> has it'),
        ("T3 and Theorem 3.3.", 'T3 and <a href="#theorem-3.3">Theorem 3.3</a>.'),
        ("f(11), N(0, 2) < (99)", "f(11), N(0, 2) &lt; (99)"),
    ):
        assert claims.linked(text, "theorem-t3", "#{}".format) == expected


@pytest.mark.parametrize(
    "text",
    ["E|phi|^2 <= *a* _b_ `c` $d$ {e}`f` [g](h) <i> ~~j~~ \\k", "1. a", "- b", "# c", "a -- 'b' \"c\" ... &amp;"],
)
def test_texts_are_shown_letter_by_letter(text: str, tmp_path: Path) -> None:
    page = f"# Title\n\n{claim_pages.escaped(text)}\n"
    site = build(tmp_path, {"index": "# Site\n\n```{toctree}\npage\n```\n", "page": page})
    shown = site.article("page").find_all("p")[-1].get_text()
    assert (shown.translate({0x2013: "--", 0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2026: "..."})) == text


def test_the_table_of_verdicts_has_every_claim(theory_site: Site) -> None:
    article = theory_site.article(f"{claim_pages.FOLDER}/index")
    rows = [
        [" ".join(cell.get_text(" ").split()) for cell in row(["th", "td"])]
        for row in article.select(".verdicts tbody tr")
    ]
    assert rows == [
        [
            f"{statement.title} {statement.label}",
            " ".join([statement.verdict, statement.fault or ""]).strip(),
            ledger.in_short(statement),
        ]
        for _, statement in ledger.statements().values()
    ]
    for label, row in zip(ledger.statements(), article.select(".verdicts tbody tr"), strict=True):
        assert {link["href"] for link in row("a")} == {f"{label}.html"}
    counts = [cell.get_text() for cell in article.select(".tally tbody td")]
    assert sum(int(count) for count in counts if count.isdigit()) == len(ledger.of_paper())
    switches = {switch["value"] for switch in article.select("input[type=checkbox]")}
    assert switches == {verdict.value for verdict in Verdict}


def _luminance(colour: str) -> float:
    """Of a colour #rrggbb, by WCAG 2.1."""
    shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_verdict_has_a_colour_on_which_white_can_be_read_and_a_switch(theory_site: Site) -> None:
    rules = (theory_site.out / "_static" / "verdicts.css").read_text(encoding="utf-8")
    for verdict in Verdict:
        name = f"verdict.{sourced.anchor(verdict.value)}"
        (colour,) = re.findall(rf"^\.{name} {{\s+background: (#\w{{6}});", rules, flags=re.MULTILINE)
        assert 1.05 / (_luminance(colour) + 0.05) >= 4.5, "WCAG 2.1, level AA"
        assert f'value="{verdict.value}"]:not(:checked)) [data-verdict="{verdict.value}"]' in rules


def test_the_pages_written_by_hand_discuss_every_claim(theory_site: Site) -> None:
    discussed = set()
    for text in BY_HAND.values():
        discussed |= set(re.findall(r"\{(?:claim|verdict)\}`(?:[^<`]+<)?([\w.-]+)>?`", text))
        discussed |= set(re.findall(r"^```\{claim\} (\S+)$", text, flags=re.MULTILINE))
    assert discussed == set(ledger.statements())
    holds = "".join(theory_site.html(f"theory/{name.removesuffix('.md')}") for name in BY_HAND)
    for label in (f"theorem-t{number}" for number in range(1, 8)):
        assert all(shown in holds for shown in set_formulas(ledger.statements()[label][1].holds))


def test_numbers_on_pages_written_by_hand_are_the_ledger_s() -> None:
    known = " ".join(statement.reason for _, statement in ledger.statements().values())
    for _, statement in ledger.statements().values():
        for piece in statement.evidence:
            if piece.kind in (Kind.EXACT, Kind.PRINTED):
                known += " ".join(str(comparison) for comparison in piece.check())
    known += " ".join(sampling_theorems.sentences(read_document(sampling_theorems.DEFAULT_OUT)).values())
    numbers = [abs(float(number)) for number in re.findall(r"-?\d*\.\d+", known)]
    checked = set()
    for name, text in BY_HAND.items():
        for number in re.findall(r"(?<![\w.-])-?\d+\.\d{2,}(?!\w|\.\d)", re.sub(r"\{\w+\}`[^`]*`", "", text)):
            decimals = len(number.partition(".")[2])
            if number != "3.10":  # the remark
                checked.add(number)
                assert any(abs(abs(float(number)) - one) <= 0.51 * 10**-decimals for one in numbers), (name, number)
    assert {"0.34657", "0.15907", "13.65"} <= checked


Changer = Callable[..., None]
FEW = (
    *("introduction-averages-and-ip", "definition-3.2", "theorem-3.8", "corollary-3.9-first-line", "section-4.2-ema"),
    *("theorem-t3", "theorem-t4"),
)
"""Claims that name each other, a page of each verdict and source: of all of them a site takes a minute."""


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Changer:
    """Gives a ledger of a FEW another statement in place of the one with that label, or takes it away."""
    every = ledger.statements()
    original = {label: every[label] for label in FEW}
    monkeypatch.setattr(ledger, "statements", lambda: original)

    def change(label: str, **attributes: object) -> None:
        module, statement = original[label]
        others = {label: (module, dataclasses.replace(statement, **attributes))} if attributes else {}  # type: ignore[arg-type]
        pairs = {name: pair for name, pair in original.items() if name != label or attributes}
        monkeypatch.setattr(ledger, "statements", lambda: pairs | others)

    return change


PAGE = """# Page

```{claim} theorem-t4
```

{verdict}`theorem-t4`

```{verdicts}
:of: ours
```

```{toctree}
theory/claims/index
```
"""


def test_a_page_shows_another_formula_and_verdict_once_the_statement_is_another(
    tmp_path: Path, changed: Changer
) -> None:
    (old,) = set_formulas(ledger.statements()["theorem-t4"][1].holds)
    new = sympy.Eq(notation.kappa, notation.m)
    changed("theorem-t4", holds=new, verdict=Verdict.VACUOUS, fault=Fault.FLAW, reason="It is *another* now.")
    site = build(tmp_path, {"index": PAGE}, (FORMULAS, CLAIMS))
    assert (site.warnings, site.failed) == ("", False)
    for page in ("index", claim_page("theorem-t4")):
        assert str(prose.formula(notation.latex(new))) in site.html(page)
        assert old not in site.html(page)
        assert "vacuous" in {badge.get_text() for badge in site.article(page).select(".verdict")}
    assert "It is *another* now" in text_of(site.article("index"))
    labels = {label.get_text() for label in site.article("index").select(".verdicts th small")}
    assert labels == {label for label, (_, statement) in ledger.statements().items() if statement.source == "ours"}


def test_what_has_not_changed_is_neither_written_nor_read_again(tmp_path: Path, changed: Changer) -> None:
    first = build(tmp_path, {"index": PAGE}, (FORMULAS, CLAIMS))
    assert len(first.read) == len(ledger.statements()) + 2
    folder = tmp_path / "pages" / claim_pages.FOLDER
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert build(tmp_path, {}, (FORMULAS, CLAIMS)).read == []
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    changed("theorem-t4", reason="Another reason.")
    again = build(tmp_path, {}, (FORMULAS, CLAIMS))
    assert again.read == [claim_page("theorem-t4")]
    assert "Another reason." in text_of(again.article(claim_page("theorem-t4")))


def test_pages_written_by_hand_are_read_again_when_the_theory_changes(theory_site: Site) -> None:
    for name in (*(f"theory/{name.removesuffix('.md')}" for name in BY_HAND), f"{claim_pages.FOLDER}/index"):
        depends = {Path(path).name for path in theory_site.environment.dependencies[name]}
        assert {"notation.py", "theorem_t4_robust_radius.py", "tables_1_and_4_arithmetic.py"} <= depends
        assert not any(path.startswith("test_") for path in depends)
    for label, (module, statement) in ledger.statements().items():
        proofs = {piece.file for piece in statement.evidence if isinstance(piece, MachineChecked)}
        depends = {Path(path).name for path in theory_site.environment.dependencies[claim_page(label)]}
        assert depends == {f"{module}.py"} | proofs


def test_the_page_of_a_claim_that_is_no_more_goes_away(tmp_path: Path, changed: Changer) -> None:
    written = claim_pages.write(tmp_path)
    assert len(written) == len(ledger.statements()) + 1
    assert claim_pages.write(tmp_path) == []
    changed("section-4.2-ema")  # to which no other page links
    gone = tmp_path / claim_pages.FOLDER / "section-4.2-ema.md"
    assert set(claim_pages.write(tmp_path)) == {gone, gone.with_name("index.md")}
    assert not gone.exists()


WRONG = {
    "{verdict}`corolary-3.9`": "label is 'corolary-3.9'; allowed: introduction-averages-and-ip",
    "{claim}`a title <t4>`": "label is 't4'; allowed: introduction-averages-and-ip",
    "```{claim} t5\n```": "label is 't5'; allowed: introduction-averages-and-ip",
    "```{claim} theorem-t4\n:show: printed\n```": "theorem-t4 has no such formula",
    "```{claim} theorem-t4\n:show: proof\n```": '"proof" unknown',
    "```{verdicts}\n:of: others\n```": '"others" unknown',
    "{formula}`Q`": "formula is 'Q'; allowed in theory/proof/notation.py: ",
    "{formula}`nowhere.Q`": "formula is 'nowhere.Q'; allowed: module.NAME",
}


@pytest.mark.usefixtures("changed")
def test_what_the_ledger_does_not_have_fails_the_build(tmp_path: Path) -> None:
    pages = {f"wrong{number}": f"# Page\n\n{wrong}\n" for number, wrong in enumerate(WRONG)}
    toctree = "\n".join(["# Site", "```{toctree}", *pages, "theory/claims/index", "```"])
    site = build(tmp_path, pages | {"index": toctree}, (FORMULAS, CLAIMS))
    assert site.failed
    for number, message in enumerate(WRONG.values()):
        (complaint,) = re.findall(rf"wrong{number}\.md:[34]: .*", site.warnings)
        assert message in complaint
