"""Checkpoints: public ones, ours, and files that do not fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from experiments.adm import ADM, CheckpointMismatchError, golden, load_checkpoint


def filled() -> ADM:
    model = ADM(golden.small())
    golden.fill(model)
    return model


def contiguous(model: ADM) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def write(path: Path, kind: str, state: dict[str, Tensor]) -> Path:
    if kind == "torch":
        torch.save(state, path / "ema_0.9999_200000.pt")
        return path / "ema_0.9999_200000.pt"
    save_file(state, path / "weights.safetensors")
    return path if kind == "run" else path / "weights.safetensors"


@pytest.mark.parametrize("kind", ["torch", "safetensors", "run"])
def test_what_was_saved_is_loaded(tmp_path: Path, kind: str) -> None:
    model, other = filled(), ADM(golden.small())
    load_checkpoint(write(tmp_path, kind, contiguous(model)), other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert all(p.stride() == q.stride() for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_of_a_run_the_newest_checkpoint_is_loaded(tmp_path: Path) -> None:
    model, other = filled(), ADM(golden.small())
    for step, factor in ((900, 2.0), (1000, 1.0)):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        save_file({name: factor * tensor for name, tensor in contiguous(model).items()}, folder / "weights.safetensors")
    load_checkpoint(tmp_path, other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["torch", "safetensors", "run"])
def test_keys_that_do_not_fit_are_told_and_nothing_is_loaded(tmp_path: Path, kind: str) -> None:
    state = contiguous(filled())
    state["middle_block.9.weight"] = state.pop("out.2.weight")
    state["time_embed.0.bias"] = torch.zeros(5)
    model = ADM(golden.small())
    before = contiguous(model)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_checkpoint(write(tmp_path, kind, state), model)
    message = str(caught.value)
    assert "1 missing from the file:\n  out.2.weight" in message
    assert "1 not in the model:\n  middle_block.9.weight" in message
    assert "1 of another shape:\n  time_embed.0.bias: (5,) in the file, (128,) in the model" in message
    assert caught.value.shapes == {"time_embed.0.bias": ((5,), (128,))}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"extra": torch.zeros(1)}, "1 not in the model"),
        ({"out.2.bias": torch.zeros(3)}, "1 of another shape"),
    ],
)
def test_one_kind_of_mismatch_is_enough(tmp_path: Path, changed: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointMismatchError, match=message):
        load_checkpoint(write(tmp_path, "torch", contiguous(filled()) | changed), ADM(golden.small()))


def test_long_lists_are_cut(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatchError) as caught:
        load_checkpoint(write(tmp_path, "torch", {}), ADM(golden.small()))
    lines = str(caught.value).splitlines()
    assert len(lines) == 13
    assert lines[-1] == f"  ... and {len(filled().state_dict()) - 10} more"


class Planted:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code from a checkpoint was run')",)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"out.2.weight": Planted()}, tmp_path / "planted.pt")
    with pytest.raises(ValueError, match=r"planted\.pt cannot be read"):
        load_checkpoint(tmp_path / "planted.pt", ADM(golden.small()))


@pytest.mark.parametrize("name", ["damaged.pt", "damaged.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, share: float) -> None:
    kind = "torch" if name.endswith("pt") else "safetensors"
    whole = write(tmp_path, kind, contiguous(filled())).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        load_checkpoint(tmp_path / name, ADM(golden.small()))


def test_files_with_something_else(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}, "step": 3}, tmp_path / "nested.pt")
    with pytest.raises(ValueError, match=r"nested\.pt holds a mapping with \['model', 'step'\]"):
        load_checkpoint(tmp_path / "nested.pt", ADM(golden.small()))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_checkpoint(tmp_path / "absent.pt", ADM(golden.small()))
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors does not exist"):
        load_checkpoint(tmp_path, ADM(golden.small()))
