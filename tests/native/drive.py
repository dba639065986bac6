"""Drives everything of the decoder with numpy alone: run by itself, in a process whose native code watches itself."""

import sys

import numpy as np

from glassgpt.config import GPTConfig
from glassgpt.native.compiled import tier
from glassgpt.native.decoder import Decoder, expected_shapes
from glassgpt.native.packing import FORMATS, pack
from glassgpt.native.sampler import Choice, choose
from glassgpt.native.spans import Span

CONFIGS = (
    {"vocab_size": 65, "context_length": 20, "embedding_dim": 36, "n_heads": 3, "n_layers": 1},
    {"vocab_size": 17, "context_length": 33, "embedding_dim": 64, "n_heads": 2, "n_layers": 2, "tie_embeddings": True},
    {
        "architecture": "modern", "vocab_size": 50, "context_length": 40, "embedding_dim": 50, "n_heads": 6,
        "n_kv_heads": 2, "head_dim": 18, "n_layers": 2, "feed_forward_dim": 70,
    },
)  # fmt: skip


def decoder_of(config, form, threads, rng, **options):
    matrices, vectors = {}, {}
    for name, shape in expected_shapes(config):
        values = rng.normal(size=shape).astype(np.float32)
        if len(shape) == 2 and name != "position_embedding.weight":
            source = np.asfortranarray(values.astype(np.float16)) if rng.random() < 0.5 else values
            matrices[name] = pack(source, form, threads)
        else:
            vectors[name] = values
    return Decoder(config, matrices, vectors, threads=threads, **options)


def drive(decoder, rng):
    """Random pieces of texts, copies, single tokens, and calls that must be refused."""
    config, lengths = decoder.config, [0] * decoder.n_slots
    for _ in range(25):
        spans = []
        for slot in rng.permutation(decoder.n_slots)[: rng.integers(1, decoder.n_slots + 1)]:
            start = int(rng.integers(0, min(lengths[slot], config.context_length - 1) + 1))
            n = int(rng.integers(1, config.context_length - start + 1))
            ids = rng.integers(config.vocab_size, size=n).tolist()
            spans.append(Span(int(slot), start, ids, int(rng.integers(0, n + 1))))
            lengths[slot] = start + n
        scores = decoder.forward(spans)
        assert np.isfinite(scores).all()
        for row in scores[:3]:
            choice = Choice(0.8, 0.9, 0.02, 1.1, int(rng.integers(0, 60)), 1, 2)
            assert 0 <= choose(np.ascontiguousarray(row), choice, spans[0].ids) < config.vocab_size
        source, target = (int(slot) for slot in rng.integers(decoder.n_slots, size=2))
        decoder.copy(source, target, lengths[source])
        lengths[target] = lengths[source]
        if lengths[0] < config.context_length:
            decoder.next(0, lengths[0], 3)
            lengths[0] += 1
        for wrong in (Span(-1, 0, [1]), Span(0, 0, [config.vocab_size]), Span(0, 0, [-1]), Span(0, -1, [1])):
            try:
                decoder.forward([wrong])
            except ValueError:
                continue
            raise AssertionError(f"{wrong} was computed")
    decoder.read_seconds(1)


def cut_short(rng):
    """What must not go unnoticed: a matrix that ends before the decoder thinks it does."""
    config = GPTConfig.from_dict(CONFIGS[0])
    decoder = decoder_of(config, "fp32", 1, rng)
    matrices, vectors = decoder._matrices, decoder._vectors
    head = matrices["output_head.weight"]
    object.__setattr__(head, "values", head.values[:-1].copy())
    Decoder(config, matrices, vectors, threads=1).forward([Span(0, 0, [1])])


def main() -> None:
    """Every shape and format, with one to three threads."""
    rng = np.random.default_rng(0)
    if "too short" in sys.argv:
        cut_short(rng)
    for values in CONFIGS:
        for number, form in enumerate(FORMATS):
            cache = "bf16" if number % 2 else "fp32"
            config = GPTConfig.from_dict(values)
            drive(decoder_of(config, form, 1 + number % 3, rng, n_slots=3, cache=cache), rng)
    print(f"driven: {tier()}")


if __name__ == "__main__":
    main()
