// y = W x for a few rows x at a time, W in one of four formats: nearly all the time of generating goes here.
//
// A matrix W (N outputs, K inputs) lies in panels of 16 rows, as glassgpt/native/packing.py lays it out: a vector
// holds the same column of neighbouring rows. No sum runs across a vector; each output has a lane of its own, which
// adds up its K products in the order of the columns. That order is the same for one row of x or for six, for one
// panel or four, in whichever thread: so is every bit of the result, and a text does not depend on what is computed
// beside it.
//
//     fp32         y[n] = sum of W[n, k] x[k]
//     bf16         the same, x in fp32; the even columns have a sum of their own, and the odd ones
//     int8, int4   W[n, k] = q[n, k] * scale[n, group of k]. x is rounded to int8 with a scale for each group too
//                  (64 columns in int8, 32 in int4); the products within a group add up to a whole number, exactly,
//                  the groups in fp32
#pragma once

#include "interface.h"
#include "numbers.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr long PANEL = 16;
constexpr int PARTS = PANEL / LANES;  // vectors side by side in a panel

// Rows of x and panels of W that meet in registers at a time; FLOAT_ALONE: where there are few rows. Memory is read
// fastest, in fp32 as four streams, in the other formats as one that is asked for ahead of time (docs/log.md).
#if defined(__AVX512F__)
constexpr int FLOAT_ROWS = 6, FLOAT_PANELS = 4, FLOAT_ALONE = 4;
constexpr int WHOLE_ROWS = 8, WHOLE_PANELS = 1, HALF_ROWS = 6, HALF_PANELS = 2;
#elif defined(__AVX2__)
constexpr int FLOAT_ROWS = 6, FLOAT_PANELS = 1, FLOAT_ALONE = 2;
constexpr int WHOLE_ROWS = 2, WHOLE_PANELS = 1, HALF_ROWS = 2, HALF_PANELS = 1;
#else
constexpr int FLOAT_ROWS = 2, FLOAT_PANELS = 1, FLOAT_ALONE = 1;
constexpr int WHOLE_ROWS = 1, WHOLE_PANELS = 1, HALF_ROWS = 1, HALF_PANELS = 1;
#endif
constexpr long AHEAD = 8192;  // bytes

typedef int32_t Whole __attribute__((vector_size(LANES * 4)));
typedef int32_t LooseWhole __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef Half LooseHalves __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

inline Vector load(const float *from) { return *(const Loose *)from; }
inline Vector load(const Half *from) {
    return (Vector)(__builtin_convertvector(*(const LooseHalves *)from, Words) << 16);
}

inline void store(float *to, Vector value, bool add) { *(Loose *)to = add ? *(Loose *)to + value : value; }

// Rows of x (rows, K), rounded to int8 in groups: x[k] = values[k] * scales[group of k].
struct Rounded {
    int8_t *values;     // (rows, width)
    float *scales;      // (rows, width / group)
    int32_t *offsets;   // (rows, width / group): where the whole sum of a group begins, see Int8::OFFSET
    long width;         // K rounded up to whole groups; the rest is 0
};

// The weights of a format as the instructions want them: unsigned bytes, q + OFFSET. With x . (q + OFFSET) =
// x . q + OFFSET * (sum of x), a sum that begins at -OFFSET * (sum of x) ends at x . q.
struct Int8 {
    static constexpr long GROUP = 64, QUADS = 1;  // QUADS: fours of columns in a word
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
    static constexpr int32_t OFFSET = 0;  // products of unsigned bytes up to 255 would overflow: see `dot`
#else
    static constexpr int32_t OFFSET = 128;
#endif
    static Whole quad(Whole word, int) { return word; }
};

struct Int4 {
    static constexpr long GROUP = 32, QUADS = 2;
    static constexpr int32_t OFFSET = 8;
    static Whole quad(Whole word, int which) { return (which ? (Whole)((Words)word >> 4) : word) & 0x0f0f0f0f; }
};

