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
    row |= {"device_seconds": 4.9, "images_per_second_and_device": 19.3}  # of samples
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


MODULE = """import math


class Two:
    def of(self, x):
        if x > 0:
            return (
                x
            )
        return -x


def of(x):
    if x:
        return x + 1
    return x + 1
    return x + 1
"""


@pytest.mark.parametrize(
    ("function", "change", "expected"),
    [
        ("a.m.Two.of", ["-    if x > 0:", "+    if x >= 0:"], ("        if x > 0:", "        if x >= 0:")),
        ("a.m.Two.of", ["-    return -x", "+    return +x"], ("        return -x", "        return +x")),
        (
            "a.m.Two.of",
            ["-        return (", "-            x", "+        return (", "+            None"],
            ("    x\n", "    None\n"),
        ),
        ("a.m.of", ["-    return x + 1", "+    return x - 1"], None),  # twice
        (
            "a.m.of",
            ["-        return x + 1", "+        return x - 1"],
            ("        return x + 1", "        return x - 1"),
        ),
        ("a.m.of", ["-    return x + 2", "+    return x - 2"], None),  # not there any more
        ("a.m.gone", ["-    return x + 1", "+    return x - 1"], None),
        ("a.m.Two.of", ["+    if x >= 0:", "-    if x > 0:"], None),  # in two places
    ],
)
def test_a_survivors_change_is_made_where_it_was(
    function: str, change: list[str], expected: tuple[str, str] | None
) -> None:
    made = mutants.changed(MODULE, function, change)
    assert made == (None if expected is None else MODULE.replace(*expected, 1))


def test_survivors_that_are_killed_now_are_none_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = {"modules": ["findings/m.py"], "counts": {"killed": 5, "survived": 4}, "complete": True, "commit": "a"}
    lines = ["return 1", "return 2", "return 3", "return 4"]
    (tmp_path / "findings").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "findings" / "m.py").write_text("\n".join(f"def f{n}():\n    {line}" for n, line in enumerate(lines)))
    survivors = [
        {
            "module": "findings/m.py",
            "function": f"findings.m.f{n}",
            "change": [f"-    {line}", "+    return 0"],
            "why": "",
        }
        for n, line in enumerate(lines)
    ]
    survivors[2]["why"] = "the same"
    seen: list[str] = []

    def child(folder: Path, tests: object) -> int:
        seen.append((folder / "findings" / "m.py").read_text())
        return len(seen) % 2  # 1: a test has failed

    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(mutants, "GROUPS", {"one": mutants.Group(("findings/m.py",), ("tests",))})
    monkeypatch.setattr(mutants, "_in_a_child", child)
    monkeypatch.setattr(mutants, "_when_changed", lambda test: 0)
    found = mutants.again("one", {**group, "survivors": survivors})
    assert [text.count("return 0") for text in seen] == [1, 1, 1]
    assert found["survivors"] == [survivors[1], survivors[2]]
    assert (found["counts"], found["unexplained"]) == ({"killed": 7, "survived": 2}, 1)
    assert found["again"]["killed"] == 2
    assert mutants.again("one", {**group, "survivors": survivors, "again": {"killed": 3}})["again"]["killed"] >= 4
    assert (found["complete"], found["commit"]) == (True, "a")


@pytest.mark.parametrize("body", ["assert False", "pass"])
def test_a_child_imports_what_lies_in_its_folder(tmp_path: Path, body: str) -> None:
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "__init__.py").write_text("HERE = True")
    (tmp_path / "test_it.py").write_text(f"import findings\n\n\ndef test_it():\n    assert findings.HERE\n    {body}\n")
    assert mutants._in_a_child(tmp_path, ["test_it.py"]) == (body != "pass")


def test_without_mutmut_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def version(name: str) -> str:
        raise mutants.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(mutants.importlib.metadata, "version", version)
    monkeypatch.setattr(mutants, "again", lambda *arguments: pytest.fail("begun"))
    monkeypatch.setattr(mutants, "run", lambda *arguments: pytest.fail("begun"))
    for given in ([], ["--again"], ["--summary"]):
        with pytest.raises(SystemExit):
            mutants.main(given)
        assert "mutmut is not installed" in capsys.readouterr().err


def test_a_sample_is_drawn_by_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "RUNS", tmp_path)
    name = "curvature"
    metas = [tmp_path / name / "mutants" / f"{module}.meta" for module in mutants.GROUPS[name].modules]
    metas[0].parent.mkdir(parents=True)
    codes: list[dict[str, int | None]] = [{f"{place}.x_f__mutmut_{i}": None for i in range(40)} for place in "ab"]
    codes[0]["a.x_f__mutmut_0"] = 1
    for meta, one in zip(metas, codes, strict=True):
        meta.write_text(json.dumps({"exit_code_by_key": one, "other": 3}))

    def left() -> set[str]:
        documents = [json.loads(meta.read_text()) for meta in metas]
        assert all(document["other"] == 3 for document in documents)
        return {mutant for one in documents for mutant, code in one["exit_code_by_key"].items() if code is None}

    sizes = {}
    for size in (30, 10, 90, 20):
        mutants.draw(name, size)
        sizes[size] = left()
        assert {one: outcome for _, one, outcome in mutants.outcomes(name)}["a.x_f__mutmut_0"] == "killed"
    assert 8 < len(sizes[10] | {"a.x_f__mutmut_0"}) <= 11
    assert sizes[10] < sizes[20] < sizes[30]
    assert sizes[90] == {mutant for one in codes for mutant, code in one.items() if code is None}
    assert {one[0] for one in sizes[20]} == set("ab")
    mutants.draw(name, None)
    assert left() == sizes[90]


def test_the_share_noticed_has_an_interval_where_it_is_of_a_sample() -> None:
    assert mutants._noticed({"killed": 8, "timeout": 1, "no tests": 1, "survived": 2}) == [0.75] * 3
    assert mutants._noticed({"not run": 4, "not drawn": 4}) is None
    share, low, high = mutants._noticed({"killed": 9, "survived": 1, "not drawn": 40}) or (0.0, 0.0, 0.0)
    # The ends leave 2.5 % beyond what was seen, 9 of 10: by binomial sums, up to the ends' rounding
    beyond = 10 * low**9 * (1 - low) + low**10, 1 - high**10
    assert share == 0.9
    assert beyond == pytest.approx((0.025, 0.025), abs=0.006)


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
