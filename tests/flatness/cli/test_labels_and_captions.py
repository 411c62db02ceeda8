"""What belongs to samples: classes from folders, metadata, dataset.json and arrays; captions; what is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flatness.cli.data import Data, found_data
from flatness.cli.errors import CommandError
from flatness.cli.families.contract import Classes
from flatness.cli.options import DataOptions
from flatness.images import PIXEL_LIMIT

LEVELS = {f"{n}": 20 * n for n in range(6)}


def image(path: Path, level: int) -> None:
    """A flat grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 2), level, np.uint8)).save(path)


def data_of(path: Path, count: int | None = 10, names: dict[str, int] | None = None, **options: Any) -> Data:
    """Data for a network of so many classes."""
    return found_data(DataOptions(data=str(path), **options), (1, 2, 2), Classes(count, names or {}))


def labels_by_level(data: Data) -> dict[int, int]:
    """The label of each image, by its level, which no order can confuse."""
    x, labels = data.chosen(data.available, 3)
    assert labels is not None
    levels = ((x[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()
    return dict(zip(levels, labels.tolist(), strict=True))


def test_folders_named_by_number_keep_their_numbers(tmp_path: Path) -> None:
    """Alphabetically 10 would come before 2."""
    for name, level in {"0": 5, "2": 10, "10": 15}.items():
        image(tmp_path / name / "a.png", level)
    data = data_of(tmp_path, 11)
    assert labels_by_level(data) == {5: 0, 10: 2, 15: 10}
    assert "classes from folders: 0 is 0, 10 is 10, 2 is 2" in data.remarks()


def test_folders_named_by_class_are_numbered_only_where_that_is_sure(tmp_path: Path) -> None:
    for name, level in {"cat": 5, "dog": 10, "bird": 15}.items():
        image(tmp_path / name / "a.png", level)
    assert labels_by_level(data_of(tmp_path, 3)) == {15: 0, 5: 1, 10: 2}
    assert labels_by_level(data_of(tmp_path, 1000, {"cat": 281, "dog": 7, "bird": 0})) == {5: 281, 10: 7, 15: 0}
    with pytest.raises(CommandError, match=r"3 names, 'bird' among them, for 1000 classes.*cannot be told"):
        data_of(tmp_path, 1000)
    # of a network without labels folders are folders
    plain = found_data(DataOptions(data=str(tmp_path)), (1, 2, 2))
    assert plain.chosen(3, 0)[1] is None


def test_folders_of_numbers_and_names_and_folders_of_splits_are_no_classes(tmp_path: Path) -> None:
    for name in ("1", "cat"):
        image(tmp_path / "mixed" / name / "a.png", 5)
    with pytest.raises(CommandError, match="folders are numbers and names, '1' and 'cat'; allowed: all of one kind"):
        data_of(tmp_path / "mixed", 2)
    assert labels_by_level(data_of(tmp_path / "mixed", 2, {"1": 1, "cat": 0}))
    for name in ("train/0", "train/1"):
        image(tmp_path / "splits" / name / "a.png", 5)
    with pytest.raises(CommandError, match="holds the split train, and no classes: give the folder of one split"):
        data_of(tmp_path / "splits", 2)
    image(tmp_path / "splits" / "Val/0/a.png", 5)
    with pytest.raises(CommandError, match="holds the split Val, train, and no classes"):
        data_of(tmp_path / "splits", 2)
    assert set(labels_by_level(data_of(tmp_path / "splits" / "train", 2)).values()) <= {0, 1}
    for name in ("\u00b9", "\u00b2"):  # digits to Unicode, and no numbers to Python
        image(tmp_path / "raised" / name / "a.png", 5)
    with pytest.raises(CommandError, match="2 names"):
        data_of(tmp_path / "raised", 3)


@pytest.mark.parametrize("form", [str, int, float, lambda n: [int(k == n) for k in range(12)]])
@pytest.mark.parametrize("csv", [False, True])
def test_labels_of_metadata_are_numbers_in_every_form(form: Any, csv: bool, tmp_path: Path) -> None:
    """Of twelve, as alphabetically 10 comes before 2, and the last one-hot list before the first."""
    rows = [(f"{n}.png", form(n)) for n in range(12)]
    for n, (name, _) in enumerate(rows):
        image(tmp_path / name, 10 * n)
    if csv:
        text = "file_name,label\n" + "".join(f'{name},"{label}"\n' for name, label in rows)
    else:
        text = "".join(json.dumps({"file_name": name, "label": label}) + "\n" for name, label in rows)
    (tmp_path / ("metadata.csv" if csv else "metadata.jsonl")).write_text(text)
    assert labels_by_level(data_of(tmp_path, 12)) == {10 * n: n for n in range(12)}


@pytest.mark.parametrize("label", [True, 1.5, [1, 1], [0.5, 0.5], {"a": 1}])
def test_labels_of_metadata_that_are_no_class_are_refused(label: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / f"{name}.png", 5)
    rows = [{"file_name": f"{name}.png", "label": label} for name in ("a", "b")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CommandError, match="holds the label"):
        data_of(tmp_path, 2)


def test_metadata_gives_labels_and_captions(tmp_path: Path) -> None:
    for name, level in {"a.png": 5, "b.png": 10}.items():
        image(tmp_path / name, level)
    rows = [{"file_name": "b.png", "text": "bee", "label": 4}, {"file_name": "a.png", "text": "ay", "label": 0}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    data = data_of(tmp_path)
    assert labels_by_level(data) == {5: 0, 10: 4}
    captions = data.captions(2, 1)
    assert captions is not None
    assert [captions[data.indices(2, 1).index(place)] for place in (0, 1)] == ["ay", "bee"]
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_text('file_name,caption,class\na.png,"one, two",3\nb.png,three,1\n')
    again = data_of(tmp_path)
    assert labels_by_level(again) == {5: 3, 10: 1}
    assert set(again.captions(2, 0) or []) == {"one, two", "three"}
    assert data_of(tmp_path, caption="all").captions(2, 0) == ["all", "all"]


def test_captions_beside_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / f"{name}.png", 9)
        (tmp_path / f"{name}.txt").write_text(f" {name} caption\n")
    data = data_of(tmp_path, None)
    assert set(data.captions(2, 0) or []) == {"a caption", "b caption"}
    assert data.remarks() == []
    (tmp_path / "b.txt").unlink()
    with pytest.raises(CommandError, match=r"b.png has no caption"):
        data_of(tmp_path, None).captions(2, 0)
    (tmp_path / "a.txt").unlink()
    assert data_of(tmp_path, None).captions(2, 0) is None


@pytest.mark.parametrize("one_hot", [False, True])
def test_edms_zip(one_hot: bool, tmp_path: Path) -> None:
    import io

    labels: list[list[Any]] = []
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for n in range(4):
            stream = io.BytesIO()
            Image.fromarray(np.full((2, 2), 10 * n, np.uint8)).save(stream, format="PNG")
            archive.writestr(f"0000{n % 2}/img{n}.png", stream.getvalue())
            labels.append([f"0000{n % 2}/img{n}.png", [int(k == n) for k in range(4)] if one_hot else n])
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
        archive.writestr("__MACOSX/x.png", b"x")
    data = data_of(tmp_path / "d.zip")
    assert data.available == 4
    assert labels_by_level(data) == {0: 0, 10: 1, 20: 2, 30: 3}
    assert "passed over: 1 hidden" in data.remarks()


def test_labels_of_arrays(tmp_path: Path) -> None:
    x = np.zeros((4, 1, 2, 2), np.float32)
    whole = np.array([3, 1, 0, 2])
    forms = {
        "whole": whole, "column": whole[:, None], "one-hot": np.eye(5)[whole], "bits": np.eye(5, dtype=bool)[whole],
        "floats": whole.astype(np.float64), "big": whole.astype(">i4"), "unsigned": whole.astype(np.uint64),
    }  # fmt: skip
    for name, labels in forms.items():
        np.savez(tmp_path / f"{name}.npz", x=x, labels=labels)
        every = data_of(tmp_path / f"{name}.npz").every_label()
        assert every is not None
        assert every.tolist() == whole.tolist(), name
    conditioning = np.random.default_rng(0).normal(size=(4, 3))
    np.savez(tmp_path / "c.npz", x=x, labels=conditioning)
    every = found_data(DataOptions(data=str(tmp_path / "c.npz")), None).every_label()
    assert every is not None
    assert torch.allclose(every, torch.from_numpy(conditioning).float())
    with pytest.raises(CommandError, match="table of 10 classes"):
        data_of(tmp_path / "c.npz")
    refused = {
        "text": np.array(list("abcd")),
        "few": whole[:3],
        "nan": np.full(4, np.nan),
        "counts": np.ones((4, 3), int),
    }
    for name, labels in refused.items():
        np.savez(tmp_path / f"{name}.npz", x=x, labels=labels)
        with pytest.raises(CommandError, match="holds labels of shape"):
            data_of(tmp_path / f"{name}.npz")


def test_labels_outside_of_the_table_are_named() -> None:
    Classes(4).check(torch.tensor([0, 3]), "net", "data")
    Classes(None).check(torch.tensor([99]), "net", "data")
    Classes(4).check(torch.randn(3, 2), "net", "data")
    for bad in (4, -1):
        with pytest.raises(CommandError, match=rf"data has the label {bad}; net knows 4 classes, labels 0 to 3"):
            Classes(4).check(torch.tensor([0, bad]), "net", "data")
    with pytest.raises(CommandError, match="net is class-conditional, and data has no labels"):
        Classes(4).check(None, "net", "data")


def test_files_that_belong_to_images_and_are_broken_are_told(tmp_path: Path) -> None:
    cases = {
        "metadata.jsonl": ('{"file_name": "z.png"}', "line 1: file_name is 'z.png', which is no image here"),
        "metadata.csv": ("name\na.png\n", "has no column file_name"),
        "dataset.json": ('{"labels": 3}', "is not as EDM writes it"),
    }
    for name, (content, message) in cases.items():
        folder = tmp_path / name
        for letter in "ab":
            image(folder / f"{letter}.png", 9)
        (folder / name).write_text(content)
        with pytest.raises(CommandError, match=message):
            data_of(folder).chosen(2, 0)
    (tmp_path / "metadata.jsonl" / "metadata.jsonl").write_text("{broken")
    with pytest.raises(CommandError, match="line 1, is not JSON"):
        data_of(tmp_path / "metadata.jsonl")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CommandError, match="is no whole zip file"):
        data_of(tmp_path / "cut.zip")


def test_options_apply_or_are_refused(tmp_path: Path) -> None:
    for letter in "ab":
        image(tmp_path / "x" / f"{letter}.png", 9)
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 1, 2, 2)))
    np.savez(tmp_path / "grey.npz", x=np.zeros((4, 2, 2)))
    cases: list[tuple[str, dict[str, Any], str]] = [
        *(("x", {"layout": layout}, "--layout is for arrays") for layout in ("nhwc", "auto")),
        *(("grey.npz", {"layout": layout}, r"--layout is for arrays \(N, C, H, W\)") for layout in ("nhwc", "auto")),
        *(("x.npz", {"pixel_limit": n}, "--pixel-limit is for folders") for n in (9, PIXEL_LIMIT)),
        ("x", {"latents": "raw"}, "--latents is for arrays"), ("x.npz", {"resize": 2}, "--resize is for folders"),
        ("x.npz", {"latents": "raw"}, "no latents of the network"), ("x", {"pixel_limit": 3}, "more than the limit"),
    ]  # fmt: skip
    for path, options, message in cases:
        with pytest.raises(CommandError, match=message):
            data_of(tmp_path / path, None, **options).chosen(2, 0)


