"""What builds an ADM network, as one frozen dataclass; the defaults are the published CIFAR-10 configuration."""

from __future__ import annotations

from dataclasses import dataclass

from flatness import arguments

NORM_GROUPS = 32


@dataclass(frozen=True)
class ADMOptions:
    """The options of an ADM network (Dhariwal and Nichol, 2021).

    Raises:
        ValueError: an option is not as its line says, or two of them do not fit each other.
    """

    image_size: int = 32
    """Height and width of the images, in pixels; every level but the last halves it."""
    channels: int = 3
    """Channels of an image: 1 (grey) or 3 (colour)."""
    model_channels: int = 128
    """Width of the first level, a multiple of 32 (the norms' groups)."""
    channel_mult: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level as a multiple of model_channels, from full resolution down."""
    num_res_blocks: int = 3
    """Residual blocks per level on the way down; one more on the way up."""
    attention_resolutions: tuple[int, ...] = (16, 8)
    """Heights in pixels of the levels whose blocks attend; the middle block always does."""
    num_heads: int | None = None
    """Attention heads by count; give this or num_head_channels, and None for the other."""
    num_head_channels: int | None = 32
    """Attention heads by width, in channels per head."""
    dropout: float = 0.3
    """Dropout in every residual block, from 0 to below 1."""
    learn_sigma: bool = True
    """Return, beside the noise, the channels that the variance is computed from."""
    resblock_updown: bool = True
    """Resample inside residual blocks; otherwise by a plain layer."""
    conv_resample: bool = True
    """Convolve in the plain resampling layers; unused with resblock_updown."""
    use_new_attention_order: bool = True
    """Split q, k, v before the heads; otherwise the heads first, as the oldest checkpoints do."""
    use_scale_shift_norm: bool = True
    """Condition by norm(h) (1 + scale) + shift (FiLM); otherwise add the embedding before the norm."""
    num_classes: int | None = None
    """Number of classes of a class-conditional network; None for none."""
    activation_checkpointing: bool = False
    """Recompute each block's activations in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        """Check every option, and make tuples of lists (as JSON gives them)."""
        for name in ("image_size", "model_channels", "num_res_blocks"):
            arguments.count(name, getattr(self, name), at_least=1)
        if arguments.count("channels", self.channels) not in (1, 3):
            raise arguments.refuse("channels", self.channels, "1 or 3")
        for name in ("channel_mult", "attention_resolutions"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or (name == "channel_mult" and not value):
                raise arguments.refuse(name, value, "a tuple of whole numbers of at least 1")
            object.__setattr__(self, name, tuple(arguments.count(name, entry, at_least=1) for entry in value))
        for name in ("learn_sigma", "resblock_updown", "conv_resample"):
            arguments.flag(name, getattr(self, name))
        for name in ("use_new_attention_order", "use_scale_shift_norm", "activation_checkpointing"):
            arguments.flag(name, getattr(self, name))
        if arguments.number("dropout", self.dropout, at_least=0.0) >= 1.0:
            raise arguments.refuse("dropout", self.dropout, "a number from 0 to below 1")
        if self.num_classes is not None:
            arguments.count("num_classes", self.num_classes, at_least=1)
        self._check_sizes()
        self._check_heads()

    def _check_sizes(self) -> None:
        """The levels halve the image, the norms' groups divide the widths, and attention is at a level."""
        halvings = len(self.channel_mult) - 1
        if self.image_size % 2**halvings:
            allowed = f"a multiple of {2**halvings}, as channel_mult has {halvings + 1} levels"
            raise arguments.refuse("image_size", self.image_size, allowed)
        if self.model_channels % NORM_GROUPS:
            raise arguments.refuse("model_channels", self.model_channels, f"a multiple of {NORM_GROUPS}")
        if not set(self.attention_resolutions) <= set(self.resolutions):
            allowed = f"among the levels' resolutions {self.resolutions}"
            raise arguments.refuse("attention_resolutions", self.attention_resolutions, allowed)

    def _check_heads(self) -> None:
        """Heads are given one way, and divide the width wherever there is attention."""
        if (self.num_heads is None) == (self.num_head_channels is None):
            given = (self.num_heads, self.num_head_channels)
            raise arguments.refuse(
                "(num_heads, num_head_channels)", given, "exactly one of the two, None for the other"
            )
        name = "num_heads" if self.num_heads is not None else "num_head_channels"
        divisor = arguments.count(name, getattr(self, name), at_least=1)
        for width in self.attention_widths:
            if width % divisor:
                raise arguments.refuse(name, divisor, f"a divisor of the {width} channels of a level that attends")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Height in pixels of each level, from the first down."""
        return tuple(self.image_size >> level for level in range(len(self.channel_mult)))

    @property
    def attention_widths(self) -> tuple[int, ...]:
        """Channels of the levels that attend, and of the middle block last."""
        levels = zip(self.resolutions, self.channel_mult, strict=True)
        attending = [mult for resolution, mult in levels if resolution in self.attention_resolutions]
        return tuple(mult * self.model_channels for mult in (*attending, self.channel_mult[-1]))

    @property
    def out_channels(self) -> int:
        """Channels of the network's output."""
        return self.channels * (2 if self.learn_sigma else 1)
