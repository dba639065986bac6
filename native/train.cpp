// A training step of a small GPT: loss and all gradients, in one call.
//
// With PyTorch a step of a model of a million parameters is some thousand calls, most of them shorter than what it
// takes to start them. Here each thread takes its share of the sequences, a few at a time, through the whole model
// forward and backward, adding to gradients of its own; the threads meet twice in a step. The model is that of
// glassgpt/model.py, both architectures, and tests hold the two equal. The letters are the same:
//     N tokens in this call, C embedding_dim, H heads of queries, K of keys and values, D width of a head,
//     F inner width, V vocab_size
// Activations that only matrix products read are kept in their precision (Element); the residual stream, norms,
// softmax, sums and gradients of weights are fp32.
//
// Compiled once a tier; GLASSGPT_TIER is the name of what this file offers.

#include <cstdlib>
#include <new>

#include "interface.h"
#include "layers.h"

namespace {

constexpr long TOKENS = 512;  // about as many tokens at a time as keep the activations of a layer in the cache

// What is dropped, told apart: the embedding, and in each layer attention weights and the two shortcuts.
enum Place { AT_EMBEDDING, AT_WEIGHTS, AT_ATTENTION, AT_FEED_FORWARD, PLACES };

template <class T>
T *allocate(long count) {
    return (T *)::operator new(size_t(round_up(count * long(sizeof(T)), 64)) + 64, std::align_val_t(64));
}

template <class T>
void release(T *memory) {
    if (memory) ::operator delete((void *)memory, std::align_val_t(64));
}

// A weight (rows, columns) as a right operand of both products that need it: y = x W^T and dx = dy W.
template <class Op>
struct Matrix {
    typedef typename Op::Unit Unit;
    long rows, columns, slot;
    Unit *forward, *backward;
};

template <class Op>
struct Layer {  // what the forward pass of one block leaves for the backward pass, of one thread
    typedef typename Op::Element Element;
    float *input, *middle;                     // (N, C): the residual stream before attention and feed-forward
    float *means[2], *factors[2];              // (N) of the two norms
    Element *normed[2];                        // (N, C)
    float *heads, *head_factors;               // (N, (H + 2 K) D) and (N, H + 2 K): before and of QK-norm
    Element *qkv, *context;                    // (N, (H + 2 K) D), (N, H D)
    float *log_sums;                           // (H, N)
    float *gate, *up;                          // (N, F)
    Element *inner;                            // (N, F)
};

template <class Op>
struct Thread {
    typedef typename Op::Element Element;
    typedef typename Op::Unit Unit;
    Layer<Op> *layers;
    AttentionSpace<Op> attention;
    float *stream, *d_stream;      // (N, C)
    float *wide, *d_wide;          // (N, the widest)
    Element *operand, *second;     // (N, the widest)
    Element *final_normed;         // (N, C)
    float *final_means, *final_factors;
    float *logits;                 // (rows, V rounded up)
    Element *d_logits;
    Unit *left, *right;            // operands of the gradients of weights
    float *head_work;              // (D)
    float **gradients;             // of this thread, by slot
    bool owns_gradients;
};

template <class Op>
struct Trainer {
    typedef typename Op::Element Element;
    typedef typename Op::Unit Unit;
    Shape shape;
    long n_matrices, n_slots, logit_rows, logit_width, tokens;
    Matrix<Op> *matrices;  // six or seven a block, then the head
    Thread<Op> *threads;
    void **memory;  // all that `take` gave
    long taken, room;

    long slot(long layer, long tensor) const { return MODEL_TENSORS + layer * BLOCK_TENSORS + tensor; }
    long query_dim() const { return shape.n_heads * shape.head_dim; }
    long kv_dim() const { return shape.n_kv_heads * shape.head_dim; }
    long head_slot() const { return shape.tied ? TOKEN_EMBEDDING : OUTPUT_HEAD; }
    long per_block() const { return shape.gated ? 7 : 6; }
    const Matrix<Op> &matrix(long layer, long which) const { return matrices[layer * per_block() + which]; }
    const Matrix<Op> &head() const { return matrices[n_matrices - 1]; }

