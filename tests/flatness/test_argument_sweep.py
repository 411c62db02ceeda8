"""Every public name with arguments that are not what is asked for: an error that names one, and nothing disturbed.

Nothing but ValueError or TypeError comes out, no number that is not finite is returned without a word, and weights,
modes, buffers, gradients, flags and torch's generators are as before. An argument may also be accepted: some of the
values are allowed. A fixed number of calls of each name by default; with Hypothesis's profile "thorough", hours of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import flatness
from flatness.training.averaging_rules import fit, reconstruct

EXAMPLES = 2000 if settings.get_current_profile_name() == "thorough" else 10
"""Of each name."""
BARS = torch.linspace(0.999, 0.01, 10, dtype=torch.float64)


class Network(nn.Module):
    """Small, with a buffer, a dropout and a frozen weight."""

    def __init__(self) -> None:
        """Make it."""
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)
        self.drop = nn.Dropout(0.1)
        self.first.bias.requires_grad_(False)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """The last layer's output."""
        return self.last(self.drop(torch.tanh(self.norm(self.first(x)))))


def square(model: nn.Module, batch: Any) -> Tensor:
    """A loss, one number a sample."""
    return model(batch).square().mean(1)


def batches() -> list[Tensor]:
    return list(torch.arange(24, dtype=torch.float32).reshape(2, 3, 4).div(24))


def of(call: Callable[..., Any], /, **fixed: Any) -> tuple[Callable[..., Any], Callable[[], dict[str, Any]]]:
    """A function and its valid arguments, made anew for each call."""

    def arguments() -> dict[str, Any]:
        return {name: value() if callable(value) and name in MADE else value for name, value in fixed.items()}

    return call, arguments


MADE = {
    "model",
    "target",
    "end",
    "direction",
    "batches",
    "optimizer",
    "rules",
    "generator",
    "batch",
    "gradient_batches",
}
"""Arguments whose values are made anew by the function that stands for them."""


def model() -> Network:
    torch.manual_seed(0)
    made = Network().train()
    for p in made.parameters():
        if p.requires_grad:
            p.grad = torch.ones_like(p)
    return made


def direction() -> list[Tensor]:
    return [torch.ones_like(p) for p in Network().parameters()]


def entered(manager: contextlib.AbstractContextManager[Any]) -> None:
    with manager:
        pass


MEASURE: dict[str, Any] = {"model": model, "loss": square, "batches": batches, "seed": 0, "eval_mode": True}
CASES: dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]] = {
    "low_pass_filter": of(
        flatness.low_pass_filter, **MEASURE, sigma=0.01, draws=2, scale="absolute", parameters=None, progress=None
    ),
    "worst_case_sharpness": of(flatness.worst_case_sharpness, **MEASURE, rho=0.05, steps=1, parameters=None),
    "perturbation_curve": of(
        flatness.perturbation_curve, **MEASURE, distances=(0.1,), directions="random", draws=2, parameters=None
    ),
    "loss_surface": of(flatness.loss_surface, **MEASURE, first=(0.0,), second=(0.0, 0.1), normalization="filter"),
    "curvature": of(
        flatness.curvature, **MEASURE, probes=2, tolerance=0.1, max_steps=2, engine="torch", parameters=None
    ),
    "loss_path": of(flatness.loss_path, **MEASURE, end=lambda: Network().state_dict(), fractions=(0.5,)),
    "spectral_density": of(flatness.spectral_density, **MEASURE, probes=2, steps=2, engine="torch", parameters=None),
    "quantization_rise": of(flatness.quantization_rise, **MEASURE, bits=8, granularity="tensor", scheme="symmetric"),
    "quantize_weights": of(flatness.quantize_weights, model=model, bits=8, rounding="nearest", seed=0),
    "quantized": of(lambda **a: entered(flatness.quantized(**a)), model=model, bits=8, scheme="minmax", seed=0),
    "quantize_tensor": of(
        flatness.quantize_tensor, tensor=torch.linspace(-1, 1, 6), bits=4, granularity="tensor", rounding="nearest"
    ),
    "readout": of(flatness.readout, **MEASURE, layer="last"),
    "fixed_batches": of(
        flatness.fixed_batches, x_0=torch.ones(3, 4), labels=torch.zeros(3), batch_size=2, seed=0, device="cpu"
    ),
    "epsilon_loss": of(flatness.epsilon_loss, path=BARS),
    "x_0_loss": of(flatness.x_0_loss, path=BARS),
    "v_loss": of(flatness.v_loss, path=BARS),
    "flow_loss": of(flatness.flow_loss),
    "edm_loss": of(flatness.edm_loss),
    "a loss called": of(
        lambda model, batch: flatness.epsilon_loss(BARS)(model.eval(), batch),
        model=lambda: model().eval(), batch=lambda: torch.ones(3, 4),
    ),
    "perturbed_noise": of(flatness.perturbed_noise, noise=torch.ones(2, 3), gamma=0.1),
    "moved": of(
        lambda **a: entered(flatness.moved(**a)), target=model, direction=direction, scale=0.1, parameters=None
    ),
    "perturbed_weights": of(
        lambda **a: entered(flatness.perturbed_weights(**a)), target=model, sigma=0.1, scale="absolute", seed=0
    ),
    "converted_prediction": of(
        flatness.converted_prediction, source="epsilon", wanted="v", output=torch.ones(2, 3), x_t=torch.ones(2, 3),
        alpha=torch.tensor(0.6), sigma=torch.tensor(0.8),
    ),
    "SAM": of(
        flatness.SAM, optimizer=lambda: torch.optim.SGD(model().parameters(), lr=0.1), rho=0.05, adaptive=False,
        schedule=None, on_nonfinite="raise", gradients="local", eta=0.01, same_randomness=True,
    ),
    "RandomSAM": of(flatness.RandomSAM, optimizer=lambda: torch.optim.SGD(model().parameters(), lr=0.1), rho=0.05),
    "FriendlySAM": of(flatness.FriendlySAM, optimizer=lambda: torch.optim.SGD(model().parameters(), lr=0.1)),
    "RandomWeightPerturbation": of(
        flatness.RandomWeightPerturbation, optimizer=lambda: torch.optim.SGD(model().parameters(), lr=0.1)
    ),
    "Shadows": of(flatness.Shadows, model=model, rules=lambda: {"ema": flatness.EMA(0.9)}, first_step=0),
    "EMA": of(flatness.EMA, decay=0.9),
    "SWA": of(flatness.SWA, start=0, cycle=1),
    "PowerEMA": of(flatness.PowerEMA, gamma=1.0),
    "Late": of(flatness.Late, start_step=1),
    "EveryK": of(flatness.EveryK, k=2),
    "fit": of(fit, profiles=[(1.0, 2), (3.0, 4)], target=(2.0, 3)),
    "reconstruct": of(
        reconstruct, snapshots=[{"gamma": 1.0, "steps": 2, "weights": {"w": torch.ones(2)}}],
        rule=flatness.PowerEMA(2.0), steps=2,
    ),
}  # fmt: skip
TIMES = flatness.epsilon_loss(BARS).path.uniform()


