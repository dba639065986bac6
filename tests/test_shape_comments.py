"""The shape comments of the model are true: `x = ...  # (B, T, C)` is compared with what runs.

The comments are read with `tokenize`, the assignments and returns they stand on with `ast`. Then both architectures
run, trained and written with, cached and not, at sizes that all differ, while a trace function notes the shape of
every variable that a commented line assigns.

Two functions serve queries and keys alike: `split_heads` and the rotary positions. Their H is the heads of the line
that called them: where that line's own comment says K, it is the number of key heads.
"""

import ast
import inspect
import io
import re
import string
import sys
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import glassgpt.model
import glassgpt.ops.attention
import glassgpt.skeleton
from glassgpt.config import GPTConfig
from glassgpt.generation.cache import make_cache
from glassgpt.generation.slots import SlotCache

MODULES = [glassgpt.model, glassgpt.skeleton, glassgpt.ops.attention]

SIZES = {
    "modern": {"B": 2, "T": 5, "S": 5, "C": 11, "H": 6, "K": 3, "D": 4, "F": 13, "V": 29},
    "gpt2": {"B": 2, "T": 5, "S": 5, "C": 24, "H": 3, "K": 3, "D": 8, "F": 13, "V": 29},
}
CONFIGS = {
    name: GPTConfig(
        architecture=name,
        vocab_size=sizes["V"],
        context_length=17,
        embedding_dim=sizes["C"],
        n_heads=sizes["H"],
        n_kv_heads=sizes["K"],
        head_dim=sizes["D"],
        feed_forward_dim=sizes["F"],
        n_layers=2,
        dropout_rate=0.1,
    )
    for name, sizes in SIZES.items()
}

Letters = tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """The comment on one statement: the lines it covers, what it assigns (nothing: it returns), the letters."""

    lines: range
    names: tuple[str, ...]
    letters: Letters


@dataclass(frozen=True)
class Sighting:
    """The shape that one assigned variable, or the returned value, had at the end of a statement."""

    name: str
    shape: tuple[int, ...]
    sizes: tuple[tuple[str, int], ...]
    """What the letters stood for in that call."""
    called_by: int
    """The last line of the statement in the same file that called; 0 where there is none."""


def claims_of(source: str) -> dict[int, Claim]:
    """Last line of each statement with a shape comment -> its claim."""
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        found = re.match(r"#\s*\(([A-Z](?:, [A-Z])*)\)", token.string) if token.type == tokenize.COMMENT else None
        if found:
            comments[token.start[0]] = tuple(found[1].split(", "))
    claims = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign | ast.Return) and node.end_lineno in comments:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = tuple(n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))
            lines = range(node.lineno, node.end_lineno + 1)
            claims[node.end_lineno] = Claim(lines, names, comments.pop(node.end_lineno))
    assert not comments, f"shape comments on lines that assign and return nothing: {sorted(comments)}"
    return claims


def statements_of(source: str) -> dict[int, int]:
    """Each line of a simple statement -> the statement's last line."""
    simple = ast.Assign | ast.Return | ast.Expr | ast.AugAssign
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, simple)]
    return {line: node.end_lineno for node in nodes for line in range(node.lineno, node.end_lineno + 1)}


class Watch:
    """A trace function that notes what the commented statements of some modules made, by file and last line."""

    def __init__(self, modules: list[ModuleType]) -> None:
        sources = {inspect.getfile(module): inspect.getsource(module) for module in modules}
        self.claims = {file: claims_of(source) for file, source in sources.items()}
        self.ends = {file: statements_of(source) for file, source in sources.items()}
        self.sightings: dict[tuple[str, int], list[Sighting]] = defaultdict(list)
        self.sizes: dict[str, int] = {}

    def run(self, sizes: dict[str, int], call: Callable[[], Any]) -> None:
        self.sizes = sizes
        before = sys.gettrace()
        sys.settrace(self.on_call)
        try:
            call()
        finally:
            sys.settrace(before)

    def on_call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        file = frame.f_code.co_filename
        if file not in self.claims:
            return None
        pending: Claim | None = None

        def on_line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            nonlocal pending
            left = pending is not None and (event == "return" or frame.f_lineno not in pending.lines)
            if left and pending.names:
                for name in pending.names:
                    self.note(frame, pending, name, frame.f_locals[name])
            elif left and event == "return":
                self.note(frame, pending, "return", argument)
            if left:
                pending = None
            if event == "line":
                pending = self.claims[file].get(self.ends[file].get(frame.f_lineno, 0), pending)
            return on_line

        return on_line

    def note(self, frame: FrameType, claim: Claim, name: str, value: Any) -> None:
        file, caller = frame.f_code.co_filename, frame.f_back
        while caller is not None and caller.f_code.co_filename != file:  # torch stands between two of our modules
            caller = caller.f_back
        called_by = 0 if caller is None else self.ends[file].get(caller.f_lineno, 0)
        assert isinstance(value, Tensor), f"{file}:{claim.lines[-1]}: {name} is no tensor, but has a shape comment"
        seen = Sighting(name, tuple(value.shape), tuple(self.sizes.items()), called_by)
        self.sightings[file, claim.lines[-1]].append(seen)

    def disagreements(self) -> Iterator[str]:
        """One line for each commented statement that made another shape, or that never ran."""
        for file, claims in self.claims.items():
            for line, claim in claims.items():
                seen = self.sightings[file, line]
                if not seen:
                    yield f"{file}:{line}: never ran, so its comment is not checked"
                for sighting in seen:
                    sizes = dict(sighting.sizes)
                    if (caller := claims.get(sighting.called_by)) and "K" in caller.letters:
                        sizes["H"] = sizes["K"]
                    if tuple(sizes.get(letter) for letter in claim.letters) != sighting.shape:
                        comment = ", ".join(claim.letters)
                        yield f"{file}:{line}: {sighting.name} has shape {sighting.shape}, not ({comment}) of {sizes}"
                        break


