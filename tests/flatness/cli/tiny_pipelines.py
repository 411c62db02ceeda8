"""Pipelines of every family with tiny random weights, built and saved on the spot; tokenizers of a few words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

WORDS = ["<|startoftext|>", "<|endoftext|>", "a</w>", "red</w>", "blue</w>", "cat</w>", "dog</w>", "a", "b", "c", "d"]
SIZE = 4
"""Latent pixels a side; images have twice as many."""


def clip_tokenizer(folder: Path) -> Any:
    """CLIP's, of a vocabulary of a few words."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(97, 123)]
    words = list(dict.fromkeys([*WORDS, *letters, *(letter + "</w>" for letter in letters)]))
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8)


def t5_tokenizer() -> Any:
    """T5's, of a vocabulary of letters."""
    import transformers

    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((f"▁{word}", -1.0) for word in ("a", "red", "blue", "cat")),
    ]
    pieces += [(chr(code), -2.0) for code in range(97, 123)] + [("▁", -3.0)]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=8)


def clip(projected: bool = False, width: int = 8) -> Any:
    """A CLIP text encoder."""
    import transformers

    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    configuration = transformers.CLIPTextConfig(
        vocab_size=80, hidden_size=width, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=8, projection_dim=width, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return kind(configuration)


def t5(width: int = 8) -> Any:
    """A T5 encoder."""
    import transformers

    configuration = transformers.T5Config(
        vocab_size=40, d_model=width, d_kv=4, d_ff=8, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return transformers.T5EncoderModel(configuration)


def autoencoder(diffusers: ModuleType, channels: int = 4, **own: Any) -> Any:
    """A KL autoencoder of a factor 2."""
    return diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=channels, block_out_channels=(4, 8), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=2,
        sample_size=2 * SIZE, **own,
    )  # fmt: skip


def unet(diffusers: ModuleType, channels: int = 1, size: int = 8, **own: Any) -> Any:
    """A UNet2DModel."""
    return diffusers.UNet2DModel(
        sample_size=size, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=(4, 8),
        norm_num_groups=2, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=4, **own,
    )  # fmt: skip


def conditioned_unet(diffusers: ModuleType, width: int, **own: Any) -> Any:
    """A UNet2DConditionModel."""
    settings: dict[str, Any] = {
        "sample_size": SIZE, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (4, 8),
        "norm_num_groups": 2, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 2,
    }  # fmt: skip
    return diffusers.UNet2DConditionModel(cross_attention_dim=width, **(settings | own))


def ddpm(diffusers: ModuleType, folder: Path) -> None:
    """Pixels, unconditional, an old scheduler's key."""
    pipeline = diffusers.DDPMPipeline(unet(diffusers), diffusers.DDPMScheduler(num_train_timesteps=50))
    pipeline.save_pretrained(folder)


def edm(diffusers: ModuleType, folder: Path) -> None:
    """Pixels with EDM's preconditioning."""
    network = unet(diffusers, channels=3)
    network.save_pretrained(folder)
    diffusers.EDMEulerScheduler().save_pretrained(folder)


def consistency(diffusers: ModuleType, folder: Path) -> None:
    """A class-conditional consistency model."""
    network = unet(diffusers, channels=3, num_class_embeds=10)
    scheduler = diffusers.CMStochasticIterativeScheduler()
    diffusers.ConsistencyModelPipeline(network, scheduler).save_pretrained(folder)


def ldm(diffusers: ModuleType, folder: Path) -> None:
    """The latents of a VQ autoencoder."""
    vq = diffusers.VQModel(
        in_channels=3, out_channels=3, latent_channels=3, block_out_channels=(4, 8), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=2,
        num_vq_embeddings=16,
    )  # fmt: skip
    diffusers.LDMPipeline(vq, unet(diffusers, 3, SIZE), diffusers.DDIMScheduler()).save_pretrained(folder)


def dit(diffusers: ModuleType, folder: Path) -> None:
    """A class-conditional transformer."""
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=SIZE,
        patch_size=2, num_embeds_ada_norm=10, norm_num_groups=2,
    )  # fmt: skip
    names = {n: f"class {n}, kind {n}" for n in range(10)}
    scheduler = diffusers.DPMSolverMultistepScheduler(num_train_timesteps=50)
    diffusers.DiTPipeline(network, autoencoder(diffusers), scheduler, id2label=names).save_pretrained(folder)


def pixart(diffusers: ModuleType, folder: Path) -> None:
    """Captions by T5."""
    network = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=6, in_channels=4, out_channels=8, num_layers=1, sample_size=SIZE,
        patch_size=2, cross_attention_dim=12, caption_channels=8, norm_num_groups=2, use_additional_conditions=True,
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(num_train_timesteps=50)
    pipeline = diffusers.PixArtAlphaPipeline(t5_tokenizer(), t5(), autoencoder(diffusers), network, scheduler)
    pipeline.save_pretrained(folder)


