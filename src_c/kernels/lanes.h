// Tails: the last vector of a row may be valid in part only.
#pragma once

#include <stddef.h>

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

// Zeros the lanes past the valid ones in all four vectors at `gates`. An infinity times a padded weight is a NaN there, and as an
// operand of the next product it would spread.
FR_INLINE void clear_padding(real *gates, ptrdiff_t lanes) {
    if (lanes == FR_WIDTH) return;
    for (int j = 0; j < FR_SLOTS; ++j) vstore(gates + j * FR_WIDTH, vload_n(gates + j * FR_WIDTH, lanes));
}
