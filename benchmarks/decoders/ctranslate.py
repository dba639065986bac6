"""CTranslate2, int8."""

import json
import os
from pathlib import Path

import ctranslate2


class CTranslate2:
    def __init__(self, path: Path, threads: int) -> None:
        self._generator = ctranslate2.Generator(
            str(path), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
        )
        self._tokens: list[str] = json.loads((path / "vocabulary.json").read_text(encoding="utf-8"))
        self.bytes_per_token = os.path.getsize(path / "model.bin")

    def write(self, prompts: list[list[int]], n_new: int) -> list[list[int]]:
        results = self._generator.generate_batch(
            [[self._tokens[token] for token in prompt] for prompt in prompts],
            max_batch_size=len(prompts),
            min_length=n_new,
            max_length=n_new,
            beam_size=1,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return [list(result.sequences_ids[0]) for result in results]
