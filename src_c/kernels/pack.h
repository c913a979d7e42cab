// Into and out of panel layout. Zeros fill what is past the valid columns or units, so that products need no masks there.
#pragma once

#include "lanes.h"

static void FR_NAME(pack_rows)(ptrdiff_t rows, ptrdiff_t columns, const void *src, ptrdiff_t src_stride, void *dst,
                               ptrdiff_t dst_row_stride, ptrdiff_t dst_panel_stride) {
    const ptrdiff_t vectors = (columns + FR_WIDTH - 1) / FR_WIDTH;
    const ptrdiff_t padded = (vectors + FR_SLOTS - 1) / FR_SLOTS * FR_SLOTS;
    for (ptrdiff_t r = 0; r < rows; ++r) {
        const real *from = (const real *)src + r * src_stride;
        real *to = (real *)dst + r * dst_row_stride;
        for (ptrdiff_t v = 0; v < padded; ++v) {
            vstore(to + v / FR_SLOTS * dst_panel_stride + v % FR_SLOTS * FR_WIDTH,
                   vload_lanes(from + v * FR_WIDTH, lanes_left(columns, v)));
        }
    }
}

// W x W elements: row i of the result is column i. Each stage interleaves rows that lie half the square apart; after log2(W)
// stages every element has changed its row number with its column number.
FR_INLINE void transpose(vec row[FR_WIDTH]) {
    FR_UNROLL(4) for (int stage = 1; stage < FR_WIDTH; stage *= 2) {
        vec next[FR_WIDTH];
        FR_UNROLL(8) for (int i = 0; i < FR_WIDTH / 2; ++i) {
            next[2 * i] = vzip_lo(row[i], row[i + FR_WIDTH / 2]);
            next[2 * i + 1] = vzip_hi(row[i], row[i + FR_WIDTH / 2]);
        }
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) row[i] = next[i];
    }
}

// Columns j..j+count-1 of `units` rows, where there are too few for a square.
FR_INLINE void pack_rest(ptrdiff_t units, ptrdiff_t j, ptrdiff_t count, const real *src, ptrdiff_t src_stride, real *dst,
                         ptrdiff_t dst_stride) {
    for (ptrdiff_t i = j; i < j + count; ++i) {
        for (ptrdiff_t u = 0; u < FR_WIDTH; ++u) dst[i * dst_stride + u] = u < units ? src[u * src_stride + i] : 0;
    }
}

static void FR_NAME(pack_units)(ptrdiff_t units, ptrdiff_t k, const void *src, ptrdiff_t src_stride, void *dst,
                                ptrdiff_t dst_stride) {
    const ptrdiff_t squares = units == FR_WIDTH ? k - k % FR_WIDTH : 0;
    for (ptrdiff_t j = 0; j < squares; j += FR_WIDTH) {
        vec row[FR_WIDTH];
        FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) row[u] = vload((const real *)src + u * src_stride + j);
        transpose(row);
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) vstore((real *)dst + (j + i) * dst_stride, row[i]);
    }
    pack_rest(units, squares, k - squares, src, src_stride, dst, dst_stride);
}

static void FR_NAME(column_sums)(ptrdiff_t rows, ptrdiff_t panels, const void *gates, ptrdiff_t gates_panel_stride,
                                 void *sums) {
    for (ptrdiff_t p = 0; p < panels; ++p) {
        const real *from = (const real *)gates + p * gates_panel_stride;
        real *to = (real *)sums + p * FR_SLOTS * FR_WIDTH;
        vec s[FR_SLOTS];
        FR_UNROLL(4) for (int j = 0; j < FR_SLOTS; ++j) s[j] = vzero();
        for (ptrdiff_t r = 0; r < rows; ++r, from += FR_SLOTS * FR_WIDTH) {
            FR_UNROLL(4) for (int j = 0; j < FR_SLOTS; ++j) s[j] = vadd(s[j], vload(from + j * FR_WIDTH));
        }
        FR_UNROLL(4) for (int j = 0; j < FR_SLOTS; ++j) vstore(to + j * FR_WIDTH, vadd(vload(to + j * FR_WIDTH), s[j]));
    }
}
