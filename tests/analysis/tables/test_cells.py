"""A table as text, in Markdown."""

import pandas as pd

from mhc_repro.analysis.tables import cells


def test_markdown_escapes_and_aligns():
    lines = cells.markdown(pd.DataFrame({"arm": ["a|b"], "min": ["–"], "status": ["ok"]})).splitlines()
    assert lines[1].replace("-", "") == "|:|:|:|"
    assert lines[2] == "| a\\|b  |     – | ok       |"


def test_a_table_that_is_not_aligned_says_the_same_in_fewer_bytes():
    frame = pd.DataFrame({"arm": ["a", "a long name"], "a long head": ["-0.1 ± 2", "–"]})
    short = "| arm | a long head |\n|:--|--:|\n| a | -0.1 ± 2 |\n| a long name | – |"
    assert cells.markdown(frame, aligned=False) == short
