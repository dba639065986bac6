"""load(): a trained model with its tokenizer, to write with and to measure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glassgpt.api.code import Code, ModelMaker, read_code
from glassgpt.api.machine import usable_device
from glassgpt.checkpoint.directory import load_model
from glassgpt.checkpoint.own_model import CODE, own_config
from glassgpt.checkpoint.run import find_checkpoint
from glassgpt.config import Device
from glassgpt.data.prepare import encode_corpus
from glassgpt.data.shards import Ids
from glassgpt.evaluation.bits_per_byte import Evaluation, evaluate
from glassgpt.generation.generate import generate, generate_with_logits
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.scored import ScoredToken, score
from glassgpt.model import GPTModel
from glassgpt.settings import InputError
from glassgpt.text.corpus import Corpus
from glassgpt.text.stream import StopStrings, StreamDecoder
from glassgpt.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class GPT:
    """A model in eval mode, its tokenizer, and where both came from."""

    model: GPTModel
    tokenizer: Tokenizer
    directory: Path
    device: str = "cpu"

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of a prompt; an empty one is the token that begins a document."""
        return self.tokenizer.encode(prompt) or [self.tokenizer.end_of_text]

    def ids(
        self, prompt: str = "", max_new_tokens: int = 200, sampling: Sampling | None = None, sequence: int = 0
    ) -> Iterator[int]:
        """The ids that follow `prompt`, one by one as they are chosen, until the model ends the document.

        Raises InputError for a prompt longer than the model's context.
        """
        return generate(
            self.model,
            self.prompt_ids(prompt),
            max_new_tokens=max_new_tokens,
            sampling=sampling or Sampling(),
            stop=self.tokenizer.end_of_text,
            sequence=sequence,
        )

    def scored(
        self, prompt: str = "", max_new_tokens: int = 200, sampling: Sampling | None = None, sequence: int = 0
    ) -> Iterator[ScoredToken]:
        """The tokens that `ids` gives, each with its probability, its rank, and the likeliest others."""
        steps = generate_with_logits(
            self.model,
            self.prompt_ids(prompt),
            max_new_tokens=max_new_tokens,
            sampling=sampling or Sampling(),
            stop=self.tokenizer.end_of_text,
            sequence=sequence,
        )
        return (score(logits, token, self.token_text) for token, logits in steps)

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

    def evaluate(self, corpus: Corpus) -> Evaluation:
        """Measure the model on all of a text. Raises InputError where the tokenizer does not give the text back."""
        for part, _ in corpus.all().parts():
            if self.tokenizer.decode(self.tokenizer.encode(part)) != part:
                raise InputError(
                    f"the tokenizer of {self.directory} does not give this text back, so bits per byte would mean "
                    "nothing; evaluate on text that it can hold"
                )
        return self.evaluate_ids(encode_corpus(corpus, self.tokenizer))

    def evaluate_ids(self, ids: Ids) -> Evaluation:
        """Measure the model on all of a text that is ids already."""
        result = evaluate(self.model, ids, self.tokenizer.token_bytes(), device=self.device)
        if not math.isfinite(result.loss):
            raise InputError(f"the loss of {self.directory} is {result.loss}: its weights are damaged, take another")
        return result

    def bits_per_byte(self, text: str) -> float:
        """How many bits the model needs for a byte of `text`."""
        return self.evaluate(Corpus.of([text])).bits_per_byte


def load(
    directory: str | Path | None = None,
    *,
    device: Device = "cpu",
    trust_code: bool = False,
    model: ModelMaker | None = None,
) -> GPT:
    """Open a run (its best checkpoint), a checkpoint, or any Hugging Face directory of a GPT-2, Llama or Qwen3.

    Without a directory, the newest run. A model of the user's own is opened with the class or function `model` that
    it was trained with, or, with `trust_code`, by running the source that lies beside its weights.
    Raises InputError where there is none or it is damaged.
    """
    checkpoint = find_checkpoint(directory)
    usable = usable_device(device)
    code = Code(model)
    if model is None and trust_code and own_config(checkpoint) and (checkpoint / CODE).is_file():
        code = read_code(checkpoint / CODE)
    with code.blamed():
        loaded = load_model(checkpoint, device=usable, make_model=code.bare_model if code.make_model else None)
    tokenizer = Tokenizer.load(checkpoint)
    if tokenizer.vocab_size > loaded.config.vocab_size:
        raise InputError(
            f"{checkpoint} has a tokenizer of {tokenizer.vocab_size} ids for a model of {loaded.config.vocab_size}, so "
            "it is another model's: copy the tokenizer files that belong to the weights"
        )
    return GPT(loaded.eval(), tokenizer, checkpoint, usable)
