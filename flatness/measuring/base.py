"""What all measures share: losses at fixed data and random numbers, and what a measure returns.

A loss is a callable `loss(model, batch)` that returns the losses of the batch's samples, of shape (n,), or one number,
which then counts as one sample (so batches of unequal size weigh the same; return one loss per sample where that is not
meant). A model's loss is the mean over all samples of all batches. Random numbers that the loss draws (timesteps,
noise, dropout) from torch's, numpy's and Python's global generators are a function of (seed, index of the batch): the
same at every setting of the weights and for every model, so that differences are paired sample by sample. A loss that
keeps a generator of its own must seed it itself.

Batches are what the loss takes, in a list or from anything that yields them: [(x, y)] is one batch of two tensors. A
bare (x, y) is refused, as is the tuple that `Tensor.split` returns: list(...) of that is a list of batches.
"""

from __future__ import annotations

import dataclasses
import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.modules import SavedBuffers, Selection, selected_parameters
from flatness.weights import SavedWeights, derived_seed

Loss = Callable[[nn.Module, Any], Tensor]
UNMOVED = "the unperturbed weights"
MOST_PARTS = 50
"""Of a loader, in which generators are looked for."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean and its two standard errors.

    Attributes:
        value: the mean over random draws of the weights and over samples.
        draw_standard_error: over the draws, the samples and their random numbers held fixed: what counts when models
            are compared on the same data. 0 where nothing was drawn, NaN where one draw was.
        data_standard_error: over the samples, each one's mean over the draws: how far the value may be from its mean
            over all data. NaN where there is one sample only. It holds a share of the draws' scatter too, so adding
            both in quadrature errs on the large side.
    """

    value: float
    draw_standard_error: float
    data_standard_error: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What every measure of a loss returns.

    Attributes:
        loss: the loss at the unperturbed weights.
        settings: all that the measure was computed with.
    """

    loss: Estimate
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON knows them; a number that is not finite becomes None."""
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def stored(measured: Any) -> dict[str, Any]:
    """A measure's result as JSON knows it, for a document of many: a list of all weights' names is left out."""
    entry: dict[str, Any] = measured.to_dict()
    if len(entry["settings"].get("parameters", ())) > 2:
        entry["settings"]["parameters"] = "all"
    return entry


def plain(value: Any) -> Any:
    """The value in dictionaries, lists, strings, finite numbers, booleans and None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of independent values (n,); NaN for one value."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


class PairedRises:
    """Losses at moved weights, set against those of the same samples at the unmoved ones, without keeping them all."""

    def __init__(self, unmoved: Tensor) -> None:
        """Begin with the losses (N,) at the unmoved weights."""
        self.unmoved = unmoved
        self.sums = torch.zeros_like(unmoved)
        self.means: list[float] = []

    def add(self, losses: Tensor) -> None:
        """Take in the losses (N,) of one draw."""
        rises = losses - self.unmoved
        self.sums += rises
        self.means.append(float(rises.mean()))

    def rise(self, drawn: bool = True) -> Estimate:
        """The mean rise; drawn says whether what was taken in was random."""
        means = torch.tensor(self.means, dtype=torch.float64)
        over_draws = standard_error(means) if drawn else 0.0
        return Estimate(float(means.mean()), over_draws, standard_error(self.sums / len(means)))

    def unmoved_loss(self) -> Estimate:
        """The loss at the unmoved weights."""
        return Estimate(float(self.unmoved.mean()), 0.0, standard_error(self.unmoved))

    def level(self, drawn: bool = True) -> Estimate:
        """The mean loss at the moved weights."""
        rise = self.rise(drawn)
        over_data = standard_error(self.unmoved + self.sums / len(self.means))
        return Estimate(float(self.unmoved.mean()) + rise.value, rise.draw_standard_error, over_data)


class Losses:
    """The losses of a model on fixed batches with fixed random numbers, at whatever its weights are when called.

    Seeds the global generators; `undisturbed` puts them back.
    """

    def __init__(self, loss: Loss, model: nn.Module, batches: Iterable[Any], seed: int) -> None:
        """Check the arguments; ValueError where one is not as the module's docstring says."""
        self.loss = arguments.function("loss", loss)
        self.model = arguments.module("model", model)
        self.batches = fixed_batches(batches)
        self.seed = arguments.count("seed", seed)
        self.devices = devices_of(model)
        self.samples: int | None = None
        self.buffers: SavedBuffers | None = None

    def of_batch(self, index: int) -> Tensor:
        """The losses (n,) of one batch, on its device, ready for autograd.

        Raises:
            ValueError: the loss returned anything but real numbers, one per sample or one alone.
        """
        seed_generators(derived_seed("loss", self.seed, index), self.devices)
        values = self.loss(self.model, self.batches[index])
        if not arguments.has_reals(values) or values.dim() > 1 or values.numel() == 0:
            allowed = "a floating-point tensor of shape (n,), one loss per sample, or ()"
            raise arguments.refuse(f"what loss returned for batch {index}", values, allowed)
        return values.reshape(-1).clone()  # a compiled loss may write the next where this lies

    def put_back_buffers(self) -> None:
        """Undo what a pass has left in the buffers, so that it does not reach the next one."""
        if self.buffers is not None:
            self.buffers.put_back()

    @torch.no_grad()
    def __call__(self, place: str = UNMOVED) -> Tensor:
        """The losses (N,) of all samples, in float64 on the CPU.

        Args:
            place: what the weights are now, for error messages.

        Raises:
            ValueError: a loss is not finite, or there are more or fewer than at the first call.
        """
        losses = [self.of_batch(index) for index in range(len(self.batches))]
        self.put_back_buffers()
        return self.together(losses, place)

    def together(self, losses: Sequence[Tensor], place: str = UNMOVED) -> Tensor:
        """The losses (N,) of the batches' (n,), checked as `__call__` says."""
        values = torch.cat([value.detach().cpu().double() for value in losses])
        if self.samples is None:
            self.samples = len(values)
        if len(values) != self.samples:
            raise ValueError(f"loss returned {len(values)} values at {place}; allowed: {self.samples}, as before")
        if not bool(values.isfinite().all()):
            index = int((~values.isfinite()).nonzero()[0])
            raise ValueError(f"loss is {float(values[index])} for sample {index} at {place}; allowed: finite losses")
        return values