class Timed(Network):
    """The network of a diffusion model, which is called with times and perhaps labels too."""

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """The last layer's output."""
        return super().forward(x, t)


def timed() -> Timed:
    torch.manual_seed(0)
    return Timed().train()


def images() -> Tensor:
    return torch.arange(12, dtype=torch.float32).reshape(3, 4).div(12)


DIFFUSION = {"times": None, "labels": None, "keywords": None, "time_scale": 1.0, "weight": None}
CASES |= {
    "epsilon_loss": of(flatness.epsilon_loss, path=BARS, **DIFFUSION),
    "x_0_loss": of(flatness.x_0_loss, path=BARS, **DIFFUSION),
    "v_loss": of(flatness.v_loss, path=BARS, **DIFFUSION),
    "flow_loss": of(flatness.flow_loss, **DIFFUSION),
    "edm_loss": of(
        flatness.edm_loss, sigma_data=0.5, preconditioned=False, times=None, labels=None, keywords=None, weight=None
    ),
    "sit_loss": of(flatness.sit_loss, labels="y", times=None),
    "edm2_loss": of(flatness.edm2_loss, classes=10, sigma_data=0.5, labels="positional", times=None),
    "DiffusionLoss": of(
        flatness.DiffusionLoss, path=flatness.flow_loss().path, prediction="epsilon", times=TIMES,
        call=flatness.ModelCall(), weight=None,
    ),
    "EDMLoss": of(
        flatness.EDMLoss, path=flatness.edm_loss().path, prediction="x_0", times=TIMES, call=flatness.ModelCall(),
        weight=None, sigma_data=0.5, preconditioned=True,
    ),
    "ModelCall": of(
        flatness.ModelCall, labels="y", keywords={}, time_scale=1.0, time="positional", time_offset=0.0,
        output_scale=1.0, one_hot=0,
    ),
    "a model called": of(
        lambda model, **own: flatness.ModelCall("y")(model, **own), model=lambda: timed().eval(),
        x=torch.ones(3, 4), t=torch.ones(3), labels=torch.zeros(3),
    ),
    "Batch": of(
        lambda **parts: flatness.epsilon_loss(BARS)(timed().eval(), flatness.Batch(**parts)),
        x_0=torch.ones(3, 4), labels=torch.zeros(3), noise=torch.ones(3, 4), u=torch.full((3,), 0.5),
    ),
    "likelihood_weights": of(flatness.likelihood_weights, alphas_cumprod=BARS, variance="small"),
    "likelihood_loss": of(
        flatness.likelihood_loss, loss=flatness.epsilon_loss(BARS), times=(0, 3, 8), variance="large"
    ),
    "bits_per_dimension": of(flatness.bits_per_dimension, nats=1.0, dimension=12),
    "rise_by_timestep": of(
        flatness.rise_by_timestep, model=timed, loss=flatness.epsilon_loss(BARS), batches=lambda: [images(), images()],
        bins=1, sigma=0.01, draws=2, scale="absolute", variance="small", parameters=None, seed=0, eval_mode=True,
        progress=None,
    ),
    "exposure_bias": of(
        flatness.exposure_bias, epsilon_model=timed, alphas_cumprod=BARS, steps=(0, 4, 9), x_0=images(), chains=2,
        variance="small", clip=1.0, batch_size=2, seed=0, progress=None,
    ),
    "sampling_process": of(
        flatness.sampling_process, model=timed, loss=flatness.epsilon_loss(BARS), times=(0, 3, 8),
        labels=torch.zeros(3), variance="small", clip=1.0,
    ),
    "a process measured": of(
        lambda **own: flatness.exposure_bias(*flatness.sampling_process(**own)[:2], [0, 1], images()), model=timed,
        loss=flatness.epsilon_loss(BARS), times=(0, 3, 8), labels=torch.zeros(3), variance="small", clip=1.0,
    ),
    "SamplingProcess": of(
        lambda **own: flatness.exposure_bias(*(made := flatness.SamplingProcess(**own))[:2], [0, 9], images(),
                                             variance=made.variance, clip=made.clip),
        epsilon_model=timed, alphas_cumprod=BARS, variance="small", clip=None,
    ),
    "Always": of(flatness.Always),
}  # fmt: skip
MADE |= {"epsilon_model"}
UNCHECKED = {"a loss called", "Batch", "a model called", "perturbed_noise", "converted_prediction"}
"""Of tensors, whose values are not read; but for the last, they may draw from torch's generator, as training does."""


