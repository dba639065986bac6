"""From what the user gave to what a run starts with: its settings, its text, its directory."""

import dataclasses
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassgpt import settings
from glassgpt.api import minutes
from glassgpt.api.choice import read
from glassgpt.api.code import BUILT_IN, Code, settled_code
from glassgpt.api.limits import memory_note, refuse_what_memory_cannot_hold, within_memory
from glassgpt.api.machine import on_this_machine, with_matmul_dtype
from glassgpt.api.merge import LENGTHS, Given, has_length, merge, stored_settings
from glassgpt.api.texts import cache_folder, lasting, overlap_note, prepare_texts, prepared_again, run_name
from glassgpt.checkpoint.directory import TrainerState, load_trainer_state
from glassgpt.checkpoint.own_model import CODE
from glassgpt.checkpoint.run import RunDirectory, find_run, new_run
from glassgpt.checkpoint.run_settings import own_settings
from glassgpt.checkpoint.soundness import refuse_other_code
from glassgpt.config import OTHER_TOOLS, DataConfig, RunConfig, Settings
from glassgpt.data.batches import Batches
from glassgpt.data.prepare import Prepared
from glassgpt.files.atomic import remove_litter
from glassgpt.files.reading import read_json
from glassgpt.optim.schedule import StepPlan
from glassgpt.planning.choose import Choice
from glassgpt.settings import InputError
from glassgpt.text.documents import GIVEN
from glassgpt.text.tokenizer import Tokenizer

EVALUATIONS = 10
"""In a run of steps, where run.eval_every does not say otherwise."""


