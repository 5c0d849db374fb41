"""From a command line to configs: every job of a (multi)run is composed and validated before one runs.

Departs from Hydra's custom of composing a job when its turn comes: a mistake in the ninth job would show
after hours. Grammar, sweeps and composition are Hydra's own, so the jobs checked here are the jobs it runs.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mhc_repro.cache import cache_directory
from mhc_repro.command_line import launcher, mistakes
from mhc_repro.command_line.entry import given_text
from mhc_repro.command_line.refusals import (
    parsed,
    refuse_another_arms_name,
    refuse_changed_about,
    refuse_changed_study,
    refuse_merged_groups,
    refuse_no_or_too_many,
    typed,
)
from mhc_repro.command_line.sweep import Sweep
from mhc_repro.config import Config, ConnectionConfig, dotted
from mhc_repro.corpora import given as corpora
from mhc_repro.errors import UserError
from mhc_repro.places import checkout
from mhc_repro.validation import validate
from mhc_repro.words import assignment

CONF = checkout() / "conf"
NAME = "config"


@dataclass
class _Arm(ConnectionConfig):
    about: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Composed(Config):
    """What Hydra composes: a run, and what the arm's file says about the arm, which is no setting."""

    connection: _Arm = field(default_factory=_Arm)


# What `conf/config.yaml` extends: a wrong key or type then stops composition.
ConfigStore.instance().store(name="schema", node=_Composed)
OmegaConf.register_new_resolver("cache_directory", lambda given: str(cache_directory(given)), replace=True)


def compose_jobs(argv: Sequence[str]) -> list[Config]:
    """Return the validated config of each job that `experiments/train.py` would run with `argv`, in order.

    Raises UserError with one line for the first mistake: grammar, names, types, files, ranges.
    """
    return _compose(_arguments(argv)).configs


def for_hydra(argv: Sequence[str]) -> list[str]:
    """Put -m before the settings, since Hydra's parser refuses those that follow it, and ++ before H_res's own.

    Hydra knows of these what the arm's file happens to say; `make_kind` knows and checks them all.
    """
    flags = [each for each in argv if each in ("-m", "--multirun")]
    others = [each for each in argv if each not in flags]
    return [*flags, *(re.sub(r"^(?=connection\.mixing\.\w)", "++", each) for each in others)]


def check_command_line(argv: Sequence[str]) -> Sweep:
    """Return the jobs of a command line; none when it only asks Hydra to show something."""
    shown = Sweep([], [], None)
    args = _arguments(argv)
    if args.help or args.cfg or args.info:
        with _loader(args) as loader:
            _load(loader, args, RunMode.RUN)
        return shown
    if args.hydra_help or args.shell_completion or args.experimental_rerun:
        return shown
    return _compose(args)


def to_config(composed: DictConfig) -> Config:
    """Return the plain dataclass of a composed job; UserError for a missing or unresolvable value."""
    with open_dict(composed):
        composed.pop("hydra", None)
    written = _plain(composed, resolve=False)
    try:
        given = dotted(resolved := _plain(composed, resolve=True))
        known = dotted(asdict(Config()))
        for key in given.keys() - known.keys():  # +key=value enters even a typed config
            if not key.startswith("connection.mixing"):  # which has the fields of its kind
                raise UserError(mistakes.unknown_field(assignment(f"+{key}", given[key]), key, known))
        # What an interpolation stands for has no type until it is merged anew.
        schema = OmegaConf.structured(Config(connection=ConnectionConfig(mixing={})))
        made = OmegaConf.to_object(OmegaConf.merge(schema, resolved))
    except OmegaConfBaseException as error:
        raise UserError(mistakes.unresolved(error, dotted(written))) from None
    assert isinstance(made, Config)
    made.data = corpora.identified(made.data)
    return made


def _plain(composed: DictConfig, resolve: bool) -> dict[str, Any]:
    plain = OmegaConf.to_container(composed, resolve=resolve, throw_on_missing=resolve)
    made = cast(dict[str, Any], plain)
    made["connection"].pop("about", None)  # of the arm, which is no setting
    return made


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; see --hydra-help for the flags, and give settings as key=value")

    parser.error = refuse  # type: ignore[method-assign]
    parser.register("type", None, given_text)
    args = parser.parse_args(for_hydra(argv))
    actions = ("run", "multirun", "cfg", "info", "shell_completion")
    if sum(bool(getattr(args, name)) for name in actions) > 1:
        refuse(f"only one of --{', --'.join(actions)} can be given".replace("_", "-"))
    if args.resolve and not (args.cfg or args.help):
        refuse("--resolve goes with --cfg or --help")
    args.config_name = args.config_name or NAME
    return args


