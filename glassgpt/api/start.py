"""From what the user gave to what a run starts with: its settings, its text, its directory."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glassgpt import settings
from glassgpt.api.device import usable_device
from glassgpt.checkpoint.atomic import remove_litter
from glassgpt.checkpoint.directory import TrainerState, load_trainer_state
from glassgpt.checkpoint.run import RunDirectory, find_run, new_run
from glassgpt.config import OTHER_TOOLS, DataConfig, GPTConfig, Kernel, RunConfig, Settings, preset
from glassgpt.data.batches import Batches
from glassgpt.data.prepare import Prepared, open_prepared, prepare
from glassgpt.native.library import has_bf16, tier
from glassgpt.native.trainer import suits
from glassgpt.ops.batched import fastest_matmul_dtype
from glassgpt.ops.linear import has_onednn
from glassgpt.planning.memory import training_memory
from glassgpt.planning.parameters import total_parameters
from glassgpt.settings import InputError
from glassgpt.text.documents import Reading, read_documents
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.training.metrics import physical_bytes

DEFAULT_CACHE = Path("~/.cache/glassgpt")
DEFAULT_PRESET = "modern-tiny"
DEFAULT_STEPS = 2000
DEFAULT_OPTIM = {"learning_rate": 3e-3, "batch_size": 16}
"""What suits the default preset; the sizes of gpt2 want a tenth of this learning rate."""
NATIVE_PARAMETERS = 30_000_000
"""Up to here the native step is taken; larger matrices keep PyTorch's products busy as it is."""
EVALUATIONS = 10
"""In a run, where run.eval_every does not say otherwise."""

Given = Mapping[str, Mapping[str, Any]]
"""Section -> field -> value, as far as the user gave them."""


@dataclass(frozen=True)
class Start:
    """What a run starts with."""

    directory: RunDirectory
    settings: Settings
    prepared: Prepared
    total_steps: int
    checkpoint: Path | None = None
    """Where a resumed run goes on."""
    state: TrainerState | None = None
    notes: tuple[str, ...] = ()
    """What the user should know, a line each."""

    @property
    def batches(self) -> Batches:
        model, optim, run = self.settings.model, self.settings.optim, self.settings.run
        return Batches(self.prepared.train, model.context_length, optim.batch_size, run.seed)


def new_start(
    sources: Sequence[str], given: Given, *, preset_name: str | None, config_file: Path | None, out: Path | None
) -> Start:
    """Settle every setting of a new run and prepare its text.

    The later decides over the earlier: the defaults, the YAML file, the preset, the values given. Everything is
    checked before the text is read. Raises InputError.
    """
    stored: dict[str, Any] = settings.read_yaml(config_file) if config_file else {}
    Settings.from_dict(stored)  # or a key that nothing reads would be passed over
    merged = _merge(stored, preset_name, given)
    Settings.from_dict({"model": merged["model"]} | {name: merged[name] for name in ("data", "optim", "run")})
    data = settings.build(DataConfig, merged["data"], "data", OTHER_TOOLS)
    texts = list(sources) or [str(source) for source in stored.get("text") or ["pydoc"]]
    cache = cache_folder(data)
    reading = read_documents(texts, invalid_utf8=data.invalid_utf8, cache_dir=cache)
    prepared = prepare(reading.documents, data, cache)
    vocab_size = merged["model"].setdefault("vocab_size", prepared.tokenizer.vocab_size)
    _fits(int(vocab_size), prepared)
    chosen = Settings.from_dict(
        {
            "text": [_lasting(source, reading, cache) for source in texts],
            "prepared": prepared.hash,
            **merged,
        }
    )
    chosen, total_steps = _settle(chosen, prepared)
    _refuse_what_memory_cannot_hold(chosen)
    directory = new_run(str(out) if out else None, _run_name(texts))
    return Start(directory, chosen, prepared, total_steps, notes=tuple(_notes(reading)))


