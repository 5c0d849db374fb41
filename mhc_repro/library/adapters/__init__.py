"""How hyper-connections of other code are read: an adapter a code base, chosen by a module's class alone.

No package is imported: a class is known by its name and by the name of the module that it comes from.
"""

from mhc_repro.library.adapters.base import Adapter, Sighting, Watch
from mhc_repro.library.adapters.deepseek import DeepseekReference, DeepseekV4
from mhc_repro.library.adapters.given import Given
from mhc_repro.library.adapters.lucidrains import Lucidrains
from mhc_repro.library.adapters.ours import Ours

__all__ = ["ADAPTERS", "Adapter", "Given", "Sighting", "Watch"]

ADAPTERS: tuple[Adapter, ...] = (Ours(), Lucidrains(), DeepseekV4(), DeepseekReference())
