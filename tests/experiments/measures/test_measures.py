"""The measures of a row where the truth is known: a network that is its last layer, and mutants of the wiring."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

import flatness
from experiments.measures import weight_noise
from experiments.measures.options import EVALUATIONS
from experiments.measures.subject import Subject
from experiments.measures.tasks import Task, tasks, tasks_of
from tests.experiments.measures.small_rows import OPTIONS, Readout, material, subject

STANDARD_ERRORS = 5.0
"""Passed by a right implementation but for 6 of 10^7 seeds, were errors known; seeds are fixed."""
ROUNDING = 1e-5
"""Relative, of sums of some hundred products in float32 (6e-8 each) that add up in another order."""
DRAWS = dataclasses.replace(OPTIONS, lpf_draws=64, curve_draws=256, readout_draws=64, curve_rms=(0.02, 0.05))


def everything(of: Subject) -> tuple[Tensor, Tensor]:
    """Targets (N, 1, L) and patches with a one for the bias (N, m + 1, L), in float64, computed without the network."""
    parts = of.batches
    x = torch.cat([part.x_t for part in parts])
    t = of.process.network_timesteps(torch.cat([part.t for part in parts]))
    patches = unfold(Readout.features(x, t), 3, padding=1).double()
    ones = torch.ones_like(patches[:, :1])
    return torch.cat([part.noise for part in parts]).flatten(2).double(), torch.cat([patches, ones], dim=1)


def mse_of(of: Subject, theta: Tensor) -> float:
    """The mean squared error with weights theta (2, m + 1): of the noise's channel alone."""
    targets, phi = everything(of)
    return float((targets[:, 0] - torch.einsum("k,nkl->nl", theta[0].double(), phi)).square().mean())


def theta_of(network: nn.Module) -> Tensor:
    assert isinstance(network, Readout)
    return torch.cat([network.last.weight.detach().flatten(1), network.bias.detach()[:, None]], dim=1).double()


def energy(of: Subject) -> float:
    """E|phi|^2 without the bias's one."""
    _, phi = everything(of)
    return float(phi[:, :-1].square().sum(1).mean())


def fitted() -> Readout:
    """A network at the minimum of the loss: without a linear part, noise scatters the loss about its mean little."""
    network = Readout()
    targets, phi = everything(subject(network, FINE))
    solution = torch.linalg.lstsq(phi.transpose(1, 2).flatten(0, 1), targets[:, 0].flatten()).solution
    with torch.no_grad():
        network.last.weight[0] = solution[:-1].view_as(network.last.weight[0])
        network.bias[0] = solution[-1]
    return network


def close(estimate: dict[str, Any], expected: float) -> bool:
    error = estimate["draw_standard_error"]
    return abs(estimate["value"] - expected) <= STANDARD_ERRORS * error + ROUNDING * abs(expected)


def check_loss(of: Subject) -> None:
    loss = weight_noise.held_out_loss(of)
    expected = mse_of(of, theta_of(of.network))
    assert loss["mse"]["value"] == pytest.approx(expected, rel=ROUNDING)
    assert loss["loss"]["value"] == pytest.approx(loss["mse"]["value"] + loss["vb"]["value"], rel=ROUNDING)
    assert sum(loss["by_image"]) / len(loss["by_image"]) == pytest.approx(expected, rel=ROUNDING)


def check_lpf(of: Subject) -> None:
    measured = weight_noise.low_pass("absolute")(of)
    rise = of.options.sigma**2 * (energy(of) + 1)
    assert close(measured["rise"], rise)
    assert measured["rise"]["draw_standard_error"] < rise / 2  # or nothing could fail above
    assert measured["value"]["value"] == pytest.approx(
        measured["loss"]["value"] + measured["rise"]["value"], rel=ROUNDING
    )
    weight = theta_of(of.network)[:, :-1]
    bias = theta_of(of.network)[:, -1]
    relative = weight_noise.low_pass("layer")(of)["rise"]
    sigma = of.options.relative_sigma
    assert close(relative, sigma**2 * float(weight.square().mean() * energy(of) + bias.square().mean()))
    assert relative["draw_standard_error"] < relative["value"] / 2
    rows = weight_noise.low_pass("filter")(of)["rise"]
    own = weight[0].square().mean() * energy(of) + bias.square().mean()  # the noise's row of weights counts
    assert close(rows, sigma**2 * float(own))


def check_curve(of: Subject) -> None:
    curve = weight_noise.random_curve(of)
    for rms, rise in zip(of.options.curve_rms, curve["rises"], strict=True):
        expected = rms**2 * (energy(of) + 1)
        assert close(rise, expected)
        assert rise["draw_standard_error"] < expected / 2


