"""All measures on networks of many kinds: nothing is disturbed, numbers are the library's, and models are paired."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flatness
from flatness.cli import runner, tasks
from flatness.cli.data import Data
from flatness.cli.document import document, json_bytes
from flatness.cli.errors import CommandError
from flatness.cli.options import FULL_IMAGES, QUICK, QUICK_IMAGES, MeasureOptions, PlaceOptions
from flatness.cli.report import differences
from flatness.cli.runner import Common, Measured, gathered, measured
from flatness.cli.sources import subject_of
from flatness.diffusion.losses import Batch, fixed_batches
from tests.flatness import measures_common as common_checks
from tests.flatness.cli import models
from tests.flatness.networks import SHAPE

SMALL = MeasureOptions(
    images=6, draws=2, curve_rms=(0.01,), curve_draws=2, bits=(4,), steps=(3,), exposure_images=4, curvature=True,
    probes=2, lanczos_steps=2,
)  # fmt: skip
PLACE = PlaceOptions(device="cpu", batch_size=4, gradient_batch=3)


@dataclasses.dataclass(frozen=True)
class Random(Data):
    """Random images with labels."""

    def chosen(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(self.available, *SHAPE, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
        chosen = self.indices(count, seed)
        return x[chosen], torch.tensor(chosen) % 3


DATA = Random("random", 9)


def common(**changes: Any) -> Common:
    """Data and options of a short run."""
    subjects = [subject_of("x:mlp", models.mlp())]
    return gathered(subjects, DATA, dataclasses.replace(SMALL, **changes), PLACE)


def taken(source: Callable[[], Any], **changes: Any) -> Measured:
    """All measures of a source."""
    return measured(subject_of(f"models:{source.__name__}", source()), common(**changes))


ALL = {
    "loss", "lpf-absolute.rise", "lpf-layer.rise", "lpf-filter.rise", "curve.rise-0.01", "quantization-4.rise",
    "exposure-3.gap", "curvature.top", "curvature.trace", "readout.energy",
}  # fmt: skip
SOURCES = [
    models.mlp, models.crowded, models.dit, models.diffusers_unet, models.labelled_unet, models.narrow, models.compiled,
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_every_measure_takes_networks_that_it_has_never_seen_and_leaves_them_alone(source: Callable[[], Any]) -> None:
    returned = source()
    before = common_checks.state_of(returned[0])
    network = measured(subject_of("x:y", returned), common())
    assert common_checks.same(before, common_checks.state_of(returned[0]))
    assert network.failed == {}
    assert network.left_out == {}
    assert set(network.quantities) >= ALL
    # the transformer folds its readout's output into an image, so that its error is not the readout's
    assert ("readout.quantization-4-predicted" in network.quantities) == (source is not models.dit)
    assert all(quantity.number.value == quantity.number.value for quantity in network.quantities.values())
    text = json_bytes(document([network], common(), DATA))
    numbers = json.loads(text)["sources"]["y"]["numbers"]
    assert len(numbers["lpf-filter.rise"]["parts"][0]["by_sample"]) == 6


def test_a_network_without_a_readout_of_its_own_is_measured_without_it() -> None:
    network = taken(models.tied_last)
    assert network.failed == {}
    assert "shares its weight" in network.left_out["readout"]
    assert "lpf-layer.rise" in network.quantities
    # flow matching has no steps of its own: 1000 stand for it
    assert "exposure-3.gap" in network.quantities


def test_a_loss_of_ones_own_is_measured_without_process_and_predictions() -> None:
    network = taken(models.own_loss)
    assert network.left_out == {"exposure-3": "the source gives no process"}
    assert "readout.energy" in network.quantities
    assert not any("predicted" in name for name in network.quantities)


def test_a_discrete_process_gives_rises_in_bits_per_dimension_and_no_other_loss_does() -> None:
    """The library's own numbers for the same loss in nats, on the same batches."""
    model, loss = models.mlp()
    quantities, at = taken(models.mlp).quantities, common()
    batches = fixed_batches(at.x_0, batch_size=6, seed=0)
    in_nats = flatness.likelihood_loss(loss)
    per_bit = at.x_0[0].numel() * math.log(2.0)
    noise = flatness.low_pass_filter(model, in_nats, batches, sigma=0.05, draws=2, scale="filter")
    rounded = flatness.quantization_rise(model, in_nats, batches, 4)
    for name, expected in (("lpf-filter.bits", noise.rise), ("quantization-4.bits", rounded.rise)):
        # float32 losses in batches of other sizes, a hundred times their rises and more
        assert quantities[name].number.value == pytest.approx(expected.value / per_bit, rel=2e-3)
        assert quantities[name].number.data_error == pytest.approx(expected.data_standard_error / per_bit, rel=2e-3)
        assert quantities[name].number.value != 0
    for other in (models.own_loss, models.tied_last):  # unknown, and flow matching, whose time is continuous
        assert not any(name.endswith(".bits") for name in taken(other).quantities)


