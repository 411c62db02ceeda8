"""W and b reduced to the few directions that the worst case can use.

Every top eigenvector of (1-l) W^T W + l b b^T, 0 < l <= 1, lies in the Krylov space of W^T W from b; at l = 0 it is
W's top right singular vector. A block Krylov space from b and random vectors approaches all of them, the random ones
for the top vectors that b hardly sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy import linalg

BLOCK = 4
"""Columns of a block. One pass over W costs its memory traffic, whatever the few columns are that it multiplies."""
CHECK_EVERY = 5
TOLERANCE = 1e-12
"""Relative change of the value over CHECK_EVERY blocks at which the space is large enough; seen twice in a row."""
MOST_COLUMNS = 1200


class Reduced(NamedTuple):
    """The problem in an orthonormal basis (m, r): W @ basis has singular values s, and b = basis @ beta."""

    s: ndarray
    beta: ndarray
    basis: ndarray


def reduced_problem(W: ndarray, b: ndarray, largest_dense: int, value: Callable[[ndarray, ndarray], float]) -> Reduced:
    """W's right singular basis completed by b's part outside it, or a Krylov space when min(d, m) > largest_dense.

    Args:
        W: (d, m).
        b: (m,).
        largest_dense: where the dense decomposition ends.
        value: of (s, beta); its convergence decides how far the Krylov space is grown.
    """
    return dense(W, b) if min(W.shape) <= largest_dense else krylov(W, b, value)


def dense(W: ndarray, b: ndarray) -> Reduced:
    """All right singular vectors of W with s > 0 up to rounding, and the direction of b outside them."""
    m = W.shape[1]
    _, s, right = linalg.svd(W, full_matrices=False)
    beta = right @ b
    rest = b - right.T @ beta
    rest -= right.T @ (right @ rest)  # twice is enough
    outside = linalg.norm(rest)
    if outside <= 1e-14 * linalg.norm(b) or right.shape[0] == m:
        return Reduced(s, beta, right.T)
    return Reduced(np.append(s, 0.0), np.append(beta, outside), np.column_stack([right.T, rest / outside]))


def _orthonormalised(block: ndarray, basis: ndarray) -> ndarray:
    """The block's columns orthonormalised against the basis and each other; dependent ones are dropped."""
    before = np.linalg.norm(block, axis=0)
    for _ in range(2):
        block = block - basis @ (basis.T @ block)
    block = block[:, np.linalg.norm(block, axis=0) > 1e-12 * np.where(before > 0, before, 1)]
    if block.shape[1] == 0:
        return block
    q, r, _ = linalg.qr(block, mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(r))
    q = q[:, diagonal > 1e-12 * diagonal[0]]
    q = q - basis @ (basis.T @ q)
    return linalg.qr(q, mode="economic")[0]


def krylov(W: ndarray, b: ndarray, value: Callable[[ndarray, ndarray], float]) -> Reduced:
    """The problem in a block Krylov space from b and random vectors (fixed seed), grown until `value` settles."""
    m = W.shape[1]
    start = np.random.default_rng(0).standard_normal((m, BLOCK))
    if np.any(b):
        start[:, 0] = b
    basis = np.empty((m, 0))
    images = np.empty((W.shape[0], 0))
    block = _orthonormalised(start, basis)
    last, settled, blocks = np.nan, 0, 0
    while True:
        basis = np.column_stack([basis, block])
        image = W @ block
        images = np.column_stack([images, image])
        blocks += 1
        full = basis.shape[1] >= min(m, MOST_COLUMNS)
        if blocks % CHECK_EVERY == 0 or full:
            reduced = _rotated(basis, images, b)
            now = value(reduced.s, reduced.beta)
            settled = settled + 1 if now == last or abs(now - last) <= TOLERANCE * abs(now) else 0
            if settled == 2 or full:
                return reduced
            last = now
        block = _orthonormalised(W.T @ image, basis)
        if block.shape[1] == 0:  # the space is invariant: nothing is missing from it
            return _rotated(basis, images, b)


def _rotated(basis: ndarray, images: ndarray, b: ndarray) -> Reduced:
    squares, rotation = linalg.eigh(images.T @ images)
    rotated = basis @ rotation
    return Reduced(np.sqrt(np.maximum(squares, 0.0)), rotated.T @ b, rotated)