    template <class T>
    T *take(long count) {
        if (taken == room) {
            long more = room ? 2 * room : 1024;
            void **bigger = (void **)std::realloc(memory, size_t(more) * sizeof(void *));
            if (!bigger) throw std::bad_alloc();
            memory = bigger;
            room = more;
        }
        T *given = allocate<T>(count);
        memory[taken++] = given;
        return given;
    }
};

// Which matrices a block has, in this order; where they are not gated, UP stands at GATE's place.
enum BlockMatrix { QUERY_M, KEY_M, VALUE_M, OUTPUT_M, DOWN_M, UP_M, GATE_M };
constexpr long BLOCK_MATRIX_SLOTS[] = {QUERY, KEY, VALUE, OUTPUT, DOWN, UP, GATE};

long tensor_size(const Shape &s, long slot) {
    long c = s.embedding_dim, q = s.n_heads * s.head_dim, kv = s.n_kv_heads * s.head_dim, f = s.feed_forward_dim;
    switch (slot) {
        case TOKEN_EMBEDDING: case OUTPUT_HEAD: return s.vocab_size * c;
        case POSITION_EMBEDDING: return s.context_length * c;
        case FINAL_SCALE: case FINAL_SHIFT: return c;
    }
    switch ((slot - MODEL_TENSORS) % BLOCK_TENSORS) {
        case QUERY: case OUTPUT: return q * c;
        case KEY: case VALUE: return kv * c;
        case QUERY_BIAS: return q;
        case KEY_BIAS: case VALUE_BIAS: return kv;
        case QUERY_NORM: case KEY_NORM: return s.head_dim;
        case GATE: case UP: case DOWN: return f * c;
        case UP_BIAS: return f;
        default: return c;
    }
}

template <class Op>
void free_trainer(void *handle) {
    auto *trainer = (Trainer<Op> *)handle;
    for (long i = 0; i < trainer->taken; i++) release((char *)trainer->memory[i]);
    std::free(trainer->memory);
    delete trainer;
}

template <class Op>
void lay_out(Trainer<Op> &t) {
    typedef typename Op::Element Element;
    typedef typename Op::Unit Unit;
    const Shape &s = t.shape;
    long c = s.embedding_dim, f = s.feed_forward_dim, q = t.query_dim(), kv = t.kv_dim(), qkv = q + 2 * kv;
    t.n_slots = MODEL_TENSORS + s.n_layers * BLOCK_TENSORS;
    t.n_matrices = s.n_layers * t.per_block() + 1;
    t.matrices = t.template take<Matrix<Op>>(t.n_matrices);
    for (long i = 0; i < t.n_matrices; i++) {
        Matrix<Op> &m = t.matrices[i];
        long layer = i / t.per_block(), which = i % t.per_block();
        if (i == t.n_matrices - 1) {
            m.rows = s.vocab_size, m.columns = c, m.slot = t.head_slot();
        } else {
            const long rows[] = {q, kv, kv, c, c, f, f}, columns[] = {c, c, c, q, f, c, c};
            m.rows = rows[which], m.columns = columns[which], m.slot = t.slot(layer, BLOCK_MATRIX_SLOTS[which]);
        }
        m.forward = t.template take<Unit>(packed_size<Op>(m.columns, m.rows));
        m.backward = t.template take<Unit>(packed_size<Op>(m.rows, m.columns));
    }
    long sequences = TOKENS / s.context_length > 1 ? TOKENS / s.context_length : 1;
    long n = t.tokens = round_up(sequences * s.context_length, 2), wide = qkv > f ? qkv : f;
    if (c > wide) wide = c;
    t.logit_width = round_up(s.vocab_size, NR);
    t.logit_rows = (1L << 18) / t.logit_width / (2 * MR) * (2 * MR);
    if (t.logit_rows < 4 * MR) t.logit_rows = 4 * MR;
    if (t.logit_rows > n) t.logit_rows = n;
    t.threads = t.template take<Thread<Op>>(s.threads);
    for (long i = 0; i < s.threads; i++) {
        Thread<Op> &w = t.threads[i];
        w.layers = t.template take<Layer<Op>>(s.n_layers);
        for (long layer = 0; layer < s.n_layers; layer++) {
            Layer<Op> &l = w.layers[layer];
            l.input = t.template take<float>(n * c);
            l.middle = t.template take<float>(n * c);
            for (int k = 0; k < 2; k++) {
                l.means[k] = t.template take<float>(n);
                l.factors[k] = t.template take<float>(n);
                l.normed[k] = t.template take<Element>(n * c);
            }
            l.heads = t.template take<float>(n * qkv);
            l.head_factors = t.template take<float>(n * (s.n_heads + 2 * s.n_kv_heads));
            l.qkv = t.template take<Element>(n * qkv);
            l.context = t.template take<Element>(n * q);
            l.log_sums = t.template take<float>(n * s.n_heads);
            l.gate = s.gated ? t.template take<float>(n * f) : nullptr;
            l.up = t.template take<float>(n * f);
            l.inner = t.template take<Element>(n * f);
        }
        long length = s.context_length, d = s.head_dim;
        AttentionSpace<Op> &a = w.attention;
        a.d = d;
        a.keys = t.template take<Unit>(packed_size<Op>(d, length));
        a.key_columns = t.template take<Unit>(packed_size<Op>(length, d));
        a.values = t.template take<Unit>(packed_size<Op>(length, d));
        a.value_rows = t.template take<Unit>(packed_size<Op>(d, length));
        a.queries = t.template take<Unit>(packed_size<Op>(length, d));
        a.outputs = t.template take<Unit>(packed_size<Op>(length, d));
        long padded = round_up(length, LANES);
        a.scores = t.template take<float>(QUERIES * padded);
        a.more = t.template take<float>(QUERIES * padded);
        a.weights = t.template take<Element>(length * padded);
        a.d_weights = t.template take<Element>(length * padded);
        a.left = t.template take<Unit>(units<Op>(length) * length);
        w.stream = t.template take<float>(n * c);
        w.d_stream = t.template take<float>(n * c);
        w.wide = t.template take<float>(n * wide);
        w.d_wide = t.template take<float>(n * wide);
        w.operand = t.template take<Element>(n * wide);
        w.second = t.template take<Element>(n * wide);
        w.final_normed = t.template take<Element>(n * c);
        w.final_means = t.template take<float>(n);
        w.final_factors = t.template take<float>(n);
        w.logits = t.template take<float>(t.logit_rows * t.logit_width);
        w.d_logits = t.template take<Element>(t.logit_rows * t.logit_width);
        long widest = wide > t.logit_width ? wide : t.logit_width;
        long left = units<Op>(n) * wide, of_head = units<Op>(t.logit_rows) * s.vocab_size;
        w.left = t.template take<Unit>(left > of_head ? left : of_head);
        w.right = t.template take<Unit>(packed_size<Op>(n, widest > c ? wide : c));
        w.head_work = t.template take<float>(d);
        w.gradients = t.template take<float *>(t.n_slots);
        for (long slot = 0; slot < t.n_slots; slot++) w.gradients[slot] = nullptr;
    }
}

template <class Op>
void *make_trainer(const Shape *shape) {
    auto *trainer = new (std::nothrow) Trainer<Op>();
    if (!trainer) return nullptr;
    trainer->shape = *shape;
    try {
        lay_out(*trainer);
    } catch (const std::bad_alloc &) {
        free_trainer<Op>(trainer);
        return nullptr;
    }
    return trainer;
}

// Each thread packs its share of the matrices, which all threads then read.
template <class Op>
void pack_weights(void *handle, int64_t thread, const float *const *weights) {
    auto &t = *(Trainer<Op> *)handle;
    for (long i = thread; i < 2 * t.n_matrices; i += t.shape.threads) {
        const Matrix<Op> &m = t.matrices[i / 2];
        const float *w = weights[m.slot];
        if (i % 2 == 0) pack_rows<Op>(w, m.rows, m.columns, m.columns, m.forward);
        else pack_columns<Op>(w, m.rows, m.columns, m.columns, m.backward, NR);
    }
}

// One pass of one thread over a few sequences.
template <class Op>
struct Pass {
    typedef typename Op::Element Element;
    typedef typename Op::Unit Unit;
    const Trainer<Op> &t;
    Thread<Op> &w;
    const float *const *weights;
    const Batch &batch;
    const int64_t *ids, *targets;
    long n, first_sequence, c, f, q, kv, qkv;

