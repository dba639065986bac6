"""What run.max_memory leads to, from the settings to the weights."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import glassgpt
from glassgpt import InputError
from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.planning.memory import INTERPRETER, training_memory
from glassgpt.training.metrics import resident_bytes

MODEL: dict[str, Any] = {"embedding_dim": 64, "n_heads": 2, "n_layers": 9, "context_length": 64, "architecture": "gpt2"}
OPTIM: dict[str, Any] = {"name": "adamw", "batch_size": 64, "warmup": 2}


def stored(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())


@pytest.mark.thorough
def test_a_limit_is_kept_by_recomputing_and_parts_which_are_recorded_and_resumed(
    story_file: Path, tmp_path: Path
) -> None:
    config = GPTConfig.from_dict(MODEL | {"vocab_size": 256})
    there = max(INTERPRETER, resident_bytes()) + 2**27  # this process grows a little until it is asked
    optim, kept = OptimConfig(**OPTIM), RunConfig(kernel="torch", dtype="fp32")
    whole = training_memory(config, optim, kept, there)["total"]
    more = training_memory(config, OptimConfig(**OPTIM | {"accumulation": 8}), kept, there)["total"]
    assert more < whole - 2**27, "or the test has no room"
    common: dict[str, Any] = {"tokenizer": "bytes", "model": MODEL, "optim": OPTIM, "data": {"cache": str(tmp_path)}}
    run = {"kernel": "torch", "dtype": "fp32", "eval_tokens": 100}
    limited = glassgpt.train(
        story_file, steps=1, out=tmp_path / "limited", run=run | {"max_memory": f"{more}"}, **common
    )
    found = stored(limited.directory)
    assert found["run"]["recompute"] or found["optim"]["accumulation"] > 1
    assert limited.predicted.memory_bytes > 0
    glassgpt.train(resume=limited.directory, steps=2)
    again = stored(limited.directory)
    assert again["optim"] == found["optim"]
    assert again["run"]["recompute"] == found["run"]["recompute"]

    free = glassgpt.train(story_file, steps=1, out=tmp_path / "free", run=run, **common)
    assert stored(free.directory)["run"]["recompute"] is False
    assert stored(free.directory)["optim"]["accumulation"] == 1


def test_a_limit_that_nothing_satisfies_is_answered_with_the_least(story_file: Path, tmp_path: Path) -> None:
    there = max(INTERPRETER, resident_bytes()) / 1e9  # most of the least is the process itself, in a long one over 1 GB
    rule = r"run\.max_memory is 50MB, but .* takes (\d+\.\d\d) GB at the least: give that, or take a smaller model"
    with pytest.raises(InputError, match=rule) as refused:
        glassgpt.train(
            story_file, steps=1, out=tmp_path / "run", tokenizer="bytes", model=MODEL, run={"max_memory": "50MB"},
            data={"cache": str(tmp_path)},
        )  # fmt: skip
    told = re.search(rule, str(refused.value))
    assert told is not None
    assert there - 0.1 < float(told[1]) < there + 0.5
    assert not (tmp_path / "run").exists()
