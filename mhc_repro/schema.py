"""Every column that a run writes, and its unit. `1` is a pure number.

`results/README.md` says what each one means; a test holds the two together.
"""

from typing import Any

Row = dict[str, Any]  # of a table, by column

KEYS = ("step", "layer")  # whole numbers
BY_SOURCE = ("k_hat", "kappa", "share")  # lists: a number for each sub-layer that is heard; and see `is_map`
GAINS = ("single_forward", "single_backward", "composite_forward", "composite_backward")

UNITS: dict[str, dict[str, str]] = {
    "metrics": {
        "step": "updates",
        "loss/train": "nats per symbol",
        "grad/norm": "nats per symbol",
        "grad/norm_body": "nats per symbol",
        "grad/norm_connection": "nats per symbol",
        "grad/clipped": "nats per symbol",
        "grad/skipped": "1",
        "lr": "1",
        "time/step": "seconds",
        "gain/activation": "1",
        **{f"gain/{name}": "1" for name in GAINS},
        "streams/spread": "1",
        "attention/logit": "1",
        **{f"kernel/{name}": "1" for name in ("late_share", "early_share", "cancellation", "effective")},
        "time/probe": "seconds",
        "loss/val": "nats per symbol",
        "bpc/val": "bits per symbol",
        "bpb/val": "bits per byte",
        "loss/test": "nats per symbol",
        "bpc/test": "bits per symbol",
        "bpb/test": "bits per byte",
        "ablation/last_quarter": "nats per symbol",
        "ablation/last_half": "nats per symbol",
        "jacobian/random": "1",
        "jacobian/worst": "1",
        **{f"true_gain/{end}_{kind}": "1" for end in ("readout", "streams") for kind in ("random", "worst")},
    },
    "gains": {
        "step": "updates",
        "layer": "sub-layer",
        **{name + suffix: "1" for suffix in ("", "_token", "_norm") for name in GAINS},
        "min_column_sum": "1",
        "row_error": "1",
        "column_error": "1",
        "distance_identity": "1",
        "distance_uniform": "1",
        "sigma2": "1",
        "spread": "1",
        "gate_slope": "1",
        "attention_logit": "1",
        "grad_body": "nats per symbol",
        "grad_connection": "nats per symbol",
        "h_pre": "1",
        "h_post": "1",
        "h_single": "1",
        "h_forward": "1",
        "h_backward": "1",
    },
    "tokens": {"step": "updates", "layer": "sub-layer", "h_res": "1"},
    "kernel": {
        "step": "updates",
        "layer": "sub-layer",
        "k_hat": "1",
        "kappa": "1",
        "share": "1",
        "cancellation": "1",
        "effective": "1",
    },
}


def is_map(column: str) -> bool:
    """Say whether a column holds H_res, H_pre, H_post or products, row-major; what is no list is a number."""
    return column.startswith("h_")
