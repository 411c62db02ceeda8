"""The report's page as HTML: all is there, nothing is loaded, every number has its source, every formula is set."""

import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from findings.trained import RUNS_VARIABLE
from paper_figs import build, catalogue, story
from paper_figs.report import document, judged, page, pictures
from tests.paper_figs import report_common as common
from tests.paper_figs.report_common import NASTY, Checkout, Node, tree
from theory import ledger
from theory.proof import notation

SOURCE_PARTS = ["file", "key", "seeds", "commit", "command"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = Checkout(tmp_path_factory.mktemp("small"))
    made.pretend()
    return made


@pytest.fixture(scope="module")
def small_page(small: Checkout) -> str:
    return page.written(small.report(), small.out, {})


@pytest.fixture(scope="module", params=["small", "drawn"])
def text(request: pytest.FixtureRequest, small_page: str) -> str:
    """The small checkout's page, and this one's, of the figures that are drawn."""
    if request.param == "small":
        return small_page
    report = document.find(catalogue.figures())
    assert report is not None
    if set(report.states(build.OUT).values()) == {"missing"}:
        pytest.skip(f"no figure is drawn in {build.OUT}; make figs draws them")
    return page.written(report, build.OUT, {})


@pytest.fixture(scope="module")
def root(text: str) -> Node:
    return tree(text)


def _visible(root: Node) -> str:
    return root.one("body").text()


def test_every_statement_is_there_with_its_verdict_and_formulas(root: Node) -> None:
    rows = root.one("section", id="ledger").all("tr", data_verdict="vacuous")
    assert len(rows) == sum(s.verdict.value == "vacuous" for _, s in ledger.statements().values()) > 0
    order = [node.attributes["id"] for node in root.all("details", cls="claim")]
    assert order == [f"claim-{label}" for label in ledger.statements()]
    for label, (_, statement) in ledger.statements().items():
        claim = root.one("details", id=f"claim-{label}")
        assert claim.attributes["data-verdict"] == statement.verdict.value
        formulas = [formula for formula in (statement.printed, statement.holds) if formula is not None]
        shown = claim.all("div", cls="formula")
        assert [bool(node.all("math")) for node in shown] == [not isinstance(f, notation.Words) for f in formulas]
        assert " ".join(statement.reason.split()) in claim.text()
        assert all(evidence.shows in claim.text() for evidence in statement.evidence)


def test_counterexamples_are_computed_and_hold(root: Node) -> None:
    assert len(root.all("ul", cls="comparisons")) >= 20
    assert not root.all(cls="fails")
    claim = root.one("details", id="claim-corollary-3.9")
    decimals = [node.one("button").text() for node in claim.all("span", cls="number")]
    assert decimals[:3] == ["0.34657", "0.15907", "0.34657"]


def test_formulas_are_well_formed_and_nothing_is_left_of_latex(text: str, root: Node) -> None:
    formulas = re.findall(r"<math.*?</math>", text, re.DOTALL)
    assert len(formulas) > 100
    for formula in formulas:
        assert "merror" not in formula
        assert "".join(ElementTree.fromstring(formula).itertext()).strip()
    visible = _visible(root)
    assert "\\" not in visible
    assert "$" not in visible
    assert not re.search(r"\b(frac|mathbb|left|right)[{(\[]", visible)


def test_it_loads_nothing(text: str, root: Node) -> None:
    assert not root.all("link")
    assert not root.all("iframe")
    for node in root.walk():
        if "src" in node.attributes:
            assert node.tag == "img"
            assert node.attributes["src"].startswith("data:image/png;base64,")
        if "href" in node.attributes:
            assert node.tag == "a"
            assert node.attributes["href"].startswith(("#", "https://"))
        assert not any(name.startswith("on") for name in node.attributes)
    for style in root.all("style"):
        content = "".join(child.content for child in style.children)
        assert "@import" not in content
        assert all(address.startswith("data:") for address in re.findall(r"url\([\"']?([^)]*)", content))
    for script in root.all("script"):
        assert not re.search(r"fetch|XMLHttpRequest|import\(|http", script.children[0].content)


def test_names_are_used_once_and_links_within_the_page_arrive(root: Node) -> None:
    names = [node.attributes["id"] for node in root.walk() if "id" in node.attributes]
    assert len(set(names)) == len(names)
    inner = [node.attributes["href"][1:] for node in root.all("a") if node.attributes["href"].startswith("#")]
    assert len(inner) > 30
    assert set(inner) <= set(names)
    for attribute in ("popovertarget", "aria-labelledby", "data-filters"):
        named = [node.attributes[attribute] for node in root.walk() if attribute in node.attributes]
        assert named
        assert set(named) <= set(names)


def test_it_can_be_read_without_seeing_it(root: Node) -> None:
    assert root.one("html").attributes["lang"] == "en"
    assert root.one("a", cls="skip").attributes["href"] == "#main"
    assert root.one("main").attributes["id"] == "main"
    levels = [int(node.tag[1]) for node in root.walk() if re.fullmatch(r"h[1-6]", node.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(len(node.attributes["alt"]) > 10 for node in root.all("img"))
    assert all("scope" in node.attributes for node in root.all("th"))
    for head in root.all("thead"):
        for cell in head.all("th"):
            assert bool(cell.all("button")) != (cell.attributes.get("class") == "no-sort")
    for box in root.all(cls="box"):
        assert box.attributes["tabindex"] == "0"  # so that a keyboard can scroll it
        assert box.attributes["aria-label"]


@pytest.mark.parametrize("section", ["findings", "ladder", "predictions", "bridge", "provenance"])
def test_every_number_measured_has_a_source(root: Node, section: str) -> None:
    left = root.one("section", id=section).text(("script", "style", "number", "quoted"))
    headed = re.sub(r"results/\S+/bridge\.json|results/toy\.json", "", left)
    assert not re.search(r"\d", headed), re.findall(r".{0,40}\d.{0,40}", headed)[:5]


def test_every_source_is_whole(root: Node) -> None:
    numbers = root.all("span", cls="number")
    assert len(numbers) > 50
    notes = {note.attributes["id"]: note for note in root.all("div", cls="source")}
    for number in numbers:
        button = number.one("button")
        assert button.attributes["title"].strip()
        assert button.attributes["popovertarget"] in notes
    for note in notes.values():
        assert "popover" in note.attributes
        assert [node.text() for node in note.all("b")] == SOURCE_PARTS
        assert all(node.text().strip() for node in note.all("code"))
    for table in root.one("section", id="predictions").all("table"):
        for row in table.one("tbody").all("tr"):
            assert len(row.all("span", cls="number")) == 2  # the region claimed, and what was measured


def test_every_verdict_says_whose_claim_it_is_and_what_region_was_claimed(root: Node) -> None:
    owners = set(judged.OWNERS.values())
    for name in ("predictions", "bridge"):
        for table in root.one("section", id=name).all("table", cls="claims"):
            for row in table.one("tbody").all("tr"):
                whose, claimed, _, verdict = row.all("td")
                assert whose.text() in owners
                assert claimed.text().strip()
                assert verdict.text() in ("confirmed", "refuted", "disputed")
        for line in [one for one in root.one("section", id=name).all("li") if "id" in one.attributes]:
            words = line.text()
            assert any(f"({owner})" in words for owner in owners)
            assert "claimed" in words


def test_figures_and_tables_stand_in_the_papers_order(small_page: str, small: Checkout) -> None:
    root = tree(small_page)
    shown = root.all("details", cls="picture")
    assert [node.attributes["id"] for node in shown] == ["picture-figure_2", "picture-table_1", "picture-zeta"]
    assert len(root.all("img")) == 3
    assert "what it shows, a <b> & a & b." in shown[0].text()
    assert shown[0].one("img").attributes["alt"].startswith("Figure 2: what it shows, a <b> & a")
    (from_what,) = shown[0].one("details", cls="picture").children[-2:-1]
    assert from_what.all("math")
    assert from_what.all("code")[0].text() == "code"


def test_the_order_of_names() -> None:
    names = ["bound", "figure_10", "figure_2", "table_1", "toy_figure_1", "toy_table_2", "figures_of_merit"]
    expected = ["figure_2", "figure_10", "table_1", "toy_figure_1", "toy_table_2", "bound", "figures_of_merit"]
    assert sorted(names, key=pictures.order) == expected


def test_every_figure_of_the_catalogue_is_there() -> None:
    report = document.find(catalogue.figures())
    assert report is not None
    shown = pictures.pictures(report, Path("nowhere"), {})
    assert {str(picture.name) for picture in shown} == set(catalogue.figures())
    assert all(picture.state == "missing" and picture.image is None for picture in shown)


def test_a_tables_numbers_can_be_sorted_and_have_sources(small_page: str) -> None:
    table = tree(small_page).one("details", id="picture-table_1").one("table", cls="sortable")
    assert [cell.text().split() for cell in table.one("thead").all("th")] == [["method"], ["toy", "distance"], ["note"]]
    first, second = table.one("tbody").all("tr")
    assert [cell.text(("source",)) for cell in first.all("th") + first.all("td")] == ["adm", "0.5 [0.4, 0.6]", "first"]
    assert [cell.attributes.get("data-sort") for cell in second.all("td")] == ["-2.0", None]
    assert second.one("button").text() == "−2 [−3, −1]"
    title, source = source_of(tree(small_page), second)
    assert title == "row sam, column toy: distance"
    assert [source[part] for part in ("file", "seeds", "command")] == [
        "out/table_1.csv",
        "3 seeds",
        "python -m paper_figs table_1",
    ]


def source_of(root: Node, within: Node, number: int = 0) -> tuple[str, dict[str, str]]:
    """The key of a number, and its note by part."""
    button = within.all("span", cls="number")[number].one("button")
    note = root.one("div", id=button.attributes["popovertarget"])
    return button.attributes["title"], {code.attributes["class"]: code.text() for code in note.all("code")}


@pytest.mark.parametrize("content", ["", "a,b\r\n1\r\n"])
def test_a_ragged_table_is_refused(tmp_path: Path, content: str, small: Checkout) -> None:
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"table\.csv is empty or has lines of different lengths"):
        pictures.rows(path, {}, common_source())


def common_source() -> pictures.Source:
    return pictures.Source("file", "key", "seeds", "commit", "command")


def test_what_failed_what_is_missing_and_what_is_old_is_said_in_its_place(small: Checkout) -> None:
    (small.out / "zeta.png").rename(small.out / "zeta.away")
    try:
        root = tree(page.written(small.report(), small.out, {"figure_2": f"ValueError: {NASTY}"}))
    finally:
        (small.out / "zeta.away").rename(small.out / "zeta.png")
    failed, old, missing = root.all("details", cls="picture")
    assert f"failed to be drawn: ValueError: {NASTY}. Run python -m paper_figs figure_2" in failed.text()
    assert not failed.all("img")
    assert "Drawn before its sources last changed. Run python -m paper_figs table_1" in old.text()
    assert old.all("img")
    assert "has not been drawn yet. Run python -m paper_figs zeta" in missing.text()
    assert not missing.all("img")


def test_texts_are_escaped(small_page: str) -> None:
    root = tree(small_page)
    assert NASTY in root.one("tr", id="prediction-P1a").text()
    assert len(root.all("script")) == 2
    assert "alert(" not in "".join(child.content for node in root.all("script") for child in node.children)


def test_predicted_stands_beside_measured(small_page: str) -> None:
    root = tree(small_page)
    row = root.one("tr", id="prediction-P6a-20")
    predicted, measured = (node.one("button").text() for node in row.all("span", cls="number"))
    assert predicted == "at most 0"
    assert measured == "0.812 [0.688, 0.938]"  # the refuted comparison decides, not the first
    assert row.attributes["data-verdict"] == "refuted"
    title, source = source_of(root, row, 1)
    assert title.startswith("predictions[2].comparisons[1]: mean and 0.99 interval over 3 seeds")
    assert list(source.values())[2:] == ["3: 4, 5, 6", "0123456789abcdef", "python -m toy"]
    counts = root.one("section", id="predictions").all("ul", cls="counts")[0]
    assert [node.one("button").text() for node in counts.all(cls="number")] == ["2", "2", "1"]


def test_networks_are_shown_whatever_their_file_lacks(small_page: str) -> None:
    root = tree(small_page)
    section = root.one("section", id="bridge")
    (row,) = section.one("table").one("tbody").all("tr")
    cells = [cell.text() for cell in row.all("td")]
    assert cells[:2] == ["our theory's", "0.5 to 0.75"]
    assert cells[2].startswith("0.688 [0.531, 0.719]")
    assert cells[3] == "confirmed"
    title, source = source_of(root, row, 1)
    assert title == "predictions[0].measured"
    assert list(source.values())[2:] == ["[0, 1]", "fedcba9876543210", "python -m experiments bridge"]
    assert "B2 (open question): not said" in " ".join(section.text().split())


def test_the_story_s_links_lead_to_places_on_the_page(root: Node) -> None:
    links = {node.attributes["href"] for node in root.one("section", id="findings").all("a")}
    assert "#ledger" in links  # of a page of the theory
    assert links <= {*page.PLACES.values(), story.PAPER}
    assert all(root.all(id=place.removeprefix("#")) for place in page.PLACES.values())


def test_no_network_and_no_toy_yet(tmp_path: Path) -> None:
    made = Checkout(tmp_path)
    (made.root / "results" / "small" / "bridge.json").unlink()
    (made.root / "results" / "toy.json").unlink()
    root = tree(page.written(made.report(), made.out, {}))
    assert "Not yet measured; run python -m experiments bridge." in root.one("section", id="bridge").text()
    assert "there is no results/toy.json. Run python -m toy." in root.one("section", id="predictions").text()
    assert "The ladder has not been measured" in root.one("section", id="findings").text()
    assert "Not yet measured" in root.one("section", id="ladder").text()


def test_a_network_in_a_folder_outside_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Checkout(tmp_path / "checkout")
    other = tmp_path / "runs"
    other.mkdir()
    (other / "bridge.json").write_text('{"predictions": [{"identifier": "B7", "measured": 0.5}]}')
    before = made.report().fingerprint(made.out, {})
    monkeypatch.setenv(RUNS_VARIABLE, str(other))
    assert made.report().fingerprint(made.out, {}) != before
    shown = tree(page.written(made.report(), made.out, {})).one("section", id="bridge").all("article")
    assert ["B7" in node.text() for node in shown] == [False, True]
    assert shown[1].one("h3").text() == "outside runs/bridge.json"


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"predictions": 1}', '{"predictions": [{}]}', '{"predictions": [1]}']
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bridge.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"bridge\.json"):
        judged.bridge(path, "bridge.json")


def test_a_study_that_lacks_something_is_named(tmp_path: Path) -> None:
    made = Checkout(tmp_path)
    broken = common.toy()
    del broken["predictions"][0]["comparisons"][0]["mean"]
    made.write("results/toy.json", json.dumps(broken))
    with pytest.raises(ValueError, match=r"toy\.json is not as it should be \(KeyError\('mean'\)\)"):
        page.written(made.report(), made.out, {})


def test_a_trial_says_so(tmp_path: Path) -> None:
    made = Checkout(tmp_path)
    made.write("results/toy.json", json.dumps(common.toy() | {"verdicts_may_be_quoted": False}))
    assert "its verdicts may not be quoted" in page.written(made.report(), made.out, {})


def test_same_bytes_each_time(small: Checkout, small_page: str) -> None:
    assert page.written(small.report(), small.out, {}) == small_page
