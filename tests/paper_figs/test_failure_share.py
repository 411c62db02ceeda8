"""The shares of violated instances."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paper_figs.figures import failure_share


@pytest.fixture
def data(data_of: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return data_of("failure_share")


def test_no_failure_where_the_product_is_at_least_one(data: dict[str, Any]) -> None:
    assert data["product_at_least_1"]["failures"] == 0
    assert data["product_at_least_1"]["instances"] > 1000
    bins = data["against_product"]["random"]
    assert all(share == 0 for share, low in zip(bins["share"], bins["from"], strict=True) if low >= 1 - 1e-9)


def test_failures_become_common_as_the_product_falls(data: dict[str, Any]) -> None:
    bins = data["against_product"]["random"]
    first = 0
    last = bins["from"].index(max(low for low in bins["from"] if low < 1 - 1e-9))
    # 95 % intervals that do not touch: more than two standard errors of each apart
    assert bins["low"][first] > bins["high"][last]


def test_failures_become_common_as_the_ball_grows(data: dict[str, Any]) -> None:
    for name in ("worst", "ball"):
        bins = data["against_rho"][name]
        assert bins["low"][-1] > bins["high"][0]


def test_the_weaker_reading_fails_less_often(data: dict[str, Any]) -> None:
    """The largest right side over the ball is at least the one at the worst delta, instance by instance."""
    rho = data["against_rho"]
    assert all(ball <= worst for ball, worst in zip(rho["ball"]["share"], rho["worst"]["share"], strict=True))
    assert sum(rho["ball"]["instances"]) == data["instances"]


def test_shares_and_intervals() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 2.0])
    failed = np.array([True, False, False, True, False, True])
    bins = failure_share.shares(values, failed, np.array([0.0, 0.5, 1.0, 1.5]))
    assert bins["instances"] == [4, 1]  # 2.0 lies in no bin, and no value in the third
    assert bins["share"] == [0.5, 0.0]
    # no failure in one: the upper end solves (1 - q) = 0.025
    assert bins["low"][1] == 0
    assert bins["high"][1] == pytest.approx(0.975, rel=1e-12)
    # two in four: the incomplete beta function's quantiles, tabulated as 6.76 % to 93.24 %
    assert bins["low"][0] == pytest.approx(0.0676, abs=5e-5)
    assert bins["high"][0] == pytest.approx(0.9324, abs=5e-5)


def test_instances_follow_from_their_seeds() -> None:
    assert failure_share.instance(7) == failure_share.instance(7)
    assert failure_share.instance(7) != failure_share.instance(8)
