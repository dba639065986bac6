"""One contender, who writes what it is told to: `python -m decoders NAME PATH THREADS`.

Each line on stdin is a request, what `write` takes and {"times"}; the answer is {"seconds", "ids", "peak_bytes",
"bytes_per_token"}: seconds of each time, and the ids of the last. `reading` is asked {"n_bytes"} instead.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FORMS = {
    "glassgpt-fp32": "hf", "glassgpt-bf16": "hf", "glassgpt-int8": "int8", "glassgpt-int4": "int4",
    "glassgpt-int8-drafts": "int8", "glassgpt-torch": "hf",
    "transformers": "hf", "torch-int8": "hf", "litgpt": "hf", "ctranslate2-int8": "ct2-int8",
    "llamacpp-f16": "f16.gguf", "llamacpp-q8_0": "q8_0.gguf", "llamacpp-q4_0": "q4_0.gguf",
}  # fmt: skip
"""Contender -> the form of the model that it opens."""
PACKAGES = {
    "glassgpt": "torch", "transformers": "transformers", "torch": "transformers", "litgpt": "litgpt",
    "ctranslate2": "ctranslate2", "llamacpp": "llama_cpp",
}  # fmt: skip
"""First word of a contender's name -> the package that it needs."""


def make(name: str, path: Path, threads: int) -> Any:
    """The decoder of a contender; only its own packages are imported."""
    kind, _, variant = name.partition("-")
    if kind == "llamacpp":
        from decoders.llamacpp import LlamaCpp

        return LlamaCpp(path, threads)
    if kind == "ctranslate2":
        from decoders.ctranslate import CTranslate2

        return CTranslate2(path, threads)
    if kind == "glassgpt":
        from decoders import ours

        form, _, extra = variant.partition("-")
        return ours.OnTorch(path, threads) if form == "torch" else ours.Native(path, threads, form, bool(extra))
    from decoders import on_torch

    peers = {"transformers": on_torch.Transformers, "torch": on_torch.TorchInt8, "litgpt": on_torch.LitGPT}
    return peers[kind](path, threads)


def peak_bytes() -> int:
    """The most memory this process has had; 0 where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    name, path, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    if name == "reading":
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the threads are ours
        from decoders.reading import Reading

        reading = Reading(threads)
        for line in sys.stdin:
            print(reading.bytes_per_second(**json.loads(line)), file=answers, flush=True)
        return
    decoder = make(name, path, threads)
    for line in sys.stdin:
        request, seconds, ids = json.loads(line), [], []
        for _ in range(request.pop("times")):
            began = time.perf_counter()
            ids = decoder.write(**request)
            seconds.append(time.perf_counter() - began)
        answer = {"seconds": seconds, "ids": ids, "peak_bytes": peak_bytes()}
        print(json.dumps(answer | {"bytes_per_token": decoder.bytes_per_token}), file=answers, flush=True)


if __name__ == "__main__":
    main()
