"""x W^T by the faster of two libraries.

For float32 on a CPU torch multiplies matrices with MKL and convolves with oneDNN. A 1 x 1 convolution over
images of tokens is the same product, and on AMD's cores oneDNN makes it 1.2 to 1.6 times as fast, forward
and backward (experiments/LOG.md).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS = 64  # an image: small enough that the rows it reads and writes stay in the second-level cache
BOTH_LIBRARIES = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the last axis of x (..., in) by weight (out, in): (..., out).

    The same as `functional.linear`, which it is for other dtypes and devices, under autocast and where the
    number of tokens is no multiple of an image's.
    """
    if not convolves(x):
        return functional.linear(x, weight)
    # Features second in shape and last in memory: channels-last images, which oneDNN takes as they are.
    images = x.reshape(-1, TOKENS, 1, x.shape[-1]).permute(0, 3, 1, 2)
    product = functional.conv2d(images, weight[:, :, None, None])
    return product.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def convolves(x: Tensor) -> bool:
    """Say whether oneDNN is to multiply x (..., in)."""
    return (
        BOTH_LIBRARIES
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.shape[:-1].numel() % TOKENS == 0
    )


class Linear(nn.Linear):
    """`nn.Linear` without a bias, through `linear`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)
