"""What may stand side by side: runs of a study that differ in arm and seed only.

A study that also sweeps depth or learning rate falls apart into one comparison per setting, so that
no mean ever runs over two protocols. A connection option that is swept within an arm makes arms of
its own ("mhc, n 2").
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from mhc_repro.analysis.arms import BASELINE, rank
from mhc_repro.config import Config
from mhc_repro.runs import Run

EXPECTED = (BASELINE, "hc", "mhc")  # shown with dashes when there is no run of them


@dataclass(frozen=True)
class Comparison:
    study: str
    setting: str  # what sets it apart within its study, "" if nothing does
    arms: dict[str, list[Run]]  # in the order of every table; seeds ascending

    @cached_property
    def runs(self) -> list[Run]:
        return [run for runs in self.arms.values() for run in runs]

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @property
    def slug(self) -> str:
        """Start of its file names."""
        words = f"{self.study} {self.setting}".replace(",", "").split()
        return "-".join(words).replace("/", "_")

    @property
    def protocol(self) -> str:
        """The setting in words: size, rate, length, data."""
        config = self.runs[0].config
        model, data = config["model"], config["data"]
        blocks = sorted({run.config["model"]["blocks"] for run in self.runs})  # several where depth is swept
        streams = sorted({run.config["connection"]["n"] for run in self.runs} - {1})
        return ", ".join(
            [
                f"{'/'.join(map(str, blocks))} blocks × {model['dim']}",
                *([f"n = {'/'.join(map(str, streams))}"] if streams else []),
                f"peak learning rate {config['optim']['lr']:g}",
                f"{config['train']['steps']} steps of {data['batch']} × {data['sequence']}",
                data["name"] if data["name"] != "synthetic" else "SYNTHETIC DATA",
            ]
        )

    @property
    def n(self) -> str:
        """How many seeds, and which."""
        if len(self.seeds) == 1:
            return f"one seed ({self.seeds[0]})"
        return f"{len(self.seeds)} seeds ({', '.join(map(str, self.seeds))})"


Studies = dict[str, list[Comparison]]  # by name


def comparisons(runs: list[Run]) -> list[Comparison]:
    """Split runs into comparisons: studies by name, settings in numerical order."""
    found = []
    for study in sorted({run.study for run in runs}):
        of_study = [run for run in runs if run.study == study]
        flat = {run.run_id: flatten(run) for run in of_study}
        settings = _varying(of_study, flat, lambda key: not key.startswith("connection."))
        cells: dict[tuple[Any, ...], list[Run]] = {}
        for run in of_study:
            cells.setdefault(tuple(flat[run.run_id].get(key) for key in settings), []).append(run)
        for values in sorted(cells, key=lambda values: [_sortable(value) for value in values]):
            arms: dict[str, list[Run]] = {}
            for run in sorted(cells[values], key=lambda run: run.seed):
                same = [other for other in of_study if other.connection == run.connection]
                options = _varying(same, flat, lambda key: key.startswith("connection."))
                label = _words(options, [flat[run.run_id].get(key) for key in options])
                arms.setdefault(", ".join(filter(None, [run.connection, label])), []).append(run)
            ordered = {arm: arms[arm] for arm in sorted(arms, key=rank)}
            found.append(Comparison(study, _words(settings, values), ordered))
    return found


def flatten(run: Run) -> dict[str, Any]:
    """Everything that makes the run id but its seed, as dotted keys."""
    flat: dict[str, Any] = {"protocol_version": run.manifest.get("protocol_version")}

    def walk(prefix: str, node: dict[str, Any]) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                walk(f"{prefix}{key}.", value)
            else:
                flat[f"{prefix}{key}"] = tuple(value) if isinstance(value, list) else value

    # first the defaults: an older run may lack a field that was added with a default that means "as before"
    for config in (asdict(Config()), run.config):
        walk("", {key: value for key, value in config.items() if key not in ("seed", "study", "runtime")})
    return flat


def _varying(runs: list[Run], flat: dict[str, dict[str, Any]], wanted: Callable[[str], bool]) -> list[str]:
    keys = sorted({key for run in runs for key in flat[run.run_id] if wanted(key)})
    return [key for key in keys if len({flat[run.run_id].get(key) for run in runs}) > 1]


def _words(keys: list[str], values: Any) -> str:
    def word(key: str, value: Any) -> str:
        group, _, last = key.rpartition(".")
        name = group.rpartition(".")[2] if last in ("name", "kind") else last
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{name} {text[:8] if last == 'sha256' else text}"

    return ", ".join(word(key, value) for key, value in zip(keys, values, strict=True))


def _sortable(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return (not number, value if number else 0.0, str(value))
