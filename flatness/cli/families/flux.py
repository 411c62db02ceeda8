"""Flux: a transformer on packed latents by flow matching, captions by CLIP (pooled) and T5 (Black Forest Labs, 2024).

Latents are packed into tokens of 2 x 2 and unpacked again here, so that losses see images. A network that is told a
guidance strength is told 1, at which it predicts what plain flow matching trains towards.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flatness.cli.families.contract import (
    CLIP,
    CLIP_TOKENIZER,
    KL,
    T5,
    T5_TOKENIZER,
    Configuration,
    Family,
    Parts,
    Rows,
)

GUIDANCE = 1.0


class Flux(Family):
    """FluxTransformer2DModel, dev and schnell."""

    pipelines = ("FluxPipeline", "FluxImg2ImgPipeline")
    networks = ("FluxTransformer2DModel",)
    part = "transformer"
    autoencoder = "vae"
    parts: ClassVar[Parts] = {
        "vae": KL, "text_encoder": CLIP, "tokenizer": CLIP_TOKENIZER, "text_encoder_2": T5, "tokenizer_2": T5_TOKENIZER,
    }  # fmt: skip
    captioned = ("prompt_embeds", "pooled_prompt_embeds")
    multiple = 2
    default_size = 128

    def refusal(self, configuration: Configuration) -> str:
        """Fill, Depth, Canny and Kontext networks are given more channels."""
        inside, out = configuration.get("in_channels", 64), configuration.get("out_channels")
        return "" if out in (None, inside) else f"it takes {inside} channels for {out}: an image to fill or to follow"

    def channels(self, configuration: Configuration) -> int:
        """Of latents; tokens have four times as many."""
        return int(configuration["in_channels"]) // 4

    def tokens(self, height: int, width: int) -> int:
        """Patches of 2 x 2."""
        return (height // 2) * (width // 2)

    def embed(self, pipeline: Any, captions: list[str], device: torch.device) -> dict[str, Tensor]:
        """As FluxPipeline.encode_prompt does."""
        embeds, pooled, _ = pipeline.encode_prompt(captions, None, device=device)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def invoke(self, network: nn.Module, x: Tensor, t: Tensor, rows: Rows) -> object:
        """The network's output at times of 0 to 1, as latents."""
        height, width = x.shape[2] // 2, x.shape[3] // 2
        places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
        image_ids = torch.nn.functional.pad(places, (1, 0)).to(x.device, x.dtype)
        text_ids = torch.zeros(rows["prompt_embeds"].shape[1], 3, device=x.device, dtype=x.dtype)
        guided = getattr(network.config, "guidance_embeds", False)
        output, *_ = network(
            packed(x), encoder_hidden_states=rows["prompt_embeds"], pooled_projections=rows["pooled_prompt_embeds"],
            timestep=t, img_ids=image_ids, txt_ids=text_ids,
            guidance=torch.full((len(x),), GUIDANCE, device=x.device) if guided else None, return_dict=False,
        )  # fmt: skip
        return unpacked(output, height, width)


def packed(x: Tensor) -> Tensor:
    """Latents (n, C, H, W) as tokens (n, H W / 4, 4 C) of 2 x 2 pixels."""
    n, channels, height, width = x.shape
    parts = x.reshape(n, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(n, (height // 2) * (width // 2), 4 * channels)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens of height x width patches as latents (n, C, 2 height, 2 width): the inverse of `packed`."""
    n, _, channels = tokens.shape
    parts = tokens.reshape(n, height, width, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(n, channels // 4, 2 * height, 2 * width)


FLUX = Flux()
