"""A table as text, in Markdown."""

import pandas as pd
import pytest

from mhc_repro.analysis.tables import cells


def test_markdown_escapes_and_aligns():
    lines = cells.markdown(pd.DataFrame({"arm": ["a|b"], "min": ["–"], "status": ["ok"]})).splitlines()
    assert lines[1].replace("-", "") == "|:|:|:|"
    assert lines[2] == "| a\\|b  |     – | ok       |"


def test_a_table_that_is_not_aligned_says_the_same_in_fewer_bytes():
    frame = pd.DataFrame({"arm": ["a", "a long name"], "a long head": ["-0.1 ± 2", "–"]})
    short = "| arm | a long head |\n|:--|--:|\n| a | -0.1 ± 2 |\n| a long name | – |"
    assert cells.markdown(frame, aligned=False) == short


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            ["3.500 ± 0.248", "3.400 (val)", "inf / 2.000", "≥ 0.003", "≈ 1.6", "-4", "+1,234", "3e-2 alone"],
            False,
        ),
        (["–", "", "– (×2)", "12"], False),
        (["–"], False),
        (["2.5", "mHC < HC < baseline"], True),
        (["–", "off the constraint"], True),
        (["information"], True),
        (["`4791c0d`", "`1234567`"], True),
    ],
)
def test_a_column_holds_words_where_a_cell_begins_as_no_number_does(column, words):
    assert cells.words(column) == words
