"""Find a run by what a person would type, and put the numbers of one or two runs in words."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mhc_repro.analysis import printed
from mhc_repro.analysis.tables import cells
from mhc_repro.errors import UserError
from mhc_repro.evidence.comparison import settings
from mhc_repro.evidence.ledger import LEDGER, values
from mhc_repro.evidence.readings import column
from mhc_repro.runs import ENDED, Run, read_run

# what a batch follows from, with its step
PAIRED = ("seed", "data.name", "data.sha256", "data.batch", "data.sequence")
TAIL = 10  # one part in ten: the last losses, over which two runs are compared


def find(name: str, runs: Sequence[Run], faults: Mapping[Path, UserError]) -> Run:
    """Return the run of a folder, an id or its unique beginning, with or without `study/` before it.

    A damaged one raises its fault.
    """
    if (Path(name) / "config.yaml").exists():
        return read_run(name)
    named = [(run.path, run) for run in runs] + list(faults.items())
    found = [each for each in named if name in _names(each[0])]
    found = found or [each for each in named if any(full.startswith(name) for full in _names(each[0]))]
    if len(found) == 1:
        run = found[0][1]
        if isinstance(run, UserError):
            raise run
        return run
    if found:
        full = [_names(path)[1] for path, _ in found]
        choices = full if len({*full}) == len(full) else [str(path) for path, _ in found]
        some = ", ".join(choices[:5]) + ", ..." * (len(choices) > 5)
        raise UserError(f"{name}: {len(found)} runs are called so; name one of them: {some}")
    near = get_close_matches(name, {run.run_id for run in runs}, n=3, cutoff=0.3)
    raise UserError(
        f"{name}: no such run; {'nearest: ' + ', '.join(near) if near else 'mhc-repro ls lists all'}"
    )


def known(run: Run) -> dict[str, Any]:
    """Return the settings of a run; of a model of one's own, of which most are unknown, those that were seen."""
    if not run.own:
        return run.config
    return {
        "seed": run.seed,
        "study": run.study,
        "connection": {"name": run.connection, "n": run.n},
        "model": {"own": run.own, "layers": run.layers},
        "data": {key: run.config["data"][key] for key in ("batch", "sequence")},
        "probe": {"every": run.config["probe"]["every"]},
    }


def _names(path: Path) -> tuple[str, str]:
    return path.name, f"{path.parent.name}/{path.name}"


def numbers(run: Run) -> dict[str, float]:
    """Return every quantity of a run by its label; NaN until it has ended."""
    return {LEDGER[name].label: value for name, value in values(run).items()}


def held_out(run: Run) -> str:
    """Word the held-out loss of a run: in bits, or in nats a token where these stand for no known bytes."""
    bits = cells.held_out_bpc([run])
    losses = [(column(run.metrics, f"loss/{split}"), split) for split in ("test", "val")]
    known = [f"{loss.iloc[-1]:.3f} nats ({split})" for loss, split in losses if len(loss)]
    return known[0] if bits == printed.DASH and known and run.state in ENDED else bits


def differences(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two runs differ, as dotted keys with both values; None where one has none."""
    left, right = ({"study": run.study, "seed": run.seed, **settings(run)} for run in (a, b))
    keys = dict.fromkeys([*left, *right])
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def paired(a: Run, b: Run) -> str:
    """Return the difference of the training losses on the same batches in words, or why there is none."""
    found = differences(a, b)
    unlike = [key for key in PAIRED if key in found]
    if unlike:
        return f"not paired: the runs saw other batches, since they differ in {', '.join(unlike)}"
    losses = [column(run.metrics.set_index("step"), "loss/train") for run in (a, b)]
    gap = (losses[1] - losses[0]).dropna()
    if gap.empty:
        return "paired, but no step in common yet"
    last = gap.tail(max(1, len(gap) // TAIL))
    return (
        f"paired on {len(gap)} batches; on the last {len(last)}, train loss B - A is {last.mean():+.3g} nats on "
        f"average, and B is lower on {100 * (last < 0).mean():.0f} %; one seed is no claim"
    )
