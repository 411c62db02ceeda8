"""`make mutants`: would the tests notice, if an instrument were wrong in one place?

mutmut changes one operator, number, argument or word at a time in a copy of a module, and runs the tests that reach the
changed function. A mutant that no test notices survives: either a test is missing, or the change changes nothing, and
`results/mutants.json` says which, in the words of whoever looked at it. Left out by mutmut: functions with a decorator
other than staticmethod and classmethod (context managers, no_grad, properties), which no trampoline can replace; and by
choice, errors' and warnings' texts.

    python -m tests.hardening.mutants [GROUP ...]      one group after another, each going on where it was stopped
    python -m tests.hardening.mutants --sample 60      so many mutants a group, drawn by a hash of their names
    python -m tests.hardening.mutants --summary        renews results/mutants.json from what is there
    python -m tests.hardening.mutants --again [GROUP]  tries survivors again, where tests were written since

A group is a few modules and the tests that are meant to notice; its folder is runs/mutants/GROUP. In the summary a
survivor's `why` is kept as long as its change is the same; a survivor without one is counted as unexplained. `noticed`
is the share of the mutants run that tests noticed, with an exact 95 % interval where they are a sample; --again leaves
it, since tests written for a sample's survivors say nothing of the mutants that were not drawn.
"""

from __future__ import annotations

import argparse
import ast
import collections
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import scipy.stats

from experiments.provenance import provenance
from findings.documents import json_text
from findings.files import write_whole

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "mutants"
SUMMARY = ROOT / "results" / "mutants.json"
ROOMS = ("findings", "flatness", "theory", "experiments", "toy")
PLAIN = {1: "killed", 3: "killed", 0: "survived", 33: "no tests", 5: "no tests", 36: "timeout", 24: "timeout",
         -24: "timeout", 152: "timeout", 255: "timeout", 34: "not drawn"}  # fmt: skip
"""What a status of pytest means, or mutmut's 34, which it passes over; others are called by their number."""
NOT_DRAWN = next(code for code, outcome in PLAIN.items() if outcome == "not drawn")


NOTICED = (1, 2)
"""pytest's statuses where a test fails, or where a module of tests cannot even be imported."""
MOST_SECONDS = 600
"""For the tests of a survivor that is tried again."""