    Pass(const Trainer<Op> &t, Thread<Op> &w, const float *const *weights, const Batch &batch, long sequence, long count)
        : t(t), w(w), weights(weights), batch(batch), ids(batch.ids + sequence * batch.length),
          targets(batch.targets + sequence * batch.length), n(count * batch.length), first_sequence(sequence),
          c(t.shape.embedding_dim), f(t.shape.feed_forward_dim), q(t.query_dim()), kv(t.kv_dim()), qkv(q + 2 * kv) {
        w.attention.t = batch.length;
        w.attention.padded = round_up(batch.length, LANES);
    }

    const float *weight(long layer, long tensor) const { return weights[t.slot(layer, tensor)]; }
    float *gradient(long layer, long tensor) const { return w.gradients[t.slot(layer, tensor)]; }

    Dropout dropout() const {
        float rate = batch.dropout_rate;
        return {uint32_t(double(rate) * 4294967296.0), batch.seed, 1.0f / (1.0f - rate)};
    }
    static uint32_t place(long layer, Place which) { return uint32_t(layer * PLACES + which) * 0x9e3779b9u; }
    uint32_t element(long i) const { return uint32_t((first_sequence * batch.length + i) * c); }

    // y (N, rows) = x W^T, or added to y.
    void forward_product(const Element *x, const Matrix<Op> &m, float *y, long y_row, bool add) const {
        multiply<Op>(n, m.rows, units<Op>(m.columns), (const Unit *)x, m.columns / Op::PAIR, 1, m.forward,
                     units<Op>(m.columns) * NR, y, y_row, add);
    }
    // dx (N, columns) = dy W, or added to dx.
    void backward_product(const Element *dy, long dy_row, const Matrix<Op> &m, float *dx, bool add) const {
        multiply<Op>(n, m.columns, units<Op>(m.rows), (const Unit *)dy, dy_row / Op::PAIR, 1, m.backward,
                     units<Op>(m.rows) * NR, dx, m.columns, add);
    }
    // The right operand of dW = dy^T x, shared by all weights that read x.
    void take_input(const Element *x, long columns) const { pack_columns<Op>(x, n, columns, columns, w.right, NR); }
    void weight_gradient(const Element *dy, long dy_row, const Matrix<Op> &m) const {
        pack_columns<Op>(dy, n, m.rows, dy_row, w.left, m.rows);
        multiply<Op>(m.rows, m.columns, units<Op>(n), w.left, 1, m.rows, w.right, units<Op>(n) * NR, w.gradients[m.slot],
                     m.columns, true);
    }
    void add_bias(float *y, long row, long columns, const float *bias) const {
        if (!bias) return;
        for (long i = 0; i < n; i++, y += row) {
#pragma omp simd
            for (long j = 0; j < columns; j++) y[j] += bias[j];
        }
    }
    void bias_gradient(const float *dy, long row, long columns, float *to) const {
        if (!to) return;
        for (long i = 0; i < n; i++, dy += row) {
#pragma omp simd
            for (long j = 0; j < columns; j++) to[j] += dy[j];
        }
    }
    // x += what a part of a block computed, some of it dropped.
    void shortcut(float *x, const float *part, uint32_t where) const {
        Dropout drop = dropout();
        for (long i = 0, width = c; i < n; i++, x += width, part += width) {
            uint32_t at = element(i);
#pragma omp simd
            for (long j = 0; j < width; j++) x[j] += part[j] * drop.factor(at + uint32_t(j), where);
        }
    }
    // The gradient that reaches that part: in fp32 (for its bias) and as an operand.
    void shortcut_gradient(const float *dx, uint32_t where, float *exact, Element *operand) const {
        Dropout drop = dropout();
        if (!drop.threshold) std::memcpy(exact, dx, size_t(n * c) * sizeof *dx);
        for (long i = 0, width = c; drop.threshold && i < n; i++) {
            uint32_t at = element(i);
            const float *from = dx + i * width;
            float *to = exact + i * width;
#pragma omp simd
            for (long j = 0; j < width; j++) to[j] = from[j] * drop.factor(at + uint32_t(j), where);
        }
        round_into(exact, n * c, operand);
    }
    static void round_into(const float *x, long count, Element *y) {
#pragma omp simd
        for (long i = 0; i < count; i++) y[i] = Op::round(x[i]);
    }

