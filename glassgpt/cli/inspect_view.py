"""An X-ray in the terminal: tokens, logit lens, heads, what would be missed, norms; or one layer, or one head."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from glassgpt.api.inspected import Inspected
from glassgpt.cli.probabilities import LinesView, TintedView, padded, percent, visible
from glassgpt.cli.words import number, printable
from glassgpt.generation.scored import Candidate, ScoredToken
from glassgpt.text.stream import StreamDecoder

LABEL = 11
"""Columns of the names of rows."""
CELL = 13
"""Columns of a cell of the logit lens: a token and its probability."""
MOST_LAYERS = 16
"""Rows of a table of layers; of a deeper model it shows some."""
BEST = 4
"""Heads and layers that are named for each thing that they do."""
BAR = 10
SHADES = " ·░▒▓█"
"""From no attention to all: the limits below."""
LIMITS = (0.01, 0.05, 0.15, 0.35, 0.65)
KNOWN = "bold green"
"""What the model will say in the end."""
Written = Callable[[float], str]


class InspectView:
    """Prints what was seen of a prompt."""

    def __init__(self, found: Inspected) -> None:
        self.found, self.seen = found, found.xray
        self.console = Console(highlight=False, soft_wrap=True)
        self.n_layers, self.n_heads, self.length, _ = self.seen.attention.shape
        self.names = [self.name(int(token)) for token in self.seen.ids]

    def show(self, layer: int | None = None, head: int | None = None) -> None:
        """Everything; or the heads of a layer; or where one head looks."""
        about, seen = self.found.about, self.seen
        shape = f"{number(self.n_layers, 'layer')} of {number(self.n_heads, 'head')}"
        self._line(f"{printable(str(self.found.directory))}: {about['architecture']}, {shape}, {about['weights']}")
        if layer is not None and head is not None:
            return self._attention(layer, head)
        if layer is not None:
            return self._heads_of(layer)
        if self.length > 1:
            mean = float(seen.nats.mean())
            first = int((seen.ranks == 1).sum())
            self._line(
                f"{number(self.length, 'token')}: {mean:.2f} nats each, perplexity {np.exp(min(mean, 700)):,.1f}; "
                f"{first} of {self.length - 1} were its first choice\n"
            )
            self._tokens()
        else:
            self._line("1 token, which has no next one to predict: a longer --prompt shows more")
        self._lens()
        self._scores()
        if seen.attention_ablation is not None and self.length > 1:
            self._ablation()
        self._norms()
        self._neighbours()

    def name(self, token: int) -> str:
        """A token as it is shown; one without text by its id."""
        return visible(self.found.text_of(token)) or f"#{token}"

    def _line(self, text: str | Text = "") -> None:
        self.console.print(text, markup=False)

    def _title(self, title: str, about: str = "") -> None:
        self._line()
        self._line(Text.assemble((title, "bold"), ("  " + about if about else "", "dim")))

    def _tokens(self) -> None:
        """The prompt, tinted by how likely each token was, and a table; on a pipe a line each."""
        view = TintedView() if sys.stdout.isatty() else LinesView()
        text = StreamDecoder(self.found.tokenizer)
        view.begins(printable(text.feed([int(self.seen.ids[0])])))
        for token in self._scored():
            view.token(token)
            view.piece(text.feed([token.id]) if token.id < self.found.tokenizer.vocab_size else "")
        view.ends()

    def _scored(self) -> Iterator[ScoredToken]:
        """The tokens after the first, as `generate` scores those that it writes."""
        seen = self.seen
        for t, token in enumerate(seen.ids[1:].tolist()):
            likeliest = zip(seen.top_ids[t].tolist(), seen.top_probabilities[t].tolist())
            others = (Candidate(other, self.name(other), p) for other, p in likeliest if other != token)
            yield ScoredToken(
                token, self.name(token), float(seen.probabilities[t]), int(seen.ranks[t]), tuple(others)
            )

    def _lens(self) -> None:
        """What it would say after the last tokens, layer by layer."""
        seen = self.seen
        n = max(1, min(self.length, (min(self.console.width, 120) - LABEL) // CELL))
        places = range(self.length - n, self.length)
        self._title("Logit lens", "what it would say if it ended after this layer")
        self._line(Text.assemble(f"{'after':<{LABEL}}", *(padded(self.names[t], CELL - 1) + " " for t in places)))
        for row in self._some_layers(len(seen.lens_ids)):
            line = Text(self._layer_name(row), "dim")
            for t in places:
                token, share = int(seen.lens_ids[row, t, 0]), percent(float(seen.lens_probabilities[row, t, 0]))
                style = KNOWN if token == seen.top_ids[t, 0] else ""
                line.append(f"{padded(self.name(token), CELL - 6)} {share:>4} ", style)
            self._line(line)
        if n > 1:
            nexts = [*self.names[places[0] + 1 :], "?"]
            cells = (padded(name, CELL - 1) + " " for name in nexts)
            self._line(Text.assemble((f"{'came next':<{LABEL}}", "dim"), *cells))
        last, choice = seen.lens_ids[:, -1, 0], self.name(int(seen.top_ids[-1, 0]))
        since = next(row for row in range(len(last)) if (last[row:] == last[-1]).all())
        when = "from the embedding on" if since == 0 else f"from layer {since - 1} on"
        self._line(f"After ‘{self.names[-1]}’ it says ‘{choice}’ {when}.")

    def _scores(self) -> None:
        """The heads that do what heads are known for."""
        seen = self.seen
        self._title("Heads that look at", "and the share of their attention; 2.0 is layer 2, head 0")
        kinds = {
            "the token before": seen.previous_token,
            "the first token": seen.first_token,
            "what followed before": seen.induction,
        }
        columns = {name: _bars(_named(scores), 1.0, BAR - 2, percent) for name, scores in kinds.items()}
        self._side_by_side({name: bars for name, bars in columns.items() if bars})

    def _ablation(self) -> None:
        """What the model would miss most."""
        seen = self.seen
        heads = {} if seen.head_ablation is None else {"a head": _named(seen.head_ablation)}
        self._title("Without it", "the nats a token rise by; below 0, it does better without")
        rises = {
            **heads,
            "the attention of": _named(seen.attention_ablation, "layer "),
            "the feed-forward of": _named(seen.feed_forward_ablation, "layer "),
        }
        largest = {name: max((rise for _, rise in found), default=1.0) for name, found in rises.items()}
        self._side_by_side(
            {
                name: _bars(found, max(largest[name], 1e-9), BAR - 4, "{:+.3f}".format)
                for name, found in rises.items()
            }
        )
        if not heads:
            self._line(Text("--ablate heads measures every head as well, which takes longer", "dim"))

    def _norms(self) -> None:
        """How long the stream is, and what each part adds to it."""
        seen = self.seen
        stream, attention, feed_forward = (
            np.median(norms, axis=1) for norms in (seen.residual_norms, seen.attention_norms, seen.feed_forward_norms)
        )
        nothing = np.array([np.nan])  # is added before the first block
        columns = stream[::2], np.concatenate([nothing, attention]), np.concatenate([nothing, feed_forward])
        self._title("Length of the stream after it, and of what it adds", "median over the tokens")
        self._line(Text(f"{'':<{LABEL}}{'stream':<{BAR + 13}}{'attention':<{BAR + 13}}feed-forward", "dim"))
        for row in self._some_layers(self.n_layers + 1):
            line = Text(self._layer_name(row), "dim")
            for column in columns:
                value, most = float(column[row]), float(np.nanmax(column)) or 1.0
                if value != value:
                    continue
                line.append(f"{value:>8.2f} ", "default")
                line.append(f"{_bar(value / most, BAR):<{BAR + 4}}", "cyan")
            line.rstrip()
            self._line(line)

    def _layer_name(self, row: int) -> str:
        """Of a row that stands for the stream before block 0 or after a block."""
        return f"{'embedding' if row == 0 else f'layer {row - 1}':<{LABEL}}"

    def _neighbours(self) -> None:
        """What lies beside the last tokens in the embedding."""
        seen, shown = self.seen, dict[int, int]()
        for t in range(self.length - 1, -1, -1):
            shown.setdefault(int(seen.ids[t]), t)
        self._title("Nearest in the embedding", "of the last tokens, with the cosine")
        for t in sorted([*shown.values()][:3]):
            near = zip(seen.neighbour_ids[t].tolist(), seen.neighbour_cosines[t].tolist())
            line = f"{padded(self.names[t], LABEL - 1)} "
            for token, cosine in near:
                part = f"{self.name(token)} {cosine:.2f}  "
                if Text(line + part).cell_len > self.console.width:
                    break
                line += part
            self._line(line.rstrip())

    def _heads_of(self, layer: int) -> None:
        """The heads of one layer: what they do, and where the last token looks."""
        seen = self.seen
        self._title(f"Layer {layer}", f"where the last token, {self.names[-1]}, looks")
        titles = f"{'head':<6}{'before':>7}{'first':>7}{'again':>7}"
        titles += "" if self._rises is None else f"{'without':>9}"
        self._line(Text(titles + "  looks at", "dim"))
        for head in range(self.n_heads):
            scores = (seen.previous_token, seen.first_token, seen.induction)
            line = f"{head:<6}" + "".join(f"{_share(score[layer, head]):>7}" for score in scores)
            line += "" if self._rises is None else f"{self._rises[layer, head]:>+9.3f}"
            looks = seen.attention[layer, head, -1]
            n = max(1, (self.console.width - len(line)) // 17)
            for t in np.argsort(-looks, kind="stable")[: min(n, BEST)].tolist():
                line += f"  {padded(f'{t + 1} {self.names[t]}', 10)} {percent(float(looks[t])):>4}"
            self._line(line)

    @property
    def _rises(self) -> NDArray[np.float32] | None:
        return self.seen.head_ablation if self.length > 1 else None

    def _attention(self, layer: int, head: int) -> None:
        """Where a head looks: a row for each token, shaded by its attention to each; the last ones that fit."""
        weights = self.seen.attention[layer, head]
        n = min(self.length, self.console.width - 30)
        wide = 2 if 2 * n <= self.console.width - 30 else 1
        start = self.length - n
        scores = ", ".join(f"{name} {_share(score[layer, head])}" for name, score in self._score_names())
        self._title(f"Layer {layer}, head {head}", scores)
        legend = "  ".join(f"{shade} {limit:.0%}" for shade, limit in zip(SHADES[1:], LIMITS))
        self._line(Text(f"each row looks at these columns: from {legend}", "dim"))
        for t in range(start, self.length):
            row = weights[t]
            cells = "".join(_shade(float(row[s])) * wide if s <= t else " " * wide for s in range(start, self.length))
            most = int(row[: t + 1].argmax())
            line = Text(f"{t + 1:>3} ", "dim")
            line.append(padded(self.names[t], 10) + " ", "default")
            line.append(cells, "cyan")
            line.append(f" {padded(self.names[most], 8)} {percent(float(row[most])):>4}", "default")
            self._line(line)

    def _score_names(self) -> Iterable[tuple[str, NDArray[np.float32]]]:
        """The scores of all heads, by what they are called."""
        seen = self.seen
        return ("token before", seen.previous_token), ("first token", seen.first_token), ("induction", seen.induction)

    def _some_layers(self, n: int) -> list[int]:
        """The rows of a table of layers: all, or the first, the last, and some between."""
        return sorted({round(row) for row in np.linspace(0, n - 1, min(n, MOST_LAYERS))})

    def _side_by_side(self, columns: dict[str, list[Text]]) -> None:
        """Lists beside each other, each below its name."""
        width = (min(self.console.width, 100) - 2) // 3
        self._line(Text("".join(f"{name:<{width}}" for name in columns).rstrip(), "dim"))
        for row in itertools.zip_longest(*columns.values(), fillvalue=Text()):
            line = Text()
            for cell in row:
                line.append(cell).append(" " * (width - cell.cell_len))
            line.rstrip()
            self._line(line)


def _named(scores: NDArray[np.float32] | None, before: str = "") -> list[tuple[str, float]]:
    """Heads (L, H) or layers (L,) with their names, without what is no number."""
    if scores is None:
        return []
    places = ((".".join(map(str, place)), float(score)) for place, score in np.ndenumerate(scores))
    return [(before + name, score) for name, score in places if np.isfinite(score)]


def _bars(found: Sequence[tuple[str, float]], full: float, width: int, written: Written) -> list[Text]:
    """The largest as bars, largest first."""
    best = sorted(found, key=lambda entry: -entry[1])[:BEST]
    names = max((len(name) for name, _ in best), default=0)
    return [
        Text.assemble(f"{name:<{names}} ", (f"{_bar(score / full, width):<{width}}", "cyan"), f" {written(score)}")
        for name, score in best
    ]


def _bar(share: float, width: int) -> str:
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def _share(score: float) -> str:
    return percent(score) if score == score else "-"


def _shade(weight: float) -> str:
    return SHADES[sum(weight >= limit for limit in LIMITS)]
