"""A trained model with its tokenizer, to write with and to measure: what `load` gives.

What only writes needs no PyTorch where the native decoder is there; it is imported when something asks for `GPT.model`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.api.native import NativeModel
from glassgpt.checkpoint.own_model import own_config
from glassgpt.checkpoint.packed import StoredModel, open_stored
from glassgpt.config import Dtype, GPTConfig
from glassgpt.generation.runner import Runner, check_slots
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.scored import ScoredToken, score
from glassgpt.generation.sequence import Request, Step, check_prompt
from glassgpt.generation.shared import SharedRunner
from glassgpt.generation.single import generate_on
from glassgpt.native.decoder import Decoder, available
from glassgpt.native.packing import Format
from glassgpt.settings import InputError, is_unicode, shown
from glassgpt.text.stream import StopStrings, StreamDecoder
from glassgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from glassgpt.api.code import ModelMaker
    from glassgpt.api.inspected import Inspected
    from glassgpt.data.shards import Ids
    from glassgpt.evaluation.bits_per_byte import Evaluation
    from glassgpt.generation.engine import Engine
    from glassgpt.inspection.ablation import Progress
    from glassgpt.inspection.xray import Ablate
    from glassgpt.model import GPTModel
    from glassgpt.text.corpus import Corpus


AT_ONCE = 16
"""Texts that are written together, if nothing else is said."""


@dataclass(frozen=True)
class GPT:
    """A model in eval mode, its tokenizer, and where both came from."""

    config: GPTConfig
    tokenizer: Tokenizer
    directory: Path
    make_model: "Callable[[], GPTModel]" = field(repr=False)
    native: NativeModel | None = field(repr=False, default=None)
    """The model as the native decoder has it; None where PyTorch writes."""
    device: str = "cpu"
    dtype: Format = "fp32"
    """What the weights are rounded to."""

    @cached_property
    def model(self) -> "GPTModel":
        """The PyTorch model; it is made when it is first asked for."""
        return self.make_model()

    @cached_property
    def decoder(self) -> Decoder | None:
        """The native decoder of one text at a time; None where PyTorch writes."""
        return self.native.decoder() if self.native else None

    @cached_property
    def _shared(self) -> SharedRunner | None:
        return SharedRunner(self.decoder or self._torch_runner(1)) if self._batches_pay else None

    @property
    def _batches_pay(self) -> bool:
        """Whether a runner is faster than plain generation: PyTorch's on the CPU is not, nor one for a model that is
        quantised or of the user's own."""
        if self.native or self.device == "cpu":
            return self.native is not None
        from glassgpt.checkpoint.empty import is_builtin

        return is_builtin(self.model)

    def _torch_runner(self, n_slots: int) -> Runner:
        """PyTorch's runner; the simplest for a model that is quantised or of the user's own, one text after another."""
        from glassgpt.checkpoint.empty import is_builtin
        from glassgpt.generation.plain_runner import TorchSlots
        from glassgpt.generation.torch_runner import TorchRunner

        if is_builtin(self.model):
            return TorchRunner(self.model, n_slots=n_slots)
        return TorchSlots(self.model, n_slots)

    def prepare(self) -> None:
        """Make what writes, so that the first token need not wait for it. Raises InputError where memory is short."""
        if self._shared is None:
            self.model  # noqa: B018

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of a prompt; an empty one is the token that begins a document.

        Raises InputError for a prompt that is no text, or holds half of a surrogate pair.
        """
        if not isinstance(prompt, str):
            raise InputError(f"the prompt is {shown(prompt)}, but must be a text; continued takes ids")
        if not is_unicode(prompt):
            at = next(at for at, sign in enumerate(prompt) if not is_unicode(sign))
            raise InputError(
                f"character {at + 1} of the prompt is {shown(prompt[at])}, half of a surrogate pair, which no text can "
                "hold: leave it out"
            )
        return self.tokenizer.encode(prompt) or [self.tokenizer.end_of_text]

    def continued(
        self,
        ids: Sequence[int],
        max_new_tokens: int = 200,
        sampling: Sampling | None = None,
        sequence: int = 0,
        stop: int | None = None,
    ) -> Iterator[Step]:
        """The tokens that follow `ids`, each with the scores (V,) that it was chosen from, until the token `stop`.

        Raises InputError for ids that are none, too many, or not in the vocabulary.
        """
        sampling = sampling or Sampling()
        arguments: dict[str, Any] = {"max_new_tokens": max_new_tokens, "sampling": sampling, "stop": stop}
        if self._shared is None:
            from glassgpt.generation.generate import generate_with_logits

            return generate_with_logits(self.model, ids, sequence=sequence, **arguments)
        check_prompt(self.config, ids, max_new_tokens)
        if self.native:
            self.native.refuse_what_memory_cannot_hold(len(ids) + max_new_tokens)
        return generate_on(self._shared.lend(), ids, sequence=sequence, **arguments)

    def ids(
        self, prompt: str = "", max_new_tokens: int = 200, sampling: Sampling | None = None, sequence: int = 0
    ) -> Iterator[int]:
        """The ids that follow `prompt`, one by one as they are chosen, until the model ends the document.

        Raises InputError for a prompt longer than the model's context.
        """
        return (token for token, _ in self._steps(prompt, max_new_tokens, sampling, sequence))

    def scored(
        self, prompt: str = "", max_new_tokens: int = 200, sampling: Sampling | None = None, sequence: int = 0
    ) -> Iterator[ScoredToken]:
        """The tokens that `ids` gives, each with its probability, its rank, and the likeliest others."""
        steps = self._steps(prompt, max_new_tokens, sampling, sequence)
        return (score(logits, token, self.token_text) for token, logits in steps)

    def together(
        self, prompt: str, n: int, max_new_tokens: int = 200, sampling: Sampling | None = None
    ) -> list[Iterator[int]]:
        """What `ids` gives for the sequences 0 to n - 1, to be taken by turns.

        They are written in one batch where there is a runner for it.
        """
        ids, sampling = self.prompt_ids(prompt), sampling or Sampling()
        check_prompt(self.config, ids, max_new_tokens)
        if n < 2 or not self._batches_pay:
            return [self.ids(prompt, max_new_tokens, sampling, sequence) for sequence in range(n)]
        engine = self.engine(min(n, AT_ONCE), longest=len(ids) + max_new_tokens)
        end = self.tokenizer.end_of_text
        request = Request(ids=ids, n=n, max_new_tokens=max_new_tokens, sampling=sampling, stop=end)
        return [engine.take(sequence) for sequence in engine.submit(request)]

    def engine(self, n_slots: int = AT_ONCE, *, longest: int | None = None) -> "Engine":
        """An engine for many texts, `n_slots` of them at a time: on the native decoder, or without it on PyTorch.

        Raises InputError where the memory does not hold n_slots texts of `longest` tokens, prompts included; left out,
        of a whole context.
        """
        from glassgpt.generation.engine import Engine

        check_slots(n_slots)
        if self.native:
            longest = self.config.context_length if longest is None else longest
            self.native.refuse_what_memory_cannot_hold(longest, n_slots)
            return Engine(self.native.decoder(n_slots))
        return Engine(self._torch_runner(n_slots))

    def stream(
        self,
        prompt: str = "",
        max_new_tokens: int = 200,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int = 1337,
        sequence: int = 0,
    ) -> Iterator[str]:
        """The text that follows `prompt`, piece by piece, each of whole characters; it ends before a `stop` string.

        Several texts of one seed differ in `sequence`.
        """
        sampling = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        stop_strings = StopStrings([stop] if isinstance(stop, str) else stop)
        return self.decode_stream(self.ids(prompt, max_new_tokens, sampling, sequence), stop_strings)

    def generate(
        self,
        prompt: str = "",
        max_new_tokens: int = 200,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int = 1337,
        sequence: int = 0,
    ) -> str:
        """The prompt and the text that follows it, which ends before the first of the `stop` strings."""
        pieces = self.stream(
            prompt,
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            stop=stop,
            seed=seed,
            sequence=sequence,
        )
        return prompt + "".join(pieces)

    def decode_stream(self, ids: Iterator[int], stop: StopStrings | None = None) -> Iterator[str]:
        """Ids to text as they come; the bytes of a half character wait for the rest. Takes no more ids than it needs.

        `stop.found` says afterwards whether a stop string ended the text.
        """
        decoder = StreamDecoder(self.tokenizer)
        stop = stop or StopStrings()
        for token in ids:
            if token < self.tokenizer.vocab_size:  # a padded vocabulary has ids without text
                yield stop.feed(decoder.feed([token]))
                if stop.found:
                    return
        yield stop.feed(decoder.flush()) + stop.flush()

    def token_text(self, token: int) -> str:
        """The text of one token; bytes that are only a part of a character as \\xe2."""
        if token >= self.tokenizer.vocab_size:  # a padded vocabulary has ids without text
            return ""
        return self.tokenizer.piece(token).decode("utf-8", errors="backslashreplace")

    def evaluate(self, corpus: "Corpus") -> "Evaluation":
        """Measure the model on all of a text. Raises InputError where the tokenizer does not give the text back."""
        from glassgpt.data.prepare import encode_corpus

        for part, _ in corpus.all().parts():
            if self.tokenizer.decode(self.tokenizer.encode(part)) != part:
                raise InputError(
                    f"the tokenizer of {self.directory} does not give this text back, so bits per byte would mean "
                    "nothing; evaluate on text that it can hold"
                )
        return self.evaluate_ids(encode_corpus(corpus, self.tokenizer))

    def evaluate_ids(self, ids: "Ids") -> "Evaluation":
        """Measure the model on all of a text that is ids already."""
        from glassgpt.evaluation.bits_per_byte import evaluate, evaluate_with
        from glassgpt.evaluation.decoded import nats_on

        token_bytes = self.tokenizer.token_bytes()
        if self.native and self.dtype != "fp32":  # all of the decoder's roundings are to count
            result = evaluate_with(nats_on(self.native.decoder()), self.config, ids, token_bytes)
        else:
            result = evaluate(self.model, ids, token_bytes, device=self.device)
        if not math.isfinite(result.loss):
            raise InputError(f"the loss of {self.directory} is {result.loss}: its weights are damaged, take another")
        return result

    def bits_per_byte(self, text: str) -> float:
        """How many bits the model needs for a byte of `text`."""
        from glassgpt.text.corpus import Corpus

        return self.evaluate(Corpus.of([text])).bits_per_byte

    def inspect(
        self,
        prompt: str = "",
        *,
        n_alternatives: int = 10,
        ablate: "Ablate" = "heads",
        progress: "Progress | None" = None,
    ) -> "Inspected":
        """What the model does with a prompt, as numpy arrays: `inspect(...).xray`, whose shapes are documented there.

        T tokens, L layers, H heads, A = n_alternatives. Some of them: nats (T - 1,) of each next token, attention
        (L, H, T, T), lens_ids (L + 1, T, A), the likeliest tokens after each layer, and head_ablation (L, H), by how
        much the loss rises without a head. That takes most of the time: see `xray`, also for `ablate` and `progress`.
        PyTorch computes it from the weights as they are rounded. An empty prompt is the token that begins a document.
        Raises InputError for a prompt longer than the context, and for a model that is not built as GPTModel is.
        """
        from glassgpt.api.inspected import inspected

        return inspected(self, prompt, n_alternatives, ablate, progress)

    def _steps(self, prompt: str, max_new_tokens: int, sampling: Sampling | None, sequence: int) -> Iterator[Step]:
        ids, end = self.prompt_ids(prompt), self.tokenizer.end_of_text
        return self.continued(ids, max_new_tokens, sampling, sequence, end)


def open_gpt(checkpoint: Path, device: str, dtype: Dtype, given: "ModelMaker | None", trust_code: bool) -> GPT:
    """The model and the tokenizer in a directory, unchecked against its manifest. Raises InputError as `load` does."""
    own = own_config(checkpoint)
    stored = open_stored(checkpoint) if own is None else None
    config = stored.config if stored else own
    assert config
    tokenizer = Tokenizer.load(checkpoint)
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{checkpoint} has a tokenizer of {tokenizer.vocab_size} ids for a model of {config.vocab_size}, so "
            "it is another model's: copy the tokenizer files that belong to the weights"
        )
    kind = _settled(dtype, stored, checkpoint)
    if stored is None:
        from glassgpt.api.in_torch import own_in_torch

        opened = own_in_torch(checkpoint, device, kind, given, trust_code)
        return GPT(config, tokenizer, checkpoint, lambda: opened, device=device, dtype=kind)
    native = NativeModel(stored, kind) if device == "cpu" and available() else None
    return GPT(config, tokenizer, checkpoint, lambda: _in_torch(stored, device, kind), native, device, kind)


def _settled(dtype: Dtype, stored: StoredModel | None, checkpoint: Path) -> Format:
    """What the weights are rounded to. Raises InputError for a quantised model that is to be rounded otherwise."""
    quantised = stored.format if stored else None
    if dtype == "auto":
        return quantised or "fp32"
    if quantised not in (None, dtype):
        raise InputError(
            f"dtype is {dtype}, but {checkpoint} is quantised to {quantised} already: leave it out, or take the model "
            "that it was made from"
        )
    return dtype


def _in_torch(stored: StoredModel, device: str, kind: Format) -> "GPTModel":
    from glassgpt.api.in_torch import model_in_torch

    return model_in_torch(stored, device, kind)