// sum[lane] += the products of four unsigned bytes of w with the four signed bytes of x.
template <class Format>
inline void dot(Whole &sum, Whole w, int32_t x) {
#if defined(__AVX512VNNI__)
    // As an instruction, because GCC 12 copies the sums around the intrinsic.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(_mm512_set1_epi32(x)));
#elif defined(__AVX2__)
    const auto multiply = [](__m256i bytes, __m256i spread) {
        if (Format::OFFSET) return _mm256_maddubs_epi16(bytes, spread);  // at most 15 * 127 * 2
        // The sign of x goes to q, which is at most 127 in size, as is |x|: 127 * 127 * 2 fits 16 bits.
        __m256i q = _mm256_xor_si256(bytes, _mm256_set1_epi8(char(0x80)));
        return _mm256_maddubs_epi16(_mm256_abs_epi8(spread), _mm256_sign_epi8(q, spread));
    };
    const __m256i ones = _mm256_set1_epi16(1), spread = _mm256_set1_epi32(x);
#if defined(__AVX512F__)
    __m256i low = _mm256_madd_epi16(multiply(_mm512_castsi512_si256((__m512i)w), spread), ones);
    __m256i high = _mm256_madd_epi16(multiply(_mm512_extracti64x4_epi64((__m512i)w, 1), spread), ones);
    sum += (Whole)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
#else
    sum += (Whole)_mm256_madd_epi16(multiply((__m256i)w, spread), ones);
#endif
#else
    for (int i = 0; i < 4; i++) sum += (Whole)((Words)w >> (8 * i) & 0xff) * int32_t(int8_t(x >> (8 * i)));
#endif
}

// y (ROWS, 16 PANELS) = x W^T, or is added to; x (ROWS, k). `panel`: elements from one panel of W to the next.
template <class Element, int ROWS, int PANELS>
inline void tile(const float *x, long x_row, const Element *w, long panel, long k, float *y, long y_row, bool add) {
    constexpr int WIDTH = PANELS * PARTS;
    Vector sums[ROWS][WIDTH];
#pragma GCC unroll 32
    for (int i = 0; i < ROWS * WIDTH; i++) sums[i / WIDTH][i % WIDTH] = Vector{};
    for (long j = 0; j < k; j++, w += PANEL) {
        Vector weights[WIDTH];
#pragma GCC unroll 16
        for (int v = 0; v < WIDTH; v++) weights[v] = load(w + v / PARTS * panel + v % PARTS * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            Vector spread = Vector{} + x[r * x_row + j];
#pragma GCC unroll 16
            for (int v = 0; v < WIDTH; v++) sums[r][v] += spread * weights[v];
        }
    }
#pragma GCC unroll 32
    for (int i = 0; i < ROWS * WIDTH; i++) {
        int v = i % WIDTH;
        store(y + i / WIDTH * y_row + v * LANES, sums[i / WIDTH][v], add);
    }
}

// The same with matrices in bf16, where two columns share a word: the even one in its lower half.
template <int ROWS, int PANELS>
inline void tile_of_pairs(const float *x, long x_row, const uint32_t *w, long panel, long k, float *y, long y_row, bool add,
                          bool first) {
    constexpr int WIDTH = PANELS * PARTS;
    Vector even[ROWS][WIDTH], odd[ROWS][WIDTH];
#pragma GCC unroll 32
    for (int i = 0; i < ROWS * WIDTH; i++) even[i / WIDTH][i % WIDTH] = odd[i / WIDTH][i % WIDTH] = Vector{};
    for (long j = 0; j < k; j += 2, w += PANEL) {
        Words words[WIDTH];
        if (first) __builtin_prefetch((const char *)w + AHEAD);
#pragma GCC unroll 16
        for (int v = 0; v < WIDTH; v++) words[v] = *(const LooseWords *)(w + v / PARTS * panel + v % PARTS * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            Vector left = Vector{} + x[r * x_row + j], right = Vector{} + x[r * x_row + j + 1];
#pragma GCC unroll 16
            for (int v = 0; v < WIDTH; v++) {
                even[r][v] += left * (Vector)(words[v] << 16);
                odd[r][v] += right * (Vector)(words[v] & 0xffff0000u);
            }
        }
    }
#pragma GCC unroll 32
    for (int i = 0; i < ROWS * WIDTH; i++) {
        int v = i % WIDTH;
        store(y + i / WIDTH * y_row + v * LANES, even[i / WIDTH][v] + odd[i / WIDTH][v], add);
    }
}

