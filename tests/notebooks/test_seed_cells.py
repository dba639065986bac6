"""The seed's three code cells, unchanged, in the notebooks folder, without a network."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SEED_CELLS = json.loads((Path(__file__).parents[1] / "golden" / "seed_cells.json").read_text(encoding="utf-8"))
NUMBER = re.compile(r"-?\d+\.?\d*")


def run_python(source: str, folder: Path, environment: dict[str, str]) -> str:
    command = [sys.executable, "-"]
    done = subprocess.run(
        command,
        input=source,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_they_print_what_the_seed_shows(folder: Path, without_network: dict[str, str]) -> None:
    source = "\n".join(line for cell in SEED_CELLS for line in cell["source"])
    printed = run_python(source, folder, without_network)
    expected = "".join(f"{line}\n" for cell in SEED_CELLS for line in cell["printed"])
    assert NUMBER.sub("#", printed).replace(" ", "") == NUMBER.sub("#", expected).replace(" ", "")
    for ours, theirs in zip(NUMBER.findall(printed), NUMBER.findall(expected)):
        assert float(ours) == pytest.approx(float(theirs), abs=1.01e-4)  # 1 in the last digit is rounding
        assert ("." in ours) == ("." in theirs)


@pytest.mark.thorough
def test_the_vocabulary_enters_tiktokens_registry_and_leaves_the_rest(
    folder: Path, without_network: dict[str, str]
) -> None:
    source = """
import sys, tiktoken
names = tiktoken.list_encoding_names()
import utilities.GPTModels
assert tiktoken.list_encoding_names() == names and "cl100k_base" in names
assert tiktoken.get_encoding("gpt2") is tiktoken.get_encoding("gpt2")
assert tiktoken.get_encoding("gpt2").n_vocab == 50257
assert tiktoken.encoding_for_model("gpt2").encode("<|endoftext|>", allowed_special="all") == [50256]
try:
    tiktoken.get_encoding("cl100k_base")
except Exception as error:
    print("the network is off in this test" in str(error), "requests" in sys.modules)
"""
    assert run_python(source, folder, without_network).split()[0] == "True"


@pytest.mark.thorough
def test_a_gpt2_that_was_there_before_stays(folder: Path, without_network: dict[str, str]) -> None:
    source = """
import tiktoken.registry
mine = tiktoken.registry.ENCODINGS["gpt2"] = object()
import utilities.GPTModels
assert tiktoken.get_encoding("gpt2") is mine
"""
    run_python(source, folder, without_network)


@pytest.mark.thorough
def test_the_chapters_model_has_the_portable_dropout_unless_told_otherwise(
    folder: Path, without_network: dict[str, str]
) -> None:
    source = """
from utilities.GPTModels import GPTModel
from glassgpt import GPTConfig, GPTModel as Packaged
small = {"vocab_size": 7, "context_length": 5, "embedding_dim": 8, "h_heads": 2, "n_layers": 1}
assert GPTModel(small).config.dropout == "portable"
assert GPTModel(small | {"dropout": "torch"}).config.dropout == "torch"
assert GPTModel(GPTConfig.from_dict(small)).config.dropout == "torch"
assert isinstance(GPTModel(small), Packaged)
"""
    run_python(source, folder, without_network)
