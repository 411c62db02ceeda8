"""DiT: a class-conditional transformer on the latents of Stable Diffusion's autoencoder (Peebles and Xie, 2023)."""

from __future__ import annotations

from typing import ClassVar

from flatness.cli.families.contract import KL, Classes, Configuration, Family, Parts
from flatness.diffusion.predictions import ModelCall


class DiT(Family):
    """DiTTransformer2DModel; early pipelines called it Transformer2DModel."""

    pipelines = ("DiTPipeline",)
    networks = ("DiTTransformer2DModel", "Transformer2DModel")
    part = "transformer"
    autoencoder = "vae"
    parts: ClassVar[Parts] = {"vae": KL}

    def refusal(self, configuration: Configuration) -> str:
        """Transformer2DModel has other uses too."""
        if configuration.get("norm_type", "ada_norm_zero") != "ada_norm_zero":
            return f"it has norm_type {configuration['norm_type']!r}, which is no DiT's"
        return ""

    def classes(self, configuration: Configuration, index: Configuration) -> Classes:
        """Those of ImageNet, say, and the null class after them; names from the pipeline's id2label."""
        names = index.get("id2label") or {}
        numbers = {part.strip(): int(n) for n, words in names.items() for part in (*str(words).split(","), str(words))}
        return Classes(int(configuration.get("num_embeds_ada_norm", 1000)) + 1, numbers)

    def call(self, configuration: Configuration) -> ModelCall:
        """Times and labels by name."""
        return ModelCall("class_labels", {"return_dict": False}, time="timestep")


DIT = DiT()
