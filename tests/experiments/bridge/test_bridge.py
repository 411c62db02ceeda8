"""The bridge on folders whose numbers were made: verdicts, the theory's bounds, refusals, and what is written."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from experiments.bridge import document as bridge
from experiments.bridge.rows import INFINITE, By, Claim, Comparison
from experiments.commands.bridge import BridgeCommand
from experiments.measures.layer_rows import LAYERS, Plan
from experiments.measures.linearisation import measured_linearisation
from findings import predictions as bridge_page
from findings.documents import ResultError
from findings.estimates import Cell
from findings.ladder_claims import Owner
from tests.experiments.bridge.made_bridge import Sizes, folder, linearisation, write
from tests.experiments.measures.linear_networks import LinearFeatures, linear_subject, of_noise
from tests.experiments.measures.small_rows import contents
from theory.model.perturbations import flat_radius, perturbation_divergence
from theory.model.worst_case import worst_case_divergence

TOY, PAPER = BridgeCommand(folder=Path()).toy, BridgeCommand(folder=Path()).paper
FLAT = Sizes(absolute=0.3, relative=0.6, energy=0.2, gap=0.7, rise=0.4, distance=0.8, norm=1.5)
"""As the paper and the toy say SAM is."""


def judged(plan: Plan) -> dict[str, Any]:
    return bridge.judged(plan, TOY, PAPER)


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {one["identifier"]: one["verdict"] for one in document["predictions"]}


@pytest.fixture(scope="module")
def as_claimed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return judged(folder(tmp_path_factory.mktemp("claimed"), {"sam": FLAT}))


@pytest.fixture(scope="module")
def the_same(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return judged(folder(tmp_path_factory.mktemp("same")))


@pytest.fixture(scope="module")
def reversed_(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    inverse = Sizes(**{name: 1.0 / value for name, value in dataclasses.asdict(FLAT).items()})
    sizes = dataclasses.replace(inverse, closed_form=1.5, sum_of_layers=0.85)
    return judged(folder(tmp_path_factory.mktemp("reversed"), {"sam": sizes}))


CLAIMED = (
    *("B1a", "B1b", "B1c-8", "B1d-4", "B1d-4-mean", "B2a", "B2b", "B2c", "B3a-absolute", "B3a-layer", "B3b"),
    *("B4a", "B4b", "B4c", "B4d", "B4e", "B4f", "B4g", "B4i", "B4j", "B4k", "B4l"),
    *("B5-absolute-rise-gap-20", "B6a-0.01", "B6c-shift-0.1", "B7-snapshots"),
)


def test_numbers_made_as_claimed_confirm(as_claimed: dict[str, Any]) -> None:
    by_claim = verdicts(as_claimed)
    assert {name: by_claim[name] for name in CLAIMED} == dict.fromkeys(CLAIMED, "confirmed")
    assert by_claim["B6b-shift-0.1"] != "confirmed"  # SAM tolerates no more


def test_numbers_that_are_the_same_confirm_no_gain(the_same: dict[str, Any]) -> None:
    by_claim = verdicts(the_same)
    for name in ("B2a", "B4a", "B4b", "B4g"):
        assert by_claim[name] != "confirmed"
    assert by_claim["B4f"] in ("undecided", "not measured")  # there is no gain, of which a share could be left
    assert by_claim["B1a"] == by_claim["B3a-layer"] == by_claim["B6c-scale-0.1"] == "confirmed"


def test_numbers_the_other_way_round_refute(reversed_: dict[str, Any]) -> None:
    by_claim = verdicts(reversed_)
    refuted = ("B1a", "B1c-4", "B2a", "B3a-absolute", "B4a", "B4b", "B4c", "B4g", "B4i", "B4j", "B7-snapshots")
    assert {name: by_claim[name] for name in refuted} == dict.fromkeys(refuted, "refuted")
    summary = " ".join(reversed_["summary"])
    assert all(f"{name} refuted (" in summary for name in refuted)


def test_a_tolerated_divergence_that_is_larger_is_seen(tmp_path: Path) -> None:
    by_claim = verdicts(judged(folder(tmp_path, {"sam": dataclasses.replace(FLAT, tolerated=2.0)})))
    assert by_claim["B6b-shift-0.1"] == by_claim["B6b-scale-0.01"] == "confirmed"
    assert by_claim["B6c-shift-0.1"] == "refuted"


def test_radii_are_held_against_the_toys_order(tmp_path: Path) -> None:
    sizes = {"sam-rho-0.01": dataclasses.replace(FLAT, absolute=0.7, energy=0.68), "sam-rho-0.1": FLAT}
    document = judged(folder(tmp_path / "falls", sizes, radii=(0.1, 0.01)))
    by_claim = verdicts(document)
    assert by_claim["B7-lpf_rise-falls"] == "confirmed"
    one = next(p for p in document["predictions"] if p["identifier"] == "B7-lpf_rise-falls")
    assert [c["what"] for c in one["comparisons"]] == ["sam rho=0.01 against adm", "sam rho=0.1 against sam rho=0.01"]
    # The toy's ratio of energies at .01 is .68, at .1 .09
    assert by_claim["B2d-sam rho=0.01"] == "confirmed"
    assert by_claim["B2d-sam rho=0.1"] == "refuted"
    wrong = {"sam-rho-0.01": FLAT, "sam-rho-0.1": dataclasses.replace(FLAT, absolute=0.7)}
    assert verdicts(judged(folder(tmp_path / "grows", wrong, radii=(0.1, 0.01))))["B7-lpf_rise-falls"] == "refuted"


def test_one_seed_speaks_of_networks_and_several_of_methods(tmp_path: Path, as_claimed: dict[str, Any]) -> None:
    assert as_claimed["seeds"] == 1
    assert "not on the methods" in as_claimed["summary"][0]
    document = judged(folder(tmp_path, {"sam": FLAT}, seeds=(0, 1, 2), scatter=0.001))
    assert document["seeds"] == 3
    assert "3 training seeds" in document["summary"][0]
    ratios = next(p for p in document["predictions"] if p["identifier"] == "B2a")["comparisons"]
    assert {c["seeds"] for c in ratios} == {3}
    assert [c["what"] for c in ratios] == ["sam against adm", "sam+ema against adm+ema", "sam+swa against adm+swa"]
    assert verdicts(document)["B2a"] == "confirmed"


def test_every_prediction_says_what_it_has_to(as_claimed: dict[str, Any]) -> None:
    names = [one["identifier"] for one in as_claimed["predictions"]]
    assert len(set(names)) == len(names)
    assert {name[:2] for name in names} == set(bridge_page.TITLES)
    for one in as_claimed["predictions"]:
        assert one["verdict"] in bridge_page.VERDICTS
        assert one["statement"]
        assert one["source"]
        assert one["owner"] in get_args(Owner)
        # what is the paper's, or open, says so first; all else is of the theory or of the toy, which computes it
        said = one["source"].split()[0].strip(",")
        assert one["owner"] == (said if said in get_args(Owner) else "theory")
        assert one["rule"]
        assert one["of"]
        assert ".json" in one["where"]
        assert (one["verdict"] == "not measured") == (not one["comparisons"])
        for comparison in one["comparisons"]:
            low, high = comparison["interval"] or (None, None)
            assert low is None or low <= comparison["measured"] <= high


def test_the_papers_rows_are_correlated_as_printed(as_claimed: dict[str, Any]) -> None:
    correlations = {one["identifier"]: one for one in as_claimed["predictions"] if one["identifier"].startswith("B5p")}
    nine, four = correlations["B5p-cifar10-20"], correlations["B5p-cifar10-20-8"]
    assert "9 rows" in nine["statement"]
    assert "4 rows" in four["statement"]
    assert four["interval"] is None
    assert four["verdict"] == "undecided"
    numbers = json.loads(PAPER.read_text())
    lpf, fid = numbers["lpf"]["cifar10"], numbers["fid"]["cifar10"]["20"]
    from scipy.stats import spearmanr

    assert nine["measured"] == pytest.approx(spearmanr([lpf[r] for r in lpf], [fid[r] for r in lpf]).statistic)


def comparison(value: float, error: float | None, interval: tuple[float, float] | None = None) -> Comparison:
    return Comparison("made", (Cell(value, error),), interval)


def claim(region: tuple[float, float], *comparisons: Comparison, identifier: str = "B1x") -> Claim:
    return Claim(identifier, "made", By("theory", "made"), region, comparisons, "made", "made.json")


def test_the_rule() -> None:
    def verdict(*comparisons: Comparison) -> str:
        (judgement,) = bridge.judge([claim((0.0, 1.0), *comparisons)])
        return judgement.verdict.value

    assert verdict(comparison(0.5, 0.01)) == "confirmed"
    assert verdict(comparison(1.5, 0.01)) == "refuted"
    assert verdict(comparison(-0.5, 0.01)) == "refuted"
    assert verdict(comparison(0.99, 0.1)) == "undecided"
    assert verdict(comparison(0.5, None)) == "undecided"
    assert verdict(comparison(0.5, 0.0)) == "confirmed"
    assert verdict() == "not measured"
    assert verdict(comparison(0.5, 0.01), comparison(1.5, 0.01)) == "refuted"
    assert verdict(comparison(0.5, 0.01), comparison(0.99, 0.1)) == "undecided"
    assert verdict(comparison(0.5, None, (0.4, 0.6))) == "confirmed"
    assert verdict(comparison(0.5, None, (math.nan, math.nan))) == "undecided"


def test_intervals_are_widened_for_the_comparisons_of_a_group() -> None:
    alone = bridge.judge([claim((0.0, 1.0), comparison(0.5, 0.1))])[0].intervals[0]
    several = bridge.judge([claim((0.0, 1.0), *[comparison(0.5, 0.1)] * 10)])[0].intervals[0]
    apart = [claim((0.0, 1.0), comparison(0.5, 0.1)), claim((0.0, 1.0), comparison(0.5, 0.1), identifier="B2x")]
    assert alone is not None
    assert several is not None
    assert alone.high == pytest.approx(0.5 + 2.5758 * 0.1, rel=1e-4)  # the normal law's 99.5%
    assert several.high > alone.high
    assert bridge.judge(apart)[0].intervals[0] == alone
    over_seeds = bridge.interval_of(Comparison("made", (Cell(1.0, 9.0), Cell(2.0, 9.0), Cell(3.0, 9.0))), 1)
    assert over_seeds is not None
    assert over_seeds.mean == 2.0
    assert over_seeds.high == pytest.approx(2.0 + 9.9248 / math.sqrt(3), rel=1e-4)  # Student's at 2 degrees


def check_bounds() -> None:
    """Of the network that is Eq. (9) with a linear activation, from what the first stage keeps."""
    network = LinearFeatures()
    of = linear_subject(network)
    point = measured_linearisation(of, 300, 8, 1)["points"][0]
    W, b = (tensor.numpy() for tensor in of_noise(network, of, 300))
    m = W.shape[1]
    kappa = 0.05
    radius = flat_radius(W.T @ W + np.outer(b, b), kappa)
    eta = bridge.theory_radius(point, kappa)
    assert eta == pytest.approx(radius / m, rel=1e-5)
    at_point = bridge.bounds(point, eta)
    worst = worst_case_divergence(W, b, radius)
    assert at_point["exact"] == pytest.approx(worst.value, rel=1e-4)
    rho = eta * np.linalg.norm(W, 2)
    corrected = 0.5 * (-rho - math.log1p(-rho) + eta**2 * float(b @ b) / (1 - rho))
    assert at_point["corrected"] == pytest.approx(corrected, rel=1e-4)
    assert at_point["corrected"] >= at_point["exact"] > 0.0
    # No admissible perturbation in the ball does better, and the best one attains it
    attained = perturbation_divergence(worst.perturbation, W, b)
    assert at_point["exact"] == pytest.approx(attained, rel=1e-4)
    top = 0.5 * (rho - math.log1p(rho) + eta**2 * float(b @ b) * (1 + rho))  # the printed side at +Delta u_1 v_1^T
    bottom = 0.5 * (-rho - math.log1p(-rho) + eta**2 * float(b @ b))  # and at -Delta u_1 v_1^T
    assert at_point["printed"] >= max(top, bottom) * (1 - 1e-6)
    assert at_point["printed"] <= top + bottom


def test_the_bounds_of_a_linear_network_are_the_theorys() -> None:
    check_bounds()


@pytest.mark.parametrize("mutant", [lambda eta: 0.0 * eta + 1e-9, lambda eta: 2.0 * eta])
def test_mutants_of_the_radius_are_found(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = bridge.bounds
    monkeypatch.setattr(bridge, "bounds", lambda point, eta: right(point, mutant(eta)))
    with pytest.raises(AssertionError):
        check_bounds()


def test_bounds_grow_with_the_radius_and_end_at_the_edge() -> None:
    point = linearisation()["points"][0]
    etas = [0.01, 0.1, 0.4, 0.6]
    of_radii = [bridge.bounds(point, eta) for eta in etas]
    for name in ("exact", "corrected", "printed"):
        values = [one[name] for one in of_radii]
        assert values == sorted(values)
        assert all(math.isfinite(value) for value in values)
    assert set(bridge.bounds(point, 1 / 1.5).values()) == {INFINITE}


def test_what_is_missing_or_of_other_settings_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    folder(whole)
    for name, message in (
        ("rows/sam-ema.json", r"lacks sam-ema\.json"),
        ("layers/sam-ema.json", r"sam-ema\.json is missing"),
    ):
        out = tmp_path / name.split("/")[0]
        shutil.copytree(whole, out)
        (out / name).unlink()
        before = contents(out)
        with pytest.raises(ResultError, match=message):
            judged(Plan.of(out))
        assert contents(out) == before
    changes: list[tuple[str, list[str], Any, str]] = [
        ("layers/ip-raw.json", ["settings", "options", "whole_draws"], 9, r"options\.whole_draws: 9"),
        ("layers/ip-raw.json", ["settings", "checkpoint", "sha256"], "x", r"checkpoint\.sha256: 'x'"),
        ("layers/ip-snapshots.json", ["settings", "noise", "sigma"], 9.0, r"noise\.sigma: 9\.0"),
        ("rows/ip-raw.json", ["settings", "configuration", "seed"], 5, r"configuration\.seed: 5"),
    ]
    for place, (name, path, value, message) in enumerate(changes):
        out = tmp_path / str(place)
        shutil.copytree(whole, out)
        document = json.loads((out / name).read_text())
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        write(out / name, document)
        with pytest.raises(ResultError, match=message):
            judged(Plan.of(out))
        assert not (out / bridge.DOCUMENT).exists()
    with pytest.raises(ValueError, match=r"toy\.json cannot be read"):
        bridge.judged(Plan.of(whole), tmp_path / "toy.json", PAPER)
    with pytest.raises(ValueError, match=r"paper\.json cannot be read"):
        bridge.judged(Plan.of(whole), TOY, tmp_path / "paper.json")
    assert not (whole / bridge.DOCUMENT).exists()


def test_failed_measures_and_missing_snapshots_leave_the_rest(tmp_path: Path) -> None:
    plan = folder(tmp_path, {"sam": FLAT})
    path = tmp_path / LAYERS / "sam-raw.json"
    document = json.loads(path.read_text())
    document["measures"]["tolerance"] = {"failed": "a prediction is not finite"}
    document["measures"]["layers"] = {"failed": "a loss is not finite"}
    write(path, document)
    (tmp_path / LAYERS / "adm-snapshots.json").unlink()
    by_claim = judged(plan)
    of_layers = next(p for p in by_claim["predictions"] if p["identifier"] == "B3a-absolute")
    assert "sam" not in [c["what"] for c in of_layers["comparisons"]]
    assert "sam+ema" in [c["what"] for c in of_layers["comparisons"]]
    assert verdicts(by_claim)["B4a"] == "confirmed"


def test_the_page_shows_every_prediction_and_the_summary(tmp_path: Path) -> None:
    document = judged(folder(tmp_path, {"sam": FLAT}))
    page = (tmp_path / bridge.PAGE).read_text()
    assert json.loads((tmp_path / bridge.DOCUMENT).read_text())["predictions"] == document["predictions"]
    assert all(f"| {one['identifier']} |" in page for one in document["predictions"])
    assert all(line in page for line in document["summary"])
    assert "in front of a norm" in page
    assert "E_kappa" in page
