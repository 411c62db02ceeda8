"""What a family of networks is: one small file that says how its networks are called and what they are given.

A family is an instance of `Family` (or of a subclass) in a module of this folder, listed in `__init__`. It says by the
names of diffusers' classes which pipelines and networks it is, which other parts of the pipeline are used, and

- `call`: how the network is called, where labels are all it is given beside x and t;
- `captioned`, `embed` and `invoke`: how captions are encoded by the pipeline's own text encoders, and how the network
  is called with what they give;
- `classes`: the table of labels that it has;
- `refusal`: which of its networks are not read, and why;
- `factor`: how many pixels a latent pixel is, where its autoencoder is of another kind than AutoencoderKL;
- `tokens`: on how many image tokens a dynamic shift of its times depends.

Times reach a network as the scheduler's path has them: steps where there are betas, sigma in (0, 1) of flow matching,
log(sigma) / 4 of EDM. A network that its pipeline tells 1000 sigma says so by `time_scale`.

Configurations are complete: what a file leaves out stands in them as the class of diffusers has it. Everything else is
common: weights are held against the network (`stored_weights`), the loss is the scheduler's (`schedulers`), images
become latents through the pipeline's own autoencoder (`encoding`).

A new family is a module here, its place in `__init__`, a row in docs/how_to/measure_a_checkpoint.md, and in tests a
tiny pipeline (tests/flatness/cli/tiny_pipelines.py) with the call that its own pipeline makes (`predicted` in
test_families.py), against which its loss is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flatness.cli.errors import CommandError
from flatness.diffusion.predictions import ModelCall


@dataclass(frozen=True)
class Classes:
    """The classes that a network knows.

    Attributes:
        count: rows of its table of labels; None where it takes labels and has no table.
        numbers: of the classes by name, where its configuration has names.
        needed: whether it cannot be run without labels.
    """

    count: int | None
    numbers: Mapping[str, int] = field(default_factory=dict)
    needed: bool = True

    def check(self, labels: Tensor | None, network: str, data: str) -> None:
        """Raise where labels (n, ...) are missing, or not among the classes.

        Args:
            labels: of all samples that are known.
            network, data: names, for messages.

        Raises:
            CommandError: the labels do not fit.
        """
        if labels is None:
            if self.needed:
                raise CommandError(
                    f"{network} is class-conditional, and {data} has no labels: labels in an .npz, folders named by "
                    "class, or metadata.jsonl"
                )
            return
        if self.count is None or labels.is_floating_point():
            return
        outside = labels[(labels < 0) | (labels >= self.count)]
        if len(outside):
            raise CommandError(
                f"{data} has the label {int(outside[0])}; {network} knows {self.count} classes, labels 0 to "
                f"{self.count - 1}" + (" (labels count from 0)" if int(outside.max()) == self.count else "")
            )


Configuration = Mapping[str, Any]
Rows = Mapping[str, Tensor]
Parts = Mapping[str, tuple[str, ...]]
Invoke = Callable[[nn.Module, Tensor, Tensor, Rows], object]
KL = ("AutoencoderKL",)
CLIP = ("CLIPTextModel",)
CLIP_PROJECTED = ("CLIPTextModelWithProjection",)
T5 = ("T5EncoderModel",)
CLIP_TOKENIZER = ("CLIPTokenizer", "CLIPTokenizerFast")
T5_TOKENIZER = ("T5Tokenizer", "T5TokenizerFast")
IMAGE_SIZE = "image_size"
"""The row of height and width in pixels, which every captioned network may be told beside its embeddings."""


class Family:
    """Networks that are called alike.

    Attributes:
        pipelines: diffusers' classes of pipelines, by name; the first is the one whose `encode_prompt` is used.
        networks: diffusers' classes of the network.
        part: the pipeline's name of the network.
        parts: classes of the other parts that are used, by the pipeline's names; those that a pipeline may lack are
            absent in its index.
        autoencoder: the pipeline's name of what makes latents of images; "" for networks of pixels.
        captioned: names of the embeddings that the network is given, one row a sample; () where it takes no captions.
            They end with "_embeds", or are "attention_mask": by these names an .npz may hold them.
        multiple: where images may be of other sizes than the configuration's, what their sides are multiples of, in
            latent pixels; 0 where they may not.
        default_size: latent pixels a side where the configuration has none.
    """

    pipelines: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    part: str = "unet"
    parts: ClassVar[Parts] = {}
    autoencoder: str = ""
    captioned: tuple[str, ...] = ()
    multiple: int = 0
    default_size: int | None = None

    def refusal(self, configuration: Configuration) -> str:
        """Why a network with this configuration is not read; "" where it is."""
        return ""

    def channels(self, configuration: Configuration) -> int:
        """Channels of x as the loss sees it."""
        return int(configuration["in_channels"])

    def factor(self, autoencoder: Configuration) -> int:
        """Pixels a latent pixel, as the autoencoder's configuration has it."""
        return int(2 ** (len(autoencoder["block_out_channels"]) - 1))

    def classes(self, configuration: Configuration, index: Configuration) -> Classes | None:
        """The network's table of labels; None where it takes none.

        Args:
            configuration: of the network.
            index: of the pipeline; {} where there is none.
        """
        return None

    def call(self, configuration: Configuration) -> ModelCall:
        """How the network is called."""
        scale = self.time_scale(configuration)
        if not self.captioned:
            return ModelCall(None, {"return_dict": False}, time_scale=scale)
        return CaptionedCall("captions", time_scale=scale, invoke=self.invoke)

    def time_scale(self, configuration: Configuration) -> float:
        """What the network's times are, over those of the scheduler's path where these are continuous."""
        return 1.0

    def tokens(self, height: int, width: int) -> int | None:
        """Image tokens of latents of so many pixels, where a dynamic shift of times depends on them."""
        return None

    def embed(self, pipeline: Any, captions: list[str], device: torch.device) -> dict[str, Tensor]:
        """Embeddings of captions, by the names of `captioned`.

        Args:
            pipeline: of the first of `pipelines`, with its text encoders and tokenizers alone.
            captions: some of them.
            device: where the encoders are.
        """
        raise NotImplementedError

    def invoke(self, network: nn.Module, x: Tensor, t: Tensor, rows: Rows) -> object:
        """What the network returns, for a captioned family.

        Args:
            network: the network.
            x: (n, C, H, W).
            t: (n,), in the scheduler's terms.
            rows: the embeddings (n, ...) by name and IMAGE_SIZE, in the type and on the device of x.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class CaptionedCall(ModelCall):
    """A call whose labels (n,) are numbers of rows of embeddings.

    Attributes:
        rows: the embeddings (N, ...) by name, on the CPU.
        invoke: as `Family.invoke`.
    """

    rows: Rows = field(default_factory=dict)
    invoke: Invoke | None = None

    def returned(self, model: nn.Module, x: Tensor, t: Tensor, labels: Tensor | None) -> object:
        """What the network returns with the rows of the labels."""
        assert self.invoke is not None
        assert labels is not None
        at = labels.cpu()
        given = {name: values[at].to(x.device, x.dtype) for name, values in self.rows.items()}
        return self.invoke(model, x, t, given)
