"""How a model is to write: the options that `generate` and `chat` share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from glassgpt.cli.numbers import Whole

if TYPE_CHECKING:
    from glassgpt.generation.sampling import Sampling
    from glassgpt.text.stream import StopStrings


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Writing:
    """How a model is to write.

    Parameters
    ----------
    max_new_tokens
        How many tokens to write at most.
    temperature
        Below 1 likely tokens gain, above 1 unlikely ones. 0: always the likeliest (greedy).
    top_k
        Choose among the k likeliest tokens only.
    top_p
        Choose among the fewest likeliest tokens that hold this much probability (nucleus).
    min_p
        Choose among the tokens at least this many times as likely as the likeliest, such as 0.05.
    repetition_penalty
        Above 1, tokens that the text has already lose, such as 1.1.
    stop
        End before this text (in bash, $'\\n' is a line end). May be given several times.
    seed
        The same seed writes the same text.
    """

    max_new_tokens: Whole = 200
    temperature: float = 0.8
    top_k: Whole | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    stop: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True, negative="", show_default=False)] = ()
    seed: Whole = 1337

    def stop_strings(self) -> "StopStrings":
        """What ends the text, for one text. Raises InputError for an empty one."""
        from glassgpt.text.stream import StopStrings

        return StopStrings(self.stop)

    def sampling(self) -> "Sampling":
        """How each token is drawn. Raises InputError for values that cannot be."""
        from glassgpt.generation.sampling import Sampling

        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )


DEFAULT = Writing()
"""What holds where nothing is given."""
