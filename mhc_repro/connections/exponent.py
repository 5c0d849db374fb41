"""A state that cannot overflow: 2^e X, with an integer e for each token beside its streams X.

Scaling by a power of two rounds nothing, so a net that keeps e apart computes the function of one that does not,
to the last bit where both can. To the gradient, e is a constant: it does not matter how the state is split. e is
never below 0: a state below 1 is its own X. Where e is None, X is the state.
"""

import torch
from torch import Tensor

# The layout of IEEE 754, by which powers of two are exact on every device; exp2 and pow need not be.
LAYOUTS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}
READ = 40


def to_read(streams: Tensor, exponent: Tensor | None) -> Tensor:
    """Return the state for norms to read, (..., n, C): itself up to e = 40, beyond that over a power of two.

    A norm is blind to that power as long as what it adds to a variance (1e-12 in a branch) is nothing beside it.
    """
    if exponent is None:
        return streams
    power = power_of_two(exponent.clamp_max(READ), streams.dtype)
    return streams * power.view(*streams.shape[:-2], 1, 1)


def to_write(write: Tensor, exponent: Tensor | None) -> Tensor:
    """Return H_post / 2^e (N, n), which adds to X what H_post adds to the state."""
    return write if exponent is None else write * power_of_two(-exponent, write.dtype)[:, None]


def rescaled(streams: Tensor, exponent: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Split 2^e X again, so that X (N, n, C) is of order 1: the largest of a token in [1/2, 1), if e is above 0.

    What is not finite stays so.
    """
    if exponent is None:
        return streams, None
    lift = torch.maximum(order(streams, (1, 2)).to(exponent.dtype), -exponent)
    return streams * power_of_two(-lift, streams.dtype)[:, None, None], exponent + lift


def of_order_1(x: Tensor, dim: int) -> Tensor:
    """Return x over a power of two, the largest along `dim` in [1/2, 1), by as much as normal numbers allow."""
    return x * power_of_two(-order(x, (dim,)), x.dtype)


def order(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Return e of the largest number along `dim`, which is in [2^(e-1), 2^e)."""
    whole, digits, bias = LAYOUTS[x.dtype]
    largest = x.detach().abs().amax(dim)
    # No more than that 2^-e is a normal number.
    return ((largest.view(whole) >> digits) - (bias - 1)).clamp_max(bias - 1)


def power_of_two(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 2^exponent exactly, of the least or the largest normal one where it is none."""
    whole, digits, bias = LAYOUTS[dtype]
    return ((exponent.to(whole).clamp(1 - bias, bias) + bias) << digits).view(dtype)


def multiplied_out(streams: Tensor, exponent: Tensor | None) -> Tensor:
    """Return the state (B, T, n, C), in float64 where a device has it."""
    if exponent is None:
        return streams
    wide = streams if streams.device.type == "mps" else streams.double()
    return torch.ldexp(wide, exponent.view(*streams.shape[:-2], 1, 1))
