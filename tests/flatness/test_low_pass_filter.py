"""The low-pass filter against its closed form on quadratic losses, its invariances, and mutants of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.measuring import base
from flatness.measuring.low_pass_filter import low_pass_filter
from flatness.weights import GaussianNoise, derived_seed, matching_direction, moved, root_mean_square
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Quadratic, centres_around, quadratic_loss, symmetric, within_standard_errors

implementation = import_module("flatness.measuring.low_pass_filter")  # the package may export the function by this name


def small(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    """A short run for the checks that need no precision."""
    return low_pass_filter(model, loss, batches, **{"draws": 3, "sigma": 0.1, **own})


def check_quadratic() -> None:
    """The rise is sigma^2 tr(H) / 2, and LPF that much above the loss."""
    model = Quadratic()
    hessian = symmetric(definite=True)
    batches = centres_around(model)
    sigma = 0.05
    result = low_pass_filter(model, quadratic_loss(hessian), batches, sigma=sigma, draws=500)
    expected = sigma**2 * float(hessian.trace()) / 2
    assert result.rise.draw_standard_error < 0.05 * expected  # so that the next line says something
    assert within_standard_errors(result.rise, expected)
    with torch.no_grad():
        unmoved = torch.cat([quadratic_loss(hessian)(model, batch) for batch in batches])
    # sums of 7 terms in another order, in float64
    assert result.loss.value == pytest.approx(float(unmoved.mean()), rel=1e-14)
    assert result.loss.data_standard_error == pytest.approx(float(unmoved.std()) / math.sqrt(7), rel=1e-14)
    assert result.value.value == pytest.approx(result.loss.value + result.rise.value, rel=1e-14)


def check_linear() -> None:
    """For a linear loss each draw raises it by sigma g^T z, with z the noise that the seed names."""
    model = Quadratic()
    slope = torch.arange(1.0, 13.0, dtype=torch.float64)
    result = low_pass_filter(model, lambda m, batch: (slope * m()).sum(), [None], sigma=0.3, draws=4, seed=9)
    saved = [p.detach().clone() for p in model.parameters()]
    rises = []
    for draw in range(4):
        noise = torch.cat([z.double().flatten() for z in GaussianNoise(saved, derived_seed("draw", 9, draw))])
        rises.append(0.3 * float(slope @ noise))
    # float64 with cancellation between losses near 10 and rises near 1
    assert result.rise.value == pytest.approx(sum(rises) / 4, abs=1e-13)
    assert result.rise.draw_standard_error == pytest.approx(
        float(torch.tensor(rises, dtype=torch.float64).std()) / 2, abs=1e-12
    )


def check_errors() -> None:
    """The errors of LPF itself and of the rise, from the losses of each draw and sample, written out by hand."""
    model = Quadratic()
    loss, batches = quadratic_loss(symmetric()), centres_around(model)
    result = low_pass_filter(model, loss, batches, sigma=0.5, draws=5, seed=4)
    saved = [p.detach().clone() for p in model.parameters()]

    def losses() -> Tensor:
        with torch.no_grad():
            return torch.cat([loss(model, batch) for batch in batches])

    unmoved, drawn = losses(), []
    for draw in range(5):
        noise = GaussianNoise(saved, derived_seed("draw", 4, draw))
        with moved(model, dict(zip(dict(model.named_parameters()), noise, strict=True)), 0.5):
            drawn.append(losses())
    table = torch.stack(drawn)  # (5 draws, 7 samples)
    rises = table - unmoved
    exact = functools.partial(pytest.approx, rel=1e-11)  # float64, with cancellation between losses and their means
    assert result.value.value == exact(float(table.mean()))
    assert result.value.draw_standard_error == exact(float(table.mean(1).std()) / math.sqrt(5))
    assert result.value.data_standard_error == exact(float(table.mean(0).std()) / math.sqrt(7))
    assert result.rise.draw_standard_error == exact(float(rises.mean(1).std()) / math.sqrt(5))
    assert result.rise.data_standard_error == exact(float(rises.mean(0).std()) / math.sqrt(7))
    # Unlike enough that one taken for another is seen
    errors = [result.value.data_standard_error, result.rise.data_standard_error, result.value.draw_standard_error]
    errors.append(result.loss.data_standard_error)
    assert all(abs(a / b - 1) > 1e-2 for i, a in enumerate(errors) for b in errors[:i])


def check_relative(scale: str) -> None:
    """On a diagonal quadratic, E rise = sigma^2 / 2 sum_i H_ii s_i, s_i the mean square of the block of weight i."""
    model = Quadratic()
    with torch.no_grad():
        model.first[0] *= 5  # rows of unlike norms
    diagonal = torch.linspace(0.2, 2.0, 12, dtype=torch.float64)
    sigma = 0.2
    loss = quadratic_loss(torch.diag(diagonal))
    result = low_pass_filter(model, loss, centres_around(model, 0.0), sigma=sigma, draws=500, scale=scale)
    squares = []
    for weight in (model.first, model.second, model.third):
        by_row = scale == "filter" and weight.dim() == 2
        mean = weight.detach().square().mean(1, keepdim=True) if by_row else weight.detach().square().mean()
        mean = weight.detach().square() if scale == "weight" else mean
        squares.append(mean.expand(weight.shape).flatten())
    assert within_standard_errors(result.rise, float(sigma**2 / 2 * diagonal @ torch.cat(squares)))


MUTANTS = {
    "does nothing": common.still_weights,
    "half as far again": common.far_weights,
    "rise has the wrong sign": lambda: common.patched(
        common.base.PairedRises,
        "add",
        lambda self, losses: (
            self.sums.add_(self.unmoved - losses),
            self.means.append(-float((losses - self.unmoved).mean())),
        ),
    ),
    "noise is drawn once": lambda: common.patched(implementation, "derived_seed", lambda *parts: 0),
}


def test_quadratic() -> None:
    check_quadratic()
    check_linear()


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_fail_on_the_quadratic(name: str) -> None:
    with MUTANTS[name](), pytest.raises(AssertionError):
        check_quadratic()


def test_a_flipped_sign_of_the_noise_fails_on_the_linear_loss() -> None:
    with common.backward_weights(), pytest.raises(AssertionError):
        check_linear()


def of_level(error: Callable[[base.PairedRises, base.Estimate], tuple[float, float]]) -> Any:
    """Mutant: LPF with other errors, of the rises and the right estimate."""
    right = base.PairedRises.level

    def level(self: base.PairedRises, drawn: bool = True) -> base.Estimate:
        noise = right(self, drawn)
        return base.Estimate(noise.value, *error(self, noise))

    return common.patched(base.PairedRises, "level", level)


WRONG_ERRORS: dict[str, Callable[[base.PairedRises, base.Estimate], tuple[float, float]]] = {
    "the rise's over data": lambda own, level: (level.draw_standard_error, own.rise().data_standard_error),
    "the unmoved loss's": lambda own, level: (level.draw_standard_error, own.unmoved_loss().data_standard_error),
    "none over draws": lambda own, level: (0.0, level.data_standard_error),
    "the sum over draws": lambda own, level: (
        level.draw_standard_error, base.standard_error(own.unmoved + own.sums),
    ),
}  # fmt: skip


def test_errors_of_the_level_and_of_the_rise() -> None:
    check_errors()


@pytest.mark.parametrize("name", WRONG_ERRORS)
def test_another_error_of_the_level_is_seen(name: str) -> None:
    with of_level(WRONG_ERRORS[name]), pytest.raises(AssertionError):
        check_errors()


@pytest.mark.parametrize("scale", ["layer", "filter", "weight"])
def test_relative_noise(scale: str) -> None:
    check_relative(scale)
    with common.far_weights(), pytest.raises(AssertionError):
        check_relative(scale)
    other = {"layer": "filter", "filter": "layer", "weight": "filter"}[scale]
    original = common.weights.root_mean_square
    mutant = common.patched(common.weights, "root_mean_square", lambda weight, _: original(weight, other))
    with mutant, pytest.raises(AssertionError):
        check_relative(scale)


def test_relative_noise_does_not_see_a_rescaling_of_rectifier_layers_and_absolute_noise_does() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(3, 16), nn.Linear(16, 2, bias=False)
    model = nn.Sequential(first, nn.ReLU(), second).double()
    batches = [torch.randn(8, 3, dtype=torch.float64)]

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        return (net(x) - torch.randn(len(x), 2)).square().mean(1)

    def rises() -> dict[str, float]:
        names = ("absolute", "layer", "filter")
        return {
            name: low_pass_filter(model, loss, batches, sigma=0.1, draws=20, scale=name).rise.value for name in names
        }

    before = rises()
    with torch.no_grad():  # the same function: a = 8, a power of two, so that nothing is rounded
        first.weight.mul_(8)
        first.bias.mul_(8)
        second.weight.div_(8)
    after = rises()
    # a noise in float32 times a norm in float64 is rounded to float32: 6e-8 of the noise, times a few
    assert after["layer"] == pytest.approx(before["layer"], rel=1e-6)
    assert after["filter"] == pytest.approx(before["filter"], rel=1e-6)
    assert after["absolute"] > 10 * before["absolute"]


class Rectified(nn.Module):
    """Three layers of rectified neurons and a normalisation: many weights for one function."""

    def __init__(self) -> None:
        """Make it."""
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 16), nn.Linear(16, 12), nn.Linear(12, 8, bias=False)
        self.norm, self.last = nn.LayerNorm(8, eps=0.0), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's output."""
        inner = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(self.norm(self.third(inner)))


