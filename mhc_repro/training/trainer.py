"""The training itself: one step, one evaluation, one look of the probe, and the state between them.

Step s is the state after s updates: row s of the metrics holds batch s's loss and gradients from
before update s, and what was measured after it.
"""

import math
import time
from collections.abc import Collection
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mhc_repro import world
from mhc_repro.config import Config
from mhc_repro.connections.base import Carry, Maps
from mhc_repro.connections.exponent import multiplied_out
from mhc_repro.corpora.data import Batches, open_corpus, windows
from mhc_repro.measurement import jacobian, kernel
from mhc_repro.measurement.breaks import first_break
from mhc_repro.measurement.probe import Probe
from mhc_repro.measurement.seen import NOTHING, Measured
from mhc_repro.schema import Row
from mhc_repro.training import together
from mhc_repro.training.model import make_model
from mhc_repro.training.optim import Clipper, layer_norms, learning_rate, make_optimizer, set_rate
from mhc_repro.training.seeds import stream_seed

ABLATIONS = {"last_quarter": 4, "last_half": 2}  # the sub-layers that are silenced at the end: one in so many
JACOBIAN = 4, 32  # probe windows, and how many symbols of each


class Trainer:
    """The state of a training run, and one step of it."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.corpus = open_corpus(config.data, config.runtime)
        self.batches = Batches(config, self.corpus.train, device)
        self.model = make_model(config, stream_seed("body", config.seed)).to(device)
        self.optimizer = make_optimizer(self.model, config.optim)
        self.clipper = Clipper(self.model, config.optim.clip, config.optim.clip_apart)
        # Small gradients are zero in float16, unless the loss they are of is large.
        scales = "float16" in (config.train.precision, config.train.streams)
        self.scaler = torch.amp.GradScaler(device.type, enabled=scales)
        inputs, _ = windows(self.corpus.val, config.probe.windows, config.data.sequence)
        self.probe = Probe(config.probe, inputs.to(device), config.train.steps)
        self._at(0)
        self.layer_gradients: list[Row] = []  # of a probed step

    def compile(self) -> None:
        """Compile the connections for training steps."""
        torch.compiler.reset()  # a sweep compiles for each arm and shape, and torch stops at the ninth
        self.model.compile_connections()

    @cached_property
    def net(self) -> nn.Module:
        """The model in training: of several processes made by all of them, at the first step."""
        if world.size() == 1:
            return self.model
        inputs, _ = next(self.batches.share(self.done + 1))
        return together.wrapped(self.model, inputs)

    def step(self) -> Row:
        """Make one update, each process with its share of the batch; return what is logged at every step.

        A loss or gradient that is not finite leaves the weights as they were, so that `broke_at` can say why.
        """
        config, start, step = self.config, time.perf_counter(), self.done + 1
        rate = learning_rate(step, config.train.steps, config.optim)
        set_rate(self.optimizer, rate)
        torch.manual_seed(stream_seed("dropout", config.seed, step))
        self.optimizer.zero_grad()
        scale = self.scaler.get_scale()
        loss = torch.zeros((), device=self.device)
        for number, (inputs, targets) in enumerate(self.batches.share(step), 1):
            with together.alone(self.net, number < config.runtime.accumulate):
                part = mean_loss(self.net(inputs), targets) / config.runtime.accumulate  # of equal size
                self.scaler.scale(part).backward()
            loss = loss + part.detach()
        loss = together.mean(loss)
        self.scaler.unscale_(self.optimizer)
        self.layer_gradients = layer_norms(self.model) if self.probe.due(step) else []
        numbers = torch.cat([loss.view(1), self.clipper.clip()])
        if not self.scaler.is_enabled():  # which looks for itself, and tells the optimiser in the same way
            self.optimizer.found_inf = (~numbers.isfinite().all()).float()  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._at(step)
        # One read of all numbers, when all work of the step has been handed over: on a GPU it is a wait.
        loss_value, total, body, connection, clipped = numbers.tolist()
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

    def broke_at(self) -> str:
        """Name the first tensor of the last step that is not finite; the step is made again, and not counted."""
        torch.manual_seed(stream_seed("dropout", self.config.seed, self.done))
        self.model.at((self.done - 1) / self.config.train.steps)
        parts = self.batches.parts(self.done)
        found = (first_break(self.model, x, partial(mean_loss, targets=y)) for x, y in parts)
        return next(filter(None, found), "")

    @torch.no_grad()
    def evaluate(self, split: str, count: int, silent: Collection[int] = ()) -> Row:
        """Return the loss (nats a symbol) over `count` fixed windows of a held-out split, and the same in bits.

        Of tokens in bits per byte of the text they stand for, all that is coded counted, if that is known.
        """
        inputs, targets = windows(getattr(self.corpus, split), count, self.config.data.sequence)
        self.model.eval()
        total = 0.0
        size = self.config.data.batch // self.batches.count
        for x, y in zip(inputs.split(size), targets.split(size), strict=True):
            logits = self.model(x.to(self.device), silent=silent).flatten(0, 1)
            total += functional.cross_entropy(logits, y.to(self.device).flatten(), reduction="sum").item()
        self.model.train()
        row = {f"loss/{split}": total / targets.numel()}
        if not self.corpus.tokens:
            row[f"bpc/{split}"] = row[f"loss/{split}"] / math.log(2)
        elif self.corpus.lengths is not None:
            row[f"bpb/{split}"] = total / math.log(2) / int(self.corpus.lengths[targets.numpy()].sum())
        return row

    @torch.no_grad()
    def activation_gain(self) -> float:
        """Return max|streams at the end| / max|streams at the start| of the last batch, with dropout on."""
        config, step = self.config, self.done
        torch.manual_seed(stream_seed("activation", config.seed, step))
        inputs, _ = self.batches.whole(step)
        amax: list[torch.Tensor] = []

        def observe(_: int, streams: torch.Tensor, __: Maps | None, carry: Carry) -> None:
            amax.append(multiplied_out(streams, carry.exponent).abs().amax())

        self.model(inputs, observe)
        return (amax[-1] / amax[0]).item()

    def measure(self) -> Measured:
        """Measure what is due at this step: its metrics, and rows of the other tables."""
        step, train = self.done, self.config.train
        measured, row = NOTHING, Row()
        if self.probe.due(step):
            start = time.perf_counter()
            measured = self.probe.measure(self.model, step)
            for of_layer, gradients in zip(measured.gains, self.layer_gradients, strict=False):
                of_layer |= gradients
            row = measured.metrics | (self.true_gains() if self.config.probe.true_gain else {})
            row["time/probe"] = time.perf_counter() - start
        if self.config.probe.activation == "batch":
            row.pop("gain/activation", None)
            if self.probe.takes_batch(step):
                row["gain/activation"] = self.activation_gain()
        if step % train.val_every == 0 or step == train.steps:
            row |= self.evaluate("val", train.val_windows)
        if step == train.steps:
            row |= self.evaluate("test", train.test_windows)
            row |= self.dissect() if self.probe.due(step) else {}
        return measured._replace(metrics=row)

    def dissect(self) -> Row:
        """Return what the trained net loses without its last sub-layers, and how far it moves with its input."""
        layers, windows = len(self.model.branches), self.config.train.val_windows
        row: Row = {}
        for name, parts in ABLATIONS.items():
            silent = range(layers - kernel.one_in(parts, layers) + 1, layers + 1)
            row[f"ablation/{name}"] = self.evaluate("val", windows, silent)["loss/val"]
        self.model.eval()
        embedded = self._few_embedded()
        row["jacobian/random"], row["jacobian/worst"] = jacobian.relative_gains(self.model.trunk, embedded)
        self.model.train()
        return row

    @torch.no_grad()
    def true_gains(self) -> Row:
        """Return the Jacobian's gains embedding to readout and first streams to last, of a few tokens."""
        model, row = self.model, Row()
        model.eval()
        embedded = self._few_embedded()

        def through(streams: torch.Tensor) -> torch.Tensor:
            last, carry = model.through(streams)
            return multiplied_out(last, carry.exponent)

        for end, function, x in (
            ("readout", model.trunk, embedded),
            ("streams", through, model.expanded(embedded)),
        ):
            generator = torch.Generator().manual_seed(stream_seed("true_gain", self.config.seed))
            gains = jacobian.power_gains(function, x, generator)
            row[f"true_gain/{end}_random"], row[f"true_gain/{end}_worst"] = gains
        model.train()
        return row

    def _few_embedded(self) -> torch.Tensor:
        count, symbols = JACOBIAN
        return self.model.embed(self.probe.tokens[:count, :symbols]).detach()

    def _at(self, step: int) -> None:
        self.done = step
        self.model.at(step / self.config.train.steps)

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
        self._at(state["step"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def mean_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy, in nats a symbol, of logits (B, T, vocab) and flat targets."""
    return functional.cross_entropy(logits.flatten(0, 1), targets)
