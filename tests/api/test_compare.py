"""Comparing settings: the runs are those of train, in turn; a worse setting is found, noise is not."""

import json
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import glassgpt
from glassgpt import InputError
from glassgpt.api.compare import ComparisonStopped, Score, Unwatched
from glassgpt.api.train import Listener, Silent
from glassgpt.native.compiled import tier
from glassgpt.text.stories import write_stories
from glassgpt.training.loop import TrainingFailed

BASE: dict[str, Any] = {
    "model": {"architecture": "gpt2", "embedding_dim": 32, "n_heads": 2, "n_layers": 1, "context_length": 32},
    "data": {"tokenizer": "bytes"},
    "optim": {"batch_size": 8, "warmup": 5, "learning_rate": 3e-3},
    "run": {"threads": 1},
}
OTHER_FIRST_WEIGHTS = """
import torch
from glassgpt.model import GPTModel, initialise

def make_model(config):
    model = GPTModel(config)
    initialise(model, torch.Generator().manual_seed(torch.initial_seed() + 1_000_000))
    return model
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """A folder with `text.txt` and `base.yaml` in it; the one thread is not left to other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glassgpt.api.texts.DEFAULT_CACHE", tmp_path / "cache")
    Path("text.txt").write_text("\n".join(write_stories(60, seed=1)))
    write("base.yaml")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def write(path: str, **sections: Any) -> str:
    """A YAML file of settings, BASE with changes."""
    values = {name: BASE[name] | sections.get(name, {}) for name in BASE}
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(yaml.safe_dump({"text": "text.txt"} | values))
    return path


