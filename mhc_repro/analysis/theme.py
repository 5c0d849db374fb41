"""One look for every figure: an arm has the same colour, marker, dashes and name everywhere.

Okabe-Ito colours, which the colour-blind can tell apart; dashes and markers differ too, so that a
grey print still reads. SVG is written so that the same data give the same bytes on another machine:
matplotlib hashes floats into its ids and prints six decimals, so one last-bit difference of another
CPU would show. We number the ids and keep two decimals of a point.
"""

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Style:
    label: str
    colour: str
    marker: str
    dashes: Any  # a matplotlib linestyle

    def line(self, **changes: Any) -> dict[str, Any]:
        """Give the keywords of `Axes.plot` for this arm."""
        return {"color": self.colour, "linestyle": self.dashes, "linewidth": 1.4, **changes}


STYLES = {
    "baseline": Style("baseline", "#000000", "o", "-"),
    "identity": Style("identity", "#009E73", "D", (0, (1, 1))),
    "hc": Style("HC", "#D55E00", "s", (0, (5, 1.2))),
    "mhc": Style("mHC", "#0072B2", "^", "-"),
}
LABELS = {  # of arms without a style of their own, where the name in the config is not what one would print
    "baseline_quarter": "baseline, F/4",
    "uniform": "H_res = J/n",
    "random_mixing": "random H_res",
    "hc_original": "HC, own paper",
    "hc_static": "HC static",
    "published_hc": "HC, enwik8 repr.",
    "published_mhc": "mHC, enwik8 repr.",
    "mhc_static": "mHC static",
    "mhc_lite": "mHC-lite",
    "kromhc": "KromHC",
    "go_mhc": "go-mHC",
    "tbp": "TBP-mHC",
    "jpmhc": "JPmHC",
}
OTHER_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7")
OTHER_MARKERS = ("v", "P", "p", "h", "<", ">", "*")
OTHER_DASHES = ((0, (3, 1)), (0, (6, 1, 1, 1)), (0, (2, 1, 1, 1)), (0, (8, 2)))

RC: Any = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "figure.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.markersize": 4,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "mhc-repro",
}


def style(arm: str) -> Style:
    """Give an arm's style; `arm` may carry a variant after a comma ("mhc, n 2"), which is styled apart."""
    if arm in STYLES:
        return STYLES[arm]
    name, comma, variant = arm.partition(",")
    label = (STYLES[name].label if name in STYLES else LABELS.get(name, name)) + comma + variant
    # a hash of the name, not its place among the others: an arm looks the same in every figure
    pick = int.from_bytes(hashlib.sha256(arm.encode()).digest()[:8], "big")
    pick, colour = divmod(pick, len(OTHER_COLOURS))
    pick, marker = divmod(pick, len(OTHER_MARKERS))
    return Style(label, OTHER_COLOURS[colour], OTHER_MARKERS[marker], OTHER_DASHES[pick % len(OTHER_DASHES)])


P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a drawing function draw under this theme and leave matplotlib's settings as they were."""

    @wraps(draw)
    def with_theme(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(RC):
            return draw(*args, **kwargs)

    return with_theme


def to_svg(figure: Figure) -> str:
    """Draw as SVG text that depends on the data alone (and on matplotlib's version)."""
    buffer = io.BytesIO()
    with rc_context(RC):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _tidy(buffer.getvalue().decode())


_HASHED = re.compile(r"(?<=[\"#])[a-z][0-9a-f]{10}(?=[\")])")
_COORDINATES = re.compile(r'(?<= d=")[^"]+|(?<=translate\()[^)]+|(?<= [xy]=")[^"]+')
_NUMBER = re.compile(r"-?\d+\.\d+")


def _tidy(svg: str) -> str:
    names: dict[str, str] = {}
    svg = _HASHED.sub(lambda found: names.setdefault(found[0], f"id{len(names)}"), svg)

    def rounded(number: re.Match[str]) -> str:
        # adding 0.0 turns -0.0 into 0.0
        return f"{round(float(number[0]), 2) + 0.0:.2f}".rstrip("0").rstrip(".")

    return _COORDINATES.sub(lambda found: _NUMBER.sub(rounded, found[0]), svg)
