"""Losses of diffusion and flow models as the measures take them: `loss(model, batch)`, one number a sample.

    loss = epsilon_loss(alphas_cumprod)          # or x_0_loss, v_loss, flow_loss, edm_loss
    batches = fixed_batches(images, seed=0)
    low_pass_filter(model, loss, batches)

A batch of `fixed_batches` carries its noise and its time's position in the distribution of times, so that a sample's
loss is a function of the model alone, whatever the batch size, and losses of different models and parametrisations are
paired. A loss takes bare tensors and (x_0, labels) too; noise and times then come from torch's generator on the CPU,
which every measure seeds by (seed, index of the batch). Either way they are the same on every device.

A sample's loss is the mean over its entries of the squared error of what the network predicts, times a weight that is 1
by default, so that `readout`'s closed forms (reduction "mean") apply; edm_loss's weight makes that of the raw network.

Two losses are of networks that are called by other public codes' conventions: `sit_loss` and `edm2_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.diffusion.noise_paths import (
    EDM_PATH,
    RECTIFIED_FLOW,
    ContinuousPath,
    DiscretePath,
    LogNormal,
    Path,
    Times,
    broadcast,
    stratified_positions,
)
from flatness.diffusion.predictions import PREDICTIONS, ModelCall, data_and_noise, prediction_target
from flatness.weights import derived_seed

Weight = Callable[[Tensor, Tensor], Tensor]


class Batch(NamedTuple):
    """Samples with all that is random about their losses.

    Attributes:
        x_0: (n, ...), data as the model knows it.
        labels: (n,) classes, or None.
        noise: of x_0's shape, standard normal; None to draw it.
        u: (n,), float64, each sample's position in the distribution of times, within (0, 1); None to draw them.
    """

    x_0: Tensor
    labels: Tensor | None = None
    noise: Tensor | None = None
    u: Tensor | None = None


def fixed_batches(
    x_0: Tensor,
    labels: Tensor | None = None,
    *,
    batch_size: int = 128,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> list[Batch]:
    """The data in batches, with noise and stratified positions that are a function of the seed and the data's shape.

    Args:
        x_0: (n, ...), floating point.
        labels: (n,) classes, or None.
        batch_size: samples in one batch; changes losses by rounding only.
        seed: of noise and positions.
        device: where the batches are put; x_0's by default.

    Raises:
        ValueError: an argument is not as above.
    """
    data = arguments.finite_tensor("x_0", x_0).detach()
    if data.dim() < 2:
        raise arguments.refuse("x_0", x_0, "samples of shape (n, ...)")
    if labels is not None and (not arguments.is_dense(labels) or labels.shape[:1] != data.shape[:1]):
        raise arguments.refuse("labels", labels, f"a tensor ({len(data)},), one label a sample of x_0, or None")
    if labels is not None and (labels.is_meta or not bool(torch.isfinite(labels).all())):
        raise arguments.refuse("labels", labels, "finite numbers")
    batch_size = arguments.count("batch_size", batch_size, at_least=1)
    generator = torch.Generator().manual_seed(derived_seed("batches", arguments.count("seed", seed)))
    u = stratified_positions(len(data), generator)
    noise = torch.randn(data.shape, generator=generator)
    place = data.device if device is None else _place(device)
    encoded = []
    for part in torch.arange(len(data)).split(batch_size):
        at = slice(int(part[0]), int(part[-1]) + 1)
        own = None if labels is None else labels[at].to(place)
        encoded.append(Batch(data[at].to(place), own, noise[at].to(place, data.dtype), u[at]))
    return encoded


def _place(device: object) -> torch.device:
    """A device that tensors can be put on; ValueError says what can be."""
    try:
        return torch.empty(0, device=device).device  # type: ignore[call-overload]
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise arguments.refuse("device", device, "a device of this machine, as 'cpu' or 'cuda'") from error


def completed(batch: Any) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """x_0, labels, noise and u of a batch: what is missing is drawn from torch's global generator on the CPU.

    Raises:
        ValueError: it is neither a `Batch`, nor a floating-point tensor, nor a tuple of one with or without labels.
    """
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    fits = 1 <= len(parts) <= (4 if isinstance(batch, Batch) else 2)
    if not fits or not arguments.is_dense(parts[0]) or not parts[0].is_floating_point() or parts[0].dim() < 2:
        raise arguments.refuse("batch", batch, "a floating-point tensor (n, ...), (tensor, labels), or a Batch")
    whole = Batch(*parts)
    x_0, labels, noise, u = whole
    if labels is not None and (not arguments.is_dense(labels) or labels.dim() == 0):
        raise arguments.refuse("batch's labels", labels, "a tensor (n, ...), or None")
    for name, part in (("noise", noise), ("u", u)):
        if part is not None:
            arguments.floating_tensor(f"batch's {name}", part)
    if any(part is not None and part.is_meta for part in whole):
        raise arguments.refuse("batch", batch, "tensors with values, not on meta: x_0, labels, noise, u")
    if noise is None:
        noise = torch.randn(x_0.shape).to(x_0)
    if u is None:
        u = stratified_positions(len(x_0))
    if not bool(((u > 0) & (u < 1)).all()):
        raise arguments.refuse("batch's u", u, "positions between 0 and 1")
    if noise.shape != x_0.shape or u.shape != x_0.shape[:1] or (labels is not None and len(labels) != len(x_0)):
        shapes = [None if part is None else tuple(part.shape) for part in whole]
        raise arguments.refuse("batch's shapes (x_0, labels, noise, u)", shapes, "n samples in each, noise as x_0")
    return x_0, labels, noise, u


@dataclass(frozen=True)
class DiffusionLoss:
    """The squared error of a network's prediction, of each sample (n,); see the module's docstring.

    Attributes:
        path: how data is noised.
        prediction: "epsilon", "x_0", "v" or "flow" (`flatness.diffusion.predictions`).
        times: the distribution of times (`flatness.diffusion.noise_paths`); the path's uniform one where it is None.
        call: how the network is called.
        weight: of each sample's loss, a function of alpha and sigma (n,) in float64; None for 1.
    """

    path: Path
    prediction: str = "epsilon"
    times: Times | None = None
    call: ModelCall = field(default_factory=ModelCall)
    weight: Weight | None = None

    def __post_init__(self) -> None:
        """Check all fields."""
        arguments.choice("prediction", self.prediction, PREDICTIONS)
        if not isinstance(self.path, DiscretePath | ContinuousPath):
            raise arguments.refuse("path", self.path, "alphas_cumprod (T,), a DiscretePath or a ContinuousPath")
        for name in ("times", "weight"):
            if getattr(self, name) is not None:
                arguments.function(name, getattr(self, name))

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The losses (n,).

        Raises:
            ValueError: the batch, the times or what the network returns are not as documented.
        """
        x_0, labels, noise, u = completed(batch)
        t = self._drawn(u)
        alpha, sigma = broadcast(self.path.coefficients(t), x_0)
        output, _ = self.call(model, alpha * x_0 + sigma * noise, t, labels)
        error = output - prediction_target(self.prediction, x_0, noise, alpha, sigma)
        return self._weighted(error.square().flatten(1).mean(1), t)

    @property
    def is_squared_error(self) -> bool:
        """Whether a sample's loss is the mean squared error of the network's output with weight 1."""
        return self.weight is None

    def _drawn(self, u: Tensor) -> Tensor:
        """Times (n,) at the positions u (n,)."""
        t = (self.times or self.path.uniform())(u)
        known = arguments.is_dense(t) and not t.is_meta and not t.is_complex() and t.dtype != torch.bool
        if not known or t.shape != u.shape or not bool(t.isfinite().all()):
            raise arguments.refuse("what times returned", t, f"a tensor ({len(u)},) of finite numbers")
        return t

    def _weighted(self, losses: Tensor, t: Tensor) -> Tensor:
        if self.weight is None:
            return losses
        weight = self.weight(*self.path.coefficients(t))
        if not arguments.has_reals(weight) or weight.shape != t.shape or not bool(weight.isfinite().all()):
            raise arguments.refuse("what weight returned", weight, f"a tensor ({len(t)},) of finite numbers")
        return losses * weight.to(losses.dtype).to(losses.device)

    def epsilon(self, model: nn.Module, x_t: Tensor, t: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The noise that the network predicts at x_t and, where it returns one, v of a learned variance."""
        alpha, sigma = broadcast(self.path.coefficients(t), x_t)
        output, v = self.call(model, x_t, t, labels)
        return data_and_noise(self.prediction, output, x_t, alpha, sigma)[1], v

    def settings(self) -> dict[str, Any]:
        """For records."""
        times = str(self.times or self.path.uniform())
        own = {"prediction": self.prediction, "times": times, "weight": _named(self.weight)}
        return own | self.path.settings() | self.call.settings()


def _named(function: object) -> str | None:
    return None if function is None else getattr(function, "__qualname__", repr(function))


@dataclass(frozen=True)
class EDMLoss(DiffusionLoss):
    """Karras et al. (2022): weight(sigma) ||D(x_0 + sigma n; sigma) - x_0||^2, the mean over entries, of each sample.

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (their Eq. 7 and Table 1), the weight 1 / c_out^2, times = sigma.

    Attributes:
        sigma_data: the data's standard deviation.
        preconditioned: whether the network is D itself, called with (x, sigma); else F, with (c_in x, c_noise).
    """

    path: Path = EDM_PATH
    prediction: str = "x_0"
    times: Times | None = field(default_factory=LogNormal)
    sigma_data: float = 0.5
    preconditioned: bool = False

    def __post_init__(self) -> None:
        """Check all fields."""
        super().__post_init__()
        arguments.number("sigma_data", self.sigma_data, above=0.0)
        arguments.flag("preconditioned", self.preconditioned)

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The losses (n,)."""
        x_0, labels, noise, u = completed(batch)
        sigma = self._levels(self._drawn(u))
        wide, _ = broadcast((sigma, sigma), x_0)
        error = self.denoised(model, x_0 + wide * noise, sigma, labels) - x_0
        weight = self.loss_weight(sigma)
        return self._weighted(error.square().flatten(1).mean(1) * weight.to(x_0.dtype).to(x_0.device), sigma)

    @property
    def is_squared_error(self) -> bool:
        """As of other losses; the weight makes it that of F, where the network is F."""
        return self.weight is None and not self.preconditioned

    def _levels(self, t: Tensor) -> Tensor:
        """Noise levels (n,), float64 on the CPU: above 0, for the network is told their logarithm."""
        sigma = t.cpu().double()
        if not bool(((sigma > 0) & sigma.isfinite()).all()):
            raise arguments.refuse("times", sigma.tolist(), "noise levels sigma greater than 0")
        return sigma

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """1 / c_out^2 (n,)."""
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()

    def denoised(self, model: nn.Module, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """D(x; sigma), of x's shape, at noise levels sigma (n,)."""
        if self.preconditioned:
            return self.call(model, x, sigma, labels)[0]
        power = sigma.square() + self.sigma_data**2
        c_skip, c_out = broadcast((self.sigma_data**2 / power, sigma * self.sigma_data / power.sqrt()), x)
        c_in, _ = broadcast((power.rsqrt(), power), x)
        return c_skip * x + c_out * self.call(model, c_in * x, sigma.log() / 4.0, labels)[0]

    def epsilon(self, model: nn.Module, x_t: Tensor, t: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The noise that D stands for at x_t."""
        sigma = self._levels(t)
        wide, _ = broadcast((sigma, sigma), x_t)
        return (x_t - self.denoised(model, x_t, sigma, labels)) / wide, None

    def settings(self) -> dict[str, Any]:
        """For records."""
        return super().settings() | {"sigma_data": self.sigma_data, "preconditioned": self.preconditioned}


def epsilon_loss(
    path: Path | Tensor,
    *,
    times: Times | None = None,
    labels: str | None = None,
    keywords: Mapping[str, Any] | None = None,
    time_scale: float = 1.0,
    weight: Weight | None = None,
) -> DiffusionLoss:
    """The loss of a network that predicts the noise (Ho et al., 2020, Eq. 14).

    Args:
        path: alphas_cumprod (T,), a `DiscretePath` or a `ContinuousPath`.
        times: the distribution of times; uniform by default.
        labels, keywords, time_scale: how the network is called (`flatness.diffusion.predictions.ModelCall`).
        weight: of each sample's loss, a function of alpha and sigma (n,); 1 by default.

    Raises:
        ValueError: an argument is not as above.
    """
    call = ModelCall(labels, {} if keywords is None else keywords, time_scale)
    return DiffusionLoss(_path(path), "epsilon", times, call, weight)


def x_0_loss(path: Path | Tensor, **own: Any) -> DiffusionLoss:
    """The same of a network that predicts the data ("sample" in diffusers); arguments as of `epsilon_loss`."""
    return _with(epsilon_loss(path, **own), "x_0")


def v_loss(path: Path | Tensor, **own: Any) -> DiffusionLoss:
    """The same of a network that predicts v (Salimans and Ho, 2022); arguments as of `epsilon_loss`."""
    return _with(epsilon_loss(path, **own), "v")


def flow_loss(path: Path | Tensor = RECTIFIED_FLOW, **own: Any) -> DiffusionLoss:
    """Flow matching: x_t = (1 - t) x_0 + t epsilon, the target epsilon - x_0; arguments as of `epsilon_loss`."""
    return _with(epsilon_loss(path, **own), "flow")


def edm_loss(
    sigma_data: float = 0.5,
    *,
    preconditioned: bool = False,
    times: Times | None = None,
    labels: str | None = None,
    keywords: Mapping[str, Any] | None = None,
    weight: Weight | None = None,
) -> EDMLoss:
    """The loss of Karras et al. (2022, Eqs. 2, 7 and Table 1); see `EDMLoss`.

    Args:
        sigma_data: the data's standard deviation.
        preconditioned: whether the network is the preconditioned denoiser D, rather than F inside it.
        times: the distribution of sigma; lognormal with P_mean = -1.2 and P_std = 1.2 by default.
        labels, keywords: how the network is called (`flatness.diffusion.predictions.ModelCall`).
        weight: a further weight, a function of alpha and sigma (n,).

    Raises:
        ValueError: an argument is not as above.
    """
    call = ModelCall(labels, {} if keywords is None else keywords)
    times = LogNormal() if times is None else times
    return EDMLoss(times=times, call=call, weight=weight, sigma_data=sigma_data, preconditioned=preconditioned)


def _path(path: object) -> Any:
    return DiscretePath(path) if isinstance(path, Tensor) else path


def _with(loss: DiffusionLoss, prediction: str) -> DiffusionLoss:
    return DiffusionLoss(loss.path, prediction, loss.times, loss.call, loss.weight)


EDM2_TIMES = LogNormal(-0.4, 1.0)
"""P_mean and P_std of Karras et al. (2024, Table 6 of the appendix), for latents of 64 x 64."""


def sit_loss(*, labels: str | None = "y", times: Times | None = None) -> DiffusionLoss:
    """The loss of SiT (Ma et al., 2024) with the linear path and velocity prediction.

    SiT's time runs from noise (0) to data (1), and its velocity from noise to data: model(x, t, y) at
    x = t x_0 + (1 - t) epsilon is trained towards x_0 - epsilon.

    Args:
        labels: how labels are handed over (`ModelCall`); None for an unconditional network.
        times: the distribution of times, in this package's direction (1 is noise); uniform by default.

    Raises:
        ValueError: an argument is not as above.
    """
    call = ModelCall(labels, time_scale=-1.0, time_offset=1.0, output_scale=-1.0)
    return DiffusionLoss(RECTIFIED_FLOW, "flow", times, call)


def edm2_loss(
    classes: int = 1000, *, sigma_data: float = 0.5, labels: str | None = "positional", times: Times | None = None
) -> EDMLoss:
    """The loss of EDM and EDM2's preconditioned networks: model(x, sigma, one-hot labels) is the denoiser D.

    Args:
        classes: length of the one-hot rows (label_dim); 0 for an unconditional network.
        sigma_data: the data's standard deviation, 0.5 in both codes.
        labels: how they are handed over (`ModelCall`).
        times: the distribution of sigma; EDM2's lognormal by default.

    Raises:
        ValueError: an argument is not as above.
    """
    one_hot = arguments.count("classes", classes)
    call = ModelCall(labels if one_hot else None, one_hot=one_hot)
    times = EDM2_TIMES if times is None else times
    return EDMLoss(times=times, call=call, sigma_data=sigma_data, preconditioned=True)
