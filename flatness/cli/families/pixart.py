"""PixArt-alpha and PixArt-sigma: a transformer on latents, captions by T5 (Chen et al., 2023, 2024)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flatness.cli.families.contract import IMAGE_SIZE, KL, T5, T5_TOKENIZER, Family, Parts, Rows


class PixArt(Family):
    """PixArtTransformer2DModel, whose alpha of 1024 pixels is told size and aspect ratio besides."""

    pipelines = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")
    networks = ("PixArtTransformer2DModel",)
    part = "transformer"
    autoencoder = "vae"
    parts: ClassVar[Parts] = {"vae": KL, "text_encoder": T5, "tokenizer": T5_TOKENIZER}
    captioned = ("prompt_embeds", "attention_mask")

    def embed(self, pipeline: Any, captions: list[str], device: torch.device) -> dict[str, Tensor]:
        """As PixArtAlphaPipeline.encode_prompt does, without cleaning captions."""
        embeds, mask, *_ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False, device=device)
        return {"prompt_embeds": embeds, "attention_mask": mask}

    def invoke(self, network: nn.Module, x: Tensor, t: Tensor, rows: Rows) -> object:
        """The network's output with T5's embeddings and their mask."""
        conditions: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if getattr(network, "use_additional_conditions", False):
            size = rows[IMAGE_SIZE]
            conditions = {"resolution": size, "aspect_ratio": size[:, :1] / size[:, 1:]}
        return network(
            x, encoder_hidden_states=rows["prompt_embeds"], encoder_attention_mask=rows["attention_mask"], timestep=t,
            added_cond_kwargs=conditions, return_dict=False,
        )  # fmt: skip


PIXART = PixArt()