// The same with whole numbers. `w` and `scales` begin at the first panel, `x` at row `row`.
template <class Format, int ROWS, int PANELS>
inline void tile(const Rounded &x, long row, const uint8_t *w, const Half *scales, float *y, long y_row, bool add) {
    constexpr int WIDTH = PANELS * PARTS;
    constexpr long WORDS = Format::GROUP / 4 / Format::QUADS;  // words of a group, for each lane
    const long groups = x.width / Format::GROUP, panel = groups * WORDS * 4 * PANEL;
    const int8_t *from = x.values + row * x.width;
    const float *x_scales = x.scales + row * groups;
    const int32_t *offsets = x.offsets + row * groups;
    Vector sums[ROWS][WIDTH];
#pragma GCC unroll 32
    for (int i = 0; i < ROWS * WIDTH; i++) sums[i / WIDTH][i % WIDTH] = Vector{};
    for (long g = 0; g < groups; g++) {
        Whole whole[ROWS][WIDTH];
#pragma GCC unroll 32
        for (int i = 0; i < ROWS * WIDTH; i++) whole[i / WIDTH][i % WIDTH] = Whole{} + offsets[i / WIDTH * groups + g];
        for (long j = 0; j < WORDS; j++, w += 4 * PANEL) {
            Whole words[WIDTH];
            if (row == 0) __builtin_prefetch(w + AHEAD);
#pragma GCC unroll 16
            for (int v = 0; v < WIDTH; v++) words[v] = *(const LooseWhole *)(w + v / PARTS * panel + v % PARTS * LANES * 4);
#pragma GCC unroll 2
            for (int quad = 0; quad < Format::QUADS; quad++, from += 4)
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; r++) {
                    int32_t four;
                    std::memcpy(&four, from + r * x.width, 4);
#pragma GCC unroll 16
                    for (int v = 0; v < WIDTH; v++) dot<Format>(whole[r][v], Format::quad(words[v], quad), four);
                }
        }
#pragma GCC unroll 16
        for (int v = 0; v < WIDTH; v++) {
            Vector scale = load(scales + v / PARTS * groups * PANEL + v % PARTS * LANES);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++)
                sums[r][v] += __builtin_convertvector(whole[r][v], Vector) * (scale * x_scales[r * groups + g]);
        }
        scales += PANEL;
    }
#pragma GCC unroll 32
    for (int i = 0; i < ROWS * WIDTH; i++) {
        int v = i % WIDTH;
        store(y + i / WIDTH * y_row + v * LANES, sums[i / WIDTH][v], add);
    }
}

// Calls use.template operator()<n, PANELS>(row, panel) for the n rows from `row` on, at most ROWS.
template <int ROWS, int PANELS, class Use>
inline void cover_rows(long n, long row, long panel, const Use &use) {
    if constexpr (ROWS == 1) {
        use.template operator()<1, PANELS>(row, panel);
    } else {
        if (n == ROWS) use.template operator()<ROWS, PANELS>(row, panel);
        else cover_rows<ROWS - 1, PANELS>(n, row, panel, use);
    }
}

// The same until all rows met all panels: where the rows fit a tile, as many panels at a time as memory is read fastest
// with (ALONE); else PANELS of them, which stay in the cache while all rows pass by.
template <int ROWS, int PANELS, int ALONE, class Use>
inline void cover(long rows, long panels, const Use &use) {
    if (rows <= ROWS) {
        long panel = 0;
        for (; panel + ALONE <= panels; panel += ALONE) cover_rows<ROWS, ALONE>(rows, 0, panel, use);
        for (; panel < panels; panel++) cover_rows<ROWS, 1>(rows, 0, panel, use);
        return;
    }
    for (long panel = 0; panel < panels;) {
        bool full = panel + PANELS <= panels;
        for (long row = 0; row < rows; row += ROWS) {
            long n = rows - row < ROWS ? rows - row : ROWS;
            full ? cover_rows<ROWS, PANELS>(n, row, panel, use) : cover_rows<ROWS, 1>(n, row, panel, use);
        }
        panel += full ? PANELS : 1;
    }
}

template <class Element>
struct FloatTiles {
    const float *x;
    const Element *w;
    float *y;
    long x_row, panel, k, y_row;
    bool add;
    template <int ROWS, int PANELS>
    void operator()(long row, long at) const {
        tile<Element, ROWS, PANELS>(x + row * x_row, x_row, w + at * panel, panel, k, y + row * y_row + at * PANEL, y_row, add);
    }
};

struct PairTiles {
    const float *x;
    const uint32_t *w;
    float *y;
    long x_row, panel, k, y_row;
    bool add;
    template <int ROWS, int PANELS>
    void operator()(long row, long at) const {
        tile_of_pairs<ROWS, PANELS>(x + row * x_row, x_row, w + at * panel, panel, k, y + row * y_row + at * PANEL, y_row, add,
                                    row == 0);
    }
};

template <class Format>
struct WholeTiles {
    const Rounded &x;
    const uint8_t *w;
    const Half *scales;
    float *y;
    long y_row;
    bool add;
    template <int ROWS, int PANELS>
    void operator()(long row, long at) const {
        long groups = x.width / Format::GROUP, bytes = x.width / Format::QUADS * PANEL;
        tile<Format, ROWS, PANELS>(x, row, w + at * bytes, scales + at * groups * PANEL, y + row * y_row + at * PANEL, y_row, add);
    }
};

