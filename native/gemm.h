// Matrix products, C (M, N) = A (M, K) B (K, N), for one thread and operands that fit its caches.
//
// B is packed: NR columns side by side, so that a step along K reads them from neighbouring addresses:
//     B(k, n) lies at packed[(n / NR) * panel + k * NR + n % NR]
// A is read where it lies, with any stride along M and K. C is fp32 and written, or added to.
// K counts units (numbers.h): floats, or pairs of bf16. C stays in registers, ROWS x VECTORS of them, while the
// kernel walks along K; each unit of A is spread over a vector and meets VECTORS vectors of B.
#pragma once

#include "numbers.h"

namespace {

constexpr int NR = LANES * VECTORS;
constexpr int MR = 6;

template <class Op, int ROWS, int WIDTH>
inline void tile(long k_units, const typename Op::Unit *a, long a_row, long a_k, const typename Op::Unit *b, float *c,
                 long c_row, bool add, long columns) {
    Vector sums[ROWS][WIDTH];
#pragma GCC unroll 24
    for (int i = 0; i < ROWS * WIDTH; i++) sums[i / WIDTH][i % WIDTH] = Vector{};
    for (long k = 0; k < k_units; k++, a += a_k, b += NR) {
        Vector right[WIDTH];
#pragma GCC unroll 4
        for (int v = 0; v < WIDTH; v++) right[v] = Op::load(b + v * LANES);
#pragma GCC unroll 6
        for (int r = 0; r < ROWS; r++) {
            Vector left = Op::spread(a[r * a_row]);
#pragma GCC unroll 4
            for (int v = 0; v < WIDTH; v++) Op::multiply_add(sums[r][v], left, right[v]);
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < ROWS * WIDTH; i++) {
        int v = i % WIDTH;
        float *to = c + i / WIDTH * c_row + v * LANES;
        Vector sum = sums[i / WIDTH][v];
        if (columns >= (v + 1) * LANES) {
            *(Loose *)to = add ? *(Loose *)to + sum : sum;
        } else {
            for (long n = 0; n < columns - v * LANES; n++) to[n] = (add ? to[n] : 0.0f) + sum[n];
        }
    }
}

template <class Op, int WIDTH>
inline void column_of_tiles(long m, long k_units, const typename Op::Unit *a, long a_row, long a_k,
                            const typename Op::Unit *b, float *c, long c_row, bool add, long columns) {
    long i = 0;
    for (; i + MR <= m; i += MR) tile<Op, MR, WIDTH>(k_units, a + i * a_row, a_row, a_k, b, c + i * c_row, c_row, add, columns);
    a += i * a_row;
    c += i * c_row;
    switch (m - i) {
        case 1: tile<Op, 1, WIDTH>(k_units, a, a_row, a_k, b, c, c_row, add, columns); break;
        case 2: tile<Op, 2, WIDTH>(k_units, a, a_row, a_k, b, c, c_row, add, columns); break;
        case 3: tile<Op, 3, WIDTH>(k_units, a, a_row, a_k, b, c, c_row, add, columns); break;
        case 4: tile<Op, 4, WIDTH>(k_units, a, a_row, a_k, b, c, c_row, add, columns); break;
        case 5: tile<Op, 5, WIDTH>(k_units, a, a_row, a_k, b, c, c_row, add, columns); break;
    }
}

// C (m, n) = A B, or C += A B. Strides of A in units, of C in floats.
template <class Op>
void multiply(long m, long n, long k_units, const typename Op::Unit *a, long a_row, long a_k,
              const typename Op::Unit *b, long panel, float *c, long c_row, bool add) {
    for (long j = 0; j < n; j += NR, b += panel, c += NR) {
        long columns = n - j < NR ? n - j : NR;
        long width = (columns + LANES - 1) / LANES;
        if (width >= VECTORS) column_of_tiles<Op, VECTORS>(m, k_units, a, a_row, a_k, b, c, c_row, add, columns);
        else if (width == 1) column_of_tiles<Op, 1>(m, k_units, a, a_row, a_k, b, c, c_row, add, columns);
        else if (width == 2) column_of_tiles<Op, 2>(m, k_units, a, a_row, a_k, b, c, c_row, add, columns);
        else column_of_tiles<Op, 3>(m, k_units, a, a_row, a_k, b, c, c_row, add, columns);
    }
}

template <class Op>
inline long units(long elements) { return (elements + Op::PAIR - 1) / Op::PAIR; }

// Units of a packed B with k elements along the sum and n columns.
template <class Op>
inline long packed_size(long k, long n) { return units<Op>(k) * round_up(n, NR); }

// B = source^T, source (n, k) row by row: the pairs lie along a row. A square of units at a time is transposed.
template <class Op, class Source>
void pack_rows(const Source *source, long n, long k, long row, typename Op::Unit *packed) {
    typedef typename Op::Element Element;
    static_assert(sizeof(typename Op::Unit) == 4, "a unit is a word");
    long k_units = units<Op>(k);
    for (long j = 0; j < n; j += NR, packed += k_units * NR)
        for (long i = 0; i < NR; i += LANES)
            for (long u = 0; u < k_units; u += LANES) {
                Words square[LANES];
                for (long r = 0; r < LANES; r++) {
                    const Source *from = source + (j + i + r) * row + Op::PAIR * u;
                    typename Op::Unit units_of_row[LANES] = {};
                    if (j + i + r < n && Op::PAIR * (u + LANES) <= k) {
#pragma omp simd
                        for (long v = 0; v < LANES; v++)
                            units_of_row[v] = Op::unit(Op::round(to_float(from[Op::PAIR * v])),
                                                       Op::round(to_float(from[Op::PAIR * v + Op::PAIR - 1])));
                    } else if (j + i + r < n) {
                        for (long v = 0; u + v < k_units && v < LANES; v++) {
                            long high = Op::PAIR * v + Op::PAIR - 1;
                            Element second = Op::PAIR * u + high < k ? Op::round(to_float(from[high])) : Element{};
                            units_of_row[v] = Op::unit(Op::round(to_float(from[Op::PAIR * v])), second);
                        }
                    }
                    std::memcpy(&square[r], units_of_row, sizeof square[r]);
                }
                transpose(square);
                long last = k_units - u < LANES ? k_units - u : LANES;
                for (long v = 0; v < last; v++) *(LooseWords *)(packed + (u + v) * NR + i) = square[v];
            }
}

// Pairs along the columns of source (k, n): panels of `width` columns, packed[(n / width)][k units][width].
// width NR makes a B; width n makes the transposed A of a product whose sum runs over the rows of `source`.
template <class Op, class Source>
void pack_columns(const Source *source, long k, long n, long row, typename Op::Unit *packed, long width) {
    typedef typename Op::Element Element;
    long k_units = units<Op>(k);
    for (long j = 0; j < n; j += width) {
        long columns = n - j < width ? n - j : width;
        for (long u = 0; u < k_units; u++, packed += width) {
            const Source *low = source + Op::PAIR * u * row + j;
            const Source *high = low + (Op::PAIR - 1) * row;
            if (Op::PAIR * u + Op::PAIR - 1 < k) {
#pragma omp simd
                for (long i = 0; i < columns; i++)
                    packed[i] = Op::unit(Op::round(to_float(low[i])), Op::round(to_float(high[i])));
            } else {
                for (long i = 0; i < columns; i++) packed[i] = Op::unit(Op::round(to_float(low[i])), Element{});
            }
            for (long i = columns; i < width; i++) packed[i] = typename Op::Unit{};
        }
    }
}

}  // namespace
