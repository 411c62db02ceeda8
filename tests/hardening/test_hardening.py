"""What the two tools judge by, which takes no hours: that a wrong result, a leftover and a survivor are seen."""

import json
import random
import tomllib
from pathlib import Path

import pytest
import torch

from experiments.tensor_files import write_tensors
from findings.checksums import with_checksum
from tests.hardening import mutants, torture

CHANCE = random.Random(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    row = {"version": 1, "measures": {"loss": 1.5}, "seconds": 3.0, "provenance": {"commit": "a"}}
    (tmp_path / "rows" / "a.json").write_text(json.dumps(with_checksum(row)))
    write_tensors(tmp_path / "x.safetensors", {"x": torch.arange(4.0)}, {"about": "x"})
    return tmp_path


def test_results_are_compared_without_seconds_and_metadata(folder: Path) -> None:
    before = torture.results(folder)
    row = {"version": 1, "measures": {"loss": 1.5}, "seconds": 9.0, "provenance": {"commit": "b"}}
    (folder / "rows" / "a.json").write_text(json.dumps(with_checksum(row)))
    write_tensors(folder / "x.safetensors", {"x": torch.arange(4.0)}, {"about": "y"})
    assert torture.differences(before, torture.results(folder)) == []
    row["measures"] = {"loss": 1.6}
    (folder / "rows" / "a.json").write_text(json.dumps(with_checksum(row)))
    write_tensors(folder / "x.safetensors", {"x": torch.arange(4.0) + 1e-6})
    (folder / "more.md").write_text("")
    assert torture.differences(before, torture.results(folder)) == ["more.md", "rows/a.json", "x.safetensors"]


@pytest.mark.parametrize("how", torture.DAMAGES)
@pytest.mark.parametrize("name", ["rows/a.json", "x.safetensors"])
def test_damage_is_done_and_refused_by_what_reads_the_file(folder: Path, how: str, name: str) -> None:
    path = folder / name
    before = path.read_bytes()
    assert not torture.refused(path)
    if how == "key renamed" and path.suffix != ".json":
        return
    torture.DAMAGES[how](path, CHANCE)
    assert path.read_bytes() != before
    assert torture.refused(path)
    torture.results(folder)  # whatever lies there


def test_half_written_files_are_seen(folder: Path) -> None:
    assert torture.leftovers(folder) == []
    (folder / "rows" / f"{torture.BESIDE}a.json").write_text("")
    assert torture.leftovers(folder) == [f"rows/{torture.BESIDE}a.json"]


def test_a_line_names_the_file_or_its_folder() -> None:
    path = Path("points/step-00000006/manifest.json")
    assert torture.named(path, "error: .../points/step-0000\n0006 has no manifest")
    assert not torture.named(path, "error: something is damaged")


def test_a_killed_process_and_its_children_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torture.sys, "executable", "/bin/sh")
    monkeypatch.setattr(torture, "ROOT", tmp_path)
    ended = torture.run(["--help"])
    assert ended.status is not None  # sh knows no such module: it ends by itself, and says so
    assert ended.status != 0
    assert ended.said


def test_every_group_is_of_files_that_are_there() -> None:
    for name, group in mutants.GROUPS.items():
        for path in (*group.modules, *group.tests):
            assert (mutants.ROOT / path).exists(), (name, path)
        settings = tomllib.loads(mutants.settings(group))["tool"]["mutmut"]
        assert settings["only_mutate"] == list(group.modules)
        assert settings["pytest_add_cli_args_test_selection"] == list(group.tests)


def test_names_of_mutants() -> None:
    assert mutants.function("flatness.training.sam.xǁSAMǁ_run__mutmut_3") == "flatness.training.sam.SAM._run"
    assert mutants.function("theory.model.divergences.x_excess__mutmut_11") == "theory.model.divergences.excess"


def test_a_summary_counts_and_keeps_explanations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "curvature"
    module = mutants.GROUPS[name].modules[0]
    codes = {f"m.x_f__mutmut_{i}": code for i, code in enumerate((1, 0, None, 33, 36))}
    meta = tmp_path / name / "mutants" / f"{module}.meta"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"exit_code_by_key": codes}))
    monkeypatch.setattr(mutants, "RUNS", tmp_path)
    monkeypatch.setattr(mutants.importlib.metadata, "version", lambda name: "1")  # an extra that tests do without
    monkeypatch.setattr(mutants, "changes", lambda group, alive: {mutant: ["-a", "+b"] for mutant, _ in alive})
    group = mutants.summary({})["groups"][name]
    assert group["counts"] == {"killed": 1, "no tests": 1, "not run": 1, "survived": 1, "timeout": 1}
    assert (group["complete"], group["unexplained"]) == (False, 1)
    again = mutants.summary({("m.f", ("-a", "+b")): "equal"})["groups"][name]
    assert (again["unexplained"], again["survivors"][0]["why"]) == (0, "equal")
    assert not mutants.summary({})["complete"]
    old = {"sam": {"complete": True, "commit": "a"}, name: {"complete": True, "commit": "a"}}
    groups = mutants.summary({}, old)["groups"]
    assert groups["sam"] == old["sam"]
    assert groups[name] == group | {"unexplained": 1, "survivors": groups[name]["survivors"]}