    void drop_some(float *x, uint32_t at, Dropout drop) const {
        uint32_t where = place(0, AT_EMBEDDING);
        long width = c;
#pragma omp simd
        for (long j = 0; j < width; j++) x[j] *= drop.factor(at + uint32_t(j), where);
    }
    void embed() const {
        const float *tokens = weights[TOKEN_EMBEDDING], *positions = weights[POSITION_EMBEDDING];
        Dropout drop = dropout();
        for (long i = 0; i < n; i++) {
            float *x = w.stream + i * c;
            std::memcpy(x, tokens + ids[i] * c, size_t(c) * sizeof *x);
            if (positions) {
                const float *position = positions + i % batch.length * c;
#pragma omp simd
                for (long j = 0; j < c; j++) x[j] += position[j];
            }
            if (drop.threshold) drop_some(x, element(i), drop);
        }
    }
    void embed_gradient() const {
        float *tokens = w.gradients[TOKEN_EMBEDDING], *positions = w.gradients[POSITION_EMBEDDING];
        Dropout drop = dropout();
        for (long i = 0; i < n; i++) {
            float *dx = w.d_stream + i * c, *token = tokens + ids[i] * c;
            if (drop.threshold) drop_some(dx, element(i), drop);
#pragma omp simd
            for (long j = 0; j < c; j++) token[j] += dx[j];
            if (positions) {
                float *position = positions + i % batch.length * c;
#pragma omp simd
                for (long j = 0; j < c; j++) position[j] += dx[j];
            }
        }
    }

