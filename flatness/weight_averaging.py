"""Averages of the weights along training, on torch.optim.swa_utils: EMA, SWA, and power-function EMA.

    shadows = Shadows(model, {"ema": EMA(0.9999), "swa": SWA(start=180_000, cycle=100)})
    for step in range(steps):
        ...                                    # forward, backward, optimizer.step()
        shadows.update(step)
    with shadows.applied("ema", model):        # the average in the model's place
        evaluate(model)

EMA and SWA are those of Algorithm 1 of "Understanding Flatness in Generative Models: Its Role and Benefits", lines 12
to 17. Power-function EMA, and the reconstruction of an EMA of any length after training from snapshots of two, are
Karras et al. 2024 ("Analyzing and Improving the Training Dynamics of Diffusion Models"), Section 3.

Buffers (BatchNorm's running statistics) are not averaged: a shadow has those that the model had at its last update. A
model with BatchNorm needs `torch.optim.swa_utils.update_bn` on the shadow before use; GroupNorm needs nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flatness import arguments

LARGEST_SIGMA_REL = math.sqrt(1 / 3) / 2
"""The relative width of gamma = 0, the plain mean over the whole of training."""
RESOLVED = 1e-13
"""Singular values of the fit's matrix below this share of the largest are rounding: float64, a few hundred profiles."""


@dataclass(frozen=True)
class EMA:
    """w_ema <- decay w_ema + (1 - decay) w after every step, from the initial weights on (Algorithm 1, line 16)."""

    decay: float = 0.9999

    def __post_init__(self) -> None:
        """Check the rate."""
        arguments.number("decay", self.decay, at_least=0, at_most=1)


@dataclass(frozen=True)
class SWA:
    """The mean of the weights after steps start, ... that are multiples of cycle, steps counted from 0 (line 14)."""

    start: int = 0
    cycle: int = 1

    def __post_init__(self) -> None:
        """Check both counts."""
        arguments.count("start", self.start)
        arguments.count("cycle", self.cycle, at_least=1)


@dataclass(frozen=True)
class PowerEMA:
    """w_gamma(t) <- beta w_gamma(t - 1) + (1 - beta) w(t), beta = (1 - 1/t)^(gamma + 1), t = 1, 2, ... steps made.

    The average of the weights after step k then has weight (k^(gamma+1) - (k-1)^(gamma+1)) / t^(gamma+1): the profile
    (gamma + 1) tau^gamma / t^(gamma+1) on [0, t], whose width grows with training (Karras et al. 2024, Section 3.1).
    """

    gamma: float

    def __post_init__(self) -> None:
        """Check the exponent."""
        arguments.number("gamma", self.gamma, at_least=0)

    @classmethod
    def of_width(cls, sigma_rel: float) -> PowerEMA:
        """The profile of which the standard deviation is this share of training, in (0, 12^(-1/2)].

        Solves sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), which falls in gamma, by bisection.
        """
        sigma_rel = arguments.number("sigma_rel", sigma_rel, above=0, at_most=LARGEST_SIGMA_REL)
        low, high = 0.0, 1 / sigma_rel  # sigma_rel(gamma) < 1 / (gamma + 2)
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if cls(middle).sigma_rel > sigma_rel else (low, middle)
        return cls(low)

    @property
    def sigma_rel(self) -> float:
        """The standard deviation of the profile, as a share of training."""
        return math.sqrt((self.gamma + 1) / (self.gamma + 3)) / (self.gamma + 2)


Rule = EMA | SWA | PowerEMA


