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
_MARKER = re.compile(r"<!-- (?:report:|n:|q:|/).*? -->", re.DOTALL)
_PAIR = re.compile(
    r"(?P<open><!-- (?P<kind>report|n|q):(?P<what>.*?) -->)(?P<old>.*?)(?P<close><!-- /(?P=kind) -->)",
    re.DOTALL,
)
_ARGUMENT = re.compile(r"(\w+)=(?:\"([^\"]*)\"|(\S+))")
# what is no prose: fenced code, code in a line, images, links and their targets, comments
_SPARED = re.compile(r"```.*?```|`[^`\n]*`|!?\[[^\]]*\]\([^)]*\)|<[^>]*>", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*\.\d+|\d{1,3}(?:,\d{3})+|\d+ ?%")


def fill(page: str, text: str, part: Part, number: Callable[[str], str]) -> str:
    """Replace what stands between the markers; UserError for one without its pair, or a number outside of them."""
    unmarked = _PAIR.sub(lambda pair: _blank(pair["open"]) + pair["old"] + _blank(pair["close"]), text)
    if stray := _MARKER.search(unmarked):
        where = f"{page}:{_line(stray)}"
        raise UserError(f"{where}: {stray[0]} has no pair; markers open, close, and do not nest")
    if loose := untraced(text):
        raise UserError(f"{page}:{loose}")
    return _PAIR.sub(lambda pair: f"{pair['open']}{_content(pair, part, number)}{pair['close']}", text)


def untraced(text: str) -> str | None:
    """Say where a sentence has a number that is neither generated nor a quotation, None if nowhere."""
    prose = _PAIR.sub(lambda pair: _blank(pair[0]), text)
    found = _NUMBER.search(_SPARED.sub(lambda spared: _blank(spared[0]), prose))
    return found and (
        f"{_line(found)}: {found[0]} comes from nowhere; generate it, <!-- n:EXPRESSION --><!-- /n -->, "
        "or quote it, <!-- q:SOURCE --> ... <!-- /q -->"
    )


def _content(pair: re.Match[str], part: Part, number: Callable[[str], str]) -> str:
    if pair["kind"] == "q":
        return pair["old"]
    if pair["kind"] == "n":
        return number(pair["what"])
    name, _, arguments = pair["what"].partition(" ")
    return f"\n{part(name, {key: a or b for key, a, b in _ARGUMENT.findall(arguments)})}\n"


def _line(found: re.Match[str]) -> int:
    return found.string.count("\n", 0, found.start()) + 1


def _blank(text: str) -> str:
    return "\n" * text.count("\n")
