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

from glassgpt.checkpoint.run import settings_of_run
from glassgpt.cli.numbers import Whole
from glassgpt.cli.process import interruptible_imports, say_which
from glassgpt.cli.prompt import read_prompt
from glassgpt.cli.words import WordWrap, command, printable, size
from glassgpt.cli.writing import DEFAULT, Writing
from glassgpt.config import Device, Dtype
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.api.gpt import GPT
    from glassgpt.cli.probabilities import LinesView, TintedView
    from glassgpt.generation.sampling import Sampling
    from glassgpt.generation.scored import ScoredToken

MOST_SAMPLES = 10_000
"""Texts of one command: all of them are kept to its end."""


def generate(
    directory: str | None = None,
    /,
    *,
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    writing: Writing = DEFAULT,
    num_samples: Whole = 1,
    show_probabilities: Annotated[bool, Parameter(negative="")] = False,
    dtype: Dtype = "auto",
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
        How many texts to write, at most 10,000.
    show_probabilities
        Show how likely the model found each token, and what else it might have written.
    dtype
        What the weights are rounded to; int8 and int4 are faster and less exact. auto: fp32, or what DIR has.
    device
        Where to compute.
    trust_code
        Run the code that lies in DIR, where the model is not one of GlassGPT's.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    if not 1 <= num_samples <= MOST_SAMPLES:
        raise InputError(f"--num-samples is {num_samples}, but must be from 1 to {MOST_SAMPLES:,}")
    sampling = writing.sampling()
    writing.stop_strings()  # refuses what cannot be, before the model is loaded
    prompt = read_prompt(prompt)

    with interruptible_imports():
        from glassgpt.api.loaded import load

        gpt = load(directory, device=device, dtype=dtype, trust_code=trust_code)
        gpt.prepare()
    if directory is None:
        say_which(gpt.directory)
    live = sys.stdout.isatty() and not as_json
    began = time.perf_counter()
    if num_samples > 1 and not live and not show_probabilities:
        samples = _write_together(gpt, prompt, writing, sampling, num_samples)
        if not as_json:
            print("\n---\n".join(sample.text for sample in samples))
    else:
        samples = []
        for number in range(num_samples):
            if number and not as_json:
                print("---")
            view = None if as_json else _view(show_probabilities)
            samples.append(_write(gpt, prompt, writing, sampling, number, show_probabilities, view))
    speed = speed_of(gpt, samples, time.perf_counter() - began)
    if as_json:
        values = [sample.to_dict() for sample in samples]
        every = {"samples": values} if num_samples > 1 else {}
        print(json.dumps(values[0] | dataclasses.asdict(speed) | every))
        return 0
    named = [*([directory] if directory else []), *(["--trust-code"] if trust_code else [])]
    text = [] if settings_of_run(gpt.directory) else ["--data", "FILE"]
    print(f"\n{speed.line()}. Next: {command('eval', *named, *text)}", file=sys.stderr)
    return 0


CACHED = 32_000_000
"""Bytes of weights that a processor may keep in its cache: fewer are not read from memory for each token."""


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


@dataclass(frozen=True)
class Speed:
    """How fast all texts were written, and of how much that this machine could do."""

    tokens_per_s: float
    time_to_first_token_s: float
    dtype: str
    """Of the weights."""
    bytes_per_token: int | None
    """Weights that a pass for a token reads, or for a few that were guessed; None where PyTorch writes."""
    bytes_per_s: float | None
    """At which this machine reads them, when it does nothing else; None where a cache may hold them."""
    share_of_bandwidth: float | None
    """The time that this takes, in that of a pass after the first token's."""

    def line(self) -> str:
        """In words."""
        said = f"{self.tokens_per_s:.0f} tokens/s, the first after {1000 * self.time_to_first_token_s:.0f} ms"
        if self.bytes_per_token is None:
            return said
        said += f"; a pass reads {size(self.bytes_per_token)} ({self.dtype})"
        if self.share_of_bandwidth is None or self.bytes_per_s is None:
            return said
        reached = self.share_of_bandwidth * self.bytes_per_s
        return said + f", at {reached / 1e9:.1f} of the {self.bytes_per_s / 1e9:.1f} GB/s that reading alone reaches"


def speed_of(gpt: "GPT", samples: list[Sample], seconds: float) -> Speed:
    """What `samples`, written in so many seconds, say; reading the weights is measured here."""
    n_ids, first, decoder = sum(len(sample.ids) for sample in samples), samples[0], gpt.decoder
    rate = share = None
    n_bytes = decoder.bytes_per_token if decoder else None
    if decoder and n_bytes and n_bytes >= CACHED and len(samples) == 1 and decoder.n_passes > 1:
        each = (first.seconds - first.time_to_first_token_s) / (decoder.n_passes - 1)  # a pass may give several tokens
        rate = n_bytes / decoder.read_seconds(10)
        share = n_bytes / each / rate
    return Speed(n_ids / seconds, first.time_to_first_token_s, gpt.dtype, n_bytes, rate, share)


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


def _view(show_probabilities: bool) -> "TextView | TintedView | LinesView":
    if not show_probabilities:
        return TextView()
    from glassgpt.cli.probabilities import LinesView, TintedView

    return TintedView() if sys.stdout.isatty() else LinesView()


def _write(
    gpt: "GPT",
    prompt: str,
    writing: Writing,
    sampling: "Sampling",
    sequence: int,
    scored: bool,
    view: "TextView | TintedView | LinesView | None",
) -> Sample:
    """Let the model write, showing it as it goes."""
    times = [time.perf_counter()]
    ids: list[int] = []
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
    return _sample(text, ids, stop.found, writing, times, tokens if scored else None)


def _write_together(gpt: "GPT", prompt: str, writing: Writing, sampling: "Sampling", n: int) -> list[Sample]:
    """`_write` of n texts that nobody watches, in one batch."""
    began = time.perf_counter()
    ids: list[list[int]] = [[] for _ in range(n)]
    times: list[list[float]] = [[began] for _ in range(n)]
    texts, stops = [prompt] * n, [writing.stop_strings() for _ in range(n)]

    def timed(number: int, new_ids: Iterator[int]) -> Iterator[int]:
        for token in new_ids:
            ids[number].append(token)
            times[number].append(time.perf_counter())
            yield token

    together = enumerate(gpt.together(prompt, n, writing.max_new_tokens, sampling))
    going = {number: gpt.decode_stream(timed(number, new_ids), stops[number]) for number, new_ids in together}
    while going:
        for number, pieces in [*going.items()]:
            piece = next(pieces, None)
            if piece is None:
                del going[number]
            else:
                texts[number] += piece
    return [
        _sample(texts[number], ids[number], stops[number].found, writing, times[number]) for number in range(n)
    ]


def _sample(
    text: str, ids: list[int], stopped: bool, writing: Writing, times: list[float],
    probabilities: "list[ScoredToken] | None" = None,
) -> Sample:  # fmt: skip
    """A text and what `times`, its beginning and that of each token, say of it."""
    seconds = max(times[-1] - times[0], 1e-9)
    return Sample(
        text=text,
        ids=ids,
        finish_reason="stop" if stopped or len(ids) < writing.max_new_tokens else "length",
        seconds=seconds,
        tokens_per_s=len(ids) / seconds,
        time_to_first_token_s=times[min(1, len(times) - 1)] - times[0],
        probabilities=probabilities,
    )
