"""What may stand side by side: runs of a study that differ in arm and seed only.

A study that also sweeps depth or learning rate falls apart into one comparison per setting, so that
no mean ever runs over two protocols. A connection option that is swept within an arm makes arms of
its own ("mhc, n 2").
"""

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mhc_repro.config import dotted
from mhc_repro.errors import UserError
from mhc_repro.evidence.styles import rank
from mhc_repro.runs import ENDED, Run, read_runs
from mhc_repro.runs.reader import once, warn

KEPT = ("guards.", "probe.token_map")  # what is judged or kept of a training, which is the same without
MEASURED = ("guards.", "probe.", "train.val_", "train.test_")  # and what is measured of it


@dataclass(frozen=True, order=True)
class Kind:
    """Length and size of a training: what is unlike in these counts apart. Ordered from the shortest."""

    tokens: int  # that a whole training sees
    layers: int
    dim: int

    def __str__(self) -> str:
        return f"{self.layers} × {self.dim}, {self.length}"

    @property
    def length(self) -> str:
        return f"{self.tokens / 1e6:.1f} M"


@dataclass(frozen=True)
class Comparison:
    """Runs of a study in one setting, by arm."""

    study: str
    setting: str  # what sets it apart within its study, "" if nothing does
    arms: dict[str, list[Run]]  # in the order of every table; seeds ascending

    @cached_property
    def runs(self) -> list[Run]:
        return [run for runs in self.arms.values() for run in runs]

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    def ended(self, arm: str) -> dict[int, Run]:
        """Return an arm's runs by seed that have finished or diverged: what a pair may be made of."""
        return {run.seed: run for run in self.arms.get(arm, []) if run.state in ENDED}

    @property
    def kind(self) -> Kind:
        """Length and size, which all its runs have in common."""
        run, *_ = self.runs
        data = run.config["data"]
        tokens = run.steps * int(data["batch"] * data["sequence"])
        return Kind(tokens, run.layers, int(run.config["model"]["dim"]))

    @property
    def name(self) -> str:
        """Study and setting, as a table's row names them."""
        return f"{self.study} {self.setting}".strip()

    @property
    def slug(self) -> str:
        """Start of its file names."""
        words = self.name.replace(",", "").split()
        return "-".join(words).replace("/", "_")


Studies = dict[str, list[Comparison]]  # by name


def read_studies(
    root: Path, study: str | None = None, onerror: Callable[[Path, UserError], None] = warn
) -> Studies:
    """Read all studies, or one; UserError when the folder or the study is not there; see `read_runs`.

    Of all studies only the runs that have finished or diverged: what is under way would be stale tomorrow.
    """
    if not root.is_dir():
        raise UserError(f"--root {root}: no such folder; train first, for example with make quick")
    runs = read_runs(root, study, onerror)
    if study is not None and not runs:
        others = read_runs(root, onerror=lambda path, fault: None)  # which were not asked for
        known = ", ".join(sorted({run.study for run in others})) or "none yet"
        raise UserError(f"--study {study}: no run under {root} that can be read; studies there: {known}")
    if study is None:
        runs = [run for run in runs if run.state in ENDED]
    return by_study(runs)


def by_study(runs: Sequence[Run]) -> Studies:
    """Split runs into comparisons by study: studies by name, settings in numerical order."""
    return {
        study: comparisons([run for run in runs if run.study == study])
        for study in sorted({run.study for run in runs})
    }


def comparisons(runs: Sequence[Run], swept: str = "") -> list[Comparison]:
    """Split the runs of one study into comparisons, settings in numerical order; a `swept` one sets none apart."""
    flat = {run: settings(run) for run in runs}
    keys = [key for key in varying(flat.values(), of_connection=False) if key != swept]
    options = {
        name: varying([flat[run] for run in runs if run.connection == name], of_connection=True)
        for name in {run.connection for run in runs}
    }
    cells: dict[tuple[Any, ...], dict[str, list[Run]]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        own, of_run = options[run.connection], flat[run]
        arm = ", ".join(filter(None, [run.connection, _words(own, [of_run.get(key) for key in own])]))
        cell = cells.setdefault(tuple(of_run.get(key) for key in keys), {})
        cell.setdefault(arm, []).append(run)
    found = []
    for values in sorted(cells, key=lambda values: [_sortable(value) for value in values]):
        arms = {arm: cells[values][arm] for arm in sorted(cells[values], key=rank)}
        found.append(Comparison(runs[0].study, _words(keys, values), arms))
    return found


def joined(studies: Studies) -> list[Comparison]:
    """Join the comparisons of all studies that train the same nets, in one setting and with every shared arm alike.

    Of two runs of one seed the study that is first by name has its own counted.
    """
    found: list[Comparison] = []
    for each in (comparison for of_study in studies.values() for comparison in of_study if comparison.runs):
        at = next((at for at, other in enumerate(found) if alike(each, other)), None)
        if at is None:
            found.append(each)
        else:
            found[at] = _join(found[at], each)
    return found


def alike(one: Comparison, other: Comparison, but: tuple[str, ...] = KEPT) -> bool:
    """Say whether two settings, and the arms that both have, differ in nothing `but` what begins so."""
    shared = one.arms.keys() & other.arms.keys()
    looked_at: list[tuple[Run, Run, tuple[str, ...]]] = [(one.runs[0], other.runs[0], (*but, "connection."))]
    looked_at += [(one.arms[arm][0], other.arms[arm][0], but) for arm in shared]
    return all(without(run, names) == without(beside, names) for run, beside, names in looked_at)


def training_key(run: Run) -> Hashable:
    """Identify what was trained, whatever was measured of it: two runs that share this are one training."""
    return run.seed, frozenset(without(run, MEASURED).items())


def without(run: Run, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings of a run but for those whose keys begin so."""
    return {key: value for key, value in settings(run).items() if not key.startswith(names)}


def _join(one: Comparison, other: Comparison) -> Comparison:
    arms = {arm: other.ended(arm) | one.ended(arm) for arm in sorted(one.arms | other.arms, key=rank)}
    runs = {arm: [of[seed] for seed in sorted(of)] for arm, of in arms.items() if of}
    new = sum(map(len, runs.values())) > sum(len(one.ended(arm)) for arm in one.arms)
    return Comparison(f"{one.name} + {other.name}", "", runs) if new else one


@once
def settings(run: Run) -> dict[str, Any]:
    """Return everything that makes the run id but the seed, as dotted keys with values that can be hashed."""
    flat = dotted(
        {key: value for key, value in run.config.items() if key not in ("seed", "study", "runtime")}
    )
    found = {"protocol_version": run.manifest.get("protocol_version"), **flat}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


def varying(settings: Collection[dict[str, Any]], of_connection: bool) -> list[str]:
    """Name the settings that are not the same in all runs: those of the connection, or all others."""
    keys = {key for each in settings for key in each if key.startswith("connection.") == of_connection}
    return sorted(key for key in keys if len({each.get(key) for each in settings}) > 1)


def _words(keys: Sequence[str], values: Sequence[Any]) -> str:
    def word(key: str, value: Any) -> str:
        group, _, last = key.rpartition(".")
        name = group.rpartition(".")[2] if last in ("name", "kind") else last
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{name} {text[:8] if last == 'sha256' else text}"

    return ", ".join(word(key, value) for key, value in zip(keys, values, strict=True))


def _sortable(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return (not number, value if number else 0.0, str(value))
