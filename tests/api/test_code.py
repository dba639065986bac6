"""A model or an optimiser of the user's own: it trains, is saved with its source, and is opened only where trusted."""

import hashlib
import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_runs import StopAt
from torch import Tensor, nn

import glassgpt
from glassgpt import GPTConfig, GPTModel, InputError
from glassgpt.api.train import Run
from glassgpt.native.compiled import tier
from glassgpt.text.stories import write_stories
from glassgpt.training.interruption import Interrupted

SMALL: dict[str, Any] = {
    "tokenizer": "bytes",
    "model": {"architecture": "gpt2", "embedding_dim": 32, "n_heads": 2, "n_layers": 1, "context_length": 32},
    "optim": {"batch_size": 4, "warmup": 2},
    "run": {"threads": 1},
}

SQUARED_RELU = """
from torch import nn
from glassgpt.model import GPTModel

class SquaredReLU(nn.Module):
    def forward(self, x):
        return x.relu() ** 2

class Model(GPTModel):
    def __init__(self, config):
        super().__init__(config)
        for block in self.blocks:
            block.feed_forward.activation = SquaredReLU()
"""
MOMENTUM = """
import torch

def make_optimizer(model, optim):
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
"""
BIGRAM = """
from torch import nn

class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, 16)
        self.output_head = nn.Linear(16, config.vocab_size, bias=False)

    def hidden(self, ids):
        return self.embedding(ids)
"""
SAME = """
import torch
from glassgpt.model import GPTModel, initialise

def make_model(config):
    model = GPTModel(config)
    initialise(model, torch.Generator().manual_seed(torch.initial_seed() + 1))
    return model
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """Runs and prepared texts of a test stay in its folder; its one thread is not left to other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glassgpt.api.texts.DEFAULT_CACHE", tmp_path / "cache")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def trained(story_file: Path, source: str, out: str = "run", **more: Any) -> Run:
    Path("variant.py").write_text(source)
    run = SMALL["run"] | {"code": "variant.py", "eval_every": 8}
    return glassgpt.train(story_file, out=out, **{"steps": 16} | SMALL | {"run": run} | more)


def sums(run: str) -> dict[str, str]:
    files = Path(run, "latest").rglob("*.safetensors")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.thorough
def test_a_model_of_ones_own_is_saved_with_its_source_and_opened_only_where_trusted(story_file: Path) -> None:
    run = trained(story_file, SQUARED_RELU)
    Path("variant.py").unlink()  # the run has its own copy
    assert Path("run/code.py").read_text() == Path("run/best/code.py").read_text() == SQUARED_RELU
    assert run.bits_per_byte != glassgpt.train(story_file, steps=16, out="plain", **SMALL).bits_per_byte
    with pytest.raises(InputError, match=r"read .*code\.py, then give --trust-code"):
        glassgpt.load("run")
    gpt = glassgpt.load("run", trust_code=True)
    assert type(gpt.model).__name__ == "Model"
    from glassgpt.api.texts import prepared_of

    assert gpt.evaluate_ids(prepared_of(gpt.directory).val).bits_per_byte == run.bits_per_byte
    with pytest.raises(InputError, match=r"trained with code of its own.* --trust-code"):
        glassgpt.train(resume="run", steps=20)
    with pytest.raises(InputError, match=r"run\.code is other\.py, but run was begun with code\.py"):
        glassgpt.train(resume="run", steps=20, run={"code": "other.py"}, trust_code=True)
    from transformers import AutoModelForCausalLM

    with pytest.raises(ValueError, match="glassgpt-code"):  # not a wrong GPT-2
        AutoModelForCausalLM.from_pretrained("run/best")


@pytest.mark.thorough
def test_an_interrupted_run_of_code_resumes_bit_for_bit(story_file: Path) -> None:
    trained(story_file, SQUARED_RELU + MOMENTUM, out="whole")
    with pytest.raises(Interrupted):
        trained(story_file, SQUARED_RELU + MOMENTUM, out="parts", listener=StopAt(7))
    glassgpt.train(resume="parts", trust_code=True)
    assert sums("parts") == sums("whole")
    with pytest.raises(InputError, match=r"which repeating it would run: read whole/code.py, then give --trust-code"):
        glassgpt.train(config="whole/config.yaml", out="again")
    glassgpt.train(config="whole/config.yaml", out="again", trust_code=True)
    assert sums("again") == sums("whole"), "config.yaml finds the code beside it"


def test_a_model_without_a_cache_trains_and_writes(story_file: Path) -> None:
    run = trained(story_file, BIGRAM, steps=60, optim={"batch_size": 16, "learning_rate": 0.05, "warmup": 2})
    assert run.bits_per_byte < 6
    assert run.measured.parameters == 2 * 16 * 257
    assert len(glassgpt.load("run", trust_code=True).generate("A", max_new_tokens=40)) > 1


