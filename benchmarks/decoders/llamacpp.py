"""llama.cpp by its own C functions (PyPI: llama-cpp-python), several texts as sequences of one batch."""

import ctypes
import os
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp
from numpy.typing import NDArray


class LlamaCpp:
    """Flash attention is off: on the CPU it is slower. The cache is in its default float16.

    Caches in bfloat16 and float32 measured within 5 % of it or below; quantised values need flash attention.
    """

    def __init__(self, path: Path, threads: int) -> None:
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not model:
            raise SystemExit(f"llama.cpp does not open {path}")
        self._model, self._threads = model, threads
        self._contexts: dict[int, ctypes.c_void_p] = {}
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._context_length = llama_cpp.llama_model_n_ctx_train(model)
        self._batch = llama_cpp.llama_batch_init(self._context_length, 0, 1)
        self.bytes_per_token = os.path.getsize(path)

    def write(self, prompts: list[list[int]], n_new: int) -> list[list[int]]:
        context = self._context(len(prompts))
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        written: list[list[int]] = [[] for _ in prompts]
        spans = prompts
        for step in range(n_new):
            logits = self._forward(context, spans, [len(prompt) + step - 1 if step else 0 for prompt in prompts])
            spans = [[int(scores.argmax())] for scores in logits]
            for ids, span in zip(written, spans):
                ids += span
        return written

    def _context(self, n_sequences: int) -> ctypes.c_void_p:
        if n_sequences not in self._contexts:
            options = llama_cpp.llama_context_default_params()
            options.n_seq_max = n_sequences
            options.n_ctx = self._context_length if n_sequences == 1 else 256 * n_sequences
            options.n_batch = options.n_ubatch = self._context_length
            options.n_threads = options.n_threads_batch = self._threads
            options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
            self._contexts[n_sequences] = llama_cpp.llama_init_from_model(self._model, options)
        return self._contexts[n_sequences]

    def _forward(
        self, context: ctypes.c_void_p, spans: list[list[int]], starts: list[int]
    ) -> list[NDArray[np.float32]]:
        """Scores (V,) of what follows each span, whose ids stand from its `start` in the sequence of its number."""
        batch, row, last_rows = self._batch, 0, []
        for sequence, (span, start) in enumerate(zip(spans, starts)):
            for offset, token in enumerate(span):
                batch.token[row], batch.pos[row] = token, start + offset
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
                batch.logits[row] = offset == len(span) - 1
                row += 1
            last_rows.append(row - 1)
        batch.n_tokens = row
        if llama_cpp.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        scores = (llama_cpp.llama_get_logits_ith(context, last) for last in last_rows)
        return [np.ctypeslib.as_array(pointer, (self._vocab_size,)) for pointer in scores]
