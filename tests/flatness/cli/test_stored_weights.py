"""Weights are those of the file, all of them, or it is said what is wrong: never what memory held."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from flatness.cli.command import run
from flatness.cli.errors import CommandError
from flatness.cli.options import SourceOptions
from flatness.cli.sources import loaded
from flatness.optional_imports import imported_diffusers

safetensors = pytest.importorskip("safetensors.torch")
NAME = "diffusion_pytorch_model"
GIVEN = SourceOptions(prediction="epsilon", schedule="linear")


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    package = imported_diffusers()
    return package if package is not None else pytest.skip("diffusers is not installed")


@pytest.fixture(scope="module")
def folder(diffusers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 8), norm_num_groups=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / "net"
    unet.save_pretrained(path)
    return path


def rewritten(folder: Path, to: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], name: str = "") -> Path:
    """A copy whose weights are changed, perhaps under another file's name."""
    shutil.copytree(folder, to)
    file = to / f"{NAME}.safetensors"
    state = change(safetensors.load_file(file))
    file.unlink()
    safetensors.save_file(state, to / (name or file.name))
    return to


def sha(path: Path) -> str:
    """Of the weights that were read."""
    return str(loaded(str(path), GIVEN).about["sha256"])


def prefixed(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """All names behind a prefix."""
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As diffusers named an attention's projections at first, and kept them as convolutions."""
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in state.items():
        for key, old in new.items():
            name = name.replace(f".{key}.", f".{old}.")
        renamed[name] = tensor
    assert set(renamed) != set(state)
    return renamed


SAME: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "module": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "both": prefixed("module._orig_mod."),
    "sharded": prefixed("_fsdp_wrapped_module."),
    "trainer's": prefixed("model._orig_mod."),
    "first names": old_names,
    "inner compile": lambda s: {n.replace("mid_block.", "mid_block._orig_mod."): t for n, t in s.items()},
    "inner checkpointing": lambda s: {
        n.replace("mid_block.", "mid_block._checkpoint_wrapped_module."): t for n, t in s.items()
    },
}


@pytest.mark.parametrize("what", SAME)
def test_wrappers_names_are_read(what: str, folder: Path, tmp_path: Path) -> None:
    assert sha(rewritten(folder, tmp_path / "x", SAME[what])) == sha(folder)


def test_variants_parts_and_single_files_are_read(folder: Path, tmp_path: Path) -> None:
    half = rewritten(
        folder, tmp_path / "half", lambda s: {n: t.half() for n, t in s.items()}, f"{NAME}.fp16.safetensors"
    )
    subject = loaded(str(half), GIVEN)
    assert next(subject.model.parameters()).dtype == torch.float32
    assert subject.remarks == ("its weights are those of the variant fp16, measured in float32",)
    whole = loaded(str(folder), GIVEN)
    for mine, theirs in zip(subject.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs.half().float())
    coarse = rewritten(folder, tmp_path / "coarse", lambda s: {n: t.bfloat16() for n, t in s.items()})
    assert loaded(str(coarse), GIVEN).remarks == ("its weights are stored as BF16, measured in float32",)
    assert whole.remarks == ()
    parts = rewritten(folder, tmp_path / "parts", lambda s: s, "all.safetensors")
    state = safetensors.load_file(parts / "all.safetensors")
    (parts / "all.safetensors").unlink()
    names = list(state)
    files = {f"{NAME}-0000{n}-of-00002.safetensors": names[n - 1 :: 2] for n in (1, 2)}
    for file, some in files.items():
        safetensors.save_file({name: state[name] for name in some}, parts / file)
    index = {"weight_map": {name: file for file, some in files.items() for name in some}}
    (parts / f"{NAME}.safetensors.index.json").write_text(json.dumps(index))
    assert sha(parts) == sha(folder)
    next(parts.glob("*00001*")).unlink()
    with pytest.raises(CommandError, match=r"00001-of-00002\.safetensors, not there"):
        sha(parts)
    single = rewritten(folder, tmp_path / "single", lambda s: s, "mine.safetensors")
    assert sha(single / "mine.safetensors") == sha(folder)
    with pytest.raises(CommandError, match="Name the file itself"):
        sha(single)
    alone = tmp_path / "alone.safetensors"
    shutil.copy(single / "mine.safetensors", alone)
    with pytest.raises(CommandError, match=r"beside no config\.json"):
        sha(alone)


