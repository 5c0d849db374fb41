"""Digits that can be read, ranges where the values span orders of magnitude, no sign on what rounds to zero."""

import pytest

from mhc_repro.analysis import printed

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0], "1.000"),
        ([1.00000012], "1.000"),
        ([51.2], "51.20"),
        ([871.04], "871.0"),
        ([10924.0], "10,924"),
        ([3.2e7], "3.20e+07"),
        ([0.0], "0.000"),
        ([NAN], "–"),
        ([], "–"),
        ([INF, 2.0, 3.0], "inf / 2.000 / 3.000"),
    ],
)
def test_digits(values, text):
    assert printed.cell(values) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([30.0, 60.0], "30.00 / 60.00"),
        ([400.0, 20.0, 70.0], "70.00 (20.00 to 400.0)"),  # a symmetric interval would reach below zero
        ([1.0, 1.0, 1.0], "1.000"),
        ([1.0, 4.0, 2.0, 8.0], "3.000 (1.000 to 8.000)"),
        ([2e-4, 2e-4, 4e-4], "2.00e-04 (2.00e-04 to 4.00e-04)"),
        ([2.0, NAN, INF, 1.0], "2.000 (1.000 to inf) (3 of 4)"),
        ([NAN], "–"),
    ],
)
def test_what_spans_orders_of_magnitude_has_a_range(values, text):
    assert printed.ranged(values) == text


@pytest.mark.parametrize("decimals", [None, 0, 1, 3])
def test_what_rounds_to_zero_has_no_sign(decimals):
    for value in (-0.0, *([] if decimals is None else [-0.4 * 10**-decimals])):
        assert printed.number(value, decimals) == printed.number(0.0, decimals)
    least = 6 * 10 ** -(4 if decimals is None else decimals + 1)
    assert printed.number(-least, decimals) == f"-{printed.number(least, decimals)}"
    assert printed.cell([-4e-4, -4e-4, -4e-4], 3) == "0.000 ± 0.000"
