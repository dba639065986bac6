"""What models wrote at the scores they had, as the header of a run shows it: glassgpt/planning/writing_samples.json.

Reads samples.txt of runs and keeps, for each score asked for, the sample that came nearest. The scores are those of
the evaluations on the way, on part of the validation text. The recorded ones came of

    glassgpt train tinyshakespeare.txt --steps 800 --tokenizer bpe:512 --run.eval-every 20 --out runs/shakespeare
    python benchmarks/writing_samples.py runs/shakespeare --scores 4.2 3.2 2.75 2.5 2.3 2.1

stopped after 480 of its steps.
"""

import argparse
import json
import re
from pathlib import Path

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
    parser.add_argument("--scores", nargs="+", type=float, required=True)
    arguments = parser.parse_args()
    there = [sample for run in arguments.runs for sample in samples_of(run)]
    chosen = {min(there, key=lambda sample: abs(sample[0] - score)) for score in arguments.scores}
    entries = []
    for score, text in sorted(chosen):
        whole = [line for line in text.splitlines() if line.strip()][:LINES]
        entries.append({"bits_per_byte": score, "text": "\n".join(whole)[:CHARACTERS]})
    HOME.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(entries)} samples in {HOME}")


if __name__ == "__main__":
    main()
