"""Result files as somebody might send them: texts that would act on a page, in every place where one can stand."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HOSTILE = (
    "<script>document.title = 'acted'</script>",
    "<img src=x onerror=\"document.title = 'acted'\"><iframe src='https://acted.example/'></iframe>",
    '"><a href="javascript:document.title=\'acted\'">x</a><style>body { display: none }</style>',
    "'-->]]></script></style></math><svg onload=\"document.title='acted'\"><link rel=stylesheet href=//acted.example/>",
)
"""What must arrive as text."""
FORMULAS = (
    r"\style{position:fixed;inset:0;background:url(https://acted.example/)}{x}",
    r"\href{https://acted.example/}{x}",
    r"\href{javascript:alert(1)}{x}",
    r"\class{acted}{x}",
    r"\color{red}{x}",
    r"\textcolor{url(x)}{x}",
    r"\rule{999cm}{999cm}",
    r"\hspace{9999cm}",
    r"\fbox{x}",
    "x" * 5000,
)
"""More than formulas."""


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a document has texts."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        if isinstance(inner, str):
            yield (*where, key)
        yield from places(inner, (*where, key))


def changed(document: dict[str, Any], where: tuple[Any, ...], text: str) -> dict[str, Any]:
    """The document with another text in one place."""
    copied = copy.deepcopy(document)
    inner: Any = copied
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = text
    return copied


def renamed(value: Any, old: str, new: str) -> Any:
    """A document with another text for an old one, as a value and as a key, so that what refers to it still does."""
    if isinstance(value, dict):
        return {(new if key == old else key): renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, old, new) for item in value]
    return new if isinstance(value, str) and value == old else value


def everywhere(file: Path, document: dict[str, Any], read: Callable[[], object]) -> float:
    """Write the document with a hostile text in each place where what reads it takes one.

    Args:
        file: that is written.
        document: as it should be.
        read: reads the file; ValueError where it will not have it.

    Returns:
        The share of places that were refused.
    """
    fields, refused = list(places(document)), 0
    for place, where in enumerate(fields):
        candidate = changed(document, where, HOSTILE[place % len(HOSTILE)])
        file.write_text(json.dumps(candidate))
        try:
            read()
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
            continue
        document = candidate
    file.write_text(json.dumps(document))
    return refused / len(fields)
