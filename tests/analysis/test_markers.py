"""Only what stands between markers is written, and no number in a sentence stands outside of them."""

import pytest

from mhc_repro.analysis import markers
from mhc_repro.errors import UserError

TEXT = (
    "# Title\n<!-- report:a -->old\n<!-- /report -->\n"
    "Here <!-- n:x of y -->9.9<!-- /n --> of <!-- q:us -->1.5<!-- /q -->\n"
)


def fill(text: str) -> str:
    return markers.fill(
        "page.md", text, lambda name, given: f"{name}{given or ''}", lambda asked: f"[{asked}]"
    )


def test_fill_writes_between_the_markers_only():
    assert fill(TEXT) == (
        "# Title\n<!-- report:a -->\na\n<!-- /report -->\nHere <!-- n:x of y -->[x of y]<!-- /n --> of "
        "<!-- q:us -->1.5<!-- /q -->\n"
    )
    assert fill('<!-- report:a study=s name="two words" --><!-- /report -->').splitlines()[1] == (
        "a{'study': 's', 'name': 'two words'}"
    )


def test_filling_twice_is_filling_once():
    assert fill(fill(TEXT)) == fill(TEXT)
    assert fill("no markers") == "no markers"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n<!-- report:a -->", "page.md:2: <!-- report:a --> has no pair; markers open, close"),
        ("\n<!-- n:a --><!-- report:b --><!-- /report -->", "page.md:2: <!-- n:a --> has no pair"),
        ("<!-- n:a -->\n<!-- q:b -->1.5<!-- /q --><!-- /n -->", "page.md:2: <!-- q:b --> has no pair"),
        ("<!-- /n -->", "page.md:1: <!-- /n --> has no pair"),
        ("<!-- n:a --><!-- /report -->", "page.md:1: <!-- n:a --> has no pair"),
    ],
)
def test_a_broken_marker_is_named_in_one_line(text, message):
    with pytest.raises(UserError, match=message) as error:
        fill(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["0.21", "-0.5", "5,820", "62 %", "15%", "1,234.5"])
def test_a_number_in_a_sentence_has_to_come_from_somewhere(number):
    text = f"{TEXT}\nHC gains {number} bits.\n"
    assert (markers.untraced(text) or "").startswith(f"6: {number} comes from nowhere")
    with pytest.raises(UserError, match=f"page.md:6: {number} comes"):
        fill(text)
    for marked in (f"<!-- n:it -->{number}<!-- /n -->", f"<!-- q:a paper -->{number}<!-- /q -->"):
        assert markers.untraced(f"HC gains {marked} bits.") is None


@pytest.mark.parametrize(
    "text",
    [
        "two seeds, 16 sub-layers, 27B parameters, 2026-11-28, a rate of 3e-3",
        "`python3.11`, [arXiv 2512.24880](https://arxiv.org/abs/2512.24880) and ![0.5](a0.5.svg)",
        "```\nx = 0.5\n```",
    ],
)
def test_what_is_no_measured_number_is_spared(text):
    assert markers.untraced(text) is None