THEIRS = {"model", "target", "loss", "batches", "batch", "parameters", "progress", "schedule", "epsilon_model"}
"""What holds code of the caller's, whose own errors come out as they are."""
ALSO = {"path": "alphas_cumprod"}
"""What else an argument is called."""
REACHES_A_MODEL = {("a model called", "x"), ("a model called", "labels"), ("Batch", "x_0"), ("exposure_bias", "x_0")}
"""Tensors that a model is called with, which may not want them."""


class Sly:
    """An object whose words cannot be had."""

    def __repr__(self) -> str:
        """No words."""
        raise RuntimeError("no words")


class Rows(torch.utils.data.Dataset[Tensor]):
    """Of data, for a loader."""

    def __len__(self) -> int:
        """Rows."""
        return 4

    def __getitem__(self, index: int) -> Tensor:
        """One of them."""
        return torch.ones(4)


def of_inference() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(4, 4)


HOSTILE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "a text": lambda: "nonsense",
    "no text": lambda: "",
    "bytes": lambda: b"ab",
    "-1": lambda: -1,
    "0": lambda: 0,
    "2.5": lambda: 2.5,
    "NaN": lambda: math.nan,
    "inf": lambda: math.inf,
    "10**400": lambda: 10**400,
    "2**63": lambda: 2**63,
    "1e308": lambda: 1e308,
    "1e39": lambda: 1e39,
    "a complex number": lambda: 1j,
    "an empty list": list,
    "a list": lambda: [1, "x", None],
    "a dictionary": lambda: {"a": 3},
    "an object": object,
    "a sly object": Sly,
    "a class": lambda: int,
    "an empty tensor": lambda: torch.zeros(0),
    "NaN in a tensor": lambda: torch.full((3, 4), math.nan),
    "a complex tensor": lambda: torch.ones(3, 4, dtype=torch.complex64),
    "whole numbers": lambda: torch.arange(12).reshape(3, 4),
    "a number in a tensor": lambda: torch.tensor(1.0),
    "a tensor on meta": lambda: torch.empty(3, 4, device="meta"),
    "a nested tensor": lambda: torch.nested.nested_tensor([torch.ones(4), torch.ones(3)]),
    "a sparse tensor": lambda: torch.eye(3, 4).to_sparse(),
    "rows of a sparse tensor": lambda: torch.eye(3, 4).to_sparse_csr(),
    "numbers of a byte": lambda: torch.ones(3, 4).to(torch.float8_e4m3fn),
    "bytes in a tensor": lambda: torch.zeros(3, dtype=torch.uint8),
    "another shape": lambda: torch.ones(7, 2, 2),
    "a model on meta": lambda: nn.Linear(4, 4, device="meta"),
    "a model without weights": lambda: nn.ReLU(),
    "a model of inference": of_inference,
    "a model of halves": lambda: nn.Linear(4, 4).half(),
    "a list of nothing": lambda: [None],
    "a list of tensors on meta": lambda: [torch.empty(3, 4, device="meta")],
    "large numbers": lambda: [1, 10**6],
    "complex directions": lambda: [torch.ones_like(p, dtype=torch.complex64) for p in Network().parameters()],
    "directions beyond float32": lambda: [torch.full_like(p, 1e300, dtype=torch.float64) for p in direction()],
    "directions on meta": lambda: [torch.empty_like(p, device="meta") for p in direction()],
    "3e38": lambda: 3e38,
    "numbers beyond float32": lambda: [1e300, 1e301],
    "a loader": lambda: torch.utils.data.DataLoader(Rows(), batch_size=2, shuffle=True),
    "names that are none": lambda: {1: torch.ones(2), "a": torch.ones(2)},
    "a function of nothing": lambda: lambda: None,
    "a function that gives -1": lambda: lambda *a, **k: -1.0,
    "a function that gives one": lambda: lambda *a, **k: torch.ones(1),
    "a function of all": lambda: lambda *a, **k: None,
    "a function that gives NaN": lambda: lambda *a, **k: torch.full((3,), math.nan),
    "a generator": lambda: torch.Generator(),
}


