"""Generated command lines: each is refused in one line that names the setting, or trains."""

from itertools import islice
from pathlib import Path

import wrong_overrides


def test_a_generated_command_line_is_refused_in_one_line_or_trains(tmp_path: Path) -> None:
    with wrong_overrides.workshop(tmp_path):
        tried = list(islice(wrong_overrides.command_lines(seed=0), 60))
        ended = [(wrong_overrides.outcome(argv, key), argv) for argv, key in tried]
    assert not [each for each in ended if each[0] not in ("refused", "trained")]
    assert {ending for ending, _ in ended} == {"refused", "trained"}