@dataclass(frozen=True)
class Start:
    """What a run starts with."""

    directory: RunDirectory
    settings: Settings
    prepared: Prepared
    plan: StepPlan | None
    """None: of minutes, and still to be planned."""
    by_the_clock: bool
    """Whether the plan may be extended by the clock; a plan that is repeated may not."""
    code: Code = BUILT_IN
    """The model and the optimiser, as far as they are the user's own."""
    checkpoint: Path | None = None
    """Where a resumed run goes on."""
    state: TrainerState | None = None
    choice: Choice | None = None
    """What was chosen for a new run of minutes."""
    files: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What was read: files by format; empty where nothing was, as on resuming."""
    notes: tuple[str, ...] = ()
    """What the user should know, a line each."""

    @property
    def step(self) -> int:
        """How many steps are done already."""
        return self.state.counters["step"] if self.state else 0

    @property
    def batches(self) -> Batches:
        model, optim, run = self.settings.model, self.settings.optim, self.settings.run
        return Batches(self.prepared.train, model.context_length, optim.batch_size, run.seed)


def new_start(
    sources: Sequence[str],
    given: Given,
    *,
    preset_name: str | None,
    config_file: Path | None,
    out: Path | None,
    elapsed: Callable[[], float],
    code: Code = BUILT_IN,
    phase: Callable[[str], None] = lambda what: None,
    trust_code: bool = False,
) -> Start:
    """Settle every setting of a new run and prepare its text.

    The later decides over the earlier: the defaults, or in a run of minutes what is chosen for the text; the YAML
    file, the preset, the values given. Everything is checked before the text is read. `elapsed` says how many seconds
    of the run have passed; `phase` is told what is being done. Raises InputError.
    """
    stored = stored_settings(config_file) if config_file else {}
    if config_file and not trust_code and _is_copied_code(config_file, stored, given):
        raise InputError(
            f"{config_file} is of a run with code of its own, which repeating it would run: read "
            f"{config_file.parent / CODE}, then give --trust-code (in Python trust_code=True)"
        )
    plan = Settings.from_dict(stored).plan
    own = given.get("run", {}).get("code")
    of_something_else = sources or preset_name or any(given.get(name) for name in ("model", "data", "optim"))
    of_something_else = of_something_else or own not in (None, (stored.get("run") or {}).get("code"))
    if of_something_else or has_length(given.get("run", {})):
        plan = ()
    merged = merge(stored, preset_name, given, repeated=bool(plan))
    Settings.from_dict({name: merged[name] for name in ("model", "data", "optim", "run")})
    data = settings.build(DataConfig, merged["data"], "data", OTHER_TOOLS)
    run = settings.build(RunConfig, merged["run"], "run", OTHER_TOOLS)
    code = settled_code(run.code, code)
    run = dataclasses.replace(run, code=code.recorded_as)
    texts = _sources(sources, stored, code)
    with code.blamed():
        found = read(texts, data, run, merged, code, elapsed, phase)
    data, run, choice, notes, cache = found.data, found.run, found.choice, [*found.notes], cache_folder(found.data)
    if choice:
        merged |= {"model": choice.model | merged["model"], "optim": choice.optim | merged["optim"]}
    prepared = prepare_texts(found.reading.corpus, data, phase)
    if stored.get("prepared") and not sources and stored["prepared"] != prepared.hash:
        changed = f"the text, or how it is cut, is not as it was when {config_file} was written"
        notes.append(f"{changed}: the numbers will be others")
    notes += overlap_note(found.reading.corpus, data)
    vocab_size = merged["model"].setdefault("vocab_size", prepared.tokenizer.vocab_size)
    _fits(int(vocab_size), prepared)
    if choice and "context_length" in choice.model:  # tokens may be fewer than the characters it was chosen by
        longest = 1 << (max(1, len(prepared.train) - 1).bit_length() - 1)
        merged["model"]["context_length"] = min(choice.model["context_length"], longest)
    chosen = Settings.from_dict(
        {
            "text": [lasting(source, found.reading, cache) for source in texts],
            "prepared": prepared.hash,
            "run_id": secrets.token_hex(8),
            **merged,
            "data": settings.to_dict(data),
            "run": settings.to_dict(run),
            "plan": [list(entry) for entry in plan],
        }
    )
    chosen, step_plan = _settle(chosen, prepared, code)
    if found.speed and run.minutes:
        minutes.refuse_too_short(run.minutes, elapsed(), chosen, found.speed, prepared.facts.val_tokens)
    refuse_what_memory_cannot_hold(chosen)
    notes += memory_note(chosen)
    if code.is_given:
        with code.blamed():
            code.optimizer(code.first_model(chosen.model, chosen.run.seed), chosen.optim)  # or it cannot begin
    directory = new_run(str(out) if out else None, run_name(texts))
    return Start(
        directory, chosen, prepared, step_plan, bool(run.minutes), code,
        choice=choice, files=found.reading.n_files, notes=tuple(notes),
    )  # fmt: skip


def resumed_start(run: str, given: Given, *, trust_code: bool = False, code: Code = BUILT_IN) -> Start:
    """Hold a run (the newest, if none is named) and go on from its newest intact checkpoint, with its own settings.

    Only section `run` may be changed, and its code not even there; another length is that of the whole run. Raises
    InputError for other changes, for a text or tokenizer that is no longer the run's, for code that is not trusted,
    and where there is nothing to resume. A run whose steps are all done goes on as well, until its report is there.
    """
    directory = find_run(run or None)
    directory.hold()
    try:
        return _resumed(directory, given, trust_code, code)
    except BaseException:
        directory.release()
        raise


def _resumed(directory: RunDirectory, given: Given, trust_code: bool, code: Code) -> Start:
    remove_litter(directory.path)
    chosen, restored = own_settings(directory.path, directory.checkpoints())
    point = directory.resume_point(chosen.run_id)
    checkpoint = point.checkpoint
    _refuse_changes(chosen, given, directory.path)
    changed: dict[str, Any] = dict(given.get("run", {}))
    if has_length(changed):
        changed = dict.fromkeys(LENGTHS) | changed
        chosen = dataclasses.replace(chosen, plan=())
    run_config = settings.build(RunConfig, settings.to_dict(chosen.run) | changed, "run", OTHER_TOOLS)
    chosen = dataclasses.replace(chosen, run=run_config)
    code = _trusted(directory, chosen, checkpoint, trust_code, code)
    notes = [f"passed over: {why}" for why in point.passed_over] + ([restored] if restored else [])
    prepared = prepared_again(chosen, code.documents, notes.append)
    state = _state_of(checkpoint, chosen, prepared)
    if state.counters["threads"] != chosen.run.threads:
        notes.append(f"not bit-identical: {chosen.run.threads} threads now, {state.counters['threads']} before")
    # What a limit of memory led to is recorded and kept: computed anew, it could give other bits.
    limit = None if "max_memory" in given.get("run", {}) else chosen.run.max_memory
    chosen, plan = _settle(chosen if limit is None else _without_limit(chosen), prepared, code)
    if limit is not None:
        chosen = dataclasses.replace(chosen, run=dataclasses.replace(chosen.run, max_memory=limit))
    done, step = None, state.counters["step"]
    if plan is not None and (step > plan.total_steps or (step == plan.total_steps and _is_reported(directory, step))):
        done = f"done {step} steps of {plan.total_steps}"
    elif plan is None and chosen.run.minutes and state.counters["seconds"] >= 60 * chosen.run.minutes:
        done = f"run for {state.counters['seconds'] / 60:.2f} of {chosen.run.minutes:g} minutes"
    if done:
        flag = "--minutes" if chosen.run.minutes else "--steps"
        named = shlex.quote(str(directory.path))
        raise InputError(
            f"{directory.path} has {done}: give more with {flag}, or write with `glassgpt generate {named}`"
        )
    by_the_clock = bool(chosen.run.minutes)
    return Start(directory, chosen, prepared, plan, by_the_clock, code, checkpoint, state, notes=tuple(notes))


def replayed_start(
    directory: RunDirectory, chosen: Settings, checkpoint: Path | None, *, trust_code: bool = False
) -> Start:
    """What the run went on with at `checkpoint`, None: at its first step, to compute the steps after it once more.

    Nothing of the run is changed. Raises InputError as `resumed_start` does.
    """
    code = _trusted(directory, chosen, checkpoint, trust_code, BUILT_IN)
    prepared = prepared_again(chosen, code.documents)
    state = _state_of(checkpoint, chosen, prepared) if checkpoint else None
    chosen, plan = _settle(_without_limit(chosen), prepared, code)
    return Start(directory, chosen, prepared, plan, False, code, checkpoint, state)


def _trusted(
    directory: RunDirectory, chosen: Settings, checkpoint: Path | None, trust_code: bool, code: Code
) -> Code:
    """The code that the run was trained with. Raises InputError where it may not be run, or is another by now."""
    if chosen.run.code == CODE and not trust_code:
        raise InputError(
            f"{directory.path} was trained with code of its own, which going on would run: read "
            f"{directory.path / CODE}, then give --trust-code (in Python trust_code=True)"
        )
    if chosen.run.code == CODE and checkpoint and not code.is_given:
        refuse_other_code(checkpoint)
    return settled_code(str(directory.path / CODE) if chosen.run.code == CODE else chosen.run.code, code)


def _state_of(checkpoint: Path, chosen: Settings, prepared: Prepared) -> TrainerState:
    """The trainer's state. Raises InputError where the checkpoint is of another tokenizer."""
    if Tokenizer.load(checkpoint).fingerprint() != prepared.tokenizer.fingerprint():
        raise InputError(
            f"{checkpoint} was trained with another tokenizer than the text {chosen.prepared} is prepared with: "
            "start a new run with `glassgpt train`"
        )
    return load_trainer_state(checkpoint)


