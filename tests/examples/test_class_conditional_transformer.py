"""The transformer and its training: SAM by hand with groups, warm-up, dropped labels and every second step."""

import torch
from torch import Tensor, nn

from examples.class_conditional_transformer import CLASSES, SIZE, Batch, batches, losses, main, train
from examples.transformer import Block, Transformer
from flatness import low_pass_filter
from tests.examples.by_hand import check_sam, trained

RHO, STEPS = 0.05, 6


def small() -> Transformer:
    torch.manual_seed(0)
    return Transformer(CLASSES, SIZE, patch=8, width=8, depth=1, heads=2).double()


def data(steps: int = STEPS, size: int = 12) -> list[Batch]:
    return [(x_t.double(), t.double(), labels, noise.double()) for x_t, t, labels, noise in batches(steps, size)]


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    return losses(model, batch).mean()


def reference(rho: float) -> list[Tensor]:
    """AdamW in one group a parameter, warmed up by hand: step k has (k + 1) / 20 of the rate."""
    model = small()
    groups = [{"params": [p], "weight_decay": 0.01 if p.dim() > 1 else 0.0} for p in model.parameters()]
    optimizer, done = torch.optim.AdamW(groups, lr=1e-3 / 20), [1]

    def warm_up() -> None:
        done[0] += 1
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * done[0] / 20

    torch.manual_seed(7)
    return trained(model, optimizer, mean_loss, data(), rho, perturbs=lambda step: step % 2 == 0, after=warm_up)


def test_steps_are_sam_every_second_time() -> None:
    model = small()
    torch.manual_seed(7)
    train(model, data(), RHO)
    check_sam(model, reference, RHO)


def test_the_loss_falls() -> None:
    model = small()
    train(model, data(40), RHO)
    before, after = (low_pass_filter(m, losses, data(2), draws=1).loss.value for m in (small(), model))
    assert after < before


def test_labels_are_dropped_in_training_alone() -> None:
    given_labels: list[Tensor] = []

    class Asks(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            given_labels.append(labels)
            return x_t

    model, (batch,) = Asks(), batches(1, 4000)
    torch.manual_seed(0)
    for training in (True, False):
        losses(model.train(training), batch)
    dropped = given_labels[0] == CLASSES
    assert abs(float(dropped.double().mean()) - 0.1) < 5 * (0.09 / 4000) ** 0.5  # five standard errors
    assert torch.equal(given_labels[0][~dropped], batch[2][~dropped])
    assert torch.equal(given_labels[1], batch[2])


def test_the_squares_are_where_the_labels_say() -> None:
    ((x_t, t, labels, noise),) = batches(1, 50)
    angle = torch.pi / 2 * t[:, None, None, None]
    x_0 = (x_t - angle.sin() * noise) / angle.cos()
    for image, label in zip(x_0[t < 0.9, 0], labels[t < 0.9], strict=True):
        bright = image > 0
        assert int(bright.sum()) == 16
        row, column = int(label) // 2, int(label) % 2
        assert int(bright[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].sum()) == 16


@torch.no_grad()
def test_blocks_are_the_identity_at_first_and_mix_tokens_later() -> None:
    torch.manual_seed(0)
    block, tokens, condition = Block(8, heads=2).double(), torch.randn(2, 4, 8).double(), torch.randn(2, 8).double()
    assert torch.equal(block(tokens, condition), tokens)
    nn.init.normal_(block.modulation.weight)
    moved = tokens.clone()
    moved[:, 3] += torch.randn(8)
    assert float((block(moved, condition) - block(tokens, condition))[:, 0].abs().max()) > 1e-6


def test_it_runs() -> None:
    plain, sam = main(["--steps", "3", "--batch", "4"])
    assert plain.rise.value != sam.rise.value
