"""The native decoder: equal to the model, and bit for bit independent of what else it computes."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from decoders import SHAPES, decoder_of, model_of, parts_of, tiers_of_this_processor, tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.native.decoder import Decoder
from glassgpt.native.packing import FORMATS, unpack
from glassgpt.native.spans import Span
from glassgpt.native.trainer import BLOCK_TENSORS, MODEL_TENSORS


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]))[0].numpy()


def with_weights_of(model, form):
    """The model with the weights that a format leaves of its own, computed in fp32."""
    matrices, _ = parts_of(model, form)
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for name, matrix in matrices.items():
            rounded.get_parameter(name).copy_(torch.from_numpy(unpack(matrix)))
    return rounded


@pytest.mark.parametrize("shape", SHAPES)
def test_its_scores_are_the_models(shape, tier):
    model = model_of(shape)
    ids = tokens(model, model.config.context_length)
    expected = logits_of(model, ids)
    scores = decoder_of(model).forward([Span(0, 0, ids, len(ids))])
    assert np.abs(scores - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("form", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_its_scores_are_those_of_the_rounded_weights(shape, form, tier):
    """bf16 rounds weights alone; the whole-number formats also round what goes into a product, by less than 1/127."""
    model = model_of(shape)
    ids = tokens(model, 30)
    expected = logits_of(with_weights_of(model, form), ids)
    scores = decoder_of(model, form).forward([Span(0, 0, ids, 30)])
    bound = 1e-5 if form == "bf16" else 0.03
    assert np.abs(scores - expected).max() <= bound * max(1, np.abs(expected).max())
    assert not np.array_equal(scores, logits_of(model, ids))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_text_is_the_same_bit_for_bit_however_it_is_cut_and_whatever_runs_beside_it(shape, form, data):
    model = model_of(shape)
    length = model.config.context_length
    threads = data.draw(st.integers(1, 3), "threads")
    decoder = decoder_of(model, form, threads, n_slots=4, cache=data.draw(st.sampled_from(["fp32", "bf16"]), "cache"))
    texts = [tokens(model, data.draw(st.integers(1, length)), seed) for seed in range(3)]
    alone = []
    for ids in texts:
        alone.append(decoder.forward([Span(3, 0, ids, len(ids))]))
    done = [0, 0, 0]
    while any(n < len(ids) for n, ids in zip(done, texts)):
        waiting = [i for i in range(3) if done[i] < len(texts[i])]
        chosen = data.draw(st.lists(st.sampled_from(waiting), min_size=1, unique=True))
        spans = []
        for i in chosen:
            again = data.draw(st.integers(0, done[i]))  # roll back by some
            end = data.draw(st.integers(max(done[i], again + 1), len(texts[i])))
            spans.append(Span(i, again, texts[i][again:end], end - again))
        scores = decoder.forward(spans)
        for i, span in zip(chosen, spans):
            end = span.start + len(span.ids)
            np.testing.assert_array_equal(scores[: len(span.ids)], alone[i][span.start : end])
            scores = scores[len(span.ids) :]
            done[i] = end


def test_tiers_agree():
    """The whole numbers are exact, so tiers differ by the order of a few sums in fp32."""
    model = model_of("modern, tied")
    ids = tokens(model, 40)
    for form in FORMATS:
        results = []
        for name in tiers_of_this_processor():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("GLASSGPT_NATIVE_TIER", name)
                results.append(decoder_of(model, form).forward([Span(0, 0, ids, 40)]))
        for other in results[1:]:
            # A last digit may push an input over a rounding edge, which is worth up to 1/127 of a group's largest.
            np.testing.assert_allclose(other, results[0], atol=0.02 * np.abs(results[0]).max())


def test_a_copied_prefix_goes_on_as_the_original():
    model = model_of("llama, grouped heads, uneven widths")
    ids = tokens(model, 30)
    decoder = decoder_of(model, n_slots=2)
    expected = decoder.forward([Span(0, 0, ids, 30)])
    decoder.copy(0, 1, 17)
    np.testing.assert_array_equal(decoder.forward([Span(1, 17, ids[17:], 13)]), expected[17:])


def test_the_call_for_one_token_gives_what_forward_gives():
    model = model_of("gpt2")
    ids = tokens(model, 20)
    decoder = decoder_of(model, n_slots=2)
    expected = decoder.forward([Span(0, 0, ids, 20)])
    for position, token in enumerate(ids):
        np.testing.assert_array_equal(decoder.next(1, position, token), expected[position])


def test_more_rows_than_fit_a_call_are_refused_and_the_decoder_goes_on():
    model = model_of("gpt2")
    decoder = decoder_of(model, n_slots=2, max_rows=8)
    first = decoder.forward([Span(0, 0, [1, 2, 3])])
    good = [Span(0, 3, [4])]
    for spans, why in [
        ([Span(2, 0, [1])], "slot is not there"),
        ([Span(-1, 0, [1])], "slot is not there"),
        ([Span(0, 0, [1]), Span(0, 1, [1])], "slot is given twice"),
        ([Span(0, 4, [1])], "slot holds nothing"),
        ([Span(1, -1, [1])], "slot holds nothing"),
        ([Span(0, 0, [])], "no tokens"),
        ([], "no spans"),
        ([Span(0, 0, [1], -1)], "more tokens are wanted"),
        ([Span(0, 0, [1] * 65)], "context_length"),
        ([Span(0, 0, [1] * 8), Span(1, 0, [1])], "max_rows"),
        ([Span(0, 0, [1], 2)], "more tokens are wanted"),
        ([Span(0, 0, [65])], "not in the vocabulary"),
        ([Span(0, 0, [-1])], "not in the vocabulary"),
        ([Span(0, 0, [2**62])], "not in the vocabulary"),
    ]:
        with pytest.raises(ValueError, match=why):
            decoder.forward(spans)
    after = decoder.forward(good)
    decoder.forward([Span(1, 0, [1, 2, 3])])
    np.testing.assert_array_equal(decoder.forward([Span(1, 3, [4])]), after)
    np.testing.assert_array_equal(decoder.forward([Span(1, 0, [1, 2, 3])]), first)
    for source, target, length in [(0, 2, 1), (2, 0, 1), (0, 1, 5), (0, 1, -1)]:
        with pytest.raises(ValueError, match=r"a slot is not there|holds nothing"):
            decoder.copy(source, target, length)


def test_a_tensor_that_is_missing_or_of_another_shape_is_refused():
    model = model_of("gpt2")
    matrices, vectors = parts_of(model, "fp32")
    lacking = {name: matrix for name, matrix in matrices.items() if name != "blocks.1.feed_forward.up.weight"}
    with pytest.raises(ValueError, match=r"blocks\.1\.feed_forward\.up\.weight is missing"):
        Decoder(model.config, lacking, vectors, threads=1)
    wrong = vectors | {"final_norm.scale": np.ones(63, np.float32)}
    with pytest.raises(ValueError, match=r"final_norm\.scale has the shape \(63,\)"):
        Decoder(model.config, matrices, wrong, threads=1)
    with pytest.raises(ValueError, match="float32"):
        Decoder(model.config, matrices, vectors | {"final_norm.scale": np.ones(64)}, threads=1)


def test_caches_that_no_memory_could_hold_are_refused():
    model = model_of("gpt2")
    with pytest.raises(MemoryError, match="not enough memory"):
        decoder_of(model, n_slots=2**40)


def test_bytes_per_token_counts_what_a_token_reads():
    for tied in (True, False):
        model = model_of("gpt2", tie_embeddings=tied)
        weights = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "embedding" not in n)
        padded_head = 80 * 64  # a vocabulary of 65 in panels of 16
        blocks = weights if tied else weights - 65 * 64
        assert decoder_of(model).bytes_per_token == 4 * (blocks + padded_head)


def test_damaged_weights_give_scores_that_are_no_numbers_and_no_crash():
    model = model_of("gpt2")
    with torch.no_grad():
        model.blocks[0].feed_forward.up.weight.fill_(float("nan"))
        model.token_embedding.weight[3].fill_(float("inf"))
    for form in FORMATS:
        scores = decoder_of(model, form).forward([Span(0, 0, [1, 2, 3], 3)])
        assert scores.shape == (3, 65)


def test_there_are_as_many_tensors_here_as_in_the_native_code():
    header = (Path(__file__).parents[2] / "native" / "interface.h").read_text()

    def count(enum):
        return len(header.split(f"enum {enum} {{")[1].split("}")[0].split(",")) - 1

    assert count("ModelTensor") == len(MODEL_TENSORS)
    assert count("BlockTensor") == len(BLOCK_TENSORS)
