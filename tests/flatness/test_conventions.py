"""SiT's and EDM2's conventions, and calls by name, against the definition written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flatness.diffusion.losses import EDM2_TIMES, Batch, edm2_loss, flow_loss, sit_loss
from flatness.diffusion.noise_paths import GivenTimes
from flatness.diffusion.predictions import ModelCall

X, NOISE = torch.randn(2, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
U = (torch.arange(4, dtype=torch.float64) + 0.5) / 4
LABELS = torch.tensor([0, 2, 1, 2])
BATCH = Batch(X, LABELS, NOISE, U)


class SiT(nn.Module):
    """A velocity towards data, at times that run there."""

    def __init__(self) -> None:
        """A weight, and an embedding."""
        super().__init__()
        self.weight, self.embedding = nn.Parameter(torch.tensor(0.3)), nn.Embedding(3, 2)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Something that depends on all of it."""
        return self.weight * x + t.view(-1, 1, 1, 1) + self.embedding(y)[:, :, None, None]


class EDM2(nn.Module):
    """D(x; sigma) with one-hot labels."""

    def __init__(self) -> None:
        """A weight."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2))

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Something that depends on all of it."""
        assert labels.dtype == torch.float32
        return x / (1 + sigma.view(-1, 1, 1, 1)) + (labels @ self.weight)[:, :, None, None]


def test_sit() -> None:
    torch.manual_seed(0)
    model, t = SiT(), (1 - U).float()
    wide = t.view(-1, 1, 1, 1)
    output = model(wide * X + (1 - wide) * NOISE, t, LABELS)
    expected = (output - (X - NOISE)).square().flatten(1).mean(1)
    assert torch.allclose(sit_loss()(model, BATCH), expected, rtol=1e-5)


def test_edm2() -> None:
    torch.manual_seed(0)
    model, sigma = EDM2(), torch.tensor([0.1, 0.5, 2.0, 9.0])
    wide = sigma.view(-1, 1, 1, 1)
    loss = edm2_loss(3, times=GivenTimes(sigma.tolist()))
    error = model(X + wide * NOISE, sigma, nn.functional.one_hot(LABELS, 3).float()) - X
    expected = (sigma.square() + 0.25) / (0.5 * sigma).square() * error.square().flatten(1).mean(1)
    assert torch.allclose(loss(model, BATCH), expected, rtol=1e-5)
    assert edm2_loss(0).call.labels is None
    assert edm2_loss().times is EDM2_TIMES


class Named(nn.Module):
    """A transformer's way: the time by name, conditioning by numbers."""

    def __init__(self, rows: int = 5) -> None:
        """A weight in bfloat16."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(rows, 2, dtype=torch.bfloat16))

    def forward(self, hidden_states: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """Something that depends on all of it."""
        return hidden_states + (condition @ self.weight)[:, :, None, None] + timestep.view(-1, 1, 1, 1).to(condition)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_classes_of_any_whole_numbers_type_become_rows(dtype: torch.dtype) -> None:
    call = ModelCall("condition", time="timestep", one_hot=3)
    output, _ = call(Named(3), X, U, torch.tensor([0, 2, 1, 1], dtype=dtype))
    expected, _ = ModelCall("condition", time="timestep")(Named(3), X, U, torch.eye(3)[[0, 2, 1, 1]])
    assert torch.equal(output, expected)
    for wrong in ([0, 3, 1, 1], [0, -1, 1, 1]):
        with pytest.raises(ValueError, match=r"labels is .*classes from 0 to 2"):
            call(Named(3), X, U, torch.tensor(wrong))


def test_times_by_name_and_conditioning_by_numbers() -> None:
    conditioning = torch.randn(4, 5)
    call = ModelCall("condition", time="timestep", time_scale=1000.0)
    output, v = call(Named(), X, U, conditioning)
    assert v is None
    narrow = X.bfloat16() + (conditioning.bfloat16() @ torch.ones(5, 2).bfloat16())[:, :, None, None]
    expected = narrow + (1000 * U).float().view(-1, 1, 1, 1).bfloat16()
    assert torch.equal(output, expected.float())
    assert call.settings()["time"] == "timestep"
    assert "time" not in ModelCall().settings()
    assert torch.isfinite(flow_loss()(SiTWithout(), Batch(X, None, NOISE, U))).all()


class SiTWithout(nn.Linear):
    """Any network of (x, t)."""

    def __init__(self) -> None:
        """Of rows."""
        super().__init__(3, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
        """Row by row."""
        return super().forward(x)