    void attention_forward_block(long layer) const {
        Layer<Op> &l = w.layers[layer];
        const Shape &s = t.shape;
        long d = s.head_dim, heads = s.n_heads + 2 * s.n_kv_heads, group = s.n_heads / s.n_kv_heads;
        std::memcpy(l.input, w.stream, size_t(n * c) * sizeof(float));
        norm_forward<Op>(l.input, n, c, weight(layer, ATTENTION_SCALE), weight(layer, ATTENTION_SHIFT), s.norm_eps,
                         l.normed[0], l.means[0], l.factors[0]);
        forward_product(l.normed[0], t.matrix(layer, QUERY_M), l.heads, qkv, false);
        forward_product(l.normed[0], t.matrix(layer, KEY_M), l.heads + q, qkv, false);
        forward_product(l.normed[0], t.matrix(layer, VALUE_M), l.heads + q + kv, qkv, false);
        add_bias(l.heads, qkv, q, weight(layer, QUERY_BIAS));
        add_bias(l.heads + q, qkv, kv, weight(layer, KEY_BIAS));
        add_bias(l.heads + q + kv, qkv, kv, weight(layer, VALUE_BIAS));
        for (long i = 0; i < n; i++)
            for (long h = 0; h < heads; h++) {
                long at = i * qkv + h * d, position = i % batch.length * (d / 2);
                bool value = h >= s.n_heads + s.n_kv_heads;
                const float *scale = value ? nullptr : weight(layer, h < s.n_heads ? QUERY_NORM : KEY_NORM);
                const float *cos = s.cos && !value ? s.cos + position : nullptr;
                head_forward<Op>(l.heads + at, d, scale, s.qk_norm_eps, cos, cos ? s.sin + position : nullptr,
                                 l.head_factors + i * heads + h, l.qkv + at);
            }
        for (long at = 0; at < n; at += batch.length)
            for (long h = 0; h < s.n_heads; h++) {
                const Element *base = l.qkv + at * qkv;
                uint32_t index = uint32_t(((first_sequence + at / batch.length) * s.n_heads + h) * batch.length);
                attention_forward<Op>(w.attention, base + h * d, base + q + h / group * d, base + q + kv + h / group * d,
                                      qkv, dropout(), index, place(layer, AT_WEIGHTS), l.log_sums + h * t.tokens + at,
                                      w.wide + at * q + h * d, q);
            }
        round_into(w.wide, n * q, l.context);
        finish_part(l.context, t.matrix(layer, OUTPUT_M), weight(layer, OUTPUT_BIAS), place(layer, AT_ATTENTION));
    }
    // The last product of a part of a block, its bias, and the shortcut around the part.
    void finish_part(const Element *x, const Matrix<Op> &m, const float *bias, uint32_t where) const {
        if (!batch.dropout_rate) {
            forward_product(x, m, w.stream, c, true);
            add_bias(w.stream, c, c, bias);
            return;
        }
        forward_product(x, m, w.d_wide, c, false);
        add_bias(w.d_wide, c, c, bias);
        shortcut(w.stream, w.d_wide, where);
    }

