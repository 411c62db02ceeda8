"""Inception's features, in which the Frechet distance is the FID (Heusel et al., 2017); an optional extra.

The network is torch-fidelity's conversion of the TensorFlow graph of 2015, run through torchmetrics with TensorFlow 1's
way of resizing (`antialias=False`), as in the published numbers; torchmetrics' own default resizes otherwise and gives
other values. Needed beside torchmetrics: torch-fidelity, which imports torchvision, which must be built for the
installed torch; and the weights, about 91 MiB, from torch-fidelity's releases.
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from experiments.data.fetching import FetchError, fetch, sha256_of
from findings.names import FID_FEATURES
from flatness import arguments

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WIDTH = 2048


class InceptionError(RuntimeError):
    """The features cannot be had: a package or the weights are missing. Says what to install and where to get it."""


class InceptionFeatures:
    """The 2048 features of Inception's last pooling layer; fulfils `Features`.

    Attributes:
        name: names the network and the way of resizing.
        width: 2048.
        identity: SHA-256 of the weights.
        network: in evaluation mode, without gradients.
    """

    name = FID_FEATURES
    width = WIDTH

    def __init__(
        self,
        weights: Path | None = None,
        device: torch.device | str = "cpu",
        batch: int = 64,
        *,
        download: bool = False,
    ) -> None:
        """Load the network.

        Args:
            weights: the file of weights; in torch's hub folder by default.
            device: where to compute.
            batch: most images in one pass.
            download: fetch the weights where the file is missing.

        Raises:
            InceptionError: a package or the weights are missing.
            ValueError: the file of weights has another digest, or an argument is not as above.
        """
        self._batch = arguments.count("batch", batch, at_least=1)
        self._device = torch.device(device)
        self.identity = SHA256
        network_class = _network_class()
        self.network = _load(network_class, weights_file(weights, download=download)).to(self._device)

    def __call__(self, images: UInt8[Tensor, "N C H W"]) -> Float[Tensor, "N 2048"]:
        """Features of images of one (grey, repeated) or three channels and any size, float32, on the CPU.

        Raises:
            ValueError: images of another type or number of channels.
        """
        fits = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.dim() == 4
        if not fits or images.shape[1] not in (1, 3):
            raise arguments.refuse("images", images, "a uint8 tensor of shape (N, 1 or 3, H, W)")
        with torch.no_grad():
            parts = [
                self.network(part.to(self._device).expand(-1, 3, -1, -1)).cpu() for part in images.split(self._batch)
            ]
        return torch.cat(parts) if parts else torch.empty(0, WIDTH)


def default_weights() -> Path:
    """Where the weights are looked for, and downloaded to: where torch-fidelity itself would put them."""
    return Path(torch.hub.get_dir()) / "checkpoints" / URL.rsplit("/", 1)[1]


def weights_file(path: Path | None = None, *, download: bool = False) -> Path:
    """The file of weights, its digest checked.

    Raises:
        InceptionError: it is missing, and was not to be downloaded or could not be.
        ValueError: it has another digest.
    """
    file = Path(path) if path is not None else default_weights()
    if not file.exists() and download:
        try:
            fetch(URL, file, sha256=SHA256)
        except FetchError as error:
            raise InceptionError(f"{error}; or download it elsewhere and give its path") from error
    if not file.exists():
        raise InceptionError(
            f"Inception's weights are not at {file}. Download them from {URL} (SHA-256 {SHA256}) and give their path, "
            "or allow the download (--inception-download). Without them there is the Frechet distance in classifier "
            "features."
        )
    digest = sha256_of(file)
    if digest != SHA256:
        raise ValueError(f"{file} has SHA-256 {digest}; allowed: {SHA256}, the file at {URL}")
    return file


def _network_class() -> type[nn.Module]:
    """torchmetrics' Inception, imported only here: none of its imports is needed for anything else."""
    try:
        import_module("torch_fidelity")
        return import_module("torchmetrics.image.fid").NoTrainInceptionV3
    except ModuleNotFoundError as error:
        raise InceptionError(
            f"FID needs the package {error.name}: pip install torchmetrics torch-fidelity, holding torch at "
            f"{torch.__version__} by a constraint, since torch-fidelity's requirements would change it"
        ) from error
    except (ImportError, RuntimeError) as error:  # torchvision built for another torch fails in either way
        raise InceptionError(
            f"FID needs a torchvision built for torch {torch.__version__}, and importing it fails ({error}): install "
            "both from the same index, e.g. https://download.pytorch.org/whl/cpu"
        ) from error


def _load(network_class: type[nn.Module], path: Path) -> nn.Module:
    """The network with the weights of a file.

    torch-fidelity unpickles whatever file it is given. So the weights are read here without unpickling, and it is
    given a copy of what was read.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "weights.pth"
        torch.save(state, copy)
        return network_class("inception-v3-compat", [str(WIDTH)], str(copy), antialias=False)