def check_numbers() -> None:
    """The numbers are those that the library's functions give on the same batches, with their errors."""
    quantities, at = taken(models.mlp).quantities, common()
    model, loss = models.mlp()
    batches = fixed_batches(at.x_0, batch_size=6, seed=0)
    noise = flatness.low_pass_filter(model, loss, batches, sigma=0.05, draws=2, scale="filter")
    rounded = flatness.quantization_rise(model, loss, batches, 4)
    curve = flatness.perturbation_curve(
        model, loss, batches, [0.01 * sum(p.numel() for p in model.parameters()) ** 0.5], draws=2,
        seed=tasks.derived_seed("curve", 0),
    )  # fmt: skip
    process = flatness.sampling_process(model, loss)
    exposure = flatness.exposure_bias(process.epsilon_model, process.alphas_cumprod, [0, 6, 11], at.x_0[:4])
    last = flatness.readout(model, loss, batches)
    expected = {
        "loss": noise.loss,
        "lpf-filter.value": noise.value,
        "lpf-filter.rise": noise.rise,
        "quantization-4.rise": rounded.rise,
        "curve.rise-0.01": curve.rises[0],
        "exposure-3.gap": exposure.mean_absolute_gap,
        "exposure-3.signed-gap": exposure.mean_signed_gap,
        "readout.energy": last.feature_energy,
        "readout.noise-predicted": last.noise_rise(0.05, scale="layer"),
        "readout.quantization-4-predicted": last.quantization_rise(4),
        "readout.quantization-4-measured": flatness.quantization_rise(
            model, loss, batches, 4, parameters=["last.weight"]
        ).rise,
    }
    for name, estimate in expected.items():
        # float32, batches of other sizes: rounding of losses near 1 against rises near .001
        assert quantities[name].number.value == pytest.approx(estimate.value, rel=1e-3, abs=1e-6), name
        assert quantities[name].number.draw_error == pytest.approx(estimate.draw_standard_error, rel=1e-2, abs=1e-7), (
            name
        )
        assert quantities[name].number.data_error == pytest.approx(estimate.data_standard_error, rel=1e-2, abs=1e-7), (
            name
        )


def test_numbers_are_the_librarys() -> None:
    check_numbers()


def test_mutants_of_the_numbers_fail() -> None:
    rows = tasks.RecordedLoss.matrix
    mutants = (
        common_checks.patched(tasks.RecordedLoss, "matrix", lambda self, n: -rows(self, n)),
        common_checks.patched(tasks.RecordedLoss, "matrix", lambda self, n: rows(self, n)[:1].expand(n, -1)),
        common_checks.patched(tasks.RecordedNorms, "norms", lambda self, s, n: (torch.zeros(s, n),) * 2),
        common_checks.patched(torch.Tensor, "flip", lambda self, dim: self),
    )
    for mutant in mutants:
        with mutant, pytest.raises(AssertionError):
            check_numbers()


def test_rises_in_bfloat16_are_those_in_float32_to_its_precision() -> None:
    """Autocast lies around a whole measure, and would go on with the weights that it cast at first."""
    wide, low = (taken(models.mlp, precision=name, steps=(), relative_sigma=0.5).quantities for name in
                 ("float32", "bfloat16"))  # fmt: skip
    for name in ("lpf-layer.rise", "lpf-filter.rise", "quantization-4.rise", "curvature.trace"):
        # losses near 1 err by some .4% each, by less in the mean over them
        assert low[name].number.value == pytest.approx(wide[name].number.value, rel=0.2, abs=2e-3)
        assert low[name].number.value != wide[name].number.value
    assert low["lpf-layer.rise"].number.value > 0.02


