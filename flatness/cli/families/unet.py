"""UNet2DModel: pixels (DDPM, ADM, EDM, consistency models) or the latents of a VQ or KL autoencoder (LDM)."""

from __future__ import annotations

from typing import ClassVar

from flatness.cli.families.contract import KL, Classes, Configuration, Family, Parts
from flatness.diffusion.predictions import ModelCall


class UNet(Family):
    """UNet2DModel of pixels, with or without class labels."""

    pipelines: tuple[str, ...] = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "ConsistencyModelPipeline")
    networks = ("UNet2DModel",)

    def classes(self, configuration: Configuration, index: Configuration) -> Classes | None:
        """`num_class_embeds` of them; other kinds of embedding have no table."""
        kind, count = configuration.get("class_embed_type"), configuration.get("num_class_embeds")
        if kind is None and count is None:
            return None
        return Classes(int(count) if kind is None and count is not None else None)

    def call(self, configuration: Configuration) -> ModelCall:
        """(x, t), and class_labels where it has any."""
        conditional = configuration.get("class_embed_type") or configuration.get("num_class_embeds")
        # a tuple comes back with return_dict=False: its first tensor is the output layer's own
        return ModelCall("class_labels" if conditional else None, {"return_dict": False})


class LatentUNet(UNet):
    """The same on latents, as LDMPipeline has it."""

    pipelines = ("LDMPipeline",)
    autoencoder = "vqvae"
    parts: ClassVar[Parts] = {"vqvae": ("VQModel", *KL)}


UNET, LATENT_UNET = UNet(), LatentUNet()
