"""A mistake is told in one line, and nothing else is printed."""

import pytest


def assert_one_line(capsys: pytest.CaptureFixture, *said: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "HYDRA_FULL_ERROR" not in err
    for words in said:
        assert words in err
