"""What a scheduler's configuration stands for, held against diffusers' own arithmetic on the same noise and times."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.cli.errors import CommandError
from flatness.cli.schedulers import SCHEDULERS, WITH_BETAS, ShiftedTimes, Training, training_of
from flatness.diffusion.losses import Batch, EDMLoss
from flatness.diffusion.noise_paths import GivenTimes
from flatness.diffusion.predictions import ModelCall
from flatness.optional_imports import imported_diffusers

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # in diffusers
X, NOISE = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).unbind(0)


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    package = imported_diffusers()
    return package if package is not None else pytest.skip("diffusers is not installed")


class Network(nn.Module):
    """Any function of x and t."""

    def __init__(self) -> None:
        """A weight."""
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Something that depends on all of it."""
        self.seen.append(t)
        return self.weight * x + 0.01 * t.view(-1, 1, 1, 1)


def trained(diffusers: ModuleType, name: str, **own: Any) -> Training:
    """Of a scheduler as it would be saved."""
    configuration = dict(getattr(diffusers, name)(**own).config) | {"_class_name": name}
    return training_of("pipe", configuration, ModelCall())


def losses(training: Training, times: Sequence[float]) -> tuple[Tensor, Network]:
    """Of the network at these times."""
    network = Network()
    batch = Batch(X, None, NOISE, (torch.arange(3, dtype=torch.float64) + 0.5) / 3)
    loss = dataclasses.replace(training.loss, times=GivenTimes(times))
    with torch.no_grad():
        return loss(network, batch), network


