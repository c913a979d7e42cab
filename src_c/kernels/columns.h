// What windows see of maps, as rows of columns.
#pragma once

#include "lanes.h"

// Channel by channel, since what a window sees of them has the same lanes.
static void FR_NAME(take_columns)(const fr_columns *g) {
    for (ptrdiff_t w = 0; w < g->windows; ++w) {
        for (ptrdiff_t r = 0; r < g->rows; ++r) {
            const fr_span seen = g->seen[w * g->rows + r];
            for (ptrdiff_t j = 0; j < g->width; j += FR_WIDTH) {
                const ptrdiff_t first = lanes_left(seen.first - j, 0), end = lanes_left(seen.end - j, 0),
                                lanes = lanes_left(g->width - j, 0);
                const real *map = (const real *)g->map + seen.at + j;
                real *to = (real *)g->columns + w * g->column_stride + r * g->width + j;
                for (ptrdiff_t c = 0; c < g->channels; ++c, map += g->map_stride, to += g->rows * g->width)
                    vstore_n(to, vload_between(map, first, end, vzero()), lanes);
            }
        }
    }
}
