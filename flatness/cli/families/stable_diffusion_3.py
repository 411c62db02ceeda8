"""Stable Diffusion 3: a transformer on latents by flow matching, captions by two CLIP and a T5 (Esser et al., 2024)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flatness.cli.families.contract import (
    CLIP_PROJECTED,
    CLIP_TOKENIZER,
    KL,
    T5,
    T5_TOKENIZER,
    Configuration,
    Family,
    Parts,
    Rows,
)


class StableDiffusion3(Family):
    """SD3Transformer2DModel; the third text encoder may be left out."""

    pipelines = ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline")
    networks = ("SD3Transformer2DModel",)
    part = "transformer"
    autoencoder = "vae"
    parts: ClassVar[Parts] = {
        "vae": KL, "text_encoder": CLIP_PROJECTED, "tokenizer": CLIP_TOKENIZER, "text_encoder_2": CLIP_PROJECTED,
        "tokenizer_2": CLIP_TOKENIZER, "text_encoder_3": T5, "tokenizer_3": T5_TOKENIZER,
    }  # fmt: skip
    captioned = ("prompt_embeds", "pooled_prompt_embeds")
    multiple = 2

    def time_scale(self, configuration: Configuration) -> float:
        """Times of 0 to 1000."""
        return 1000.0

    def embed(self, pipeline: Any, captions: list[str], device: torch.device) -> dict[str, Tensor]:
        """As StableDiffusion3Pipeline.encode_prompt does."""
        embeds, _, pooled, _ = pipeline.encode_prompt(
            captions, None, None, device=device, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def invoke(self, network: nn.Module, x: Tensor, t: Tensor, rows: Rows) -> object:
        """The network's output with all embeddings."""
        return network(
            x, encoder_hidden_states=rows["prompt_embeds"], pooled_projections=rows["pooled_prompt_embeds"], timestep=t,
            return_dict=False,
        )  # fmt: skip

    def tokens(self, height: int, width: int) -> int:
        """Patches of 2 x 2."""
        return (height // 2) * (width // 2)


STABLE_DIFFUSION_3 = StableDiffusion3()
