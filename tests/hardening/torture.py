"""`make torture`: every command that can be gone on with, killed at random moments, and what it has written damaged.

    python -m tests.hardening.torture [COMMAND ...] [--kills 50] [--damages 50] [--seed 0] [--out runs/torture]

Each command runs once undisturbed. A kill: the same command in a new folder, SIGKILL to all its processes at a random
moment after it has begun to write, then the command again to its end. It is survived where that ends with 0, its
results are those of the undisturbed run, and nothing half-written is left. Damage: one file of a finished or of a
half-finished folder is cut, emptied, overwritten, has a bit flipped or a key of its JSON renamed, and the command is
given again. It is survived where the results are right all the same (the damaged file itself may lie there as long as
whatever reads it refuses it), or where a line names the file: what counts against the project is a wrong result that
looks right, or a traceback.

Prints survived of tried by command, and every one that was not; what happened is kept in OUT/torture.json. The
networks are as small as commands take, on real images (Fashion-MNIST, 8 x 8): what takes time is starting Python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from findings.documents import json_text
from findings.files import BESIDE, write_whole

ROOT = Path(__file__).parents[2]
TIMEOUT = 1800.0
"""Seconds after which a command hangs."""
TIMES = {"seconds", "device_seconds", "images_per_second_and_device"}
NOT_COMPARED = TIMES | {"provenance", "checksum", "accepted", "commit", "state.json"}
"""Keys of documents that two runs need not have alike; the last is the hash, in a manifest, of what says the commit."""
MEASURES = shlex.split(
    "--images 8 --lpf-draws 2 --curve-rms 0.01 --curve-draws 2 --gradient-distances 0.1 --surface-points 0"
    " --rise-bits 4 --readout-draws 2 --sampling-steps 2 --quantized-steps 2 --samples 24 --groups 4 --bits 4"
    " --exposure-images 4 --device cpu"
)
RUN = shlex.split("--config fashion-mnist-mini --steps 6 --global-batch 8")


class Command(NamedTuple):
    """One command.

    Attributes:
        words: its command line, from the folder that it works in.
        needs: the command whose undisturbed folder it begins with; "" where it begins with none.
    """

    words: Callable[[Path], list[str]]
    needs: str = ""


COMMANDS: dict[str, Command] = {
    "train": Command(
        lambda out: [
            "train", *RUN, "--method", "ip+sam", "--rho", "0.1", "--checkpoint-every", "2", "--log-every", "2",
            "--sample-every", "4", "--points", "4", "6", "--device", "cpu", "--out", str(out),
        ]
    ),
    "sample": Command(
        lambda out: [
            "sample", str(out), "--average", "ema", "--steps", "4", "--images", "96", "--shard-size", "16",
            "--device", "cpu", "--out", str(out / "drawn"),
        ],
        needs="train",
    ),
    "evaluate": Command(
        lambda out: ["evaluate", str(out), *MEASURES, "--out", str(out / "evaluation")],
        needs="train",
    ),
    "reproduce": Command(
        lambda out: [
            "reproduce", *RUN, "--methods", "adm", "sam", "--rho", "0.1", *MEASURES, "--out", str(out)
        ]
    ),
    "bridge": Command(
        lambda out: [
            "bridge", str(out), "--runs", "sam", "--layer-images", "2", "--whole-draws", "2", "--readout-draws", "2",
            "--tolerance-steps", "100", "--tolerance-images", "2", "--points", "0", "--snapshots", "1", "--stage",
            "measure", "--device", "cpu",
        ],
        needs="reproduce",
    ),
}  # fmt: skip
"""Those that go on where they were stopped, in an order in which what they need is there."""


class Ended(NamedTuple):
    """How a command ended: its status (None: it was killed), and what it said."""

    status: int | None
    said: str


def run(words: Sequence[str], kill: Callable[[subprocess.Popen[bytes]], None] | None = None) -> Ended:
    """The command, to its end or until it is killed with all its processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "experiments", *words]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        if kill is not None:
            kill(process)
            return Ended(None, "")
        said, _ = process.communicate(timeout=TIMEOUT)
        return Ended(process.returncode, said.decode(errors="replace"))
    except subprocess.TimeoutExpired:
        return Ended(-1, f"still running after {TIMEOUT:.0f} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def plain(value: Any) -> Any:
    """A document without what no two runs have alike."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in NOT_COMPARED}
    return [plain(item) for item in value] if isinstance(value, list) else value


def results(folder: Path) -> dict[str, Any]:
    """What a folder's runs are for, by file: weights, samples and documents; no logs and pictures of them."""
    found: dict[str, Any] = {}
    for path in files(folder):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            try:
                found[name] = plain(json.loads(path.read_bytes()))
            except (ValueError, RecursionError):
                found[name] = "no JSON"
        elif path.suffix == ".safetensors":
            found[name] = tensors(path.read_bytes())
        elif path.suffix in (".npz", ".md"):
            found[name] = path.read_bytes()
    return found


def tensors(content: bytes) -> tuple[Any, bytes]:
    """Names, shapes and numbers of a file of tensors, without its metadata, whose order is no part of it."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = {k: v for k, v in json.loads(content[8 : 8 + length]).items() if k != "__metadata__"}
    except (ValueError, AttributeError, RecursionError):
        return "no tensors", content
    return header, content[8 + length :]


def files(folder: Path) -> list[Path]:
    """All regular files, but locks and TensorBoard's, in order."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock" and "tensorboard" not in path.parts
    )  # fmt: skip


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Names of files that one has and the other has not, or has otherwise."""
    return sorted(name for name in a.keys() | b.keys() if name not in a or name not in b or a[name] != b[name])


def leftovers(folder: Path) -> list[str]:
    """What a killed writer has left behind."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(f"{BESIDE}*"))


