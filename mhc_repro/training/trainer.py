"""The training itself: one step, one evaluation, one look of the probe, and the state between them.

Step s is the state after s updates: row s of the metrics holds batch s's loss and gradients from
before update s, and what was measured after it.
"""

import math
import time
from typing import Any

import torch
from torch.nn import functional

from mhc_repro.config import Config
from mhc_repro.measurement.probe import Probe
from mhc_repro.runs.table import Row
from mhc_repro.training import runtime
from mhc_repro.training.data import batch, open_corpus, windows
from mhc_repro.training.model import make_model
from mhc_repro.training.optim import Clipper, learning_rate, make_optimizer, set_rate


class Trainer:
    """The state of a training run, and one step of it."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        data, seed = config.data, config.seed
        self.corpus = open_corpus(data, config.runtime)
        self.model = make_model(
            config.model,
            config.connection,
            data.vocab,
            data.sequence,
            runtime.stream_seed("body", seed),
            config.train.precision,
            config.train.streams,
        ).to(device)
        self.optimizer = make_optimizer(self.model, config.optim)
        self.clipper = Clipper(self.model, config.optim.clip, config.optim.clip_apart)
        # Small gradients are zero in float16, unless the loss they are of is large.
        scales = "float16" in (config.train.precision, config.train.streams)
        self.scaler = torch.amp.GradScaler(device.type, enabled=scales)
        inputs, _ = windows(self.corpus.val, config.probe.windows, data.sequence)
        self.probe = Probe(config.probe, inputs.to(device), config.train.steps)
        self.done = 0

    def step(self) -> Row:
        """Make one update; return what is logged at every step."""
        config, start, step = self.config, time.perf_counter(), self.done + 1
        rate = learning_rate(step, config.train.steps, config.optim)
        set_rate(self.optimizer, rate)
        torch.manual_seed(runtime.stream_seed("dropout", config.seed, step))
        inputs, targets = batch(self.corpus.train, config.seed, step, config.data.batch, config.data.sequence)
        logits = self.model(inputs.to(self.device))
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.to(self.device).flatten())
        self.optimizer.zero_grad()
        scale = self.scaler.get_scale()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norms = self.clipper.clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.done = step
        # One read of all numbers: on a GPU each would be a wait.
        loss_value, total, body, connection, clipped = torch.cat([loss.detach().view(1), norms]).tolist()
        row = {
            "step": step,
            "loss/train": loss_value,
            "grad/norm": total,
            "grad/norm_body": body,
            "grad/norm_connection": connection,
            "grad/clipped": clipped,
            "lr": rate,
            "time/step": time.perf_counter() - start,
        }
        if self.scaler.is_enabled():
            skipped = self.scaler.get_scale() < scale
            row["grad/skipped"] = int(skipped)
            if skipped and scale > 1:  # the scale is to blame, and was lowered: this step has no gradient
                for key in ("grad/norm", "grad/norm_body", "grad/norm_connection", "grad/clipped"):
                    del row[key]
        return row

    @torch.no_grad()
    def evaluate(self, split: str, count: int) -> Row:
        """Return loss (nats) and bits per symbol over `count` fixed windows of a held-out split."""
        inputs, targets = windows(getattr(self.corpus, split), count, self.config.data.sequence)
        self.model.eval()
        total = 0.0
        size = self.config.data.batch
        for x, y in zip(inputs.split(size), targets.split(size), strict=True):
            logits = self.model(x.to(self.device)).flatten(0, 1)
            total += functional.cross_entropy(logits, y.to(self.device).flatten(), reduction="sum").item()
        self.model.train()
        loss = total / targets.numel()
        return {f"loss/{split}": loss, f"bpc/{split}": loss / math.log(2)}

    @torch.no_grad()
    def activation_gain(self) -> float:
        """Return max|streams at the end| / max|streams at the start| of the last batch, with dropout on."""
        config, step = self.config, self.done
        torch.manual_seed(runtime.stream_seed("activation", config.seed, step))
        inputs, _ = batch(self.corpus.train, config.seed, step, config.data.batch, config.data.sequence)
        amax: list[torch.Tensor] = []
        self.model(inputs.to(self.device), lambda _, streams, __: amax.append(streams.abs().amax()))
        return (amax[-1] / amax[0]).item()

    def measure(self) -> tuple[Row, list[Row], list[Row]]:
        """Measure what is due at this step; return its metrics, gains rows and tokens rows."""
        step, train = self.done, self.config.train
        row: Row = {}
        gains: list[Row] = []
        tokens: list[Row] = []
        if self.config.probe.enabled and self.probe.due(step):
            start = time.perf_counter()
            row, gains, tokens = self.probe.measure(self.model, step)
            row["time/probe"] = time.perf_counter() - start
        if self.config.probe.enabled and self.config.probe.activation == "batch":
            row.pop("gain/activation", None)
            if step % self.config.probe.every == 1 % self.config.probe.every and step > 0:
                row["gain/activation"] = self.activation_gain()
        if step % train.val_every == 0 or step == train.steps:
            row |= self.evaluate("val", train.val_windows)
        if step == train.steps:
            row |= self.evaluate("test", train.test_windows)
        return row, gains, tokens

    def parameter_counts(self) -> dict[str, int]:
        """Count the parameters of the body, of all connections, and both."""
        body = sum(p.numel() for _, p in self.model.body_parameters())
        connection = sum(p.numel() for _, p in self.model.connection_parameters())
        return {"body": body, "connection": connection, "total": body + connection}

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on; batches and masks are drawn anew from (seed, step)."""
        return {
            "step": self.done,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.done = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state.get("scaler", {}))  # there was none once, nor any loss to scale
