// The parts of a transformer block that are not matrix products, forward and backward, for rows of tokens.
//
// N tokens in this call, C width of the residual stream, D width of one head. Element is the type that matrix
// products read (numbers.h); everything else is fp32. A backward function adds to the gradients it is given.
#pragma once

#include <cmath>

#include "gemm.h"

namespace {

// Normalisation over C features, y = (x - mean) * factor * scale + shift, factor = 1 / sqrt(variance + eps).
// RMSNorm has neither mean nor shift (null). Mean and factor are kept for the backward pass.
template <class Op>
void norm_forward(const float *x, long n, long c, const float *scale, const float *shift, float eps,
                  typename Op::Element *y, float *means, float *factors) {
    for (long i = 0; i < n; i++, x += c, y += c) {
        float mean = 0, squares = 0;
        if (shift) {
#pragma omp simd reduction(+ : mean)
            for (long j = 0; j < c; j++) mean += x[j];
            mean /= float(c);
        }
#pragma omp simd reduction(+ : squares)
        for (long j = 0; j < c; j++) squares += (x[j] - mean) * (x[j] - mean);
        float factor = 1.0f / std::sqrt(squares / float(c) + eps);
        if (shift) {
            means[i] = mean;
#pragma omp simd
            for (long j = 0; j < c; j++) y[j] = Op::round((x[j] - mean) * factor * scale[j] + shift[j]);
        } else {
#pragma omp simd
            for (long j = 0; j < c; j++) y[j] = Op::round(x[j] * factor * scale[j]);
        }
        factors[i] = factor;
    }
}

// With h = (x - mean) * factor and g = dy * scale:  dx += factor * (g - mean(g) - h * mean(g h))  (no mean(g) in RMSNorm)
void norm_backward(const float *dy, const float *x, long n, long c, const float *scale, const float *means,
                   const float *factors, float *dx, float *d_scale, float *d_shift) {
    for (long i = 0; i < n; i++, x += c, dy += c, dx += c) {
        float mean = d_shift ? means[i] : 0.0f, factor = factors[i], sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
        for (long j = 0; j < c; j++) {
            float g = dy[j] * scale[j];
            sum += g;
            product += g * (x[j] - mean);
        }
        sum = d_shift ? sum / float(c) : 0.0f;
        product *= factor * factor / float(c);
#pragma omp simd
        for (long j = 0; j < c; j++) {
            float centred = x[j] - mean;
            d_scale[j] += dy[j] * centred * factor;
            dx[j] += factor * (dy[j] * scale[j] - sum - centred * product);
        }
        if (d_shift) {
#pragma omp simd
            for (long j = 0; j < c; j++) d_shift[j] += dy[j];
        }
    }
}

// Inner activation of the feed-forward: SwiGLU, silu(gate) * up, or where there is no gate GELU (tanh form) of up.
template <class Op>
void activation_forward(const float *gate, const float *up, long n, typename Op::Element *y) {
    if (gate) {
#pragma omp simd
        for (long i = 0; i < n; i++) y[i] = Op::round(gate[i] * sigmoid(gate[i]) * up[i]);
    } else {
#pragma omp simd
        for (long i = 0; i < n; i++) {
            float u = up[i];
            y[i] = Op::round(0.5f * u * (1.0f + hyperbolic_tangent(0.7978845608f * (u + 0.044715f * u * u * u))));
        }
    }
}

template <class Op>
void activation_backward(const float *dy, const float *gate, const float *up, long n, typename Op::Element *d_gate,
                         typename Op::Element *d_up) {
    if (gate) {
#pragma omp simd
        for (long i = 0; i < n; i++) {
            float s = sigmoid(gate[i]), silu = gate[i] * s;
            d_gate[i] = Op::round(dy[i] * up[i] * (s + silu * (1.0f - s)));
            d_up[i] = Op::round(dy[i] * silu);
        }
    } else {
#pragma omp simd
        for (long i = 0; i < n; i++) {
            float u = up[i], t = hyperbolic_tangent(0.7978845608f * (u + 0.044715f * u * u * u));
            float slope = 0.7978845608f * (1.0f + 3.0f * 0.044715f * u * u);
            d_up[i] = Op::round(dy[i] * (0.5f * (1.0f + t) + 0.5f * u * (1.0f - t * t) * slope));
        }
    }
}

// One head of one token on its way to attention: QK-norm (scale null: none), then rotary positions (cos null: none).
template <class Op>
void head_forward(const float *x, long d, const float *scale, float eps, const float *cos, const float *sin,
                  float *factor, typename Op::Element *y) {
    float f = 1.0f;
    if (scale) {
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (long j = 0; j < d; j++) squares += x[j] * x[j];
        f = 1.0f / std::sqrt(squares / float(d) + eps);
    }
    *factor = f;
    long half = d / 2;
    if (!cos) {
        for (long j = 0; j < d; j++) y[j] = Op::round(scale ? x[j] * f * scale[j] : x[j]);
        return;
    }
#pragma omp simd
    for (long j = 0; j < half; j++) {
        float a = scale ? x[j] * f * scale[j] : x[j], b = scale ? x[j + half] * f * scale[j + half] : x[j + half];
        y[j] = Op::round(a * cos[j] - b * sin[j]);
        y[j + half] = Op::round(b * cos[j] + a * sin[j]);
    }
}

// The way back. `work` has room for d floats.
template <class Op>
void head_backward(const float *dy, const float *x, long d, const float *scale, float factor, const float *cos,
                   const float *sin, float *d_scale, float *work, typename Op::Element *dx) {
    long half = d / 2;
    if (cos) {
#pragma omp simd
        for (long j = 0; j < half; j++) {
            work[j] = dy[j] * cos[j] + dy[j + half] * sin[j];
            work[j + half] = dy[j + half] * cos[j] - dy[j] * sin[j];
        }
    } else {
        std::memcpy(work, dy, size_t(d) * sizeof *work);
    }
    float product = 0;
    if (scale) {
#pragma omp simd reduction(+ : product)
        for (long j = 0; j < d; j++) {
            d_scale[j] += work[j] * x[j] * factor;
            product += work[j] * scale[j] * x[j];
        }
        product *= factor * factor / float(d);
#pragma omp simd
        for (long j = 0; j < d; j++) dx[j] = Op::round(factor * (work[j] * scale[j] - x[j] * product));
    } else {
#pragma omp simd
        for (long j = 0; j < d; j++) dx[j] = Op::round(work[j]);
    }
}

struct Dropout {
    uint32_t threshold;  // of 2^32; 0: nothing is dropped
    uint32_t key;
    float scale;  // 1 / (1 - rate)
    float factor(uint32_t index, uint32_t place) const { return draw(index, key, place) < threshold ? 0.0f : scale; }
};

// Causal attention of one head of one sequence, a block of queries at a time, so that the products skip the keys
// that lie ahead of a block. Q, K, V, O are (T, D) with `row` elements from one token to the next.
constexpr long QUERIES = 8 * MR;

template <class Op>
struct AttentionSpace {
    typedef typename Op::Element Element;
    typedef typename Op::Unit Unit;
    long t, d, padded;         // padded: T rounded up, the width of a row of weights
    Unit *keys, *key_columns;  // K^T (sum over D) and K (sum over keys), packed
    Unit *values, *value_rows; // V (sum over keys) and V^T (sum over D), packed
    Unit *queries, *outputs;   // Q and dO, packed with the sum over queries
    float *scores, *more;      // (QUERIES, padded)
    Element *weights, *d_weights;  // (T, padded): what attention multiplies V with, and the gradient of the scores
    Unit *left;                // one of the two above, transposed
};

// Weights of the queries from `first` on: scores to softmax to dropout; the log of the sum is kept or given.
template <class Op>
void attention_weights(const AttentionSpace<Op> &s, long first, long rows, const typename Op::Element *q, long row,
                       float *log_sums, bool known, Dropout dropout, uint32_t index, uint32_t place, typename Op::Element *weights) {
    long seen = first + rows;  // keys up to the last query of the block
    float scale = 1.0f / std::sqrt(float(s.d));
    uint32_t keys = uint32_t(s.t);
    multiply<Op>(rows, seen, units<Op>(s.d), (const typename Op::Unit *)(q + first * row), row / Op::PAIR, 1, s.keys,
                 units<Op>(s.d) * NR, s.scores, s.padded, false);
    for (long i = 0; i < rows; i++) {
        float *p = s.scores + i * s.padded;
        long own = first + i + 1;  // keys this query sees
        if (!known) {
            float top = p[0], sum = 0;
#pragma omp simd reduction(max : top)
            for (long j = 0; j < own; j++) top = p[j] > top ? p[j] : top;
#pragma omp simd reduction(+ : sum)
            for (long j = 0; j < own; j++) sum += exponential((p[j] - top) * scale);
            log_sums[first + i] = top * scale + std::log(sum);
        }
        float log_sum = log_sums[first + i];
#pragma omp simd
        for (long j = 0; j < own; j++) p[j] = exponential(p[j] * scale - log_sum);
        typename Op::Element *w = weights + i * s.padded;
        if (dropout.threshold) {
            uint32_t at = (index + uint32_t(first + i)) * keys;
#pragma omp simd
            for (long j = 0; j < own; j++) w[j] = Op::round(p[j] * dropout.factor(at + uint32_t(j), place));
        } else {
#pragma omp simd
            for (long j = 0; j < own; j++) w[j] = Op::round(p[j]);
        }
        for (long j = own; j < round_up(seen, 2); j++) w[j] = typename Op::Element{};
    }
}

template <class Op>
void attention_forward(const AttentionSpace<Op> &s, const typename Op::Element *q, const typename Op::Element *k,
                       const typename Op::Element *v, long row, Dropout dropout, uint32_t index, uint32_t place,
                       float *log_sums, float *o, long o_row) {
    pack_rows<Op>(k, s.t, s.d, row, s.keys);
    pack_columns<Op>(v, s.t, s.d, row, s.values, NR);
    for (long first = 0; first < s.t; first += QUERIES) {
        long rows = s.t - first < QUERIES ? s.t - first : QUERIES;
        attention_weights<Op>(s, first, rows, q, row, log_sums, false, dropout, index, place, s.weights);
        multiply<Op>(rows, s.d, units<Op>(first + rows), (const typename Op::Unit *)s.weights, s.padded / Op::PAIR, 1,
                     s.values, units<Op>(s.t) * NR, o + first * o_row, o_row, false);
    }
}

// Gradients of the three (T, D), fp32, from that of the output, d_o; dk and dv are added to (query heads share them).
template <class Op>
void attention_backward(const AttentionSpace<Op> &s, const typename Op::Element *q, const typename Op::Element *k,
                        const typename Op::Element *v, long row, const typename Op::Element *o,
                        const typename Op::Element *d_o, long o_row, Dropout dropout, uint32_t index,
                        uint32_t place, float *log_sums, float *dq, float *dk, float *dv, long d_row) {
    typedef typename Op::Unit Unit;
    float scale = 1.0f / std::sqrt(float(s.d));
    pack_rows<Op>(k, s.t, s.d, row, s.keys);
    pack_columns<Op>(k, s.t, s.d, row, s.key_columns, NR);
    pack_rows<Op>(v, s.t, s.d, row, s.value_rows);
    pack_columns<Op>(q, s.t, s.d, row, s.queries, NR);
    pack_columns<Op>(d_o, s.t, s.d, o_row, s.outputs, NR);
    for (long first = 0; first < s.t; first += QUERIES) {
        long rows = s.t - first < QUERIES ? s.t - first : QUERIES, seen = first + rows;
        attention_weights<Op>(s, first, rows, q, row, log_sums, true, dropout, index, place, s.weights + first * s.padded);
        multiply<Op>(rows, seen, units<Op>(s.d), (const Unit *)(d_o + first * o_row), o_row / Op::PAIR, 1, s.value_rows,
                     units<Op>(s.d) * NR, s.more, s.padded, false);
        for (long i = 0; i < rows; i++) {
            const float *p = s.scores + i * s.padded;
            const float *dp = s.more + i * s.padded;
            auto *ds = s.d_weights + (first + i) * s.padded;
            const auto *oi = o + (first + i) * o_row, *doi = d_o + (first + i) * o_row;
            long own = first + i + 1;
            float delta = 0;  // sum of p dp over the keys = o . d_o
            long width = s.d;
#pragma omp simd reduction(+ : delta)
            for (long j = 0; j < width; j++) delta += to_float(oi[j]) * to_float(doi[j]);
            if (dropout.threshold) {
                uint32_t at = (index + uint32_t(first + i)) * uint32_t(s.t);
#pragma omp simd
                for (long j = 0; j < own; j++)
                    ds[j] = Op::round(p[j] * (dp[j] * dropout.factor(at + uint32_t(j), place) - delta) * scale);
            } else {
#pragma omp simd
                for (long j = 0; j < own; j++) ds[j] = Op::round(p[j] * (dp[j] - delta) * scale);
            }
            for (long j = own; j < round_up(seen, 2); j++) ds[j] = typename Op::Element{};
        }
        multiply<Op>(rows, s.d, units<Op>(seen), (const Unit *)(s.d_weights + first * s.padded), s.padded / Op::PAIR, 1,
                     s.key_columns, units<Op>(s.t) * NR, dq + first * d_row, d_row, false);
    }
    for (int which = 0; which < 2; which++) {  // dK = dS^T Q, dV = weights^T dO; keys see the queries from their own on
        const Unit *right = which ? s.outputs : s.queries;
        float *to = which ? dv : dk;
        pack_columns<Op>(which ? s.weights : s.d_weights, s.t, s.t, s.padded, s.left, s.t);
        for (long first = 0; first < s.t; first += QUERIES) {
            long keys = s.t - first < QUERIES ? s.t - first : QUERIES, skipped = first / Op::PAIR;
            multiply<Op>(keys, s.d, units<Op>(s.t) - skipped, s.left + skipped * s.t + first, 1, s.t,
                         right + skipped * NR, units<Op>(s.t) * NR, to + first * d_row, d_row, true);
        }
    }
}

}  // namespace