def check_gradient(of: Subject) -> None:
    theta = theta_of(of.network)
    targets, phi = everything(of)
    off = torch.einsum("k,nkl->nl", theta[0], phi) - targets[:, 0]
    gradient = 2 * torch.einsum("nl,nkl->k", off, phi) / off.numel()
    moved = theta.clone()
    for distance, loss in zip(of.options.gradient_distances, weight_noise.gradient_curve(of)["losses"], strict=True):
        moved[0] = theta[0] + distance * gradient / gradient.norm()
        assert loss["value"] == pytest.approx(mse_of(of, moved), rel=ROUNDING)


def check_rounding(of: Subject) -> None:
    network = of.network
    assert isinstance(network, Readout)
    for bits in of.options.rise_bits:
        parts = []
        for tensor in (network.last.weight.detach().flatten(1), network.bias.detach()[:, None]):
            step = tensor.double().abs().max() / (2 ** (bits - 1) - 1)
            parts.append((tensor.double() / step).round() * step)
        rises, theta = weight_noise.rounding(bits)(of), theta_of(network)
        assert rises["value"]["value"] == pytest.approx(mse_of(of, torch.cat(parts, dim=1)), rel=ROUNDING)
        error = float(torch.linalg.vector_norm(torch.cat(parts, dim=1) - theta))
        assert rises["weight_error"] == pytest.approx(error, rel=ROUNDING)


def check_readout(of: Subject) -> None:
    readout = weight_noise.last_layer(of)
    assert readout["layer"] == "last"
    assert readout["feature_energy"]["value"] == pytest.approx(energy(of), rel=ROUNDING)
    assert readout["weights"]["norm"] == pytest.approx(float(theta_of(of.network).norm()), rel=ROUNDING)
    for name in ("lpf-absolute", "lpf-layer"):
        rise = readout["rises"][name]
        assert close(rise["measured"], rise["predicted"]["value"])
        assert rise["measured"]["draw_standard_error"] < rise["measured"]["value"] / 2
    assert readout["rises"]["lpf-absolute"]["predicted"]["value"] == pytest.approx(
        of.options.sigma**2 * (energy(of) + 1), rel=ROUNDING
    )


def check_surface(of: Subject) -> None:
    surface = weight_noise.surface(of)
    side, network = of.options.surface_points, of.network
    assert isinstance(network, Readout)
    middle = side // 2
    assert surface["first"][middle] == surface["second"][middle] == 0.0
    assert surface["losses"][middle][middle]["value"] == pytest.approx(mse_of(of, theta_of(network)), rel=ROUNDING)
    # Along a line of a quadratic loss second differences are all alike, and not zero
    line = [row[middle]["value"] for row in surface["losses"]]
    second = [a - 2 * b + c for a, b, c in zip(line, line[1:], line[2:], strict=False)]
    assert second[0] > 0
    assert second == pytest.approx([second[0]] * len(second), rel=1e-3)  # differences lose some three digits of seven


CHECKS: dict[str, Callable[[Subject], None]] = {
    "loss": check_loss,
    "lpf": check_lpf,
    "curve": check_curve,
    "gradient": check_gradient,
    "rounding": check_rounding,
    "readout": check_readout,
    "surface": check_surface,
}
FINE = dataclasses.replace(DRAWS, surface_points=5, rise_bits=(8, 4, 3), gradient_distances=(0.1, 0.3))


@pytest.mark.parametrize("name", CHECKS)
def test_on_a_network_of_one_layer_every_measure_is_the_closed_form(name: str) -> None:
    CHECKS[name](subject(network_of(name), FINE))


def network_of(check: str) -> Readout:
    """Where a mean over draws is checked, one at its minimum."""
    return fitted() if check in ("lpf", "curve", "readout") else Readout()


def _other_selection(name: str) -> Callable[..., Any]:
    """The instrument applied to the wrong weights."""
    instrument = getattr(flatness, name)
    return lambda *args, **kwargs: instrument(*args, **{**kwargs, "parameters": ["last.bias"]})


def _other_network(name: str) -> Callable[..., Any]:
    """The instrument applied to another network."""
    instrument = getattr(flatness, name)
    return lambda network, *args, **kwargs: instrument(Readout(seed=5), *args, **kwargs)


def _nothing(name: str, **changes: Any) -> Callable[..., Any]:
    """The instrument with settings under which it does nothing, or the opposite."""
    instrument = getattr(flatness, name)
    return lambda *args, **kwargs: instrument(*args, **{**kwargs, **changes})


