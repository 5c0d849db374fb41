"""Say in one line what is wrong with a command line or a config file, what is allowed, what to write instead.

Hydra's own messages take several lines, show its search path and suggest `+key`, which a typed config
refuses.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from mhc_repro.config import Config, dotted
from mhc_repro.words import assignment

SEE_ALL = "see all settings with --cfg job"
KEY = re.compile(r"[+~]*[\w@:/$-]+(\.[\w@:/$-]+)*")  # as Hydra reads one, with its group and package
WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list[float]: "a list of numbers",
    list[str]: "a list of words",
    dict[str, Any]: "a mapping",
}


def explain(error: Exception, overrides: list[str], loader: ConfigLoader, name: str, multirun: bool) -> str:
    """Return one line for what Hydra or OmegaConf raised when it composed `overrides`."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing(error.missing_cfg_file, error.options)
    parsed: list[Override] = []
    for line in overrides:
        try:
            parsed += OverridesParser.create(config_loader=loader).parse_overrides([line])
        except OverrideParseException as unreadable:
            return _unreadable(unreadable)
        except (ValueError, RecursionError) as unreadable:
            return f"{line}: cannot be read ({hydras_words(unreadable)})"
    groups = [each for each in parsed if loader.get_group_options(each.key_or_group)]
    for each in groups:
        if not each.is_sweep_override() and not each.is_delete() and not _may_name_a_file(each.value()):
            return _no_choice(str(each.input_line), loader.get_group_options(each.key_or_group))
    if not multirun and (sweep := next((each for each in parsed if each.is_sweep_override()), None)):
        return _not_one_value(sweep, is_group=sweep in groups)
    for each in parsed:
        if (
            is_dataclass(_type(each.key_or_group))
            and each not in groups
            and not isinstance(each.value(), dict)
        ):
            example = _example(each.key_or_group, dotted(asdict(Config())))
            return f"{each.input_line}: {each.key_or_group} is several settings{example}"
    lines = (each for each in parsed if each.is_delete())
    if kept := next((each for each in lines if str(error).endswith(f" {each.input_line}")), None):
        example = _example(kept.key_or_group, dotted(asdict(Config())))
        return f"{kept.input_line}: a run has all settings; leave it out, or set it{example}"
    cause = next((each for each in _chain(error) if isinstance(each, OmegaConfBaseException)), None)
    if cause is None or not cause.full_key or isinstance(error, RecursionError):
        place = _place(overrides, loader, name)
        return f"{place}: {hydras_words(error)}" if place else hydras_words(error)
    key = cause.full_key.partition("[")[0]
    file = re.match(r"In '(.+?)'", str(error))
    typed = (each.input_line for each in reversed(parsed) if f"{each.key_or_group}.".startswith(f"{key}."))
    line = f"{file[1]}.yaml" if file else next(typed, None) or key  # of several the last one counts
    base = _base(groups, loader, name)
    if isinstance(cause, ConfigKeyError | AttributeError):
        swept = any(each.is_sweep_override() for each in groups)
        hint = "; not every arm of the sweep has it" if swept and ".mixing." in key else ""
        whole = line.partition("=")[0].lstrip("+~")  # of which Hydra names as much as it did not know
        return unknown_field(line, whole if whole.startswith(f"{key}.") else key, base) + hint
    if isinstance(cause, ValidationError) and (expected := _expected(key)):
        return f"{line}: {key} must be {expected}{_example(key, base)}"
    return hydras_words(error)


def unresolved(error: OmegaConfBaseException, written: Mapping[str, Any]) -> str:
    """Return the line for a value that is missing or none of its field's, among dotted settings as `written`."""
    key = (error.full_key or "").partition("[")[0]
    if key not in written:
        return f"{key}: {hydras_words(error)}" if key else hydras_words(error)
    line, expected = assignment(key, written[key]), _expected(key)
    if expected is None:
        return f"{line}: {hydras_words(error)}"
    return f"{line}: {key} must be {expected}{_example(key, dotted(asdict(Config())))}"


def unknown_field(line: str, key: str, known: Mapping[str, Any]) -> str:
    """Return the line for a setting that does not exist, with the nearest of the dotted keys that do."""
    value = line.partition("=")[2]
    parent = key.rpartition(".")[0]
    inside = [name for name in known if name.startswith(f"{parent}.")] if parent else []
    if inside == ["hydra.launcher._target_"]:
        return f"{line}: Hydra's own launcher has nothing to set; add one that has, hydra/launcher=joblib"
    shown = [name[len(parent) + 1 :].partition(".")[0] for name in inside]
    where = parent if shown else "a run"
    shown = shown or [name.partition(".")[0] for name in known if not name.startswith("hydra.")]
    near = _nearest(key, [name for name in known if name.startswith("hydra.") == key.startswith("hydra.")])
    hint = f"the nearest is {assignment(near, value or known.get(near, ''))}" if near else SEE_ALL
    return f"{line}: there is no {key}; {where} has {', '.join(dict.fromkeys(shown))}; {hint}"


