// The model of glassgpt/model.py, from top to bottom, for generating text: a few rows of tokens through all of it in
// one call, with the keys and values of the tokens before them in a cache.
//
// The threads share every product by panels of its matrix and meet when the next step needs all of it. The letters:
//     T rows of this call (tokens of one or many texts)      H heads of the queries, K of keys and values
//     C embedding_dim   F inner width   V vocab_size         D width of one head, S positions seen
// Rows of activations are padded with zeros to multiples of 64, so that whole vectors and groups fit.
//
// Compiled once a tier; GLASSGPT_TIER is the name of what this file offers.

#include <cmath>
#include <cstdlib>
#include <new>

#include "packing.h"
#include "products.h"
#include "sampling.h"

namespace {

// What one thread, or where there are many rows all threads together, makes of the rows for the next product.
struct Prepared {
    float *normed;    // (T, C)
    Rounded rounded;  // of the widest input
};

struct Decoder {
    Shape shape;
    Room room;
    const Packed *matrices;        // by slot
    const float *const *vectors;   // by slot
    long c, q, kv, f;              // embedding_dim, H D, K D and inner width, padded
    long capacity, depth;          // positions of a cache slot, and D, padded to 16
    float *stream;                 // (T, C): the residual stream
    float *queries, *keys, *values, *context;  // (T, H D), (T, K D), (T, K D), (T, H D)
    float *gate, *inner;           // (T, F)
    float *chosen;                 // (T, C): the rows whose scores are wanted
    Prepared shared, *own;         // own: (threads), a row each
    float **scores, **attended;    // (threads): (FLOAT_ROWS, capacity) and (FLOAT_ROWS, depth)
    char *cache;                   // see key_cache
    void *memory[32];
    long taken;

    const Packed &matrix(long layer, long tensor) const { return matrices[MODEL_TENSORS + layer * BLOCK_TENSORS + tensor]; }
    const float *vector(long layer, long tensor) const { return vectors[MODEL_TENSORS + layer * BLOCK_TENSORS + tensor]; }
    const Packed &head() const { return matrices[shape.tied ? TOKEN_EMBEDDING : OUTPUT_HEAD]; }

    long head_bytes() const { return depth * capacity * (room.half_cache ? 2 : 4); }  // of the keys, or the values
    long slot_bytes() const { return shape.n_layers * shape.n_kv_heads * 2 * head_bytes(); }
    // Keys of one head: panels of 16 positions, (S / 16, D, 16). Values: panels of 16 features, (D / 16, S, 16). Both
    // are matrices that `float_product` takes as they lie: scores = q keys, context = weights values.
    char *key_cache(long slot, long layer, long head) const {
        return cache + slot * slot_bytes() + (layer * shape.n_kv_heads + head) * 2 * head_bytes();
    }
    char *value_cache(long slot, long layer, long head) const { return key_cache(slot, layer, head) + head_bytes(); }