def _negated(name: str, scale: float) -> Callable[..., Any]:
    """The curve towards smaller losses, or at no distance."""
    instrument = getattr(flatness, name)

    def run(network: Any, loss: Any, batches: Any, distances: Any, **kwargs: Any) -> Any:
        return instrument(network, loss, batches, [scale * d for d in distances], **kwargs)

    return run


MUTANTS = [
    ("lpf", "low_pass_filter", _other_selection("low_pass_filter")),
    ("lpf", "low_pass_filter", _other_network("low_pass_filter")),
    ("lpf", "low_pass_filter", _nothing("low_pass_filter", sigma=0.0)),
    ("lpf", "low_pass_filter", _nothing("low_pass_filter", scale="absolute")),
    ("curve", "perturbation_curve", _other_selection("perturbation_curve")),
    ("curve", "perturbation_curve", _other_network("perturbation_curve")),
    ("curve", "perturbation_curve", _negated("perturbation_curve", 0.0)),
    ("gradient", "perturbation_curve", _nothing("perturbation_curve", directions="random", gradient_batches=None)),
    ("gradient", "perturbation_curve", _negated("perturbation_curve", 0.0)),
    ("rounding", "quantization_rise", _other_selection("quantization_rise")),
    ("rounding", "quantization_rise", _other_network("quantization_rise")),
    ("rounding", "quantization_rise", _nothing("quantization_rise", scheme="minmax")),
    ("readout", "readout", _other_network("readout")),
    ("readout", "low_pass_filter", _nothing("low_pass_filter", parameters=None, scale="layer")),
    ("readout", "low_pass_filter", _nothing("low_pass_filter", sigma=0.0)),
    ("surface", "loss_surface", _other_network("loss_surface")),
]


@pytest.mark.parametrize(("check", "instrument", "mutant"), MUTANTS)
def test_a_measure_that_is_wired_wrongly_is_caught(
    check: str, instrument: str, mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if check == "readout" and instrument == "readout":
        original = flatness.readout
        monkeypatch.setattr(flatness, "readout", lambda n, loss, b, **k: original(n, loss, b[:1], **k))
    else:
        monkeypatch.setattr(flatness, instrument, mutant)
    with pytest.raises(AssertionError):
        CHECKS[check](subject(network_of(check), FINE))


def test_a_sign_flipped_loss_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Subject.objective
    monkeypatch.setattr(Subject, "objective", lambda self, network, batch: -original(self, network, batch))
    for name in ("lpf", "curve", "gradient", "rounding", "surface"):
        with pytest.raises(AssertionError):
            CHECKS[name](subject(network_of(name), FINE))


def test_rows_are_measured_on_the_same_images_and_noise_whatever_the_batch_size() -> None:
    first, second = subject(Readout(), batch_size=3).batches, subject(Readout(seed=1), batch_size=16).batches
    for name in ("x_0", "x_t", "noise", "t"):
        assert torch.equal(*(torch.cat([getattr(part, name) for part in parts]) for parts in (first, second)))
    other = subject(Readout(), dataclasses.replace(OPTIONS, seed=1)).batches
    assert not torch.equal(torch.cat([p.noise for p in first]), torch.cat([p.noise for p in other]))
    a, b = (weight_noise.low_pass("absolute")(subject(Readout(), batch_size=size)) for size in (3, 16))
    assert a["rise"]["value"] == pytest.approx(b["rise"]["value"], rel=1e-3)  # a difference of nearly equal float32


def test_the_costs_are_the_passes_that_are_made() -> None:
    class Counting(Readout):
        images = 0

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.images += len(x)
            return super().forward(x, t)

    for name, task in tasks_of(subject(Counting(), FINE)).items():
        network = Counting()
        task.run(subject(network, FINE))
        backward = 2 * FINE.images if name == "curve-gradient" else 0
        # The readout sees its first batch once more, at most all images
        assert 0 <= task.passes - backward - network.images <= (FINE.images if name == "readout" else 0), name


def test_the_presets_cost_what_the_head_of_the_module_says() -> None:
    for name, passes in (("demo", 6e3), ("tiny", 1.2e5), ("full", 2.3e7)):
        options = EVALUATIONS[name]  # type: ignore[index]
        chosen = tasks(options, options.images, options.exposure_images, with_distances=True)
        assert sum(task.passes for task in chosen.values()) == pytest.approx(passes, rel=0.06)  # rounded to two digits
        assert all(isinstance(task, Task) for task in chosen.values())


def test_a_network_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="training mode"):
        Subject(Readout().train(), subject(Readout()).process, OPTIONS, material())


def test_without_features_there_are_no_distances() -> None:
    assert not any(name.startswith("frechet") for name in tasks_of(subject(Readout())))
    assert math.isfinite(weight_noise.held_out_loss(subject(Readout()))["vb"]["value"])
