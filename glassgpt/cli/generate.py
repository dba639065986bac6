"""`glassgpt generate`: a model writes on."""

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from glassgpt.cli.numbers import Whole
from glassgpt.cli.probabilities import LinesView, TintedView
from glassgpt.cli.process import interruptible_imports, say_which
from glassgpt.cli.words import WordWrap, command, printable
from glassgpt.cli.writing import DEFAULT, Writing
from glassgpt.config import Device
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.api.loaded import GPT
    from glassgpt.generation.sampling import Sampling
    from glassgpt.generation.scored import ScoredToken


def generate(
    directory: str | None = None,
    /,
    *,
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    writing: Writing = DEFAULT,
    num_samples: Whole = 1,
    show_probabilities: Annotated[bool, Parameter(negative="")] = False,
    device: Device = "cpu",
    trust_code: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Let a model write on from a prompt.

    Parameters
    ----------
    directory
        A run, a checkpoint, or any Hugging Face directory of a GPT-2, Llama or Qwen3. Left out: the newest run.
    prompt
        What the text begins with; - reads it from standard input.
    num_samples
        How many texts to write.
    show_probabilities
        Show how likely the model found each token, and what else it might have written.
    device
        Where to compute.
    trust_code
        Run the code that lies in DIR, where the model is not one of GlassGPT's.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    if num_samples < 1:
        raise InputError(f"--num-samples is {num_samples}, but must be at least 1")
    sampling = writing.sampling()
    writing.stop_strings()  # refuses what cannot be, before the model is loaded
    if prompt == "-":
        try:
            prompt = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"the prompt is not valid UTF-8 (at byte {error.start}): give it as UTF-8 text") from None

    with interruptible_imports():
        from glassgpt.api.loaded import load

    gpt = load(directory, device=device, trust_code=trust_code)
    if directory is None:
        say_which(gpt.directory)
    samples = []
    for number in range(num_samples):
        if number and not as_json:
            print("---")
        view = None if as_json else _view(show_probabilities)
        samples.append(_write(gpt, prompt, writing, sampling, number, show_probabilities, view))
    if as_json:
        values = [sample.to_dict() for sample in samples]
        print(json.dumps(values[0] if num_samples == 1 else values[0] | {"samples": values}))
        return 0
    n_ids, seconds = sum(len(sample.ids) for sample in samples), sum(sample.seconds for sample in samples)
    first = 1000 * samples[0].time_to_first_token_s
    after = command("eval", *([directory] if directory else []), *(["--trust-code"] if trust_code else []))
    print(f"\n{n_ids / seconds:.0f} tokens/s, the first after {first:.0f} ms. Next: {after}", file=sys.stderr)
    return 0


@dataclass(frozen=True)
class Sample:
    """A text that was written, and how fast."""

    text: str
    """The prompt included, a stop string not."""
    ids: list[int]
    """Of the new tokens, those of a stop string included."""
    finish_reason: Literal["stop", "length"]
    """"stop": the model ended the document, or a stop string came."""
    seconds: float
    tokens_per_s: float
    time_to_first_token_s: float
    probabilities: list["ScoredToken"] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `probabilities` only where there are any."""
        values = dataclasses.asdict(self)
        if self.probabilities is None:
            del values["probabilities"]
        return values


class TextView:
    """Prints a text as it comes; in a terminal, lines end between words."""

    def __init__(self) -> None:
        self.wrap = WordWrap(shutil.get_terminal_size().columns) if sys.stdout.isatty() else None

    def begins(self, prompt: str) -> None:
        """Before the first token."""
        self.piece(prompt)

    def token(self, token: "ScoredToken") -> None:
        """A token with its probability: not shown."""

    def piece(self, text: str) -> None:
        """The text has grown."""
        print(self.wrap.feed(printable(text)) if self.wrap else text, end="", flush=True)

    def ends(self) -> None:
        """After the last token."""
        print(self.wrap.flush() if self.wrap else "", flush=True)


def _view(show_probabilities: bool) -> TextView | TintedView | LinesView:
    if not show_probabilities:
        return TextView()
    return TintedView() if sys.stdout.isatty() else LinesView()


def _write(
    gpt: "GPT",
    prompt: str,
    writing: Writing,
    sampling: "Sampling",
    sequence: int,
    scored: bool,
    view: TextView | TintedView | LinesView | None,
) -> Sample:
    """Let the model write, showing it as it goes."""
    began = time.perf_counter()
    ids: list[int] = []
    times: list[float] = []
    tokens: list[ScoredToken] = []

    def noted(steps: "Iterator[ScoredToken]") -> Iterator[int]:
        for step in steps:
            tokens.append(step)
            if view:
                view.token(step)
            yield step.id

    def timed(new_ids: Iterator[int]) -> Iterator[int]:
        for token in new_ids:
            ids.append(token)
            times.append(time.perf_counter())
            yield token

    # A prompt that cannot be is refused here, before anything is printed.
    arguments = (prompt, writing.max_new_tokens, sampling, sequence)
    new_ids = noted(gpt.scored(*arguments)) if scored else gpt.ids(*arguments)
    stop = writing.stop_strings()
    text = prompt
    try:
        if view:
            view.begins(prompt)
        for piece in gpt.decode_stream(timed(new_ids), stop):
            text += piece
            if view:
                view.piece(piece)
    finally:  # a Ctrl-C too ends the line
        if view:
            view.ends()
    seconds = time.perf_counter() - began
    return Sample(
        text=text,
        ids=ids,
        finish_reason="stop" if stop.found or len(ids) < writing.max_new_tokens else "length",
        seconds=seconds,
        tokens_per_s=len(ids) / seconds,
        time_to_first_token_s=times[0] - began if times else seconds,
        probabilities=tokens if scored else None,
    )
