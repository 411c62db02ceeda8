"""How a network was trained, as the configuration of a diffusers scheduler says: its loss, and how chains are sampled.

| schedulers | loss | time |
| --- | --- | --- |
| with betas: DDPM, DDIM, PNDM, Euler, Heun, LMS, DPM-Solver, UniPC, ... | squared error of epsilon, x_0 or v | steps |
| with betas and `use_flow_sigmas`, and the flow-match ones | squared error of the velocity | sigma x steps |
| EDM's | Karras et al. (2022), weight 1 / c_out^2 | log(sigma) / 4 |
| consistency models' | squared error of the one-step prediction of the data | 250 log(sigma) |

A pipeline is saved with the sampler that it is used with; what counts for the loss are the keys that training had:
betas, prediction type, zero terminal SNR, shift. They are read from the scheduler that diffusers itself builds from the
configuration, so that a key left out has the default of its class. Keys that say how a sampler spaces its steps or
solves its equation change nothing here. Keys that change an ancestral chain (clipping, variance) are honoured, and
where one cannot be (dynamic thresholding), exposure bias is left out with the reason.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flatness.cli.errors import CommandError, text_of
from flatness.diffusion.losses import DiffusionLoss, EDMLoss
from flatness.diffusion.noise_paths import EDM_PATH, RECTIFIED_FLOW, DiscretePath
from flatness.diffusion.predictions import ModelCall
from flatness.optional_imports import diffusers_parameters, imported_diffusers, quiet

WITH_BETAS = (
    "DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler",
    "PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverMultistepInverseScheduler", "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler",
    "UniPCMultistepScheduler", "DEISMultistepScheduler", "SASolverScheduler", "LCMScheduler", "TCDScheduler",
)  # fmt: skip
DISTILLED = ("LCMScheduler", "TCDScheduler")
DISTILLATION = "the loss is that of plain training, not the one of the distillation that its scheduler tells of"
FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
CONSISTENCY = ("CMStochasticIterativeScheduler",)
SCHEDULERS = (*WITH_BETAS, *FLOW, *EDM, *CONSISTENCY)
PREDICTIONS = {"epsilon": "epsilon", "sample": "x_0", "v_prediction": "v"}
VARIANCES = {
    None: "small",
    "fixed_small": "small",
    "fixed_small_log": "small",
    "fixed_large": "large",
    "fixed_large_log": "large",
    "learned_range": "learned",
}


@dataclass(frozen=True)
class Training:
    """How a network was trained and is sampled from.

    Attributes:
        loss: of a network that is called in this way.
        variance, clip: of an ancestral chain.
        no_process: why no chain can be sampled; "" where one can.
        scheduler: the configuration with its defaults, for records.
        remarks: what a person should know.
    """

    loss: DiffusionLoss
    variance: str = "small"
    clip: float | None = None
    no_process: str = ""
    scheduler: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def check_scheduler(label: str, configuration: Mapping[str, Any]) -> None:
    """Raise for a scheduler that is not among those read here.

    Raises:
        CommandError: it is not.
    """
    name = configuration.get("_class_name")
    if name not in SCHEDULERS:
        raise CommandError(f"{label} has a {name}; allowed: {', '.join(SCHEDULERS)}, or module:function")


def training_of(label: str, configuration: Mapping[str, Any], call: ModelCall, tokens: int | None = None) -> Training:
    """The loss and the chain that a scheduler's configuration stands for.

    Args:
        label: of the source, for messages.
        configuration: of the scheduler, as its file has it.
        call: how the network is called, with times as diffusers' pipelines hand them over.
        tokens: image tokens of the network, where dynamic shifting depends on them.

    Raises:
        CommandError: it is of a kind that is not known.
    """
    check_scheduler(label, configuration)
    name = str(configuration["_class_name"])
    built = _built(label, name, configuration)
    own = {key: value for key, value in dict(built.config).items() if not key.startswith("_use_default")}
    own["_class_name"] = name
    remarks = unknown_keys("its scheduler's", configuration, ("predict_epsilon", *_keys_of_schedulers()))
    training = _training(label, name, configuration, built, own, call, tokens)
    return dataclasses.replace(training, remarks=(*training.remarks, *remarks))


def unknown_keys(whose: str, configuration: Mapping[str, Any], known: Collection[str]) -> tuple[str, ...]:
    """What to say of a configuration's keys that do nothing here, a line or none."""
    names = [name for name in configuration if name not in known and not name.startswith("_")]
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return (f"{whose} configuration has keys that this diffusers does not know: {shown}",) if names else ()


