"""One look for every figure: an arm has the same colour, marker, dashes and name everywhere.

The main arms have Okabe-Ito colours, which the colour-blind can tell apart; dashes and markers differ
too, so that a grey print still reads. SVG is written so that the same data give the same bytes on another machine:
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
from PIL import Image


@dataclass(frozen=True)
class Style:
    label: str
    colour: str
    marker: str
    dashes: Any  # a matplotlib linestyle

    def line(self, **changes: Any) -> dict[str, Any]:
        """Give the keywords of `Axes.plot` for this arm."""
        return {"color": self.colour, "linestyle": self.dashes, "linewidth": 1.4, **changes}


SOLID, LONG, DASHED, DOTTED = "-", (0, (5, 1.2)), (0, (3, 1)), (0, (1, 1))
DASH_DOT, DASH_DOTS, GAPS = (0, (6, 1, 1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (5, 2.5))
# A family is a range of colours; within it no two arms share a colour or a marker. X is for divergence.
STYLES = {
    "baseline": Style("baseline", "#000000", "o", SOLID),
    # controls
    "baseline_quarter": Style("baseline, F/4", "#666666", "P", LONG),
    "identity": Style("identity", "#009E73", "D", DOTTED),
    "uniform": Style("H_res = J/n", "#A6A6A6", "v", DASHED),
    "random_mixing": Style("random H_res", "#3B5B4A", "p", DASH_DOT),
    # HC
    "hc": Style("HC", "#D55E00", "s", LONG),
    "hc_original": Style("HC, own paper", "#7F2704", "D", SOLID),
    "hc_static": Style("HC static", "#FDA45C", "v", DASH_DOT),
    "published_hc": Style("HC, enwik8 repr.", "#C51B3A", "<", DASHED),
    # mHC and its starts
    "mhc": Style("mHC", "#0072B2", "^", SOLID),
    "mhc_implicit": Style("mHC implicit", "#08306B", "o", LONG),
    "mhc_static": Style("mHC static", "#5FA8D3", "v", DASHED),
    "mhc_lss": Style("mHC LSS", "#00A5A5", "s", SOLID),
    "mhc_uniform": Style("mHC from J/n", "#9DB4D6", "p", DOTTED),
    "mhc_lite_baseline": Style("mHC, mHC-lite's start", "#5E4FA2", "D", DASH_DOT),
    "mhc_lucidrains": Style("mHC, lucidrains", "#2F5FD0", "<", DASHED),
    "mhc_warm": Style("mHC warm", "#8F86D0", "h", GAPS),
    "mhc_tokenbender": Style("mHC, tokenbender", "#00616B", "*", DOTTED),
    "published_mhc": Style("mHC, enwik8 repr.", "#3FC1E0", ">", DASH_DOTS),
    # other exactly doubly stochastic H_res
    "mhc_lite": Style("mHC-lite", "#8E0152", "s", SOLID),
    "mhc_lite_paper": Style("mHC-lite, own start", "#E377A8", "D", DASHED),
    "kromhc": Style("KromHC", "#762A83", "v", SOLID),
    "kromhc_paper": Style("KromHC, own start", "#B47CC7", "^", DASHED),
    "go_mhc": Style("go-mHC", "#D6006E", "P", LONG),
    "tbp": Style("TBP-mHC", "#4B0082", "p", SOLID),
    "tbp_paper": Style("TBP-mHC, own start", "#9B4DFF", "h", DASHED),
    # other constraints
    "identity_mix": Style("identity mix", "#B8860B", "s", SOLID),
    "identity_mix_tokenbender": Style("identity mix, tokenbender", "#DDB935", "D", DOTTED),
    "row_stochastic": Style("row-stochastic", "#6B6B00", "^", LONG),
    "orthogonal": Style("orthogonal", "#8C510A", "v", SOLID),
    "jpmhc": Style("JPmHC", "#C99A6B", "p", DASHED),
    "orthostochastic": Style("orthostochastic", "#543005", "h", SOLID),
    "orthostochastic_tokenbender": Style("orthostoch., tokenbender", "#A89A5B", "*", DASH_DOT),
    # depth histories
    "history": Style("history", "#5FA31E", "s", SOLID),
    "history_detached": Style("history, detached", "#1B5E20", "<", DASHED),
    "history_simplex": Style("history, simplex", "#9CCB5A", "^", LONG),
}
# of other arms, and of variants; no arm above has one of these colours
OTHER_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7")
OTHER_MARKERS = ("v", "P", "p", "h", "<", ">", "*")
OTHER_DASHES = (DASHED, DASH_DOT, (0, (2, 1, 1, 1)), (0, (8, 2)))

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
    label = (STYLES[name].label if name in STYLES else name) + comma + variant
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


def to_png(figure: Figure, dpi: int = 120) -> bytes:
    """Draw as PNG, for a notebook: with a palette, which makes it less than half as large."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    with rc_context(RC):
        figure.savefig(drawn, format="png", dpi=dpi)
    Image.open(drawn).convert("RGB").quantize(256).save(packed, format="png", optimize=True)
    return packed.getvalue()


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