    template <class T>
    T *take(long count, bool zeros = true) {
        size_t bytes = size_t(round_up(count * long(sizeof(T)), 64) + 64);
        void *given = ::operator new(bytes, std::align_val_t(64));
        if (zeros) std::memset(given, 0, bytes);
        memory[taken++] = given;
        return (T *)given;
    }
};

// Layer normalisation, or without a shift RMSNorm, of one row.
void norm_row(const float *x, long width, const float *scale, const float *shift, float eps, float *y) {
    float mean = 0, squares = 0;
    if (shift) {
#pragma omp simd reduction(+ : mean)
        for (long j = 0; j < width; j++) mean += x[j];
        mean /= float(width);
    }
#pragma omp simd reduction(+ : squares)
    for (long j = 0; j < width; j++) squares += (x[j] - mean) * (x[j] - mean);
    float factor = 1.0f / std::sqrt(squares / float(width) + eps);
    if (shift) {
#pragma omp simd
        for (long j = 0; j < width; j++) y[j] = (x[j] - mean) * factor * scale[j] + shift[j];
    } else {
#pragma omp simd
        for (long j = 0; j < width; j++) y[j] = x[j] * factor * scale[j];
    }
}

void add_bias(float *y, const float *bias, long first, long end) {
#pragma omp simd
    for (long j = first; j < end; j++) y[j] += bias[j];
}

// SwiGLU's silu(gate) * up, or without a gate GELU (tanh form), in place of `up`.
void activate(const float *gate, float *up, long first, long end) {
    if (gate) {
#pragma omp simd
        for (long j = first; j < end; j++) up[j] = gate[j] * sigmoid(gate[j]) * up[j];
    } else {
#pragma omp simd
        for (long j = first; j < end; j++) {
            float u = up[j];
            up[j] = 0.5f * u * (1.0f + hyperbolic_tangent(0.7978845608f * (u + 0.044715f * u * u * u)));
        }
    }
}

// One head of one row: QK-norm (scale null: none), then rotary positions (cos null: none), in place.
void turn_head(float *x, long d, const float *scale, float eps, const float *cos, const float *sin) {
    if (scale) norm_row(x, d, scale, nullptr, eps, x);
    if (!cos) return;
    long half = d / 2;
#pragma omp simd
    for (long j = 0; j < half; j++) {
        float a = x[j], b = x[j + half];
        x[j] = a * cos[j] - b * sin[j];
        x[j + half] = b * cos[j] + a * sin[j];
    }
}

// Scores of one query to weights that sum to `1 / returned`; what lies between `own` and `end` is not seen: 0.
float softmax(float *p, long own, long end, float scale) {
    float top = p[0], sum = 0;
#pragma omp simd reduction(max : top)
    for (long j = 0; j < own; j++) top = p[j] > top ? p[j] : top;
#pragma omp simd reduction(+ : sum)
    for (long j = 0; j < own; j++) {
        p[j] = exponential((p[j] - top) * scale);
        sum += p[j];
    }
    for (long j = own; j < end; j++) p[j] = 0;
    return 1.0f / sum;
}

inline float as(float value, float) { return value; }
inline Half as(float value, Half) { return to_half(value); }

// One thread's part of one call.
struct Pass {
    const Decoder &d;
    const Spans &spans;
    long thread;

    void meet() const { spans.meet(spans.meeting); }
    long share(long count, long of) const { return count * of / spans.threads; }
    // The rows that this thread prepares: all of them into room of its own where there is just one, else its share.
    bool alone(long rows) const { return rows == 1; }
    const Prepared &prepared(long rows) const { return alone(rows) ? d.own[thread] : d.shared; }

    // The input of the products with matrices like m: x, after a norm where there is one, rounded where m is in whole numbers.
    Input prepare(const float *x, long x_row, long k, long rows, const Packed &m, const float *scale = nullptr,
                  const float *shift = nullptr) const {
        const Prepared &to = prepared(rows);
        Input input{x, x_row, k, to.rounded};
        if (scale) input.x = to.normed, input.x_row = d.c;
        long group = m.format == INT4 ? Int4::GROUP : Int8::GROUP;
        int32_t offset = m.format == INT4 ? Int4::OFFSET : Int8::OFFSET;
        input.rounded.width = round_up(k, group);
        long first = alone(rows) ? 0 : share(rows, thread), end = alone(rows) ? rows : share(rows, thread + 1);
        for (long i = first; i < end; i++) {
            if (scale) norm_row(x + i * x_row, k, scale, shift, d.shape.norm_eps, to.normed + i * d.c);
            if (is_whole(m)) round_row(input.x + i * input.x_row, group, offset, input.rounded, i);
        }
        if (!alone(rows) && (scale || is_whole(m))) meet();
        return input;
    }

    // This thread's columns of y = x W^T + bias, n of them in all; or added to y. Returns where they begin and end.
    struct Columns {
        long first, end;
    };
    Columns multiply(const Input &in, long rows, const Packed &m, long n, const float *bias, float *y, long y_row, bool add) const {
        long panels = (n + PANEL - 1) / PANEL, first = share(panels, thread), end = share(panels, thread + 1);
        product(in, rows, m, first, end, y, y_row, add);
        Columns mine{first * PANEL, end * PANEL < n ? end * PANEL : n};
        if (bias)
            for (long i = 0; i < rows; i++) add_bias(y + i * y_row, bias, mine.first, mine.end);
        return mine;
    }

    void embed() const {
        const float *positions = d.vectors[POSITION_EMBEDDING];
        long c = d.shape.embedding_dim, first = share(c, thread), end = share(c, thread + 1);
        for (long i = 0; i < spans.n_rows; i++) {
            float *x = d.stream + i * d.c;
            unpack_row(d.matrices[TOKEN_EMBEDDING], spans.ids[i], first, end, c, x);
            if (positions) add_bias(x, positions + spans.positions[i] * c, first, end);
        }
        meet();
    }