    void attention_backward_block(long layer) const {
        Layer<Op> &l = w.layers[layer];
        const Shape &s = t.shape;
        long d = s.head_dim, heads = s.n_heads + 2 * s.n_kv_heads, group = s.n_heads / s.n_kv_heads;
        shortcut_gradient(w.d_stream, place(layer, AT_ATTENTION), w.wide, w.operand);
        bias_gradient(w.wide, c, c, gradient(layer, OUTPUT_BIAS));
        take_input(l.context, q);
        weight_gradient(w.operand, c, t.matrix(layer, OUTPUT_M));
        backward_product(w.operand, c, t.matrix(layer, OUTPUT_M), w.wide, false);
        round_into(w.wide, n * q, w.operand);  // the gradient of the context
        for (long i = 0; i < n; i++) std::memset(w.d_wide + i * qkv + q, 0, size_t(2 * kv) * sizeof(float));
        for (long at = 0; at < n; at += batch.length)
            for (long h = 0; h < s.n_heads; h++) {
                const Element *base = l.qkv + at * qkv;
                float *to = w.d_wide + at * qkv;
                long own = h / group * d;
                uint32_t index = uint32_t(((first_sequence + at / batch.length) * s.n_heads + h) * batch.length);
                attention_backward<Op>(w.attention, base + h * d, base + q + own, base + q + kv + own, qkv,
                                       l.context + at * q + h * d, w.operand + at * q + h * d, q, dropout(), index,
                                       place(layer, AT_WEIGHTS), l.log_sums + h * t.tokens + at, to + h * d, to + q + own,
                                       to + q + kv + own, qkv);
            }
        bias_gradient(w.d_wide, qkv, q, gradient(layer, QUERY_BIAS));
        bias_gradient(w.d_wide + q, qkv, kv, gradient(layer, KEY_BIAS));
        bias_gradient(w.d_wide + q + kv, qkv, kv, gradient(layer, VALUE_BIAS));
        for (long i = 0; i < n; i++)
            for (long h = 0; h < heads; h++) {
                long at = i * qkv + h * d, position = i % batch.length * (d / 2);
                bool value = h >= s.n_heads + s.n_kv_heads;
                long norm = h < s.n_heads ? QUERY_NORM : KEY_NORM;
                const float *cos = s.cos && !value ? s.cos + position : nullptr;
                head_backward<Op>(w.d_wide + at, l.heads + at, d, value ? nullptr : weight(layer, norm),
                                  l.head_factors[i * heads + h], cos, cos ? s.sin + position : nullptr,
                                  value ? nullptr : gradient(layer, norm), w.head_work, w.operand + at);
            }
        take_input(l.normed[0], c);
        const long which[] = {QUERY_M, KEY_M, VALUE_M}, offsets[] = {0, q, q + kv};
        for (int k = 0; k < 3; k++) {
            weight_gradient(w.operand + offsets[k], qkv, t.matrix(layer, which[k]));
            backward_product(w.operand + offsets[k], qkv, t.matrix(layer, which[k]), w.wide, k > 0);
        }
        norm_backward(w.wide, l.input, n, c, weight(layer, ATTENTION_SCALE), l.means[0], l.factors[0], w.d_stream,
                      gradient(layer, ATTENTION_SCALE), gradient(layer, ATTENTION_SHIFT));
    }

