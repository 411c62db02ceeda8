"""The norm over all gradients: its value, and that no gradient is copied for it."""

import pytest
import torch
from torch import Tensor

from flatness import passes

TENSORS: dict[str, Tensor] = {
    "contiguous": torch.arange(24.0).reshape(1, 2, 3, 4) - 7,
    "channels_last": (torch.arange(120.0).reshape(2, 3, 4, 5) - 50).to(memory_format=torch.channels_last),
    "transposed": (torch.arange(12.0).reshape(3, 4) - 5).T,
    "scalar": torch.tensor(-2.0),
    "one wide": torch.randn(64, 32, 1, 1, generator=torch.Generator().manual_seed(0)).to(
        memory_format=torch.channels_last
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_dense_gradient_is_not_copied(name: str) -> None:
    tensor = TENSORS[name]
    flat = passes._in_memory_order(tensor)
    assert flat.data_ptr() == tensor.data_ptr()
    assert flat.shape == (tensor.numel(),)
    assert torch.equal(flat.sort().values, tensor.flatten().sort().values)


def test_the_norm_is_that_of_all_entries_together() -> None:
    expanded = torch.tensor([3.0]).expand(4)  # not dense: entries share memory, each counts
    together = [*TENSORS.values(), expanded]
    expected = torch.cat([t.flatten() for t in together]).double().norm().item()
    # sums of some 2,200 float64 squares: a few rounding errors of 1e-16 each
    assert passes.whole_norm(together) == pytest.approx(expected, rel=1e-13)
