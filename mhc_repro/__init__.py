"""Do Hyper-Connections destabilise training, and does mHC's doubly stochastic H_res cure it?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mhc_repro.arm_files import arm_names
    from mhc_repro.errors import UserError
    from mhc_repro.library.groups import parameter_groups
    from mhc_repro.library.injection import eject, inject
    from mhc_repro.library.monitor import GainMonitor
    from mhc_repro.library.settings import connection_config
    from mhc_repro.library.wrapping import expand_and_reduce, hyper_connection

__version__ = "0.1.0"
__all__ = [
    "GainMonitor",
    "UserError",
    "arm_names",
    "connection_config",
    "eject",
    "expand_and_reduce",
    "hyper_connection",
    "inject",
    "parameter_groups",
]

# Where each lives: torch is loaded by whoever uses what needs it, not by `import mhc_repro`.
PUBLIC = {
    "GainMonitor": "library.monitor",
    "UserError": "errors",
    "arm_names": "arm_files",
    "connection_config": "library.settings",
    "eject": "library.injection",
    "expand_and_reduce": "library.wrapping",
    "hyper_connection": "library.wrapping",
    "inject": "library.injection",
    "parameter_groups": "library.groups",
}


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(import_module(f"mhc_repro.{PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
