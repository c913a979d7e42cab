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

// A block of 16 columns at a time: each line that is read is used whole while it is still in the first cache.
static void FR_NAME(pack_units)(ptrdiff_t units, ptrdiff_t k, const void *src, ptrdiff_t src_stride, void *dst,
                                ptrdiff_t dst_stride) {
    const ptrdiff_t block = 16;
    for (ptrdiff_t start = 0; start < k; start += block) {
        const ptrdiff_t stop = start + block < k ? start + block : k;
        for (ptrdiff_t j = start; j < stop; ++j) {
            const real *from = (const real *)src + j;
            real *to = (real *)dst + j * dst_stride;
            for (ptrdiff_t u = 0; u < units; ++u) to[u] = from[u * src_stride];
            for (ptrdiff_t u = units; u < FR_WIDTH; ++u) to[u] = 0;
        }
    }
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
