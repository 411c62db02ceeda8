"""Options are checked where they enter."""

import dataclasses
from typing import Any

import pytest

from experiments.adm import ADMOptions


def test_the_defaults_are_cifar10s() -> None:
    options = ADMOptions()
    assert options.resolutions == (32, 16, 8, 4)
    assert options.attention_widths == (256, 256, 256)
    assert options.out_channels == 6


def test_lists_become_tuples_so_that_json_reads_back_equal() -> None:
    written = {**dataclasses.asdict(ADMOptions()), "channel_mult": [1, 2, 2, 2], "attention_resolutions": [16, 8]}
    assert ADMOptions(**written) == ADMOptions()
    assert hash(ADMOptions(**written)) == hash(ADMOptions())


@pytest.mark.parametrize(
    "changed",
    [
        {"image_size": 36},
        {"image_size": 0},
        {"channels": 2},
        {"channels": True},
        {"model_channels": 48},
        {"channel_mult": ()},
        {"channel_mult": (1, 0)},
        {"channel_mult": "1,2,2,2"},
        {"num_res_blocks": 0},
        {"attention_resolutions": (15,)},
        {"attention_resolutions": (64,)},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"learn_sigma": "False"},
        {"resblock_updown": 1},
        {"num_classes": 0},
        {"num_head_channels": 24},
        {"num_head_channels": 0},
    ],
)
def test_an_option_that_is_not_allowed_is_named(changed: dict[str, Any]) -> None:
    (name,) = changed
    with pytest.raises(ValueError, match=rf"^{name} is .*; allowed: "):
        ADMOptions(**changed)


@pytest.mark.parametrize("heads", [(None, None), (4, 32)])
def test_heads_are_given_one_way(heads: tuple[int | None, int | None]) -> None:
    with pytest.raises(ValueError, match="exactly one of the two"):
        ADMOptions(num_heads=heads[0], num_head_channels=heads[1])


def test_heads_by_count_divide_every_width_that_attends() -> None:
    with pytest.raises(ValueError, match=r"^num_heads is 3"):
        ADMOptions(num_heads=3, num_head_channels=None)