def state_of(arguments: dict[str, Any]) -> list[Any]:
    """All that a call must leave as it was: of the model and the optimizer among its arguments, and torch's own."""
    state: list[Any] = [torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()]
    inside = arguments.get("model", arguments.get("target"))
    if isinstance(inside, nn.Module) and not any(p.is_meta for p in inside.parameters()):
        state += [t.clone() for t in inside.state_dict().values()]
        state += [m.training for m in inside.modules()]
        state += [p.requires_grad for p in inside.parameters()]
        state += [None if p.grad is None else p.grad.clone() for p in inside.parameters()]
        state.append([len(m._forward_hooks) + len(m._forward_pre_hooks) for m in inside.modules()])
    optimizer = arguments.get("optimizer")
    if isinstance(optimizer, torch.optim.Optimizer):
        state += [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
    return state


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    return bool(a == b)


def numbers(result: Any) -> Iterator[float]:
    """All floats in a result."""
    if isinstance(result, float):
        yield result
    elif isinstance(result, Tensor) and result.is_floating_point() and not result.is_meta:
        yield float(result.sum())
    elif isinstance(result, dict):
        for value in result.values():
            yield from numbers(value)
    elif isinstance(result, tuple | list):
        for value in result:
            yield from numbers(value)


def swept(name: str, hostile: dict[str, str]) -> None:
    """One call with values out of HOSTILE by argument; whatever is not as promised is an AssertionError."""
    if any(value == "a loader" and argument != "batches" for argument, value in hostile.items()):
        return  # reading it draws from torch's generator, as for any other loop over it
    call, make = CASES[name]
    given = make() | {argument: HOSTILE[value]() for argument, value in hostile.items()}
    what = f"{name}({', '.join(f'{argument}={value}' for argument, value in hostile.items())})"
    before = state_of(given)
    theirs = any(argument in THEIRS or (name, argument) in REACHES_A_MODEL for argument in hostile)
    try:
        result = call(**given)
    except (ValueError, TypeError, FloatingPointError) as error:
        words = {*hostile, *(ALSO.get(argument, argument) for argument in hostile), "finite"}
        named = any(word in str(error) for word in words)
        if not str(error) or not (named or theirs):
            raise AssertionError(f"{what}: {error!r} does not name the argument") from error
    except Exception as error:
        if not theirs:
            raise AssertionError(f"{what} raises {error!r}") from error
    else:
        if name not in UNCHECKED:
            assert all(map(math.isfinite, numbers(result))), f"{what} gives numbers that are not finite"
    if name not in ("quantize_weights", "a loss called"):  # whose work it is
        after = state_of(given)
        assert len(after) == len(before), what
        first = 1 if name in UNCHECKED else 0
        assert all(map(same, before[first:], after[first:])), f"{what} has disturbed something"


@pytest.mark.parametrize("name", CASES)
def test_the_arguments_that_are_swept_from_are_allowed(name: str) -> None:
    call, make = CASES[name]
    call(**make())


@pytest.mark.filterwarnings("ignore:.*(nested tensors|Sparse CSR).*:UserWarning")
@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_an_argument_that_is_not_allowed_is_named_and_nothing_is_disturbed(name: str, data: st.DataObject) -> None:
    _, make = CASES[name]
    names = sorted(make())
    if not names:
        return
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    swept(name, {argument: data.draw(st.sampled_from(sorted(HOSTILE))) for argument in chosen})


def test_every_public_function_and_rule_is_swept() -> None:
    assert set(flatness.__all__) - CASES.keys() == set()
