"""Any command line, good or bad, does what it says or is refused in one line; 2,000 of them."""

import contextlib
import io
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from damage import tiny_directory
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tiers import Tally

from glassgpt.cli.main import run
from glassgpt.config import SECTIONS
from glassgpt.text.stories import write_stories

NUMBERS = [
    "0", "-1", "1", "2", "3", "8", "1.5", "0.5", "1e3000", "nan", "inf", "-0", "9" * 30, "9" * 5000, "٣", "0x8", "1_0",
]  # fmt: skip
WORDS = [
    "", "-", "--", "x", "none", "true", "ü 文", "a b", "\udcff", "text.txt", "model", "prepared", "absent", ".",
    "*.txt", "empty", "[", "{}", "%s", "\x1b[2J", "a\nb", "x" * 5000, "~", "/dev/null", "bin.dat",
]  # fmt: skip
Line = st.SearchStrategy[list[str]]
number, word = st.sampled_from(NUMBERS), st.sampled_from(WORDS)
value = number | word | st.text(st.characters(exclude_characters="\0"), max_size=5)
FIELDS = [f"--{name}.{field}" for name, kind in SECTIONS.items() for field in kind.__dataclass_fields__]
FIELDS = [field.replace("_", "-") for field in FIELDS if not field.endswith(("threads", "minutes", "cache"))]
STRAY = ["--stepz", "--block-size=3", "-x", "--n-embd", "--help", "--version", "--json=3", "--modle.n-layers=3"]


def flag(name: str, values: st.SearchStrategy[str] = value) -> Line:
    return values.map(lambda given: [name, given]) | values.map(lambda given: [f"{name}={given}"])


def joined(parts: Iterable[list[str]]) -> list[str]:
    return [*itertools.chain.from_iterable(parts)]


def line(verb: str, places: Line, *flags: Line) -> Line:
    """Command lines of a verb: what stands in its places, then flags in any number, now and then one that is none."""
    names = {"unique_by": lambda found: found[0].partition("=")[0]}
    some = st.lists(st.one_of(*flags, st.just(["--json"])), max_size=4, **names).map(joined)
    odd = st.sampled_from([[]] * 40 + [[found] for found in STRAY])
    return st.tuples(places, some, odd).map(lambda parts: [*verb.split(), *joined(parts)])


def place(*usual: str) -> Line:
    """One argument without a flag, mostly a usual one."""
    return st.one_of(st.sampled_from(usual), st.sampled_from(usual), value).map(lambda given: [given])


def words(*given: str) -> st.SearchStrategy[str]:
    return st.sampled_from(given)


