"""What a setting may hold, in words and as a test: the schema says it beside each field."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mhc_repro.paths import expanded, nearest


@dataclass(frozen=True)
class Rule:
    """What a field may hold: `allowed` in words, `test` of a value of the field's type."""

    allowed: str
    test: Callable[[Any], bool]

    def holds(self, value: Any) -> bool:
        """Say whether a value may be held."""
        try:
            return self.test(value)
        except (TypeError, ValueError, OSError):  # a list in a list, a path that is too long
            return False


def at_least(low: float) -> Rule:
    """A finite number from `low` on."""
    return Rule(f"{low} or more", lambda value: low <= value < math.inf)


def within(low: float, high: float) -> Rule:
    """A number from `low` to `high`, both allowed."""
    return Rule(f"from {low} to {high}", lambda value: low <= value <= high)


def one_of(*choices: str) -> Rule:
    """One of some words."""
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices)


def some_of(*choices: str) -> Rule:
    """A list of some of these words."""
    return Rule(
        f"a list of some of {', '.join(choices)}, each once",
        lambda value: set(value) <= set(choices) and len(set(value)) == len(value),
    )


def pair(each: Rule) -> Rule:
    """Two values under one rule."""
    return Rule(
        f"two numbers, each {each.allowed}", lambda value: len(value) == 2 and all(map(each.holds, value))
    )


def or_null(rule: Rule) -> Rule:
    """A value under a rule, or none."""
    return Rule(f"null, or {rule.allowed}", lambda value: value is None or rule.holds(value))


def folder(place: Callable[[str], Path] = expanded) -> Rule:
    """A folder that there is or could be."""

    def is_folder(text: str) -> bool:
        path = place(text).absolute()
        return text != "" and nearest(path).is_dir()

    return Rule("a folder", is_folder)


def _is_name(text: str) -> bool:
    # No separators, no leading dot, nothing to quote, and what YAML reads as it is written: `no` is False there.
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", text)
    return plain is not None and isinstance(yaml.safe_load(text), str)


DEVICE = Rule(
    "auto, cpu, mps, cuda or cuda:<number>",
    lambda value: bool(re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value)),
)
FINITE = Rule("finite", math.isfinite)
POSITIVE = Rule("more than 0 and finite", lambda value: 0 < value < math.inf)
SIZE = within(1, 2**20)
BELOW_ONE = Rule("0 or more and less than 1", lambda value: 0 <= value < 1)
NAME = Rule(
    "a plain name of letters, digits and . _ + -, no number or date, not yes, no, true or false", _is_name
)
EXISTS = Rule("a file or folder that exists", lambda path: expanded(path).exists())
FILE = Rule("a file that exists", lambda path: expanded(path).is_file())
