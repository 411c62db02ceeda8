"""What ADM promises beyond its figures: fresh weights, dropout, precision, layout, compilation, errors."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.adm import ADM, ADMOptions, golden
from experiments.adm.blocks import AttentionBlock, GroupNorm, Pointwise, ResidualBlock


def filled(case: str = "") -> ADM:
    model = ADM(golden.small(case)).eval()
    golden.fill(model)
    return model


def batch() -> tuple[Tensor, Tensor]:
    return golden.inputs(side=16)[0], torch.tensor(golden.TIMESTEPS)


def test_a_fresh_network_predicts_zero_and_its_blocks_are_their_skips() -> None:
    torch.manual_seed(0)
    model = ADM(golden.small())
    assert float(model(*batch()).detach().abs().max()) == 0.0
    x, embedding = torch.randn(2, 32, 8, 8), torch.randn(2, 128)
    for block in (ResidualBlock(32, 32, golden.small()), AttentionBlock(32, golden.small())):
        assert torch.equal(block(x, embedding), x)


def test_dropout_acts_in_training_alone() -> None:
    model = filled()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    x, t = batch()
    assert torch.equal(model(x, t), model(x, t))
    model.train()
    assert not torch.equal(model(x, t), model(x, t))


def test_recomputed_blocks_see_the_same_dropout() -> None:
    gradients = []
    for recomputed in (False, True):
        options = ADMOptions(**{**golden.SMALL, "dropout": 0.5, "activation_checkpointing": recomputed})
        model = ADM(options).train()
        golden.fill(model)
        torch.manual_seed(7)
        model(*batch()).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.equal(*gradients)


def test_timesteps_may_be_whole_or_not() -> None:
    model = filled()
    x, t = batch()
    assert torch.equal(model(x, t), model(x, t.double()))
    assert not torch.equal(model(x, t), model(x, t + 0.5))


def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    model = filled()
    x, t = batch()
    alone = torch.cat([model(x[k : k + 1], t[k : k + 1]) for k in range(2)])
    assert golden.distance(alone.detach(), model(x, t).detach().numpy()) < golden.RELATIVE


def test_any_memory_format_gives_the_same() -> None:
    model = filled()
    x, t = batch()
    contiguous = copy.deepcopy(model)
    for p in contiguous.parameters():
        p.data = p.data.contiguous()
    expected = model(x, t).detach().numpy()
    assert golden.distance(model(x.contiguous(memory_format=torch.channels_last), t).detach(), expected) < 1e-5
    assert golden.distance(contiguous(x, t).detach(), expected) < golden.RELATIVE


def test_convolutions_get_channels_last() -> None:
    seen = []
    model = filled()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | GroupNorm) and not isinstance(module, Pointwise):
            module.register_forward_hook(
                lambda _, inputs, output: seen.append(
                    inputs[0].is_contiguous(memory_format=torch.channels_last)
                    and output.is_contiguous(memory_format=torch.channels_last)
                )
            )
    model(*batch())
    assert len(seen) > 20
    assert all(seen)


def test_embedding_and_output_stay_in_float32_under_autocast() -> None:
    model = filled()
    types = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.GroupNorm):
            module.register_forward_hook(lambda _, __, output, name=name: types.update({name: output.dtype}))
    x, t = batch()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x, t)
    assert output.dtype == torch.float32
    assert {types[name] for name in ("time_embed.0", "time_embed.2", "out.0", "out.2")} == {torch.float32}
    inside = [value for name, value in types.items() if name.startswith("middle_block") and ".emb" not in name]
    assert set(inside) == {torch.bfloat16}
    # bfloat16 rounds by 2^-9 = 0.2%; some tens of layers give a few per cent at the worst pixel.
    assert 1e-4 < golden.distance(output.detach(), model(x, t).detach().numpy()) < 0.1


def test_the_norm_is_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    norm, seen, kernel = GroupNorm(32), [], nn.functional.group_norm

    def watched(x: Tensor, *arguments: Any) -> Tensor:
        seen.append(x.dtype)
        return kernel(x, *arguments)

    monkeypatch.setattr(nn.functional, "group_norm", watched)
    x = (torch.randn(2, 32, 8, 8) + 300.0).bfloat16()
    expected = kernel(x.double(), 32)
    assert (norm(x).double() - expected).abs().max() <= 2**-8 * expected.abs().max()  # one rounding to bfloat16
    assert norm.double()(x.double()).dtype == torch.float64
    assert seen == [torch.float32, torch.float64]


def test_double_precision_throughout() -> None:
    model = filled().double()
    x, t = batch()
    assert model(x.double(), t).dtype == torch.float64
    assert golden.distance(model(x.double(), t).detach().float(), filled()(x, t).detach().numpy()) < golden.RELATIVE


def test_compiles_without_a_graph_break() -> None:
    model = filled()
    x, t = batch()
    with torch.no_grad():
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(x, t), model(x, t))


@pytest.mark.parametrize("train", [False, True])
def test_the_frequencies_are_not_in_the_state_dict(train: bool) -> None:
    model = filled().train(train)
    assert not [name for name in model.state_dict() if "freq" in name]
    assert model.frequencies.shape == (16,)


@pytest.mark.parametrize(
    ("case", "x", "t", "y", "named"),
    [
        ("", (2, 1, 16, 16), (2,), None, "x"),
        ("", (2, 3, 32, 32), (2,), None, "x"),
        ("", (2, 3, 16, 16), (), None, "t"),
        ("", (2, 3, 16, 16), (3,), None, "t"),
        ("", (2, 3, 16, 16), (2,), (2,), "y"),
        ("classes", (2, 3, 16, 16), (2,), None, "y"),
        ("classes", (2, 3, 16, 16), (2,), (3,), "y"),
    ],
)
def test_inputs_that_do_not_fit(
    case: str, x: tuple[int, ...], t: tuple[int, ...], y: tuple[int, ...] | None, named: str
) -> None:
    model = ADM(golden.small(case))
    with pytest.raises(ValueError, match=rf"^{named} is "):
        model(torch.zeros(x), torch.zeros(t), None if y is None else torch.zeros(y, dtype=torch.int64))
