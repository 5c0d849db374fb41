"""What the report writes into a Markdown page: whatever stands between its markers, and nothing else.

`<!-- report:NAME key=value -->` ... `<!-- /report -->` holds a part, such as a table of a study, on lines of its
own. `<!-- n:EXPRESSION -->` ... `<!-- /n -->` holds a number within a sentence (`prose`). `<!-- q:SOURCE -->` ...
`<!-- /q -->` holds what somebody else measured, and is left alone. A number in a sentence that is in none of them
is a mistake: nothing would notice when it became wrong.
"""

import re
from collections.abc import Callable

from mhc_repro.errors import UserError

Part = Callable[[str, dict[str, str]], str]
_MARKER = re.compile(r"<!-- (?:(?P<kind>report|n|q):(?P<what>.*?)|/(?P<end>report|n|q)) -->", re.DOTALL)
_ARGUMENT = re.compile(r"(\w+)=(?:\"([^\"]*)\"|(\S+))")
# what is no prose: fenced code, code in a line, images, links and their targets, comments
_SPARED = re.compile(r"```.*?```|`[^`\n]*`|!?\[[^\]]*\]\([^)]*\)|<[^>]*>", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*\.\d+|\d{1,3}(?:,\d{3})+|\d+ ?%")


def fill(page: str, text: str, part: Part, number: Callable[[str], str]) -> str:
    """Replace what stands between the markers; UserError for one without its pair, or a number outside of them."""
    pieces: list[str] = []
    place, opened = 0, None
    for found in _MARKER.finditer(text):
        if (opened is None) == (found["kind"] is None) or (opened and found["end"] != opened["kind"]):
            line = text.count("\n", 0, found.start()) + 1
            raise UserError(f"{page}:{line}: {found[0]} has no pair; markers open, close, and do not nest")
        if opened is None:
            pieces.append(text[place : found.end()])
            place, opened = found.end(), found
        else:
            pieces.append(_content(opened, text[place : found.start()], part, number))
            place, opened = found.start(), None
    if opened is not None:
        raise UserError(f"{page}: {opened[0]} is not closed; write <!-- /{opened['kind']} --> after it")
    if loose := untraced(text):
        raise UserError(f"{page}:{loose}")
    return "".join([*pieces, text[place:]])


def untraced(text: str) -> str | None:
    """Say where a sentence has a number that is neither generated nor a quotation, None if nowhere."""
    pieces, place, depth = [], 0, 0
    for found in _MARKER.finditer(text):
        pieces.append(text[place : found.start()] if not depth else _blank(text[place : found.start()]))
        place, depth = found.start(), int(found["kind"] is not None)
    prose = _SPARED.sub(lambda spared: _blank(spared[0]), "".join([*pieces, text[place:]]))
    found_number = _NUMBER.search(prose)
    if found_number is None:
        return None
    line = prose.count("\n", 0, found_number.start()) + 1
    return (
        f"{line}: {found_number[0]} comes from nowhere; generate it, <!-- n:EXPRESSION --><!-- /n -->, "
        "or quote it, <!-- q:SOURCE --> ... <!-- /q -->"
    )


def _content(opened: re.Match[str], old: str, part: Part, number: Callable[[str], str]) -> str:
    if opened["kind"] == "q":
        return old
    if opened["kind"] == "n":
        return number(opened["what"])
    name, _, arguments = opened["what"].partition(" ")
    return f"\n{part(name, {key: a or b for key, a, b in _ARGUMENT.findall(arguments)})}\n"


def _blank(text: str) -> str:
    return "\n" * text.count("\n")