def test_common_random_numbers_make_equal_networks_equal_and_pair_unequal_ones() -> None:
    at = common()
    networks = [measured(subject_of(f"m:{name}", source()), at) for name, source in
             (("a", models.mlp), ("b", models.mlp), ("c", models.other_mlp))]  # fmt: skip
    differing = differences(networks, 6)
    paired = [one for one in differing if one.paired]
    assert {one.name for one in paired} >= {"loss", "lpf-layer.rise", "quantization-4.rise", "exposure-3.gap"}
    for one in paired:
        if one.label == "b":
            assert (one.number.value, one.number.error, one.verdict) == (0.0, 0.0, "undecided")
    ours, theirs = networks[0].quantities["loss"].number, networks[2].quantities["loss"].number
    (loss,) = [one for one in differing if (one.name, one.label) == ("loss", "c")]
    assert loss.number.value == pytest.approx(theirs.value - ours.value, rel=1e-12)
    assert loss.number.error != pytest.approx((ours.error**2 + theirs.error**2) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (models.hungry, {}, "out of memory with 4 images in a pass: a smaller --batch-size"),
        (models.dit, {"times": "lognormal:0,1"}, "discrete"),
        (models.own_loss, {"times": "uniform"}, "loss of its own"),
        (models.mlp, {"times": "given:99"}, "mlp: t is a tensor .*; allowed: whole numbers .* from 0 to 11"),
        (models.mlp, {"times": "often"}, "times is often"),
        (models.mlp, {"steps": (13,)}, "steps is 13; allowed: at most 12"),
    ],
)
def test_what_cannot_be_measured_is_told(source: Callable[[], Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        taken(source, **changes)


def test_usual_steps_beyond_a_short_process_are_left_out() -> None:
    network = taken(models.mlp, steps=MeasureOptions.steps)
    assert network.left_out["exposure-20"] == network.left_out["exposure-100"] == "its process has 12 steps"
    assert "lpf-filter.rise" in network.quantities
    assert network.failed == {}


def test_samples_that_do_not_fit_are_told_by_their_shape() -> None:
    at = dataclasses.replace(common(), x_0=torch.zeros(6, 1, 5, 5))
    with pytest.raises(CommandError, match=r"mlp cannot be run on samples of shape \(1, 5, 5\)"):
        measured(subject_of("x:mlp", models.mlp()), at)


def test_times_are_set_on_the_command_line() -> None:
    given = taken(models.mlp, times="given:0", scales=(), curve_rms=(), bits=(), steps=(), curvature=False)
    uniform = taken(models.mlp, times="uniform", scales=(), curve_rms=(), bits=(), steps=(), curvature=False)
    trained = taken(models.mlp, scales=(), curve_rms=(), bits=(), steps=(), curvature=False)
    values = [one.quantities["loss"].number.value for one in (given, uniform, trained)]
    assert values[0] != values[1] == values[2]
    assert given.about["loss"]["times"] == "GivenTimes(values=(0,))"


def test_noise_by_weight_is_measured_where_it_is_asked_for() -> None:
    network = taken(models.mlp, scales=("weight",), curve_rms=(), bits=(), steps=(), curvature=False, readout=False)
    model, loss = models.mlp()
    batches = fixed_batches(common().x_0, batch_size=6, seed=0)
    noise = flatness.low_pass_filter(model, loss, batches, sigma=0.05, draws=2, scale="weight")
    quantity = network.quantities["lpf-weight.rise"]
    assert quantity.words == "rise, noise 0.05 of each weight"
    assert quantity.number.value == pytest.approx(noise.rise.value, rel=2e-3)  # float32, in other batches


def test_a_measure_that_fails_does_not_keep_others_from_being_taken() -> None:
    network = taken(models.broken, scales=("filter",), bits=(), steps=(), curve_rms=(), readout=False)
    assert set(network.failed) == {"lpf-filter", "curvature"}
    assert "inf" in network.failed["lpf-filter"] or "nan" in network.failed["lpf-filter"]


def test_memory_that_runs_out_later_costs_the_measures_that_it_runs_out_in() -> None:
    large = common(images=9, bits=(), steps=(), curve_rms=(), scales=("filter",), readout=False)
    place = dataclasses.replace(PLACE, batch_size=6, gradient_batch=9)
    network = measured(subject_of("x:y", models.hungry_later()), dataclasses.replace(large, place=place))
    assert set(network.outcomes) == {"lpf-filter"}
    assert "smaller --batch-size (and --gradient-batch)" in network.failed["curvature"]
    larger = dataclasses.replace(large, place=dataclasses.replace(PLACE, batch_size=9))
    with pytest.raises(CommandError, match="out of memory with 9 images"):
        measured(subject_of("x:y", models.hungry_later()), larger)


def test_quick_spends_the_same_on_small_networks_as_on_large_ones() -> None:
    of_57_million = QUICK.resolved(57_094_662, 32 * 32, 50_000)
    assert of_57_million.images == QUICK_IMAGES
    passes = sum(task.passes for task in tasks.tasks_of(of_57_million, process=True))
    assert passes * QUICK_IMAGES == 48  # as the arithmetic in flatness.cli.options has it
    assert QUICK.resolved(57_094_662 // 4, 32 * 32, 50_000).images == 4 * QUICK_IMAGES
    assert QUICK.resolved(1000, 16, 50_000).images == FULL_IMAGES
    assert QUICK.resolved(1000, 16, 40).images == 40
    assert QUICK.resolved(10**9, 64 * 64, 50_000).images == QUICK_IMAGES
    assert dataclasses.replace(QUICK, images=3).resolved(1000, 16, 40).images == 3
    assert MeasureOptions().resolved(1000, 16, 50_000).images == FULL_IMAGES


def test_networks_of_different_shapes_are_not_compared() -> None:
    subjects = [
        dataclasses.replace(subject_of(f"x:{name}", models.mlp()), shape=shape)
        for name, shape in (("a", (1, 4, 4)), ("b", (1, 8, 8)))
    ]
    with pytest.raises(CommandError, match=r"different shapes \(a: \(1, 4, 4\), b: \(1, 8, 8\)\)"):
        gathered(subjects, DATA, SMALL, PLACE)
    with pytest.raises(CommandError, match="torch finds none"):
        runner.chosen_device("cuda" if not torch.cuda.is_available() else "mps")


def test_the_worst_case_and_the_surface_are_the_librarys() -> None:
    at = common(worst_case=True, rho=0.1, ascent_steps=2, surface=3, surface_range=0.5)
    model, loss = models.mlp()
    network = measured(subject_of("x:mlp", (model, loss)), at)
    assert network.failed == {}
    batches = fixed_batches(at.x_0, batch_size=3, seed=0)
    worst = flatness.worst_case_sharpness(model, loss, batches, rho=0.1, steps=2)
    quantity = network.quantities["worst-case.rise"]
    assert quantity.number.value == pytest.approx(worst.rise.value, rel=1e-6)
    assert quantity.number.value > 0
    assert quantity.number.draw_error == 0.0
    grid = [-0.5, 0.0, 0.5]
    surface = flatness.loss_surface(model, loss, batches, grid, grid, seed=tasks.derived_seed("surface", 0))
    result = network.outcomes["surface"].result
    assert result["first"] == grid
    for mine, theirs in zip(result["rises"], surface.rises, strict=True):
        assert [one["value"] for one in mine] == pytest.approx([one.value for one in theirs], rel=1e-5)
    assert result["rises"][1][1]["value"] == 0.0


def test_the_rise_by_timestep_is_the_librarys_and_its_total_the_low_pass_filters() -> None:
    at = common(by_timestep=3)
    model, loss = models.mlp()
    network = measured(subject_of("x:mlp", (model, loss)), at)
    assert network.failed == {}
    batches = fixed_batches(at.x_0, batch_size=4, seed=0)
    curve = flatness.rise_by_timestep(model, loss, batches, bins=3, sigma=0.05, draws=2, scale="filter")
    for one in curve.bins:
        quantity = network.quantities[f"timesteps.rise-{one.first}-{one.last}"]
        assert quantity.number.value == pytest.approx(one.rise.value, rel=1e-6)
        assert quantity.number.draw_error == pytest.approx(one.rise.draw_standard_error, rel=1e-6)
        assert quantity.number.half_width > 0
        assert quantity.x == (one.first + one.last) / 2
    assert [one["first"] for one in network.outcomes["timesteps"].result["bins"]] == [0, 4, 8]
    whole, nats = (network.quantities[f"timesteps.{name}"].number for name in ("rise", "nats"))
    assert whole.value == pytest.approx(network.quantities["lpf-filter.rise"].number.value, rel=1e-9)
    assert nats.value == pytest.approx(curve.nats.value, rel=1e-6)
    assert nats.error == pytest.approx(math.hypot(curve.nats.draw_standard_error, curve.nats.data_standard_error))
    assert nats.value != pytest.approx(whole.value, rel=0.1)


def test_the_total_over_timesteps_is_taken_as_trained_and_nats_are_left_out_where_there_are_none() -> None:
    at = common(by_timestep=3)
    model, loss = models.mlp()
    late = dataclasses.replace(loss, times=lambda u: 8 + (4 * u).long().clamp(max=3))
    network = measured(subject_of("x:late", (model, late)), at)
    assert network.failed == {}
    assert network.quantities["timesteps.rise"].number.value == pytest.approx(
        network.quantities["lpf-filter.rise"].number.value, rel=1e-9
    )
    weighted = dataclasses.replace(loss, weight=lambda alpha, sigma: 2.0 * torch.ones_like(alpha))
    other = measured(subject_of("x:weighted", (model, weighted)), at)
    assert "timesteps.nats" not in other.quantities
    assert "the likelihood has weights of its own" in other.outcomes["timesteps"].note
    evenly = measured(subject_of("x:mlp", (model, loss)), at)
    for name in ("timesteps.rise", "timesteps.rise-0-3"):
        assert other.quantities[name].number.value == pytest.approx(2 * evenly.quantities[name].number.value, rel=1e-5)
    # flow matching, whose time is continuous, and a loss whose times nobody knows
    flow = measured(subject_of("x:flow", models.tied_last()), at)
    assert "timesteps.rise-0-333" in flow.quantities
    assert flow.outcomes["timesteps"].result["bins"][-1]["times"][1] == pytest.approx(0.9995)
    own = measured(subject_of("x:own", models.own_loss()), at)
    assert "timesteps are not known" in own.left_out["timesteps"]
    with pytest.raises(CommandError, match="by_timestep is 7; allowed: at most the images, 6"):
        common(by_timestep=7)


def test_the_spectrum_is_the_librarys() -> None:
    at = common(spectrum=2, lanczos_steps=3)
    model, loss = models.mlp()
    network = measured(subject_of("x:mlp", (model, loss)), at)
    assert network.failed == {}
    batches = fixed_batches(at.x_0, batch_size=3, seed=0)
    density = flatness.spectral_density(model, loss, batches, probes=2, steps=3)
    result = network.outcomes["spectrum"].result
    assert result["nodes"] == [pytest.approx(row, rel=1e-4, abs=1e-6) for row in density.nodes]
    assert len(result["drawn"]["at"]) == len(result["drawn"]["density"]) == 200
    quantity = network.quantities["spectrum.negative"].number
    assert quantity.value == pytest.approx(density.negative.value, rel=1e-4)
    assert quantity.draw_error == pytest.approx(density.negative.draw_standard_error, rel=1e-3)
    assert quantity.half_width > quantity.draw_error
    # the same probes as of the trace
    assert network.quantities["spectrum.trace"].number.value == pytest.approx(
        network.quantities["curvature.trace"].number.value, rel=1e-4
    )


def test_where_no_step_climbs_the_worst_of_the_ball_is_its_centre() -> None:
    def loss(model: nn.Module, batch: Batch) -> Tensor:  # at its maximum
        return -sum(p.square().sum() for p in model.parameters()) * torch.ones(len(batch.x_0))

    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    nothing: dict[str, Any] = {"scales": (), "bits": (), "curve_rms": (), "steps": (), "readout": False}
    network = measured(subject_of("x:top", (model, loss)), common(**nothing, curvature=False, worst_case=True, rho=0.1))
    assert network.failed == {}
    assert network.outcomes["worst-case"].result["rise"]["value"] == 0.0
    rise = network.quantities["worst-case.rise"].number
    assert (rise.value, rise.half_width) == (0.0, 0.0)


def test_numbers_of_measures_are_checked() -> None:
    refused: list[dict[str, Any]] = [{"spectrum": 1}, {"spectrum": 2, "lanczos_steps": 0}, {"by_timestep": -1}]
    refused += [{"surface": 4}, {"surface": 1}, {"surface": 1003}, {"worst_case": True, "rho": -1.0}]
    for changes in refused:
        with pytest.raises(CommandError, match="allowed"):
            MeasureOptions(**changes)
