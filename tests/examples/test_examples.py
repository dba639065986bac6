"""The examples run as their own first lines say, on a small text."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import nn

import glassgpt
from glassgpt.api.code import read_code
from glassgpt.cli.main import run
from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.text.stories import write_stories

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ["--tokenizer", "bytes", "--model.embedding-dim", "32", "--model.n-layers", "1", "--model.n-heads", "2",
         "--model.context-length", "32", "--optim.batch-size", "8", "--run.threads", "1"]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story_file: Path) -> None:
    """A folder with `book.txt` and the examples in it, the working directory of the test."""
    (tmp_path / "book.txt").write_bytes(story_file.read_bytes())
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glassgpt.api.texts.DEFAULT_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_it_is_used(example: Path) -> None:
    source = example.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 40
    assert f"--run.code examples/{example.name}" in source.split('"""')[1]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["attention", "optimizer"])
def test_an_example_trains_resumes_and_writes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = f"examples/{name}.py"
    assert run(["train", "book.txt", "--run.code", code, "--steps", "20", *SMALL]) == 0
    assert run(["train", "--resume", "runs/book", "--trust-code", "--run.steps", "24", "--json"]) == 0
    ended = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (ended["steps"], ended["directory"]) == (24, "runs/book")
    assert ended["val_bpb"] < 8, "no better than knowing nothing"
    assert run(["generate", "runs/book", "--trust-code", "--prompt", "Once", "--max-new-tokens", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"].startswith("Once")


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["attention", "optimizer"])
def test_an_example_is_compared_with_what_is_built_in(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("small.yaml").write_text(
        "model: {embedding_dim: 32, n_heads: 2, n_layers: 1, context_length: 32}\n"
        "data: {tokenizer: bytes}\noptim: {batch_size: 8}\nrun: {threads: 1}\n"
    )
    asked = ["--text", "book.txt", "--steps", "12", "--seeds", "2", "--json"]
    assert run(["compare", "small.yaml", "--with", f"run.code=examples/{name}.py", *asked]) == 0
    first, second = json.loads(capsys.readouterr().out)["variants"]
    assert first["bits_per_byte"] != second["bits_per_byte"]


def test_a_sink_that_takes_nothing_leaves_attention_as_it_was() -> None:
    config = GPTConfig.from_dict(
        {"architecture": "modern", "vocab_size": 11, "context_length": 8, "embedding_dim": 16, "n_heads": 4,
         "n_kv_heads": 2, "n_layers": 2}
    )  # fmt: skip
    model = read_code(EXAMPLES / "attention.py").first_model(config, seed=1)
    plain = glassgpt.GPTModel(config)
    nn.init.constant_(model.blocks[0].attention.sink, -100.0)
    nn.init.constant_(model.blocks[1].attention.sink, -100.0)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "sink" not in name})
    ids = torch.arange(8)[None]
    torch.testing.assert_close(model.eval()(ids), plain.eval()(ids))


def test_lion_moves_each_weight_by_its_learning_rate() -> None:
    model = nn.Linear(3, 2)
    optimizer = read_code(EXAMPLES / "optimizer.py").make_optimizer(model, OptimConfig(learning_rate=0.1))
    before = model.weight.detach().clone()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(model.weight, before * (1 - 0.01 * 1.0) - 0.01)


def test_the_rows_of_a_database_are_documents() -> None:
    with closing(sqlite3.connect("letters.db")) as database:
        database.execute("CREATE TABLE letters (day TEXT, body TEXT)")
        stories = write_stories(200, seed=2)
        rows = [(f"1805-{day:04d}", story) for day, story in enumerate(stories)]
        database.executemany("INSERT INTO letters VALUES (?, ?)", reversed(rows))
        database.commit()
    names: dict[str, object] = {}
    exec((EXAMPLES / "dataset.py").read_text(encoding="utf-8"), names)
    assert list(names["documents"]()) == stories
    assert run(["train", "--run.code", "examples/dataset.py", "--steps", "20", "--out", "run", *SMALL]) == 0
    assert json.loads(Path("run", "report.json").read_text(encoding="utf-8"))["steps"] == 20
