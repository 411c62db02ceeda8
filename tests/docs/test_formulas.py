"""Formulas on the site: set as MathML by no script, numbered, and refused where they cannot be set."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from docs.extensions import formulas
from paper_figs.report import prose, typesetting
from tests.docs.small_site import Site, build
from theory import ledger
from theory.proof import notation

PAGE = r"""# Page

Inline $a_1 < b$ and {math}`\theta^\top`.

$$
\begin{matrix} 1 & 2 \\ 3 & 4 \end{matrix}
$$

$$ e = f $$ (second)

```{math}
:label: first

\frac{a}{b} = c
```

See {eq}`first` and {eq}`second`.

```{math}
x = 1

y = 2
```

```{eval-rst}
With :math:`\hat{p}`:

.. math:: z^2
   :label: third

and :eq:`third`.
```
"""
LATEX = {
    "a_1 < b": False,
    r"\theta^\top": False,
    r"\begin{matrix} 1 & 2 \\ 3 & 4 \end{matrix}": True,
    "e = f": True,
    r"\frac{a}{b} = c": True,
    "x = 1": True,
    "y = 2": True,
    r"\hat{p}": False,
    "z^2": True,
}
"""All formulas of the page, and whether they stand on a line of their own."""
REFUSED = {
    r"\nosuchcommand{x}": "nosuchcommand",
    r"\frac{1}": "lacks an argument",
    "a & b": "& is allowed in matrices and cases only",
    r"a \\ b": "an empty line is allowed",
    r"\begin{aligned} a &= b \end{aligned}": "& is allowed",
    r"\left( x": "cannot be set",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return build(tmp_path_factory.mktemp("formulas"), {"index": PAGE})


def test_every_formula_of_markdown_and_restructuredtext_is_mathml(site: Site) -> None:
    html = site.html("index")
    assert (site.warnings, site.failed) == ("", False)
    for latex, block in LATEX.items():
        assert prose.formula(latex, block) in html
    assert html.count("<math") == len(LATEX)
    assert "$" not in site.article("index").get_text()
    assert "\\" not in site.article("index").get_text()


def test_blocks_are_numbered_and_referred_to_by_their_numbers(site: Site) -> None:
    article = site.article("index")
    numbers = [number.get_text()[:3] for number in article.select(".eqno")]
    assert sorted(numbers) == ["(1)", "(2)", "(3)"]
    links = {link["href"]: link.get_text() for link in article.select("a.reference.internal")}
    assert sorted(links.values()) == ["(1)", "(2)", "(3)"]
    for address, number in links.items():
        assert {number_shown.get_text()[:3] for number_shown in article.select(f"div.math{address} .eqno")} == {number}


def test_several_formulas_of_a_block_have_a_line_each(site: Site) -> None:
    (block,) = site.article("index").select("div.math.several")
    assert [formula.get_text() for formula in block.find_all("math")] == ["x=1", "y=2"]


def test_the_font_comes_with_the_site_and_nothing_else_is_loaded(site: Site) -> None:
    page = BeautifulSoup(site.html("index"), "html.parser")
    loaded = [str(tag.get("src") or tag.get("href") or "") for tag in page.find_all(["script", "link", "img"])]
    assert any(address.startswith("_static/formulas.css") for address in loaded)
    assert not [address for address in loaded if "//" in address or "mathjax" in address.lower()]
    static = site.out / "_static"
    assert (static / typesetting.FONT.name).read_bytes() == typesetting.FONT.read_bytes()
    assert "Open Font" in (static / "stix-two-math.LICENSE").read_text(encoding="utf-8").title()
    rule = formulas.STYLE.read_text(encoding="utf-8")
    assert f'url("{typesetting.FONT.name}")' in rule
    assert "//" not in rule


def test_what_cannot_be_set_fails_the_build_and_names_the_place(tmp_path: Path) -> None:
    lines = ["# Page", *(f"In line $ {latex} $." for latex in REFUSED)]
    blocks = [f"$$\n{latex}\n$$" for latex in REFUSED]
    text = "\n\n".join([*lines, *blocks])
    site = build(tmp_path, {"index": text.replace("$ ", "$").replace(" $", "$")})
    assert site.failed
    complaints = site.warnings.strip().split("\n")
    assert len(complaints) == 2 * len(REFUSED)
    for number, (latex, reason) in enumerate(REFUSED.items()):
        assert f"index.md:{2 * number + 3}: " in complaints[number]
        for complaint in (complaints[number], complaints[number + len(REFUSED)]):
            assert "this formula cannot be set" in complaint
            assert repr(latex) in complaint
            assert reason in complaint
        assert latex in site.article("index").get_text()


def test_the_same_check_for_whoever_calls() -> None:
    assert formulas.mathml(r" \frac{1}{2} ", block=False) == prose.formula(r"\frac{1}{2}", block=False)
    with pytest.raises(ValueError, match="lacks an argument"):
        formulas.mathml(r"\frac{1}")


EVERY = [
    pytest.param(notation.latex(formula), id=f"{label}-{which}")
    for label, (_, statement) in ledger.statements().items()
    for which, formula in (("printed", statement.printed), ("holds", statement.holds))
    if formula is not None and not isinstance(formula, notation.Words)
]


@pytest.mark.parametrize("latex", EVERY)
@pytest.mark.parametrize("longest", [10, typesetting.LONGEST])
def test_lines_put_together_are_the_formula_and_each_can_be_set(latex: str, longest: int) -> None:
    lines = typesetting.lines(latex, longest)
    assert "".join(lines) == latex
    for line in lines:
        assert line.count("{") == line.count("}")
        assert line.count(r"\left") == line.count(r"\right")
        formulas.mathml(line)
    if longest == typesetting.LONGEST:
        assert max(map(typesetting.width, lines)) < 65, "a line is wider than the page"


def test_breaks_are_made_where_they_are_needed_the_strongest_first() -> None:
    clauses = r"\text{(i) }a = b;\quad \text{(ii) }c,\quad \left[d,\quad e\right] \;\Rightarrow\; f"
    first, second = typesetting.lines(clauses)
    assert first == r"\text{(i) }a = b;\quad "
    assert second.startswith(r"\text{(ii) }c,\quad \left[d")
    assert typesetting.lines(second, 5)[1:] == [r"\left[d,\quad e\right] ", r"\;\Rightarrow\; f"]
    assert typesetting.lines("a = b + c", 3) == ["a", " = b", " + c"]
    assert typesetting.lines(r"a,\quad b,\quad c", 4) == [r"a,\quad b,\quad ", "c"], "as few as are needed"
    assert typesetting.lines("a = b + c") == ["a = b + c"]
    assert typesetting.width(r"\frac{aaaa}{bb}") == 4
