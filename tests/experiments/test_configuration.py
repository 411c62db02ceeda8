"""The configuration: to JSON and back, what differs, what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.adm.options import ADMOptions
from experiments.configuration import (
    PRESETS,
    VERSION,
    AverageOptions,
    Configuration,
    RunOptions,
    SAMOptions,
    current_settings,
)
from experiments.reproduce import shortened
from findings.checksums import ResultError
from findings.documents import ResultFile, read_document
from flatness import EMA

TINY = PRESETS["fashion-mnist-tiny"]


@pytest.mark.parametrize("preset", PRESETS)
def test_json_and_back_is_the_same(preset: str) -> None:
    c: Configuration = {str(name): configuration for name, configuration in PRESETS.items()}[preset]
    assert Configuration.from_dict(json.loads(json.dumps(c.to_dict()))) == c


@pytest.mark.parametrize("change", [{"version": 0}, {"rho": 1.0}, {"sam": {"rho": 0.1}}, {"steps": None}])
def test_another_form_is_refused(change: dict[str, Any]) -> None:
    stored = TINY.to_dict() | change
    if change == {"steps": None}:
        del stored["steps"]
    with pytest.raises(ValueError, match="stored configuration"):
        Configuration.from_dict(stored)


def test_a_run_of_an_earlier_version_had_the_defaults_of_what_came_later() -> None:
    earlier = {name: value for name, value in TINY.to_dict().items() if name not in ("training_images", "weight_noise")}
    assert Configuration.from_dict(earlier | {"version": 1}) == TINY
    with pytest.raises(ValueError, match="lacks"):
        Configuration.from_dict(earlier)  # of this version, and incomplete
    averages = {name: value for name, value in earlier["averages"].items() if name not in ("ema_start", "ema_warmup")}
    for version, there in ((1, earlier), (2, TINY.to_dict())):
        assert Configuration.from_dict(there | {"version": version, "averages": averages}) == TINY
    with pytest.raises(ValueError, match=r"lacks averages\..*ema_start"):
        Configuration.from_dict(TINY.to_dict() | {"averages": averages})
    with pytest.raises(ValueError, match="unknown"):
        Configuration.from_dict(TINY.to_dict() | {"version": 2, "averages": averages | {"ema_rate": 0.9}})
    for broken in (None, 3, [averages]):
        with pytest.raises((ValueError, TypeError)):
            Configuration.from_dict(TINY.to_dict() | {"version": 2, "averages": broken})
    with pytest.raises(ValueError, match=f"version is {VERSION + 1}"):
        Configuration.from_dict(TINY.to_dict() | {"version": VERSION + 1})


def test_the_ema_is_as_the_options_say_its_start_a_share_of_the_run() -> None:
    assert TINY.ema == EMA(0.995)
    averages = AverageOptions(ema_decay=0.9, ema_start=0.25, ema_warmup=0.75)
    assert dataclasses.replace(TINY, averages=averages).ema == EMA(0.9, start=1000, warmup=0.75)
    assert shortened(dataclasses.replace(TINY, averages=averages), 400).ema.start == 100


def test_differences_name_each_field_and_both_values() -> None:
    other = dataclasses.replace(TINY, method="ip", sam=SAMOptions(rho=0.01))
    assert TINY.differences(other) == ["method: 'adm', 'ip'", "sam.rho: 0.1, 0.01"]
    assert TINY.differences(TINY) == []


def test_recomputing_activations_is_no_difference() -> None:
    recomputed = dataclasses.replace(TINY.network, activation_checkpointing=True)
    assert TINY.differences(dataclasses.replace(TINY, network=recomputed)) == []


@pytest.mark.parametrize(
    ("steps", "start", "cycle", "expected"),
    [(200_000, 0.9, 100, 200), (500, 0.9, 100, 0), (501, 0.9, 100, 1), (4, 0.0, 1, 4), (10, 1.0, 1, 0)],
)
def test_swa_models_are_those_that_shadows_take_in(steps: int, start: float, cycle: int, expected: int) -> None:
    c = dataclasses.replace(TINY, steps=steps, averages=AverageOptions(swa_start=start, swa_cycle=cycle))
    assert c.swa_models == expected
    assert expected == sum(step >= round(start * steps) and step % cycle == 0 for step in range(steps))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "imagenet"}, "dataset is 'imagenet'"),
        ({"train_split": "test"}, "train_split is 'test'"),
        ({"method": "sgd"}, "method is 'sgd'"),
        ({"steps": 0}, "steps is 0"),
        ({"global_batch": 0}, "global_batch is 0"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"network": ADMOptions(learn_sigma=False)}, "network.learn_sigma is False"),
        ({"network": ADMOptions(num_classes=10)}, "network.num_classes is 10"),
        ({"averages": AverageOptions(ema_start=1.0)}, r"averages.ema_start is 1\.0; allowed: so little of the 4000"),
        ({"averages": AverageOptions(ema_start=0.9), "steps": 3}, r"averages.ema_start is 0\.9"),
    ],
)
def test_values_that_are_not_allowed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (SAMOptions, {"rho": -0.1}, r"rho is -0\.1"),
        (SAMOptions, {"ascent_share": 0.0}, r"ascent_share is 0\.0"),
        (AverageOptions, {"swa_cycle": 0}, "swa_cycle is 0"),
        (AverageOptions, {"ema_start": -0.1}, r"ema_start is -0\.1"),
        (AverageOptions, {"ema_start": 1.1}, r"ema_start is 1\.1"),
        (AverageOptions, {"ema_warmup": 0.0}, r"ema_warmup is 0\.0"),
        (AverageOptions, {"power_widths": (0.5,)}, r"power_widths is 0\.5"),
        (RunOptions, {"out": "runs", "micro_batch": 0}, "micro_batch is 0"),
        (RunOptions, {"out": "runs", "device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_options_that_are_not_allowed(kind: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**changes)


STUDY = Path(__file__).parents[2] / "results" / "fashion-mnist-tiny"
"""Measured before the configuration had its second version."""


@pytest.mark.parametrize("place", ["rows/sam-rho-0.1-ema.json", "layers/sam-rho-0.1-ema.json"])
def test_results_of_an_earlier_version_are_taken_as_of_the_same_settings(place: str, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    shutil.copy(STUDY / place, path)
    stored = read_document(path)["settings"]
    configuration = Configuration.from_dict(stored["configuration"])
    wanted = stored | {"configuration": configuration.to_dict()}
    assert wanted["configuration"] != stored["configuration"]
    finished = ResultFile(path, json.loads(json.dumps(wanted)), current_settings).finished()
    assert finished is not None
    assert finished["settings"] == stored
    other = stored | {"configuration": dataclasses.replace(configuration, seed=7).to_dict()}
    with pytest.raises(ResultError, match=r"configuration\.seed: 0, 7"):
        ResultFile(path, json.loads(json.dumps(other)), current_settings).finished()


def test_a_plan_of_an_earlier_version_is_brought_to_this_one() -> None:
    stored = read_document(STUDY / "plan.json")["settings"]
    settings = current_settings(stored)
    assert {one["version"] for one in settings["runs"].values()} == {VERSION}
    assert {name: value for name, value in settings.items() if name != "runs"} == {
        name: value for name, value in stored.items() if name != "runs"
    }
    broken: dict[str, Any] = {"configuration": {"version": 99}, "runs": {"a": None}}
    assert current_settings(broken) == broken
