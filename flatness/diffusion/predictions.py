"""What networks predict (epsilon, x_0, v, flow), what each is trained towards, and one as the other.

With x_t = alpha x_0 + sigma epsilon:

    epsilon   the noise (Ho et al., 2020)
    x_0       the data, "sample" in diffusers
    v         alpha epsilon - sigma x_0 (Salimans and Ho, 2022)
    flow      epsilon - x_0, the velocity of the straight path from data to noise (Liu et al., 2023)

Each determines x_0 and epsilon together with x_t, for any alpha and sigma that are not both 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments

PREDICTIONS = ("epsilon", "x_0", "v", "flow")
POSITIONAL = "positional"


def prediction_target(prediction: str, x_0: Tensor, epsilon: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network of this prediction is trained towards; alpha and sigma multiply x_0's shape.

    Raises:
        ValueError: prediction is not one of PREDICTIONS.
    """
    arguments.choice("prediction", prediction, PREDICTIONS)
    if prediction == "epsilon":
        return epsilon
    if prediction == "x_0":
        return x_0
    return alpha * epsilon - sigma * x_0 if prediction == "v" else epsilon - x_0


def data_and_noise(prediction: str, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The x_0 and epsilon that an output of this prediction stands for at x_t.

    From epsilon, x_0 is not finite where alpha is 0; from x_0, epsilon is not where sigma is 0.

    Raises:
        ValueError: prediction is not one of PREDICTIONS.
    """
    arguments.choice("prediction", prediction, PREDICTIONS)
    if prediction == "epsilon":
        return (x_t - sigma * output) / alpha, output
    if prediction == "x_0":
        return output, (x_t - alpha * output) / sigma
    if prediction == "v":
        power = alpha.square() + sigma.square()
        return (alpha * x_t - sigma * output) / power, (sigma * x_t + alpha * output) / power
    return (x_t - sigma * output) / (alpha + sigma), (x_t + alpha * output) / (alpha + sigma)


def converted_prediction(source: str, wanted: str, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """An output of one prediction as another.

    Args:
        source, wanted: of PREDICTIONS.
        output, x_t: of one shape.
        alpha, sigma: multiply that shape.

    Raises:
        ValueError: source or wanted is not one of PREDICTIONS.
    """
    arguments.choice("source", source, PREDICTIONS)
    arguments.choice("wanted", wanted, PREDICTIONS)
    for name, value in (("output", output), ("x_t", x_t), ("alpha", alpha), ("sigma", sigma)):
        arguments.floating_tensor(name, value)
    if output.shape != x_t.shape or output.is_meta != x_t.is_meta:
        raise arguments.refuse("output", output, f"a tensor of x_t's shape, {tuple(x_t.shape)}")
    for name, value in (("alpha", alpha), ("sigma", sigma)):
        fits = value.dim() <= x_t.dim() and value.is_meta == x_t.is_meta
        pairs = zip(reversed(value.shape), reversed(x_t.shape), strict=False)
        if not fits or any(own not in (1, size) for own, size in pairs):
            raise arguments.refuse(name, value, f"a tensor that multiplies x_t's shape, {tuple(x_t.shape)}")
    if source == wanted:
        return output
    x_0, epsilon = data_and_noise(source, output, x_t, alpha, sigma)
    return prediction_target(wanted, x_0, epsilon, alpha, sigma)


def prediction_of(output: object) -> Tensor:
    """The tensor in what a network returned: itself; a tuple's or list's first; "sample" of a mapping or an object.

    Raises:
        ValueError: there is no floating-point tensor at that place.
    """
    predicted = output
    if isinstance(output, Mapping):
        predicted = (
            output["sample"] if "sample" in output else next(iter(output.values())) if len(output) == 1 else None
        )
    elif isinstance(output, tuple | list):
        predicted = output[0] if output else None
    elif not isinstance(output, Tensor):
        predicted = getattr(output, "sample", None)
    if not isinstance(predicted, Tensor) or not predicted.is_floating_point():
        allowed = "a floating-point tensor, a tuple that begins with one, or one under the name 'sample'"
        raise arguments.refuse("what model returned", output, allowed)
    return predicted


@dataclass(frozen=True)
class ModelCall:
    """How a network is called: (x, t), perhaps labels, perhaps keywords; and its output, split where it has to be.

    Attributes:
        labels: None, where the network is given none; "positional", for an argument after x (and t); or the name of a
            keyword. Classes (n,) are handed on as they are, conditioning by numbers (n, ...) in the type of the
            network's weights.
        keywords: further keyword arguments, the same at each call.
        time_scale: what continuous times are multiplied by for the network, not 0; steps of a discrete process are not.
        time: "positional", for the second argument, or the name of a keyword, as "timestep" of many transformers.
        time_offset: what is added to continuous times after that: with time_scale -1 and offset 1, time runs from noise
            to data.
        output_scale: what the network's output is multiplied by: -1 where it predicts data less noise, say.
        one_hot: where it is not 0, whole-number labels become one-hot rows of this length.
    """

    labels: str | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    time_scale: float = 1.0
    time: str = POSITIONAL
    time_offset: float = 0.0
    output_scale: float = 1.0
    one_hot: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.labels is not None and (not isinstance(self.labels, str) or not self.labels.isidentifier()):
            raise arguments.refuse("labels", self.labels, f"None, {POSITIONAL!r} or a keyword's name")
        if not isinstance(self.time, str) or not self.time.isidentifier():
            raise arguments.refuse("time", self.time, f"{POSITIONAL!r} or a keyword's name")
        arguments.instance("keywords", self.keywords, Mapping)  # type: ignore[type-abstract]
        if not all(isinstance(key, str) for key in self.keywords):
            raise arguments.refuse("keywords", self.keywords, "values by the names of arguments")
        for name in ("time_scale", "output_scale"):
            if not arguments.number(name, getattr(self, name)):
                raise arguments.refuse(name, getattr(self, name), "a finite number that is not 0")
        arguments.number("time_offset", self.time_offset)
        arguments.count("one_hot", self.one_hot)

    def __call__(self, model: nn.Module, x: Tensor, t: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The prediction and, where the network returns twice x's channels, their second half; both of x's shape.

        x is given in the type of the network's weights, continuous t in float32 (float64 where x is), and what comes
        back is in x's type again.

        Args:
            model: the network.
            x: (n, C, ...).
            t: (n,), steps (int64) or times.
            labels: (n,) classes or (n, ...) conditioning, or None.

        Raises:
            ValueError: an argument is not as above, the network wants labels and there are none, or its output does
                not fit x.
        """
        if arguments.floating_tensor("x", x).dim() < 2:
            raise arguments.refuse("x", x, "samples (n, C, ...)")
        if not arguments.is_dense(t) or t.is_complex() or t.is_meta != x.is_meta:
            raise arguments.refuse("t", t, "a tensor (n,) of steps or times, on a device as x")
        if labels is not None and (not arguments.is_dense(labels) or labels.is_meta != x.is_meta):
            raise arguments.refuse("labels", labels, "a tensor (n, ...) on a device as x, or None")
        if self.labels is not None and labels is None:
            raise ValueError("labels is None for a class-conditional model; allowed: data with labels (n,)")
        own = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
        returned = self.returned(model, x.to(own), self._time(x, t), labels)
        output = prediction_of(returned).to(x.dtype)
        scale = self.output_scale
        if output.shape == x.shape:
            return output if scale == 1.0 else output * scale, None
        doubled = (x.shape[0], 2 * x.shape[1], *x.shape[2:])
        if tuple(output.shape) == doubled:
            first, second = output.chunk(2, dim=1)
            return first if scale == 1.0 else first * scale, second
        allowed = f"x's shape {tuple(x.shape)}, or {doubled} with a learned variance"
        raise arguments.refuse("what model returned", output, allowed)

    def returned(self, model: nn.Module, x: Tensor, t: Tensor, labels: Tensor | None) -> object:
        """What the network returns for x, t and labels in its own types; a subclass calls it in another way."""
        positional, named = [x], dict(self.keywords)
        if self.time == POSITIONAL:
            positional.append(t)
        else:
            named[self.time] = t
        if self.labels is not None and labels is not None:
            given = self._labels(labels, x)
            if self.labels == POSITIONAL:
                positional.append(given)
            else:
                named[self.labels] = given
        return model(*positional, **named)

    def _labels(self, labels: Tensor, x: Tensor) -> Tensor:
        if self.one_hot and not labels.is_floating_point():
            classes = labels.long()
            known = not classes.is_meta and classes.numel() > 0
            if known and not 0 <= int(classes.min()) <= int(classes.max()) < self.one_hot:
                raise arguments.refuse("labels", classes.tolist(), f"classes from 0 to {self.one_hot - 1}")
            labels = torch.nn.functional.one_hot(classes, self.one_hot).to(x.dtype)
        return labels.to(x.device, x.dtype) if labels.is_floating_point() else labels.to(x.device)

    def _time(self, x: Tensor, t: Tensor) -> Tensor:
        if t.is_floating_point():
            t = (t * self.time_scale + self.time_offset).to(torch.promote_types(x.dtype, torch.float32))
        return t.to(x.device)

    def settings(self) -> dict[str, Any]:
        """For records: labels, keywords and time's scale, and what else is not as usual."""
        settings = {"labels": self.labels, "keywords": dict(self.keywords), "time_scale": self.time_scale}
        usual = {"time": POSITIONAL, "time_offset": 0.0, "output_scale": 1.0, "one_hot": 0}
        return settings | {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
