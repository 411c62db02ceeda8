"""The proofs: no gap and nothing assumed, the record is of these files, and Coq, where it is there, accepts them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from proofs import check
from theory import ledger
from theory.proof.machine_checked import PROOFS, MachineChecked, changed, machine_checked, record

PAGE = Path(__file__).parents[2] / "docs" / "theory" / "how_sure_we_are.md"
MISSING = check.missing_packages()
with_coq = pytest.mark.skipif(bool(MISSING), reason=f"Debian packages are not installed: {' '.join(MISSING)}")
FILES = {path.name: path.read_text("utf-8") for path in sorted(PROOFS.glob("*.v"))}
PIECES = [
    (label, piece)
    for label, (_, statement) in ledger.statements().items()
    for piece in statement.evidence
    if isinstance(piece, MachineChecked)
]


@pytest.mark.parametrize("name", FILES)
def test_no_proof_has_a_gap(name: str) -> None:
    assert check.gaps(FILES[name]) == []


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("Lemma a : True. Proof. Admitted.", "Admitted"),
        ("Lemma a : True. Proof. admit. Qed.", "admit"),
        ("Lemma a : True. Proof. give_up. Qed.", "give_up"),
        ("Axiom a : False.", "Axiom"),
        ("Parameter a : False.", "Parameter"),
        ("Variable a : False.", "Variable outside of a section"),
        ("Section S.\nEnd S.\nHypothesis a : False.", "Hypothesis outside of a section"),
        ("Unset Guard Checking.", "Unset Guard Checking"),
    ],
)
def test_gaps_are_seen(text: str, gap: str) -> None:
    assert check.gaps(text) == [gap]


def test_what_is_no_gap_is_not_taken_for_one() -> None:
    assert check.gaps("(* no Axiom (* nor Parameter *) here *)\nSection S.\nVariable admitted : nat.\nEnd S.") == []


def test_every_lemma_ends_in_qed_and_is_in_the_record() -> None:
    assert changed() == [], "renew the record: python3 proofs/check.py --write"
    for name, text in FILES.items():
        code = check.without_comments(text)
        assert record()[name]["names"] == check.named(text)
        proved = [kind for kind in check.named(text).values() if kind not in ("Definition", "Record")]
        assert len(re.findall(r"\bQed\.", code)) >= len(proved) > 0


def test_what_a_record_of_other_files_means_for_the_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in PROOFS.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert changed(tmp_path) == []
    (tmp_path / "scalar.v").write_text("Lemma a : False. Admitted.", encoding="utf-8")
    (tmp_path / "new.v").touch()
    (tmp_path / "spectral.v").unlink()
    assert changed(tmp_path) == ["new.v", "scalar.v", "spectral.v"]
    monkeypatch.setattr("theory.proof.machine_checked.changed", lambda: changed(tmp_path))
    piece = machine_checked("", "quadratic_rise.v", "loss_moved")
    assert not piece.run().holds


def test_evidence_of_a_lemma_that_is_not_there_fails() -> None:
    assert machine_checked("", "quadratic_rise.v", "loss_moved").run().holds
    assert not machine_checked("", "quadratic_rise.v", "loss_moves").run().holds
    assert not machine_checked("", "cubic_rise.v", "loss_moved").run().holds
    with pytest.raises(ValueError, match="lemmas are empty"):
        machine_checked("", "quadratic_rise.v")


def test_the_first_eight_theorems_have_lemmas_and_the_page_names_them() -> None:
    page = PAGE.read_text("utf-8")
    theorems = {label for label, _ in PIECES if label.startswith("theorem-t")}
    assert theorems >= {f"theorem-t{number}" for number in range(1, 9)}
    rows = dict(re.findall(r"^\| \{claim\}`\w+ <([\w.-]+)>` \|(.*)$", page, flags=re.MULTILINE))
    assert set(rows) == theorems
    known = {name for entry in record().values() for name in entry["names"]}
    for label, row in rows.items():
        names = set(re.findall(r"`(\w+)`", row))
        assert names, label
        assert names <= known, label
    assert set(re.findall(r"`(\w+\.v)`", page)) <= set(FILES)


def test_files_come_after_what_they_require_and_circles_are_refused(tmp_path: Path) -> None:
    order = [path.stem for path in check.sources()]
    assert order.index("expectation") < order.index("quadratic_rise") < order.index("worst_case")
    assert order.index("scalar") < order.index("gaussian_gap")
    with pytest.raises(check.ProofsError, match="no Coq file"):
        check.sources(tmp_path)
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.v").write_text(f"From Flatness Require Import {other}.\n", encoding="utf-8")
    with pytest.raises(check.ProofsError, match="require each other: a, b"):
        check.sources(tmp_path)


def test_without_coq_the_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert check.main([]) == 1
    assert "apt-get install coq libcoq-mathcomp-ssreflect" in capsys.readouterr().err
    assert check.main(["--missing"]) == 0
    assert capsys.readouterr().out.split() == ["coq", *check.NEEDED.values()]


@with_coq
def test_coq_accepts_the_proofs_and_they_rest_on_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([]) == 0, capsys.readouterr().err


@with_coq
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Lemma a : False. Proof. exact I. Qed.", "coqc fails on a.v"),
        (
            "Require Import ProofIrrelevance.\nLemma a (P : Prop) (x : P) : x = x.\n"
            "Proof. apply proof_irrelevance. Qed.",
            "a.v rests on ProofIrrelevance.proof_irrelevance",
        ),
    ],
)
def test_what_does_not_stand_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.v").write_text(text, encoding="utf-8")
    with pytest.raises(check.ProofsError, match=message):
        check.checked(tmp_path, verbose=False)


@with_coq
def test_the_record_has_the_axioms_that_coq_prints(tmp_path: Path) -> None:
    text = "Require Import Reals.\nLemma a : (1 + 1 = 2)%R.\nProof. ring. Qed.\n"
    (tmp_path / "a.v").write_text(text, encoding="utf-8")
    entry = check.checked(tmp_path, verbose=False)["a.v"]
    assert entry["axioms"] == [
        "ClassicalDedekindReals.sig_forall_dec",
        "FunctionalExtensionality.functional_extensionality_dep",
    ]
    assert json.loads(json.dumps(entry))["names"] == {"a": "Lemma"}