@pytest.mark.thorough
def test_the_built_in_model_from_other_weights_is_a_usual_checkpoint(story_file: Path) -> None:
    trained(story_file, SAME)
    assert json.loads(Path("run/best/config.json").read_text())["model_type"] == "gpt2"
    assert type(glassgpt.load("run").model) is GPTModel
    glassgpt.train(story_file, steps=16, out="plain", **SMALL)
    assert sums("run") != sums("plain")


def test_the_schedule_lowers_the_learning_rates_that_an_optimiser_was_made_with(story_file: Path) -> None:
    seen: list[list[float]] = []

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            seen.append([group["lr"] for group in self.param_groups])
            super().step(closure)

    def make_optimizer(model: nn.Module, optim: Any) -> torch.optim.Optimizer:
        first, *others = model.parameters()
        return Spy([{"params": [first], "lr": 0.4}, {"params": others, "lr": 0.1}])

    settings = SMALL | {"run": {"threads": 1, "log_every": 1}}
    run = glassgpt.train(story_file, steps=12, optimizer=make_optimizer, **settings)
    rates = [line.lr / 1e-3 for line in run.history]
    assert seen[-12:] == [[pytest.approx(0.4 * rate), pytest.approx(0.1 * rate)] for rate in rates]
    assert rates[-1] < 0.1


class Deep(GPTModel):
    """A model given as an object."""

    def hidden(self, ids: Tensor, cache: Any = None) -> Tensor:
        return super().hidden(ids, cache) * 1.5


@pytest.mark.thorough
def test_a_class_given_in_python_is_given_again_to_open_and_to_resume(story_file: Path) -> None:
    settings = {name: value for name, value in SMALL.items() if name != "model"}
    settings |= {"preset": "modern-tiny", "optim": {"batch_size": 2}}
    with pytest.raises(Interrupted):
        glassgpt.train(story_file, steps=6, out="run", model=Deep, listener=StopAt(3), **settings)
    with pytest.raises(InputError, match=r"was given in Python: give it again to glassgpt\.train"):
        glassgpt.train(resume="run")
    run = glassgpt.train(resume="run", model=Deep)
    with pytest.raises(InputError, match=r"was given in Python.* the same model="):
        glassgpt.load("run", trust_code=True)
    gpt = glassgpt.load("run", model=Deep)
    assert isinstance(gpt.model, Deep)
    assert run.bits_per_byte > 0


def kernel_of(run: str) -> str:
    return yaml.safe_load(Path(run, "config.yaml").read_text())["run"]["kernel"]


@pytest.mark.thorough
@pytest.mark.skipif(tier() is None, reason="the native step was not built")
def test_an_own_optimiser_keeps_the_native_step_and_an_own_model_has_pytorchs(story_file: Path) -> None:
    ours = {"optim": {"batch_size": 4, "average_share": 0.2}, "run": {"threads": 1, "code": "variant.py"}}
    run = trained(story_file, MOMENTUM, **ours)
    assert kernel_of("run") == "native"
    assert glassgpt.load("run").bits_per_byte("A story") != 0, "a usual checkpoint: opening it runs no code"
    assert run.history[-1].loss < run.history[0].loss
    own = trained(story_file, SQUARED_RELU, out="own", steps=2)
    assert kernel_of("own") == "torch"
    with pytest.raises(InputError, match=r"run\.kernel is native, but .* your own: give --run\.kernel torch"):
        glassgpt.train(story_file, steps=2, model=Deep, optim=SMALL["optim"], run={"kernel": "native"})
    with pytest.raises(InputError, match=r"run\.code is given in Python, but .* was begun with code\.py"):
        glassgpt.train(resume=own.directory, steps=4, model=Deep, trust_code=True)


@pytest.mark.thorough
def test_the_built_in_optimiser_with_other_settings_is_an_optimiser_too(story_file: Path) -> None:
    source = """
import dataclasses
from glassgpt.optim.groups import make_optimizer as built_in

def make_optimizer(model, optim):
    return built_in(model, dataclasses.replace(optim, weight_decay=0.3))
"""
    trained(story_file, source)
    glassgpt.train(story_file, steps=16, out="plain", **SMALL | {"optim": SMALL["optim"] | {"weight_decay": 0.3}})
    assert sums("run")["model.safetensors"] == sums("plain")["model.safetensors"]