@functools.cache
def _keys_of_schedulers() -> frozenset[str]:
    """Of all of them: a configuration keeps keys of the samplers that it came through."""
    return frozenset(key for name in SCHEDULERS for key in diffusers_parameters(name))


def _training(
    label: str,
    name: str,
    configuration: Mapping[str, Any],
    built: Any,
    own: dict[str, Any],
    call: ModelCall,
    tokens: int | None,
) -> Training:
    prediction = _prediction(label, configuration, own)
    if name in FLOW or own.get("use_flow_sigmas") or prediction == "flow_prediction":
        return _flow(label, name, own, call, tokens)
    if name in EDM:
        return _edm(label, own, prediction, call)
    if name in CONSISTENCY:
        return _consistency(own, call)
    return _with_betas(label, name, own, prediction, built.alphas_cumprod, call)


def _built(label: str, name: str, configuration: Mapping[str, Any]) -> Any:
    diffusers = imported_diffusers()
    assert diffusers is not None  # the network has been loaded
    try:
        with quiet():
            return getattr(diffusers, name).from_config(dict(configuration))
    except Exception as error:  # of any kind, for values of any kind
        reason = text_of(error)[:200]
        raise CommandError(f"{label} has a {name} that cannot be built: {reason or type(error).__name__}") from error


def _prediction(label: str, given: Mapping[str, Any], built: Mapping[str, Any]) -> str:
    """The prediction type, of old configurations too, in which `predict_epsilon` said it."""
    prediction = str(built.get("prediction_type", "epsilon"))
    if "predict_epsilon" in given:
        old = "epsilon" if given["predict_epsilon"] else "sample"
        if "prediction_type" in given and given["prediction_type"] != old:
            raise CommandError(
                f"{label} says predict_epsilon {given['predict_epsilon']} and prediction_type "
                f"{given['prediction_type']!r}: which of them its training had cannot be told; remove one"
            )
        return old
    return prediction


def _with_betas(label: str, name: str, own: dict[str, Any], prediction: str, bars: Tensor, call: ModelCall) -> Training:
    if prediction not in PREDICTIONS:
        raise CommandError(f"{label} predicts {prediction!r}; allowed: {', '.join(PREDICTIONS)}")
    if own.get("timestep_type", "discrete") != "discrete":
        raise CommandError(f"{label} has timestep_type {own['timestep_type']!r}: its network's times are not its steps")
    path = DiscretePath(bars)
    loss = DiffusionLoss(path, PREDICTIONS[prediction], None, call)
    clip = float(own.get("clip_sample_range", 1.0)) if own.get("clip_sample", False) else None
    variance = own.get("variance_type")
    why = ""
    if name in DISTILLED:
        why = f"a {name} samples by consistency, not ancestrally"
    elif own.get("thresholding"):
        why = "its sampler thresholds the predicted data dynamically (thresholding)"
    elif variance not in VARIANCES:
        why = f"its variance_type {variance!r} is not known here"
    elif own.get("rescale_betas_zero_snr") or bool((path.coefficients(path.grid())[0] == 0).any()):
        why = "its schedule ends without signal"
    return Training(
        loss, VARIANCES.get(variance, "small"), clip, why, own, (DISTILLATION,) if name in DISTILLED else ()
    )


@dataclass(frozen=True)
class ShiftedTimes:
    """Times sigma = s t / (1 + (s - 1) t) of t uniform in (0, 1): what a flow-match scheduler makes of even steps.

    Attributes:
        shift: s; 1 for even ones, larger for more noise (Esser et al., 2024, Eq. 23).
    """

    shift: float = 1.0

    def __call__(self, u: Tensor) -> Tensor:
        """Times at the positions u (n,)."""
        return self.shift * u / (1.0 + (self.shift - 1.0) * u)