def fixed_batches(batches: Iterable[Any]) -> Sequence[Any]:
    """The batches as a sequence: a list or tuple as it is, anything else read once into a list.

    Raises:
        ValueError: no batch, or what is one batch in place of batches: a tensor, mapping or string; a tuple of a tensor
            and more, a `Batch` too; or a list of tensors unlike in type or dimension, or of tensors and other things.
    """
    if isinstance(batches, Tensor | Mapping | str | bytes) or not isinstance(batches, Iterable):
        raise arguments.refuse("batches", batches, "a list of batches, or something that yields them")
    sequence = batches if isinstance(batches, Sequence) else read_once(batches)
    if len(sequence) == 0:
        raise ValueError("batches is empty; allowed: at least one batch")
    if _is_one_batch(sequence):
        kinds = ", ".join(_kind(part) for part in sequence[:4]) + (", ..." if len(sequence) > 4 else "")
        raise ValueError(
            f"batches is a {type(sequence).__name__} of {kinds}; allowed: a list of batches: [(x, y)] for one of two "
            "tensors, [x_1, x_2] for two of one"
        )
    return sequence


def read_once(batches: Iterable[Any]) -> list[Any]:
    """All that is yielded, with the generators after it as before: a DataLoader draws its order and workers' seeds.

    Put back are the global generators and those that a DataLoader, its samplers and its data set have as `generator`,
    also one inside another, so that training goes on as if nothing had been read.
    """
    devices = [torch.device("cuda", index) for index in range(_cuda_devices())]
    held = (getattr(holder, "generator", None) for holder in _inside(batches))
    own = [generator for generator in held if isinstance(generator, torch.Generator)]
    states = [generator.get_state() for generator in own]
    try:
        with preserved_generators(devices):
            return list(batches)
    finally:
        for generator, state in zip(own, states, strict=True):
            generator.set_state(state)


def _inside(batches: object) -> list[object]:
    """What a loader is made of, the loader first; its parts by the names that torch.utils.data gives them."""
    parts = [batches]
    for part in parts:
        inner = [getattr(part, name, None) for name in ("sampler", "batch_sampler", "dataset", "data_source")]
        several = getattr(part, "datasets", ())  # of those that hold several, as ConcatDataset
        inner += several if isinstance(several, list | tuple) else ()
        parts += [one for one in inner if one is not None and all(one is not other for other in parts)]
        if len(parts) > MOST_PARTS:  # a part that is made anew whenever it is asked for has no end
            break
    return parts


