"""What is measured is the loss, its rise is positive, and the model is afterwards as before."""

import copy

import pytest
import torch

from examples.measure_your_model import main, measure, your_model_and_batches


def test_it_measures_and_leaves_the_model_alone(capsys: pytest.CaptureFixture[str]) -> None:
    model, batches = your_model_and_batches(30)
    before = copy.deepcopy(model.state_dict())
    measured = measure(model, batches)
    with torch.no_grad():
        model.eval()
        by_hand = [torch.nn.functional.cross_entropy(model(x), label) for x, label in batches]
    assert measured.loss.value == pytest.approx(float(torch.stack(by_hand).mean()), rel=1e-5)
    assert measured.value.value == pytest.approx(measured.loss.value + measured.rise.value, rel=1e-9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert f"rise {measured.rise.value:.4f}" in capsys.readouterr().out


def test_a_flatter_model_rises_less() -> None:
    """The last layer's weights at a tenth: a loss with a tenth of the slope in the rest."""
    model, batches = your_model_and_batches(30)
    rise = measure(model, batches).rise.value
    with torch.no_grad():
        for p in list(model.parameters())[-2:]:
            p.div_(10)
    assert 0 < measure(model, batches).rise.value < rise


def test_it_runs() -> None:
    assert main(["--steps", "5"]).rise.value > 0
