"""The room as a whole: every label has a module and every module a label; what is shown is rendered, not retyped."""

import importlib
import json
import re
import subprocess
import sys

import pytest

from theory import __main__ as command
from theory import ledger
from theory.proof import notation
from theory.proof import statement as verification
from theory.proof.statement import REFUTING, Fault, Kind, Statement, Verdict

PAPER_LABELS = {
    *(f"Eq. ({number})" for number in (*range(1, 19), 35, 39, 41, 48)),
    *(f"Definition {number}" for number in ("3.1", "3.2", "3.6", "1", "2", "3")),
    *(f"Theorem {number}" for number in ("3.3", "3.8", "1", "2")),
    *(f"Corollary {number}" for number in ("3.4", "3.9", "1", "2")),
    *(f"Proposition {number}" for number in ("3.7", "1")),
    *(f"Remark {number}" for number in ("3.5", "3.10")),
    *(f"Table {number}" for number in (1, 4)),
    "Algorithm 1",
}
"""Every numbered statement of the paper's Section 3 and Appendix B, and what else makes a checkable claim."""

OURS = {f"theorem-t{n}" for n in range(1, 15)}

EVERY = pytest.mark.parametrize(("module", "statement"), ledger.statements().values(), ids=ledger.statements().keys())


def test_every_label_of_the_paper_has_a_module_and_every_module_a_label() -> None:
    claimed = [label for _, statement in ledger.statements().values() for label in statement.paper_labels]
    assert PAPER_LABELS - set(claimed) == set()
    assert len(claimed) == len(set(claimed)), "a label of the paper is claimed twice"
    assert {label for label in ledger.statements() if label.startswith("theorem-t")} == OURS
    for module, statement in ledger.statements().values():
        assert (
            statement.paper_labels
            or statement.label in OURS
            or statement.label.startswith(("theorem-3.3-", "norm-of-delta", "appendix-", "corollary-3.9-", "tables-"))
            or statement.label.startswith(
                ("introduction-", "section-", "corollary-3.4-", "figure-", "epsilon-", "slides-")
            )
        ), module


def has_one(module: str) -> bool:
    """Whether the module is of one claim; several share a module that is called after their subject."""
    return hasattr(importlib.import_module(f"theory.claims.{module}"), "STATEMENT")


@EVERY
def test_the_label_is_the_beginning_of_the_file_name(module: str, statement: Statement) -> None:
    if has_one(module):
        assert module.startswith(statement.label.replace("-", "_").replace(".", "_"))


@EVERY
def test_every_module_has_its_test_beside_it(module: str, statement: Statement) -> None:
    test = importlib.import_module(f"theory.tests.test_{module}")
    if has_one(module):
        assert test.STATEMENT is statement
    else:
        assert statement in test.STATEMENTS
    assert callable(test.test_evidence)
    (parametrised,) = test.test_evidence.pytestmark
    assert set(statement.evidence) <= set(parametrised.args[1])


@EVERY
def test_the_docstring_shows_the_formulas_as_they_are_rendered(module: str, statement: Statement) -> None:
    text = importlib.import_module(f"theory.claims.{module}").__doc__ or ""
    of = "" if has_one(module) else rf" \({re.escape(statement.label)}\)"
    for name, formula in (("Printed", statement.printed), ("Holds", statement.holds)):
        lines = re.findall(rf"^{name}{of}: (.*)$", text, flags=re.MULTILINE)
        assert lines == ([] if formula is None else [notation.text(formula)])


def test_claims_are_counted_by_verdict_and_fault() -> None:
    claims = ledger.of_paper()
    counts = ledger.tally(claims)
    assert sum(counts.values()) == len(claims) == len(ledger.statements()) - len(OURS)
    assert all((fault is None) is (verdict is Verdict.HOLDS) for verdict, fault in counts)
    flaws = sum(number for (_, fault), number in counts.items() if fault is Fault.FLAW)
    assert f" {flaws} are flaws" in ledger.headline()
    assert f"Of the paper's {len(claims)} claims" in ledger.headline()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ledger.tally_table().splitlines()[2:]]
    assert sum(int(cell or 0) for row in rows for cell in row[1:]) == len(claims)
    assert [row[0] for row in rows] == list(Verdict)


