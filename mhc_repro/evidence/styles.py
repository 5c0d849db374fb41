"""How an arm is named and drawn, and where it stands among the others: by its file, or by its name alone.

The main arms have Okabe-Ito colours, which the colour-blind can tell apart; dashes and markers differ too, so that
a grey print still reads. No matplotlib here: tables and lists on a terminal need none.
"""

import hashlib
from colorsys import hls_to_rgb
from dataclasses import dataclass
from typing import Any

from mhc_repro import arm_files
from mhc_repro.arm_files import LINES

BASELINE = "baseline"
OTHER_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7")  # of what is no arm; no arm has one of these
# Of arms that say nothing about themselves, and of variants: gold to green, and magenta, since black, orange, blue
# and blue-green are those of the main arms, which stand beside them.
HUES, LIGHT = (*range(48, 121), *range(290, 331)), (0.3, 0.42, 0.54)
OTHER_MARKERS = ("v", "P", "p", "h", "<", ">", "*")
OTHER_DASHES = (LINES["dashed"], LINES["dash-dot"], (0, (2, 1, 1, 1)), (0, (8, 2)))


@dataclass(frozen=True)
class Style:
    """How an arm is named and drawn."""

    label: str
    colour: str
    marker: str
    dashes: Any  # a matplotlib linestyle

    def line(self, **changes: Any) -> dict[str, Any]:
        """Give the keywords of `Axes.plot` for this arm."""
        return {"color": self.colour, "linestyle": self.dashes, "linewidth": 1.4, **changes}


def style(arm: str) -> Style:
    """Give an arm's style; `arm` may carry a variant after a comma ("mhc, n 2"), which is styled apart."""
    name, comma, variant = arm.partition(",")
    known = arm_files.abouts().get(name)
    if known and not variant:
        return Style(known.label, known.colour, known.marker, LINES[known.line])
    label = (known.label if known else name) + comma + variant
    # a hash of the name, not its place among the others: an arm looks the same in every figure
    pick = int.from_bytes(hashlib.sha256(arm.encode()).digest()[:8], "big")
    pick, hue = divmod(pick, len(HUES))
    pick, light = divmod(pick, len(LIGHT))
    colour = "#" + "".join(
        f"{round(255 * part):02x}" for part in hls_to_rgb(HUES[hue] / 360, LIGHT[light], 0.8)
    )
    pick, marker = divmod(pick, len(OTHER_MARKERS))
    return Style(label, colour, OTHER_MARKERS[marker], OTHER_DASHES[pick % len(OTHER_DASHES)])


def rank(arm: str) -> tuple[int, str]:
    """Return the sort key of an arm, which may carry a variant: the order of families, then others by name."""
    known = list(arm_files.abouts())
    name = arm.partition(",")[0]
    return (known.index(name) if name in known else len(known), arm)
