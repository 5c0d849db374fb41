"""The settings of an arm by its name, checked, without Hydra."""

from copy import deepcopy
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from typing import Any

from mhc_repro.arm_files import arm_names, settings
from mhc_repro.config import Config, ConnectionConfig
from mhc_repro.errors import UserError
from mhc_repro.reading import Unfit, fit


def connection_config(arm: str | ConnectionConfig = "mhc", **changes: Any) -> ConnectionConfig:
    """Return the settings of an arm, or settings of one's own, with `changes` such as n=2 made and checked.

    A change of `mixing` is merged into the arm's, mixing={"iterations": 5}, but one to another kind. UserError
    where there is no such arm or setting, or where the settings do not fit together.
    """
    if isinstance(arm, str):
        if arm not in arm_names():
            near = get_close_matches(arm, arm_names(), n=3)
            known = (
                f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(arm_names())}"
            )
            raise UserError(f"arm={arm}: no such arm; {known}")
        config = ConnectionConfig(**settings(arm))
    elif isinstance(arm, ConnectionConfig):
        config = arm
    else:
        raise UserError(f'arm={arm!r}: must be the name of an arm or its settings, for example "mhc"')
    known_fields = {each.name: each.type for each in fields(ConnectionConfig)}
    for key in changes:
        if key not in known_fields:
            near = get_close_matches(key, known_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known_fields)}"
            raise UserError(f"{key}={changes[key]}: no setting of a connection; {hint}")
    mixing = changes.get("mixing")
    if isinstance(mixing, dict) and mixing.get("kind", config.mixing["kind"]) == config.mixing["kind"]:
        changes["mixing"] = config.mixing | mixing
    config = deepcopy(replace(config, **changes))
    try:
        fit(asdict(config), ConnectionConfig)
    except Unfit as unfit:
        raise UserError(f"connection.{unfit}") from None
    from mhc_repro.validation import validate_connection

    validate_connection(Config(connection=config))
    return config