def stable_diffusion(diffusers: ModuleType, folder: Path) -> None:
    """Captions by CLIP; v prediction, an Euler scheduler."""
    scheduler = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction",
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
    )
    diffusers.StableDiffusionPipeline(
        autoencoder(diffusers), clip(), clip_tokenizer(folder / "own"), conditioned_unet(diffusers, 8), scheduler,
        None, None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


def latent_consistency(diffusers: ModuleType, folder: Path) -> None:
    """Distilled, and told a strength of guidance."""
    scheduler = diffusers.LCMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    diffusers.LatentConsistencyModelPipeline(
        autoencoder(diffusers), clip(), clip_tokenizer(folder / "own"),
        conditioned_unet(diffusers, 8, time_cond_proj_dim=6), scheduler, None, None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


def stable_diffusion_xl(diffusers: ModuleType, folder: Path) -> None:
    """Two text encoders."""
    network = conditioned_unet(
        diffusers, 20, addition_embed_type="text_time", addition_time_embed_dim=4, transformer_layers_per_block=1,
        projection_class_embeddings_input_dim=6 * 4 + 12,
    )  # fmt: skip
    tokenizer = clip_tokenizer(folder / "own")
    diffusers.StableDiffusionXLPipeline(
        autoencoder(diffusers, latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 1.5, 0.5]), clip(),
        clip(True, 12), tokenizer, tokenizer, network, diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear"),
    ).save_pretrained(folder)  # fmt: skip


def stable_diffusion_3(diffusers: ModuleType, folder: Path) -> None:
    """Flow matching, three text encoders."""
    network = diffusers.SD3Transformer2DModel(
        sample_size=SIZE, patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=24, caption_projection_dim=16, pooled_projection_dim=20, out_channels=4,
        pos_embed_max_size=8,
    )  # fmt: skip
    tokenizer = clip_tokenizer(folder / "own")
    vae = autoencoder(diffusers, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False)
    diffusers.StableDiffusion3Pipeline(
        network, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae, clip(True), tokenizer, clip(True, 12),
        tokenizer, t5(24), t5_tokenizer(),
    ).save_pretrained(folder)  # fmt: skip


def flux(diffusers: ModuleType, folder: Path) -> None:
    """Flow matching of packed latents, guidance told."""
    network = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    vae = autoencoder(diffusers, shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False)
    diffusers.FluxPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0), vae, clip(),
        clip_tokenizer(folder / "own"), t5(), t5_tokenizer(), network,
    ).save_pretrained(folder)  # fmt: skip


def sana(diffusers: ModuleType, folder: Path) -> None:
    """Flow matching by a DPM-Solver, captions by Gemma, latents without a posterior."""
    import transformers

    stages: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        stages |= {f"{side}_block_types": ("ResBlock", "EfficientViTBlock"), f"{side}_block_out_channels": (8, 8),
                   f"{side}_layers_per_block": (1, 1), f"{side}_qkv_multiscales": ((), (5,))}  # fmt: skip
    vae = diffusers.AutoencoderDC(latent_channels=4, attention_head_dim=2, scaling_factor=0.4, **stages)
    network = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=4, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
        sample_size=SIZE, timestep_scale=0.5,
    )  # fmt: skip
    configuration = transformers.Gemma2Config(
        vocab_size=40, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=4, max_position_embeddings=1024,
    )  # fmt: skip
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁"]
    letters = [*special, *(chr(code) for code in range(97, 123))]
    tokenizer = transformers.GemmaTokenizer(vocab={letter: place for place, letter in enumerate(letters)})
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    pipeline = diffusers.SanaPipeline(tokenizer, transformers.Gemma2Model(configuration), vae, network, scheduler)
    pipeline.save_pretrained(folder)


PIXELS: dict[str, Callable[[ModuleType, Path], None]] = {"ddpm": ddpm, "edm": edm, "consistency": consistency}
LATENTS: dict[str, Callable[[ModuleType, Path], None]] = {"ldm": ldm, "dit": dit}
CAPTIONED: dict[str, Callable[[ModuleType, Path], None]] = {
    "pixart": pixart, "stable_diffusion": stable_diffusion, "stable_diffusion_xl": stable_diffusion_xl,
    "stable_diffusion_3": stable_diffusion_3, "flux": flux, "sana": sana,
    "latent_consistency": latent_consistency,
}  # fmt: skip


def built(name: str, diffusers: ModuleType, folder: Path) -> Path:
    """The pipeline of a name, saved."""
    torch.manual_seed(0)
    (PIXELS | LATENTS | CAPTIONED)[name](diffusers, folder)
    return folder