@pytest.mark.parametrize("name", WITH_BETAS)
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_losses_are_those_of_diffusers_arithmetic(name: str, prediction: str, diffusers: ModuleType) -> None:
    if name == "DPMSolverSDEScheduler" and not hasattr(diffusers, "DPMSolverSDEScheduler"):
        pytest.skip("torchsde is not installed")
    if prediction == "sample" and name == "PNDMScheduler":
        pytest.skip("PNDM has none")
    try:
        training = trained(diffusers, name, prediction_type=prediction, beta_schedule="scaled_linear", beta_end=0.03)
    except ImportError as error:
        pytest.skip(str(error))
    steps = [3, 400, 990]
    ours, network = losses(training, steps)
    given = {"beta_schedule": "scaled_linear", "beta_end": 0.03}
    if name in ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "LCMScheduler",
                "TCDScheduler"):  # fmt: skip
        given |= {"beta_start": 0.00085}  # these classes' own default
    scheduler = diffusers.DDPMScheduler(**given)
    t = torch.tensor(steps)
    noised = scheduler.add_noise(X, NOISE, t)
    target = {"epsilon": NOISE, "sample": X, "v_prediction": scheduler.get_velocity(X, NOISE, t)}[prediction]
    with torch.no_grad():
        expected = (Network()(noised, t) - target).square().flatten(1).mean(1)
    assert torch.allclose(ours, expected, rtol=1e-5)
    assert torch.equal(network.seen[0], t)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_is_diffusers_own(shift: float, diffusers: ModuleType) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    configuration = dict(scheduler.config) | {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    training = training_of("pipe", configuration, ModelCall(time_scale=1000.0))
    t = scheduler.timesteps[[950, 500, 3]]
    ours, network = losses(training, (t.double() / 1000).tolist())
    noised = scheduler.scale_noise(X, t, NOISE)
    with torch.no_grad():
        expected = (Network()(noised, t) - (NOISE - X)).square().flatten(1).mean(1)
    assert torch.allclose(ours, expected, rtol=1e-4)  # times in float32
    assert torch.allclose(network.seen[0].float(), t)
    # times are the scheduler's own: even steps, shifted
    assert isinstance(training.loss.times, ShiftedTimes)
    even = torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert torch.allclose(training.loss.times(even), scheduler.sigmas.flip(0).double(), atol=1e-6)


def test_dynamic_shifting_depends_on_the_number_of_tokens(diffusers: ModuleType) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    configuration = dict(scheduler.config) | {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    for tokens, mu in ((256, 0.5), (4096, 1.15)):
        training = training_of("pipe", configuration, ModelCall(), tokens)
        scheduler.set_timesteps(sigmas=[0.9, 0.5, 0.1], mu=mu)
        assert training.loss.times is not None
        expected = scheduler.sigmas[:-1].double()
        assert torch.allclose(training.loss.times(torch.tensor([0.9, 0.5, 0.1]).double()), expected, atol=1e-6)
    with pytest.raises(CommandError, match="dynamic shift"):
        training_of("pipe", configuration, ModelCall())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_edm_is_diffusers_preconditioning(prediction: str, name: str, diffusers: ModuleType) -> None:
    training = trained(diffusers, name, prediction_type=prediction, sigma_data=0.7)
    scheduler = getattr(diffusers, name)(prediction_type=prediction, sigma_data=0.7)
    sigmas = torch.tensor([0.05, 1.0, 20.0])
    ours, network = losses(training, sigmas.tolist())
    wide = sigmas.view(-1, 1, 1, 1)
    noised = X + wide * NOISE
    times = scheduler.precondition_noise(sigmas)
    with torch.no_grad():
        output = Network()(scheduler.precondition_inputs(noised, wide), times)
        denoised = scheduler.precondition_outputs(noised, output, wide)
    weight = (sigmas.square() + 0.49) / (0.7 * sigmas).square()
    expected = weight * (denoised - X).square().flatten(1).mean(1)
    assert torch.allclose(ours, expected, rtol=1e-4)  # the weight cancels digits of the error
    assert torch.allclose(network.seen[0].float(), times)


def test_consistency_models_are_diffusers_boundary(diffusers: ModuleType) -> None:
    scheduler = diffusers.CMStochasticIterativeScheduler()
    training = trained(diffusers, "CMStochasticIterativeScheduler")
    sigmas = torch.tensor([0.01, 1.0, 70.0])
    ours, network = losses(training, sigmas.tolist())
    wide = sigmas.view(-1, 1, 1, 1)
    noised = X + wide * NOISE
    c_skip, c_out = scheduler.get_scalings_for_boundary_condition(wide)
    times = torch.from_numpy(scheduler.sigma_to_t(sigmas.double().numpy())).float()
    with torch.no_grad():
        output = Network()(noised / (wide.square() + 0.25).sqrt(), times)
        expected = (c_out * output + c_skip * noised - X).square().flatten(1).mean(1)
    assert torch.allclose(ours, expected, rtol=1e-4)
    assert torch.allclose(network.seen[0].float(), times, rtol=1e-5)
    assert training.no_process
    assert not training.loss.is_squared_error
    assert training.loss.times is not None
    ends = training.loss.times(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(ends, torch.tensor([0.002, 80.0], dtype=torch.float64))


def test_keys_that_change_loss_or_chain_are_honoured_or_the_measure_is_left_out(diffusers: ModuleType) -> None:
    def of(name: str = "DDPMScheduler", **changes: Any) -> Training:
        return training_of("pipe", {"_class_name": name, **changes}, ModelCall())

    assert (of().variance, of().clip, of().no_process) == ("small", 1.0, "")
    assert of(clip_sample=False).clip is None
    assert "the distillation" in of("LCMScheduler").remarks[0]
    assert "the distillation" in of("FlowMatchLCMScheduler").remarks[0]
    assert of(clip_sample_range=3).clip == 3.0
    assert of(variance_type="fixed_large").variance == "large"
    assert of("DDIMScheduler", variance_type="fixed_large").variance == "large"  # which from_config keeps
    assert "thresholding" in of(thresholding=True).no_process
    assert "without signal" in of(rescale_betas_zero_snr=True).no_process
    assert "learned" in of(variance_type="learned").no_process
    assert "consistency" in of("LCMScheduler").no_process
    assert of("EulerDiscreteScheduler").clip is None
    # a key left out has the default of its class
    assert of("HeunDiscreteScheduler").scheduler["beta_end"] == 0.012
    assert of(trained_betas=[0.1, 0.2]).loss.path.alphas_cumprod.tolist() == pytest.approx([0.9, 0.72])  # type: ignore[union-attr]
    # old names
    assert of(predict_epsilon=True).loss.prediction == "epsilon"
    assert of(predict_epsilon=False).loss.prediction == "x_0"
    with pytest.raises(CommandError, match="predict_epsilon"):
        of(predict_epsilon=False, prediction_type="v_prediction")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"prediction_type": "score"}, "predicts 'score'"), ({"beta_schedule": "steep"}, "cannot be built"),
        ({"num_train_timesteps": "many"}, "cannot be built"), ({"_class_name": "ScoreSdeVeScheduler"}, "has a Score"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}, "invert_sigmas"),
    ]  # fmt: skip
    for changes, message in refused:
        with pytest.raises(CommandError, match=message):
            of(**({"name": changes.pop("_class_name")} if "_class_name" in changes else {}), **changes)


def test_flow_sigmas_of_other_solvers_are_flows(diffusers: ModuleType) -> None:
    training = trained(
        diffusers, "UniPCMultistepScheduler", use_flow_sigmas=True, flow_shift=2.0, prediction_type="flow_prediction"
    )
    assert training.loss.prediction == "flow"
    assert training.loss.times == ShiftedTimes(2.0)


def test_every_scheduler_of_the_table_is_one_of_diffusers(diffusers: ModuleType) -> None:
    assert all(hasattr(diffusers, name) for name in SCHEDULERS)
    assert isinstance(trained(diffusers, "EDMEulerScheduler").loss, EDMLoss)