def run_everything(watch: Watch) -> None:
    """Both architectures and the sketch: whole texts and with a cache, in training and evaluation."""
    torch.manual_seed(0)
    for name, config in CONFIGS.items():
        sizes = SIZES[name]
        for model in (glassgpt.model.GPTModel(config).train(), glassgpt.model.GPTModel(config).eval()):
            ids = torch.randint(sizes["V"], (2, 12))
            cache = make_cache(config.n_layers, capacity=17)
            watch.run(sizes, lambda model=model, ids=ids: model(ids[:, :5]))
            watch.run(sizes | {"T": 7, "S": 7}, lambda model=model, ids=ids, cache=cache: model(ids[:, :7], cache))
            watch.run(sizes | {"T": 5, "S": 12}, lambda model=model, ids=ids, cache=cache: model(ids[:, 7:], cache))
        slots = SlotCache(config, 3, torch.device("cpu"), torch.float32)
        ragged = slots.of_slots(slice(0, 2), torch.tensor([[4, 5, 6, 7], [0, 1, 2, 3]]), n_keys=9, length=4)
        with torch.no_grad():
            watch.run(sizes | {"T": 4, "S": 9}, lambda model=model, ids=ids, cache=ragged: model(ids[:, :4], cache))
    sketch = glassgpt.skeleton.DummyGPTModel(CONFIGS["gpt2"])
    without_cache = {letter: size for letter, size in SIZES["gpt2"].items() if letter != "S"}
    watch.run(without_cache, lambda: sketch(torch.randint(29, (2, 5))))


@pytest.fixture(scope="module")
def watch() -> Watch:
    watch = Watch(MODULES)
    run_everything(watch)
    return watch


def test_every_shape_comment_is_what_runs(watch: Watch) -> None:
    assert list(watch.disagreements()) == []


def test_the_model_has_many_shape_comments(watch: Watch) -> None:
    assert len(watch.claims[glassgpt.model.__file__]) >= 20


def test_each_wrong_letter_in_any_comment_would_be_found(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: every letter of every comment, replaced by every other letter."""
    used = {letter for claims in watch.claims.values() for claim in claims.values() for letter in claim.letters}
    survivors = []
    for file, claims in watch.claims.items():
        for line, claim in list(claims.items()):
            for i, right in enumerate(claim.letters):
                for wrong in used - {right}:
                    letters = (*claim.letters[:i], wrong, *claim.letters[i + 1 :])
                    monkeypatch.setitem(claims, line, Claim(claim.lines, claim.names, letters))
                    if not any(text.startswith(f"{file}:{line}:") for text in watch.disagreements()):
                        survivors.append((file, line, letters))
            monkeypatch.setitem(claims, line, claim)
    assert survivors == []


def test_a_source_with_a_wrong_comment_fails(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same from the text of a file to the report, with a dimension too many."""
    (tmp_path / "wrongly_commented.py").write_text(
        "def widen(x):\n"
        "    wide = x.repeat(\n"
        "        1, 2\n"
        "    )  # (B, T, C)\n"
        "    return wide  # (B, V)\n"
        "def unused(x):\n"
        "    return x  # (B, T)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import wrongly_commented  # pyrefly: ignore

    watch = Watch([wrongly_commented])
    watch.run({"B": 2, "T": 3, "C": 4, "V": 6}, lambda: wrongly_commented.widen(torch.zeros(2, 3)))
    found = [text.split("wrongly_commented.py:")[1] for text in watch.disagreements()]
    assert [text.split(",")[0] for text in found] == ["4: wide has shape (2", "7: never ran"]


def test_letters_stand_for_different_sizes() -> None:
    for name, sizes in SIZES.items():
        free = {letter: size for letter, size in sizes.items() if letter != "S" and (name, letter) != ("gpt2", "K")}
        assert len(set(free.values())) == len(free)
        assert set(sizes) <= set(string.ascii_uppercase)
