"""What the sections need of a machine: packages, a compiler, images, the card; what is missing, and what it weighs.

Asked on the machine where the check is prepared, it says how much there is to carry; on the machine with the card, what
did not arrive. What is there is weighed as it lies on the disk, what is missing as the wheel that pip would fetch.
Nothing is imported but to be looked up, so that it answers where torch itself is missing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.gpu.options import GPUOptions, Section
from experiments.gpu.wheels import CONSTRAINTS, PACKAGES, ROOT, Wheel, normalised, recorded

COMPILERS = ("cc", "gcc", "clang")
MIB = 2**20
FASHION_MNIST = 30_878_645
"""Bytes of its four files as they are published."""


class Need(NamedTuple):
    """One thing.

    Attributes:
        what: its name.
        there: whether it is on this machine.
        about: version, place or how to get it.
        size: in bytes, where it is known.
        fatal: whether its section cannot do without it.
    """

    what: str
    there: bool
    about: str
    size: int | None = None
    fatal: bool = True


def needs(options: GPUOptions) -> list[Need]:
    """Everything that the sections need, in the order in which one would look."""
    needed = packages(cuda=options.device != "cpu")
    if importlib.util.find_spec("torch") is not None:
        needed.append(_device(options))
    if "speed" in options.sections:
        needed.append(_compiler())
    needed += [Need("this checkout", True, str(ROOT), _checkout_size())]
    if not options.tiny and "rung4" in options.sections:
        needed += images(options.data)
    needed.append(_disk(options))
    return needed


def packages(cuda: bool) -> list[Need]:
    """The imports, what they need in their turn, and where a card is meant, torch's libraries for it.

    Args:
        cuda: whether torch has to be a build for CUDA.
    """
    wheels = recorded()
    needs = [_package(name, module, wheels, cuda and name == "torch") for name, module in PACKAGES.items()]
    own = {normalised(name) for name in PACKAGES}
    rest = [wheel for name, wheel in wheels.items() if name not in own]
    needs.append(_together("what these need", (wheel for wheel in rest if not wheel.of_cuda)))
    if cuda and not _torch_for_cuda():
        needs.append(_together("CUDA's libraries", (wheel for wheel in rest if wheel.of_cuda)))
    return needs


def _package(name: str, module: str, wheels: Mapping[str, Wheel], for_cuda: bool) -> Need:
    pin, wheel = f"pip install {_pin(name)}", wheels.get(normalised(name))
    missing = None if wheel is None else wheel.size
    if importlib.util.find_spec(module) is None:
        return Need(name, False, pin, missing)
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return Need(name, True, "installed, of unknown version")
    if for_cuda and not _torch_for_cuda():
        return Need(name, False, f"{distribution.version} is built without CUDA; {pin}", missing)
    return Need(name, True, distribution.version, _installed_size(distribution))


def _together(what: str, wheels: Iterable[Wheel]) -> Need:
    """Distributions that none of the sections imports by name: one line, with what is missing."""
    present, missing = [], []
    for wheel in wheels:
        try:
            present.append(importlib.metadata.distribution(wheel.name))
        except importlib.metadata.PackageNotFoundError:
            missing.append(wheel)
    if not missing:
        return Need(what, True, f"{len(present)} packages", sum(_installed_size(one) or 0 for one in present))
    names = ", ".join(wheel.name for wheel in missing)
    return Need(what, False, f"pip brings them: {names}", sum(wheel.size for wheel in missing))


def _installed_size(distribution: importlib.metadata.Distribution) -> int | None:
    return sum(file.size or 0 for file in distribution.files or []) or None


def _torch_for_cuda() -> bool:
    """Whether the torch that is here, if any, is a build for cards."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.version.cuda or torch.version.hip)


def _pin(name: str) -> str:
    """As constraints.txt has it."""
    if CONSTRAINTS.exists():
        for line in CONSTRAINTS.read_text().splitlines():
            if re.match(rf"{re.escape(name)}==", line, re.IGNORECASE):
                return line.strip()
    return name


