"""What models wrote at the scores they had, as the header of a run shows it: glassgpt/planning/writing_samples.json.

Reads samples.txt of runs and keeps of each some samples, from its worst score to its best in about equal steps; the
scores are those of the evaluations on the way, on part of the validation text. For each text:

    glassgpt train TEXT --steps 2000 --tokenizer bpe:512 --optim.batch-size 4 --run.eval-every 50 --out runs/NAME \\
        --model.n-layers 4 --model.embedding-dim 192 --model.n-heads 3 --model.context-length 256 \\
        --optim.learning-rate 0.01 --optim.muon-learning-rate 0.015
    python benchmarks/writing_samples.py runs/NAME... --sources "Name of the text" ...

with bpe:2048 for Python's standard library, all its modules in one file.
"""

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path

from glassgpt import settings
from glassgpt.planning.choose import text_facts
from glassgpt.planning.expectation import WritingSample
from glassgpt.text.corpus import Corpus

HOME = Path(__file__).parents[1] / "glassgpt" / "planning" / "writing_samples.json"
LINES, CHARACTERS = 5, 300


def samples_of(run: Path) -> list[tuple[float, str]]:
    """Every (bits per byte, text) that a run wrote down."""
    written = (run / "samples.txt").read_text(encoding="utf-8")
    found = re.split(r"^--- step \d+, ([\d.]+) bits per byte ---\n", written, flags=re.MULTILINE)[1:]
    return [(float(score), text.strip()) for score, text in zip(found[::2], found[1::2], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--sources", nargs="+", required=True, help="what to call the text of each run")
    parser.add_argument("--samples", type=int, default=6, help="of each run")
    arguments = parser.parse_args()
    entries = []
    for run, source in zip(arguments.runs, arguments.sources, strict=True):
        there = samples_of(run)
        (text,) = settings.read_yaml(run / "config.yaml")["text"]
        facts = text_facts(Corpus.of([Path(text).read_text(encoding="utf-8")]))
        worst, best = max(there)[0], min(there)[0]
        wanted = [best * (worst / best) ** (n / (arguments.samples - 1)) for n in range(arguments.samples)]
        for score, written in sorted({min(there, key=lambda sample: abs(sample[0] - score)) for score in wanted}):
            whole = "\n".join([line for line in written.splitlines() if line.strip()][:LINES])[:CHARACTERS]
            sample = WritingSample(source, round(facts.difficulty.ngram, 3), round(facts.repetition, 3), score, whole)
            entries.append(asdict(sample))
    HOME.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(entries)} samples in {HOME}")


if __name__ == "__main__":
    main()