def hydras_words(error: BaseException) -> str:
    """Return the message of an exception and of its cause on one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or refers to itself"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    texts = [str(each).partition("\n    full_key")[0] for each in (error, cause) if each is not None]
    texts = texts if any(texts) else [type(error).__name__]
    return "; ".join([*(" ".join(text.split()).rstrip(".") for text in texts if text.strip()), SEE_ALL])


def _unreadable(error: OverrideParseException) -> str:
    line, _, reason = error.override, *error.message.partition("\n")[::2]
    key, _, value = line.partition("=")
    if "=" not in line:
        return f"{line}: a setting is key=value, for example seed=0; {SEE_ALL}"
    if not KEY.fullmatch(key):
        return unknown_field(line, key.lstrip("+~"), dotted(asdict(Config())))
    first = error.message.splitlines()[0] if not error.message.startswith("Error parsing") else reason
    why = " ".join(first.partition("See https")[0].split())
    return f"{line}: cannot be read ({why}); close brackets and quote special characters: '{key}=\"{value}\"'"


def _missing(file: str, options: Sequence[str] | None) -> str:
    group, _, choice = file.rpartition("/")
    if not group or not options:
        return f"there is no config {file}; leave out --config-name to use config"
    example = (get_close_matches(choice.lower(), options, n=1, cutoff=0.5) or [*options, choice])[0]
    hint = "; launchers come with pip install -e '.[launchers]'" if group == "hydra/launcher" else ""
    return (
        f"{group}={choice}: there is no such {group.rpartition('/')[2]}; "
        f"choose one of {', '.join(options)}, for example {group}={example}{hint}"
    )


def _may_name_a_file(value: Any) -> bool:
    return isinstance(value, str) and "${" not in value and len(value.encode()) < 200


def _place(overrides: list[str], loader: ConfigLoader, name: str) -> str | None:
    """Name the config file that cannot be read, or else the override without which all is well."""
    for source in loader.get_sources():
        for path in sorted(Path(source.path).rglob("*.yaml")) if source.scheme() == "file" else ():
            try:
                OmegaConf.load(path)
            except Exception:
                return str(path)
    for line in reversed(overrides):
        try:
            loader.load_configuration(name, [each for each in overrides if each != line], RunMode.MULTIRUN)
        except Exception:
            continue
        return line
    return None


def _no_choice(line: str, options: Sequence[str]) -> str:
    key = line.partition("=")[0]
    if not key.lstrip("+~"):
        return f"{line}: a setting is key=value, for example seed=0; {SEE_ALL}"
    return f"{line}: choose one of {', '.join(options)}, for example {key}={options[0]}, or leave it out"


def _not_one_value(sweep: Override, is_group: bool) -> str:
    key, _, values = str(sweep.input_line).partition("=")
    is_list = sweep.value_type == ValueType.SIMPLE_CHOICE_SWEEP and not is_group
    bracketed = f"; one list is {key}=[{values}]" if is_list else ""
    return f"{sweep.input_line}: several values are several runs: add -m{bracketed}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _base(groups: list[Override], loader: ConfigLoader, name: str) -> dict[str, Any]:
    """Return what there is to set, with its values, once the groups are chosen."""
    lines = [str(each.input_line) for each in groups if not each.is_sweep_override()]
    try:
        composed = loader.load_configuration(name, lines, RunMode.RUN)
    except (HydraException, OmegaConfBaseException):
        composed = OmegaConf.structured(Config)
    settings = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(settings, dict)
    return dotted(settings)


def _example(key: str, settings: Mapping[str, Any]) -> str:
    found = next((each for each in settings if f"{each}.".startswith(f"{key}.")), None)
    return f"; for example {assignment(found, settings[found])}" if found else ""


def _expected(key: str) -> str | None:
    """Return in words what the schema wants at a dotted key."""
    hint = _type(key)
    parts = get_args(hint)
    if NoneType in parts:
        return f"{WORDS.get(parts[0], 'a value')} or null"
    return WORDS.get(hint)


def _type(key: str) -> Any:
    hint: Any = Config
    for part in key.split("."):
        hint = get_type_hints(hint).get(part) if isinstance(hint, type) else None
    return hint


def _nearest(key: str, known: Iterable[str]) -> str | None:
    """Return the most similar key; one that ends in the same word comes first: `lr` means `optim.lr`."""
    keys = list(known)
    leaves = {name.rpartition(".")[2]: name for name in reversed(keys)}
    leaf = key.rpartition(".")[2]
    if leaf in leaves:
        return leaves[leaf]
    groups = list(dict.fromkeys(name.partition(".")[0] for name in keys if "." in name))
    if "." not in key and (group := get_close_matches(key, groups, n=1, cutoff=0.8)):
        return group[0]
    near = get_close_matches(key, keys, n=1) or [
        leaves[each] for each in get_close_matches(leaf, leaves, n=1)
    ]
    return near[0] if near else None
