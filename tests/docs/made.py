"""A model and held-out batches, for pages that leave them to their reader."""

import torch
from torch import Tensor, nn


class Denoiser(nn.Module):
    """Called as (x_t, t), both of a batch of images."""

    def __init__(self) -> None:
        """A few weights."""
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The predicted noise."""
        return self.layer(x_t) * t[:, None, None, None]


torch.manual_seed(0)
model = Denoiser()
batches = [{"x_t": torch.randn(4, 1, 8, 8), "t": torch.rand(4), "noise": torch.randn(4, 1, 8, 8)} for _ in range(2)]
