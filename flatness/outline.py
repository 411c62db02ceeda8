"""What a model's parameters were, so that what has changed since can be named."""

from __future__ import annotations

from typing import Any

from torch import nn

from flatness.compilation import plain_name


class Outline:
    """Names, shapes and types of a model's parameters.

    Args:
        model: as it is now.
    """

    def __init__(self, model: nn.Module) -> None:
        """Note them."""
        self.parameters = _parameters(model)

    def changes(self, model: nn.Module) -> str:
        """What has changed, in words; "" where nothing has."""
        now = _parameters(model)
        if list(now.items()) == list(self.parameters.items()):
            return ""
        before = self.parameters
        told = [f"{name} is new" for name in now if name not in before]
        told += [f"{name} is gone" for name in before if name not in now]
        for name in now:
            for was, is_, what in zip(before.get(name, ()), now[name], ("shape", "dtype"), strict=False):
                if was != is_:
                    told.append(f"{name} has the {what} {is_}, and had {was}")
        if not told:  # the same ones in another order
            told = ["its parameters are in another order"]
        return "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")

    def check(self, name: str, model: nn.Module, allowed: str) -> None:
        """Raise where it has changed.

        Args:
            name: of the argument, for the message.
            model: as it is now.
            allowed: what may be instead.

        Raises:
            ValueError: it has.
        """
        told = self.changes(model)
        if told:
            raise ValueError(f"{name} has changed: {told}; allowed: {allowed}")


def _parameters(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Shape and type by name, in order."""
    return {plain_name(name): (tuple(p.shape), p.dtype) for name, p in model.named_parameters()}
