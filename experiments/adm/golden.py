"""Reading the golden figures: options, weights and inputs by the formulas in goldens/README.md."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.adm import ADMOptions

GOLDENS = Path(__file__).parent / "goldens"
TIMESTEPS = (37, 911)
CLASSES = (3, 8)
RELATIVE = 1e-5
"""Of the largest absolute value. Some 50 layers of float32 (6e-8 a rounding), added up in another order, leave 1e-6."""

PUBLISHED = {
    "tiny": ADMOptions(model_channels=32, num_res_blocks=1, num_head_channels=16),
    "cifar10": ADMOptions(),
    "lsun_tower64": ADMOptions(
        image_size=64,
        model_channels=192,
        channel_mult=(1, 2, 3, 4),
        attention_resolutions=(32, 16, 8),
        num_head_channels=64,
        dropout=0.1,
    ),
}
SMALL: dict[str, Any] = {
    "image_size": 16,
    "model_channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_resolutions": (8,),
    "num_head_channels": 16,
    "dropout": 0.0,
}
CASES: dict[str, dict[str, Any]] = {
    "plain_convolved": {"resblock_updown": False},
    "plain_pooled": {"resblock_updown": False, "conv_resample": False},
    "legacy_attention": {"use_new_attention_order": False},
    "additive": {"use_scale_shift_norm": False},
    "heads_by_count": {"num_head_channels": None, "num_heads": 4},
    "one_channel": {"channels": 1},
    "fixed_variance": {"learn_sigma": False},
    "classes": {"num_classes": 10},
    "widths": {"channel_mult": (2, 1, 3), "attention_resolutions": (16, 4), "num_res_blocks": 2},
    "checkpointing": {"activation_checkpointing": True},
}


def small(case: str = "") -> ADMOptions:
    """The options of a case, or those that the cases change."""
    return ADMOptions(**{**SMALL, **CASES.get(case, {})})


def state_dict(name: str) -> dict[str, list[int]]:
    """Names and shapes of a published configuration's state_dict, in order."""
    return json.loads((GOLDENS / f"{name}.json").read_text())["state_dict"]


def arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file."""
    with np.load(GOLDENS / f"{name}.npz") as file:
        return dict(file)


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Give every entry of the state_dict its golden weights."""
    for k, (name, p) in enumerate(model.state_dict().items()):
        s = torch.sin(0.7 * torch.arange(p.numel(), dtype=torch.float64) + 1.3 * k).view(p.shape)
        if p.dim() > 1:
            p.copy_(s * math.sqrt(2.0 / p[0].numel()))
        else:
            p.copy_(1.0 + 0.1 * s if name.endswith("weight") else 0.1 * s)


def inputs(channels: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    """x and noise, (2, channels, side, side)."""
    i = np.arange(2 * channels * side * side, dtype=np.float64)
    x, noise = np.sin((0.01 * i * i) % (2 * math.pi)), 1.3 * np.sin((0.37 * i * i) % (2 * math.pi))
    shape = (2, channels, side, side)
    return torch.from_numpy(x).float().view(shape), torch.from_numpy(noise).float().view(shape)


def distance(output: Tensor, golden: np.ndarray) -> float:
    """The largest difference, relative to the largest absolute value of the golden figures."""
    expected = torch.from_numpy(np.asarray(golden)).double()
    assert output.shape == expected.shape
    return float((output.double() - expected).abs().max() / expected.abs().max())