@torch.no_grad()
def rescaled(net: Rectified, seed: int) -> None:
    """The same function: a power of two, so that nothing is rounded, on each neuron and off what it enters."""
    generator = torch.Generator().manual_seed(seed)
    for layer, after in ((net.first, net.second), (net.second, net.third)):
        factors = 2.0 ** torch.randint(-4, 5, (layer.out_features,), generator=generator)
        layer.weight.mul_(factors[:, None])
        layer.bias.mul_(factors)
        after.weight.div_(factors)
    net.third.weight.mul_(8)  # a normalisation behind it


@pytest.mark.parametrize("seed", range(5))
def test_noise_in_proportion_to_each_weight_is_invariant_and_no_other_is(seed: int) -> None:
    """Whatever rescaling keeps a rectifier network's function: neuron by neuron, and in front of a normalisation."""
    torch.manual_seed(seed)
    net = Rectified()
    batches = [torch.randn(8, 3)]

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        return (net(x) - torch.randn(len(x), 2)).square().mean(1)

    def rises() -> dict[str, float]:
        names = common.weights.NOISE_SCALES
        return {
            name: low_pass_filter(net, loss, batches, sigma=0.05, draws=10, scale=name, seed=seed).rise.value
            for name in names
        }

    before, output = rises(), net(batches[0])
    rescaled(net, seed)
    after = rises()
    assert torch.equal(net(batches[0]), output), "the function is not the same"
    assert after["weight"] == before["weight"]  # to the bit: all factors are powers of two
    for name in set(before) - {"weight"}:
        assert abs(after[name] / before[name] - 1) > 0.1, name


def test_on_the_last_layer_noise_by_weight_costs_what_noise_by_column_does() -> None:
    """Theorem T7: sum_j |theta_j|^2 E phi_j^2 sigma^2 / m^2 is the rise of both."""
    torch.manual_seed(0)
    theta = nn.Linear(6, 3, bias=False).double()
    phi = torch.randn(50, 6, dtype=torch.float64).relu()

    def loss(layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x).square().sum(1)

    rise = low_pass_filter(theta, loss, [phi], sigma=0.1, draws=4000, scale="weight").rise
    columns = theta.weight.detach().square().sum(0)
    assert within_standard_errors(rise, float(0.1**2 * columns @ phi.square().mean(0)))


def test_standard_error_over_draws_is_honest() -> None:
    model = Quadratic()
    hessian = symmetric(definite=True)
    batches = centres_around(model)
    expected = 0.05**2 * float(hessian.trace()) / 2
    scores = []
    for seed in range(40):
        rise = low_pass_filter(model, quadratic_loss(hessian), batches, sigma=0.05, draws=100, seed=seed).rise
        scores.append((rise.value - expected) / rise.draw_standard_error)
    # the sum of 40 squared scores is about chi-squared: mean 40, standard deviation sqrt(80)
    assert abs(sum(score**2 for score in scores) - 40) < common.STANDARD_ERRORS * math.sqrt(80)


def test_standard_error_over_data_is_that_of_the_per_sample_rises() -> None:
    model = Quadratic()
    batches = centres_around(model)
    loss = quadratic_loss(symmetric(definite=True))
    result = low_pass_filter(model, loss, batches, sigma=0.3, draws=3)
    saved = [p.detach().clone() for p in model.parameters()]
    rises = torch.zeros(7, dtype=torch.float64)
    for draw in range(3):
        noise = GaussianNoise(saved, derived_seed("draw", 0, draw))
        with torch.no_grad():
            unmoved = torch.cat([loss(model, b) for b in batches])
            with moved(model, list(noise), 0.3):
                rises += torch.cat([loss(model, b) for b in batches]) - unmoved
    rises /= 3
    assert result.rise.value == pytest.approx(float(rises.mean()), rel=1e-12)
    assert result.rise.data_standard_error == pytest.approx(float(rises.std()) / math.sqrt(7), rel=1e-12)


def test_random_numbers_are_common_to_all_weight_settings_and_models() -> None:
    for eval_mode in (True, False):  # with dropout, and with buffers that change in each pass, where it is False
        own: Any = {"sigma": 0.0, "draws": 5, "eval_mode": eval_mode}
        still = low_pass_filter(common.Crowded(), common.noisy_loss, common.crowded_batches(), **own)
        assert still.rise.value == 0.0
        assert still.rise.draw_standard_error == 0.0
    one = low_pass_filter(Quadratic(), lambda m, b: m().sum(), [None], draws=3)
    other = low_pass_filter(Quadratic(5), lambda m, b: m().sum(), [None], draws=3)
    assert one.rise.value == pytest.approx(other.rise.value, abs=1e-14)  # a sum of 12 weights near 1, in float64
    unlike = low_pass_filter(Quadratic(), lambda m, b: m().sum(), [None], draws=3, seed=1)
    assert unlike.rise.value != pytest.approx(one.rise.value, rel=1e-3)


def test_batches_get_random_numbers_of_their_own_and_passes_the_same() -> None:
    drawn: list[Tensor] = []

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        drawn.append(torch.rand(3))
        return net(x).mean(1)

    small(common.Crowded(), loss, [torch.ones(2, 3), torch.ones(2, 3)])
    assert not torch.equal(drawn[0], drawn[1])
    assert all(torch.equal(values, drawn[index % 2]) for index, values in enumerate(drawn))


def test_only_the_selected_weights_move() -> None:
    model = common.Crowded()
    frozen = [p.detach().clone() for p in model.frozen.parameters()]
    seen: list[bool] = []

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        seen.append(all(torch.equal(a, b) for a, b in zip(model.frozen.parameters(), frozen, strict=True)))
        return common.noisy_loss(net, x)

    low_pass_filter(model, loss, common.crowded_batches(), draws=2, parameters="trainable")
    assert all(seen)
    seen.clear()
    low_pass_filter(model, loss, common.crowded_batches(), draws=2)
    assert seen == [True, True, False, False, False, False]


def test_modes_inside_are_as_asked_for() -> None:
    model = common.Crowded()
    mixed = [module.training for module in model.modules()]
    seen: list[list[bool]] = []

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        seen.append([module.training for module in net.modules()])
        return common.noisy_loss(net, x)

    for eval_mode, expected in ((True, [False] * len(mixed)), (False, mixed)):
        seen.clear()
        small(model, loss, common.crowded_batches(), eval_mode=eval_mode)
        assert seen == [expected] * 8


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    reports: list[tuple[int, int]] = []
    small(common.Crowded(), common.noisy_loss, common.crowded_batches(), progress=lambda *step: reports.append(step))
    assert reports == [(1, 3), (2, 3), (3, 3)]
    small(common.Crowded(), common.noisy_loss, common.crowded_batches())
    small(common.Crowded(), common.noisy_loss, common.crowded_batches(), progress=False)
    assert capsys.readouterr().err == ""  # not a terminal
    small(common.Crowded(), common.noisy_loss, common.crowded_batches(), progress=True)
    assert capsys.readouterr().err.endswith("\rlow-pass filter: 3/3, 0:00:00 left\n")


def test_costs_one_pass_for_each_draw_and_one_more() -> None:
    calls = []

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return common.noisy_loss(net, x)

    low_pass_filter(common.Crowded(), loss, common.crowded_batches(), draws=7)
    assert calls == [False] * (2 * 8)


def check_memory() -> None:
    """One copy of the weights, and a few tensors beside it."""
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(40)))
    weights = sum(p.numel() * 4 for p in model.parameters())
    with common.LiveBytes(model) as live:
        low_pass_filter(model, lambda m, x: m(x).mean(1), [torch.randn(2, 64)], draws=3, scale="filter")
    assert weights <= live.most <= 1.2 * weights  # 8 of 40 tensors beside the copy


def test_holds_one_copy_of_the_weights_and_a_few_tensors() -> None:
    check_memory()
    move = common.weights.SavedWeights.move
    greedy = common.patched(
        common.weights.SavedWeights, "move", lambda self, along, scale: move(self, list(along), scale)
    )
    with greedy, pytest.raises(AssertionError):
        check_memory()


def test_leaves_everything_as_it_was_and_the_check_sees_when_not() -> None:
    common.check_leaves_everything(small)
    common.check_kills_common_mutants(small)


def test_refuses_what_it_cannot_measure() -> None:
    common.check_refuses(small)
    common.check_refuses_parameters(small)
    for wrong, message in (
        ({"sigma": -0.1}, "sigma is -0.1"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"draws": 0}, "draws is 0"),
        ({"draws": 2.0}, "draws is 2.0"),
        ({"scale": "network"}, "scale is 'network'"),
        ({"sigma": 1e38}, "noise draw 0 of sigma 1e"),
    ):
        with pytest.raises(ValueError, match=message):
            small(common.Crowded(), common.noisy_loss, common.crowded_batches(), **wrong)


def test_result_is_reproducible_and_complete() -> None:
    common.check_result(small)
    settings = small(common.Crowded(), common.noisy_loss, common.crowded_batches()).settings
    assert settings["sigma"] == 0.1
    assert settings["draws"] == 3
    assert settings["scale"] == "absolute"
    once = small(common.Crowded(), common.noisy_loss, common.crowded_batches(), draws=1)
    assert math.isnan(once.rise.draw_standard_error)
    assert once.to_dict()["rise"]["draw_standard_error"] is None


@pytest.mark.parametrize("parts", [3, 4, 5, 7])
def test_one_batch_in_place_of_batches_is_told_by_its_first_parts(parts: int) -> None:
    batch = tuple(torch.zeros(2) for _ in range(parts))
    with pytest.raises(ValueError, match="batches is a tuple of ") as refused:
        base.fixed_batches(batch)
    kind = base._kind(batch[0])
    said = str(refused.value).removeprefix("batches is a tuple of ").partition(" allowed")[0]
    assert said == (", ".join([kind] * min(parts, 4)) + (", ..." if parts > 4 else "") + ";")


def test_a_layer_s_size_has_the_precision_of_its_weights() -> None:
    fine = 1 + 2.0**-40
    for scale in ("layer", "filter"):
        size = root_mean_square(torch.full((3, 2), fine, dtype=torch.float64), scale)
        assert size.dtype == torch.float64
        assert float(size.max()) == pytest.approx(fine, rel=2.0**-50)


@pytest.mark.parametrize("size", [1e300, math.inf, math.nan])
def test_a_direction_beyond_the_weights_type_is_refused(size: float) -> None:
    along = {"w": torch.full((2,), size, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"direction for 'w' is .*real and finite"):
        matching_direction("direction", along, {"w": torch.zeros(2)})
    if math.isfinite(size):
        assert matching_direction("direction", along, {"w": torch.zeros(2, dtype=torch.float64)})