def resumed_start(run: str, given: Given) -> Start:
    """Go on with a run from its newest intact checkpoint, with its own settings.

    Only section `run` may be changed. Raises InputError for other changes, for a text or tokenizer that is no
    longer the run's, and where there is nothing to resume.
    """
    directory = find_run(run)
    remove_litter(directory.path)
    point = directory.resume_point()
    checkpoint = point.checkpoint
    chosen = Settings.from_dict(settings.read_yaml(directory.path / "config.yaml"))
    _refuse_changes(chosen, given, directory.path)
    changed: dict[str, Any] = dict(given.get("run", {}))
    if changed.get("steps") or changed.get("tokens"):  # one of the two stands for the length of a run
        changed = {"steps": None, "tokens": None, **changed}
    run_config = settings.build(RunConfig, settings.to_dict(chosen.run) | changed, "run", OTHER_TOOLS)
    chosen = dataclasses.replace(chosen, run=run_config)
    prepared = _prepared_again(chosen)
    if Tokenizer.load(checkpoint).fingerprint() != prepared.tokenizer.fingerprint():
        raise InputError(
            f"{checkpoint} was trained with another tokenizer than the text {chosen.prepared} is prepared with: "
            "start a new run with `glassgpt train`"
        )
    state = load_trainer_state(checkpoint)
    notes = [f"passed over: {why}" for why in point.passed_over]
    if state.counters["threads"] != chosen.run.threads:
        notes.append(f"not bit-identical: {chosen.run.threads} threads now, {state.counters['threads']} before")
    chosen, total_steps = _settle(chosen, prepared)
    if state.counters["step"] >= total_steps:
        raise InputError(
            f"{directory.path} has done {state.counters['step']} steps of {total_steps}: give more with --steps, "
            f"or write with `glassgpt generate {directory.path}`"
        )
    return Start(directory, chosen, prepared, total_steps, checkpoint, state, tuple(notes))


def cache_folder(data: DataConfig) -> Path:
    """Where prepared texts live."""
    return Path(data.cache).expanduser() if data.cache else DEFAULT_CACHE.expanduser()


def prepared_of(directory: Path) -> Prepared:
    """The prepared text of a run, or of the run that a checkpoint lies in. Raises InputError where there is none."""
    for place in (directory, directory.parent):
        if (place / "config.yaml").exists():
            return _prepared_again(Settings.from_dict(settings.read_yaml(place / "config.yaml")))
    raise InputError(
        f"{directory} is no run of GlassGPT, so it has no text of its own; `glassgpt eval` takes one with --data"
    )


def _merge(stored: Mapping[str, Any], preset_name: str | None, given: Given) -> dict[str, dict[str, Any]]:
    """Section -> values, without what must wait for the text."""
    model = dict(given.get("model", {}))
    stored_model: dict[str, Any] = dict(stored.get("model") or {})
    if preset_name is None and not stored_model and "architecture" not in model:
        preset_name = DEFAULT_PRESET
    if stored_model and model:  # a size that follows from another is not kept when the other is given anew
        follow = {"embedding_dim": ("head_dim", "feed_forward_dim"), "n_heads": ("head_dim", "n_kv_heads")}
        for name in {followed for key in model for followed in follow.get(key, ())}:
            stored_model.pop(name, None)
    defaults = DEFAULT_OPTIM if preset_name == DEFAULT_PRESET else {}
    merged = {
        "model": stored_model | (preset(preset_name) if preset_name else {}) | model,
        "data": dict(stored.get("data") or {}) | dict(given.get("data", {})),
        "optim": defaults | dict(stored.get("optim") or {}) | dict(given.get("optim", {})),
        "run": dict(stored.get("run") or {}),
    }
    length = dict(given.get("run", {}))
    if length.get("steps") or length.get("tokens"):
        merged["run"] |= {"steps": None, "tokens": None}
    merged["run"] |= length
    tokenizer_given = "tokenizer" in given.get("data", {})
    if stored_model and tokenizer_given and "vocab_size" not in model:
        merged["model"].pop("vocab_size", None)
    return merged


