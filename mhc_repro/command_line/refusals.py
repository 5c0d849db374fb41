"""Command lines that Hydra would take and that train what was not meant: each is refused in one line."""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import islice, repeat
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from mhc_repro import arm_files
from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.places import LOCAL, is_recorded, results_root

MOST = 10_000  # jobs of one command line
# What the command line may say of a recorded study: which of its runs ...
CHOSEN = ("study", "connection", "seed")
EXECUTION = re.compile(r"runtime\b|hydra\b(?!\.sweeper)|data\.path$")  # ... and how they are executed


def typed(job: DictConfig) -> list[str]:
    """Return the overrides of a job as they were typed, not what their interpolations stand for."""
    return cast(list[str], OmegaConf.to_container(job.hydra.overrides.task, resolve=False))


def parsed(loader: ConfigLoader, lines: list[str]) -> list[Override]:
    """Return overrides as Hydra's grammar reads them."""
    return OverridesParser.create(config_loader=loader).parse_overrides(lines)


def refuse_changed_study(
    args: argparse.Namespace, loader: ConfigLoader, configs: Sequence[Config], swept: Mapping[str, Any]
) -> None:
    """A study under `results` is what its file says: a try-out of another setting goes elsewhere."""
    if not any(is_recorded(results_root(each.runtime.results)) for each in configs):
        return
    its_own = {
        each.key_or_group: _values(each) for each in parsed(loader, [f"{k}={v}" for k, v in swept.items()])
    }
    for each in parsed(loader, args.overrides):
        key = each.key_or_group
        if key not in CHOSEN and not EXECUTION.match(key) and not _values(each) <= its_own.get(key, set()):
            raise UserError(
                f"{each.input_line}: the recorded study {configs[0].study} is what its file in conf/study says; "
                f"to try something else add runtime.results={LOCAL}"
            )


def _values(given: Override) -> set[str]:
    """Return what an override gives its key, one value or those of a sweep."""
    if given.is_discrete_sweep():
        return set(given.sweep_string_iterator())
    return {given.get_value_element_as_str()}


def refuse_merged_groups(job: DictConfig, loader: ConfigLoader) -> None:
    """Hydra merges `connection=[hc,mhc]` into an arm that is neither, and lets `~connection` leave none."""
    for group in (f.name for f in fields(Config) if is_dataclass(f.type)):
        options = loader.get_group_options(group)
        if options and group not in job.hydra.runtime.choices:
            of = ", ".join(options)
            raise UserError(f"{group}: a run has one of {of}; for a run of each write -m {group}=a,b")


def refuse_changed_about(job: DictConfig) -> None:
    """What an arm's file tells of it is known of that arm, and no setting."""
    for line in typed(job):
        if re.match(r"[+~]*connection\.about\b", line):
            raise UserError(f"{line}: what is known of an arm stands in its file in conf/connection alone")
    about = OmegaConf.to_container(job.connection.about)
    arm_files.understood(job.hydra.runtime.choices["connection"], about or None)


def refuse_another_arms_name(file: str, line: Sequence[str], name: str) -> None:
    """A copy of an arm's file that keeps its name would be taken for that arm, in every table."""
    if name != file and not any(re.match(r"[+~]*connection\.name\b", each) for each in line):
        raise UserError(f"connection={file}: its file says that its name is {name}; write name: {file} there")


def refuse_no_or_too_many(sweeps: Iterable[Override], loader: ConfigLoader) -> None:
    """A glob may match nothing, and an interval has no end."""
    named, count = [], 1
    for sweep in sweeps:  # counted as far as it matters
        values = sweep.sweep_string_iterator() if sweep.is_discrete_sweep() else repeat("")
        size = sum(1 for _ in islice(values, MOST + 1))
        named.append(str(sweep.input_line))
        count *= size
        if size == 0:
            options = loader.get_group_options(sweep.key_or_group)
            allowed = f"; there are {', '.join(options)}" if options else ""
            raise UserError(f"{sweep.input_line}: matches nothing, so there is nothing to run{allowed}")
    if count > MOST:
        raise UserError(
            f"{' '.join(named)}: more than {MOST:,} runs; make them fewer, for example seed=0,1,2"
        )
