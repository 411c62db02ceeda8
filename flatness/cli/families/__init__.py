"""Families of networks that are read from diffusers' folders: one module each, all under `contract.Family`."""

from __future__ import annotations

from flatness.cli.families.contract import Family
from flatness.cli.families.dit import DIT
from flatness.cli.families.flux import FLUX
from flatness.cli.families.pixart import PIXART
from flatness.cli.families.sana import SANA
from flatness.cli.families.stable_diffusion import STABLE_DIFFUSION, STABLE_DIFFUSION_XL
from flatness.cli.families.stable_diffusion_3 import STABLE_DIFFUSION_3
from flatness.cli.families.unet import LATENT_UNET, UNET

FAMILIES: tuple[Family, ...] = (
    UNET, LATENT_UNET, DIT, PIXART, STABLE_DIFFUSION, STABLE_DIFFUSION_XL, STABLE_DIFFUSION_3, FLUX,
    SANA,
)  # fmt: skip


def family_of_pipeline(name: object) -> Family | None:
    """The family that a pipeline's class belongs to."""
    return next((family for family in FAMILIES if name in family.pipelines), None)


def family_of_network(name: object) -> Family | None:
    """The family that a network's class belongs to, where the network stands alone."""
    return next((family for family in FAMILIES if name in family.networks), None)


def pipelines() -> list[str]:
    """The names of all pipelines."""
    return [name for family in FAMILIES for name in family.pipelines]


def networks() -> list[str]:
    """The names of all networks, once."""
    return list(dict.fromkeys(name for family in FAMILIES for name in family.networks))
