"""A text larger than the memory it may take."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="this system does not tell the peak of a process's memory")

PREPARE = """
import json, resource, sys
from pathlib import Path
import tiktoken, tokenizers
from glassgpt.api.texts import prepare_texts, read_texts
from glassgpt.config import DataConfig

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

text, cache, tokenizer, max_ram = sys.argv[1:]
before = peak()
data = DataConfig(tokenizer=tokenizer, cache=cache, max_ram=max_ram)
prepared = prepare_texts(read_texts([text], data).corpus, data)
print(json.dumps({"beyond": peak() - before, "bytes": prepared.facts.bytes, "spec": prepared.facts.tokenizer}))
"""


def prepare(text: Path, tokenizer: str, max_ram: str) -> dict[str, int]:
    """What preparing a text took, in a process of its own."""
    command = [sys.executable, "-c", PREPARE, str(text), str(text.parent / "cache"), tokenizer, max_ram]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.thorough
def test_a_text_is_prepared_in_less_memory_than_it_has_bytes(tmp_path: Path) -> None:
    words = [f"{number:x}" for number in random.Random(1).choices(range(10_000), k=500_000)]
    text = tmp_path / "large.txt"
    with text.open("w", encoding="utf-8") as file:
        for _ in range(35):
            file.write(" ".join(words))
    found = prepare(text, "bpe:300", "64MB")
    assert found["bytes"] == text.stat().st_size > 70e6
    assert found["beyond"] < 64e6, "no more than it was given"


@pytest.mark.thorough
def test_a_line_without_end_is_prepared_in_bounded_memory(tmp_path: Path) -> None:
    text = tmp_path / "line.txt"
    with text.open("w", encoding="utf-8") as file:
        for number in range(20):
            file.write(f"{number:0100}" * 10_000)
    found = prepare(text, "gpt2", "64MB")
    assert found["bytes"] == 20_000_000
    assert found["beyond"] < 64e6, "cut where no place is safe, since memory is worth more"
