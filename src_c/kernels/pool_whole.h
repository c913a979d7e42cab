// Pooling of maps that lie channels first, by one window that is all of a map: maps are features, and their places the times of these.
#pragma once

#include "time_pool.h"

enum { WHOLE_MAPS = 64 };  // whose taps, of four bytes each, become bytes at a time

// Some maps of x or dx, and their values of y or dy.
FR_INLINE fr_time_pool whole_maps(const fr_pool *s, ptrdiff_t maps, int32_t *taps) {
    const ptrdiff_t places = pool_places(s);
    fr_time_pool all = {.mode = s->mode, .end = places, .steps = places, .total = places, .columns = maps};
    all.time_stride = 1, all.column_stride = places;
    all.k = 1, all.y_column_stride = 1, all.times = taps;
    all.divisor = ((const real *)s->scale[0])[0] * ((const real *)s->scale[1])[0] * ((const real *)s->scale[2])[0];
    return all;
}

static void pool_whole(const fr_pool *s) {
    const ptrdiff_t places = pool_places(s), end = s->row + s->rows;
    const int narrow = s->taps && !s->wide;
    for (ptrdiff_t map = s->row, maps; map < end; map += maps) {
        int32_t found[WHOLE_MAPS];
        maps = narrow && end - map > WHOLE_MAPS ? WHOLE_MAPS : end - map;
        fr_time_pool some = whole_maps(s, maps, narrow ? found : s->taps ? (int32_t *)s->taps + map : NULL);
        some.x = (const real *)s->x + map * places, some.y = (real *)s->y + map;
        FR_NAME(time_pool)(&some);
        for (ptrdiff_t i = 0; i < maps && narrow; ++i) ((uint8_t *)s->taps)[map + i] = (uint8_t)found[i];
    }
}

static void pool_whole_backward(const fr_pool *s) {
    const ptrdiff_t places = pool_places(s), rows = s->axis[0].size * s->axis[1].size;
    const ptrdiff_t end = (s->row + s->rows) / rows;
    const int narrow = s->taps && !s->wide;
    for (ptrdiff_t map = s->row / rows, maps; map < end; map += maps) {
        int32_t found[WHOLE_MAPS];
        maps = narrow && end - map > WHOLE_MAPS ? WHOLE_MAPS : end - map;
        for (ptrdiff_t i = 0; i < maps && narrow; ++i) found[i] = ((const uint8_t *)s->taps)[map + i];
        fr_time_pool some = whole_maps(s, maps, narrow ? found : s->taps ? (int32_t *)s->taps + map : NULL);
        some.y = (real *)s->x + map, some.dx = (real *)s->y + map * places;
        if (s->taps) some.mode = FR_POOL_MAX;
        FR_NAME(time_pool_backward)(&some);
    }
}
