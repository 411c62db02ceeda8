"""The network is ADM: state_dict, parameters, operations and outputs against figures of the public implementation."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.adm import ADM, golden

PARAMETERS = {"tiny": 1_965_894, "cifar10": 57_094_662, "lsun_tower64": 295_136_454}
GFLOP = {"cifar10": 18.5, "lsun_tower64": 219.0}


def on_meta(name: str) -> ADM:
    with torch.device("meta"):
        return ADM(golden.PUBLISHED[name])


@pytest.mark.parametrize("name", PARAMETERS)
def test_state_dict_is_the_published_one_in_names_shapes_and_order(name: str) -> None:
    model = on_meta(name)
    assert [(key, list(p.shape)) for key, p in model.state_dict().items()] == list(golden.state_dict(name).items())
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", GFLOP)
def test_operations_of_a_forward_pass_are_the_published_ones(name: str) -> None:
    model, side = on_meta(name), golden.PUBLISHED[name].image_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"), torch.empty(1, device="meta"))
    assert counter.get_total_flops() / 1e9 == pytest.approx(GFLOP[name], rel=0.003)  # published to three digits


def test_output_of_the_tiny_network() -> None:
    model = ADM(golden.PUBLISHED["tiny"]).eval()
    golden.fill(model)
    with torch.no_grad():
        output = model(golden.inputs()[0], torch.tensor(golden.TIMESTEPS))
    assert golden.distance(output, golden.arrays("tiny_forward")["y"]) < golden.RELATIVE


@pytest.mark.parametrize("case", golden.CASES)
def test_every_switch(case: str) -> None:
    """The loss of the recorded gradient norm is a mean of squares, so its sign and scale are seen too."""
    options, figures = golden.small(case), golden.arrays("switches")
    model = ADM(options).eval()
    names = json.loads((golden.GOLDENS / "switches.json").read_text())[case]
    assert [(key, list(p.shape)) for key, p in model.state_dict().items()] == list(names.items())
    golden.fill(model)
    y = torch.tensor(golden.CLASSES) if options.num_classes else None
    x, _ = golden.inputs(options.channels, options.image_size)
    output = model(x, torch.tensor(golden.TIMESTEPS), y)
    assert golden.distance(output.detach(), figures[case]) < golden.RELATIVE
    output.square().mean().backward()
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    assert len(squares) == len(names)
    # Twice the output's tolerance, as the loss is quadratic in it, and as much again for the way back.
    assert float(torch.stack(squares).sum().sqrt()) == pytest.approx(
        float(figures[f"grad_norm_{case}"]), rel=4 * golden.RELATIVE
    )


def test_the_switches_change_the_output() -> None:
    """Otherwise the test above would pass with a switch that does nothing."""
    figures = golden.arrays("switches")
    plain = figures["checkpointing"]  # recomputing changes nothing
    for case in ("legacy_attention", "additive", "classes", "plain_convolved", "plain_pooled"):
        assert golden.distance(torch.from_numpy(plain), figures[case]) > 0.01
    assert golden.distance(torch.from_numpy(figures["plain_pooled"]), figures["plain_convolved"]) > 0.01
