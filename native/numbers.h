// Numbers: the vector of this tier, bf16, and the functions that a transformer needs of a single float.
//
// Each tier (see tiers.cpp) compiles these files with other instructions switched on. Everything lies in an
// unnamed namespace, so that no function of one tier can stand in for another's.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, VECTORS = 4;  // floats in a vector; vectors side by side in a tile of the matrix product
#elif defined(__AVX2__)
constexpr int LANES = 8, VECTORS = 2;
#else
constexpr int LANES = 4, VECTORS = 4;
#endif

typedef float Vector __attribute__((vector_size(LANES * 4)));
typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));  // a vector anywhere in memory

typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef uint32_t LooseWords __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

template <class To, class From>
inline To bits_as(From value) {
    return __builtin_bit_cast(To, value);
}

// bf16 is the upper half of a float; rounded to the nearest, ties to even.
typedef uint16_t Half;

inline Half to_half(float value) {
    uint32_t bits = bits_as<uint32_t>(value);
    return Half((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float to_float(Half half) { return bits_as<float>(uint32_t(half) << 16); }
inline float to_float(float value) { return value; }

// What the operands of a matrix product are made of. A unit is what one lane takes at once: a float, or two
// neighbours along the summed index in bf16 (the processor adds both products to an fp32 sum).
struct Float32 {
    typedef float Element;
    typedef float Unit;
    static constexpr int PAIR = 1;
    static Element round(float value) { return value; }
    static Unit unit(Element low, Element) { return low; }
    static Vector load(const Unit *from) { return *(const Loose *)from; }
    static Vector spread(Unit value) { return Vector{} + value; }
    static void multiply_add(Vector &sum, Vector a, Vector b) { sum += a * b; }
};

#if defined(__AVX512BF16__)
struct BFloat16 {
    typedef Half Element;
    typedef uint32_t Unit;
    static constexpr int PAIR = 2;
    static Element round(float value) { return to_half(value); }
    static Unit unit(Element low, Element high) { return uint32_t(low) | uint32_t(high) << 16; }
    static Vector load(const Unit *from) { return *(const Loose *)from; }
    static Vector spread(Unit value) { return (Vector)_mm512_set1_epi32(int(value)); }
    static void multiply_add(Vector &sum, Vector a, Vector b) {
        // As an instruction, because GCC 12 copies the sums around the intrinsic.
        asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    }
};
#endif

// e^x to 2 units in the last place: x = n ln 2 + r, then a polynomial in r and n put into the exponent.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    float shifted = x * 1.44269504f + shifter;
    float n = shifted - shifter;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * bits_as<float>((bits_as<int32_t>(shifted) - 0x4b400000 + 127) << 23);
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

inline float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

// One draw of 32 bits for an index: the finaliser of MurmurHash3 over the index and two keys. What is dropped can
// so be computed again in the backward pass instead of being kept.
inline uint32_t draw(uint32_t index, uint32_t key, uint32_t second_key) {
    uint32_t h = index * 0x9e3779b1u + key;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h = (h ^ second_key) * 0xc2b2ae35u;
    return h ^ (h >> 16);
}

#if defined(__AVX512F__)
#define LOW_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define LOW_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOW_HALVES 0, 4, 1, 5
#define HIGH_HALVES 2, 6, 3, 7
#endif

// Transposes a square of LANES x LANES words: to interleave row i with row i + LANES / 2, log2(LANES) times over.
inline void transpose(Words rows[LANES]) {
#pragma GCC unroll 4
    for (int step = LANES; step > 1; step /= 2) {
        Words next[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], LOW_HALVES);
            next[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], HIGH_HALVES);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
}

inline long round_up(long value, long multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace
