"""Losses in nats: alike for all parametrisations, exact on Gaussian data, and as a curve over timesteps."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

import flatness
from flatness.diffusion.likelihood import bits_per_dimension, likelihood_loss, likelihood_weights
from flatness.diffusion.losses import edm_loss, epsilon_loss, fixed_batches
from flatness.diffusion.noise_paths import DiscretePath
from flatness.measuring.low_pass_filter import low_pass_filter
from flatness.measuring.quantization import quantization_rise
from tests.flatness import measures_common as common
from tests.flatness.adapters_common import BARS, NAMES, SPREAD, Gains, case

curve_module = import_module("flatness.measuring.rise_by_timestep")  # the package exports the function by this name
SHAPE = (2, 2)


def data(count: int, seed: int = 0) -> Tensor:
    """Gaussian samples of four entries, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return SPREAD * torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)


def gain_model() -> Gains:
    """The best noise prediction of Gaussian data, a gain a step: every weight acts at one step alone."""
    return case("epsilon").model()


def test_weights_by_hand() -> None:
    """Two steps of alpha_bar .9 and .6: beta .1 and 1/3, the small variance 1/3 * .1/.4 = 1/12 at both."""
    bars = torch.tensor([0.9, 0.6], dtype=torch.float64)
    large = [0.1**2 / (2 * 0.1 * 0.9 * 0.1), (1 / 9) / (2 / 3 * 2 / 3 * 0.4)]
    small = [0.1**2 / (2 / 12 * 0.9 * 0.1), (1 / 9) / (2 / 12 * 2 / 3 * 0.4)]
    assert likelihood_weights(bars, "large").tolist() == pytest.approx(large, rel=1e-12)
    assert likelihood_weights(bars).tolist() == pytest.approx(small, rel=1e-12)
    assert bits_per_dimension(6 * math.log(2), 3) == pytest.approx(2)


def test_every_parametrisation_of_one_predictor_has_the_same_nats() -> None:
    """The best networks are one noise prediction; so are the same ones a little off, in the noise they stand for."""
    batches = fixed_batches(data(64), batch_size=20)
    losses = {}
    for name in NAMES:
        of = case(name)
        in_nats = likelihood_loss(of.loss, times=of.times)
        losses[name] = torch.cat([in_nats(of.model(), batch) for batch in batches]).detach()
    first = losses["epsilon"]
    assert float(first.std()) > 0.1
    for name, loss in losses.items():
        # paths that are rescaled against one another, in float64; edm's times are in float64 logarithms
        assert torch.allclose(loss, first, rtol=1e-6), name


def check_exact_rise(instrument: Any = low_pass_filter) -> None:
    """Noise s on a step's gain raises the squared error there by s^2 D E x_t^2: nats by the weights, by hand."""
    sigma, weights = 0.05, likelihood_weights(BARS)
    power = BARS * SPREAD**2 + 1 - BARS
    expected = float(sigma**2 * 4 * (weights * power).sum())
    loss = likelihood_loss(epsilon_loss(BARS))
    batches = fixed_batches(data(4000), batch_size=2000)
    rise = instrument(gain_model(), loss, batches, sigma=sigma, draws=400)
    assert rise.rise.draw_standard_error < 0.05 * expected  # so that the next line says something
    error = math.hypot(rise.rise.draw_standard_error, rise.rise.data_standard_error)
    assert rise.rise.value == pytest.approx(expected, abs=4 * error)


def test_the_rise_in_nats_is_exact_on_gaussian_data() -> None:
    check_exact_rise()


def test_an_instrument_that_does_nothing_or_flips_the_sign_is_noticed() -> None:
    def nothing(*given: Any, **own: Any) -> Any:
        return low_pass_filter(*given, **own | {"sigma": 0.0})

    def flipped(*given: Any, **own: Any) -> Any:
        rise = low_pass_filter(*given, **own)
        return dataclasses.replace(rise, rise=dataclasses.replace(rise.rise, value=-rise.rise.value))

    for mutant in (nothing, flipped):
        with pytest.raises(AssertionError):
            check_exact_rise(mutant)


def check_curve(instrument: Any = flatness.rise_by_timestep) -> None:
    """Each step's gain is its own: rises in the loss's unit are s^2 E x_t^2, nats w_t D times that, and sum up."""
    sigma, power = 0.05, BARS * SPREAD**2 + 1 - BARS
    batches = fixed_batches(data(4000), batch_size=2000)
    curve = instrument(gain_model(), epsilon_loss(BARS), batches, bins=4, sigma=sigma, draws=400)
    assert [(b.first, b.last, b.samples) for b in curve.bins] == [(t, t, 1000) for t in range(4)]
    for index, one in enumerate(curve.bins):
        expected = sigma**2 * float(power[index])
        assert one.rise.draw_standard_error < 0.1 * expected
        error = math.hypot(one.rise.draw_standard_error, one.rise.data_standard_error)
        assert one.rise.value == pytest.approx(expected, abs=4 * error)
        own = float(likelihood_weights(BARS)[index]) * 4
        assert one.nats.value == pytest.approx(one.rise.value * own, rel=1e-9)
    assert sum(one.nats.value for one in curve.bins) == pytest.approx(curve.nats.value, rel=1e-12)
    assert curve.bits_per_dimension.value == pytest.approx(curve.nats.value / (4 * math.log(2)), rel=1e-12)
    shares = [one.samples / 4000 * one.rise.value for one in curve.bins]
    assert curve.rise.value == pytest.approx(sum(shares), rel=1e-12)


def test_the_curve_over_timesteps_is_exact_on_gaussian_data() -> None:
    check_curve()


def test_a_curve_that_does_nothing_or_loses_its_weights_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*given: Any, **own: Any) -> Any:
        return flatness.rise_by_timestep(*given, **own | {"sigma": 0.0})

    with pytest.raises(AssertionError):
        check_curve(nothing)

    def uniform(loss: Any, **own: Any) -> Any:
        in_nats = likelihood_loss(loss, **own)
        return dataclasses.replace(in_nats, factors=torch.ones_like(in_nats.factors))

    def flipped(loss: Any, **own: Any) -> Any:
        in_nats = likelihood_loss(loss, **own)
        return dataclasses.replace(in_nats, factors=-in_nats.factors)

    for mutant in (uniform, flipped):
        monkeypatch.setattr(curve_module, "likelihood_loss", mutant)
        with pytest.raises(AssertionError):
            check_curve()


def test_the_curve_and_the_low_pass_filter_are_one_measure() -> None:
    batches = fixed_batches(data(40), batch_size=16)
    model, own = gain_model(), {"sigma": 0.1, "draws": 5, "seed": 3}
    curve = flatness.rise_by_timestep(model, epsilon_loss(BARS), batches, bins=2, **own)  # type: ignore[arg-type]
    filtered = low_pass_filter(model, likelihood_loss(epsilon_loss(BARS)), batches, **own)  # type: ignore[arg-type]
    assert curve.nats.value == pytest.approx(filtered.rise.value, rel=1e-12)
    assert curve.nats.draw_standard_error == pytest.approx(filtered.rise.draw_standard_error, rel=1e-9)
    plain = low_pass_filter(model, epsilon_loss(BARS), batches, **own)  # type: ignore[arg-type]
    assert curve.rise.value == pytest.approx(plain.rise.value, rel=1e-12)
    assert curve.loss.value == pytest.approx(plain.loss.value, rel=1e-12)


def test_bare_batches_draw_their_times_and_are_told_apart() -> None:
    """Tensors without noise and times of their own: drawn by the seed, the same at every draw."""
    curves = [
        flatness.rise_by_timestep(gain_model(), epsilon_loss(BARS), [data(32), data(8, 1)], bins=2, draws=2, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert curves[0].nats == curves[1].nats
    assert curves[0].nats != curves[2].nats
    assert sum(one.samples for one in curves[0].bins) == 40


def test_rounding_in_nats_is_the_loss_of_the_rounded_model() -> None:
    model, loss = gain_model(), likelihood_loss(epsilon_loss(BARS))
    batches = fixed_batches(data(64), batch_size=64)
    rise = quantization_rise(model, loss, batches, 3)
    with torch.no_grad(), flatness.quantized(model, 3):
        rounded = float(loss(model, batches[0]).mean())
    with torch.no_grad():
        assert rise.rise.value == pytest.approx(rounded - float(loss(model, batches[0]).mean()), rel=1e-9)


def test_the_model_and_the_generators_are_left_alone_and_results_are_json() -> None:
    model = gain_model()
    before, random = common.state_of(model), torch.get_rng_state()
    curve = flatness.rise_by_timestep(model, epsilon_loss(BARS), fixed_batches(data(16)), bins=4, draws=2)
    assert common.same(before, common.state_of(model))
    assert torch.equal(random, torch.get_rng_state())
    assert json.loads(json.dumps(curve.to_dict()))["bins"][3]["first"] == 3
    assert likelihood_loss(epsilon_loss(BARS)).settings()["unit"] == "nats"


def test_steps_that_do_not_fill_bins_evenly_all_have_one() -> None:
    bars = torch.linspace(0.99, 0.01, 7, dtype=torch.float64)
    model = Gains(torch.arange(7.0), torch.ones(7, dtype=torch.float64))
    curve = flatness.rise_by_timestep(model, epsilon_loss(bars), fixed_batches(data(70)), bins=3, draws=2)
    assert [(one.first, one.last) for one in curve.bins] == [(0, 2), (3, 4), (5, 6)]
    assert [one.samples for one in curve.bins] == [30, 20, 20]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: likelihood_loss(lambda model, batch: 0.0), "loss is"),  # type: ignore[arg-type]
        (lambda: likelihood_loss(epsilon_loss(BARS), variance="learned"), "variance is 'learned'"),
        (lambda: likelihood_loss(epsilon_loss(BARS, weight=lambda a, s: a)), "loss's weight"),
        (lambda: likelihood_loss(epsilon_loss(torch.tensor([0.9, 0.0]))), "alphas_cumprod"),
        (lambda: likelihood_weights(BARS[:1]), "alphas_cumprod is .*at least two steps"),
        (lambda: likelihood_weights(BARS[None]), "alphas_cumprod is"),
        (lambda: bits_per_dimension(1.0, 0), "dimension is 0"),
        (
            lambda: flatness.rise_by_timestep(gain_model(), epsilon_loss(BARS), [data(9)], bins=5),
            "bins is 5; allowed: at most the number of steps, 4",
        ),
        (
            lambda: flatness.rise_by_timestep(gain_model(), epsilon_loss(BARS), fixed_batches(data(2)), bins=4),
            "bins is 4, and no sample lies at the steps",
        ),
    ],
)
def test_what_has_no_likelihood_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_continuous_processes_have_a_thousand_steps() -> None:
    for loss in (flatness.flow_loss(), edm_loss()):
        in_nats = likelihood_loss(loss)
        assert len(in_nats.weights) == 1000
        assert bool((in_nats.weights > 0).all())
    assert isinstance(likelihood_loss(epsilon_loss(BARS)).loss.path, DiscretePath)
