"""Eq. (9) with a linear activation as a network: what the theory says of it can be computed from its weights."""

import torch
from torch import Tensor, nn

from experiments.data import Images
from experiments.measures.subject import Material, Subject
from tests.experiments.measures.small_rows import FINGERPRINT, OPTIONS, subject

SIDE = 2
DIMENSION = SIDE**2
FEATURES = 7


class LinearFeatures(nn.Module):
    """Noise of 2 x 2 images = K phi, phi = V^T x + c: one linear layer after another, the second the readout."""

    def __init__(self, seed: int = 0, features: int = FEATURES) -> None:
        """Random weights of size 1."""
        super().__init__()
        self.first, self.last = nn.Linear(DIMENSION, features), nn.Linear(features, 2 * DIMENSION, bias=False)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise, and the variance's channel."""
        return self.last(self.first(x.flatten(1))).view(-1, 2, SIDE, SIDE)


def grey(count: int = 8, value: int = 128) -> Material:
    """Images that are all the same."""
    pixels = torch.full((count, 1, SIDE, SIDE), value, dtype=torch.uint8)
    images = Images(pixels, "fashion-mnist", "test", FINGERPRINT)
    return Material(images, images, None)


def linear_subject(network: nn.Module, count: int = 8) -> Subject:
    """Under the cosine process of 1000 steps, on grey images."""
    return subject(network, OPTIONS, material=grey(count))


def of_noise(network: LinearFeatures, of: Subject, t: int) -> tuple[Tensor, Tensor]:
    """W (d, m) and b (m,) of the features as a function of the noise: phi = W^T eps + b, in float64."""
    bar = of.process.alphas_cumprod[t]
    V, c = network.first.weight.detach().double(), network.first.bias.detach().double()
    x_0 = of.scaled_images(1, "any")[0].flatten().double()
    return (1 - bar).sqrt() * V.T, V @ x_0 * bar.sqrt() + c


def exact(network: LinearFeatures, of: Subject, t: int) -> LinearFeatures:
    """The network with the readout that predicts the noise exactly: K (W^T eps + b) = eps, for grey images.

    Raises:
        ValueError: there are too few features for it.
    """
    W, b = of_noise(network, of, t)
    columns = torch.cat([W.T, b[:, None]], dim=1)  # phi = columns (eps, 1)
    if columns.shape[0] < columns.shape[1]:
        raise ValueError("features are fewer than coordinates and one")
    wanted = torch.cat([torch.eye(DIMENSION).double(), torch.zeros(DIMENSION, 1).double()], dim=1)
    with torch.no_grad():
        network.last.weight[:DIMENSION] = (wanted @ torch.linalg.pinv(columns)).float()
    return network
