"""One step, held against a loop written out by hand, and what must not change it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.configuration import Configuration, SAMOptions
from experiments.data import Batches
from experiments.diffusion import SecondMomentTimesteps, UniformTimesteps
from experiments.training import step as step_module
from experiments.training.distributed import Ranks
from experiments.training.randomness import drawn, seed_dropout
from experiments.training.state import initial_network
from experiments.training.step import TrainingStep, ascent_size, micro_batches, sam_schedule
from experiments.training.trainer import train
from tests.experiments.training.by_hand import ROUNDING, apart, by_hand
from tests.experiments.training.small_runs import (
    GRADIENT_ROUNDING,
    Recorder,
    configured,
    gradient_difference,
    images,
    run_options,
)

CPU = torch.device("cpu")


def stepper(**changes: Any) -> TrainingStep:
    c = configured(**changes)
    return TrainingStep(c, initial_network(c, CPU), Ranks())


def trained(steps: int, **changes: Any) -> dict[str, Tensor]:
    made = stepper(**changes)
    batches = Batches(images(), made.configuration.global_batch, made.configuration.seed, made.configuration.flip)
    for step in range(steps):
        made(step, batches.batch(step))
    return {name: made.sam.state[p]["exp_avg"] for name, p in made.network.named_parameters()}


@pytest.mark.parametrize("method", ["adm", "ip", "sam", "ip+sam", "rwp"])
def test_steps_are_those_written_out_by_hand(method: str) -> None:
    ours = trained(4, method=method)
    assert apart(by_hand(4, method=method), ours) <= ROUNDING
    others = {"adm", "ip", "sam", "ip+sam", "rwp"} - {method}
    assert all(apart(by_hand(4, method=other), ours) > 100 * ROUNDING for other in others)


@pytest.mark.parametrize("method", ["adm", "ip+sam"])
def test_micro_batches_change_nothing_but_rounding(tmp_path: Path, method: str) -> None:
    c = configured(method=method, timestep_weights="second-moment")
    for name, micro_batch in (("whole", None), ("parts", 3)):
        train(c, run_options(tmp_path / name, micro_batch=micro_batch), images())
    assert 0 < gradient_difference(tmp_path / "whole", tmp_path / "parts") <= GRADIENT_ROUNDING
    train(configured(method=method), run_options(tmp_path / "uniform"), images())
    assert gradient_difference(tmp_path / "whole", tmp_path / "uniform") > 10 * GRADIENT_ROUNDING


def test_the_ascent_is_whole_micro_batches_of_the_descent() -> None:
    assert [ascent_size(share, 8) for share in (1.0, 0.5, 0.01)] == [8, 4, 1]
    assert [ascent_size(share, 8, 8) for share in (1.0, 0.5, 0.01)] == [8, 4, 1]
    # 3 + 3 + 2 images: shares of three parts, rounded
    assert [ascent_size(share, 8, 3) for share in (1.0, 0.7, 0.4, 0.01)] == [8, 6, 3, 3]
    assert micro_batches(8, 8, 8) == [(0, 8)]
    assert micro_batches(8, 8, 3) == [(0, 3), (3, 8)]
    assert micro_batches(8, 3, 6) == [(0, 3), (3, 6), (6, 8)]


@pytest.mark.parametrize("share", [1.0, 0.6, 0.3])
@pytest.mark.parametrize("micro_batch", [8, 3])
def test_the_ascents_images_meet_the_same_dropout_in_both_passes(micro_batch: int, share: float) -> None:
    """Dropout alone is random in the network, so with w_hat at w the outputs of the ascent's images are the same."""
    c = configured(dropout=0.5, method="sam", sam=SAMOptions(rho=1e-30, ascent_share=share))
    made = TrainingStep(c, off_its_start(c), Ranks(), micro_batch)
    outputs: list[Tensor] = []
    made.network.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    made(0, Batches(images(), 8, 0).batch(0))
    ascent = ascent_size(share, 8, micro_batch)
    every = torch.cat(outputs)
    assert len(every) == ascent + 8
    assert torch.equal(every[:ascent], every[ascent : 2 * ascent])
    assert len({tuple(output.flatten().tolist()) for output in every[ascent:]}) == 8


def off_its_start(c: Configuration) -> torch.nn.Module:
    """A network whose output is not zero."""
    network = initial_network(c, CPU)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    return network