class Undisturbed(NamedTuple):
    """A command's run that nothing happened to: its folder, results, and when it began to write and ended."""

    folder: Path
    found: dict[str, Any]
    begun: float
    seconds: float


class Torture:
    """Commands and what they live through.

    Args:
        out: where folders are made; removed as trials are survived.
        seed: of moments and damages.
        say: is told a line after each trial.
    """

    def __init__(self, out: Path, seed: int, say: Callable[[str], None]) -> None:
        """Nothing is run yet."""
        self.out, self.say = out, say
        self.chance = random.Random(seed)
        self.undisturbed: dict[str, Undisturbed] = {}

    def reference(self, name: str) -> Undisturbed:
        """The command's undisturbed run, made once.

        Raises:
            RuntimeError: it does not end with 0 by itself.
        """
        if name not in self.undisturbed:
            folder = self.fresh(name, "undisturbed")
            before, begin = set(files(folder)), time.time()
            ended = run(COMMANDS[name].words(folder))
            if ended.status != 0:
                raise RuntimeError(f"{name} does not run: {ended.said[-600:]}")
            seconds = time.time() - begin
            begun = min((path.stat().st_mtime for path in files(folder) if path not in before), default=begin) - begin
            self.undisturbed[name] = Undisturbed(folder, results(folder), min(max(begun, 0.0), seconds), seconds)
            self.say(f"{name}: undisturbed in {seconds:.0f} s, the first file after {begun:.0f} s")
        return self.undisturbed[name]

    def fresh(self, name: str, trial: str) -> Path:
        """A folder as the command begins with it."""
        folder = self.out / f"{name}-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        needs = COMMANDS[name].needs
        if needs:
            shutil.copytree(self.reference(needs).folder, folder)
        return folder

    def killed(self, name: str, folder: Path) -> float:
        """Kill the command at a random moment of its writing; after how many seconds."""
        of = self.reference(name)
        moment = self.chance.uniform(of.begun, of.seconds)

        def kill(process: subprocess.Popen[bytes]) -> None:
            deadline = time.monotonic() + moment
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.01)

        run(COMMANDS[name].words(folder), kill)
        return moment

    def kill(self, name: str, number: int) -> dict[str, Any]:
        """One kill, and the way to the end; `wrong` says why it was not survived."""
        folder = self.fresh(name, f"kill-{number}")
        moment = self.killed(name, folder)
        ended = run(COMMANDS[name].words(folder))
        wrong = ""
        if ended.status != 0:
            wrong = f"then status {ended.status}: {ended.said[-300:]}"
        elif other := self.other_results(name, folder):
            wrong = f"other results: {', '.join(other[:5])}"
        elif left := leftovers(folder):
            wrong = f"left behind: {', '.join(left[:5])}"
        return self.done(name, folder, {"kind": "kill", "after_seconds": round(moment, 2), "wrong": wrong})

    def damage(self, name: str, number: int) -> dict[str, Any]:
        """Damage to one file of a folder, finished or not, and the command again."""
        folder = self.fresh(name, f"damage-{number}")
        half = self.chance.random() < 0.5
        if half:
            self.killed(name, folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.reference(name).folder, folder)
        # Runs' folders say where they are in no file, so that a copy is as good as the folder itself
        candidates = [
            path for path in files(folder) if path.suffix in (".json", ".jsonl", ".safetensors", ".npz", ".md")
        ]
        trial: dict[str, Any] = {"kind": "damage", "half_finished": half, "wrong": ""}
        if not candidates:
            return self.done(name, folder, trial | {"what": "nothing was there"})
        path = self.chance.choice(candidates)
        how = self.chance.choice([how for how in DAMAGES if how != "key renamed" or path.suffix == ".json"])
        DAMAGES[how](path, self.chance)
        trial |= {"what": how, "file": str(path.relative_to(folder))}
        ended = run(COMMANDS[name].words(folder))
        if "Traceback" in ended.said:
            trial["wrong"] = f"a traceback: {ended.said[-300:]}"
        elif ended.status == 0 and (other := self.wrong_results(name, folder, path)):
            trial["wrong"] = f"status 0 and other results: {', '.join(other[:5])}"
        elif ended.status != 0 and not named(path, ended.said):
            trial["wrong"] = f"status {ended.status}, and the file is not named: {ended.said[-300:]}"
        trial["then"] = "recomputed or not used" if ended.status == 0 else "refused"
        return self.done(name, folder, trial)

    def other_results(self, name: str, folder: Path) -> list[str]:
        """Files of other contents than the undisturbed run's."""
        return differences(self.reference(name).found, results(folder))

    def wrong_results(self, name: str, folder: Path, damaged: Path) -> list[str]:
        """Those, but for the damaged file itself where the command did not need it and what reads it refuses it."""
        own = str(damaged.relative_to(folder))
        return [one for one in self.other_results(name, folder) if one != own or not refused(damaged)]

    def done(self, name: str, folder: Path, trial: dict[str, Any]) -> dict[str, Any]:
        """Remove the folder of a trial that was survived, and say how it went."""
        if not trial["wrong"]:
            shutil.rmtree(folder, ignore_errors=True)
        about = trial.get("file", f"after {trial.get('after_seconds')} s")
        what = "survived" if not trial["wrong"] else f"NOT SURVIVED ({trial['wrong']}); {folder}"
        self.say(f"{name}: {trial.get('what', trial['kind'])}, {about}: {what}")
        return trial


