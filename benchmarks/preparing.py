"""A large text to ids: the speed beside tiktoken with two threads, and the memory that it takes.

    python benchmarks/preparing.py --text large.txt --megabytes 200 --rounds 3     # GPT-2's ids, A-B-B-A ...
    python benchmarks/preparing.py --text large.txt --memory bpe:8192              # all of it, its vocabulary learned

Ours is all of `glassgpt data prepare`: reading, checking, counting, splitting, tokenising, writing and checking the
shards. tiktoken's `encode_ordinary_batch(texts, num_threads=2)` gets the text from memory, in pieces of 256 k
characters. Each contender has a process of its own; its memory is its peak less what it had after the imports.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, type=Path)
    parser.add_argument("--megabytes", type=int, default=0, help="of its beginning; 0: all of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-ram", default="1GB")
    parser.add_argument("--memory", metavar="TOKENIZER", help="prepare with this one, and measure memory alone")
    parser.add_argument("--contender", choices=("glassgpt", "tiktoken"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(json.dumps({"glassgpt": ours, "tiktoken": theirs}[arguments.contender](arguments)))
    elif arguments.memory:
        measure_memory(arguments)
    else:
        measure_speed(arguments)


def measure_memory(arguments: argparse.Namespace) -> None:
    found = run("glassgpt", arguments.text, arguments)
    size, memory = found["bytes"] / 1e6, found["beyond"] / 1e6
    print(f"{size:,.0f} MB of text in {found['seconds']:.0f} s, {memory:,.0f} MB of memory")
    history.append("preparing_memory", found | {"tokenizer": arguments.memory, "max_ram": arguments.max_ram})


def measure_speed(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = arguments.text
        if arguments.megabytes:
            text = Path(folder) / "beginning.txt"
            with arguments.text.open("rb") as file:
                text.write_bytes(file.read(arguments.megabytes * 10**6).decode(errors="ignore").encode())
        speeds: dict[str, list[float]] = {"glassgpt": [], "tiktoken": []}
        for number in range(arguments.rounds):
            pair = ("glassgpt", "tiktoken", "tiktoken", "glassgpt")
            for name in pair if number % 2 == 0 else pair[::-1]:
                found = run(name, text, arguments)
                speeds[name].append(found["bytes"] / 1e6 / found["seconds"])
                print(f"{name:10}{speeds[name][-1]:8.2f} MB/s")
    figures = {
        name: {key: round(of(values), 2) for key, of in (("median", statistics.median), ("min", min), ("max", max))}
        for name, values in speeds.items()
    }
    ratio = statistics.median(speeds["glassgpt"]) / statistics.median(speeds["tiktoken"])
    print(f"ratio {ratio:.3f}")
    figures["ratio"] = {"of medians": round(ratio, 3)}
    history.append("preparing_speed", figures | {"megabytes": arguments.megabytes, "threads": arguments.threads})


def run(name: str, text: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """What a contender says of itself."""
    command = [sys.executable, __file__, "--text", str(text), "--contender", name]
    command += ["--threads", str(arguments.threads), "--max-ram", arguments.max_ram]
    command += ["--memory", arguments.memory or "gpt2"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def ours(arguments: argparse.Namespace) -> dict[str, float]:
    from glassgpt.api.texts import prepare_texts, read_texts
    from glassgpt.config import DataConfig

    with tempfile.TemporaryDirectory(dir=arguments.text.parent) as cache:
        data = DataConfig(tokenizer=arguments.memory, cache=cache, max_ram=arguments.max_ram)
        before, began = peak(), time.perf_counter()
        corpus = read_texts([str(arguments.text)], data).corpus
        prepare_texts(corpus, data)
        seconds = time.perf_counter() - began
    return {"bytes": corpus.n_bytes, "seconds": round(seconds, 2), "beyond": peak() - before}


def theirs(arguments: argparse.Namespace) -> dict[str, float]:
    import tiktoken

    from glassgpt.text.cutting import cut
    from glassgpt.text.gpt2 import gpt2_encoding

    encoding = tiktoken.Encoding(**gpt2_encoding())
    text = arguments.text.read_text(encoding="utf-8")
    pieces = [*cut(text)]
    before, began = peak(), time.perf_counter()
    for first in range(0, len(pieces), 64):  # all at once would be lists of a billion numbers
        encoding.encode_ordinary_batch(pieces[first : first + 64], num_threads=arguments.threads)
    seconds = time.perf_counter() - began
    return {"bytes": len(text.encode()), "seconds": round(seconds, 2), "beyond": peak() - before}


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
