"""TF32's two switches: off within, as before after; and what runs within."""

from collections.abc import Iterator

import pytest
import torch

from flatness.passes import tf32, whole_float32


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    """Both on at first, and as they were at the end."""
    before = tf32()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before["matmul"], before["cudnn"]


def test_both_are_off_within_and_back_after_an_error() -> None:
    def fail() -> None:
        with whole_float32():
            assert tf32() == {"matmul": False, "cudnn": False}
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert tf32() == {"matmul": True, "cudnn": True}


def test_either_alone_comes_back() -> None:
    torch.backends.cudnn.allow_tf32 = False
    with whole_float32():
        assert not any(tf32().values())
    assert tf32() == {"matmul": True, "cudnn": False}