def _device(options: GPUOptions) -> Need:
    import torch

    if options.device == "cpu":
        return Need("device", True, "the CPU, for a rehearsal")
    if not torch.cuda.is_available():
        built = "built without CUDA" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        return Need("CUDA device", False, f"torch {torch.__version__} ({built}) finds none")
    properties = torch.cuda.get_device_properties(0)
    bf16 = "" if torch.cuda.is_bf16_supported() else ", without bfloat16"
    nccl = "" if torch.distributed.is_nccl_available() else ", without NCCL"
    return Need("CUDA device", True, f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB{bf16}{nccl}")


def _compiler() -> Need:
    """Of C: torch.compile builds its launchers with it; without it the compiled variants fail, and no more."""
    for name in COMPILERS:
        path = shutil.which(name)
        if path:
            return Need("C compiler", True, path, fatal=False)
    return Need("C compiler", False, f"none of {', '.join(COMPILERS)}; compiled steps will fail", fatal=False)


def images(root: Path | None) -> list[Need]:
    """Fashion-MNIST's files; where they are looked for, torch is needed."""
    name = "images: fashion-mnist"
    if importlib.util.find_spec("torch") is None:
        return [Need(name, False, "not looked for until torch is there", FASHION_MNIST)]
    from experiments.data import fashion_mnist
    from experiments.data.roots import DataError

    try:
        path = fashion_mnist.inspect(root).path
    except DataError as error:
        return [Need(name, False, str(error), FASHION_MNIST)]
    files = [file for file in Path(path).iterdir() if file.name.removesuffix(".gz") in _stems()]
    return [Need(name, True, str(path), sum(file.stat().st_size for file in files))]


def _stems() -> set[str]:
    from experiments.data import fashion_mnist

    return {name.removesuffix(".gz") for name in fashion_mnist.FILES}


def _checkout_size() -> int:
    """Of the folders that run, without results, caches and environments."""
    parts = ("experiments", "flatness", "findings")
    return sum(
        path.stat().st_size
        for part in parts
        for path in (ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )  # fmt: skip


def disk_needed(sections: Sequence[Section], tiny: bool) -> int:
    """Bytes that runs leave in the folder: rung 4's, with its points."""
    if tiny or "rung4" not in sections:
        return 16 * MIB
    from experiments.configuration import PRESETS
    from experiments.gpu.rung4 import LATE
    from experiments.training import planning

    c = PRESETS["fashion-mnist"]
    weights = planning.FLOAT32 * planning.parameter_count(c.network)
    runs, in_a_point = 3, 1 + 2 + 2 + len(c.averages.power_widths)
    return runs * (planning.disk(c) + len(LATE) * in_a_point * weights)


def _disk(options: GPUOptions) -> Need:
    there = options.out.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    about = f"{free / 2**30:.1f} GiB free at {there}" + ("" if writable else ", which cannot be written to")
    if importlib.util.find_spec("torch") is None:
        return Need("disk", writable, f"{about}; how much is needed is said once torch is there")
    needed = disk_needed(options.sections, options.tiny)
    return Need(f"disk, {needed / 2**30:.1f} GiB", free >= needed and writable, about)


def lines(needs: Sequence[Need]) -> list[str]:
    """A table, and what is missing."""
    width = max(len(need.what) for need in needs)
    shown = []
    for need in needs:
        size = "" if need.size is None else f"{need.size / MIB:,.1f} MiB"
        state = "there" if need.there else "MISSING" if need.fatal else "missing"
        shown.append(f"{need.what:{width}}  {state:7}  {size:>13}  {need.about}")
    here, away = ([need for need in needs if need.there is there] for there in (True, False))
    shown.append(f"There: {sum(need.size or 0 for need in here) / MIB:,.0f} MiB, unpacked")
    carried = f", {sum(need.size or 0 for need in away) / MIB:,.0f} MiB to carry" if any(n.size for n in away) else ""
    shown.append(f"Missing{carried}: {', '.join(need.what for need in away)}" if away else "Nothing is missing")
    return shown