    // One head of the keys of one span, with the heads of queries that share it. The keys and values go to the cache.
    template <class Element>
    void attend(long layer, long span, long head, long first_row) const {
        const Shape &s = d.shape;
        long dim = s.head_dim, group = s.n_heads / s.n_kv_heads, start = spans.starts[span], count = spans.counts[span];
        auto *keys = (Element *)d.key_cache(spans.slots[span], layer, head);
        auto *values = (Element *)d.value_cache(spans.slots[span], layer, head);
        for (long i = first_row, at = start; i < first_row + count; i++, at++) {
            const float *cos = s.cos ? s.cos + at * (dim / 2) : nullptr, *sin = s.cos ? s.sin + at * (dim / 2) : nullptr;
            float *k = d.keys + i * d.kv + head * dim, *v = d.values + i * d.kv + head * dim;
            turn_head(k, dim, d.vector(layer, KEY_NORM), s.qk_norm_eps, cos, sin);
            for (long h = head * group; h < (head + 1) * group; h++)
                turn_head(d.queries + i * d.q + h * dim, dim, d.vector(layer, QUERY_NORM), s.qk_norm_eps, cos, sin);
            for (long j = 0; j < dim; j++) {
                keys[at / PANEL * PANEL * dim + j * PANEL + at % PANEL] = as(k[j], Element{});
                values[j / PANEL * PANEL * d.capacity + at * PANEL + j % PANEL] = as(v[j], Element{});
            }
        }
        float *scores = d.scores[thread], *attended = d.attended[thread], scale = 1.0f / std::sqrt(float(dim));
        for (long h = head * group; h < (head + 1) * group; h++)
            for (long i = 0; i < count; i += FLOAT_ROWS) {
                long rows = count - i < FLOAT_ROWS ? count - i : FLOAT_ROWS, seen = start + i + rows;
                float_product(d.queries + (first_row + i) * d.q + h * dim, d.q, rows, keys, dim * PANEL,
                              (seen + PANEL - 1) / PANEL, dim, scores, d.capacity, false);
                float factors[FLOAT_ROWS];
                for (long r = 0; r < rows; r++) factors[r] = softmax(scores + r * d.capacity, start + i + r + 1, seen, scale);
                float_product(scores, d.capacity, rows, values, d.capacity * PANEL, d.depth / PANEL, seen, attended, d.depth, false);
                for (long r = 0; r < rows; r++) {
                    float *to = d.context + (first_row + i + r) * d.q + h * dim;
#pragma omp simd
                    for (long j = 0; j < dim; j++) to[j] = attended[r * d.depth + j] * factors[r];
                }
            }
    }

    void attention(long layer) const {
        const Shape &s = d.shape;
        long rows = spans.n_rows, c = s.embedding_dim, q = s.n_heads * s.head_dim, kv = s.n_kv_heads * s.head_dim;
        Input normed = prepare(d.stream, d.c, c, rows, d.matrix(layer, QUERY), d.vector(layer, ATTENTION_SCALE),
                               d.vector(layer, ATTENTION_SHIFT));
        multiply(normed, rows, d.matrix(layer, QUERY), q, d.vector(layer, QUERY_BIAS), d.queries, d.q, false);
        multiply(normed, rows, d.matrix(layer, KEY), kv, d.vector(layer, KEY_BIAS), d.keys, d.kv, false);
        multiply(normed, rows, d.matrix(layer, VALUE), kv, d.vector(layer, VALUE_BIAS), d.values, d.kv, false);
        meet();
        for (;;) {
            long task = __atomic_fetch_add(&spans.next_task[layer], 1, __ATOMIC_RELAXED);
            if (task >= spans.n_spans * s.n_kv_heads) break;
            long span = task / s.n_kv_heads, first_row = 0;
            for (long i = 0; i < span; i++) first_row += spans.counts[i];
            if (d.room.half_cache) attend<Half>(layer, span, task % s.n_kv_heads, first_row);
            else attend<float>(layer, span, task % s.n_kv_heads, first_row);
        }
        meet();
        Input context = prepare(d.context, d.q, q, rows, d.matrix(layer, OUTPUT));
        multiply(context, rows, d.matrix(layer, OUTPUT), c, d.vector(layer, OUTPUT_BIAS), d.stream, d.c, true);
        meet();
    }

