"""Can the streams of an arm ever come to differ? A property of its start, not of its training.

Copied streams that are read and written alike stay copies while the rows of H_res sum to one number, and
have equal gradients while its columns do. All entries of H_res then have one and the same gradient. A
doubly stochastic family cannot see it, since its entries have a fixed sum; without a constraint it keeps
rows and columns as even as they were. Either way this is, in exact arithmetic and for ever, a single-stream
net. In float32 the streams may drift apart all the same, since Adam turns the rounding of equal gradients
into steps of full size; such a spread is noise, and a look at it alone would take the arm for a sound one.
"""

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.maps import Form


def exchangeable(config: ConnectionConfig, form: Form) -> bool:
    """Say whether nothing tells the n streams apart at the start: copies, even reads and writes, even H_res."""
    if config.n == 1 or config.expand != "copy":
        return False
    starts = (form.learns_read, config.read_start), (form.learns_write, config.write_start)
    if any(learns and start[0] != start[1] for learns, start in starts):
        return False
    h_res = form.mixing.matrix(form.mixing.initial()[:, None])[..., 0]
    return all(bool((sums - sums.mean()).abs().max() < 1e-6) for sums in (h_res.sum(0), h_res.sum(1)))