def test_what_the_six_slips_and_two_flaws_of_section_3_are() -> None:
    """A reader of the appendix repairs the slips; the flaws stand in Corollary 3.9's factor and in Remark 3.10."""
    faults = {label: statement.fault for label, (_, statement) in ledger.statements().items()}
    slips = ("theorem-3.3", "corollary-3.4", "equation-41", "appendix-symmetry", "equation-48", "tables-1-and-4")
    assert {faults[label] for label in slips} == {Fault.SLIP}
    assert {faults[label] for label in ("corollary-3.9", "remark-3.10")} == {Fault.FLAW}


def test_a_module_has_one_statement_or_several(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("theory.claims.tables_1_and_4_arithmetic")
    monkeypatch.setattr(module, "STATEMENTS", (module.STATEMENT,), raising=False)
    with pytest.raises(LookupError, match="exactly one"):
        ledger.of_module("tables_1_and_4_arithmetic")


def test_our_theorems_stand_in_the_order_of_their_numbers() -> None:
    numbers = [int(label.removeprefix("theorem-t")) for label in ledger.statements() if label in OURS]
    assert numbers == sorted(numbers)


@EVERY
def test_formulas_render_in_latex(module: str, statement: Statement) -> None:
    for formula in (statement.printed, statement.holds):
        if formula is not None:
            latex = notation.latex(formula)
            assert latex.count("{") == latex.count("}")
            assert "Operator" not in latex
            assert not re.search(r"[A-Za-z]_hat", latex)


@EVERY
def test_every_property_is_guarded_by_a_falsifier(module: str, statement: Statement) -> None:
    kinds = {evidence.kind for evidence in statement.evidence}
    if Kind.PROPERTY in kinds:
        assert Kind.FALSIFIER in kinds
    if statement.verdict is Verdict.FALSE:
        assert kinds & REFUTING
    assert len({evidence.shows for evidence in statement.evidence}) == len(statement.evidence)


def test_the_ledger_on_disk_is_in_step() -> None:
    assert ledger.LEDGER.read_text(encoding="utf-8") == ledger.markdown(), "renew it: python -m theory --write"


def test_the_table_of_verdicts_in_the_readme_is_in_step() -> None:
    readme = (ledger.ROOM.parent / "README.md").read_text(encoding="utf-8")
    assert readme == ledger.with_verdicts(readme), "renew it: python -m theory --write"


@pytest.fixture
def own_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line would load a profile of its own, for all tests that follow too."""
    monkeypatch.setattr(command, "use_profile", lambda thorough: None)


@pytest.mark.usefixtures("own_profile")
def test_explain_prints_one_claim_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["explain", "corollary-3.9"]) == 0
    shown = capsys.readouterr().out
    statement = ledger.statements()["corollary-3.9"][1]
    assert statement.printed is not None
    for expected in (notation.text(statement.printed), "false as printed", "0.34657", "0.15907", "falsifier"):
        assert expected in shown


@pytest.mark.usefixtures("own_profile")
def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["explain", "tables-1-and-4", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["verdict"] == "false as printed"
    assert row["evidence"]
    assert all(evidence["holds"] and evidence["lines"] for evidence in row["evidence"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "corolary-3.9"], "label is 'corolary-3.9'; allowed: corollary-3.9"),
        (["explain"], "corollary-3.9"),
        (["explain", "theorem-t2", "--write"], "--write goes with the whole ledger"),
    ],
)
def test_wrong_calls_say_what_is_allowed(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("own_profile")
def test_failing_evidence_gives_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = verification.symbolic("no", lambda: [verification.equal("", 1, 2)])
    statement = Statement("x", "", "", Verdict.HOLDS, "", None, None, (failing,))
    monkeypatch.setattr(ledger, "statements", lambda: {"x": ("module", statement)})
    assert command.main([]) == 1
    assert "FAILS: no" in capsys.readouterr().out


def test_importing_theory_loads_no_torch() -> None:
    code = "import sys, theory.ledger; theory.ledger.statements(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ledger.ROOM.parent)