class _Average(AveragedModel):
    """torch's container, with an update that does not wait for the device.

    torch's own copies n_averaged to the device at every update, which waits for all that is queued there; here it stays
    on the CPU. It also walks through both models; here the trained one is walked through once for all averages.
    """

    def __init__(self, model: nn.Module) -> None:
        """Copy the model."""
        super().__init__(model)
        self._own: list[Tensor] = list(self.module.parameters())
        self._with_buffers = [m for m in self.module.modules() if any(True for _ in m.buffers(recurse=False))]

    def update_parameters(self, model: nn.Module) -> None:
        """Take in the model's weights and buffers as they are."""
        self.take_in(list(model.parameters()), list(model.buffers()))

    @torch.no_grad()
    def take_in(self, weights: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
        """As `update_parameters`, of a model that has been walked through."""
        weights = [w.to(own.device) for own, w in zip(self._own, weights, strict=True)]
        if int(self.n_averaged) == 0:
            torch._foreach_copy_(self._own, weights)
        else:
            self.multi_avg_fn(self._own, weights, self.n_averaged)  # type: ignore[misc]
        # By identity: a buffer that modules share counts once, as in `buffers`
        own_buffers = {id(b): b for m in self._with_buffers for b in m.buffers(recurse=False)}
        for own, b in zip(own_buffers.values(), buffers, strict=True):
            own.copy_(b)
        self.n_averaged += 1


def _averaged(model: nn.Module, rule: Rule) -> _Average:
    """A copy of the model that averages by the rule. Its first update copies the weights, later ones average."""
    average = _Average(model)
    if isinstance(rule, EMA):
        average.multi_avg_fn = get_ema_multi_avg_fn(rule.decay)
        average.update_parameters(model)  # so that the EMA starts from the weights now, not from those of step 0
        return average

    @torch.no_grad()
    def update(averages: Any, weights: Any, _: Tensor | int) -> None:
        # The library's own SWA rounds the share to float32, also for float64 weights
        t = int(average.n_averaged) + 1
        share = 1 / t if isinstance(rule, SWA) else -math.expm1((rule.gamma + 1) * math.log1p(-1 / t))
        torch._foreach_lerp_(averages, weights, share)

    average.multi_avg_fn = update
    return average


class Snapshot(TypedDict):
    """A power-function EMA at one time, in plain types, so that torch.load(weights_only=True) reads it.

    gamma: the exponent; steps: how many were made, t; weights: the averaged parameters by name.
    """

    gamma: float
    steps: int
    weights: dict[str, Tensor]


class Shadows:
    """Several averages of one model's weights, kept up by one call a step. Each costs one copy of the model.

    `shadows["ema"]` is the averaged module, ready to be called.

    Args:
        model: the module that is trained, of float32 or float64 parameters; under DDP the module inside, `ddp.module`.
        rules: EMA, SWA or PowerEMA by name.
        first_step: the step of the first update.

    Raises:
        ValueError: no rules, a rule of another kind, a model without parameters, wrapped, or of low precision (where
            1 - decay is too small a share to move the average).
    """

    def __init__(self, model: nn.Module, rules: Mapping[str, Rule], first_step: int = 0) -> None:
        """Copy the model once a rule."""
        self._model = arguments.module("model", model)
        if hasattr(model, "no_sync"):
            raise arguments.refuse("model", type(model).__name__, "the module inside the data-parallel one, .module")
        for name, p in model.named_parameters():
            if p.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"model's {name} is of dtype {p.dtype}; allowed: float32, float64")
        if not rules or not all(isinstance(rule, Rule) for rule in rules.values()):
            raise arguments.refuse("rules", rules, "at least one EMA, SWA or PowerEMA, by name")
        self.rules = dict(rules)
        self.next_step = arguments.count("first_step", first_step)
        self._shadows = {name: _averaged(model, rule) for name, rule in rules.items()}
        self._applied = False

    def __getitem__(self, name: str) -> nn.Module:
        """The averaged module.

        Raises:
            ValueError: an unknown name, or an SWA that has not begun.
        """
        arguments.choice("name", name, self._shadows)
        if int(self._shadows[name].n_averaged) == 0:
            raise ValueError(f"name is {name!r}, which has averaged nothing yet; allowed: from {self.rules[name]} on")
        return self._shadows[name].module

    def update(self, step: int) -> None:
        """Take in the model's weights after this step, counted from 0, to every average whose turn it is.

        Raises:
            ValueError: a step other than the one after the last.
            RuntimeError: an average is in the model's place (`applied`).
        """
        if self._applied:
            raise RuntimeError("update was called within applied(): the average would take in an average")
        if step != self.next_step:
            raise ValueError(f"step is {step!r}; allowed: {self.next_step}, each step once and in order")
        weights, buffers = list(self._model.parameters()), list(self._model.buffers())
        for name, rule in self.rules.items():
            if not isinstance(rule, SWA) or (step >= rule.start and step % rule.cycle == 0):
                self._shadows[name].take_in(weights, buffers)
        self.next_step += 1

    def copy_to(self, name: str, model: nn.Module) -> None:
        """Copy an average, buffers too, into a model of the same architecture, in place.

        Raises:
            ValueError: as `shadows[name]`; RuntimeError: the model's entries or shapes differ.
        """
        model.load_state_dict(self[name].state_dict())

    @contextlib.contextmanager
    def applied(self, name: str, model: nn.Module) -> Iterator[None]:
        """Within, the model has the average's weights and buffers; on leaving, its own again, bit for bit.

        Raises:
            ValueError, RuntimeError: as `copy_to`.
        """
        tensors = [*model.parameters(), *model.buffers()]
        own = [t.detach().clone() for t in tensors]
        try:
            self.copy_to(name, model)
            self._applied = model is self._model
            yield
        finally:
            self._applied = False
            with torch.no_grad():
                torch._foreach_copy_(tensors, own)

    def snapshots(self) -> list[Snapshot]:
        """Copies on the CPU of all power-function EMAs as they stand, to be saved for `reconstruct`."""
        found: list[Snapshot] = []
        for name, rule in self.rules.items():
            steps = int(self._shadows[name].n_averaged)
            if isinstance(rule, PowerEMA) and steps > 0:
                weights = {key: p.detach().to("cpu", copy=True) for key, p in self[name].named_parameters()}
                found.append({"gamma": rule.gamma, "steps": steps, "weights": weights})
        return found

    def state_dict(self) -> dict[str, Any]:
        """All averages, in plain types and tensors (not copied, as in torch's modules)."""
        rules = {name: {"kind": type(rule).__name__, **asdict(rule)} for name, rule in self.rules.items()}
        shadows = {name: shadow.state_dict() for name, shadow in self._shadows.items()}
        return {"next_step": self.next_step, "rules": rules, "shadows": shadows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict` of the same rules.

        Raises:
            ValueError: other rules; RuntimeError: the model's entries or shapes differ.
        """
        rules = self.state_dict()["rules"]
        if state_dict.get("rules") != rules:
            raise ValueError(f"state_dict has the rules {state_dict.get('rules')}; allowed: {rules}")
        for name, shadow in self._shadows.items():
            shadow.load_state_dict(state_dict["shadows"][name])
        self.next_step = state_dict["next_step"]


class Fit(NamedTuple):
    """An EMA profile as a combination of others.

    coefficients: one for each profile, summing to 1; error: the L2 norm of what is left over the L2 norm of the
    target profile; amplification: the sum of the coefficients' magnitudes, by which rounding in snapshots grows.
    """

    coefficients: list[float]
    error: float
    amplification: float


def _inner_product(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The integral of two profiles (gamma, t), (gamma + 1) tau^gamma / t^(gamma+1) on [0, t], over their L2 norms."""
    (p, s), (q, t) = sorted((a, b), key=lambda profile: profile[1])
    overlap = math.sqrt((2 * p + 1) * (2 * q + 1)) / (p + q + 1)
    return overlap * (s / t) ** (q + 0.5)


def fit(profiles: Sequence[tuple[float, float]], target: tuple[float, float]) -> Fit:
    """The combination of power-function profiles nearest to another in L2 (Karras et al. 2024, Section 3.2).

    Their least squares, with the coefficients made to sum to 1, so that weights that stand still are reproduced
    exactly, not up to the error of the fit.

    Args:
        profiles: (gamma, steps) of the snapshots.
        target: (gamma, steps) of the average that is wanted.

    Raises:
        ValueError: no profile, a gamma below 0, no steps, or a target later than every snapshot.
    """
    for gamma, steps in (*profiles, target):
        arguments.number("gamma", gamma, at_least=0)
        arguments.number("steps", steps, above=0)
    latest = max((steps for _, steps in profiles), default=0)
    if target[1] > latest:
        raise ValueError(f"target has {target[1]} steps; allowed: at most {latest}, those of the latest snapshot")
    size = len(profiles)
    every = (*profiles, target)
    norms = torch.tensor([(g + 1) / math.sqrt((2 * g + 1) * t) for g, t in every], dtype=torch.float64)
    gram = torch.tensor([[_inner_product(a, b) for a in profiles] for b in every], dtype=torch.float64)
    # with all profiles scaled to norm 1: least |sum y_i u_i - u|^2 where the coefficients, sums_i y_i, sum to 1
    sums = norms[-1] / norms[:-1]
    system = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    system[:size, :size], system[size, :size], system[:size, size] = gram[:-1], sums, sums
    right = torch.cat([gram[-1], torch.ones(1, dtype=torch.float64)])
    y = torch.linalg.lstsq(system, right[:, None], rcond=RESOLVED, driver="gelsd").solution[:size, 0]
    error = float((1 - 2 * y @ gram[-1] + y @ gram[:-1] @ y).clamp(min=0).sqrt())
    coefficients = y * sums
    return Fit(coefficients.tolist(), error, float(coefficients.abs().sum()))


def reconstruct(snapshots: Sequence[Snapshot], rule: PowerEMA, steps: int | None = None) -> dict[str, Tensor]:
    """The parameters, by name, of a power-function EMA that was not tracked (post-hoc EMA).

    Summed in float64, one parameter at a time; snapshots loaded with `torch.load(path, mmap=True)` stay on disk.
    How good it is, `fit` says.

    Args:
        snapshots: from `Shadows.snapshots`, of two exponents or more, over the whole of training.
        rule: the average that is wanted.
        steps: at which time, at most that of the latest snapshot; None for that one.

    Raises:
        ValueError: as `fit`, or snapshots of different parameters.
    """
    if not snapshots:
        raise ValueError("snapshots is empty; allowed: at least one snapshot")
    steps = max(snapshot["steps"] for snapshot in snapshots) if steps is None else steps
    found = fit([(snapshot["gamma"], snapshot["steps"]) for snapshot in snapshots], (rule.gamma, steps))
    names = snapshots[0]["weights"].keys()
    if any(snapshot["weights"].keys() != names for snapshot in snapshots):
        raise ValueError("snapshots are of different parameters; allowed: snapshots of one model")
    combined: dict[str, Tensor] = {}
    for name in names:
        like = snapshots[0]["weights"][name]
        total = torch.zeros_like(like, dtype=torch.float64)
        for snapshot, coefficient in zip(snapshots, found.coefficients, strict=True):
            total.add_(snapshot["weights"][name].double(), alpha=coefficient)
        combined[name] = total.to(like.dtype)
    return combined
