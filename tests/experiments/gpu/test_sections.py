"""Every section on the CPU at its smallest, as a card would run it; and that each of its judgements can fail."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.__main__ import main
from experiments.gpu import parity, processes, rung4, speed
from experiments.gpu.options import RADII, GPUOptions
from experiments.gpu.small import configured
from experiments.training.trainer import train
from findings.ladder import LadderError
from flatness.measuring import quantization

CPU = torch.device("cpu")
REFERENCE = """
from experiments.adm import ADM, ADMOptions


def UNetModel(image_size, in_channels, model_channels, num_res_blocks, attention_resolutions, **rest):
    return ADM(
        ADMOptions(
            image_size=image_size,
            channels=in_channels,
            model_channels=model_channels,
            num_res_blocks=num_res_blocks,
            channel_mult=rest["channel_mult"],
            attention_resolutions=tuple(image_size // stride for stride in attention_resolutions),
        )
    )
"""


def rehearsed(section: str, out: Path, *more: str) -> dict[str, Any]:
    given = ["gpu", "--sections", section, "--device", "cpu", "--tiny", "--out", str(out), "--minutes", "30", *more]
    status = main(given)
    document = json.loads((out / f"{section}.json").read_text())
    assert status == 0, document
    assert document["complete"]
    assert document["section"] == section
    return document["parts"]


def test_parity(tmp_path: Path) -> None:
    parts = rehearsed("parity", tmp_path)
    assert len(parts) == 11
    assert all(part["passed"] for part in parts.values())
    assert parts["resumed run"]["apart"] == 0  # on the CPU, bit for bit
    assert all(0 < parts[f"{kind} samples"]["error"] < 1e-3 for kind in ("ancestral", "DDIM"))


def test_speed_with_a_reference(tmp_path: Path) -> None:
    package = tmp_path / "code" / "guided_diffusion"
    package.mkdir(parents=True)
    (package / "unet.py").write_text(REFERENCE)
    parts = rehearsed("speed", tmp_path, "--reference", str(package.parent))
    for variant in speed.VARIANTS:
        part = parts[f"cifar10 {variant}"]
        assert part["images_per_second"] * part["step_seconds"] == pytest.approx(part["images"])
        rate = parts["matrix products"]["bfloat16_flops"]
        assert part["share_of_bfloat16_matrix_rate"] == pytest.approx(part["flops"] / rate)
    assert parts["SAM over plain"]["ratio"] > 1.0
    assert 0 <= parts["loader"]["share_waited"] < 1
    assert parts["public reference"]["speedup"] > 0


def test_two_processes(tmp_path: Path) -> None:
    parts = rehearsed("processes", tmp_path)
    assert list(parts) == ["one process", "two processes, gloo"]
    assert parts["two processes, gloo"]["apart"] <= processes.ROUNDING


def test_rung_4_and_going_on_with_it(tmp_path: Path) -> None:
    parts = rehearsed("rung4", tmp_path, "--rho", "0.02", "0.2")
    study = parts["study"]
    assert study["runs"] == ["adm", "sam-rho-0.02", "sam-rho-0.2"]
    assert (study["rows"], study["rows_with_failed_measures"]) == (9, 0)
    assert len(list((tmp_path / "rung4" / "rows").iterdir())) == 9
    assert (tmp_path / "rung4" / "tables.md").exists()
    assert study["losses"]["adm+raw"] != study["losses"]["sam-rho-0.2+raw"]
    again = rehearsed("rung4", tmp_path)
    assert again["plan"]["radii"] == [0.02, 0.2]
    assert again["study"]["losses"] == study["losses"]


# What each judgement would say of a card that is wrong.


def test_eleven_bits_are_seen() -> None:
    exact = torch.linspace(-1, 1, 1000, dtype=torch.float64)
    whole, short = exact.float(), exact.to(torch.bfloat16).float()
    assert parity.held(whole, whole, exact)["passed"]
    assert not parity.held(short, whole, exact)["passed"]
    tf32 = exact * (1 + 2.0**-12 * torch.sign(torch.sin(1e4 * exact)))
    assert not parity.held(tf32.float(), whole, exact)["passed"]
    with pytest.raises(FloatingPointError, match="the device gave a number that is not finite"):
        parity.held(torch.full((1000,), torch.nan), whole, exact)


def test_another_radius_and_another_noise_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = parity.Subject(tiny=True)
    calls: list[parity.Place] = []

    def on_third(name: str, value: object) -> Any:
        """A quantity whose device has another constant."""

        def run(place: parity.Place) -> Tensor:
            calls.append(place)
            if len(calls) % 3:
                return getattr(subject, quantity)(place)
            with monkeypatch.context() as patch:
                patch.setattr(parity, name, value)
                return getattr(subject, quantity)(place)

        return run

    for quantity, name, value in (("sam", "RHO", 1.02 * parity.RHO), ("low_pass", "SIGMA", 1.02 * parity.SIGMA)):
        assert not parity.three_ways(on_third(name, value), CPU)["passed"], quantity


def test_a_run_that_resumes_elsewhere_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(c: Any, options: Any, images: Any, **rest: Any) -> int:
        return train(c if options.out.name != "resumed" else dataclasses.replace(c, seed=1), options, images, **rest)

    monkeypatch.setattr(parity, "train", forgetful)
    assert not parity.resumed(True, CPU)["passed"]


def test_another_rounding_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, bits = parity.Subject(tiny=True), iter((4, 5))
    monkeypatch.setattr(parity, "quantized", lambda network, _: quantization.quantized(network, next(bits)))
    assert parity.rounded_weights(subject, CPU)["different"] > 0


# Rung 4's plan.


def test_radii_are_those_given_or_recorded_or_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert rung4.chosen_radii((0.5, 0.7), tmp_path)[0] == (0.5, 0.7)
    assert rung4.chosen_radii((), tmp_path)[0] == RADII
    doses = {"fashion-mnist-mini": 0.02, "fashion-mnist-tiny": 0.05}

    class Recorded:
        def __init__(self, folder: Path) -> None:
            self.name = folder.parent.name
            if self.name not in doses:
                raise LadderError("none")

        def dose_of(self, selection: Any) -> float:
            assert (selection.method, selection.weights, selection.dose) == ("sam", "raw", "chosen")
            return doses[self.name]

    monkeypatch.setattr(rung4, "Study", Recorded)
    assert rung4.chosen_radii((), tmp_path)[0] == (0.02, 0.05)
    del doses["fashion-mnist-tiny"]
    assert rung4.chosen_radii((), tmp_path)[0] == pytest.approx((0.02, 0.06))


@pytest.mark.parametrize("forward", [1e-6, 1e-4])
def test_steps_and_sizes_fit_the_time(forward: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timing = rung4.planning.Timing(128, [0.015] * 3, [0.005] * 3, None)
    monkeypatch.setattr(rung4.planning, "timed", lambda *_: timing)
    monkeypatch.setattr(rung4, "_forward_seconds", lambda *_: forward)
    options = GPUOptions(out=tmp_path, device="auto")
    plan = rung4.planned(options, CPU, seconds=240.0)
    assert plan["training_seconds"] == pytest.approx(plan["steps"] * 5 * 0.02)
    assert plan["training_seconds"] <= 0.5 * 240
    assert plan["steps"] >= 1100
    assert plan["points"][-1] == plan["steps"]
    assert plan["divisor"] == {1e-6: 1, 1e-4: rung4.DIVISORS[-1]}[forward]
    costs = [rung4.measuring_passes(configured(True), 100, (0.1, 0.2), rung4.sizes(d)) for d in rung4.DIVISORS]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0] / 4


def test_a_rung_of_a_card_has_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The points go to the study, with sizes that follow from the plan."""
    seen: dict[str, Any] = {}

    class Recorded:
        def __init__(self, *_: Any, **given: Any) -> None:
            seen.update(given)
            raise ValueError("far enough")

    monkeypatch.setattr(rung4, "Matrix", Recorded)
    monkeypatch.setattr(rung4, "_images", lambda options, base: (None, None))
    plan = {"radii": [0.1, 0.2], "steps": 400, "points": rung4.points_of(400), "divisor": 4}
    with pytest.raises(ValueError, match="far enough"):
        rung4.carried_out(GPUOptions(out=tmp_path, device="auto"), CPU, plan)
    assert seen["points"] == (320, 360, 400)
    assert seen["point_options"] == rung4.sizes(4).points
    assert seen["run_options"](tmp_path).points == (320, 360, 400)