class Group(NamedTuple):
    """Modules, and the tests near them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


def _measure(name: str, *more: str, tests: tuple[str, ...] = ()) -> Group:
    modules = (f"flatness/measuring/{name}.py", *(f"flatness/{module}.py" for module in more))
    return Group(modules, tests or (f"tests/flatness/test_{name}.py",))


GROUPS: dict[str, Group] = {
    "sam": Group(
        ("flatness/training/sam.py", "flatness/training/ascent.py", "flatness/training/perturbed_optimizer.py"),
        ("tests/flatness/test_sam.py", "tests/flatness/test_sam_contract.py", "tests/flatness/test_sam_misuse.py",
         "tests/flatness/test_sam_copies_and_accumulation.py"),
    ),
    "other-flatteners": Group(
        ("flatness/training/random_sam.py", "flatness/training/friendly_sam.py",
         "flatness/training/random_weight_perturbation.py", "flatness/training/accumulation.py"),
        ("tests/flatness/test_random_sam.py", "tests/flatness/test_friendly_sam.py",
         "tests/flatness/test_flatteners.py", "tests/flatness/test_random_weight_perturbation.py",
         "tests/flatness/test_sam_contract.py"),
    ),
    "averaging": Group(
        ("flatness/training/weight_averaging.py", "flatness/training/averaging_rules.py"),
        ("tests/flatness/test_weight_averaging.py", "tests/flatness/test_post_hoc_ema.py",
         "tests/flatness/test_outline.py", "tests/flatness/test_stored_states.py"),
    ),
    "low-pass-filter": _measure("low_pass_filter", "measuring/base", "weights", tests=(
        "tests/flatness/test_low_pass_filter.py", "tests/flatness/test_data_loaders.py",
        "tests/flatness/test_perturbation.py")),
    "curvature": _measure("curvature", "measuring/derivatives"),
    "worst-case-sharpness": _measure("sharpness", tests=("tests/flatness/test_worst_case_sharpness.py",)),
    "perturbation-curve": _measure("perturbation_curve"),
    "loss-surface": _measure("loss_surface"),
    "quantization": _measure("quantization", tests=(
        "tests/flatness/test_quantization.py", "tests/flatness/test_rounding_exactly.py",
        "tests/flatness/test_every_model_rounded.py")),
    "exposure-bias": _measure("exposure_bias"),
    "readout": _measure("readout", "measuring/layer_features", tests=(
        "tests/flatness/test_readout.py", "tests/flatness/test_layer_features.py")),
    "diffusion": Group(
        ("flatness/diffusion/losses.py", "flatness/diffusion/likelihood.py", "flatness/diffusion/predictions.py",
         "flatness/diffusion/noise_paths.py"),
        ("tests/flatness/test_adapters.py", "tests/flatness/test_conventions.py", "tests/flatness/test_likelihood.py",
         "tests/flatness/test_predictions.py"),
    ),
    "process": Group(
        ("experiments/diffusion/process.py", "experiments/diffusion/timesteps.py"),
        ("tests/experiments/diffusion",),
    ),
    "worst-case": Group(
        ("theory/model/worst_case.py", "theory/model/divergences.py"),
        ("theory/tests/test_worst_case.py", "theory/tests/test_foundations.py",
         "theory/tests/test_section_3_2_which_density.py"),
    ),
    "statistics": Group(
        ("findings/estimates.py", "findings/verdicts.py"),
        ("tests/findings/test_estimates.py", "tests/findings/test_tables.py", "tests/findings/test_comparisons.py",
         "tests/findings/test_verdicts.py"),
    ),
}  # fmt: skip
"""In the order in which they are run: the instruments that most depends on first."""


def settings(group: Group) -> str:
    """The group's pyproject.toml: the checkout's settings of pytest, and mutmut's."""
    text = (ROOT / "pyproject.toml").read_text()
    values: dict[str, Any] = {
        "source_paths": list(ROOMS),
        "only_mutate": list(group.modules),
        "do_not_mutate_patterns": [r"^\s*raise ", r"^\s*warnings\.warn\(", r'^\s*f?"[^"]*"$'],
        "also_copy": ["conftest.py", "results", "README.md", "constraints.txt"],
        "pytest_add_cli_args_test_selection": list(group.tests),
        "pytest_add_cli_args": ["--numprocesses=0", "-p", "no:cacheprovider"],
        # One process imports torch and the tests, and each mutant is a fork of it
        "process_isolation": "forkserver",
        "timeout_multiplier": 6.0,
        "timeout_constant": 6.0,
        "use_git_change_detection": False,
    }
    # JSON's strings, lists, numbers and truth values are TOML's
    return "\n".join([text, "[tool.mutmut]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()), ""])


def prepared(name: str) -> Path:
    """The group's folder, in which the checkout's files stand as links; mutmut copies what it changes."""
    folder = RUNS / name
    folder.mkdir(parents=True, exist_ok=True)
    for entry in (*ROOMS, "tests", "results", "conftest.py", "README.md", "constraints.txt"):
        link = folder / entry
        if not link.is_symlink():
            link.symlink_to(ROOT / entry)
    (folder / "pyproject.toml").write_text(settings(GROUPS[name]))
    return folder


def run(name: str, sample: int | None = None) -> int:
    """mutmut's status on one group, in one process of low priority; what was done before stands.

    Args:
        name: of the group.
        sample: how many of its mutants; None for all.
    """
    folder = prepared(name)
    _take_over_changes(name)
    # In the group's folder, where mutmut looks for its settings when it is imported
    subprocess.run([sys.executable, "-c", GENERATED], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    draw(name, sample)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CI": "1", "COLUMNS": "100"}
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1"]
    return subprocess.run(command, cwd=folder, env=environment).returncode


GENERATED = """
from pathlib import Path
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
Path("mutants").mkdir(exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.setup_source_paths()
mutmut.create_mutants(1)
"""
"""What `mutmut run` begins with; a second time it changes nothing."""


def draw(name: str, sample: int | None) -> None:
    """Have mutmut pass over all but a sample of a group's mutants: those whose names have the smallest hashes.

    So a larger sample holds a smaller one, and which mutants are drawn depends on nothing that is known of them. What
    has been run besides stays.
    """
    metas = {meta: json.loads(meta.read_bytes()) for meta in _metas(name)}
    names = sorted(mutant for document in metas.values() for mutant in document["exit_code_by_key"])
    drawn = set(sorted(names, key=lambda one: hashlib.sha256(one.encode()).digest())[:sample])
    for meta, document in metas.items():
        codes = document["exit_code_by_key"]
        for mutant, code in codes.items():
            if code is None or code == NOT_DRAWN:
                codes[mutant] = None if mutant in drawn else NOT_DRAWN
        meta.write_text(json.dumps(document))


def _metas(name: str) -> list[Path]:
    metas = (RUNS / name / "mutants" / f"{module}.meta" for module in GROUPS[name].modules)
    return [meta for meta in metas if meta.exists()]


def _take_over_changes(name: str) -> None:
    """Where tests or modules have changed since the last run: copy the tests anew, ask anew which of them reach which
    function, and have all but the killed mutants tried again. Functions that have changed mutmut sees itself."""
    group = GROUPS[name]
    files = sorted(path for one in (*group.tests, *group.modules) for path in (ROOT / one, *(ROOT / one).rglob("*.py")))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()
    stamp = RUNS / name / "sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(RUNS / name / "mutants" / "tests", ignore_errors=True)
    (RUNS / name / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for meta in _metas(name):
        document = json.loads(meta.read_bytes())
        codes = document["exit_code_by_key"]
        document["exit_code_by_key"] = {m: None if PLAIN.get(c) != "killed" else c for m, c in codes.items()}
        meta.write_text(json.dumps(document))
    stamp.write_text(digest)


def outcomes(name: str) -> Iterator[tuple[str, str, str]]:
    """Module, mutant and what became of it; "not run" where it was not come to."""
    for module in GROUPS[name].modules:
        meta = RUNS / name / "mutants" / f"{module}.meta"
        if meta.exists():
            for mutant, status in json.loads(meta.read_bytes())["exit_code_by_key"].items():
                yield module, mutant, "not run" if status is None else PLAIN.get(status, f"status {status}")


SHOWN = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
json.dump({name: get_diff_for_mutant(name, path=path) for name, path in json.load(sys.stdin)}, sys.stdout)
"""


def changes(name: str, mutants: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The lines that each mutant takes away and puts in their place.

    Args:
        name: of the group.
        mutants: names and modules.
    """
    if not mutants:
        return {}
    # In the group's folder, where mutmut looks for its settings when it is imported
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], cwd=RUNS / name, input=json.dumps(mutants), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return {
        mutant: [line.rstrip() for line in text.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        for mutant, text in json.loads(done.stdout).items()
    }


def changed(text: str, function: str, change: Sequence[str]) -> str | None:
    """A module's text with a survivor's change; None where what it changed is not there, or there twice.

    Args:
        text: of the module.
        function: as in the summary, module.Class.function.
        change: lines taken away, which begin with -, then those in their place, with +.
    """
    old = [line[1:] for line in change if line.startswith("-")]
    new = [line[1:] for line in change if line.startswith("+")]
    node: ast.AST | None = ast.parse(text)
    *_, owner, name = function.split(".")
    for part in (owner, name) if owner.lstrip("_")[0].isupper() else (name,):
        node = next((one for one in getattr(node, "body", []) if getattr(one, "name", "") == part), None)
    if not isinstance(node, ast.FunctionDef) or node.end_lineno is None or list(change) != _blocks(old, new):
        return None
    lines = text.splitlines()
    # mutmut shows methods as far to the left as functions
    wanted, put = ([" " * node.col_offset + line for line in side] for side in (old, new))
    last = node.end_lineno - len(old) + 1
    places = [i for i in range(node.lineno - 1, last) if [one.rstrip() for one in lines[i : i + len(old)]] == wanted]
    if len(places) != 1:
        return None
    (place,) = places
    lines[place : place + len(old)] = put
    return "\n".join(lines) + "\n"


def _blocks(old: Sequence[str], new: Sequence[str]) -> list[str]:
    return [*(f"-{line}" for line in old), *(f"+{line}" for line in new)]


def again(name: str, group: Mapping[str, Any], only: str = "") -> dict[str, Any]:
    """A group's entry, those of its survivors that are not explained tried again in a copy of today's files.

    For a group whose folder is not there any more; where it is, running it does the same. Tests that were changed last
    are run first. A survivor whose place has changed since stays one.

    Args:
        name, group: the group and its entry.
        only: pytest's expression for some of the tests; what these kill is killed, and the others stay survivors.
    """
    folder = RUNS / name / "again"
    shutil.rmtree(folder, ignore_errors=True)
    rooms = {Path(module).parts[0] for module in GROUPS[name].modules}
    for room in (*rooms, "tests"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for entry in {*ROOMS, "results", "conftest.py", "README.md", "constraints.txt", "pyproject.toml"} - rooms:
        (folder / entry).symlink_to(ROOT / entry)
    tests = sorted(GROUPS[name].tests, key=_when_changed, reverse=True)
    left, killed = [], 0
    for survivor in group["survivors"]:
        path = folder / survivor["module"]
        whole = path.read_text()
        text = None if survivor["why"] else changed(whole, survivor["function"], survivor["change"])
        if text is not None:
            path.write_text(text)
            status = _in_a_child(folder, [*tests, *(("-k", only) if only else ())])
            path.write_text(whole)
            outcome = "killed" if status in NOTICED else PLAIN.get(status, f"status {status}")
            print(f"{name}: {survivor['function']}: {outcome}", flush=True)
            if status in NOTICED:
                killed += 1
                continue
        left.append(survivor)
    counts = collections.Counter(group["counts"]) + collections.Counter(killed=killed)
    counts["survived"] = len(left)
    return {
        **group,
        "counts": dict(sorted((+counts).items())),
        "unexplained": sum(not survivor["why"] for survivor in left),
        "again": {"commit": provenance()["commit"], "killed": group.get("again", {}).get("killed", 0) + killed},
        "survivors": left,
    }


def _when_changed(test: str) -> int:
    command = ["git", "log", "-1", "--format=%ct", "--", test]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout or 0)


def _in_a_child(folder: Path, tests: Sequence[str]) -> int:
    """pytest's status, of a fork that has the libraries already and imports ours from the folder."""
    import numpy
    import pytest
    import scipy
    import torch

    libraries = (numpy, scipy, torch)  # not those that are pytest's plugins, which it wants to import itself
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        assert all(libraries)
        for module in [one for one in sys.modules if one.partition(".")[0] in (*ROOMS, "tests")]:
            del sys.modules[module]
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.alarm(MOST_SECONDS)
        os._exit(pytest.main(["-q", "-x", "--numprocesses=0", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(99)


def summary(
    explained: dict[tuple[str, tuple[str, ...]], str], before: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The document.

    Args:
        explained: why survivors survive, by function and change.
        before: groups of an earlier document, which stand where nothing is there of a group.
    """
    before = before or {}
    commit = provenance()["commit"]
    groups: dict[str, Any] = {}
    for name in GROUPS:
        found = list(outcomes(name))
        if not found:
            if name in before:  # of another machine, or of a folder that was cleared
                groups[name] = before[name]
            continue
        counts = collections.Counter(outcome for _, _, outcome in found)
        alive = [(module, mutant) for module, mutant, outcome in found if outcome == "survived"]
        lines = changes(name, [(mutant, module) for module, mutant in alive])
        survivors = []
        for module, mutant in alive:
            place, change = function(mutant), lines[mutant]
            survivors.append(
                {
                    "module": module,
                    "function": place,
                    "change": change,
                    "why": explained.get((place, tuple(change)), ""),
                }
            )
        groups[name] = {
            "commit": commit,
            "modules": list(GROUPS[name].modules),
            "tests": list(GROUPS[name].tests),
            "complete": not counts["not run"],
            "noticed": _noticed(counts),
            "counts": dict(sorted(counts.items())),
            "unexplained": sum(not survivor["why"] for survivor in survivors),
            "survivors": survivors,
        }
    whole = len(groups) == len(GROUPS) and all(group["complete"] for group in groups.values())
    return {
        "what": "mutants of the instruments, and whether the tests near them notice",
        "made_by": "make mutants",
        "provenance": {**provenance(), "mutmut": importlib.metadata.version("mutmut")},
        "complete": whole,
        "not_run": [name for name in GROUPS if name not in groups],
        "groups": groups,
    }


def _noticed(counts: Mapping[str, int]) -> list[float] | None:
    """The share noticed and its 95 % interval (Clopper and Pearson, 1934), one point where all mutants were run."""
    noticed = sum(counts.get(outcome, 0) for outcome in ("killed", "timeout"))
    tried = sum(counts.values()) - sum(counts.get(outcome, 0) for outcome in ("not run", "not drawn"))
    if not tried:
        return None
    share = noticed / tried
    if tried == sum(counts.values()):
        return [round(share, 3)] * 3
    interval = scipy.stats.binomtest(noticed, tried).proportion_ci()
    return [round(value, 3) for value in (share, interval.low, interval.high)]


def function(mutant: str) -> str:
    """module.Class.function, of mutmut's name of a mutant."""
    module, _, mangled = mutant.rpartition(".")
    plain = mangled.rpartition("__mutmut_")[0]
    plain = plain.removeprefix("xǁ").replace("ǁ", ".") if plain.startswith("xǁ") else plain.removeprefix("x_")
    return f"{module}.{plain}"


def earlier(path: Path = SUMMARY) -> dict[str, dict[str, Any]]:
    """The groups of the summary that is there, each with the commit that it is of."""
    if not path.exists():
        return {}
    document = json.loads(path.read_bytes())
    commit = document["provenance"]["commit"]
    return {name: {"commit": commit, **group} for name, group in document["groups"].items()}


def explanations(groups: Mapping[str, dict[str, Any]]) -> dict[tuple[str, tuple[str, ...]], str]:
    """Why survivors survive, as the groups say, by function and change."""
    return {
        (one["function"], tuple(one["change"])): one["why"]
        for group in groups.values()
        for one in group["survivors"]
        if one["why"]
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run groups and renew the summary; 0 where all came to their end."""
    parser = argparse.ArgumentParser(prog="python -m tests.hardening.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"which (default: all): {', '.join(GROUPS)}")
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants a group (default: all)")
    parser.add_argument("--summary", action="store_true", help="run nothing")
    parser.add_argument("--again", action="store_true", help="try survivors again, and nothing else")
    parser.add_argument("--only", metavar="EXPRESSION", default="", help="with --again: of the tests, as pytest's -k")
    given = parser.parse_args(arguments)
    unknown = set(given.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no groups: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    if given.only and not given.again:
        parser.error("--only goes with --again")
    if given.sample is not None and (given.sample < 1 or given.summary or given.again):
        parser.error(f"--sample is {given.sample}; allowed: at least 1, without --summary and --again")
    try:  # before hours of work, of which the summary is the end
        importlib.metadata.version("mutmut")
    except importlib.metadata.PackageNotFoundError:
        parser.error("mutmut is not installed; pip install '.[mutants]' installs it")
    before = earlier()
    if given.again:
        lost = [name for name in (given.groups or before) if name in before and not any(outcomes(name))]
        before |= {name: again(name, before[name], given.only) for name in lost}
    run_now = not (given.summary or given.again)
    statuses = [run(name, given.sample) for name in (given.groups or GROUPS)] if run_now else []
    document = summary(explanations(before), before)
    write_whole(SUMMARY, json_text(document))
    for name, group in document["groups"].items():
        counts = ", ".join(f"{count} {outcome}" for outcome, count in group["counts"].items())
        print(f"{name}: {counts}; {group['unexplained']} survivors unexplained")
    print(f"{SUMMARY}: {'complete' if document['complete'] else 'not complete'}")
    return 1 if any(statuses) else 0


if __name__ == "__main__":
    raise SystemExit(main())
