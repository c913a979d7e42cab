// Tails: the last vector of a row may be valid in part only.
#pragma once

#include <stddef.h>
#include <string.h>

#include "../fr_kernels.h"
#include "unroll.h"

// Valid lanes of vector number `vector` of a row with `columns` valid elements.
FR_INLINE ptrdiff_t lanes_left(ptrdiff_t columns, ptrdiff_t vector) {
    const ptrdiff_t left = columns - vector * FR_WIDTH;
    return left < 0 ? 0 : left < FR_WIDTH ? left : FR_WIDTH;
}

FR_INLINE vec vload_lanes(const real *from, ptrdiff_t lanes) {
    return lanes == FR_WIDTH ? vload(from) : vload_n(from, lanes);
}

FR_INLINE void vstore_lanes(real *to, vec v, ptrdiff_t lanes) {
    if (lanes == FR_WIDTH) vstore(to, v);
    else vstore_n(to, v, lanes);
}

// The same for values that are soon read one by one: a load can take its value out of a store under way only if that has no mask.
FR_INLINE void vstore_soon(real *to, vec v, ptrdiff_t lanes) {
    if (lanes == FR_WIDTH) {
        vstore(to, v);
        return;
    }
    real whole[FR_WIDTH];
    ptrdiff_t at = 0;
    vstore(whole, v);
    FR_UNROLL(4) for (ptrdiff_t part = FR_WIDTH / 2; part > 0; part /= 2) {
        if (!(lanes & part)) continue;
        memcpy(to + at, whole + at, (size_t)part * sizeof(real));
        at += part;
    }
}

// Large outputs are stored past the caches: else each line would be read before it is written, and others leave the cache for
// it. `past` says so. The first lanes then go by themselves up to where vectors of `to` are aligned.
FR_INLINE ptrdiff_t lanes_first(const real *to, ptrdiff_t n, const int past) {
    const ptrdiff_t over = past ? (ptrdiff_t)((uintptr_t)to / sizeof(real) % FR_WIDTH) : 0;
    return lanes_left(over != 0 && FR_WIDTH - over < n ? FR_WIDTH - over : n, 0);
}

FR_INLINE void vstore_past(real *to, vec v, ptrdiff_t lanes, const int past) {
    if (past && lanes == FR_WIDTH) vstream(to, v);
    else vstore_lanes(to, v, lanes);
}

// Asks for what will be read some thousand elements later; the second level has more buffers for it than the first.
FR_INLINE void lanes_fetch(const real *from) {
    __builtin_prefetch(from, 0, 2);
}

// Zeros the lanes past the valid ones in all four vectors at `gates`. An infinity times a padded weight is a NaN there, and as an
// operand of the next product it would spread.
FR_INLINE void clear_padding(real *gates, ptrdiff_t lanes) {
    if (lanes == FR_WIDTH) return;
    for (int j = 0; j < FR_SLOTS; ++j) vstore(gates + j * FR_WIDTH, vload_n(gates + j * FR_WIDTH, lanes));
}
