"""Command lines with something wrong in them; what becomes of each: refused in one line, trained, or neither."""

import io
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from functools import cache
from itertools import count
from pathlib import Path
from types import FrameType, NoneType
from typing import Any

import pytest

import train
from mhc_repro.command_line import compose, jobs
from mhc_repro.command_line.entry import MISTAKE, exit_code
from mhc_repro.config import Config, dotted
from mhc_repro.corpora import synthetic
from mhc_repro.runs import plan
from mhc_repro.training import loop
from mhc_repro.validation import RULES
from stopping import at_step
from tiny_runs import TINY

SECONDS = 60  # that a command line may take on a busy machine
LONGEST = 2_000  # characters that a person reads as one line
STEPS = 2

DEFAULTS = dotted(asdict(Config()))
FIELDS = list(DEFAULTS)
TRIED = [key for key in FIELDS if key != "runtime.compile"]  # which takes minutes to train with
WORDS = """
groups: connection model data optim train probe runtime protocol study precision

arms: baseline hc mhc mhc_static mhc_lite kromhc identity identity_mix history_simplex orthogonal mhc_exponent

odd: null true no [] [1,2] [[1]] {a:1} {} '' "" nan inf -inf -1 0 1 0.5 1e3 1e400 1e-400 0x10 1_000 -0 007 +5 ???
99999999999999999999 1000000000000000000000000000000 a/b ../x .. . /etc/passwd /dev/null/x ~nobody-here/x ~ - -- é
💥 '\\t' ${seed} ${study} ${model} ${nope} ${oc.env:HOME} ${oc.env:NO_SUCH_VARIABLE} ${oc.env:HOME,1} ${oc.decode:[}
${} ${ $ \\ a=b a:b [1 {a 'a "a a,b range(3) range(0) range(9999999999) glob(*) choice(1,2) interval(0,1) sort(2,1)
int(x) str(3) float(nan) int(3) json_str([1]) extend_list(1) ${.} ${..} ${${seed}} ${hydra:job.name} ${now:%s}
{0} !!str

hydra: hydra.mode hydra.verbose hydra.job.chdir hydra.job.name hydra.run.dir hydra.sweep.dir hydra.sweep.subdir
hydra.output_subdir hydra.sweeper.params hydra.sweeper.max_batch_size hydra.launcher.n_jobs hydra/launcher
hydra/sweeper hydra.searchpath hydra hydra.job hydra.callbacks hydra.job_logging hydra/job_logging hydra.launcher
"""
GROUPS, ARMS, ODD, OF_HYDRA = (part.partition(": ")[2].split() for part in WORDS.strip().split("\n\n"))
LONG = ["x" * 300, "x/" * 3_000, "é" * 200, "[" * 500 + "]" * 500, "{a:" * 200 + "1" + "}" * 200, "1" * 5_000]
FITTING: dict[type, list[Any]] = {
    bool: ["true", "false"],
    int: [0, 1, 2, 3, 4, 16, 17],
    float: [0, 1e-3, 0.1, 0.5, 1, 2.5],
    list: ["[]", "[0.9,0.95]", "[0,1]", "[mix]", "[read,write]"],
    NoneType: ["null", 1],
    str: ["none", "free", "a1", "sinkhorn"],
}


def command_lines(seed: int) -> Iterator[tuple[list[str], str]]:
    """Yield tiny runs without end, each with one or a few overrides that may be wrong, and the key of one alone."""
    draw = random.Random(seed)

    def odd() -> str:
        return str(draw.choice(LONG if draw.random() < 0.08 else ODD))

    def fitting(key: str) -> str:
        allowed = RULES[key].allowed if key in RULES else ""
        named = allowed.removeprefix("one of ").split(", ") if allowed.startswith("one of") else []
        return str(draw.choice(named or FITTING[type(DEFAULTS[key])]))

    while True:
        arm = draw.choice(ARMS)
        key = draw.choice(FIELDS)
        kind = draw.random()
        flags: list[str] = []
        alone = ""
        if kind < 0.5:
            wrong, alone = [f"{key}={odd()}"], key
        elif kind < 0.6:
            wrong = [f"{draw.choice(GROUPS)}={odd()}"]
        elif kind < 0.65:
            wrong = [f"{draw.choice(OF_HYDRA)}={odd()}"]
        elif kind < 0.7:
            sign = draw.choice(("+", "++", "~", "~", "~", ""))
            tail = draw.choice(("", ".x", "@x", "[0]", "x"))
            wrong = [f"{sign}{key}{tail}" + ("" if sign == "~" and draw.random() < 0.5 else f"={odd()}")]
        elif kind < 0.75:
            key = draw.choice(TRIED)
            flags, wrong = ["-m"], [f"{key}={odd()},{fitting(key)}"]
        else:  # each may be right, and contradict another
            wrong = [f"{each}={fitting(each)}" for each in draw.choices(TRIED, k=draw.randint(2, 4))]
        yield [*flags, f"connection={arm}", *TINY, *wrong], alone


class Hang(BaseException):
    """It took longer than it may; nothing in the package may catch this."""


@contextmanager
def workshop(folder: Path) -> Iterator[None]:
    """Train for two steps where `train.py` would train a run, and under `folder` wherever it is to write."""

    tried = count()

    def briefly(config: Config) -> int:
        given, anew = Path(config.runtime.results), folder / str(next(tried))
        config.runtime.results = str(anew / ("elsewhere" if given.is_absolute() else given))
        config.runtime.cache = str(folder / "cache")
        with at_step(STEPS, lambda: os.kill(os.getpid(), signal.SIGTERM)):
            return exit_code(lambda: 1 if loop.train(config) in ("failed", "busy") else 0)

    def hang(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = Path.cwd(), signal.signal(signal.SIGALRM, hang)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "train_here", briefly)
        patch.setattr(synthetic, "text", cache(synthetic.text))
        patch.setattr(plan, "read_runs", lambda root: [])  # no time from earlier runs
        patch.setenv("MHC_REPRO_CACHE", str(folder / "cache"))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before[0])
            signal.signal(signal.SIGALRM, before[1])


def outcome(argv: list[str], key: str = "") -> str:
    """Return `refused` (in one line, which names `key`), `trained`, or what happened instead."""

    def run() -> int:
        codes = [jobs.train_here(config) for config in compose.compose_jobs(argv)]
        return max(codes, default=0)

    said = io.StringIO()
    signal.alarm(SECONDS)
    try:
        with redirect_stderr(said), redirect_stdout(said):
            code = train.main(argv) if any("hydra" in line for line in argv) else exit_code(run)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except (Exception, Hang) as error:
        return f"{type(error).__name__}: {error}"[:LONGEST]
    finally:
        signal.alarm(0)
    line = said.getvalue()
    if code == 0:
        return "trained"
    if code != MISTAKE or not line.startswith("error: ") or line.count("\n") != 1:
        return f"exit {code}: {line}"
    if len(line) > LONGEST:
        return f"{len(line)} characters: {line[:200]}"
    return "refused" if key in line else f"does not name {key}: {line}"
