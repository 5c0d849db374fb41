"""How things are written for a person: an override, a time, and no more of a long text than can be read."""

from collections.abc import Mapping, Sequence
from typing import Any

SCREEN, WIDTH, LINE = 40, 160, 300  # lines, characters of each; characters of a single line


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


def duration(seconds: float) -> str:
    """Return a time for reading, such as `40 s`, `6 min` or `1 h 54 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


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
