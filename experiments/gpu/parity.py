"""Section 1: whether the card computes what the CPU computes, in float32 without TF32.

Each quantity is computed three times: on the CPU in float64, whose rounding does not count here, on the CPU in float32,
and on the card in float32. The card may be off the first by FACTOR times what the CPU's float32 is off, or by FLOOR.
FACTOR: sums are taken in another order, and cuDNN's transformed convolutions (Winograd's for 3 x 3) lose up to a
decimal digit more than direct sums. TF32, which keeps 11 bits of 24, is off by some 1,000 times as much, and is seen.

Noise is drawn on the CPU and handed to both, as generators give other numbers on another kind of device; the low-pass
filter is compared with the card's own noise too, within its standard errors. Rounded weights are compared bit for bit.
A resumed run is held against one that was not interrupted, and that against itself: atomics in cuDNN's backward passes
may add in another order each time, which nothing can undo; where two runs agree bit for bit, the resumed one must.
"""

from __future__ import annotations

import copy
import functools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import flatness
from experiments.adm import ADM, golden
from experiments.configuration import RunOptions
from experiments.diffusion import Process, ProcessOptions, trajectory
from experiments.gpu.options import GPUOptions
from experiments.gpu.record import Record
from experiments.gpu.small import configured, made_images
from experiments.sampling.chains import ImageNoise
from experiments.training.checkpoints import checkpoint_folder
from experiments.training.distributed import Ranks
from experiments.training.trainer import train
from flatness.measuring.low_pass_filter import LowPassFilter
from flatness.measuring.quantization import quantized
from flatness.passes import whole_float32
from flatness.weights import SavedWeights, derived_seed

FACTOR = 16.0
FLOOR = 2e-6
"""Of the largest value: some thirty float32 roundings, for quantities that the CPU happens to compute exactly."""
SIGMA = 0.01
BITS = 4
RHO = 0.05
RATE = 0.05
"""Of plain descent: Adam divides by the gradient's size, and moves weights whose gradient is rounding alone."""
DEVIATIONS = 5.0
"""Standard errors that two independent estimates of the low-pass filter may be apart: 1 in 1.7 million is beyond."""
SCATTER = 10.0
"""A resumed run may be as many times as far from an uninterrupted one as two of those are apart."""
Place = tuple[torch.device, torch.dtype]


def run(options: GPUOptions, device: torch.device, record: Record) -> None:
    """All comparisons."""
    cases = ("classes",) if options.tiny else tuple(golden.CASES)
    with whole_float32():
        record.part("golden tiny", lambda: tiny_golden(device))
        for case in cases:
            record.part(f"golden {case}", functools.partial(golden_case, case, device))
        subject = Subject(options.tiny)
        named: dict[str, Callable[[Place], Tensor]] = {
            "loss and gradient": subject.gradient,
            "SAM, three steps": subject.sam,
            "low-pass filter, the same noise": subject.low_pass,
            "loss of rounded weights": subject.rounded_loss,
            "ancestral samples": functools.partial(subject.samples, None),
            "DDIM samples": functools.partial(subject.samples, 0.0),
        }
        for name, quantity in named.items():
            record.part(name, functools.partial(three_ways, quantity, device))
        record.part("low-pass filter, own noise", lambda: own_noise(subject, device))
        record.part("rounded weights", lambda: rounded_weights(subject, device))
        record.part("resumed run", lambda: resumed(options.tiny, device))


def three_ways(quantity: Callable[[Place], Tensor], device: torch.device) -> dict[str, Any]:
    """The quantity on the CPU in float64 and float32, and on the device."""
    cpu = torch.device("cpu")
    exact, ours, theirs = (
        quantity(place).detach().cpu().double()
        for place in ((cpu, torch.float64), (cpu, torch.float32), (device, torch.float32))
    )
    return held(theirs, ours, exact)