@contextmanager
def _loader(args: argparse.Namespace) -> Iterator[ConfigLoader]:
    folder = CONF if args.config_path is None else CONF.parent / "experiments" / args.config_path
    for path in (folder, args.config_dir and Path(args.config_dir)):
        if path and not path.is_dir():
            raise UserError(f"{path}: no such folder of configs; leave out the flag to use {CONF.name}/")
    with initialize_config_dir(str(folder.resolve()), job_name="train", version_base="1.3"):
        loader = cast(Any, GlobalHydra.instance().config_loader())
        loader.get_group_options = loader.repository.get_group_options  # its own copies all there is to do so
        yield loader


def _compose(args: argparse.Namespace) -> Sweep:
    with _loader(args) as loader:
        try:
            master = _load(loader, args, RunMode.MULTIRUN)
            swept = master.hydra.sweeper.get("params") or {}
            jobs, multirun = _jobs(loader, args, master, swept)
        except OmegaConfBaseException as error:  # an interpolation among Hydra's own settings
            raise UserError(mistakes.unresolved(error, {})) from None
        for job in jobs:
            refuse_merged_groups(job, loader)
            refuse_changed_about(job)
        # Hydra's own part is the same in all.
        n_jobs = launcher.n_jobs(jobs[0]) if multirun else None
        queue = launcher.queue(jobs[0]) if multirun else None
        name = jobs[0].hydra.runtime.choices["hydra/launcher"] if multirun else "basic"
        folder = ["--config-dir", args.config_dir] if args.config_dir else []
        lines = [[*folder, *typed(job)] for job in jobs]
        files = [job.hydra.runtime.choices["connection"] for job in jobs]
        configs = [to_config(job) for job in jobs]
        for file, line, each in zip(files, lines, configs, strict=True):
            validate(each)
            refuse_another_arms_name(file, line, each.connection.name)
        refuse_changed_study(args, loader, configs, swept)
    return Sweep(configs, lines, n_jobs, name, queue)


def _jobs(
    loader: ConfigLoader, args: argparse.Namespace, master: DictConfig, swept: Mapping[str, Any]
) -> tuple[list[DictConfig], bool]:
    """Return the jobs, and whether they are those of a multirun, which sweeps what its file says beside `args`."""
    if not args.multirun and (args.run or master.hydra.mode != RunMode.MULTIRUN):
        sweeps = any(each.is_sweep_override() for each in parsed(loader, args.overrides))
        return [_load(loader, args, RunMode.RUN) if sweeps else master], False
    launcher.check_batches(master.hydra.sweeper)
    lines = [f"{key}={value}" for key, value in swept.items()] + typed(master)
    with _explained(loader, args, lines):
        given = parsed(loader, lines)
        refuse_no_or_too_many((each for each in given if each.is_sweep_override()), loader)
        batches = BasicSweeper.split_arguments(given, max_batch_size=None)
    jobs = []
    for job in chain.from_iterable(batches):
        overrides = [*master.hydra.overrides.hydra, *job]
        with _explained(loader, args, overrides, of=f" (job: {' '.join(job)})"):
            jobs.append(loader.load_sweep_config(master, job))
    return jobs, True


def _load(loader: ConfigLoader, args: argparse.Namespace, mode: RunMode) -> DictConfig:
    overrides = [*args.overrides]
    if args.config_dir:
        overrides.insert(0, f"hydra.searchpath=['file://{Path(args.config_dir).resolve()}']")
    with _explained(loader, args, overrides, multirun=mode == RunMode.MULTIRUN):
        return loader.load_configuration(args.config_name, overrides, mode)


@contextmanager
def _explained(
    loader: ConfigLoader, args: argparse.Namespace, overrides: list[str], multirun: bool = True, of: str = ""
) -> Iterator[None]:
    """Raise UserError, in one line, for whatever Hydra raises while it composes `overrides`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = mistakes.explain(error, overrides, loader, args.config_name, multirun)
        raise UserError(f"{line}{of}") from None
