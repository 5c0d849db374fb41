"""Can the streams of an arm ever come to differ? A property of its start, not of its training.

Where nothing tells the streams apart at the start, neither the streams nor the maps, every gradient is the
same for all of them, and in exact arithmetic they stay equal for ever: a single-stream net. In float32 they
may drift apart all the same, since Adam turns the rounding of equal gradients into steps of full size; such
a spread is noise, and a look at it alone would take the arm for a sound one.
"""

import torch

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.maps import Form

# Renumbering the streams renumbers the numbers of these; the others tell streams apart by their own order.
WITHOUT_ORDER = ("free", "identity", "uniform", "sinkhorn", "identity_mix", "row_stochastic", "permutations")


def exchangeable(config: ConnectionConfig, form: Form) -> bool:
    """Say whether nothing tells the n streams apart at the start: H_res = a I + b J, even reads and writes."""
    if config.n == 1 or config.expand != "copy" or config.mixing["kind"] not in WITHOUT_ORDER:
        return False
    starts = (form.learns_read, config.read_start), (form.learns_write, config.write_start)
    if any(learns and start[0] != start[1] for learns, start in starts):
        return False
    h_res = form.mixing.matrix(form.mixing.initial()[:, None])[..., 0]
    on = torch.eye(config.n, dtype=torch.bool)
    return all(bool((part - part.mean()).abs().max() < 1e-6) for part in (h_res[on], h_res[~on]))
