"""Runs that save at every step, for the tests that stop them."""

from stopping import checkpoints_at_every_step

__all__ = ["checkpoints_at_every_step"]