def held(on_device: Tensor, on_cpu: Tensor, exact: Tensor) -> dict[str, Any]:
    """The largest errors, of the largest exact value, and whether the device's is allowed.

    Raises:
        FloatingPointError: a number is not finite.
    """
    for name, values in (("the device", on_device), ("the CPU", on_cpu), ("float64", exact)):
        if not bool(values.isfinite().all()):
            raise FloatingPointError(f"{name} gave a number that is not finite")
    scale = float(exact.abs().max())
    error, of_cpu = (float((values.double() - exact).abs().max()) / scale for values in (on_device, on_cpu))
    allowed = max(FACTOR * of_cpu, FLOOR)
    return {"error": error, "error_on_cpu": of_cpu, "allowed": allowed, "passed": error <= allowed}


class Subject:
    """A small network with the golden figures' weights, images, timesteps and noise: the same wherever it is put.

    Args:
        tiny: smaller, for a rehearsal.
    """

    def __init__(self, tiny: bool) -> None:
        """Make everything on the CPU in float32."""
        options = golden.small("one_channel") if tiny else golden.PUBLISHED["tiny"]
        self.network: nn.Module = ADM(options).eval()
        golden.fill(self.network)
        self.process = Process(ProcessOptions())
        self.steps, self.draws, self.images = (3, 2, 2) if tiny else (20, 8, 8)
        self.shape = (options.channels, options.image_size, options.image_size)
        generator = torch.Generator().manual_seed(0)
        self.x_0 = torch.rand((self.images, *self.shape), generator=generator) * 2 - 1
        self.noise = torch.randn(self.x_0.shape, generator=generator)
        self.t = torch.randint(0, 1000, (self.images,), generator=generator)

    def at(self, place: Place) -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
        """A copy of the network, and the batch (x_0, noise, t)."""
        device, dtype = place
        network = copy.deepcopy(self.network).to(device=device, dtype=dtype)
        return network, (self.x_0.to(device, dtype), self.noise.to(device, dtype), self.t.to(device))

    def losses(self, network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The hybrid training loss of each image."""
        x_0, noise, t = batch
        x_t = self.process.q_sample(x_0, t, noise)
        return self.process.losses(network(x_t, self.process.network_timesteps(t)), x_0, x_t, t, noise).loss

    def gradient(self, place: Place) -> Tensor:
        """The loss and its gradient, all in one row."""
        network, batch = self.at(place)
        loss = self.losses(network, batch).mean()
        loss.backward()
        return torch.cat([loss.detach()[None], *(p.grad.flatten() for p in network.parameters() if p.grad is not None)])

    def sam(self, place: Place) -> Tensor:
        """By how much three steps of SAM with plain descent move the weights."""
        network, batch = self.at(place)
        before = [p.detach().clone() for p in network.parameters()]
        optimizer = flatness.SAM(torch.optim.SGD(network.parameters(), lr=RATE), rho=RHO, model=network)
        for _ in range(3):
            optimizer.zero_grad()
            self.losses(network, batch).mean().backward()
            with optimizer.perturbed():
                self.losses(network, batch).mean().backward()
            optimizer.step()
        return torch.cat([(p.detach() - b).flatten() for p, b in zip(network.parameters(), before, strict=True)])

    @torch.no_grad()
    def low_pass(self, place: Place) -> Tensor:
        """The losses at weights moved by noise that the CPU drew in float32, draw by draw."""
        network, batch = self.at(place)
        weights = dict(network.named_parameters())
        rises = []
        with SavedWeights(weights).put_back_after() as saved:
            for draw in range(self.draws):
                generator = torch.Generator().manual_seed(derived_seed("parity", draw))
                noise = [torch.randn(p.shape, generator=generator).to(p.device, p.dtype) for p in weights.values()]
                saved.move(noise, SIGMA)
                rises.append(self.losses(network, batch))
        return torch.cat(rises)

    @torch.no_grad()
    def rounded_loss(self, place: Place) -> Tensor:
        """The losses with weights of few bits, which are the CPU's in float32 in all three cases."""
        network, batch = self.at(place)
        with quantized(self.network, BITS):
            rounded = [p.detach().clone() for p in self.network.parameters()]
        for parameter, value in zip(network.parameters(), rounded, strict=True):
            parameter.copy_(value)
        return self.losses(network, batch)

    def samples(self, eta: float | None, place: Place) -> Tensor:
        """Images by a few steps; ancestral where eta is None."""
        network, _ = self.at(place)
        noise = ImageNoise(0, torch.arange(self.images), self.shape, place[0])
        start = noise.start().to(place[1])
        for state in trajectory(network, self.process.respaced(self.steps), start, noise, eta=eta):
            images = state.x
        return images

    def filtered(self, place: Place, seed: int) -> LowPassFilter:
        """The low-pass filter with the device's own noise."""
        network, batch = self.at(place)
        draws = 2 * self.draws
        return flatness.low_pass_filter(
            network,
            lambda model, b: self.losses(model, b),
            [batch],
            sigma=SIGMA,
            draws=draws,
            seed=seed,
            progress=False,
        )


def tiny_golden(device: torch.device) -> dict[str, Any]:
    """The published configuration's small sister, against the public implementation's figures."""
    return _golden(golden.PUBLISHED["tiny"], golden.arrays("tiny_forward")["y"], device)


def golden_case(case: str, device: torch.device) -> dict[str, Any]:
    """One switch of the network likewise."""
    return _golden(golden.small(case), golden.arrays("switches")[case], device)


@torch.no_grad()
def _golden(options: Any, figures: Any, device: torch.device) -> dict[str, Any]:
    """The figures are the reference's on a CPU, in float32: they take the place of the CPU's."""
    network = ADM(options).eval()
    golden.fill(network)
    x, _ = golden.inputs(options.channels, options.image_size)
    t = torch.tensor(golden.TIMESTEPS)
    y = torch.tensor(golden.CLASSES) if options.num_classes else None
    exact = copy.deepcopy(network).double()(x.double(), t, y)
    network.to(device)
    output = network(x.to(device), t.to(device), None if y is None else y.to(device)).cpu()
    return held(output, torch.from_numpy(figures), exact)


def own_noise(subject: Subject, device: torch.device) -> dict[str, Any]:
    """Two estimates of the filter's rise from independent noise: the device's, and the CPU's with another seed."""
    ours = subject.filtered((torch.device("cpu"), torch.float32), seed=1).rise
    theirs = subject.filtered((device, torch.float32), seed=2).rise
    # The images are the same, so that what scatters is the noise
    errors = [estimate.draw_standard_error for estimate in (ours, theirs)]
    apart = abs(ours.value - theirs.value) / math.hypot(*errors)
    return {
        "rise": theirs.value, "rise_on_cpu": ours.value, "standard_errors_apart": apart, "allowed": DEVIATIONS,
        "passed": apart <= DEVIATIONS,
    }  # fmt: skip


def rounded_weights(subject: Subject, device: torch.device) -> dict[str, Any]:
    """How many weights the device rounds to another level: each operation is one correctly rounded step, so none."""
    tensors = []
    for place in (torch.device("cpu"), device):
        network, _ = subject.at((place, torch.float32))
        with quantized(network, BITS):
            tensors.append([p.detach().cpu().clone() for p in network.parameters()])
    different = sum(int((a != b).sum()) for a, b in zip(*tensors, strict=True))
    return {
        "bits": BITS, "weights": sum(p.numel() for p in tensors[0]), "different": different, "passed": different == 0,
    }  # fmt: skip


def resumed(tiny: bool, device: torch.device) -> dict[str, Any]:
    """A run of SAM stopped half way and resumed, and two that were not."""
    c = configured(tiny, method="sam", timestep_weights="second-moment")
    images, ranks, half = made_images(c, 40 if tiny else 512), Ranks(device=device), c.steps // 2
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, list[int | None]] = {"first": [None], "second": [None], "resumed": [half, None]}
        weights = {}
        for name, ends in runs.items():
            for until in ends:
                train(
                    c, RunOptions(out=Path(folder) / name, until=until, checkpoint_every=c.steps), images, ranks=ranks
                )
            weights[name] = load_file(checkpoint_folder(Path(folder) / name, c.steps) / "weights.safetensors")
    scatter = _apart(weights["first"], weights["second"])
    apart = _apart(weights["first"], weights["resumed"])
    allowed = SCATTER * scatter
    return {"apart": apart, "two_whole_runs_apart": scatter, "allowed": allowed, "passed": apart <= allowed}


def _apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)