TINY_RUN = (
    "text.txt --steps 1 --tokenizer bytes --model.embedding-dim 8 --model.n-heads 2 --model.n-layers 1 "
    "--model.context-length 8 --optim.batch-size 2"
)
field = st.tuples(st.sampled_from(FIELDS), number | number | value).map(list)
size = st.tuples(words("--model.n-layers", "--model.embedding-dim", "--optim.batch-size"), number).map(list)
too_short = flag("--minutes", words("0", "-1", "nan", "inf", "x", "", "1e-9"))
no_steps = flag("--steps", words("0", "-1", "x", "1.5", "", "9" * 30))
tokenizer = flag("--tokenizer", words("bytes", "chars", "bpe:300", "bpe:1", "bpe:x", "x", "", "bpe:" + "9" * 30))
GENERATE = [
    flag("--prompt"), flag("--max-new-tokens", words("0", "1", "3", "-1", "x")), flag("--temperature", number),
    flag("--top-k", number), flag("--top-p", number), flag("--seed", number), flag("--device", word),
    flag("--num-samples", words("0", "1", "2", "-1", "x")),
]  # fmt: skip
TOKENIZER = [
    tokenizer, flag("--out", st.integers(0, 999).map(lambda n: f"tokenizer-{n}")),
    flag("--out", words("", "model", "text.txt", "a\nb")),
]  # fmt: skip
PREPARE = [
    tokenizer, flag("--val-fraction", number), flag("--cache", words("c", "", "text.txt")),
    flag("--invalid-utf8", word),
]  # fmt: skip
TRAIN = [field, size, flag("--out", word), flag("--config", word), flag("--preset", word), flag("--seed", number)]
LINES = st.one_of(
    line("plan", place("gpt2-small", "modern-tiny", "text.txt", "model"), field, size, too_short),
    line("generate", place("model"), *GENERATE),
    line("eval", place("model"), flag("--data"), flag("--data", words("text.txt")), flag("--device", word)),
    line("tokenizer encode", st.tuples(place("model"), place("text")).map(joined), st.just(["--allow-special"])),
    line("tokenizer decode", st.tuples(place("model"), st.lists(number, max_size=3)).map(joined)),
    line("tokenizer train text.txt", place("text.txt"), *TOKENIZER),
    line("data info", place("prepared", "model")),
    line("data verify", place("prepared", "model")),
    line("data prepare text.txt", place("text.txt"), *PREPARE),
    line("train", st.tuples(place("text.txt"), no_steps).map(joined), *TRAIN),
    line("train --resume", place("model", "absent"), field, flag("--steps", number)),
    line("compare --seeds 0", st.lists(word, max_size=2), flag("--with"), flag("--with", words("optim.beta2=0.9"))),
    line("", st.lists(value, max_size=3), field),
)
"""None of them trains."""
RUNS = line(f"train {TINY_RUN}", st.just([]), field, size, flag("--out", word), flag("--run.code", word))
"""What may train, for one step."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with a text, a model and a prepared text, and beside it something that stays as it is."""
    folder = tmp_path_factory.mktemp("command-lines")
    (folder / "beside").mkdir()
    (folder / "beside" / "thesis.txt").write_text("years of work")
    work = folder / "work"
    (work / "empty").mkdir(parents=True)
    (work / "text.txt").write_text("\n".join(write_stories(20, seed=1)))
    (work / "bin.dat").write_bytes(bytes(range(256)))
    tiny_directory(work / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setenv("HOME", str(work / "home"))
        patch.setattr("glassgpt.api.texts.DEFAULT_CACHE", work / "cache")
        (work / "cache").mkdir()
        assert run(["data", "prepare", "text.txt", "--tokenizer", "bytes"]) == 0
        next((work / "cache").iterdir()).rename(work / "prepared")
        assert run(["eval", "model", "--data", "text.txt"]) == 0  # imports PyTorch, which takes its time
        yield folder


def told(arguments: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command line with nothing on standard input."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace") for _ in range(2))
    given, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(), "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(arguments)
    finally:
        sys.stdin = given
    for stream in (out, err):
        stream.flush()
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """What must stay as it is: everything that was there."""
    kept = (folder / "beside", *(folder / "work" / name for name in ("model", "prepared", "text.txt", "bin.dat")))
    paths = [path for top in kept for path in (top, *top.rglob("*"))]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def check(folder: Path, arguments: list[str]) -> None:
    before = files_of(folder)
    code, out, err = told(arguments)
    assert code in (0, 2), (code, err)
    if code == 2:
        *before_it, refusal = err.removesuffix("\n").split("\n")
        assert refusal.startswith("glassgpt: ")
        assert refusal.isprintable()
        progress = before_it + ([] if "--json" in arguments else out.splitlines())
        assert all(step.startswith(("  ", "GlassGPT ")) for step in progress)
        assert out == "" or "--json" not in arguments
    elif "--json" in arguments and not {"--help", "-h", "--version"} & {*arguments}:
        assert isinstance(json.loads(out), dict)
    assert "Traceback" not in err
    assert files_of(folder) == before
    assert sorted(os.listdir(folder)) == ["beside", "work"]


@pytest.mark.thorough
def test_any_command_line_does_what_it_says_or_is_refused_in_one_line(
    folder: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=1960, deadline=timedelta(seconds=5), suppress_health_check=list(HealthCheck))
    @given(arguments=LINES)
    def any_line(arguments: list[str]) -> None:
        check(folder, arguments)

    any_line()

    def mistaken(error: Exception) -> str:
        raise LookupError("nothing is known of this mistake")

    monkeypatch.setattr("glassgpt.cli.main.advice", mistaken)
    first = settings(max_examples=40, deadline=None, database=None, report_multiple_bugs=False, phases=[Phase.generate])
    with pytest.raises(LookupError):
        first(given(arguments=LINES)(lambda arguments: check(folder, arguments)))()
    tally("input", "command lines", 1960, 0, "an error in finding the advice for a mistake is seen")


@pytest.mark.thorough
def test_so_does_any_that_trains(folder: Path, tally: Tally) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(arguments=RUNS)
    def any_run(arguments: list[str]) -> None:
        check(folder, arguments)

    any_run()
    tally("input", "command lines that train", 40, 0, "as above")
