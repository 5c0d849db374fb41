"""What must come true of every arm in conf/connection at n = 4: a row each, to which the tests hold its file."""

import math
from dataclasses import dataclass

from mhc_repro.arm_files import abouts


def row(own: float, other: float) -> tuple[float, ...]:
    """Weights that are as `own` to three times `other`, of sum 1."""
    return tuple(each / (own + 3 * other) for each in (own, other, other, other))


A6 = row(1, math.exp(-6))
A6_DISTANCE = 4 * math.sqrt(3) * A6[1]
UNIFORM = row(1, 1)
ONE = row(1, 0)
SOFT = math.exp(-8)
# Of 24 permutations, the six that leave stream 1 at home, the identity among them.
PERMUTATIONS = row(1 + 5 * SOFT, 6 * SOFT)


@dataclass(frozen=True)
class Arm:
    """What must come true of an arm at n = 4, beside what its file says: bound, exactness, constraint.

    row: row 0 of H_res at the start; None: see `distance`. distance: ||H_res - I||_F there.
    near: std of the numbers about the start where the bound is shown; None: N(0, 1) about 0. phi, static: rows of
    phi (in units of C) and other parameters of a connection. pre_norm: how near to the baseline's function at
    step 0; None: it is another. alike: streams never separate. dead: parts that no sub-layer learns, beside those
    of `dead_of`.
    """

    row: tuple[float, ...] | None = A6
    distance: float | None = A6_DISTANCE
    near: float | None = None
    phi: int = 96
    static: int = 27
    pre_norm: float | None = 1e-9
    alike: bool = False
    dead: tuple[str, ...] = ()
    sums: float = 1e-6  # how near to 1 sums are that are meant to be


FIXED = {"phi": 32, "static": 10}  # reads and writes alone
STATIC = {"phi": 0, "static": 24}
LITE = {"phi": 128, "static": 35}  # 4! numbers
KRONECKER = {"phi": 48, "static": 15}
TREE = {"phi": 68, "static": 20}
ROTATION = {"phi": 56, "static": 17}
QUARTER = {"pre_norm": None}  # branches are written at 1/n, or not by the same amount to all

ARMS = {
    "identity": Arm(ONE, 0.0, **FIXED),
    "uniform": Arm(UNIFORM, math.sqrt(3), **FIXED),
    "random_mixing": Arm(None, None, **FIXED),
    "hc": Arm(ONE, 0.0, phi=6),
    "hc_identity": Arm(ONE, 0.0, phi=2, static=10),
    "hc_original": Arm(ONE, 0.0, phi=6, static=26),
    "hc_static": Arm(ONE, 0.0, **STATIC),
    "published_hc": Arm(ONE, 0.0, **STATIC, alike=True),
    "mhc_unconstrained": Arm(pre_norm=1e-6),  # its rows sum to 1 as far as float32 can hold them
    "mhc_exponent": Arm(pre_norm=1e-6),
    "mhc_spectral": Arm(),
    # Entries have no bound, so of rows that sum to 1 a product keeps no more than rounding lets it.
    "mhc_signed_rows": Arm(near=0.02),
    "mhc": Arm(),
    "mhc_implicit": Arm(),
    "mhc_static": Arm(**STATIC),
    "mhc_lss": Arm(pre_norm=None),
    "mhc_uniform": Arm(UNIFORM, math.sqrt(3), alike=True),
    "mhc_lite_baseline": Arm(row(1, SOFT), None, **QUARTER),
    "mhc_lucidrains": Arm(row(math.e, 1), None, **QUARTER),
    "mhc_warm": Arm((0.7112346, *[0.0962551] * 3), None, **STATIC, **QUARTER),
    "mhc_tokenbender": Arm(ONE, 0.0, **STATIC, **QUARTER, dead=("mix",)),
    "published_mhc": Arm(
        UNIFORM, math.sqrt(3), **STATIC, **QUARTER, alike=True, dead=("read", "write", "mix")
    ),
    "mhc_lite": Arm(**LITE),
    "mhc_lite_paper": Arm(PERMUTATIONS, None, **LITE, **QUARTER),
    "kromhc": Arm(None, A6_DISTANCE, **KRONECKER),
    "kromhc_paper": Arm(
        tuple(weight / (1 + SOFT) ** 2 for weight in (1, SOFT, SOFT, SOFT**2)), None, **KRONECKER
    ),
    "go_mhc": Arm(None, A6_DISTANCE, phi=144, static=39),
    "tbp": Arm(**TREE),
    "tbp_paper": Arm((0.5, 0.25, 0.125, 0.125), None, **TREE),
    "identity_mix": Arm(phi=100, static=28),
    "identity_mix_tokenbender": Arm(ONE, 0.0, phi=0, static=25, **QUARTER, dead=("mix",)),
    "row_stochastic": Arm(),
    "orthogonal": Arm(None, A6_DISTANCE, **ROTATION),
    "jpmhc": Arm(ONE, 0.0, **ROTATION),
    "ohc": Arm(ONE, 0.0, phi=64, static=18),
    "s2hc": Arm(None, A6_DISTANCE, **TREE),
    "column_stochastic": Arm(),
    "oshc": Arm(),
    "cmhc": Arm(tuple(0.8 * weight + 0.05 for weight in PERMUTATIONS), None, **LITE),
    "xhc_clamp": Arm(),
    "deepseek_v4": Arm(distance=None, pre_norm=1e-5, sums=1e-5),
    "single_pass": Arm(),
    "mhc_annealed": Arm(),
    "residual_scale": Arm(ONE, 0.0, phi=0, static=1),
    "orthostochastic": Arm(None, A6_DISTANCE, pre_norm=1e-4),  # sigma^2 of 20 steps is 1 to 1e-6
    "orthostochastic_tokenbender": Arm((0.25016, *[0.25201] * 3), None, **STATIC, **QUARTER),
}
# Whose connection is another than one of streams with a parametrised H_res: what holds of any model.
HISTORY = ("history", "history_detached", "history_simplex")
BESIDE = {
    **dict.fromkeys(HISTORY, Arm(pre_norm=1e-3, dead=("theta",))),  # e^-10 of a mean is of older states
    "history_simplex": Arm(pre_norm=None, dead=("theta",)),
    "gated_residual": Arm(),
    "attention_residuals": Arm(dead=("weigh",)),
    "muddformer": Arm(),
    "muddformer_normed": Arm(pre_norm=None, dead=("weigh",)),  # its scale starts off 0
}
RESIDUAL = ("baseline", "baseline_quarter")
WHOLE = ARMS | BESIDE


def sums_to_one(arm: str) -> tuple[bool, bool]:
    """Say whether rows and columns of H_res sum to 1 to rounding, as a bound of 1 promises."""
    forward, backward = abouts()[arm].bound
    at_most = abouts()[arm].constraint == "sums at most 1"
    return forward == 1 and not at_most, backward == 1 and not at_most