def _settle(chosen: Settings, prepared: Prepared) -> tuple[Settings, int]:
    """Replace every "auto" by what it is on this machine and for this text, and count the steps."""
    run = chosen.run
    device = usable_device(run.device)
    kernel = _kernel(run.kernel, chosen.model, device)
    fast_bf16 = device == "cuda" or (kernel == "native" and has_bf16())
    dtype = run.dtype if run.dtype != "auto" else ("bf16" if fast_bf16 else "fp32")
    on_cpu = device == "cpu" and (dtype == "fp32" or kernel == "native")
    linear = run.linear if run.linear != "auto" else ("onednn" if on_cpu and has_onednn() else "torch")
    Batches(prepared.train, chosen.model.context_length, chosen.optim.batch_size, run.seed)  # or it does not fit
    per_step = chosen.optim.batch_size * chosen.model.context_length
    total_steps = -(-run.tokens // per_step) if run.tokens else run.steps or DEFAULT_STEPS
    eval_every = run.eval_every or max(1, total_steps // EVALUATIONS)
    run = dataclasses.replace(
        run,
        steps=None if run.tokens else total_steps,
        device=device,
        dtype=dtype,
        kernel=kernel,
        linear=linear,
        threads=run.threads or available_cores(),
        eval_every=eval_every,
        save_every=run.save_every or eval_every,
    )
    optim = chosen.optim
    if optim.name == "muon" and optim.muon_dtype == "auto":
        fastest = "bf16" if fastest_matmul_dtype(device) is torch.bfloat16 else "fp32"
        optim = dataclasses.replace(optim, muon_dtype=fastest)
    return dataclasses.replace(chosen, optim=optim, run=run), total_steps


def _kernel(wanted: Kernel, model: GPTConfig, device: str) -> Kernel:
    """Who computes the training step. Raises InputError where the native step is asked for and cannot."""
    usable = device == "cpu" and tier() is not None and suits(model)
    if wanted == "native" and not usable:
        why = (
            f"it runs on the CPU and the device is {device}"
            if device != "cpu"
            else "it was not compiled when GlassGPT was installed (that takes a C++ compiler)"
            if tier() is None
            else "it needs even embedding_dim, head_dim and feed_forward_dim, and no portable dropout"
        )
        raise InputError(f"run.kernel is native, but {why}: leave it out, and PyTorch computes the step")
    if wanted != "auto":
        return wanted
    return "native" if usable and total_parameters(model) <= NATIVE_PARAMETERS else "torch"


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fits(vocab_size: int, prepared: Prepared) -> None:
    if vocab_size < prepared.tokenizer.vocab_size:
        raise InputError(
            f"model.vocab_size is {vocab_size}, but the tokenizer {prepared.facts.tokenizer} has "
            f"{prepared.tokenizer.vocab_size} tokens: leave --model.vocab-size out, or give at least that"
        )


def _refuse_what_memory_cannot_hold(chosen: Settings) -> None:
    optim, there = chosen.optim, physical_bytes()
    needed = training_memory(chosen.model, optim.batch_size, optim.accumulation, optim=optim)
    if chosen.run.device != "cpu" or there is None or needed["total"] <= there:
        return
    smallest = training_memory(chosen.model, optim.batch_size, optim.batch_size, optim=optim)["total"]
    advice = (
        f"compute a batch in parts (--optim.accumulation {optim.batch_size} needs {smallest / 1e9:.1f} GB)"
        if smallest <= there
        else "take a smaller model, a shorter --model.context-length or a larger machine"
    )
    raise InputError(
        f"training this model needs {needed['total'] / 1e9:.1f} GB of memory, this machine has {there / 1e9:.1f} GB: "
        + advice
    )


def _lasting(source: str, reading: Reading, cache: Path) -> str:
    """A source as it can be read again later: a file's whole path; standard input is kept in the cache."""
    if source == "-":
        text = next(document.text for document in reading.documents if document.name == "-")
        kept = cache / f"stdin-{hashlib.sha256(text.encode()).hexdigest()[:32]}.txt"
        kept.write_text(text, encoding="utf-8", newline="")
        return str(kept)
    return source if source == "pydoc" else os.path.abspath(source)


def _prepared_again(chosen: Settings) -> Prepared:
    """The run's own prepared text, prepared again where the cache no longer has it."""
    cache = cache_folder(chosen.data)
    if (cache / chosen.prepared / "prepared.json").exists():
        return open_prepared(cache / chosen.prepared)
    reading = read_documents(chosen.text, invalid_utf8=chosen.data.invalid_utf8, cache_dir=cache)
    prepared = prepare(reading.documents, chosen.data, cache)
    if prepared.hash != chosen.prepared:
        raise InputError(
            f"the text {', '.join(chosen.text)} has changed since this run began: start a new run on it, or bring "
            "the old text back"
        )
    return prepared


def _refuse_changes(chosen: Settings, given: Given, run: Path) -> None:
    for section in ("model", "data", "optim"):
        was = settings.to_dict(getattr(chosen, section))
        for key, value in given.get(section, {}).items():
            if str(was.get(key)) != str(value):
                raise InputError(
                    f"{section}.{key} is {value}, but {run} was begun with {was.get(key)}: a resumed run keeps its "
                    "settings; leave this out, or start a new run"
                )


def _run_name(texts: Sequence[str]) -> str:
    """The name of the first source: the file's, the folder's, or `stdin`."""
    first = texts[0]
    return "stdin" if first == "-" else Path(os.path.abspath(first.split("*")[0])).stem or "run"


def _notes(reading: Reading) -> list[str]:
    notes = []
    if reading.skipped:
        path, reason = reading.skipped[0]
        more = f" and {len(reading.skipped) - 1} more" if len(reading.skipped) > 1 else ""
        notes.append(f"skipped {path} ({reason}){more}")
    if reading.n_replaced:
        notes.append(f"{reading.n_replaced} signs U+FFFD stand for invalid UTF-8")
    return notes