    void feed_forward(long layer) const {
        const Shape &s = d.shape;
        long rows = spans.n_rows, c = s.embedding_dim, f = s.feed_forward_dim;
        Input normed = prepare(d.stream, d.c, c, rows, d.matrix(layer, UP), d.vector(layer, FEED_FORWARD_SCALE),
                               d.vector(layer, FEED_FORWARD_SHIFT));
        if (s.gated) multiply(normed, rows, d.matrix(layer, GATE), f, nullptr, d.gate, d.f, false);
        Columns mine = multiply(normed, rows, d.matrix(layer, UP), f, d.vector(layer, UP_BIAS), d.inner, d.f, false);
        for (long i = 0; i < rows; i++) activate(s.gated ? d.gate + i * d.f : nullptr, d.inner + i * d.f, mine.first, mine.end);
        meet();
        Input inner = prepare(d.inner, d.f, f, rows, d.matrix(layer, DOWN));
        multiply(inner, rows, d.matrix(layer, DOWN), c, d.vector(layer, DOWN_BIAS), d.stream, d.c, true);
        meet();
    }

    void scores() const {
        const Shape &s = d.shape;
        long rows = spans.n_logits, c = s.embedding_dim;
        if (!rows) return;
        for (long i = share(rows, thread); i < share(rows, thread + 1); i++)
            std::memcpy(d.chosen + i * d.c, d.stream + spans.logit_rows[i] * d.c, size_t(d.c) * sizeof(float));
        meet();
        Input normed = prepare(d.chosen, d.c, c, rows, d.head(), d.vectors[FINAL_SCALE], d.vectors[FINAL_SHIFT]);
        multiply(normed, rows, d.head(), s.vocab_size, nullptr, spans.logits, round_up(s.vocab_size, PANEL), false);
    }