// x (rows, k) with a matrix of floats: k elements a column of a panel, panels `panel` elements apart.
template <class Element>
void float_product(const float *x, long x_row, long rows, const Element *w, long panel, long panels, long k, float *y,
                   long y_row, bool add) {
    cover<FLOAT_ROWS, FLOAT_PANELS, FLOAT_ALONE>(rows, panels, FloatTiles<Element>{x, w, y, x_row, panel, k, y_row, add});
}

// Input of a product: rows as floats, and rounded where the matrix wants whole numbers.
struct Input {
    const float *x;
    long x_row, k;
    Rounded rounded;
};

inline bool is_whole(const Packed &m) { return m.format == INT8 || m.format == INT4; }

// y (rows, 16 panels) = x W^T over the panels from `first` to `end` of W; y begins at panel 0.
void product(const Input &in, long rows, const Packed &m, long first, long end, float *y, long y_row, bool add) {
    y += first * PANEL;
    long panel = in.k * PANEL, width = in.rounded.width;
    const uint8_t *bytes = (const uint8_t *)m.values;
    switch (m.format) {
        case FP32:
            return float_product(in.x, in.x_row, rows, (const float *)m.values + first * panel, panel, end - first, in.k, y, y_row, add);
        case BF16:
            panel = round_up(in.k, 2) / 2 * PANEL;
            return cover<HALF_ROWS, HALF_PANELS, 1>(
                rows, end - first,
                PairTiles{in.x, (const uint32_t *)m.values + first * panel, y, in.x_row, panel, in.k, y_row, add});
        case INT8:
            return cover<WHOLE_ROWS, WHOLE_PANELS, 1>(
                rows, end - first,
                WholeTiles<Int8>{in.rounded, bytes + first * width * PANEL, m.scales + first * width / Int8::GROUP * PANEL, y, y_row, add});
        case INT4:
            return cover<WHOLE_ROWS, WHOLE_PANELS, 1>(
                rows, end - first,
                WholeTiles<Int4>{in.rounded, bytes + first * width / 2 * PANEL, m.scales + first * width / Int4::GROUP * PANEL, y, y_row, add});
    }
}

// Round one row to int8 in groups, to the nearest, ties to even.
void round_row(const float *x, long group, int32_t offset, const Rounded &to, long row) {
    long groups = to.width / group;
    for (long g = 0; g < groups; g++, x += group) {
        float top = 0;
#pragma omp simd reduction(max : top)
        for (long j = 0; j < group; j++) {
            float size = x[j] < 0 ? -x[j] : x[j];
            top = size > top ? size : top;
        }
        float factor = top > 1e-30f ? 127.0f / top : 0.0f;
        int8_t *q = to.values + row * to.width + g * group;
        const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
        int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long j = 0; j < group; j++) {
            int32_t whole = bits_as<int32_t>(x[j] * factor + shifter) - 0x4b400000;
            q[j] = int8_t(whole);
            sum += whole;
        }
        to.scales[row * groups + g] = top > 1e-30f ? top / 127.0f : 0.0f;
        to.offsets[row * groups + g] = -offset * sum;
    }
}

// The columns from `first` to `end` of row n of a matrix: the embedding of a token.
void unpack_row(const Packed &m, long n, long first, long end, long k, float *to) {
    long panel = n / PANEL, lane = n % PANEL;
    if (m.format == FP32) {
        const float *from = (const float *)m.values + panel * k * PANEL + lane;
        for (long j = first; j < end; j++) to[j] = from[j * PANEL];
    } else if (m.format == BF16) {
        const Half *from = (const Half *)m.values + panel * round_up(k, 2) * PANEL + lane * 2;
        for (long j = first; j < end; j++) to[j] = to_float(from[j / 2 * 2 * PANEL + j % 2]);
    } else if (m.format == INT8) {
        long width = round_up(k, Int8::GROUP);
        const uint8_t *from = (const uint8_t *)m.values + panel * width * PANEL + lane * 4;
        const Half *scales = m.scales + panel * width / Int8::GROUP * PANEL + lane;
        for (long j = first; j < end; j++)
            to[j] = float(from[j / 4 * 4 * PANEL + j % 4] - 128) * to_float(scales[j / Int8::GROUP * PANEL]);
    } else {
        long width = round_up(k, Int4::GROUP);
        const uint8_t *from = (const uint8_t *)m.values + panel * width / 2 * PANEL + lane * 4;
        const Half *scales = m.scales + panel * width / Int4::GROUP * PANEL + lane;
        for (long j = first; j < end; j++) {
            int byte = from[j / 8 * 4 * PANEL + j % 4];
            to[j] = float((j % 8 < 4 ? byte & 15 : byte >> 4) - 8) * to_float(scales[j / Int4::GROUP * PANEL]);
        }
    }
}

}  // namespace
