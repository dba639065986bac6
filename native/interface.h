// The C interface of the training kernel, and what a tier offers (interface.cpp picks one when it is opened).
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