    void run() const {
        embed();
        for (long layer = 0; layer < d.shape.n_layers; layer++) {
            attention(layer);
            feed_forward(layer);
        }
        scores();
    }
};

struct Size {
    long n, k;
};

Size size_of(const Shape &s, long slot) {
    long c = s.embedding_dim, q = s.n_heads * s.head_dim, kv = s.n_kv_heads * s.head_dim, f = s.feed_forward_dim;
    if (slot < MODEL_TENSORS) return {s.vocab_size, c};
    switch ((slot - MODEL_TENSORS) % BLOCK_TENSORS) {
        case QUERY: return {q, c};
        case OUTPUT: return {c, q};
        case DOWN: return {c, f};
        case GATE: case UP: return {f, c};
        default: return {kv, c};
    }
}

void free_decoder(void *handle) {
    auto *d = (Decoder *)handle;
    if (!d) return;
    for (long i = 0; i < d->taken; i++) ::operator delete(d->memory[i], std::align_val_t(64));
    delete d;
}

void *make_decoder(const Shape *shape, const Room *room, const Packed *matrices, const float *const *vectors) {
    Decoder *made = nullptr;
    try {
        made = new Decoder{};
        Decoder &d = *made;
        d.shape = *shape, d.room = *room;
        const Shape &s = d.shape;
        long n_slots = MODEL_TENSORS + s.n_layers * BLOCK_TENSORS, t = room->max_rows;
        auto *own_matrices = d.take<Packed>(n_slots);
        auto *own_vectors = d.take<const float *>(n_slots);
        std::memcpy(own_matrices, matrices, size_t(n_slots) * sizeof *matrices);
        std::memcpy((void *)own_vectors, (const void *)vectors, size_t(n_slots) * sizeof *vectors);
        d.matrices = own_matrices, d.vectors = own_vectors;
        d.c = round_up(s.embedding_dim, 64), d.f = round_up(s.feed_forward_dim, 64);
        d.q = round_up(s.n_heads * s.head_dim, 64), d.kv = round_up(s.n_kv_heads * s.head_dim, 64);
        d.capacity = round_up(s.context_length, PANEL), d.depth = round_up(s.head_dim, PANEL);
        long widest = d.c > d.f ? d.c : d.f;
        if (d.q > widest) widest = d.q;
        auto prepared = [&](long rows) {
            Rounded rounded{d.take<int8_t>(rows * widest), d.take<float>(rows * widest / 32), d.take<int32_t>(rows * widest / 32), widest};
            return Prepared{d.take<float>(rows * d.c), rounded};
        };
        d.stream = d.take<float>(t * d.c), d.chosen = d.take<float>(t * d.c);
        d.queries = d.take<float>(t * d.q), d.context = d.take<float>(t * d.q);
        d.keys = d.take<float>(t * d.kv), d.values = d.take<float>(t * d.kv);
        d.gate = s.gated ? d.take<float>(t * d.f) : nullptr;
        d.inner = d.take<float>(t * d.f);
        d.shared = prepared(t);
        Prepared all = prepared(s.threads);  // a row for each thread, far enough apart
        d.own = d.take<Prepared>(s.threads);
        d.scores = d.take<float *>(s.threads), d.attended = d.take<float *>(s.threads);
        float *scores = d.take<float>(s.threads * FLOAT_ROWS * d.capacity), *attended = d.take<float>(s.threads * FLOAT_ROWS * d.depth);
        for (long i = 0; i < s.threads; i++) {
            const Rounded &r = all.rounded;
            Rounded row{r.values + i * widest, r.scales + i * widest / 32, r.offsets + i * widest / 32, widest};
            d.own[i] = {all.normed + i * d.c, row};
            d.scores[i] = scores + i * FLOAT_ROWS * d.capacity, d.attended[i] = attended + i * FLOAT_ROWS * d.depth;
        }
        if (room->n_slots > (1L << 46) / d.slot_bytes()) throw std::bad_alloc();  // more than an address reaches
        d.cache = d.take<char>(room->n_slots * d.slot_bytes(), false);
        return made;
    } catch (const std::bad_alloc &) {
        free_decoder(made);
        return nullptr;
    }
}

void run_decoder(void *handle, int64_t thread, const Spans *spans) { Pass{*(Decoder *)handle, *spans, long(thread)}.run(); }

// The keys and values of the first `length` positions of one slot, also to another.
void copy_slot(void *handle, int64_t source, int64_t target, int64_t length) {
    const Decoder &d = *(Decoder *)handle;
    long element = d.room.half_cache ? 2 : 4, panel = PANEL * d.capacity * element;
    for (long layer = 0; layer < d.shape.n_layers; layer++)
        for (long head = 0; head < d.shape.n_kv_heads; head++) {
            long keys = round_up(length, PANEL) * d.shape.head_dim * element;
            std::memcpy(d.key_cache(target, layer, head), d.key_cache(source, layer, head), size_t(keys));
            char *to = d.value_cache(target, layer, head);
            const char *from = d.value_cache(source, layer, head);
            for (long i = 0; i < d.depth / PANEL; i++)
                std::memcpy(to + i * panel, from + i * panel, size_t(length * PANEL * element));
        }
}

// Reads this thread's share of all weights that a token needs, and nothing else: the least time that a token can take.
int64_t read_weights(void *handle, int64_t thread) {
    const Decoder &d = *(Decoder *)handle;
    Words sums[8] = {};
    for (long slot = 0; slot < MODEL_TENSORS + d.shape.n_layers * BLOCK_TENSORS; slot++) {
        const Packed &m = d.matrices[slot];
        if (!m.values || (slot == TOKEN_EMBEDDING && !d.shape.tied)) continue;
        Size size = size_of(d.shape, slot);
        long panels = (size.n + PANEL - 1) / PANEL, bytes = panel_bytes(m.format, size.k);
        const char *from = (const char *)m.values + panels * thread / d.shape.threads * bytes;
        const char *end = (const char *)m.values + panels * (thread + 1) / d.shape.threads * bytes;
        for (; from + long(sizeof sums) <= end; from += sizeof sums)
            for (int i = 0; i < 8; i++) sums[i] += ((const LooseWords *)from)[i];
    }
    int64_t sum = 0;
    for (Words part : sums)
        for (int i = 0; i < LANES; i++) sum += part[i];
    return sum;
}

}  // namespace

extern "C" DecodeKernel GLASSGPT_TIER() {
    return {make_decoder, free_decoder, run_decoder, copy_slot, read_weights, choose_token, pack_panels};
}
