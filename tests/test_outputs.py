"""What the commands write from the committed results is what is committed: pages, documents, and the figures' data.

A change that only moves code changes nothing here. Where results or figures are meant to change, the files themselves
are renewed by their commands, and the digest of the figures' data by `python -m tests.test_outputs`, which says which
of them changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from experiments.bridge import document as bridge
from experiments.measures.layer_rows import Plan
from findings import comparisons, ladder_page, tables, toy_study
from findings.documents import VERSION, json_text, read_document
from findings.trained import RUNS_VARIABLE
from paper_figs import build, catalogue
from theory import ledger
from toy import tables as toy_tables

ROOT = Path(__file__).parent.parent
STUDIES = [path.parent for path in sorted((ROOT / "results").glob("*/plan.json"))]
DIGESTS = Path(__file__).parent / "outputs.json"
FIGURES = list(catalogue.figures())

every_study = pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)


@pytest.fixture(autouse=True)
def _committed_results_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUNS_VARIABLE, raising=False)


def test_there_is_a_study() -> None:
    assert STUDIES


def test_the_toy_s_page_and_its_table_among_the_findings() -> None:
    results = toy_study.load()
    assert toy_tables.OWN.read_text(encoding="utf-8") == toy_tables.full(results)
    page = toy_tables.BRIEF.read_text(encoding="utf-8")
    assert toy_tables.with_brief(page, results) == page


def test_the_ledger_and_its_table_in_the_readme() -> None:
    assert ledger.LEDGER.read_text(encoding="utf-8") == ledger.markdown()
    page = ledger.README.read_text(encoding="utf-8")
    assert ledger.with_verdicts(page) == page


def test_the_ladders_claims_and_doses() -> None:
    for name, content in ladder_page.written(ladder_page.columns_of()).items():
        assert (ladder_page.FOLDER / name).read_bytes() == content, name


@every_study
def test_the_tables_of_a_study(study: Path) -> None:
    results = [read_document(path) for path in sorted((study / "rows").glob("*.json"))]
    of_rows, compared = tables.tables(results), comparisons.compared(results)
    lines = comparisons.statement(results, compared)
    there = read_document(study / "tables.json")
    assert there["statement"][: len(lines)] == lines
    document = {
        "version": VERSION,
        "what": there["what"],
        "tables": tables.document(of_rows),
        "comparisons": [one.entry() for one in compared],
        "statement": there["statement"],  # what could not be drawn stands at its end, and is not in the rows
    }
    assert (study / "tables.json").read_bytes() == json_text(document)
    page = (study / "tables.md").read_text(encoding="utf-8")
    assert tables.markdown(of_rows) in page
    assert all(f"- {line}\n" in page for line in lines)


@every_study
def test_the_bridge_of_a_study(study: Path, tmp_path: Path) -> None:
    if not (study / bridge.DOCUMENT).exists():
        pytest.skip("no bridge was judged for it")
    for name in ("rows", "layers"):
        shutil.copytree(study / name, tmp_path / name)
    shutil.copy(study / "plan.json", tmp_path)
    bridge.judged(Plan.of(tmp_path), toy_study.RESULTS, toy_study.PAPER_NUMBERS)
    assert (tmp_path / bridge.PAGE).read_text(encoding="utf-8") == (study / bridge.PAGE).read_text(encoding="utf-8")
    now, there = read_document(tmp_path / bridge.DOCUMENT), read_document(study / bridge.DOCUMENT)
    now["provenance"] = there["provenance"]  # where, and with which versions, it was judged
    (words, numbers), (committed_words, committed_numbers) = parted(now), parted(there)
    assert words == committed_words
    assert numbers == pytest.approx(committed_numbers, rel=1e-9, abs=1e-12)  # another processor rounds last digits


def written(name: str) -> Any:
    """The figure's data as its file holds it: of the drawn file, where that is up to date, or computed anew."""
    entry = catalogue.figures()[name]
    if build.up_to_date(entry):
        return json.loads((build.OUT / f"{name}.json").read_bytes())
    return json.loads(build.as_json(import_module(entry.module).compute()))


def parted(data: Any) -> tuple[str, list[float]]:
    """The data as JSON without its fractions, and these in their order."""
    fractions: list[float] = []

    def without(value: Any) -> Any:
        if isinstance(value, float):
            fractions.append(value)
            return 0.5
        if isinstance(value, dict):
            return {key: without(entry) for key, entry in value.items()}
        return [without(entry) for entry in value] if isinstance(value, list) else value

    return json.dumps(without(data)), fractions


def digest(data: Any) -> dict[str, Any]:
    """A hash of all but the fractions, and two sums of these, which another processor's rounding hardly moves."""
    words, fractions = parted(data)
    weights = [1.0 + place % 97 / 97 for place in range(len(fractions))]
    return {
        "words": hashlib.sha256(words.encode()).hexdigest()[:16],
        "fractions": len(fractions),
        "sum": sum(map(abs, fractions)),
        "weighted": sum(weight * value for weight, value in zip(weights, fractions, strict=True)),
    }


def test_a_digest_sees_a_word_a_number_and_an_exchange() -> None:
    data = {"what": "rise", "y": [0.25, 0.75], "n": 3}
    same = digest(json.loads(json.dumps(data)))
    assert same == digest(data)
    for other in (
        {**data, "what": "rises"},
        {**data, "n": 4},
        {**data, "y": [0.75, 0.25]},
        {**data, "y": [0.25, 0.76]},
    ):
        assert digest(other) != same


@pytest.mark.parametrize("name", FIGURES)
def test_the_data_of_a_figure(name: str) -> None:
    there = json.loads(DIGESTS.read_bytes()).get(name)
    assert there is not None, f"no digest of {name}; python -m tests.test_outputs writes one"
    now = digest(written(name))
    # Sums in another order of the same numbers, and solvers that stop elsewhere, move the last digits
    scale = max(1.0, there["sum"])
    assert now == {
        **there,
        "sum": pytest.approx(there["sum"], rel=1e-7),
        "weighted": pytest.approx(there["weighted"], abs=1e-7 * scale),
    }


def test_digests_are_of_figures_that_are_there() -> None:
    assert set(json.loads(DIGESTS.read_bytes())) == set(FIGURES)


if __name__ == "__main__":
    old = json.loads(DIGESTS.read_bytes()) if DIGESTS.exists() else {}
    new = {name: digest(written(name)) for name in FIGURES}
    DIGESTS.write_bytes(json_text(new))
    print("changed:", ", ".join(name for name in {**old, **new} if old.get(name) != new.get(name)) or "none")