class Order(Unwatched):
    """Notes in which order the runs come, and what is on disk."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    def ended(self, name: str, score: Score) -> None:
        self.runs.append(f"{name}{score.seed}")


@pytest.mark.thorough
def test_a_hundredth_of_the_learning_rate_is_worse_and_other_first_weights_are_not() -> None:
    write("slow.yaml", optim={"learning_rate": 3e-5})
    write("noise/noise.yaml", run={"code": "noise.py"})
    Path("noise/noise.py").write_text(OTHER_FIRST_WEIGHTS)
    order = Order()
    found = glassgpt.compare(
        ["base.yaml", "slow.yaml", "noise/noise.yaml"], steps=20, seeds=4, out="kept", watcher=order
    )
    base, slow, noise = found.variants
    assert found.arithmetic == ({"kernel": "torch", "dtype": "fp32"} if tier() else {}), "noise is a model of one's own"
    assert (slow.verdict, noise.verdict) == ("worse", "cannot tell")
    assert slow.difference is not None
    assert slow.difference.low > 0
    assert noise.difference is not None
    assert all(noise.difference.differences)
    names = [["base", "slow", "noise"], ["noise", "slow", "base"]] * 2
    assert order.runs == [f"{name}{seed}" for seed, turn in enumerate(names, 1) for name in turn]

    # Whatever ran before it in this process, a run is the one that `train` makes.
    for name, score in (("base", base.scores[3]), ("slow", slow.scores[2])):
        alone = glassgpt.train(
            config=f"{name}.yaml", steps=20, seed=score.seed, out=f"alone-{name}", run=found.arithmetic
        )
        assert alone.bits_per_byte == score.bits_per_byte
        assert (score.tokens, score.parameters) == (20 * 8 * 32, alone.measured.parameters)
    kept = json.loads(Path("kept/compare.json").read_text())
    assert kept == found.to_dict()
    assert kept["variants"][1]["differences"] == slow.difference.differences
    assert {path.name for path in Path("kept").iterdir()} >= {f"{name}-seed-4" for name in ("base", "slow", "noise")}
    assert not Path("runs").exists()


def test_a_setting_against_itself_differs_by_nothing() -> None:
    found = glassgpt.compare(["base.yaml", "base.yaml"], tokens=1024, seeds=[7, 9])
    base, same = found.variants
    assert (base.name, same.name, same.verdict) == ("base", "base-2", "cannot tell")
    assert same.difference is not None
    assert same.difference.differences == [0, 0]
    assert [score.seed for score in base.scores] == [7, 9]
    assert base.scores[0].tokens == 1024
    assert base.scores[0].bits_per_byte != base.scores[1].bits_per_byte


@pytest.mark.thorough
def test_arguments_of_train_make_variants_too_and_other_tokenizers_compare() -> None:
    variants = {"bytes": BASE, "chars": BASE | {"tokenizer": "chars"}, "file": "base.yaml"}
    found = glassgpt.compare(variants, text="text.txt", steps=2, seeds=2)
    assert [variant.name for variant in found.variants] == ["bytes", "chars", "file"]
    assert found.variants[0].bits_per_byte == found.variants[2].bits_per_byte != found.variants[1].bits_per_byte


def breaking(model: Any, optim: Any) -> torch.optim.Optimizer:
    """An optimiser whose third step makes a weight infinite."""

    class Breaking(torch.optim.SGD):
        done = 0

        def step(self, closure: Any = None) -> None:
            super().step(closure)
            self.done += self.param_groups[0]["lr"] > 0
            if self.done == 3:
                self.param_groups[0]["params"][0].data.fill_(float("inf"))

    return Breaking(model.parameters(), lr=0.1)


@pytest.mark.thorough
def test_a_variant_that_fails_is_left_out_and_the_others_go_on() -> None:
    variants = {"base": BASE, "breaking": BASE | {"optimizer": breaking}, "same": BASE}
    found = glassgpt.compare(variants, text="text.txt", steps=6, seeds=2)
    base, failed, same = found.variants
    assert (failed.verdict, failed.scores, len(same.scores), len(base.scores)) == ("failed", [], 2, 2)
    assert failed.failure is not None
    assert failed.failure.startswith("seed 1: stopped at step 4")
    with pytest.raises(TrainingFailed):
        glassgpt.compare({"breaking": variants["breaking"], "base": BASE}, text="text.txt", steps=6, seeds=2)


class Stop(Silent):
    """Ends the run after its first step, as `kill` does."""

    def stepped(self, metrics: Any) -> None:
        signal.raise_signal(signal.SIGTERM)


class StopInSixth(Unwatched):
    def begins(self, name: str, seed: int, number: int, total: int) -> Listener:
        return Stop() if number == 6 else Silent()


@pytest.mark.thorough
def test_what_was_finished_is_kept_when_it_is_interrupted() -> None:
    with pytest.raises(ComparisonStopped, match="after 5 of 10 runs") as stopped:
        glassgpt.compare(["base.yaml", "base.yaml"], steps=3, seeds=5, out="kept", watcher=StopInSixth())
    base, same = stopped.value.comparison.variants
    assert same.difference is not None
    assert (len(base.scores), len(same.scores), len(same.difference.differences)) == (3, 2, 2)
    assert json.loads(Path("kept/compare.json").read_text()) == stopped.value.comparison.to_dict()


def test_a_mistake_in_the_last_variant_is_found_before_the_first_run() -> None:
    write("long.yaml", model={"context_length": 100_000})
    order = Order()
    with pytest.raises(InputError, match="shorter context"):
        glassgpt.compare(["base.yaml", "long.yaml"], steps=3, watcher=order)
    assert not order.runs


@pytest.mark.parametrize(
    ("variants", "arguments", "says"),
    [
        (["base.yaml"], {"steps": 2}, "two or more settings, given is base"),
        ([], {"steps": 2}, "two or more settings, given is none"),
        (["base.yaml", "none.yaml"], {"steps": 2}, "cannot read settings from none.yaml"),
        (["base.yaml", "base.yaml"], {}, "give one of --steps, --tokens and --minutes"),
        (["base.yaml", "base.yaml"], {"steps": 2, "tokens": 9}, "give one of --steps, --tokens and --minutes"),
        (["base.yaml", "base.yaml"], {"steps": 2, "seeds": 1}, "must be at least 2"),
        (["base.yaml", "base.yaml"], {"steps": 2, "seeds": [3, 3]}, "all different"),
        (["base.yaml", "other.yaml"], {"steps": 2}, "text is .* in base and .* in other: only scores on one text"),
        (["base.yaml", "split.yaml"], {"steps": 2}, r"data.val_fraction is 0.1 in base and 0.2 in split"),
        (["base.yaml", "typo.yaml"], {"steps": 2}, "typo: unknown setting optim.lr: did you mean optim.learning_rate"),
        (["base.yaml", "base.yaml"], {"steps": 2, "text": "-"}, "standard input can be read once"),
        ({"a": {}, "b": {"steps": 3}}, {"steps": 2}, "b has 'steps', but a variant may have"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(variants: Any, arguments: dict[str, Any], says: str) -> None:
    write("other.yaml")
    Path("other.yaml").write_text(Path("other.yaml").read_text().replace("text.txt", "other.txt"))
    write("split.yaml", data={"val_fraction": 0.2})
    write("typo.yaml", optim={"lr": 1.0})
    with pytest.raises(InputError, match=says):
        glassgpt.compare(variants, **arguments)
