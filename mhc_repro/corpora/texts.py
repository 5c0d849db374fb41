"""What is known of each text before it is opened, and how each is cut into splits."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Text:
    """Hash and size of a text."""

    sha256: str  # of its bytes
    symbols: int
    held_out: int  # of its symbols, in the validation and in the test split


ENWIK8 = "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
TEXTS = {
    "enwik8": Text(ENWIK8, 256, 5_000_000),
    "enwik8_characters": Text(ENWIK8, 6064, 4_981_092),
    "synthetic": Text("defcfbf57cd8ca9658ea959c06fefbc5a21742a2e96c4997903b752061a0a330", 256, 300_000),
}
GIVEN = ("text", "tokens")  # what a person brings (corpora/given.py)


def cut(text: Any) -> tuple[Any, Any, Any]:
    """Cut a text into train, val and test: the first 90 %, the next 5 %, the last 5 %."""
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    return text[:first], text[first:second], text[second:]
