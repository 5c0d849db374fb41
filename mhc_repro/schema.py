"""Every column that a run writes, and its unit. `1` is a pure number.

`results/README.md` says what each one means; a test holds the two together.
"""

from typing import Any

Row = dict[str, Any]  # of a table, by column

KEYS = ("step", "layer")  # whole numbers
BY_SOURCE = ("k_hat", "kappa", "share")  # lists: a number for each sub-layer that is heard; and see `is_map`
GAINS = ("single_forward", "single_backward", "composite_forward", "composite_backward")

_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {  # of a table, by unit
    "metrics": {
        "updates": ("step",),
        "nats per symbol": (
            *("loss/train", "loss/val", "loss/test", "ablation/last_quarter", "ablation/last_half"),
            *("grad/norm", "grad/norm_body", "grad/norm_connection", "grad/clipped"),
        ),
        "bits per symbol": ("bpc/val", "bpc/test"),
        "bits per byte": ("bpb/val", "bpb/test"),
        "seconds": ("time/step", "time/probe"),
        "1": (
            *("lr", "grad/skipped", "gain/activation", "streams/spread", "attention/logit"),
            *(f"gain/{name}" for name in GAINS),
            *(f"kernel/{name}" for name in ("late_share", "early_share", "cancellation", "effective")),
            *("jacobian/random", "jacobian/worst"),
            *(f"true_gain/{end}_{kind}" for end in ("readout", "streams") for kind in ("random", "worst")),
        ),
    },
    "gains": {
        "updates": ("step",),
        "sub-layer": ("layer",),
        "nats per symbol": ("grad_body", "grad_connection"),
        "1": (
            *(name + suffix for suffix in ("", "_token", "_norm") for name in GAINS),
            *(
                "min_column_sum",
                "row_error",
                "column_error",
                "distance_identity",
                "distance_uniform",
                "sigma2",
            ),
            *("spread", "gate_slope", "attention_logit"),
            *("h_pre", "h_post", "h_single", "h_forward", "h_backward"),
        ),
    },
    "tokens": {"updates": ("step",), "sub-layer": ("layer",), "1": ("h_res",)},
    "kernel": {
        "updates": ("step",),
        "sub-layer": ("layer",),
        "1": (*BY_SOURCE, "cancellation", "effective"),
    },
}
UNITS = {
    table: {column: unit for unit, columns in by_unit.items() for column in columns}
    for table, by_unit in _COLUMNS.items()
}


def is_map(column: str) -> bool:
    """Say whether a column holds H_res, H_pre, H_post or products, row-major; what is no list is a number."""
    return column.startswith("h_")
