"""GlassGPT: build, train, understand, run and share your own GPT.

Importing this package imports no torch; each name below loads its room when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassgpt.api.compare import compare as compare
    from glassgpt.api.export import export as export
    from glassgpt.api.loaded import load as load
    from glassgpt.api.train import train as train
    from glassgpt.config import GPTConfig as GPTConfig
    from glassgpt.model import GPTModel as GPTModel
    from glassgpt.planning.plan import plan as plan
    from glassgpt.settings import InputError as InputError
    from glassgpt.skeleton import DummyGPTModel as DummyGPTModel

__version__ = "0.1.0"

# Threads of torch that wait for each other spin a little and then sleep. The default is to spin on, which on a machine
# with other work takes the core from the thread that is waited for (figures in docs/log.md). It acts where torch is
# imported after this, and leaves a value of the user's alone.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_HOMES = {
    "train": "glassgpt.api.train",
    "compare": "glassgpt.api.compare",
    "load": "glassgpt.api.loaded",
    "export": "glassgpt.api.export",
    "plan": "glassgpt.planning.plan",
    "GPTConfig": "glassgpt.config",
    "InputError": "glassgpt.settings",
    "GPTModel": "glassgpt.model",
    "DummyGPTModel": "glassgpt.skeleton",
}

__all__ = ["DummyGPTModel", "GPTConfig", "GPTModel", "InputError", "compare", "export", "load", "plan", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'glassgpt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