def refused(path: Path) -> bool:
    """Whether a file is held against a checksum and found to be another than was written, by what reads such files."""
    from experiments.tensor_files import read_tensors
    from experiments.training.checkpoints import MANIFEST, CheckpointError, verify
    from findings.checksums import ResultError, read_json

    try:
        if (path.parent / MANIFEST).exists():
            verify(path.parent)
        elif path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".safetensors":
            read_tensors(path)
    except (ResultError, CheckpointError, ValueError):
        return True
    return False


def named(path: Path, said: str) -> bool:
    """Whether what was said names the file, or the folder that it is part of (a checkpoint's, say)."""
    flat = "".join(said.split())
    return path.name in flat or path.parent.name in flat


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(max(len(content), 1))])


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(content))


def _rename_key(path: Path, chance: random.Random) -> None:
    document = json.loads(path.read_bytes())
    places = [value for value in _dictionaries(document) if value]
    if places:
        place = chance.choice(places)
        key = chance.choice(sorted(place))
        place[f"{key}_"] = place.pop(key)
    path.write_text(json.dumps(document))


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dictionaries(item)


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "cut": _cut,
    "emptied": lambda path, chance: path.write_bytes(b""),
    "a bit flipped": _flip,
    "overwritten": lambda path, chance: path.write_bytes(chance.randbytes(200)),
    "nested deeply": lambda path, chance: path.write_bytes(b"[" * 20_000),
    "key renamed": _rename_key,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run trials; 0 where all were survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.hardening.torture", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("commands", nargs="*", help=f"which (default: all): {', '.join(COMMANDS)}")
    parser.add_argument("--kills", type=int, default=50, help="of each command (default: 50)")
    parser.add_argument("--damages", type=int, default=50, help="of each command's folder (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and damages (default: 0)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "torture", help="(default: runs/torture)")
    given = parser.parse_args(arguments)
    if unknown := set(given.commands) - set(COMMANDS):
        parser.error(f"no commands: {', '.join(sorted(unknown))}; there are {', '.join(COMMANDS)}")
    torture = Torture(given.out, given.seed, lambda line: print(line, flush=True))
    trials: dict[str, list[dict[str, Any]]] = {}
    for name in given.commands or COMMANDS:
        trials[name] = []
        for number in range(max(given.kills, given.damages)):  # in turns, so that a stopped run has of both
            for trial, count in ((torture.kill, given.kills), (torture.damage, given.damages)):
                if number < count:
                    trials[name].append(trial(name, number))
                    document = {"seed": given.seed, "trials": trials}
                    write_whole(given.out / "torture.json", json_text(document))
    tried = [one for of in trials.values() for one in of]
    for name, of in trials.items():
        for kind in ("kill", "damage"):
            own = [one for one in of if one["kind"] == kind]
            print(f"{name}: {sum(not one['wrong'] for one in own)} of {len(own)} {kind}s survived")
    lost = sum(bool(one["wrong"]) for one in tried)
    print(f"{len(tried) - lost} of {len(tried)} survived")
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
