"""Sana: a transformer on latents of a deep-compression autoencoder, captions by Gemma (Xie et al., 2025)."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flatness.cli.families.contract import Configuration, Family, Parts, Rows


class Sana(Family):
    """SanaTransformer2DModel of images."""

    pipelines = ("SanaPipeline",)
    networks = ("SanaTransformer2DModel",)
    part = "transformer"
    autoencoder = "vae"
    parts: ClassVar[Parts] = {
        "vae": ("AutoencoderDC",), "text_encoder": ("Gemma2Model",),
        "tokenizer": ("GemmaTokenizer", "GemmaTokenizerFast"),
    }  # fmt: skip
    captioned = ("prompt_embeds", "attention_mask")
    multiple = 1

    def refusal(self, configuration: Configuration) -> str:
        """Sprint's networks, which are distilled, are told a guidance strength."""
        return "it is distilled, and told a guidance strength" if configuration["guidance_embeds"] else ""

    def factor(self, autoencoder: Configuration) -> int:
        """Each of the encoder's stages but the first halves sides."""
        return int(2 ** (len(autoencoder["encoder_block_out_channels"]) - 1))

    def time_scale(self, configuration: Configuration) -> float:
        """Times of 0 to 1000, by the network's own scale."""
        return 1000.0 * float(configuration["timestep_scale"])

    def embed(self, pipeline: Any, captions: list[str], device: torch.device) -> dict[str, Tensor]:
        """As SanaPipeline does, after the instruction that it puts before every prompt."""
        instruction = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"].default
        embeds, mask, *_ = pipeline.encode_prompt(
            captions, do_classifier_free_guidance=False, device=device, complex_human_instruction=instruction
        )
        return {"prompt_embeds": embeds, "attention_mask": mask}

    def invoke(self, network: nn.Module, x: Tensor, t: Tensor, rows: Rows) -> object:
        """The network's output with Gemma's embeddings and their mask."""
        return network(
            x, encoder_hidden_states=rows["prompt_embeds"], encoder_attention_mask=rows["attention_mask"], timestep=t,
            return_dict=False,
        )  # fmt: skip


SANA = Sana()
