"""Stable Diffusion 1 and 2, and XL: UNet2DConditionModel on latents, captions by CLIP (Rombach et al., 2022).

A network that is distilled for consistency is told the strength of guidance that it stands for; here 1, no guidance.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flatness.cli.families.contract import (
    CLIP,
    CLIP_PROJECTED,
    CLIP_TOKENIZER,
    IMAGE_SIZE,
    KL,
    Configuration,
    Family,
    Parts,
    Rows,
)

INPUTS = {9: "a mask and a masked image (inpainting)", 8: "an image to edit", 7: "an image to enlarge"}


class StableDiffusion(Family):
    """One text encoder."""

    pipelines: tuple[str, ...] = (
        "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "LatentConsistencyModelPipeline",
    )  # fmt: skip
    networks = ("UNet2DConditionModel",)
    autoencoder = "vae"
    parts: ClassVar[Parts] = {"vae": KL, "text_encoder": CLIP, "tokenizer": CLIP_TOKENIZER}
    captioned: tuple[str, ...] = ("prompt_embeds",)
    multiple = 8
    additions: tuple[str | None, ...] = (None,)

    def refusal(self, configuration: Configuration) -> str:
        """Networks that take more than a caption."""
        channels = int(configuration.get("in_channels", 4))
        if channels in INPUTS:
            return f"it takes {channels} channels: the latents and {INPUTS[channels]}"
        for key in ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type"):
            if configuration.get(key) is not None:
                return f"it is given more than captions ({key} {configuration[key]!r})"
        kind = configuration.get("addition_embed_type")
        if kind not in self.additions:
            return f"it is given more than {'captions' if None in self.additions else 'XL is'} ({kind!r})"
        return ""

    def embed(self, pipeline: Any, captions: list[str], device: torch.device) -> dict[str, Tensor]:
        """As StableDiffusionPipeline.encode_prompt does."""
        embeds, _ = pipeline.encode_prompt(captions, device, 1, False)
        return {"prompt_embeds": embeds}

    def invoke(self, network: nn.Module, x: Tensor, t: Tensor, rows: Rows) -> object:
        """The network's output with CLIP's embeddings."""
        return network(
            x, t, encoder_hidden_states=rows["prompt_embeds"], timestep_cond=unguided(network, x), return_dict=False
        )


class StableDiffusionXL(StableDiffusion):
    """Two text encoders, the second's pooled output, and the size of the image (Podell et al., 2023)."""

    pipelines = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")
    parts: ClassVar[Parts] = {
        "vae": KL, "text_encoder": CLIP, "tokenizer": CLIP_TOKENIZER, "text_encoder_2": CLIP_PROJECTED,
        "tokenizer_2": CLIP_TOKENIZER,
    }  # fmt: skip
    captioned = ("prompt_embeds", "pooled_prompt_embeds")
    additions = ("text_time",)

    def embed(self, pipeline: Any, captions: list[str], device: torch.device) -> dict[str, Tensor]:
        """As StableDiffusionXLPipeline.encode_prompt does."""
        embeds, _, pooled, _ = pipeline.encode_prompt(captions, device=device, do_classifier_free_guidance=False)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def invoke(self, network: nn.Module, x: Tensor, t: Tensor, rows: Rows) -> object:
        """The network's output; it is told that the image has its own size and was not cropped."""
        size = rows[IMAGE_SIZE]
        sizes = torch.cat([size, torch.zeros_like(size), size], 1)
        added = {"text_embeds": rows["pooled_prompt_embeds"], "time_ids": sizes}
        return network(
            x, t, encoder_hidden_states=rows["prompt_embeds"], added_cond_kwargs=added,
            timestep_cond=unguided(network, x), return_dict=False,
        )  # fmt: skip


def unguided(network: nn.Module, x: Tensor) -> Tensor | None:
    """The embedding (n, d) of the strength of guidance less 1, which is 0: d / 2 sines and as many cosines; or None.

    As LatentConsistencyModelPipeline.get_guidance_scale_embedding has it (Luo et al., 2023).
    """
    width = getattr(network.config, "time_cond_proj_dim", None)
    if width is None:
        return None
    sines, rest = x.new_zeros(len(x), width // 2), x.new_zeros(len(x), width % 2)
    return torch.cat([sines, sines + 1.0, rest], 1)


STABLE_DIFFUSION, STABLE_DIFFUSION_XL = StableDiffusion(), StableDiffusionXL()
