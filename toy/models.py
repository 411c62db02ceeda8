"""The random-feature score of Eq. (9), s(x, t) = theta sigma(W^T x + U^T e_t) / m, for many seeds at once.

Every tensor has a leading dimension of seeds, S. The output is the predicted noise, or a score, which predicts the
noise -sqrt(1 - alpha_bar_t) s. Either way epsilon_hat = theta psi with psi = c_t phi / m, phi = sigma(W^T x + U^T e_t)
and c_t = 1 or -sqrt(1 - alpha_bar_t), and losses are mean squared errors of epsilon_hat over the d coordinates (for a
score this is score matching, weighted by 1 - alpha_bar_t).

The divisor m may be replaced. With 1 theta is the readout of an ordinary network; the function is that of theta
multiplied by m, but the radius of SAM, the learning rate and weight noise then have other units (T7).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from flatness import arguments
from toy.data import generator_of
from toy.process import Process, time_embedding


@dataclass(frozen=True)
class Activation:
    """sigma, and its chain rule: (gradient in phi, z, phi = sigma(z)) to the gradient in z.

    `overwriting` may write phi over z, where the chain rule does without z: fresh memory for large features costs more
    than the products.
    """

    function: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]
    overwriting: Callable[[Tensor], Tensor]


aten = torch.ops.aten
ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda z: z, lambda g, z, phi: g, lambda z: z),
    "relu": Activation(torch.relu, lambda g, z, phi: aten.threshold_backward(g, phi, 0), torch.relu_),
    "tanh": Activation(torch.tanh, lambda g, z, phi: aten.tanh_backward(g, phi), torch.tanh_),
    "softplus": Activation(
        functional.softplus, lambda g, z, phi: aten.softplus_backward(g, z, 1, 20), functional.softplus
    ),
    "gelu": Activation(functional.gelu, lambda g, z, phi: aten.gelu_backward(g, z), functional.gelu),
}
PREDICTIONS = ("noise", "score")


def predicted_noise(
    theta: Float[Tensor, "S d m"],
    V: Float[Tensor, "S i m"],
    inputs: Float[Tensor, "S n i"],
    scale: float | Float[Tensor, "S n 1"],
    activation: str,
) -> Float[Tensor, "S n d"]:
    """epsilon_hat = scale theta sigma(V^T (x, e_t)), V = (W; U), i = d + k, scale = c_t / divisor."""
    return torch.bmm(ACTIVATIONS[activation].overwriting(torch.bmm(inputs, V)), theta.mT) * scale


def losses_and_gradients(
    theta: Float[Tensor, "S d m"],
    V: Float[Tensor, "S i m"],
    inputs: Float[Tensor, "S n i"],
    scale: float | Float[Tensor, "S n 1"],
    epsilon: Float[Tensor, "S n d"],
    activation: str,
    learn_features: bool,
) -> tuple[Float[Tensor, " S"], list[Tensor]]:
    """Each seed's loss, the mean over points and coordinates, and its gradients in theta and, if learnt, in V.

    By hand: automatic differentiation takes twice the time at these sizes.
    """
    sigma = ACTIVATIONS[activation]
    z = torch.bmm(inputs, V)
    phi = sigma.overwriting(z)
    residual = torch.bmm(phi, theta.mT).mul_(scale).sub_(epsilon)
    loss = residual.square().mean((1, 2))
    upstream = residual.mul_(scale).mul_(2.0 / (epsilon.shape[1] * epsilon.shape[2]))
    gradients = [torch.bmm(upstream.mT, phi)]
    if learn_features:
        gradients.append(torch.bmm(inputs.mT, sigma.backward(torch.bmm(upstream, theta), z, phi)))
    return loss, gradients


@dataclass(frozen=True, eq=False)
class ScoreModels:
    """S random-feature models of one shape.

    Args:
        theta: (S, d, m).
        W: (S, d, m).
        U: (S, k, m), k even.
        process: the diffusion process, which gives alpha_bar_t and the number of embedded steps.
        activation: one of ACTIVATIONS.
        prediction: "noise" or "score".
        learn_features: whether W and U are trained with theta, or theta alone.
        divisor: what theta phi is divided by; None for m, as in Eq. (9).

    Raises:
        ValueError: an argument is not as above.
    """

    theta: Float[Tensor, "S d m"]
    W: Float[Tensor, "S d m"]
    U: Float[Tensor, "S k m"]
    process: Process
    activation: str = "relu"
    prediction: str = "noise"
    learn_features: bool = False
    divisor: float | None = None

    def __post_init__(self) -> None:
        """Check every argument."""
        theta = arguments.floating_tensor("theta", self.theta)
        if theta.dim() != 3 or 0 in theta.shape:
            raise arguments.refuse("theta", theta, "a tensor (S, d, m)")
        S, d, m = theta.shape
        for name, shape in (("W", (S, d, m)), ("U", (S, None, m))):
            tensor = arguments.floating_tensor(name, getattr(self, name))
            fits = tensor.dim() == 3 and all(b in (a, None) for a, b in zip(tensor.shape, shape, strict=True))
            if not fits or tensor.dtype != theta.dtype:
                raise arguments.refuse(name, tensor, f"a tensor of shape {shape}, of theta's dtype {theta.dtype}")
        arguments.instance("process", self.process, Process)
        arguments.choice("activation", self.activation, ACTIVATIONS)
        arguments.choice("prediction", self.prediction, PREDICTIONS)
        arguments.flag("learn_features", self.learn_features)
        if self.divisor is not None:
            arguments.number("divisor", self.divisor, above=0.0)
        table = time_embedding(self.process.steps, self.U.shape[1])
        object.__setattr__(self, "_embedding", table.to(theta))
        signs = torch.ones_like(self.process.noise) if self.prediction == "noise" else -self.process.noise
        object.__setattr__(self, "_coefficients", signs)

    @property
    def seeds(self) -> int:
        """S."""
        return self.theta.shape[0]

    @property
    def dimension(self) -> int:
        """d."""
        return self.theta.shape[1]

    @property
    def features_count(self) -> int:
        """m."""
        return self.theta.shape[2]

    @property
    def embedding(self) -> Float[Tensor, "T k"]:
        """e_t of every step, in theta's dtype."""
        return self._embedding  # type: ignore[attr-defined]

    @property
    def coefficients(self) -> Float[Tensor, " T"]:
        """c_t of every step, float64: the factor by which the output becomes the predicted noise."""
        return self._coefficients  # type: ignore[attr-defined]

    @property
    def normaliser(self) -> float:
        """What theta phi is divided by: the divisor, m unless given."""
        return float(self.features_count if self.divisor is None else self.divisor)

    @property
    def scales(self) -> Float[Tensor, " T"]:
        """c_t / divisor of every step, in theta's dtype."""
        return (self.coefficients / self.normaliser).to(self.theta.dtype)

    def replaced(
        self,
        theta: Float[Tensor, "S d m"] | None = None,
        W: Float[Tensor, "S d m"] | None = None,
        U: Float[Tensor, "S k m"] | None = None,
    ) -> ScoreModels:
        """The same models with other theta, W or U; None keeps what there is."""
        own = (self.theta, self.W, self.U)
        chosen = [current if new is None else new for new, current in zip((theta, W, U), own, strict=True)]
        return dataclasses.replace(self, theta=chosen[0], W=chosen[1], U=chosen[2])

    def features(self, x: Float[Tensor, "S n d"], t: int | Int[Tensor, "S n"]) -> Float[Tensor, "S n m"]:
        """phi; arguments and errors as in `epsilon`."""
        inputs, _ = self._inputs(x, t)
        return ACTIVATIONS[self.activation].function(torch.bmm(inputs, torch.cat([self.W, self.U], dim=1)))

    def epsilon(self, x: Float[Tensor, "S n d"], t: int | Int[Tensor, "S n"]) -> Float[Tensor, "S n d"]:
        """The predicted noise.

        Args:
            x: points for every seed.
            t: one step for all points, or one a point, from 0 to T - 1.

        Raises:
            ValueError: x or t is not as above.
        """
        if not self._checked_steps(x, t).dim():  # the time's part is the same for all points
            step = int(t)
            bias = (self.embedding[step] @ self.U)[:, None]
            phi = ACTIVATIONS[self.activation].overwriting(torch.baddbmm(bias, x.to(self.theta.dtype), self.W))
            return torch.bmm(phi, self.theta.mT).mul_(float(self.scales[step]))
        inputs, steps = self._inputs(x, t)
        V = torch.cat([self.W, self.U], dim=1)
        return predicted_noise(self.theta, V, inputs, self.scales[steps][..., None], self.activation)

    def _checked_steps(self, x: Tensor, t: int | Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.dim() != 3 or x.shape[::2] != (self.seeds, self.dimension):
            raise arguments.refuse("x", x, f"a tensor of shape ({self.seeds}, n, {self.dimension})")
        steps = self.process.checked_steps(t)
        if steps.dim() and steps.shape != x.shape[:-1]:
            raise arguments.refuse("t", t, f"a whole number, or a tensor of shape {tuple(x.shape[:-1])}")
        return steps

    def _inputs(self, x: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        steps = self._checked_steps(x, t)
        embedded = self.embedding[steps].expand(*x.shape[:-1], -1)
        return torch.cat([x.to(self.theta.dtype), embedded], dim=-1), steps

    def losses(
        self, x: Float[Tensor, "S n d"], t: int | Int[Tensor, "S n"], epsilon: Float[Tensor, "S n d"]
    ) -> Float[Tensor, "S n"]:
        """The squared error of the predicted noise, in the mean over coordinates; errors as in `epsilon`."""
        return (self.epsilon(x, t) - epsilon).square().mean(-1)

    def single(self, seed: int) -> ScoreModule:
        """The model of one seed as a module of its own, with copies of the weights.

        Raises:
            ValueError: a seed from outside 0 to S - 1.
        """
        if arguments.count("seed", seed) >= self.seeds:
            raise arguments.refuse("seed", seed, f"a whole number from 0 to {self.seeds - 1}")
        return ScoreModule(self, seed)


class ScoreModule(nn.Module):
    """One model, called as `module(x, t)` with x (n, d) and t (n,): the predicted noise (n, d).

    `readout` is a linear layer with weight theta and input psi, so readout measures speak of theta itself. W and U are
    parameters too; they require no gradient where the features are not learnt.
    """

    embedding: Tensor
    scales: Tensor

    def __init__(self, models: ScoreModels, seed: int) -> None:
        """Copy the weights of one seed."""
        super().__init__()
        _, d, m = models.theta.shape
        self.activation = models.activation
        self.W = nn.Parameter(models.W[seed].detach().clone(), requires_grad=models.learn_features)
        self.U = nn.Parameter(models.U[seed].detach().clone(), requires_grad=models.learn_features)
        self.readout = nn.utils.skip_init(nn.Linear, m, d, bias=False, dtype=models.theta.dtype)
        with torch.no_grad():
            self.readout.weight.copy_(models.theta[seed])
        self.register_buffer("embedding", models.embedding.clone())
        self.register_buffer("scales", models.scales.clone())

    def forward(self, x: Float[Tensor, "n d"], t: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The predicted noise."""
        z = x.to(self.W.dtype) @ self.W + self.embedding[t] @ self.U
        noise: Tensor = self.readout(ACTIVATIONS[self.activation].function(z) * self.scales[t][:, None])
        return noise


def random_models(
    seeds: int | range,
    dimension: int,
    features: int,
    process: Process,
    *,
    embedding: int = 32,
    activation: str = "relu",
    prediction: str = "noise",
    learn_features: bool = False,
    divisor: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> ScoreModels:
    """Models at their initial weights, each a function of its seed and of the sizes.

    W ~ N(0, 1) and U ~ N(0, 2 / k), so that w_j^T x and u_j^T e_t have variances |x|^2 and 1; theta ~ N(0, s^2) with
    s = divisor / sqrt(m (d + 1)), so that outputs are of the order of 1.

    Args:
        seeds: their number (seeds 0, ..., S - 1), or a range of them.
        dimension: d.
        features: m.
        process, activation, prediction, learn_features, divisor: see `ScoreModels`.
        embedding: k, even.
        dtype: of the weights.

    Raises:
        ValueError: an argument is not as above.
    """
    numbers = seeds if isinstance(seeds, range) else range(arguments.count("seeds", seeds, at_least=1))
    if len(numbers) == 0 or min(numbers) < 0:
        raise arguments.refuse("seeds", seeds, "a number of at least 1, or a range of such seeds that are not negative")
    d = arguments.count("dimension", dimension, at_least=1)
    m = arguments.count("features", features, at_least=1)
    k = arguments.count("embedding", embedding, at_least=2)
    scale = float(m) if divisor is None else arguments.number("divisor", divisor, above=0.0)
    stacks: dict[str, list[Tensor]] = {"theta": [], "W": [], "U": []}
    shapes = {"theta": (d, scale / (m * (d + 1)) ** 0.5), "W": (d, 1.0), "U": (k, (2.0 / k) ** 0.5)}
    for number in numbers:
        generator = generator_of("weights", number, d, m, k)
        for name, (rows, deviation) in shapes.items():
            stacks[name].append(deviation * torch.randn(rows, m, generator=generator, dtype=torch.float64))
    theta, W, U = (torch.stack(tensors).to(dtype) for tensors in stacks.values())
    return ScoreModels(theta, W, U, process, activation, prediction, learn_features, divisor)
