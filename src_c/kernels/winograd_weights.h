// The weights of Winograd convolution: to their transformed form, U = G g G^T, and its gradient back, g (+)= G^T U G.
#pragma once

#include "pack.h"
#include "winograd_tile.h"

// Whether the taps of neighbouring channels follow each other, in both forms.
FR_INLINE int taps_join(const fr_winograd_weights *w) {
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1];
    return !w->flipped && w->valid == taps && w->channel_stride == taps;
}

// to [tap][W]: n neighbouring taps of W units, in reverse if the kernel is flipped.
static void gather_run(const fr_winograd_weights *w, const real *from, ptrdiff_t units, ptrdiff_t n, real *to) {
    for (ptrdiff_t first = 0; first < n; first += FR_WIDTH) {
        const ptrdiff_t count = n - first < FR_WIDTH ? n - first : FR_WIDTH;
        vec square[FR_WIDTH];
        if (units == FR_WIDTH && count == FR_WIDTH) {
    FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) square[u] = vload(from + u * w->unit_stride + first);
        } else {
            FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u)
                square[u] = u < units ? vload_n(from + u * w->unit_stride + first, count) : vzero();
        }
        transpose(square);
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) {
            if (i < count) vstore(to + (w->flipped ? n - 1 - first - i : first + i) * FR_WIDTH, square[i]);
        }
    }
}

// to [channel][tap][W], zeros past the valid taps.
static void gather_taps(const fr_winograd_weights *w, const real *from, ptrdiff_t units, ptrdiff_t channels, real *to) {
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1];
    if (taps_join(w)) {
        gather_run(w, from, units, channels * taps, to);
        return;
    }
    for (ptrdiff_t c = 0; c < channels; ++c, from += w->channel_stride, to += taps * FR_WIDTH) {
        gather_run(w, from, units, w->valid, to);
        for (ptrdiff_t tap = w->valid; tap < taps; ++tap) vstore(to + tap * FR_WIDTH, vzero());
    }
}

static void FR_NAME(winograd_weights)(const fr_winograd_weights *w) {
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1];
    real *gathered = (real *)w->scratch;
    winograd_tiles_fn *spread = winograd_function(WINOGRAD_SCALED_SPREAD, w->points[0], w->taps[0], w->points[1], w->taps[1]);
    const ptrdiff_t tap = w->packed ? FR_SLOTS * FR_WIDTH : FR_WIDTH;
    winograd_tiles tiles = {.in_column = tap, .in_step = taps * tap, .out_row = w->points[1] * w->point_stride,
                            .out_column = w->point_stride, .out_step = w->row};
    for (ptrdiff_t c = 0; c < w->channels; c += FR_WINOGRAD_CHANNELS) {
        tiles.count = w->channels - c < FR_WINOGRAD_CHANNELS ? w->channels - c : FR_WINOGRAD_CHANNELS;
        for (int v = 0; v * FR_WIDTH < w->units; ++v) {
            const real *from = (const real *)w->weight;
            if (w->packed) {
                from += c * taps * tap + v * FR_WIDTH;
            } else {
                from += v * FR_WIDTH * w->unit_stride + c * w->channel_stride;
                gather_taps(w, from, lanes_left(w->units, v), tiles.count, gathered);
                from = gathered;
            }
            for (ptrdiff_t j = 0; j < w->taps[0]; ++j) tiles.in[j] = from + j * w->taps[1] * tap;
            tiles.out = (real *)w->transformed + c * w->row + v * FR_WIDTH;
            spread(&tiles);
        }
    }
}

// n neighbouring taps of W units, to their rows.
static void scatter_run(const fr_winograd_weights *w, const real *from, ptrdiff_t units, ptrdiff_t n, real *to) {
    for (ptrdiff_t first = 0; first < n; first += FR_WIDTH) {
        const ptrdiff_t count = n - first < FR_WIDTH ? n - first : FR_WIDTH;
        vec square[FR_WIDTH];
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) square[i] = i < count ? vload(from + (first + i) * FR_WIDTH) : vzero();
        transpose(square);
        FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) {
            real *row = to + u * w->unit_stride + first;
            if (u < units) vstore_lanes(row, vadd(w->add ? vload_lanes(row, count) : vzero(), square[u]), count);
        }
    }
}

static void scatter_taps(const fr_winograd_weights *w, const real *from, ptrdiff_t units, ptrdiff_t channels, real *to) {
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1];
    if (taps_join(w)) {
        scatter_run(w, from, units, channels * taps, to);
        return;
    }
    for (ptrdiff_t c = 0; c < channels; ++c)
        scatter_run(w, from + c * taps * FR_WIDTH, units, w->valid, to + c * w->channel_stride);
}

static void FR_NAME(winograd_weight_gradient)(const fr_winograd_weights *w) {
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1];
    real *finished = (real *)w->scratch;
    winograd_tiles_fn *gather = winograd_function(WINOGRAD_SCALED_GATHER, w->points[0], w->taps[0], w->points[1], w->taps[1]);
    winograd_tiles tiles = {.in_column = w->point_stride, .in_step = w->row, .out = finished,
                            .out_row = w->taps[1] * FR_WIDTH, .out_column = FR_WIDTH, .out_step = taps * FR_WIDTH};
    for (ptrdiff_t c = 0; c < w->channels; c += FR_WINOGRAD_CHANNELS) {
        tiles.count = w->channels - c < FR_WINOGRAD_CHANNELS ? w->channels - c : FR_WINOGRAD_CHANNELS;
        for (int v = 0; v * FR_WIDTH < w->units; ++v) {
            const real *from = (const real *)w->transformed + c * w->row + v * FR_WIDTH;
            for (ptrdiff_t j = 0; j < w->points[0]; ++j) tiles.in[j] = from + j * w->points[1] * w->point_stride;
            gather(&tiles);
            scatter_taps(w, finished, lanes_left(w->units, v), tiles.count,
                         (real *)w->weight + v * FR_WIDTH * w->unit_stride + c * w->channel_stride);
        }
    }
}
