import pytest

from mhc_repro.analysis import readme
from mhc_repro.errors import UserError

TEXT = "# Title\n<!-- report:a -->old\n<!-- /report -->\nprose\n<!-- report:b --><!-- /report --> end\n"


def test_fill_writes_between_the_markers_only() -> None:
    assert readme.fill(TEXT, {"a": "new", "b": "x"}) == (
        "# Title\n<!-- report:a -->\nnew\n<!-- /report -->\nprose\n<!-- report:b -->\nx\n<!-- /report --> end\n"
    )


def test_filling_twice_is_filling_once() -> None:
    once = readme.fill(TEXT, {"a": "new", "b": "x"})
    assert readme.fill(once, {"a": "new", "b": "x"}) == once
    assert readme.fill("no markers", {}) == "no markers"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- report:c --><!-- /report -->", "no part is called 'c'; there are a, b"),
        ("<!-- report:a -->", "<!-- report:a --> is not closed"),
        ("\n<!-- report:a --><!-- report:b --><!-- /report -->", "<!-- report:b --> in line 2 has no pair"),
        ("<!-- /report -->", "<!-- /report --> in line 1 has no pair"),
    ],
)
def test_a_broken_marker_is_named_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("<!-- ", ".*").replace("?", ".")) as error:
        readme.fill(text, {"a": "", "b": ""})
    assert "\n" not in str(error.value)
