// From scores to a token: what glassgpt/generation/sampling.py does in numpy, in float64 as there, in one pass over
// the vocabulary for each step. The same scores give the same token.
#pragma once

#include <algorithm>
#include <cmath>

#include "interface.h"
#include "numbers.h"

namespace {

// e^x for x <= 0 to a unit in the last place: x = n ln 2 + r, the series of e^r, n put into the exponent.
inline double exponential(double x) {
    bool vanishes = !(x > -708.0);
    x = vanishes ? 0.0 : x;
    const double shifter = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to a whole number
    double shifted = x * 1.4426950408889634 + shifter;
    double n = shifted - shifter;
    double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    double result = p * bits_as<double>((bits_as<int64_t>(shifted) - 0x4338000000000000 + 1023) << 52);
    return vanishes ? 0.0 : result;
}

// The draw in [0, 1) of (seed, sequence, position): the first number of Philox 4x64 with ten rounds (Salmon et al.
// 2011), as numpy counts it.
inline double uniform(uint64_t seed, uint64_t sequence, uint64_t position) {
    uint64_t counter[4] = {position + 1, position + 1 == 0, 0, 0}, key[2] = {seed, sequence};
    for (int round = 0; round < 10; round++) {
        unsigned __int128 a = (unsigned __int128)counter[0] * 0xd2e7470ee14c6c93u;
        unsigned __int128 b = (unsigned __int128)counter[2] * 0xca5a826395121157u;
        counter[0] = uint64_t(b >> 64) ^ counter[1] ^ key[0];
        counter[2] = uint64_t(a >> 64) ^ counter[3] ^ key[1];
        counter[1] = uint64_t(b);
        counter[3] = uint64_t(a);
        key[0] += 0x9e3779b97f4a7c15u;
        key[1] += 0xbb67ae8584caa73bu;
    }
    return double(counter[0] >> 11) / 9007199254740992.0;  // the 53 high bits
}

// Who may be drawn: n ids, ascending, and what each weighs.
struct Candidates {
    int32_t *ids;
    double *weights;
    long n;
    // Those that weigh at least this. Equals of the last one kept stay too.
    void keep(double least) {
        long kept = 0;
        for (long i = 0; i < n; i++) {
            bool stays = weights[i] >= least;
            ids[kept] = ids[i];
            weights[kept] = weights[i];
            kept += stays;
        }
        n = kept;
    }
    double sum() const {
        double total = 0;
#pragma omp simd reduction(+ : total)
        for (long i = 0; i < n; i++) total += weights[i];
        return total;
    }
};

const auto higher = [](double a, double b) { return a > b; };

// The k-th highest of n values. `heap`, room for k, keeps the k highest so far, the least of them in front.
inline double kth_highest(const double *values, long n, long k, double *heap) {
    std::copy(values, values + k, heap);
    std::make_heap(heap, heap + k, higher);
    for (long i = k; i < n; i++)
        if (values[i] > heap[0]) {
            std::pop_heap(heap, heap + k, higher);
            heap[k - 1] = values[i];
            std::push_heap(heap, heap + k, higher);
        }
    return heap[0];
}

// The least weight among the fewest of the heaviest that hold the share `top_p` of all. Only those above a bound are
// sorted, which is lowered until they hold enough.
inline double nucleus(const Candidates &all, double top_p, double *sorted) {
    double total = all.sum(), bound = 0;
    for (long i = 0; i < all.n; i++) bound = all.weights[i] > bound ? all.weights[i] : bound;
    for (double held = 0; held < top_p * total && bound > 0;) {
        bound /= 8;
        held = 0;
#pragma omp simd reduction(+ : held)
        for (long i = 0; i < all.n; i++) held += all.weights[i] >= bound ? all.weights[i] : 0.0;
    }
    long n = 0, last = 0;
    for (long i = 0; i < all.n; i++) {
        sorted[n] = all.weights[i];
        n += all.weights[i] >= bound;
    }
    std::sort(sorted, sorted + n, higher);
    for (double sum = sorted[0] / total; sum < top_p && last + 1 < n; sum += sorted[last] / total) last++;
    return sorted[last];
}

// Where `draw`, in [0, 1), falls when the weights, laid end to end, are stretched to that length.
inline long fall(const Candidates &among, double draw) {
    constexpr long BLOCK = 256;
    double target = draw * among.sum(), before = 0;
    for (long first = 0;; first += BLOCK) {
        long n = among.n - first < BLOCK ? among.n - first : BLOCK;
        Candidates block{among.ids, among.weights + first, n};
        double end = before + block.sum();
        if (end <= target && first + n < among.n) {
            before = end;
            continue;
        }
        for (long i = first; i < first + n; i++)
            if ((before += among.weights[i]) > target) return i;
        long last = among.n - 1;  // the sums of a block and of its parts differ in the last digit
        while (last > 0 && among.weights[last] == 0) last--;
        return first + n < among.n ? first + n : last;
    }
}

// The highest of n values, or not a number where one of them is none.
template <class Number>
inline Number highest(const Number *values, long n) {
    Number top = values[0], others = 0;
#pragma omp simd reduction(max : top) reduction(+ : others)
    for (long i = 0; i < n; i++) {
        top = values[i] > top ? values[i] : top;
        others += values[i] != values[i] ? Number(1) : Number(0);
    }
    return others == 0 ? top : others / 0;
}

template <class Number>
inline int64_t first_of(const Number *values, long n, Number wanted) {
    constexpr long BLOCK = 64;
    long first = 0;
    for (Number found = 0; found == 0 && first + BLOCK <= n; first += found == 0 ? BLOCK : 0)
#pragma omp simd reduction(+ : found)
        for (long i = first; i < first + BLOCK; i++) found += values[i] == wanted ? Number(1) : Number(0);
    while (values[first] != wanted) first++;
    return first;
}

// The token after `n_ids` others, from its scores; -1 where the highest of them is no finite number. `room` holds
// 3 V doubles.
int64_t choose_token(const float *scores, int64_t vocab_size, const Choice *choice, const int64_t *ids, int64_t n_ids, double *room) {
    double *weights = room, *work = room + vocab_size;
    bool penalised = choice->repetition_penalty != 1.0 && ids && n_ids;
    if (choice->temperature == 0 && !penalised) {
        float top = highest(scores, vocab_size);
        return std::isfinite(top) ? first_of(scores, vocab_size, top) : -1;
    }
    for (long i = 0; i < vocab_size; i++) weights[i] = double(scores[i]);
    for (long i = 0; penalised && i < n_ids; i++) {
        double score = double(scores[ids[i]]), penalty = choice->repetition_penalty;
        weights[ids[i]] = score > 0 ? score / penalty : score * penalty;
    }
    double top = highest(weights, vocab_size);
    if (!std::isfinite(top)) return -1;
    if (choice->temperature == 0) return first_of(weights, vocab_size, top);

    Candidates left{(int32_t *)(room + 2 * vocab_size), weights, vocab_size};
    for (long i = 0; i < vocab_size; i++) left.ids[i] = int32_t(i);
    for (long i = 0; i < vocab_size; i++) weights[i] = (weights[i] - top) / choice->temperature;
    if (choice->top_k && choice->top_k < vocab_size) left.keep(kth_highest(weights, vocab_size, choice->top_k, work));
#pragma omp simd
    for (long i = 0; i < left.n; i++) weights[i] = exponential(weights[i]);
    if (choice->top_p < 1) left.keep(nucleus(left, choice->top_p, work));
    if (choice->min_p > 0) left.keep(choice->min_p * highest(weights, left.n));
    return left.ids[fall(left, uniform(choice->seed, choice->sequence, uint64_t(n_ids)))];
}

}  // namespace
