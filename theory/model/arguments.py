"""Checks of arguments, made where they enter: one ValueError that names the argument, its value and what is allowed."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from typing import Any

import numpy as np

LARGEST = 1e60
"""Largest magnitude accepted. Fourth-order products of entries, the highest order formed here, then stay finite."""

LARGEST_COUNT = 2**53
"""Largest whole number accepted: up to here every one is a float of its own."""


def refuse(name: str, value: object, allowed: str) -> ValueError:
    """The error that names an argument, its value and what is allowed, for the caller to raise."""
    try:
        shown = reprlib.repr(value)
    except Exception:  # a broken __repr__ must not hide the message
        shown = f"<{type(value).__name__}>"
    return ValueError(f"{name} is {shown}; allowed: {allowed}")


def _as_real_array(name: str, value: object, allowed: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":  # no booleans, complex numbers, strings or objects
            raise refuse(name, value, allowed)
        array = np.asarray(array, dtype=np.float64)
    except ValueError as error:
        raise refuse(name, value, allowed) from error
    except Exception as error:
        raise refuse(name, value, allowed) from error
    # min and max see NaN and infinities too, and need no temporary the size of the array
    if array.size and not (array.min() >= -LARGEST and array.max() <= LARGEST):
        raise ValueError(
            f"{name} has entries that are not finite or exceed {LARGEST:g} in magnitude; allowed: {allowed}"
        )
    return array


def matrix(name: str, value: object, rows: int | None = None, columns: int | None = None) -> np.ndarray:
    """A finite, non-empty float64 matrix of the given shape; None leaves a side free.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    shape = f"({'any' if rows is None else rows}, {'any' if columns is None else columns})"
    allowed = f"a matrix of finite real numbers of shape {shape}, no side empty"
    array = _as_real_array(name, value, allowed)
    fits = array.ndim == 2 and 0 not in array.shape
    fits = fits and (rows is None or array.shape[0] == rows) and (columns is None or array.shape[1] == columns)
    if not fits:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {allowed}")
    return array


def vector(name: str, value: object, length: int | None = None) -> np.ndarray:
    """A finite, non-empty float64 vector of the given length; None leaves it free.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    allowed = f"a vector of finite real numbers of length {'at least 1' if length is None else length}"
    array = _as_real_array(name, value, allowed)
    if array.ndim != 1 or array.size == 0 or (length is not None and array.size != length):
        raise ValueError(f"{name} has shape {array.shape}; allowed: {allowed}")
    return array


def points(name: str, value: object, dimension: int) -> np.ndarray:
    """Finite float64 points of shape (..., dimension), at least one of them.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    allowed = f"points of finite real numbers, of shape (..., {dimension})"
    array = _as_real_array(name, value, allowed)
    if array.ndim < 1 or array.shape[-1] != dimension or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {allowed}")
    return array


def numbers(name: str, value: object, *, at_least: float | None = None) -> np.ndarray:
    """Finite float64 numbers of any shape, at least one of them, optionally at least a bound.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    allowed = "a finite real number or an array of them" + (f", at least {at_least:g}" if at_least is not None else "")
    array = _as_real_array(name, value, allowed)
    if array.size == 0 or (at_least is not None and not array.min() >= at_least):
        raise refuse(name, value, allowed)
    return array


def scalar(name: str, value: object, *, above: float | None = None, at_least: float | None = None) -> float:
    """A finite float, optionally above or at least a bound.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    allowed = "a finite real number"
    allowed += f" greater than {above:g}" if above is not None else ""
    allowed += f" of at least {at_least:g}" if at_least is not None else ""
    array = _as_real_array(name, value, allowed)
    if array.ndim != 0:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {allowed}")
    number = float(array)
    if (above is not None and not number > above) or (at_least is not None and not number >= at_least):
        raise refuse(name, value, allowed)
    return number


def count(name: str, value: object, at_least: int = 1) -> int:
    """A whole number of at least the given size.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    allowed = f"a whole number of at least {at_least}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise refuse(name, value, allowed)
    if value > LARGEST_COUNT:
        raise refuse(name, value, f"{allowed} and at most {LARGEST_COUNT}")
    return int(value)


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """One of the allowed names.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        raise refuse(name, value, "one of " + ", ".join(repr(a) for a in allowed))
    return value
