"""FLOPs and bytes of a training step, counted from shapes: what a measured time is held against.

Departs from custom in one place: attention scores are counted for the T (T + 1) / 2 pairs that causality
leaves, not for all T^2. Norms, GELU, softmax and the n x n maps themselves (a few hundred numbers a token
beside nC features) are left out. A multiply-add is two FLOPs, the backward pass twice the forward one.
"""

from mhc_repro.config import ConnectionConfig, DataConfig, ModelConfig

FLOAT32 = 4  # bytes


def model_flops(model: ModelConfig, data: DataConfig) -> int:
    """Count forward and backward of the body and its tied head, for one step."""
    c, t = model.dim, data.sequence
    projections = 2 * c * (3 * c + c + 2 * model.mlp_ratio * c)  # qkv, out, up, down
    scores = 2 * 2 * c * (t + 1) // 2  # q k^T and its product with v, (T + 1) / 2 keys on average
    per_token = model.blocks * (projections + scores) + 2 * c * data.vocab
    return 3 * data.batch * t * per_token


def connection_flops(connection: ConnectionConfig, numbers: int, model: ModelConfig, data: DataConfig) -> int:
    """Count what all sub-layers' connections add to a residual's step; `numbers` a token are projected.

    Per token and sub-layer, forward: the norm's squares 2nC and the projection (2 nC each number from vec(X),
    2C each from one stream; neither where maps are static), H_pre X 2nC, H_res X 2n^2 C (nothing where it is
    I), H_post^T y added to it 2nC; less the residual's C. A history: the mean of n states, 2nC. All outputs, n on
    average: squares and scores, or the hidden numbers, 4nC a read at most, and each read 2nC. A gated residual: its
    two thin products, 2nC C/8 each, instead of H_pre's numbers.
    """
    if connection.kind == "residual":
        return 0
    n, c = connection.n, model.dim
    if connection.kind == "history":
        per_token = 2 * n * c - c
    elif connection.kind == "outputs":
        reads = (
            1 if connection.mixing["kind"] == "attention" else 3
        )  # on average: four of attention, two of an MLP
        per_token = reads * 6 * outputs(model) * c - c
    elif connection.kind == "gated":
        per_token = 2 * n * c + 2 * 2 * n * c * (c // 8) + 2 * n * c + 2 * n * n * c + 2 * n * c - c
    else:
        norm = 2 * n * c if numbers else 0
        projection = 2 * numbers * (n * c if connection.coefficients == "flat" else c)
        mix = 0 if keeps_streams(connection) else 2 * n * n * c
        per_token = norm + projection + 2 * n * c + mix + 2 * n * c - c
    return 3 * 2 * model.blocks * data.batch * data.sequence * per_token


def connection_bytes(connection: ConnectionConfig, numbers: int, model: ModelConfig, data: DataConfig) -> int:
    """Count the bytes read and written beyond a residual's, by kernels fused as in mHC Sec. 4.3.1.

    Per token and sub-layer, m numbers. Forward, from mHC Table 2 with post, res and merge fused: reads
    (3n+1)C + m, writes (n+1)C + m, where a residual reads 2C and writes C. Backward, counted alike: the
    write reads (2n+1)C + m (dX', X, y) and writes (n+1)C + m; the read and the projection read (3n+1)C + m
    (dh, X twice, dX) and write nC; a residual adds two gradients, 2C read and C written. Static maps spare
    the projection's reading of X both ways. A history reads n states and y and writes one; backward it reads
    them, n gradients and one more, and writes n; all outputs are counted alike.
    """
    if connection.kind == "residual":
        return 0
    n, c = connection.n, model.dim
    if connection.kind in ("history", "outputs"):
        n = n if connection.kind == "history" else outputs(model)
        forward, backward = (n + 2) * c, (3 * n + 1) * c
    else:
        forward = (3 * n + 1) * c + (n + 1) * c + 2 * numbers
        backward = (2 * n + 1) * c + (n + 1) * c + (3 * n + 1) * c + n * c + 3 * numbers
        if not numbers:
            forward, backward = forward - n * c, backward - n * c
    per_token = forward + backward - 2 * 3 * c
    return FLOAT32 * 2 * model.blocks * data.batch * data.sequence * per_token


def outputs(model: ModelConfig) -> int:
    """Return how many outputs a sub-layer finds on average, rounded down: 1, 2, ... of 2 x blocks."""
    return (2 * model.blocks + 1) // 2


def keeps_streams(connection: ConnectionConfig) -> bool:
    """Say whether H_res is I for good, so that mixing costs nothing."""
    return connection.mixing["kind"] == "identity" or "mix" in connection.freeze