def _without_limit(chosen: Settings) -> Settings:
    return dataclasses.replace(chosen, run=dataclasses.replace(chosen.run, max_memory=None))


def _is_reported(directory: RunDirectory, step: int) -> bool:
    """Whether the run came to its end at `step`: its last evaluation is done and written down, and its page is made."""
    try:
        report = read_json(directory.path / "report.json")
    except (OSError, ValueError):
        return False
    return isinstance(report, dict) and report.get("steps") == step and (directory.path / "report.html").exists()


def _is_copied_code(config_file: Path, stored: Mapping[str, Any], given: Given) -> bool:
    """Whether the file is of a run, and names the code that was copied into it; not where other code is given."""
    copied = (stored.get("run") or {}).get("code") == str(config_file.parent / CODE)
    return copied and "code" not in given.get("run", {}) and bool(stored.get("prepared"))


def _sources(given: Sequence[str], stored: Mapping[str, Any], code: Code) -> list[str]:
    """What is read. Raises InputError where both files and the user's code are to give the text."""
    if code.documents is None:
        return list(given) or stored.get("text") or ["pydoc"]
    if given:
        raise InputError(f"both {given[0]} and {GIVEN} of your code are to give the text: keep one of the two")
    return [GIVEN]


def _settle(chosen: Settings, prepared: Prepared, code: Code) -> tuple[Settings, StepPlan | None]:
    """Settle what depends on this machine and this text, and the plan, unless it waits for the clock."""
    run = on_this_machine(chosen.run, chosen.model, code)
    chosen = dataclasses.replace(chosen, optim=with_matmul_dtype(chosen.optim, run.device))
    run_in_torch = dataclasses.replace(chosen.run, kernel="torch")
    chosen = within_memory(chosen, run, code, lambda: on_this_machine(run_in_torch, chosen.model, code))
    run = chosen.run
    Batches(prepared.train, chosen.model.context_length, chosen.optim.batch_size, run.seed)  # or it does not fit
    if prepared.facts.val_tokens < 2:
        raise InputError("the validation text is a single token: give a longer text or a larger --val-fraction")
    if chosen.plan or run.minutes:
        return dataclasses.replace(chosen, run=run), StepPlan(chosen.plan) if chosen.plan else None
    per_step = chosen.optim.batch_size * chosen.model.context_length
    total_steps = -(-run.tokens // per_step) if run.tokens else run.steps or 1
    eval_every = run.eval_every or max(1, total_steps // EVALUATIONS)
    run = dataclasses.replace(run, eval_every=eval_every, save_every=run.save_every or eval_every)
    return dataclasses.replace(chosen, run=run), StepPlan.of(total_steps)


def _fits(vocab_size: int, prepared: Prepared) -> None:
    if vocab_size < prepared.tokenizer.vocab_size:
        raise InputError(
            f"model.vocab_size is {vocab_size}, but the tokenizer {prepared.facts.tokenizer} has "
            f"{prepared.tokenizer.vocab_size} tokens: leave --model.vocab-size out, or give at least that"
        )


def _refuse_changes(chosen: Settings, given: Given, run: Path) -> None:
    kept = {name: given.get(name, {}) for name in ("model", "data", "optim")}
    kept["run"] = {key: value for key, value in given.get("run", {}).items() if key in ("code", "seed")}
    for section, values in kept.items():
        was = settings.to_dict(getattr(chosen, section))
        for key, value in values.items():
            if str(was.get(key)) != str(value):
                raise InputError(
                    f"{section}.{key} is {value}, but {run} was begun with {was.get(key)}: a resumed run keeps its "
                    "settings; leave this out, or start a new run"
                )
