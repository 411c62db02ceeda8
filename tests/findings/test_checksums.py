"""What is read is what was written: every flipped bit, cut and edit is seen; no content ends in another error."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from findings import accept
from findings.checksums import (
    CHECKSUM,
    DEPTH,
    EDITED,
    DamagedError,
    ResultError,
    checked,
    parse_object,
    read_json,
    with_checksum,
)
from findings.documents import ResultFile, document_text, json_text, read_document
from findings.files import check_regular, plain_name

SETTINGS = {"step": 4, "sigma": 0.01}
DOCUMENT: dict[str, Any] = {"settings": SETTINGS, "measures": {"loss": {"value": 0.1, "of": [1, 2.5, -3e-7]}}}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def written(path: Path) -> bytes:
    path.write_bytes(document_text(DOCUMENT))
    return path.read_bytes()


@given(st.dictionaries(st.text(), VALUES))
@settings(deadline=None)
def test_whatever_is_written_is_read_back(document: dict[str, Any]) -> None:
    document.pop(CHECKSUM, None)
    text = json_text(with_checksum(document))
    assert checked(parse_object(text)) == document
    assert checked(parse_object(json.dumps(json.loads(text), indent=7, sort_keys=True))) == document


def test_a_flipped_bit_in_any_byte_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    whole = written(path)
    expected = read_document(path)
    seen = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            assert read_document(path) == expected
        except ResultError:
            seen += 1
    assert seen > 0.9 * len(whole)  # the others are of spaces, or write a number or a letter in another way


def test_every_cut_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    whole = written(path)
    for length in range(len(whole) - 1):  # without its last line's end it is whole
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match=r"row\.json"):
            read_document(path)


def test_a_file_without_a_checksum_is_read_and_shows_what_the_checksum_is_for(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"version": 2, **DOCUMENT}))
    assert read_document(path) == {"version": 2, **DOCUMENT}
    path.write_text(path.read_text().replace("0.1", "0.5"))
    assert read_document(path)["measures"]["loss"]["value"] == 0.5


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "7",
        '"text"',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a":' * 100_000,
        '{"a":' * (DEPTH + 1) + "1" + "}" * (DEPTH + 1),
        '{"a": ' + "[" * 5000 + "]" * 5000 + "}",
        "\ud800".encode("utf-8", "surrogatepass"),
        b"\xff\xfe\x00",
        '{"a": ' + "9" * 5000 + "}",
        '{"checksum": 3}',
        '{"checksum": null, "a": 1}',
        r'{"a": "\ud800"}',
        r'{"\uDFFF": [1]}',
        b'{"a": "\xed\xa0\x80"}',
        r'{"a": "\ud800"}'.encode("utf-16"),
        r'{"a": ["\ude00\ud83d"]}',
    ],
)
def test_any_other_content_is_one_line_that_names_the_file(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DamagedError, match=r"x\.json") as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_letters_in_two_halves_are_letters(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(r'{"a": "\ud83d\ude00", "b": "\\ud800"}')
    assert read_json(path) == {"a": "\U0001f600", "b": "\\ud800"}


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (Path("/dev/zero"), tmp_path / "pipe.json", tmp_path):
        with pytest.raises(ResultError, match="no regular file"):
            read_json(path)
        with pytest.raises(ValueError, match="no regular file"):
            check_regular(path)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/dev/zero", "a/b", "a\\b", ".x", "a\nb", "C:x", None, 3, "a\0"]
)
def test_names_that_lead_elsewhere_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        plain_name(name)


def test_ordinary_names_are_plain() -> None:
    for name in ("weights.safetensors", "sam-rho-0.05-seed-1", "Größe"):
        assert plain_name(name) == name


def test_an_edit_is_refused_until_it_is_accepted_and_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "row.json"
    written(path)
    assert accept.main([str(path)]) == 0
    assert "as it was written" in capsys.readouterr().out
    path.write_text(path.read_text().replace("0.1", "0.5"))
    with pytest.raises(DamagedError, match=r"damaged, or was edited.*python -m findings.accept .*row.json"):
        read_document(path)
    assert accept.main([str(path)]) == 0
    document = read_document(path)
    assert document["measures"]["loss"]["value"] == 0.5
    assert len(document[EDITED]) == 1
    assert accept.main([str(path)]) == 0
    assert read_document(path)[EDITED] == document[EDITED]


def test_what_is_no_document_is_not_accepted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "row.json"
    path.write_text("{")
    assert accept.main([str(path), str(tmp_path / "none.json")]) == 1
    assert capsys.readouterr().err.count("error:") == 2
    assert path.read_text() == "{"


def test_a_damaged_part_is_made_anew_with_a_warning(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "row.json", SETTINGS)
    with file.begun():
        file.keep("loss", {"result": 0.125})
        path = file.work / "loss.json"
        path.write_bytes(path.read_bytes().replace(b"0.125", b"0.135"))
        with pytest.warns(UserWarning, match=r"loss\.json is damaged and made anew"):
            assert file.part("loss") is None
        file.keep("loss", {"result": 0.125})
        part = file.part("loss")
        assert part is not None
        assert part["result"] == 0.125


def test_parts_whose_settings_are_damaged_are_all_made_anew(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "row.json", SETTINGS)
    with file.begun():
        file.keep("loss", {"result": 0.125})
    path = file.work / "settings.json"
    path.write_bytes(path.read_bytes().replace(b"0.01", b"0.02"))
    with pytest.warns(UserWarning, match=r"settings\.json is damaged"), file.begun():
        assert file.part("loss") is None
    with file.begun():
        pass


@pytest.mark.parametrize("change", [lambda text: text.replace(b"0.1", b"0.5"), lambda text: text[:-9]])
def test_a_damaged_result_is_refused_and_kept(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "row.json"
    damaged = change(written(path))
    path.write_bytes(damaged)
    with pytest.raises(DamagedError, match=r"row\.json.*[Rr]emove it"):
        ResultFile(path, SETTINGS).finished()
    assert path.read_bytes() == damaged