def losses_at_w_and_w_hat(micro_batch: int) -> tuple[float, float]:
    """With so small a radius that w_hat is w."""
    c = configured(dropout=0.5, method="sam", sam=SAMOptions(rho=1e-30))
    made = TrainingStep(c, off_its_start(c), Ranks(), micro_batch)
    losses = made(0, Batches(images(), 8, 0).batch(0))
    assert losses.perturbed_loss is not None
    return losses.loss, losses.perturbed_loss


@pytest.mark.parametrize("micro_batch", [8, 3])
def test_both_passes_of_sam_see_the_same_dropout(monkeypatch: pytest.MonkeyPatch, micro_batch: int) -> None:
    at_w, at_w_hat = losses_at_w_and_w_hat(micro_batch)
    assert at_w == pytest.approx(at_w_hat, rel=1e-6)  # the same numbers, summed in float64 and in float32
    monkeypatch.setattr(step_module, "seed_dropout", lambda *_: None)
    at_w, at_w_hat = losses_at_w_and_w_hat(micro_batch)
    assert at_w != pytest.approx(at_w_hat, rel=1e-3)


def test_dropout_is_a_function_of_seed_rank_step_and_micro_batch() -> None:
    def numbers(*label: int) -> tuple[float, ...]:
        seed_dropout(CPU, *label)
        return tuple(torch.rand(4).tolist())

    with torch.random.fork_rng(devices=[]):
        labels = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
        assert len({numbers(*label) for label in labels}) == len(labels)
        assert numbers(*labels[1]) == numbers(*labels[1])


def test_draws_are_of_the_whole_batch_and_a_function_of_seed_and_step() -> None:
    def draws(seed: int, step: int) -> tuple[float, ...]:
        numbers = drawn(UniformTimesteps(1000), (6, 1, 2, 2), 0.0, CPU, seed, step)
        assert numbers.noise is numbers.input_noise
        return (*numbers.t.tolist(), *numbers.noise.flatten().tolist())

    assert draws(0, 0) == draws(0, 0)
    assert len({draws(0, 0), draws(1, 0), draws(0, 1)}) == 3


def test_schedules_say_which_steps_perturb() -> None:
    def due(**options: Any) -> list[int]:
        schedule = sam_schedule(SAMOptions(**options), 20)
        return [step for step in range(20) if schedule(step)]

    assert due() == list(range(20))
    assert due(sam_schedule="late", late_start=0.9) == [18, 19]
    assert due(sam_schedule="every-k", every=8) == [0, 8, 16]


def test_the_ascent_takes_its_share_and_plain_steps_take_all() -> None:
    made = stepper(method="sam", sam=SAMOptions(sam_schedule="every-k", every=2, ascent_share=0.5))
    sizes: list[int] = []
    made.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    losses = [made(step, Batches(images(), 8, 0).batch(step)) for step in range(3)]
    assert sizes == [4, 4, 4, 8, 4, 4, 4]  # where it takes a part, that is a pass of its own in the descent, too
    assert [entry.perturbed_loss is None for entry in losses] == [False, True, False]


def test_the_timesteps_history_is_of_unweighted_losses_at_w() -> None:
    made = stepper(timestep_weights="second-moment", method="sam", global_batch=4)
    losses = made(0, Batches(images(), 4, 0).batch(0))
    assert isinstance(made.timesteps, SecondMomentTimesteps)
    assert int(made.timesteps.counts.sum()) == 4
    # While timesteps are uniform all weights are 1
    assert float(made.timesteps.losses.sum()) / 4 == pytest.approx(losses.loss, rel=1e-6)
    assert losses.perturbed_loss is not None
    assert losses.perturbed_loss > losses.loss * (1 + 1e-4)


def test_bfloat16_is_near_float32_and_not_the_same(tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        recorder = Recorder()
        train(configured(precision=precision), run_options(tmp_path / precision, until=3), images(), [recorder])
        losses.append(recorder.reports[-1].loss)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)  # bfloat16 rounds at 0.4 per cent


def test_a_compiled_run_has_the_same_weights_by_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def counted(network: torch.nn.Module) -> Any:
        compiled.append(network)
        return whole(network, backend="eager")  # traced as ever, but nothing is built, for which CI may lack a compiler

    whole = torch.compile
    train(configured(), run_options(tmp_path / "plain"), images())
    monkeypatch.setattr(torch, "compile", counted)
    train(configured(), run_options(tmp_path / "compiled", compile=True), images())
    assert len(compiled) == 1
    assert gradient_difference(tmp_path / "plain", tmp_path / "compiled") == 0


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    c = configured(global_batch=9)
    with pytest.raises(ValueError, match="global_batch is 9; allowed: a multiple of the number of ranks, 2"):
        TrainingStep(c, initial_network(c, CPU), Ranks(0, 2))
