"""The configurations by name: the paper's three data sets, and Fashion-MNIST at three sizes for smaller machines."""

from __future__ import annotations

from typing import Literal

from experiments.adm.options import ADMOptions
from experiments.configuration import AverageOptions, Configuration

PresetName = Literal["cifar10", "lsun-tower", "ffhq", "fashion-mnist", "fashion-mnist-tiny", "fashion-mnist-mini"]

_CIFAR10 = ADMOptions()
_TOWER = ADMOptions(
    image_size=64,
    model_channels=192,
    channel_mult=(1, 2, 3, 4),
    attention_resolutions=(32, 16, 8),
    num_head_channels=64,
    dropout=0.1,
)
_FASHION = ADMOptions(
    channels=1, model_channels=64, channel_mult=(1, 2, 2), num_res_blocks=2, attention_resolutions=(8,), dropout=0.1
)
# Small enough for two cores: see the plan command for parameters and operations
_TINY = ADMOptions(
    image_size=16,
    channels=1,
    model_channels=32,
    channel_mult=(1, 2, 2),
    num_res_blocks=1,
    attention_resolutions=(4,),
    dropout=0.0,
)

# Minutes a run on one core, so that seeds, radii and training sets can be many; small batches make step noise large
_MINI = ADMOptions(
    image_size=8,
    channels=1,
    model_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(),
    dropout=0.0,
)

PRESETS: dict[PresetName, Configuration] = {
    "cifar10": Configuration(network=_CIFAR10),
    "lsun-tower": Configuration(dataset="lsun-tower", network=_TOWER, global_batch=256),
    "ffhq": Configuration(dataset="ffhq", network=_TOWER),
    "fashion-mnist": Configuration(
        dataset="fashion-mnist", network=_FASHION, steps=40_000, averages=AverageOptions(ema_decay=0.999)
    ),
    # The averages' lengths go with the steps: an EMA of .9999 would still hold two thirds of the initial weights
    "fashion-mnist-tiny": Configuration(
        dataset="fashion-mnist",
        network=_TINY,
        steps=4_000,
        global_batch=64,
        learning_rate=5e-4,
        timestep_weights="uniform",
        averages=AverageOptions(ema_decay=0.995, swa_cycle=10),
    ),
    "fashion-mnist-mini": Configuration(
        dataset="fashion-mnist",
        network=_MINI,
        steps=20_000,
        global_batch=16,
        learning_rate=1e-3,
        timestep_weights="uniform",
        averages=AverageOptions(ema_decay=0.999, swa_cycle=10),
    ),
}
