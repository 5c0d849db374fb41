"""Which run is this? Two configs that share an id promise the same numbers, up to rounding.

To the last bit they are the same on one machine, with one set of versions and threads (the manifest's
fingerprint) and one code (its sessions). Where it runs (`runtime`) and what it is run for (`study`) are left
out; the data's sha256 is part of the config and so of the id. Numbers are compared by value: `clip: 1` and
`clip: 1.0` are one setting. Only what differs from the schema's defaults is hashed, so that a field added later,
with a default that means "as before", leaves the ids of recorded runs alone, and is read as that default.
(`connection.mixing` is hashed as written, since the defaults of its fields are its kind's, which need torch.)
Changing a default needs a new PROTOCOL_VERSION.
"""

import dataclasses
import hashlib
import json
from typing import Any

from mhc_repro import reading
from mhc_repro.config import Config, dotted

# By group, what the schema once had, with the value under which a run is as one without it.
RETIRED: dict[str, dict[str, Any]] = {
    "model": {"dtype": "float32"},  # train.precision
    "guards": {  # evidence.verdicts
        "judged_after": 0.05,
        "spread": 1e-4,
        "distance": 1e-4,
        "moved": 1e-5,
        "vertex": 1e-6,
        "slope": 1e-3,
        "residual": 0.25,
        "gradient": 1e-9,
    },
}
PROTOCOL_VERSION = 1  # raise it when the same config would give other numbers than before


def resolved(config: Config) -> dict[str, Any]:
    """Return what `config.yaml` holds: everything but `runtime` and `data.path`, which name a machine's places."""
    found = {key: value for key, value in dataclasses.asdict(config).items() if key != "runtime"}
    del found["data"]["path"]
    return found


def completed(config: Any) -> dict[str, Any]:
    """Return a config with the defaults of what it does not have, and without what is retired and changes nothing.

    Unfit where it is none of this version.
    """
    whole = resolved(reading.fit(config, Config))
    old = {group: config[group] for group in RETIRED if group in config}
    for group, values in _without_retired(reading.fit(old, dict[str, dict[str, Any]])).items():
        kept = {key: value for key, value in values.items() if key in RETIRED[group]}
        whole |= {group: whole.get(group, {}) | kept} if kept else {}
    known = dotted(whole).keys() | {f"{group}.{key}" for group, keys in RETIRED.items() for key in keys}
    if foreign := dotted(config).keys() - known:
        raise reading.Unfit(f"{min(foreign, key=str)}: no setting of this version")
    return whole


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, whole floats as integers."""
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"))


def identify(config: dict[str, Any], protocol_version: int = PROTOCOL_VERSION) -> str:
    """Return the run id of a resolved config, as `config.yaml` holds it."""
    defaults = dataclasses.asdict(Config())
    promised: dict[str, Any] = {"seed": config["seed"]}
    for group, values in _without_retired(config).items():
        if group not in ("seed", "study", "runtime"):
            known = defaults.get(group, {})
            chosen = {k: v for k, v in values.items() if _whole(v) != _whole(known.get(k))}
            promised |= {group: chosen} if chosen else {}
    text = canonical_json({"protocol_version": protocol_version, "config": promised})
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{config['connection']['name']}-s{config['seed']}-{digest}"


def run_id(config: Config) -> str:
    """Return `<connection name>-s<seed>-<8 hex digits of the sha256 of what the numbers depend on>`."""
    return identify(resolved(config))


def _without_retired(config: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for group, values in config.items():
        retired = RETIRED.get(group)
        if retired is not None:
            values = {k: v for k, v in values.items() if k not in retired or _whole(v) != _whole(retired[k])}
        if retired is None or values:
            found[group] = values
    return found


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
