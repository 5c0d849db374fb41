"""The parts of the README that the report writes: whatever stands between its markers, and nothing else.

A part opens with `<!-- report:NAME -->` and closes with `<!-- /report -->`.
"""

import re
from collections.abc import Mapping

from mhc_repro.errors import UserError

_MARKER = re.compile(r"<!-- (?:report:(?P<name>\S+)|/report) -->")


def fill(text: str, parts: Mapping[str, str]) -> str:
    """Replace what stands between the markers; UserError for an unknown name or a marker without its pair."""
    pieces, place, name = [], 0, None
    for found in _MARKER.finditer(text):
        if (name is None) == (found["name"] is None):
            unpaired = f"{found[0]} in line {text.count(chr(10), 0, found.start()) + 1}"
            raise UserError(
                f"README.md: {unpaired} has no pair; write <!-- report:NAME --> ... <!-- /report -->"
            )
        if found["name"] is None:
            pieces.append(f"\n{parts[str(name)]}\n")
            place, name = found.start(), None
        else:
            name = found["name"]
            if name not in parts:
                raise UserError(f"README.md: no part is called {name!r}; there are {', '.join(parts)}")
            pieces.append(text[place : found.end()])
    if name is not None:
        raise UserError(f"README.md: <!-- report:{name} --> is not closed; write <!-- /report --> after it")
    return "".join([*pieces, text[place:]])
