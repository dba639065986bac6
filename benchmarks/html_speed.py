"""The model as one file: how large a page of 5M parameters is, and how fast it writes in a headless Chromium.

    python benchmarks/html_speed.py --text book.txt
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import history
import torch
from playwright.sync_api import sync_playwright

import glassgpt
from glassgpt.checkpoint.directory import save_checkpoint
from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel
from glassgpt.text.kinds import train_tokenizer

SHAPES = {
    "modern": {"architecture": "modern", "n_layers": 5, "n_heads": 4, "tie_embeddings": True},
    "gpt2": {"architecture": "gpt2", "n_layers": 5, "n_heads": 8, "tie_embeddings": True},
}
TOKENS = 100
FORWARD = """n => {
  const cache = opened.model.makeCache(), began = performance.now();
  for (let at = 0; at < n; at++) opened.model.forward(at, cache);
  return 1000 * n / (performance.now() - began);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tokenizer = train_tokenizer("bpe:4096", [arguments.text.read_text(encoding="utf-8")])
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, shape in SHAPES.items():
            torch.manual_seed(0)
            values = {"vocab_size": tokenizer.vocab_size, "context_length": 512, "embedding_dim": 256, **shape}
            save_checkpoint(Path(folder) / name, GPTModel(GPTConfig.from_dict(values)), tokenizer)
            path = Path(folder) / f"{name}.html"
            done = glassgpt.export(Path(folder) / name, path, format="html")
            window = chromium.new_page()
            window.goto(path.as_uri())
            shown, forward = [], []
            for _ in range(arguments.rounds):
                window.evaluate(f"document.getElementById('length').value = {TOKENS}")
                window.click("#write")
                window.locator("#stop:disabled").wait_for(timeout=120_000)
                shown.append(float(window.text_content("#status").split(", ")[1].split()[0]))
                forward.append(window.evaluate(FORWARD, TOKENS))
            figures[name] = {
                "parameters": done.parameters,
                "file_bytes": done.bytes_after,
                "tokens_per_s": {"median": statistics.median(shown), "min": min(shown), "max": max(shown)},
                "forward_per_s": {"median": round(statistics.median(forward)), "max": round(max(forward))},
            }
            print(name, figures[name])
        chromium.close()
    history.append("html_speed", figures)


if __name__ == "__main__":
    main()