    void feed_forward_block(long layer) const {
        Layer<Op> &l = w.layers[layer];
        std::memcpy(l.middle, w.stream, size_t(n * c) * sizeof(float));
        norm_forward<Op>(l.middle, n, c, weight(layer, FEED_FORWARD_SCALE), weight(layer, FEED_FORWARD_SHIFT),
                         t.shape.norm_eps, l.normed[1], l.means[1], l.factors[1]);
        if (l.gate) forward_product(l.normed[1], t.matrix(layer, GATE_M), l.gate, f, false);
        forward_product(l.normed[1], t.matrix(layer, UP_M), l.up, f, false);
        add_bias(l.up, f, f, weight(layer, UP_BIAS));
        activation_forward<Op>(l.gate, l.up, n * f, l.inner);
        finish_part(l.inner, t.matrix(layer, DOWN_M), weight(layer, DOWN_BIAS), place(layer, AT_FEED_FORWARD));
    }
    void feed_forward_backward(long layer) const {
        Layer<Op> &l = w.layers[layer];
        shortcut_gradient(w.d_stream, place(layer, AT_FEED_FORWARD), w.wide, w.operand);
        bias_gradient(w.wide, c, c, gradient(layer, DOWN_BIAS));
        take_input(l.inner, f);
        weight_gradient(w.operand, c, t.matrix(layer, DOWN_M));
        backward_product(w.operand, c, t.matrix(layer, DOWN_M), w.wide, false);
        activation_backward<Op>(w.wide, l.gate, l.up, n * f, w.second, w.operand);
        take_input(l.normed[1], c);
        weight_gradient(w.operand, f, t.matrix(layer, UP_M));
        if (float *bias = gradient(layer, UP_BIAS))
            for (long i = 0; i < n; i++)
                for (long j = 0; j < f; j++) bias[j] += to_float(w.operand[i * f + j]);
        backward_product(w.operand, f, t.matrix(layer, UP_M), w.wide, false);
        if (l.gate) {
            weight_gradient(w.second, f, t.matrix(layer, GATE_M));
            backward_product(w.second, f, t.matrix(layer, GATE_M), w.wide, true);
        }
        norm_backward(w.wide, l.middle, n, c, weight(layer, FEED_FORWARD_SCALE), l.means[1], l.factors[1], w.d_stream,
                      gradient(layer, FEED_FORWARD_SCALE), gradient(layer, FEED_FORWARD_SHIFT));
    }