def _flow(label: str, name: str, own: dict[str, Any], call: ModelCall, tokens: int | None) -> Training:
    if own.get("invert_sigmas"):
        raise CommandError(f"{label} has invert_sigmas, with which time runs the other way; allowed: without it")
    shift = float(own.get("flow_shift", 1.0) if "flow_shift" in own else own.get("shift", 1.0))
    remarks: tuple[str, ...] = ()
    if own.get("use_dynamic_shifting"):
        if own.get("time_shift_type", "exponential") != "exponential" or tokens is None:
            raise CommandError(f"{label} has a dynamic shift of kind {own.get('time_shift_type')!r}, not known here")
        low, high = (float(own.get(key, value)) for key, value in (("base_shift", 0.5), ("max_shift", 1.15)))
        few, many = (int(own.get(k, v)) for k, v in (("base_image_seq_len", 256), ("max_image_seq_len", 4096)))
        shift = math.exp(low + (high - low) * (tokens - few) / (many - few))
    if shift != 1.0:
        remarks = (f"times are even steps shifted by {shift:.4g}, as its scheduler's; --times gives others",)
    loss = DiffusionLoss(RECTIFIED_FLOW, "flow", ShiftedTimes(shift), call)
    why = ""
    if name == "FlowMatchLCMScheduler":
        why, remarks = f"a {name} samples by consistency, not ancestrally", (*remarks, DISTILLATION)
    return Training(loss, "small", None, why, own, remarks)


def _edm(label: str, own: dict[str, Any], prediction: str, call: ModelCall) -> Training:
    if prediction not in ("epsilon", "v_prediction"):
        raise CommandError(f"{label} predicts {prediction!r}; allowed for EDM: epsilon, v_prediction")
    if prediction == "v_prediction":  # diffusers' name for the network with its sign turned
        call = dataclasses.replace(call, output_scale=-call.output_scale)
    path = dataclasses.replace(EDM_PATH, low=float(own["sigma_min"]), high=float(own["sigma_max"]))
    loss = EDMLoss(path=path, call=call, sigma_data=float(own["sigma_data"]))
    remark = "noise levels are lognormal, mean -1.2 and deviation 1.2 of the logarithm: its scheduler does not say"
    return Training(loss, "small", None, "", own, (remark,))


@dataclass(frozen=True)
class KarrasTimes:
    """Noise levels spaced as Karras et al. (2022, Eq. 5), all alike.

    Attributes:
        low, high: the least and the largest.
        rho: the exponent.
    """

    low: float
    high: float
    rho: float = 7.0

    def __call__(self, u: Tensor) -> Tensor:
        """Times at the positions u (n,)."""
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return (low + u * (high - low)) ** self.rho


@dataclass(frozen=True)
class ConsistencyLoss(EDMLoss):
    """||f(x_0 + sigma n; sigma) - x_0||^2 of a consistency model, the mean over entries: its one-step prediction.

    f = c_skip x + c_out F(c_in x; 250 log sigma), with Song et al.'s (2023, Appendix C) boundary at sigma_min. Not the
    loss that it is trained by, which takes the difference of two such predictions, but that of what it is used for.

    Attributes:
        sigma_min: at which f is the identity.
    """

    sigma_min: float = 0.002

    @property
    def is_squared_error(self) -> bool:
        """No: of f, of which the network's output is a part."""
        return False

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """1: c_out is 0 at sigma_min."""
        return torch.ones_like(sigma)

    def denoised(self, model: nn.Module, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """f(x; sigma), of x's shape."""
        shape = (-1, *[1] * (x.dim() - 1))
        data, above = self.sigma_data, sigma - self.sigma_min
        c_skip = data**2 / (above.square() + data**2)
        c_out = above * data / (sigma.square() + data**2).sqrt()
        c_in = (sigma.square() + data**2).rsqrt()
        skip, out, into = (value.to(x.dtype).to(x.device).view(shape) for value in (c_skip, c_out, c_in))
        return skip * x + out * self.call(model, into * x, sigma.log() / 4.0, labels)[0]


def _consistency(own: dict[str, Any], call: ModelCall) -> Training:
    low, high = float(own["sigma_min"]), float(own["sigma_max"])
    path = dataclasses.replace(EDM_PATH, low=low, high=high)
    call = dataclasses.replace(call, time_scale=1000.0 * call.time_scale)
    times = KarrasTimes(low, high, float(own["rho"]))
    loss = ConsistencyLoss(path=path, times=times, call=call, sigma_data=float(own["sigma_data"]), sigma_min=low)
    remark = "the loss is the squared error of the one-step prediction of the data, not the one of consistency training"
    return Training(loss, no_process="a consistency model samples in one step or few", scheduler=own, remarks=(remark,))