REFUSED: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "one missing": (
        lambda s: {n: t for n, t in s.items() if n != "conv_in.bias"},
        r"tensors 1 missing \(conv_in.bias\)",
    ),
    "one too many": (lambda s: s | {"head.weight": torch.ones(2)}, r"1 unexpected \(head.weight\)"),
    "another shape": (lambda s: s | {"conv_in.bias": torch.ones(3)}, r"1 of another shape \(conv_in.bias \(3,\) for"),
    "part of the names prefixed": (
        lambda s: {("module." if n.startswith("up") else "") + n: t for n, t in s.items()},
        "missing .*; .*unexpected",
    ),
    "lora": (lambda s: s | {"conv_in.lora_A.weight": torch.ones(2, 2)}, "an adapter's tensors"),
    "peft": (
        lambda s: {n.replace("conv_in.", "conv_in.base_layer."): t for n, t in s.items()},
        "an adapter's tensors",
    ),
    "integers": (lambda s: s | {"conv_in.bias": torch.ones(4, dtype=torch.int8)}, "quantised weights"),
    "the size of a bias only": (lambda s: s | {"conv_in.bias": torch.ones(4, 1)}, "of another shape"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_by_name(what: str, folder: Path, tmp_path: Path) -> None:
    change, message = REFUSED[what]
    with pytest.raises(CommandError, match=message):
        sha(rewritten(folder, tmp_path / "x", change))


def test_adapters_quantised_folders_and_two_variants_are_refused_by_what_they_are(folder: Path, tmp_path: Path) -> None:
    def edited(name: str, **changes: Any) -> Path:
        shutil.copytree(folder, tmp_path / name)
        file = tmp_path / name / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return tmp_path / name

    quantised = edited("q", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(CommandError, match="is quantised by bitsandbytes"):
        sha(quantised)
    adapter = edited("a")
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(CommandError, match="an adapter"):
        sha(adapter)
    two = edited("t")
    for variant in ("fp16", "ema"):
        shutil.copy(two / f"{NAME}.safetensors", two / f"{NAME}.{variant}.safetensors")
    assert sha(two) == sha(folder)
    (two / f"{NAME}.safetensors").unlink()
    with pytest.raises(CommandError, match="holds the variants ema, fp16"):
        sha(two)
    with pytest.raises(CommandError, match="of which no UNet2DModel can be built"):
        sha(edited("c", block_out_channels=[4, "x"]))


def test_a_hub_id_is_read_from_the_cache_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def snapshot(name: str, *, revision: str | None, local_files_only: bool) -> str:
        assert local_files_only
        if (name, revision) != ("owner/name", None):
            raise FileNotFoundError(name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    subject = loaded("owner/name", GIVEN)
    assert subject.label == "owner/name"
    assert subject.about["sha256"] == sha(folder)
    with pytest.raises(CommandError, match="`hf download owner/other --revision main` fetches it"):
        loaded("owner/other@main", GIVEN)


def test_nobody_is_asked_for_options_before_the_class_is_known(folder: Path, tmp_path: Path) -> None:
    """Neither for a scheduler nor for weights, by which a network of another class would not be read either."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"_class_name": "MyUNet"}))
    with pytest.raises(CommandError, match="is a MyUNet"):
        loaded(str(other), SourceOptions())
    (other / "model_index.json").write_text(json.dumps({"_class_name": "MyPipeline"}))
    with pytest.raises(CommandError, match="is a MyPipeline"):
        loaded(str(other), SourceOptions())
    (other / "model_index.json").unlink()
    (other / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(CommandError, match="name the pipeline's folder"):
        loaded(str(other), SourceOptions())


def test_options_for_training_apply_or_are_refused(
    folder: Path, diffusers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, message in (
        ({"schedule": "scaled_linear"}, "no usual betas"),
        ({"schedule": "squaredcos_cap_v2", "beta_end": 0.1}, "has no betas"),
    ):
        with pytest.raises(CommandError, match=message):
            loaded(str(folder), SourceOptions(prediction="epsilon", **options))
    betas = SourceOptions(prediction="epsilon", schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    subject = loaded(str(folder), betas)
    expected = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    assert torch.equal(subject.loss.path.alphas_cumprod, expected.double())  # type: ignore[attr-defined]
    assert subject.applied == {"prediction", "schedule", "beta_start", "beta_end"}
    with_own = tmp_path / "own"
    shutil.copytree(folder, with_own)
    diffusers.DDPMScheduler(prediction_type="sample").save_pretrained(with_own)
    for option in (["--prediction", "epsilon"], ["--train-steps", "50"], ["--beta-end", ".1"]):
        assert run(["measure", str(with_own), "--data", "x", *option]) == 2
        assert f"{option[0]} is for networks without a scheduler" in capsys.readouterr().err


@pytest.mark.parametrize("size", [8.5, "8", [8], [8, 0], True])
def test_a_size_that_is_none_is_named(size: object, folder: Path, tmp_path: Path) -> None:
    configuration = json.loads((folder / "config.json").read_text())
    shutil.copytree(folder, tmp_path / "odd")
    (tmp_path / "odd" / "config.json").write_text(json.dumps(configuration | {"sample_size": size}))
    with pytest.raises(CommandError, match=r"sample_size is .*; allowed: a whole number, or two"):
        loaded(str(tmp_path / "odd"), SourceOptions(prediction="epsilon", schedule="linear"))