def test_the_variant_of_the_readme_trains(story_file: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    source = readme.split("```python\n# variant.py\n")[1].split("```")[0]
    run = trained(story_file, source, model={**SMALL["model"], "architecture": "modern"})
    assert type(glassgpt.load(run.directory, trust_code=True).model.blocks[0].feed_forward).__name__ == "SquaredReLU"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n", "defines none of Model, make_model, make_optimizer"),
        ("def make_model(config)\n", r"variant\.py, line 1: SyntaxError"),
        ("import nothing_of_this_name\n", r"variant\.py, line 1: ModuleNotFoundError"),
        ("Model = 3\n", r"Model is 3, but must be a class or a function"),
        (SQUARED_RELU + "make_model = Model\n", "both Model and make_model"),
        ("def make_model(config):\n    pass\n", r"the model is None, but must be a torch\.nn\.Module"),
        ("def make_model(config):\n    return config.n_embd\n", r"variant\.py, line 2: AttributeError: .*n_embd"),
        (BIGRAM.replace("bias=False", "bias=True"), r"output_head is Linear.* must be torch\.nn\.Linear\(C, 257, bias"),
        (BIGRAM.replace("hidden", "forward"), r"no method hidden\(ids\)"),
        (BIGRAM.replace("embedding(ids)", "output_head(self.embedding(ids))"), r"gives \(1, 16, 257\).*\(1, 16, 16\)"),
        (BIGRAM.replace("self.embedding(ids)", "self.embedding(ids.roll(-1, 1))"), "sees the future"),
        (BIGRAM.replace("return self.embedding(ids)", "pass"), r"gives None.*must give \(1, 16, 16\)"),
        ("def make_model():\n    pass", r"called with \(GPTConfig\), but too many positional arguments"),
        ("import sys\nsys.exit(3)", "line 2: SystemExit: 3"),
        ("import torch\ndef make_optimizer(model, optim):\n    return torch.optim.LBFGS(model.parameters())",
         "LBFGS needs a closure"),
        (BIGRAM.replace("return self.embedding", "return 1 / 0, self.embedding"), r"line 11: ZeroDivisionError"),
        ("def make_optimizer(model, optim):\n    return 3\n", r"the optimiser is 3, but must be a torch\.optim"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_with_its_place(story_file: Path, source: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as refused:
        trained(story_file, source)
    assert "\n" not in str(refused.value)
    assert not Path("run").exists(), "nothing was made for a run that cannot begin"


def test_an_error_in_the_middle_of_a_run_names_the_line(story_file: Path) -> None:
    check = "        assert ids.shape[1] < 32, 'too long'\n"
    source = BIGRAM.replace("        return self.emb", check + "        return self.emb")
    with pytest.raises(InputError, match=r"^variant\.py, line 11: AssertionError: too long; mend the file$"):
        trained(story_file, source)


def test_a_subclass_is_not_taken_for_the_model_that_it_extends() -> None:
    from glassgpt.checkpoint.empty import is_builtin

    config = GPTConfig(vocab_size=11, context_length=4, embedding_dim=8, n_heads=2, n_layers=2, tie_embeddings=True)
    model = GPTModel(config)
    assert is_builtin(model)
    model.blocks[1].feed_forward.activation = nn.ReLU()
    assert not is_builtin(model), "same names and shapes, another function"
    untied = GPTModel(config)
    untied.output_head.weight = nn.Parameter(untied.output_head.weight.detach().clone())
    assert not is_builtin(untied)
    assert not is_builtin(Deep(config))


@pytest.mark.thorough
def test_documents_of_ones_own_are_trained_on_and_found_again_on_resume(tmp_path: Path) -> None:
    stories = [*write_stories(120, seed=5)]
    size = {"embedding_dim": 32, "n_heads": 2, "n_layers": 1, "context_length": 32}
    settings: dict[str, Any] = {"tokenizer": "bytes", "model": size, "run": {"threads": 1}, "optim": {"batch_size": 4}}
    of_list = glassgpt.train(documents=stories, steps=4, out="list", **settings)
    Path("book.jsonl").write_text("".join(json.dumps({"text": story}) + "\n" for story in stories))
    of_file = glassgpt.train("book.jsonl", steps=4, out="file", **settings)
    assert of_list.bits_per_byte == of_file.bits_per_byte
    Path("variant.py").write_text("from glassgpt.text.stories import write_stories\n"
                                  "def documents():\n    yield from write_stories(120, seed=5)\n")  # fmt: skip
    of_code = glassgpt.train(steps=2, out="code", **(settings | {"run": {"threads": 1, "code": "variant.py"}}))
    assert yaml.safe_load((of_code.directory / "config.yaml").read_text())["text"] == ["documents()"]
    shutil.rmtree(tmp_path / "cache")
    resumed = glassgpt.train(resume="code", steps=4, trust_code=True)
    assert resumed.measured.steps == 4
    assert [*glassgpt.load("code").directory.glob("*.safetensors")]


def test_documents_that_cannot_be_used_are_one_line(story_file: Path) -> None:
    one = ("one text", "gave 'one text', but must give texts one by one")
    of_numbers = (["a", 3], "gave 3, but each document must be text")
    for wrong, says in (([], "gave no text"), one, of_numbers, (["a"] * 9, "few")):
        with pytest.raises(InputError, match=says):
            glassgpt.train(documents=wrong, steps=1)
    with pytest.raises(InputError, match="keep one of the two"):
        glassgpt.train(str(story_file), documents=["a"], steps=1)
    Path("variant.py").write_text("def documents():\n    yield 'a'\n    1 / 0\n")
    with pytest.raises(InputError, match=r"variant.py, line 3: ZeroDivisionError"):
        glassgpt.train(steps=1, run={"code": "variant.py"})