def test_arrays_of_every_byte_order_and_width(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 16).reshape(4, 1, 2, 2)
    for kind in ("<f4", ">f4", ">f8", "f2", np.longdouble):
        np.savez_compressed(tmp_path / "x.npz", x=values.astype(kind))
        x, _ = data_of(tmp_path / "x.npz", None).chosen(4, 0)
        order = np.argsort(data_of(tmp_path / "x.npz", None).indices(4, 0))
        assert torch.allclose(x[order], torch.from_numpy(values).float(), atol=1e-3)  # half precision keeps 3 digits
    np.save(tmp_path / "x.npy", np.asfortranarray(values))
    x, _ = data_of(tmp_path / "x.npy", None).chosen(4, 0)
    assert torch.allclose(
        x[np.argsort(data_of(tmp_path / "x.npy", None).indices(4, 0))], torch.from_numpy(values).float()
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_arrays_are_told_in_a_line_wherever_they_are_damaged(compressed: bool, tmp_path: Path) -> None:
    """A bit flipped anywhere is refused, or, where nothing is read there, does not change what is read."""
    values = np.random.default_rng(0).integers(0, 9, (16, 1, 4, 4), dtype=np.uint8)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "w.npz", images=values)
    whole = (tmp_path / "w.npz").read_bytes()
    readable, lines = 0, []
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        (tmp_path / "d.npz").write_bytes(bytes(damaged))
        try:
            data = found_data(DataOptions(data=str(tmp_path / "d.npz")), (1, 4, 4))
        except CommandError as error:
            lines.append(str(error))
            continue
        x, _ = data.chosen(16, 0)
        assert torch.equal(x, torch.from_numpy(values[data.indices(16, 0)] / np.float32(127.5) - 1)), place
        readable += 1
    assert not any("\n" in line for line in lines)
    assert readable < len(whole) / 14  # most of the file is data, of which every byte counts
