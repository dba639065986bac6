// Weights as they lie in a file -> panels of 16 rows in one of the four formats (see products.h).
#pragma once

#include "products.h"

namespace {

// Bytes of a panel without its scales.
inline long panel_bytes(long format, long k) {
    switch (format) {
        case FP32: return k * PANEL * 4;
        case BF16: return round_up(k, 2) * PANEL * 2;
        case INT8: return round_up(k, Int8::GROUP) * PANEL;
        default: return round_up(k, Int4::GROUP) / 2 * PANEL;
    }
}

// float16 as a float: its five bits of exponent moved to where a float has eight.
inline float from_float16(uint16_t bits) {
    uint32_t sign = uint32_t(bits & 0x8000) << 16, rest = uint32_t(bits & 0x7fff) << 13;
    if ((bits & 0x7c00) == 0x7c00) return bits_as<float>(sign | 0x7f800000 | rest);  // infinity, not a number
    return bits_as<float>(sign | bits_as<uint32_t>(bits_as<float>(rest) * 5.192296858534828e33f));  // 2^112
}

inline float element(const Source &from, long at) {
    switch (from.type) {
        case 0: return ((const float *)from.values)[at];
        case 1: return from_float16(((const uint16_t *)from.values)[at]);
        default: return to_float(((const Half *)from.values)[at]);
    }
}

// One panel as floats, (width, 16), zeros where the matrix ends.
void gather(const Source &from, long panel, long width, float *to) {
    long rows = from.n - panel * PANEL < PANEL ? from.n - panel * PANEL : PANEL;
    if (rows < PANEL || width > from.k) std::memset(to, 0, size_t(width * PANEL) * sizeof *to);
    long first = panel * PANEL * from.row_stride;
    if (from.type == 0 && from.row_stride == 1) {
        for (long j = 0; j < from.k; j++)
            std::memcpy(to + j * PANEL, (const float *)from.values + first + j * from.column_stride, size_t(rows) * sizeof *to);
    } else if (from.type == 0) {
        for (long j = 0; j < from.k; j++)
            for (long i = 0; i < rows; i++)
                to[j * PANEL + i] = ((const float *)from.values)[first + i * from.row_stride + j * from.column_stride];
    } else {
        for (long j = 0; j < from.k; j++)
            for (long i = 0; i < rows; i++) to[j * PANEL + i] = element(from, first + i * from.row_stride + j * from.column_stride);
    }
}

// q * scale ~ w for a group of columns of 16 rows; the scale is the least bf16 that reaches the largest.
void round_group(const float *w, int8_t *q, Half *scales) {
    for (long i = 0; i < PANEL; i++) {
        float top = 0;
        for (long j = 0; j < Int8::GROUP; j++) top = std::fabs(w[j * PANEL + i]) > top ? std::fabs(w[j * PANEL + i]) : top;
        scales[i] = Half((bits_as<uint32_t>(top / 127.0f) + 0xffff) >> 16);
    }
    for (long j = 0; j < Int8::GROUP; j++)
        for (long i = 0; i < PANEL; i++) {
            float scale = to_float(scales[i]);
            q[j * PANEL + i] = scale > 0 ? int8_t(std::nearbyint(w[j * PANEL + i] / scale)) : int8_t(0);
        }
}

// The same to 4 bits, from -8 to 7: the largest value becomes about -8, by that of a few scales which errs least.
constexpr int CANDIDATES = 12;

void round_group_to_4_bits(const float *w, int8_t *q, Half *scales) {
    for (long i = 0; i < PANEL; i++) {
        float top = 0;
        for (long j = 0; j < Int4::GROUP; j++) top = std::fabs(w[j * PANEL + i]) > std::fabs(top) ? w[j * PANEL + i] : top;
        float least = 0;
        scales[i] = 0;
        for (int candidate = 0; candidate < CANDIDATES && top != 0; candidate++) {
            Half half = to_half(top / -8.0f * (0.70f + 0.40f / (CANDIDATES - 1) * float(candidate)));
            float scale = to_float(half), error = 0;
            if (scale == 0) continue;
            for (long j = 0; j < Int4::GROUP; j++) {
                float whole = std::nearbyint(w[j * PANEL + i] / scale);
                whole = whole < -8 ? -8 : whole > 7 ? 7 : whole;
                float off = w[j * PANEL + i] - whole * scale;
                error += off * off;
            }
            if (scales[i] == 0 || error < least) least = error, scales[i] = half;
        }
        float scale = to_float(scales[i]);
        for (long j = 0; j < Int4::GROUP; j++) {
            float whole = scale != 0 ? std::nearbyint(w[j * PANEL + i] / scale) : 0.0f;
            q[j * PANEL + i] = int8_t(whole < -8 ? -8 : whole > 7 ? 7 : whole);
        }
    }
}

void pack_panel(const float *w, long format, long width, uint8_t *values, Half *scales) {
    if (format == FP32) {
        std::memcpy(values, w, size_t(width * PANEL) * sizeof *w);
    } else if (format == BF16) {
        for (long i = 0; i < width * PANEL; i++)
            ((Half *)values)[i / PANEL / 2 * 2 * PANEL + i % PANEL * 2 + i / PANEL % 2] = to_half(w[i]);
    } else if (format == INT8) {
        int8_t q[Int8::GROUP * PANEL];
        for (long j = 0; j < width; j += Int8::GROUP, scales += PANEL) {
            round_group(w + j * PANEL, q, scales);
            for (long at = 0; at < Int8::GROUP * PANEL; at++)
                values[(j + at / PANEL) / 4 * 4 * PANEL + at % PANEL * 4 + at / PANEL % 4] = uint8_t(q[at] + 128);
        }
    } else {
        int8_t q[Int4::GROUP * PANEL];
        for (long j = 0; j < width; j += Int4::GROUP, scales += PANEL, values += Int4::GROUP / 2 * PANEL) {
            round_group_to_4_bits(w + j * PANEL, q, scales);
            for (long eight = 0; eight < Int4::GROUP; eight += 8)
                for (long i = 0; i < PANEL; i++)
                    for (long column = 0; column < 4; column++) {
                        int low = q[(eight + column) * PANEL + i] + 8, high = q[(eight + 4 + column) * PANEL + i] + 8;
                        values[eight / 2 * PANEL + i * 4 + column] = uint8_t(low | high << 4);
                    }
        }
    }
}

// The panels from `first` to `end` of a matrix. False where there is no memory for one of them as floats.
int64_t pack_panels(const Source *from, int64_t format, int64_t first, int64_t end, void *values, uint16_t *scales) {
    long group = format == FP32 ? 1 : format == BF16 ? 2 : format == INT8 ? Int8::GROUP : Int4::GROUP;
    long width = round_up(from->k, group);
    auto *w = (float *)std::malloc(size_t(width * PANEL) * sizeof(float));
    if (!w) return 0;
    for (long panel = first; panel < end; panel++) {
        gather(*from, panel, width, w);
        Half *own = scales ? scales + panel * (width / group) * PANEL : nullptr;
        pack_panel(w, format, width, (uint8_t *)values + panel * panel_bytes(format, from->k), own);
    }
    std::free(w);
    return 1;
}

}  // namespace