def _cuda_devices() -> int:
    """How many are in use; none of them is begun to be used here."""
    return torch.cuda.device_count() if torch.cuda.is_initialized() else 0


def _is_one_batch(batches: Sequence[Any]) -> bool:
    """Whether a sequence is rather one batch of several parts: (x, y), what a data loader yields, or a named tuple."""
    tensors = [part for part in batches if isinstance(part, Tensor)]
    if not isinstance(batches, tuple | list) or not tensors or len(batches) == 1:
        return False
    unlike = len({(part.dtype, part.dim()) for part in tensors}) > 1
    return isinstance(batches, tuple) or unlike or not all(isinstance(part, Tensor | tuple | list) for part in batches)


def _kind(part: object) -> str:
    return f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__


def devices_of(model: nn.Module) -> list[torch.device]:
    """The devices of the module's parameters."""
    return list(dict.fromkeys(parameter.device for parameter in model.parameters()))


def seed_generators(seed: int, devices: Iterable[torch.device]) -> None:
    """Seed the global generators of Python, of numpy where it is loaded, of torch on the CPU and on the devices."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    for device in devices:
        if device.type == "mps":
            torch.mps.manual_seed(seed)
        elif device.type != "cpu":
            module = torch.get_device_module(device)
            with module.device(device):
                module.manual_seed(seed)


@contextmanager
def preserved_generators(devices: Iterable[torch.device]) -> Iterator[None]:
    """The generators that `seed_generators` seeds go on after the block as if it had not been."""
    numpy_random = sys.modules["numpy"].random if "numpy" in sys.modules else None
    python_state = random.getstate()
    numpy_state = numpy_random.get_state() if numpy_random is not None else None
    cpu_state = torch.get_rng_state()
    others = [device for device in devices if device.type not in ("cpu", "mps")]
    states = [torch.get_device_module(device).get_rng_state(device) for device in others]
    mps_state = torch.mps.get_rng_state() if any(device.type == "mps" for device in devices) else None
    try:
        yield
    finally:
        random.setstate(python_state)
        torch.set_rng_state(cpu_state)
        if numpy_random is not None:
            numpy_random.set_state(numpy_state)
        for device, state in zip(others, states, strict=True):
            torch.get_device_module(device).set_rng_state(state, device)
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)


@contextmanager
def undisturbed(model: nn.Module, eval_mode: bool) -> Iterator[SavedBuffers]:
    """Every submodule's mode, every buffer and all generators are after the block as they were; evaluation mode in it.

    Args:
        model: the module.
        eval_mode: False leaves the modes as they are inside the block.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = SavedBuffers(model)
    try:
        if eval_mode:
            _evaluating(model)
        with preserved_generators(devices_of(model)):
            yield buffers
    finally:
        for module, training in modes:
            module.training = training
        buffers.put_back()


def _evaluating(model: nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError as error:  # torch.export's
        raise ValueError(
            f"eval_mode is True, and a {type(model).__name__} has no evaluation mode; allowed: False, as it is"
        ) from error


@contextmanager
def measuring(
    model: nn.Module, loss: Loss, batches: Iterable[Any], parameters: Selection, seed: int, eval_mode: bool
) -> Iterator[tuple[SavedWeights, Losses]]:
    """The weights to move and the losses to take, with weights, modes and buffers put back at the end of the block.

    Raises:
        ValueError: an argument is not as the module's docstring says.
    """
    losses = Losses(loss, model, batches, seed)
    arguments.flag("eval_mode", eval_mode)
    weights = selected_parameters(model, parameters)
    with undisturbed(model, eval_mode) as buffers, SavedWeights(weights).put_back_after() as saved:
        losses.buffers = buffers
        yield saved, losses


def settings_of(
    measure: str, weights: Mapping[str, Tensor], losses: Losses, eval_mode: bool, **own: Any
) -> dict[str, Any]:
    """All that a measure was computed with; weights are those it concerns, by name."""
    from flatness import __version__  # at the call: the package may still be loading when this module is

    return {
        "measure": measure,
        **own,
        "seed": losses.seed,
        "eval_mode": eval_mode,
        "samples": losses.samples,
        "batches": len(losses.batches),
        "parameters": list(weights),
        "weights": sum(tensor.numel() for tensor in weights.values()),
        "dtypes": sorted({str(tensor.dtype) for tensor in weights.values()}),
        "devices": sorted({str(tensor.device) for tensor in weights.values()}),
        "torch": torch.__version__,
        "flatness": __version__,
    }
