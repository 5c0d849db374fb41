"""What a study will do before it does it: which runs are finished, which are to do, and for how long."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from mhc_repro import places
from mhc_repro.config import Config
from mhc_repro.runs import pace
from mhc_repro.runs.directory import DAMAGED, ENDED, RunDirectory
from mhc_repro.runs.manifest import cpu_model
from mhc_repro.runs.reader import Run, read_runs
from mhc_repro.words import duration

LEFT_ALONE = (*ENDED, "running", DAMAGED)


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a plan; `seconds_left` is 0 when there is nothing to do and None when nobody can say."""

    run_id: str
    study: str
    state: str
    step: int
    steps: int
    seconds_left: float | None


def plan(configs: Sequence[Config]) -> list[Planned]:
    """Return the runs that `configs` stand for, each once, in the order given."""
    directories = {(run := RunDirectory.of(config)).path: (run, config) for config in configs}
    named = (*(config.runtime.results for config in configs), *places.DEFAULT_ROOTS)
    roots = dict.fromkeys(map(places.results_root, named))
    earlier = [run for root in roots for run in read_runs(root) if pace.tells(run)]
    here = cpu_model()
    return [
        _planned(run, config, pace.on(config.runtime.device, here, earlier))
        for run, config in directories.values()
    ]


def table(planned: Sequence[Planned], how: str = "one after another") -> str:
    """Return the plan as text, the sum in its last line."""
    rows = [
        [one.run_id, one.study, one.state, f"{one.step}/{one.steps}", _left(one.seconds_left)]
        for one in planned
    ]
    body = tabulate(rows, ["run", "study", "state", "step", "time left"], disable_numparse=True)
    return f"{body}\n\n{summary(planned, how)}"


def summary(planned: Sequence[Planned], how: str = "one after another") -> str:
    """Return one line, such as `3 runs: 1 finished, 2 to do, about 1 h 54 min`."""
    states = Counter(one.state if one.state in LEFT_ALONE else "to do" for one in planned)
    parts = [f"{states[state]} {state}" for state in (*LEFT_ALONE, "to do") if states[state]]
    if states["to do"]:
        times = [one.seconds_left for one in planned if one.state not in LEFT_ALONE]
        known = [seconds for seconds in times if seconds is not None]
        after = f", {how}" if len(known) > 1 else ""
        parts.append(
            f"about {duration(sum(known))}{after}" if len(known) == len(times) else "time not known yet"
        )
    return f"{len(planned)} run{'s' * (len(planned) != 1)}: {', '.join(parts) or 'nothing to do'}"


def again(planned: Sequence[Planned], root: str) -> str:
    """Say how to train anew what is all done, beside it, and compare; empty while something is left to do."""
    if any(one.state not in ENDED for one in planned):
        return ""
    study, run = planned[0].study, planned[0].run_id
    if not (places.checkout() / "conf" / "study" / f"{study}.yaml").exists():
        return f"nothing to do; to train a run anew, delete its folder in {root}/{study}"
    beside = places.LOCAL if root != places.LOCAL else f"{places.LOCAL}/again"
    return (
        f"nothing to do; to train it anew and compare: make study STUDY={study} RESULTS={beside}, "
        f"then mhc-repro compare {root}/{study}/{run} {beside}/{study}/{run}"
    )


def _planned(run: RunDirectory, config: Config, earlier: list[Run]) -> Planned:
    if (state := run.state_or_damaged()) == DAMAGED:  # why it is, it says when its turn comes
        return Planned(run.run_id, config.study, state, 0, config.train.steps, 0.0)
    step = (run.read_status() or {}).get("step", 0)
    seconds = 0.0 if state in ENDED else pace.seconds(config, config.train.steps - step, earlier)
    return Planned(run.run_id, config.study, state, step, config.train.steps, seconds)


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return duration(seconds) if seconds else "-"
