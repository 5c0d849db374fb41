"""What is written for a person reads as one would write it."""

import pytest

from mhc_repro import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3599, "1 h 0 min"),
        (6840, "1 h 54 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_durations(value, text):
    assert words.duration(value) == text
