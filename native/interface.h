// The C interfaces of the training kernel and of the decoder, and what a tier offers of both (tiers.cpp picks one).
#pragma once

#include <cstdint>

// The order of the tensors of a model: these five, then for each block those of BlockTensor. Absent ones are null.
enum ModelTensor { TOKEN_EMBEDDING, POSITION_EMBEDDING, FINAL_SCALE, FINAL_SHIFT, OUTPUT_HEAD, MODEL_TENSORS };
enum BlockTensor {
    QUERY, KEY, VALUE, OUTPUT, QUERY_BIAS, KEY_BIAS, VALUE_BIAS, OUTPUT_BIAS, QUERY_NORM, KEY_NORM,
    ATTENTION_SCALE, ATTENTION_SHIFT, FEED_FORWARD_SCALE, FEED_FORWARD_SHIFT, GATE, UP, DOWN, UP_BIAS, DOWN_BIAS,
    BLOCK_TENSORS
};

struct Shape {
    int64_t vocab_size, context_length, embedding_dim, n_heads, n_kv_heads, head_dim, n_layers, feed_forward_dim;
    int64_t gated, tied, threads;  // gated: SwiGLU; tied: the output head is the token embedding
    float norm_eps, qk_norm_eps;
    const float *cos, *sin;  // (context_length, head_dim / 2) each; null where positions are learned
};

struct Batch {
    const int64_t *ids, *targets;  // (sequences, length); a target below 0 does not count
    int64_t sequences, length;
    float loss_scale;    // what the gradient of the summed loss is multiplied with
    float dropout_rate;
    uint32_t seed;
    int64_t backward;    // 0: only the loss
    double *nats;        // (threads): sums of -log p
};

// One precision of one tier. `pack` and `work` are called once a step by each thread, with all threads in between.
struct Kernel {
    void *(*make)(const Shape *);
    void (*free)(void *);
    void (*pack)(void *, int64_t thread, const float *const *weights);
    void (*work)(void *, int64_t thread, const float *const *weights, const Batch *, float *const *gradients);
};

struct Tier {
    Kernel fp32, bf16;  // bf16.make is null where the tier has no such instruction
};

// A weight matrix in panels of 16 rows, as glassgpt/native/packing.py lays it out. values null: absent.
enum Format { FP32, BF16, INT8, INT4 };
struct Packed {
    const void *values;
    const uint16_t *scales;  // bf16; null in FP32 and BF16
    int64_t format;
};

// Rows of tokens to compute: span after span, each a piece of the text in one slot of the cache.
struct Spans {
    int64_t n_spans, n_rows, n_logits, threads;
    const int64_t *slots, *starts, *counts;   // (n_spans); a span's tokens stand at positions start, start + 1, ...
    const int64_t *ids, *positions;           // (n_rows)
    const int64_t *logit_rows;                // (n_logits): rows whose scores are wanted
    float *logits;                            // (n_logits, vocab_size rounded up to 16)
    int64_t *next_task;                       // (n_layers) zeros: threads take tasks of attention from these
    void (*meet)(void *);                     // waits for the other threads
    void *meeting;
};

struct Room {
    int64_t n_slots, max_rows, half_cache;    // half_cache: keys and values are kept in bf16
};

// What a tier offers of the decoder. `run` is called by every thread at once.
struct DecodeKernel {
    void *(*make)(const Shape *, const Room *, const Packed *matrices, const float *const *vectors);
    void (*free)(void *);
    void (*run)(void *, int64_t thread, const Spans *);
    void (*copy)(void *, int64_t source, int64_t target, int64_t length);
    int64_t (*read)(void *, int64_t thread);
    int64_t (*choose)(const float *scores, int64_t vocab_size, const struct Choice *, const int64_t *ids, int64_t n_ids,
                      double *room);
    int64_t (*pack)(const struct Source *, int64_t format, int64_t first_panel, int64_t end_panel, void *values, uint16_t *scales);
};

// How a token is drawn: `Sampling` of glassgpt/generation/sampling.py. top_k 0: all; top_p 1: all; min_p 0: all.
struct Choice {
    double temperature, top_p, min_p, repetition_penalty;
    int64_t top_k;
    uint64_t seed, sequence;
};

// A matrix as it lies in a file: (n, k) with strides in elements. type 0: float32, 1: float16, 2: bf16.
struct Source {
    const void *values;
    int64_t type, n, k, row_stride, column_stride;
};
