"""What the user gave in several places as one set of values: the later place decides over the earlier."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassgpt import settings
from glassgpt.api.code import GIVEN_IN_PYTHON
from glassgpt.config import DIALECTS, Settings, preset
from glassgpt.planning.choose import RECIPE, head_count

DEFAULT_MINUTES = 10.0
DEFAULT_PRESET = "modern-tiny"
DEFAULT_OPTIM = RECIPE | {"batch_size": 16, "warmup": 20}
"""What suits the default preset, in a run of steps."""
LENGTHS = ("minutes", "steps", "tokens")
"""The settings of section run that say how long a run is; one of them counts."""

Given = Mapping[str, Mapping[str, Any]]
"""Section -> field -> value, as far as the user gave them."""


def has_length(run: Mapping[str, Any]) -> bool:
    """Whether section `run` says how long the run is."""
    return any(run.get(name) is not None for name in LENGTHS)


def stored_settings(config_file: Path) -> dict[str, Any]:
    """What a YAML file of settings holds, `text` as a list; its `run.code` is relative to it. Raises InputError."""
    stored: dict[str, Any] = settings.read_yaml(config_file)
    checked = Settings.from_dict(stored)  # or a key that nothing reads would be passed over
    if checked.run.code not in (None, GIVEN_IN_PYTHON):
        stored["run"] = stored["run"] | {"code": str(config_file.parent / checked.run.code)}
    return stored | {"text": checked.text}


def merge(
    stored: Mapping[str, Any], preset_name: str | None, given: Given, *, repeated: bool
) -> dict[str, dict[str, Any]]:
    """Section -> values, without what must wait for the text. `repeated`: the stored plan says how long the run is."""
    run, length = dict(stored.get("run") or {}), dict(given.get("run", {}))
    data = dict(stored.get("data") or {})
    if has_length(length) or repeated:
        run |= dict.fromkeys(LENGTHS)
    if stored.get("plan") and not repeated:  # what suited its time
        run, data = _without(run, "evaluations", "eval_tokens"), _without(data, "max_bytes")
    run |= length
    if not has_length(run) and not repeated:
        run["minutes"] = DEFAULT_MINUTES
    by_the_clock = run.get("minutes") is not None

    model = {DIALECTS.get(name, name): value for name, value in given.get("model", {}).items()}
    stored_model: dict[str, Any] = dict(stored.get("model") or {})
    if preset_name is None and not stored_model and "architecture" not in model and not by_the_clock:
        preset_name = DEFAULT_PRESET
    if stored_model and model:  # a size that follows from another is not kept when the other is given anew
        follow = {"embedding_dim": ("head_dim", "feed_forward_dim"), "n_heads": ("head_dim", "n_kv_heads")}
        stored_model = _without(stored_model, *(name for key in model for name in follow.get(key, ())))
    defaults = DEFAULT_OPTIM if preset_name == DEFAULT_PRESET and not by_the_clock else {}
    merged = {
        "model": stored_model | (preset(preset_name) if preset_name else {}) | model,
        "data": data | dict(given.get("data", {})),
        "optim": defaults | dict(stored.get("optim") or {}) | dict(given.get("optim", {})),
        "run": run,
    }
    width = str(merged["model"].get("embedding_dim", ""))
    if by_the_clock and width.isdecimal() and len(width) < 19 and int(width) and "n_heads" not in merged["model"]:
        merged["model"]["n_heads"] = head_count(int(width))
    tokenizer_given = "tokenizer" in given.get("data", {})
    if stored_model and tokenizer_given and "vocab_size" not in model:
        merged["model"].pop("vocab_size", None)
    return merged


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
