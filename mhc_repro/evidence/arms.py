"""What is known of an arm by its name: label, colour, marker, dashes, place among the others, and what it promises.

The main arms have Okabe-Ito colours, which the colour-blind can tell apart; dashes and markers differ too, so that
a grey print still reads. No matplotlib here: tables and lists on a terminal need none.
"""

import hashlib
from colorsys import hls_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from mhc_repro.evidence.kept import kept

BASELINE = "baseline"
FILE = Path("experiments/arms.yaml")


class Promise(TypedDict):
    """What an arm is by construction, at n = 4."""

    family: str
    paper: str
    constraint: str
    exact: bool | None
    gain: Annotated[list[float | None], Meta(min_length=2, max_length=2)]  # forward, backward; null: no bound
    start: str


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


SOLID, LONG, DASHED, DOTTED = "-", (0, (5, 1.2)), (0, (3, 1)), (0, (1, 1))
DASH_DOT, DASH_DOTS, GAPS = (0, (6, 1, 1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (5, 2.5))
# In the order in which every table and figure shows them. A family is a range of colours; within it no two arms
# share a colour or a marker. X is for divergence.
STYLES = {
    "baseline": Style("baseline", "#000000", "o", SOLID),
    # control
    "baseline_quarter": Style("baseline, F/4", "#666666", "P", LONG),
    "identity": Style("identity", "#009E73", "D", DOTTED),
    "uniform": Style("H_res = J/n", "#A6A6A6", "v", DASHED),
    "random_mixing": Style("random H_res", "#3B5B4A", "p", DASH_DOT),
    # hc
    "hc": Style("HC", "#D55E00", "s", LONG),
    "hc_original": Style("HC, own paper", "#7F2704", "D", SOLID),
    "hc_static": Style("HC static", "#FDA45C", "v", DASH_DOT),
    "published_hc": Style("HC, enwik8 repr.", "#C51B3A", "<", DASHED),
    "mhc_unconstrained": Style("mHC unconstrained", "#E8746A", ">", GAPS),
    "mhc_exponent": Style("mHC unconstr., exponent", "#4A1A12", "o", DOTTED),
    "mhc_spectral": Style("mHC, spectral norm 1", "#A50F15", "h", SOLID),
    "mhc_signed_rows": Style("mHC, signed rows", "#F5A3A0", "p", LONG),
    # mhc
    "mhc": Style("mHC", "#0072B2", "^", SOLID),
    "mhc_implicit": Style("mHC implicit", "#08306B", "o", LONG),
    "mhc_static": Style("mHC static", "#5FA8D3", "v", DASHED),
    "mhc_lss": Style("mHC LSS", "#00A5A5", "s", SOLID),
    # mhc start
    "mhc_uniform": Style("mHC from J/n", "#9DB4D6", "p", DOTTED),
    "mhc_lite_baseline": Style("mHC, mHC-lite's start", "#5E4FA2", "D", DASH_DOT),
    "mhc_lucidrains": Style("mHC, lucidrains", "#2F5FD0", "<", DASHED),
    "mhc_warm": Style("mHC warm", "#8F86D0", "h", GAPS),
    "mhc_tokenbender": Style("mHC, tokenbender", "#00616B", "*", DOTTED),
    "published_mhc": Style("mHC, enwik8 repr.", "#3FC1E0", ">", DASH_DOTS),
    # exact
    "mhc_lite": Style("mHC-lite", "#8E0152", "s", SOLID),
    "mhc_lite_paper": Style("mHC-lite, own start", "#E377A8", "D", DASHED),
    "kromhc": Style("KromHC", "#762A83", "v", SOLID),
    "kromhc_paper": Style("KromHC, own start", "#B47CC7", "^", DASHED),
    "go_mhc": Style("go-mHC", "#D6006E", "P", LONG),
    "tbp": Style("TBP-mHC", "#4B0082", "p", SOLID),
    "tbp_paper": Style("TBP-mHC, own start", "#9B4DFF", "h", DASHED),
    # other
    "identity_mix": Style("identity mix", "#B8860B", "s", SOLID),
    "identity_mix_tokenbender": Style("identity mix, tokenbender", "#DDB935", "D", DOTTED),
    "row_stochastic": Style("row-stochastic", "#6B6B00", "^", LONG),
    "orthogonal": Style("orthogonal", "#8C510A", "v", SOLID),
    "jpmhc": Style("JPmHC", "#C99A6B", "p", DASHED),
    "orthostochastic": Style("orthostochastic", "#543005", "h", SOLID),
    "orthostochastic_tokenbender": Style("orthostoch., tokenbender", "#A89A5B", "*", DASH_DOT),
    # history
    "history": Style("history", "#5FA31E", "s", SOLID),
    "history_detached": Style("history, detached", "#1B5E20", "<", DASHED),
    "history_simplex": Style("history, simplex", "#9CCB5A", "^", LONG),
}
OTHER_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7")  # of what is no arm; no arm above has one of these
# Of other arms, and of variants, whose colour is a hue of their own.
OTHER_MARKERS = ("v", "P", "p", "h", "<", ">", "*")
OTHER_DASHES = (DASHED, DASH_DOT, (0, (2, 1, 1, 1)), (0, (8, 2)))


def style(arm: str) -> Style:
    """Give an arm's style; `arm` may carry a variant after a comma ("mhc, n 2"), which is styled apart."""
    if arm in STYLES:
        return STYLES[arm]
    name, comma, variant = arm.partition(",")
    label = (STYLES[name].label if name in STYLES else name) + comma + variant
    # a hash of the name, not its place among the others: an arm looks the same in every figure
    pick = int.from_bytes(hashlib.sha256(arm.encode()).digest()[:8], "big")
    pick, degree = divmod(pick, 360)
    colour = "#" + "".join(f"{round(255 * light):02x}" for light in hls_to_rgb(degree / 360, 0.42, 0.8))
    pick, marker = divmod(pick, len(OTHER_MARKERS))
    return Style(label, colour, OTHER_MARKERS[marker], OTHER_DASHES[pick % len(OTHER_DASHES)])


def rank(arm: str) -> tuple[int, str]:
    """Return the sort key of an arm, which may carry a variant: the order of STYLES, then others by name."""
    name = arm.partition(",")[0]
    return (list(STYLES).index(name) if name in STYLES else len(STYLES), arm)


def promises() -> dict[str, Promise]:
    """Read what every arm promises, in order of rank; UserError where the file cannot be read."""
    found = kept(FILE, dict[str, Promise])
    return {arm: found[arm] for arm in sorted(found, key=rank)}
