"""Steps written out by hand, to hold the trainer's against."""

import torch
from torch import Tensor

from experiments.data import Batches, to_float
from experiments.diffusion import Process, UniformTimesteps
from experiments.training.randomness import drawn, generator
from experiments.training.state import initial_network
from flatness.weights import derived_seed
from tests.experiments.training.small_runs import configured, images

CPU = torch.device("cpu")
ROUNDING = 1e-4
"""Of float32 gradients, relative to the largest: 6e-8 an operation, some hundred of them in a row, over four of Adam's
steps; found are 1e-5 with SAM and 1e-6 without, and 0.1 and more between methods."""


def by_hand(steps: int, ranks: int = 1, **changes: object) -> dict[str, Tensor]:
    """Algorithm 1, or passes at noisy weights, with Adam, from the same draws; Adam's first moment by name.

    With several ranks each climbs the gradient of its share of the images, and the descent's gradients are averaged.
    """
    c = configured(**changes)  # type: ignore[arg-type]
    network, process = initial_network(c, CPU), Process(c.process)
    batches = Batches(images(), c.global_batch, c.seed, c.flip)
    optimizer = torch.optim.Adam(network.parameters(), lr=c.learning_rate)
    parameters = list(network.parameters())
    for step in range(steps):
        x_0 = to_float(batches.batch(step))
        draws = drawn(UniformTimesteps(c.process.steps), tuple(x_0.shape), 0.0, CPU, c.seed, step)
        of_noise = generator(CPU, "noise", c.seed, step)
        noise = torch.randn(x_0.shape, generator=of_noise)
        xi = torch.randn(x_0.shape, generator=of_noise)
        x_t = process.q_sample(x_0, draws.t, noise + c.noise_strength * xi)

        def gradients(s: slice) -> list[Tensor]:
            output = network(x_t[s], draws.t[s])  # noqa: B023
            loss = process.losses(output, x_0[s], x_t[s], draws.t[s], noise[s]).loss.mean()  # noqa: B023
            return list(torch.autograd.grad(loss, parameters))

        size = c.global_batch // ranks
        moments = []
        for rank in range(ranks):
            share = slice(rank * size, (rank + 1) * size)
            if c.method == "rwp":
                noise_of_weights = torch.Generator().manual_seed(
                    derived_seed("random weight perturbation", c.seed, step)
                )
                before = [p.detach().clone() for p in parameters]
                with torch.no_grad():
                    for p in parameters:
                        p.add_(c.noise_sigma * torch.randn(p.shape, generator=noise_of_weights))
            g = gradients(share)
            if c.method == "rwp":
                with torch.no_grad():
                    for p, old in zip(parameters, before, strict=True):
                        p.copy_(old)
            if "sam" in c.method:
                norm = torch.cat([part.flatten() for part in g]).norm()
                before = [p.detach().clone() for p in parameters]
                with torch.no_grad():
                    for p, part in zip(parameters, g, strict=True):
                        p.add_(c.sam.rho * part / norm)
                g = gradients(share)
                with torch.no_grad():
                    for p, old in zip(parameters, before, strict=True):
                        p.copy_(old)
            moments.append(g)
        for p, *parts in zip(parameters, *moments, strict=True):
            p.grad = sum(parts[1:], parts[0]) / ranks
        optimizer.step()
    return {name: optimizer.state[p]["exp_avg"] for name, p in network.named_parameters()}


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest entry."""
    return max(float((a[n] - b[n]).abs().max()) for n in a) / max(float(t.abs().max()) for t in a.values())
