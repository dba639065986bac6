"""How likely the model found each token that it wrote: tinted text and a table in a terminal, lines on a pipe."""

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from glassgpt.cli.words import printable

if TYPE_CHECKING:
    from glassgpt.generation.scored import ScoredToken

# The less likely, the stronger the tint; black on it is readable whatever the terminal's own colours are.
LEVELS = (
    (0.5, "", "50% up"),
    (0.2, "color(16) on color(229)", "20-50%"),
    (0.05, "color(16) on color(222)", "5-20%"),
    (0.01, "color(16) on color(215)", "1-5%"),
    (0.0, "color(16) on color(209)", "under 1%"),
)
"""From this probability on; style; name."""
N_ROWS = 16
"""Rows of the table, at most; of a longer text it shows the tokens that were expected least."""


class TintedView:
    """The text, each token tinted by its probability; when it has ended, a legend and a table."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.tokens: list[ScoredToken] = []

    def begins(self, prompt: str) -> None:
        """Before the first token."""
        self._print(prompt, "bold")

    def token(self, token: "ScoredToken") -> None:
        """A token was written; its text follows with the next piece."""
        self.tokens.append(token)

    def piece(self, text: str) -> None:
        """The text has grown."""
        self._print(printable(text), level_of(self.tokens[-1])[1] if self.tokens else "")

    def ends(self) -> None:
        """After the last token."""
        self._print("\n\n", "")
        if self.tokens:
            self.console.print(self._legend(), no_wrap=True)
            self._table()

    def _print(self, text: str, style: str) -> None:
        self.console.print(Text(text, style), end="", soft_wrap=True)

    def _legend(self) -> Text:
        """The tints, and how many tokens have each."""
        legend = Text("probability ")
        for level in LEVELS:
            n = sum(level_of(token) == level for token in self.tokens)
            legend.append(f" {level[2]} ", level[1])
            legend.append(f" {n}  ")
        return legend

    def _table(self) -> None:
        numbered = list(enumerate(self.tokens, 1))
        if len(numbered) > N_ROWS:
            least = sorted(numbered, key=lambda entry: entry[1].probability)[:N_ROWS]
            numbered = sorted(least, key=lambda entry: entry[0])
            self.console.print(f"\n[bold]the {N_ROWS} of {len(self.tokens)} tokens that it expected least[/]")
        else:
            self.console.print()
        self.console.print(f"{'':>4}  {'token':<14}  {'probability':>11}  {'rank':>6}  instead", style="dim")
        for n, token in numbered:
            style = level_of(token)[1]
            line = Text(f"{n:>4}  ")
            line.append(padded(visible(token.token), 14), style)
            line.append(f"  {token.probability:>11.1%}  {token.rank:>6,}  ")
            room = self.console.width - line.cell_len - 1
            line.append(_fitting([f"{visible(o.token)} {percent(o.probability)}" for o in token.alternatives], room))
            self.console.print(line, no_wrap=True)


class LinesView:
    """One plain line a token: its number, its text, probability and rank, and the likeliest others."""

    def __init__(self) -> None:
        self.n = 0

    def begins(self, prompt: str) -> None:
        """Before the first token: nothing."""

    def token(self, token: "ScoredToken") -> None:
        """A line."""
        self.n += 1
        others = "  ".join(f"{visible(o.token):<8} {decimal(o.probability):<6}" for o in token.alternatives)
        shown = padded(visible(token.token), 14)
        line = f"{self.n:>4}  {shown}  {decimal(token.probability):>7}  {token.rank:>6}  {others}"
        print(line + "\n", end="", flush=True)  # in one piece, which a Ctrl-C does not part from its end

    def piece(self, text: str) -> None:
        """The text itself is not shown."""

    def ends(self) -> None:
        """After the last token: nothing."""


def level_of(token: "ScoredToken") -> tuple[float, str, str]:
    """The level that a token's probability belongs to."""
    return next(level for level in LEVELS if token.probability >= level[0])


def visible(token: str) -> str:
    """A token with its spaces and line ends as signs."""
    return printable(token.translate({ord(" "): "␣", ord("\n"): "↵", ord("\t"): "⇥", ord("\r"): "␍"}))


def percent(probability: float) -> str:
    """62%, <1%"""
    return f"{probability:.0%}" if probability >= 0.005 else "<1%"


def decimal(probability: float) -> str:
    """0.6213, 3e-05"""
    return f"{probability:.4f}" if probability >= 0.0001 else f"{probability:.0e}"


def padded(text: str, width: int) -> str:
    """The text in `width` columns of a terminal, cut where it is longer."""
    if cell_len(text) > width:
        while cell_len(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - cell_len(text))


def _fitting(parts: list[str], room: int) -> str:
    """As many of the parts as fit, with two spaces between them."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if cell_len(longer) > room:
            break
        line = longer
    return line
