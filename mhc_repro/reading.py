"""Files that others may have written, edited or damaged, read as what they should hold: the one door for all.

What does not fit is Unfit, in one line that names the field and what was expected there.
"""

import json
import stat
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml
from yaml.composer import Composer

T = TypeVar("T")
# what PyYAML raises where a value is not what its tag says, and json where it is nothing that JSON has
OF_TAGS = (ValueError, TypeError, LookupError, AttributeError)


class Unfit(ValueError):
    """What does not fit in a file, in one line without its name."""


def read(path: Path) -> bytes:
    """Return the bytes of a file; FileNotFoundError, or Unfit where it is no file or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unfit("not a file")  # and opening a pipe would wait for whoever writes it
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unfit(error.strerror or str(error)) from None


def from_json(content: bytes) -> Any:
    """Return the value that a JSON text stands for; Unfit where it is none."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Unfit(_why(error)) from None


def from_yaml(content: bytes, texts: bool = False) -> Any:
    """Return the value that a YAML text stands for, of what JSON has; Unfit where it is none.

    `texts`: every number and word as the text that it is written as: 25.40 is not 25.4.
    """
    try:
        value = yaml.load(content, _Texts if texts else _Loader)
        json.dumps(value, ensure_ascii=False).encode()  # no dates, no halves of characters
    except (yaml.YAMLError, *OF_TAGS, RecursionError) as error:
        raise Unfit(_why(error)) from None
    return value


def fit(value: Any, kind: type[T]) -> T:
    """Return `value` as a `kind`, any type that msgspec knows; Unfit with the field that does not fit."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        fault, _, place = _why(error).replace("`", "").partition(" - at ")
        fault = f"{fault[0].lower()}{fault[1:]}".replace("object missing required field", "lacks")
        place = place.replace("key in $", "a key").removeprefix("$").removeprefix(".")
        if place.startswith("[...]") and len(value) > 1:  # msgspec does not say which
            for key, each in value.items():
                fit({key: each}, kind)
        if place.startswith("[...]"):
            place = f"{next(iter(value))}{place.removeprefix('[...]')}"
        raise Unfit(f"{place}: {fault}" if place else fault) from None


def _why(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())


class _Plain(Composer):
    """Read no aliases: with a few of them a file of a line is endless, or more than any memory holds."""

    def __init__(self, content: bytes) -> None:
        super(Composer, self).__init__(content)  # type: ignore[call-arg]  # of the other base
        Composer.__init__(self)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            raise yaml.YAMLError("an alias (*), to be written out")
        return super().compose_node(parent, index)


# libyaml's parser, since it takes a tenth of the time, under Python's composer, since libyaml's own crashes the
# interpreter where lists are nested a hundred thousand deep.
class _Loader(_Plain, yaml.CSafeLoader):
    pass


class _Texts(_Plain, yaml.CBaseLoader):
    pass
