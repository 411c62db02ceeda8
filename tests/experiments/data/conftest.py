"""No data root from outside, and the real Fashion-MNIST where it is installed."""

import os
from pathlib import Path

import pytest

from experiments.data import fashion_mnist

DEBIAN = fashion_mnist.DEBIAN  # tests look elsewhere by changing the module's


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLATNESS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def real_fashion_mnist() -> Path:
    """The folder of Debian's package. Skipped where it is not installed; in CI that is a failure."""
    if not all((DEBIAN / name).is_file() for name in fashion_mnist.FILES):
        reason = f"the real images are not in {DEBIAN}: install Debian's package dataset-fashion-mnist"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return DEBIAN
