"""Names of rows are made and read back in one place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from findings import names
from findings.names import AVERAGES, METHODS, NINE, RowName

ROWS = st.builds(
    RowName,
    st.sampled_from(METHODS),
    st.sampled_from(AVERAGES),
    st.none() | st.floats(1e-6, 1e3).map(lambda rho: float(f"{rho:g}")),
)


@given(row=ROWS)
@settings(deadline=None)
def test_a_name_says_its_fields(row: RowName) -> None:
    assert RowName.of(str(row)) == row
    assert RowName.of(row.of_method) == RowName(row.method, row.average)


def test_names_are_as_tables_write_them() -> None:
    assert str(RowName("sam", "ema", 0.01)) == "sam rho=0.01+ema"
    assert str(RowName("ip+sam", "swa")) == "ip+sam+swa"
    assert RowName.of("ip+sam") == RowName("ip+sam")
    assert NINE == ("adm", "adm+ema", "adm+swa", "ip", "ip+ema", "ip+swa", "sam", "sam+ema", "sam+swa")
    assert [str(RowName.of(name)) for name in NINE] == list(NINE)


@pytest.mark.parametrize("name", ["", "+ema", "sam rho=", "sam rho=x", "sam rho=0.10"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="row is"):
        RowName.of(name)


def test_the_order_is_the_papers_with_the_largest_radius_first() -> None:
    rows = [RowName("sam", "raw", 0.01), RowName("sam", "ema", 0.1), RowName("adm", "swa"), RowName("sam", "raw", 0.1)]
    assert [str(row) for row in sorted(rows, key=lambda row: row.order)] == [
        "adm+swa", "sam rho=0.1", "sam rho=0.1+ema", "sam rho=0.01",
    ]  # fmt: skip


def test_measures_are_named_by_what_they_are_of() -> None:
    assert names.distance(20) == "frechet-20-32"
    assert names.distance(20, 8) == "frechet-20-8"
    assert names.floor(100) == "frechet-floor-100"
    assert (names.exposure(20), names.quantization(4), names.low_pass("layer")) == (
        "exposure-20", "quantization-4", "lpf-layer",
    )  # fmt: skip


@pytest.mark.parametrize(("identifier", "group"), [("B5p-ffhq-20", "B5"), ("P10a", "P10"), ("L1a", "L1"), ("B7", "B7")])
def test_the_group_of_an_identifier(identifier: str, group: str) -> None:
    assert names.group_of(identifier) == group


@pytest.mark.parametrize("identifier", ["", "b5", "B", "5B"])
def test_an_identifier_of_another_form_is_refused(identifier: str) -> None:
    with pytest.raises(ValueError, match="identifier is"):
        names.group_of(identifier)
