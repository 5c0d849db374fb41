"""FLOPs and bytes of a training step, counted from shapes: what a measured time is held against.

Departs from custom in one place: attention scores are counted for the T (T + 1) / 2 pairs that causality
leaves, not for all T^2. Norms, GELU, softmax and the n x n maps themselves (a few hundred numbers a token
beside nC features) are left out. A multiply-add is two FLOPs, the backward pass twice the forward one.
"""

from mhc_repro.config import ConnectionConfig, DataConfig, ModelConfig, block_weights
from mhc_repro.connections import KINDS

FLOAT32 = 4  # bytes


def model_flops(model: ModelConfig, data: DataConfig) -> int:
    """Count forward and backward of the body and its tied head, for one step."""
    c, t = model.dim, data.sequence
    scores = 2 * 2 * c * (t + 1) // 2  # q k^T and its product with v, (T + 1) / 2 keys on average
    per_token = model.blocks * (2 * block_weights(c, model.mlp_ratio) + scores) + 2 * c * data.vocab
    return 3 * data.batch * t * per_token


def connection_flops(connection: ConnectionConfig, model: ModelConfig, data: DataConfig) -> int:
    """Count forward and backward of what all sub-layers' connections add to a residual's step."""
    return 3 * _tokens(model, data) * KINDS[connection.kind].cost(connection, model).flops


def connection_bytes(connection: ConnectionConfig, model: ModelConfig, data: DataConfig) -> int:
    """Count the bytes read and written beyond a residual's in a step, forward and backward."""
    return FLOAT32 * _tokens(model, data) * KINDS[connection.kind].cost(connection, model).values


def _tokens(model: ModelConfig, data: DataConfig) -> int:
    return 2 * model.blocks * data.batch * data.sequence  # that pass a sub-layer
