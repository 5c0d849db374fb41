"""The one exception that stands for a mistake of the user's, its words, and how much is kept of other errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCREEN, WIDTH, LINE = 40, 160, 300  # lines, characters of each; characters of a single line


class UserError(Exception):
    """Say in one line the value, what is allowed, and the override that fixes it."""


def unusable(file: Path, why: str) -> UserError:
    """Return the error for a file of the checkout that does not hold what it should."""
    return UserError(f"{file}: {why}; mend it, or git checkout {file}")


def assignment(key: str, value: Any) -> str:
    """Write an override as one would type it."""
    return f"{key}={_typed(value)}"


def _typed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_typed(each)}' for key, each in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_typed, value))}]"
    return str(value)


def one_line(text: object) -> str:
    """Return a text as one line, cut where it is long."""
    joined = " ".join(str(text).split())
    return joined if len(joined) <= LINE else f"{joined[: LINE - 4]} ..."


def screenful(text: str) -> str:
    """Return the beginning and the end of a text that may have thousands of lines, such as a compiler's."""
    lines = [line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ..." for line in text.splitlines()]
    if len(lines) > SCREEN:
        head, tail = SCREEN // 4, SCREEN - SCREEN // 4 - 1
        lines[head:-tail] = [f"... {len(lines) - head - tail} lines left out ..."]
    return "\n".join(lines)
