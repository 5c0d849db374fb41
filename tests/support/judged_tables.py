"""Starts that deserve a verdict, and what a manifest says of arms that may have one."""

STEPS, EVERY = 20, 5  # of a training that is judged

# What a manifest says of HC, of mHC, and of an arm whose streams nothing tells apart
FREE = {"doubly_stochastic": False, "exchangeable": False}
STOCHASTIC = FREE | {"doubly_stochastic": True}
ALIKE_FOR_EVER = FREE | {"exchangeable": True}

# Nothing tells the streams apart. At 1e-2 Adam would soon turn the rounding of zero gradients into steps that do.
ALIKE = {"read_start": [0, 0], "write_start": [0, 0], "lr": 1e-3}
EVEN_READ = {"read_start": [0.25, 0.25], "lr": 1e-4}  # as the enwik8 reproduction starts HC
CORNER = {"mixing": {"kind": "sinkhorn", "start": [-1000, 1000]}}  # I, with a gradient that underflows
UNIFORM = {"mixing": {"kind": "sinkhorn", "start": [0, 0]}}
SATURATED = {"read_start": [-1000, 1000], "write_start": [-1000, 1000]}  # gates without a gradient
