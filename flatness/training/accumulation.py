"""Gradients that somebody else's loop accumulates around SAM's closure, noticed before they make it another algorithm.

SAM calls its closure twice and clears the gradients in between. A closure that clears nothing, as Lightning's automatic
optimisation hands one over under accumulate_grad_batches, then adds earlier micro-batches' gradients to the pass at w
and not to the one at w_hat: that is refused. What the gradients were before is seen where autograd is about to add to
them, by a hook on the node that does.

A closure that clears gradients at its begin makes a step of its own loss, whatever another backward has left before:
a generator's passes through a discriminator, say, or a look at the gradient's norm. Only where the other backwards were
micro-batches of the same step is that another algorithm. Within accelerate's accumulation they are, so there it is
refused; elsewhere nobody can tell, so it is said once.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
import weakref
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from flatness.passes import whole_norm
from flatness.sharding import gathered, is_sharded, local

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


def accelerate_accumulates() -> bool:
    """Whether accelerate is in use with more than one micro-batch a step."""
    module = sys.modules.get("accelerate.state")
    state = getattr(getattr(module, "GradientState", None), "_shared_state", None)
    own = state.get("plugin_kwargs") if isinstance(state, dict) else None
    steps = own.get("num_steps", 1) if isinstance(own, dict) else 1
    return isinstance(steps, int) and steps > 1


class Outside:
    """Whether backwards outside of closures have been spoken of."""

    def __init__(self) -> None:
        """Not yet."""
        self.has_warned = False

    def tell(self, name: str) -> None:
        """Warn, once."""
        if not self.has_warned:
            self.has_warned = True
            warnings.warn(
                f"{name} clears gradients that another backward has left; if those were micro-batches of this step, "
                f"they are lost: {INSTEAD} (said once)",
                stacklevel=2,
            )


@contextlib.contextmanager
def refusing_accumulation(name: str, parameters: Sequence[Tensor], left: Gradients, outside: Outside) -> Iterator[None]:
    """Around a closure at w: raise where gradients were accumulated before it.

    Args:
        name: of the closure, for messages.
        parameters: of the optimizer.
        left: the gradients as the last step left them, or as the optimizer was wrapped.
        outside: of the optimizer.

    Raises:
        RuntimeError: the closure added to gradients that were not zero, or cleared those of accelerate's micro-batches.
    """
    holding = [p for p in parameters if p.grad is not None and p.requires_grad]
    others = [p.grad for p in holding if p.grad is not None and not _same(left, p, p.grad)]
    dense = [grad for grad in others if grad.layout is torch.strided]
    stray = bool(dense) and whole_norm(dense) > 0
    before: dict[Tensor, Tensor | None] = {}

    def note(p: Tensor) -> None:
        if p not in before:  # the first time that the closure's backward comes here
            grad = p.grad
            dense = grad is not None and grad.layout is torch.strided
            before[p] = torch.linalg.vector_norm(grad.detach()) if dense else None  # type: ignore[union-attr]

    # Of the nodes that add to gradients: torch.autograd.grad calls a parameter's own hooks too, and adds to none
    nodes = [(p, get_gradient_edge(p).node) for p in holding if p.is_leaf and not is_sharded(p)]
    # FSDP adds to a rank's part of a gradient itself; what clears one in place writes to the whole
    shards = [
        (p, p.grad, torch.linalg.vector_norm(p.grad.detach()), p.grad._version, local(p.grad)._version)
        for p in holding
        if p.grad is not None and is_sharded(p.grad)
    ]
    hooks = [node.register_prehook(lambda _, p=p: note(p)) for p, node in nodes]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    norms = [norm for norm in before.values() if norm is not None]
    added = any(
        bool(gathered(norm) != 0)
        for p, grad, norm, whole, version in shards
        if p.grad is grad and grad._version == whole and local(grad)._version != version
    )
    if added or any(bool(norm != 0) for norm in norms):
        raise RuntimeError(
            f"{name} adds to gradients that were there before it, as under a loop that accumulates micro-batches: at "
            f"w_hat it would see the last one alone; {INSTEAD}"
        )
    if stray and accelerate_accumulates():
        raise RuntimeError(
            f"{name} clears gradients that accelerate has accumulated before it: the step would be of the last "
            f"micro-batch alone; {INSTEAD}"
        )
    if stray:
        outside.tell(name)
