"""What may be printed on the report's page, and how it is shown."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from paper_figs.report import claims, fragments, judged, prose, sourced, typesetting
from paper_figs.report.sourced import Number, Source
from tests.findings.test_ladder import study as made_study
from tests.paper_figs import report_common as common

OTHER = Source("results/b.json", "b.c", "2: 0, 1", "abc", "python -m toy")
SOURCE = Source("results/a.json", "b.c", "2: 0, 1", "abc", "python -m toy")


def printed(template: str, **values: Any) -> str:
    return fragments.environment().from_string(template).render(values)


@pytest.mark.parametrize("value", [1, 1.5, np.float64(2), "13.5", "about 3", 0, None, [1], True])
def test_a_number_without_a_source_cannot_be_printed(value: Any) -> None:
    with pytest.raises(TypeError, match="is printed without a source"):
        printed("<p>{{ value }}</p>", value=value)
    with pytest.raises(TypeError, match="is printed without a source"):
        printed("{% for one in [value] %}<p title='{{ one }}'></p>{% endfor %}", value=value)


def test_nor_one_that_a_template_makes() -> None:
    for template in (
        "{{ values | length }}",
        "{{ values[0] ~ 2 }}",
        "{% for x in values %}{{ loop.index }}{% endfor %}",
    ):
        with pytest.raises(TypeError, match="is printed without a source"):
            printed(template, values=["a"])


def test_a_number_with_its_source_can_and_numbers_of_one_file_share_a_note() -> None:
    printer = sourced.Printer()
    environment = fragments.environment(printer)
    numbers = [Number("1.5 < 2", 1.5, SOURCE), Number("7", 7, SOURCE.at("d")), Number("8", 8, OTHER)]
    template = environment.from_string("{{ a }} {{ b }} {{ c }} {{ 'words' }} {{ text }}")
    page_ = template.render(dict(zip("abc", numbers, strict=True)), text=prose.prose("T2 & T3"))
    assert re.findall(r'popovertarget="([^"]*)"', page_) == ["source-1", "source-1", "source-2"]
    assert re.findall(r'title="([^"]*)"', page_) == ["b.c", "d", "b.c"]
    assert "1.5 &lt; 2</button>" in page_
    assert "T2 &amp; T3" in page_
    notes = printer.notes()
    assert re.findall(r'popover id="([^"]*)"', notes) == ["source-1", "source-2"]
    for name, part in (
        ("file", "results/a.json"),
        ("seeds", "2: 0, 1"),
        ("commit", "abc"),
        ("command", "python -m toy"),
    ):
        assert f'<code class="{name}">{part}</code>' in notes
    assert '<code class="file">results/b.json</code>' in notes


@pytest.mark.parametrize("part", ["file", "key", "seeds", "commit", "command"])
def test_a_source_says_everything(part: str) -> None:
    parts = dict(SOURCE.lines())
    with pytest.raises(ValueError, match=f"{part} of the source is empty"):
        Source(**{**parts, part: " "})


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (-0.0262, "−0.0262"), (1.02522e-13, "1.03 × 10⁻¹³"), (1234567.0, "1.23 × 10⁶"), (-2.0, "−2")],
)
def test_numbers_as_people_write_them(value: float, expected: str) -> None:
    assert sourced.shown(value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_that_is_none(value: float) -> None:
    with pytest.raises(ValueError, match="allowed: finite numbers"):
        sourced.shown(value)


def test_intervals_regions_and_whole_numbers() -> None:
    interval = sourced.with_interval(-0.5, -0.75, 0.25, SOURCE)
    assert (interval.text, interval.value) == ("−0.5 [−0.75, 0.25]", -0.5)
    assert sourced.region([None, 0.0], SOURCE).text == "at most 0"
    assert sourced.region([0.5, None], SOURCE).text == "at least 0.5"
    assert sourced.region([3.999999, 4.000001], SOURCE).text == "3.999999 to 4.000001"
    assert sourced.plain(123456, SOURCE).text == "123456"
    assert sourced.counted(1234, SOURCE).text == "1,234"
    with pytest.raises(ValueError, match="allowed: at least one end"):
        sourced.region([None, None], SOURCE)


def test_formulas_are_set_and_what_is_not_understood_is_refused() -> None:
    formula = prose.formula(r"\text{if } \eta < 1:\; \max_{x} -x \leq \sum_{i=1}^{d} \left(- \sigma_{i}\right)")
    assert "if" in formula
    assert "&lt;" in formula
    assert "<munder>" in formula
    assert "<munderover>" in formula
    assert len(re.findall('form="prefix"', str(formula).replace("fence", ""))) >= 2
    wide = (r"\hspace{9999em}x", r"\hspace{-999999em}x", r"\kern99em x", r"\hspace{10em}x")
    for latex in (r"\nosuchcommand{x}", r"\left( x", "x $ y", *wide):
        with pytest.raises(ValueError, match="latex is"):
            prose.formula(latex)


def test_a_minus_between_two_terms_stays_one() -> None:
    assert "prefix" not in prose.formula("a - b")
    assert "prefix" in prose.formula("- b")


def test_signs_and_names_of_functions_are_spaced_as_what_they_are() -> None:
    formula = prose.formula(r"L(x; \theta) \sim \operatorname{tr}\left(G\right) \Longleftrightarrow \max_{x} x")
    signs = re.findall(r"<mo[^>]*>([^<]+)</mo>", formula)
    assert {";", "\N{TILDE OPERATOR}", "\N{LONG LEFT RIGHT DOUBLE ARROW}", "max"} <= set(signs)
    assert "<mi>tr</mi>" in formula


def test_prose_marks_code_and_formulas_and_escapes_the_rest() -> None:
    shown = prose.prose(r"a < b, `c < d`, $\alpha$")
    assert shown.startswith("a &lt; b, <code>c &lt; d</code>, <math")
    assert "α" in shown
    assert prose.paragraphs("one\ntwo\n\nthree") == [Markup("one two"), Markup("three")]
    assert prose.quoted("T' = 20") == Markup('<span class="quoted">T&#39; = 20</span>')


def test_the_font_brings_every_character_of_the_formulas() -> None:
    import base64
    import io

    from fontTools.ttLib import TTFont

    formulas = [f for claim in claims.claims() for f in (claim.printed, claim.holds) if f is not None]
    rule = typesetting.style(formulas)
    encoded = re.search(r'url\("data:font/woff;base64,([^"]+)"\)', rule)
    assert encoded is not None
    font = TTFont(io.BytesIO(base64.b64decode(encoded[1])))
    assert "MATH" in font
    texts = {letter for formula in formulas for letter in Markup(formula).striptags()}
    assert {letter for letter in texts if ord(letter) not in font.getBestCmap()} <= {"\u2061", "\n"}
    assert len(rule) < 200_000


def test_the_drawn_region_and_interval_lie_where_the_numbers_do() -> None:
    drawn = judged.strip([None, 0.0], -0.5, -0.75, -0.25)
    number = {name: float(re.findall(rf'\b{name}="([-\d.]+)"', drawn)[-1]) for name in ("x", "width", "x1", "x2", "cx")}
    assert number["x"] == 0
    assert number["x1"] < number["cx"] < number["x2"] < number["width"]
    assert number["cx"] == pytest.approx((number["x1"] + number["x2"]) / 2, abs=0.1)  # rounded to a tenth
    right = judged.strip([0.0, None], 0.5, 0.25, 0.75)
    assert 'x="10.0"' in right
    assert float(re.findall(r'cx="([\d.]+)"', right)[0]) > 60


@pytest.mark.parametrize("owner", ["paper (Remark 3.10)", "", None, 3])
def test_an_owner_that_is_none_is_refused_with_the_file(owner: object, tmp_path: Path) -> None:
    made, bridge = common.toy(), common.bridge()
    made["predictions"][0]["source"] = owner
    bridge["predictions"][0]["owner"] = owner
    for read, document in ((judged.toy, made), (judged.bridge, bridge)):
        path = tmp_path / "some.json"
        path.write_text(json.dumps(document))
        with pytest.raises(ValueError, match=r"some\.json is not as it should be .*allowed: paper, theory, question"):
            read(path, "some.json")


def test_counts_are_by_owner_and_add_up(tmp_path: Any) -> None:

    path = tmp_path / "toy.json"
    path.write_text(json.dumps(common.toy()))
    study = judged.toy(path, "results/toy.json")
    ((owner, numbers),) = study.counts()
    assert owner == "the paper's"
    assert [(verdict, number.value) for verdict, number in numbers] == [
        ("confirmed", 2),
        ("refuted", 2),
        ("undecided", 1),
    ]
    decided = [one for group in study.groups for one in group.decided()]
    open_ = [one for group in study.groups for one in group.undecided()]
    assert len(decided) + len(open_) == len(study.all()) == 5
    assert all(not one.why for one in decided)
    assert [str(one.why.striptags()) for one in open_] == ["the interval crosses the edge of the claimed region"]


def test_the_ladder_counts_no_claim_of_another_regime(tmp_path: Any) -> None:
    made_study(tmp_path / "mini")  # of large step noise, and not memorised
    ladder = judged.ladder(tmp_path)
    assert ladder is not None
    told = [
        (row.owner, row.judgements["mini"].verdict)
        for row in ladder.rows
        if row.claim.regime in ("any", "step noise") and "mini" in row.judgements
    ]
    numbers = {(owner, verdict): number.value for owner, of in ladder.counts for verdict, number in of}
    assert numbers == dict(Counter(told))
    assert any(row.claim.regime == "memorised" for row in ladder.rows)


def test_the_counts_of_the_ledger_add_up() -> None:
    ledger = claims.claims()
    total = claims.count(ledger, ours=False)
    assert sum(claims.count(ledger, ours=False, verdict=verdict).value for verdict in claims.VERDICTS) == total.value
    ours = [claim for claim in ledger if claim.ours]
    assert all(str(claim.label).startswith("theorem-t") for claim in ours)
