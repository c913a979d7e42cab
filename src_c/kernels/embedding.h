// Rows of a table, picked one by one or summed up in bags, and their gradients.
#pragma once

#include "lanes.h"

// Rows of a large table come from memory; they are asked for this many positions ahead.
enum { EMBED_AHEAD = 8 };

FR_INLINE void embed_fetch(const real *row, ptrdiff_t width) {
    const ptrdiff_t line = 64 / (ptrdiff_t)sizeof(real);
    for (ptrdiff_t j = 0; j < width && j < 8 * line; j += line) __builtin_prefetch(row + j);
}

static void FR_NAME(pick_rows)(ptrdiff_t n, ptrdiff_t width, const int64_t *tokens, const void *table, void *y) {
    const real *from = table;
    real *to = y;
    for (ptrdiff_t i = 0; i < n; ++i) {
        if (i + EMBED_AHEAD < n) embed_fetch(from + tokens[i + EMBED_AHEAD] * width, width);
        const real *row = from + tokens[i] * width;
        for (ptrdiff_t j = 0; j < width; j += FR_WIDTH) {
            const ptrdiff_t lanes = lanes_left(width - j, 0);
            vstore_lanes(to + i * width + j, vload_lanes(row + j, lanes), lanes);
        }
    }
}

FR_INLINE ptrdiff_t bag_start(const fr_bags *s, ptrdiff_t bag) { return s->start ? s->start[bag] : bag; }

// Sums of up to four vectors of columns, in registers.
FR_INLINE void bag_sum(const fr_bags *s, ptrdiff_t bag, ptrdiff_t column, const int vectors, ptrdiff_t lanes) {
    const real *table = (const real *)s->table + column, *factors = s->factors, *scale = s->scale;
    real *y = (real *)s->y + bag * s->width + column;
    const ptrdiff_t first = bag_start(s, bag), last = bag_start(s, bag + 1);
    vec sums[4] = {vzero(), vzero(), vzero(), vzero()};
    for (ptrdiff_t i = first; i < last; ++i) {
        const real *row = table + s->tokens[i] * s->width;
        const vec factor = vset1(factors ? factors[i] : 1);
    FR_UNROLL(4)
        for (int j = 0; j < vectors; ++j) {
            const vec x = j == vectors - 1 ? vload_lanes(row + j * FR_WIDTH, lanes) : vload(row + j * FR_WIDTH);
            sums[j] = factors ? vfma(factor, x, sums[j]) : vadd(sums[j], x);
        }
    }
    const vec gain = vset1(scale ? scale[bag] : 1);
    FR_UNROLL(4)
    for (int j = 0; j < vectors; ++j)
        vstore_lanes(y + j * FR_WIDTH, vmul(gain, sums[j]), j == vectors - 1 ? lanes : FR_WIDTH);
}

FR_INLINE void bag_max(const fr_bags *s, ptrdiff_t bag, ptrdiff_t column, ptrdiff_t lanes) {
    const real *table = (const real *)s->table + column;
    const ptrdiff_t first = bag_start(s, bag), last = bag_start(s, bag + 1), at = bag * s->width + column;
    vec best = vzero(), place = vset1(-1);
    for (ptrdiff_t i = first; i < last; ++i) {
        const vec x = vload_lanes(table + s->tokens[i] * s->width, lanes), here = vset1((real)(i - first));
        const vmask more = vgt_nan(x, best);
        best = i == first ? x : vselect(more, x, best);
        place = i == first ? here : vselect(more, here, place);
    }
    vstore_lanes((real *)s->y + at, best, lanes);
    vstore_i32(s->places + at, place, lanes);
}

static void FR_NAME(bags)(const fr_bags *s) {
    for (ptrdiff_t bag = 0; bag < s->bags; ++bag) {
        if (bag + 1 < s->bags) {
            for (ptrdiff_t i = bag_start(s, bag + 1); i < bag_start(s, bag + 2); ++i)
                embed_fetch((const real *)s->table + s->tokens[i] * s->width, s->width);
        }
        ptrdiff_t column = 0;
        if (s->places) {
            for (; column < s->width; column += FR_WIDTH) bag_max(s, bag, column, lanes_left(s->width - column, 0));
            continue;
        }
        for (; column + 4 * FR_WIDTH <= s->width; column += 4 * FR_WIDTH) bag_sum(s, bag, column, 4, FR_WIDTH);
        for (; column < s->width; column += FR_WIDTH) bag_sum(s, bag, column, 1, lanes_left(s->width - column, 0));
    }
}

// Rows are dealt out by a hash of their number, eight neighbours together: they may share lines.
FR_INLINE int bag_mine(const fr_bags *s, int64_t token) {
    if (token < 0 || s->members == 1) return token >= 0;
    const uint32_t hash = (uint32_t)(token >> 3) * UINT32_C(2654435769);
    return (int)(((uint64_t)hash * (uint32_t)s->members) >> 32) == s->member;
}

FR_INLINE void bag_add(real *row, const real *dy, ptrdiff_t width, const int scaled, real factor) {
    const vec f = vset1(factor);
    for (ptrdiff_t j = 0; j < width; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(width - j, 0);
        const vec sum = vload_lanes(row + j, lanes), x = vload_lanes(dy + j, lanes);
        vstore_lanes(row + j, scaled ? vfma(f, x, sum) : vadd(sum, x), lanes);
    }
}

static void FR_NAME(bags_backward)(const fr_bags *s) {
    const real *factors = s->factors, *scale = s->scale;
    const ptrdiff_t width = s->width, positions = bag_start(s, s->bags);
    for (ptrdiff_t bag = 0; bag < s->bags; ++bag) {
        const real *dy = (const real *)s->y + bag * width;
        const int32_t *places = s->places ? s->places + bag * width : NULL;
        const ptrdiff_t first = bag_start(s, bag);
        for (ptrdiff_t i = first; i < bag_start(s, bag + 1); ++i) {
            if (i + EMBED_AHEAD < positions && bag_mine(s, s->tokens[i + EMBED_AHEAD]))
                embed_fetch((const real *)s->table + s->tokens[i + EMBED_AHEAD] * width, width);
            if (!bag_mine(s, s->tokens[i])) continue;
            real *row = (real *)s->table + s->tokens[i] * width;
            if (places) {
                for (ptrdiff_t j = 0; j < width; ++j)
                    if (places[j] == i - first) row[j] += dy[j];
            } else if (factors || scale) {
                bag_add(row, dy, width, 1, (scale ? scale[bag] : 1) * (factors ? factors[i] : 1));
            } else {
                bag_add(row, dy, width, 0, 1);
            }
        }
    }
}
