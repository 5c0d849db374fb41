"""Every column that a run writes, and its unit. `1` is a pure number.

`results/README.md` says what each one means; a test holds the two together.
"""

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
        "time/probe": "seconds",
        "loss/val": "nats per symbol",
        "bpc/val": "bits per symbol",
        "loss/test": "nats per symbol",
        "bpc/test": "bits per symbol",
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
        "h_single": "1",
        "h_forward": "1",
        "h_backward": "1",
    },
    "tokens": {"step": "updates", "layer": "sub-layer", "h_res": "1"},
}
