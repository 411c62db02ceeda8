"""Gradients that somebody else's loop accumulates around SAM's closure, noticed before they make it another algorithm.

SAM calls its closure twice and clears the gradients in between. A closure that clears nothing, as Lightning's automatic
optimisation hands one over under accumulate_grad_batches, then adds earlier micro-batches' gradients to the pass at w
and not to the one at w_hat. One that clears at its begin, as within accelerate's `accumulate`, drops them from both.
Either way the step is not that of the whole batch, without a word; so it is refused.

What the gradients were before a closure is seen where autograd is about to add to them, by a hook on each parameter
that holds one; whether they are another backward's, by comparing them with those that the last step left.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from flatness.passes import whole_norm

Gradients = dict[Tensor, tuple["weakref.ref[Tensor]", int]]
"""Of each parameter that has one, which tensor its gradient is and how often that was written to."""
INSTEAD = (
    "use a closure that clears the gradients and runs forward and backward for all micro-batches (in Lightning with "
    "automatic_optimization = False), or the two-phase form, first_pass() and perturbed()"
)


def gradients_now(parameters: Sequence[Tensor]) -> Gradients:
    """What identifies the gradients as they are."""
    return {p: (weakref.ref(p.grad), p.grad._version) for p in parameters if p.grad is not None}


def _same(left: Gradients, p: Tensor, grad: Tensor) -> bool:
    there = left.get(p)
    return there is not None and there[0]() is grad and there[1] == grad._version


@contextlib.contextmanager
def refusing_accumulation(name: str, parameters: Sequence[Tensor], left: Gradients) -> Iterator[None]:
    """Around a closure at w: raise where gradients were accumulated before it.

    Args:
        name: of the closure, for messages.
        parameters: of the optimizer.
        left: the gradients as the last step left them.

    Raises:
        RuntimeError: the closure added to gradients that were not zero, or cleared those of a backward outside of it.
    """
    holding = [p for p in parameters if p.grad is not None and p.requires_grad]
    others = [p.grad for p in holding if p.grad is not None and not _same(left, p, p.grad)]
    dense = [grad for grad in others if grad.layout is torch.strided]
    outside = bool(dense) and whole_norm(dense) > 0
    before: dict[Tensor, Tensor | None] = {}

    def note(p: Tensor) -> None:
        if p not in before:  # the first time that the closure's backward comes here
            grad = p.grad
            dense = grad is not None and grad.layout is torch.strided
            before[p] = torch.linalg.vector_norm(grad.detach()) if dense else None  # type: ignore[union-attr]

    hooks = [p.register_hook(lambda _, p=p: note(p)) for p in holding]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    norms = [norm for norm in before.values() if norm is not None]
    if norms and any(bool(norm != 0) for norm in norms):
        raise RuntimeError(
            f"{name} adds to gradients that were there before it, as under a loop that accumulates micro-batches: at "
            f"w_hat it would see the last one alone; {INSTEAD}"
        )
    if outside:
        raise RuntimeError(
            f"{name} clears gradients that a backward outside of it has left, as under a loop that accumulates "
            f"micro-batches: the step would be of the last one alone; {INSTEAD}"
        )