    // Logits of a few rows at a time; their gradient is softmax - one hot. Leaves the gradient of the stream.
    double loss() const {
        const Shape &s = t.shape;
        const Matrix<Op> &head = t.head();
        norm_forward<Op>(w.stream, n, c, weights[FINAL_SCALE], weights[FINAL_SHIFT], s.norm_eps, w.final_normed,
                         w.final_means, w.final_factors);
        double nats = 0;
        for (long at = 0; at < n; at += t.logit_rows) {
            long rows = n - at < t.logit_rows ? n - at : t.logit_rows;
            multiply<Op>(rows, head.rows, units<Op>(c), (const Unit *)(w.final_normed + at * c), c / Op::PAIR, 1,
                         head.forward, units<Op>(c) * NR, w.logits, t.logit_width, false);
            for (long i = 0; i < rows; i++) {
                float *logit = w.logits + i * t.logit_width;
                Element *d_logit = w.d_logits + i * t.logit_width;
                long target = targets[at + i];
                float top = logit[0], sum = 0;
#pragma omp simd reduction(max : top)
                for (long j = 0; j < head.rows; j++) top = logit[j] > top ? logit[j] : top;
                float own = target < 0 ? 0.0f : logit[target];
#pragma omp simd reduction(+ : sum)
                for (long j = 0; j < head.rows; j++) {
                    logit[j] = exponential(logit[j] - top);
                    sum += logit[j];
                }
                if (target >= 0) nats += double(std::log(sum) + top - own);
                if (!batch.backward) continue;
                float scale = target < 0 ? 0.0f : batch.loss_scale / sum;
#pragma omp simd
                for (long j = 0; j < head.rows; j++) d_logit[j] = Op::round(logit[j] * scale);
                if (target >= 0) d_logit[target] = Op::round(logit[target] * scale - batch.loss_scale);
                for (long j = head.rows; j < round_up(head.rows, 2); j++) d_logit[j] = Element{};
            }
            if (!batch.backward) continue;
            multiply<Op>(rows, c, units<Op>(head.rows), (const Unit *)w.d_logits, t.logit_width / Op::PAIR, 1,
                         head.backward, units<Op>(head.rows) * NR, w.wide + at * c, c, false);
            pack_columns<Op>(w.final_normed + at * c, rows, c, c, w.right, NR);
            pack_columns<Op>(w.d_logits, rows, head.rows, t.logit_width, w.left, head.rows);
            multiply<Op>(head.rows, c, units<Op>(rows), w.left, 1, head.rows, w.right, units<Op>(rows) * NR,
                         w.gradients[head.slot], c, true);
        }
        if (batch.backward) {
            std::memset(w.d_stream, 0, size_t(n * c) * sizeof(float));
            norm_backward(w.wide, w.stream, n, c, weights[FINAL_SCALE], w.final_means, w.final_factors, w.d_stream,
                          w.gradients[FINAL_SCALE], w.gradients[FINAL_SHIFT]);
        }
        return nats;
    }

    double run() const {
        embed();
        for (long layer = 0; layer < t.shape.n_layers; layer++) {
            attention_forward_block(layer);
            feed_forward_block(layer);
        }
        double nats = loss();
        if (!batch.backward) return nats;
        for (long layer = t.shape.n_layers; layer-- > 0;) {
            feed_forward_backward(layer);
            attention_backward_block(layer);
        }
        embed_gradient();
        return nats;
    }
};

// The share of one thread. `gradients` are its own, by slot, and are overwritten.
template <class Op>
void work(void *handle, int64_t thread, const float *const *weights, const Batch *batch, float *const *gradients) {
    auto &t = *(Trainer<Op> *)handle;
    Thread<Op> &w = t.threads[thread];
    if (batch->backward)
        for (long slot = 0; slot < t.n_slots; slot++) {
            w.gradients[slot] = gradients[slot];
            if (gradients[slot]) std::memset(gradients[slot], 0, size_t(tensor_size(t.shape, slot)) * sizeof(float));
        }
    long first = batch->sequences * thread / t.shape.threads, end = batch->sequences * (thread + 1) / t.shape.threads;
    long at_once = t.tokens / batch->length;
    double nats = 0;
    for (long sequence = first; sequence < end; sequence += at_once) {
        long count = end - sequence < at_once ? end - sequence : at_once;
        nats += Pass<Op>(t, w, weights, *batch, sequence, count).run();
    }
    batch->nats[thread] = nats;
}

template <class Op>
constexpr Kernel kernel() {
    return {make_trainer<Op>, free_trainer<Op>, pack_weights<Op>, work<Op>};
}

}  // namespace

extern "C" Tier GLASSGPT_TIER() {
#if defined(__AVX512BF16__)
    return {kernel<Float32>(), kernel<BFloat16>()};
#else
    return {kernel<Float32>(), Kernel{}};
#endif
}
