// The weights of Winograd convolution: to their transformed form, U = G g G^T, and its gradient back, g += G^T U G.
#pragma once

#include "pack.h"
#include "winograd_transform.h"

enum { WINOGRAD_CHANNELS = 8 };  // transformed at a time, so that everything between the two passes stays near

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
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1], along = w->taps[1], half_row = WINOGRAD_CHANNELS * along * FR_WIDTH;
    real *gathered = (real *)w->scratch, *half = gathered + WINOGRAD_CHANNELS * taps * FR_WIDTH;
    winograd_pass first = {.in_row = FR_WIDTH, .in_step = taps * FR_WIDTH, .out = half, .out_stride = half_row,
                           .out_row = FR_WIDTH, .out_step = along * FR_WIDTH, .rows = along};
    winograd_pass second = {.in_row = half_row, .in_step = along * FR_WIDTH, .out_stride = w->point_stride,
                            .out_row = w->points[1] * w->point_stride, .out_step = FR_SLOTS * FR_WIDTH, .rows = w->points[0]};
    for (ptrdiff_t j = 0; j < w->taps[0]; ++j) first.in[j] = gathered + j * along * FR_WIDTH;
    for (ptrdiff_t j = 0; j < along; ++j) second.in[j] = (w->points[0] == 1 ? gathered : half) + j * FR_WIDTH;
    for (ptrdiff_t c = 0; c < w->channels; c += WINOGRAD_CHANNELS) {
        const ptrdiff_t count = w->channels - c < WINOGRAD_CHANNELS ? w->channels - c : WINOGRAD_CHANNELS;
        first.count = second.count = count;
        for (int v = 0; v < FR_SLOTS; ++v) {
            const real *from = (const real *)w->weight + v * FR_WIDTH * w->unit_stride + c * w->channel_stride;
            gather_taps(w, from, lanes_left(w->units, v), count, gathered);
            second.out = (real *)w->transformed + (c * FR_SLOTS + v) * FR_WIDTH;
            if (w->points[0] > 1) winograd_pass_for(WINOGRAD_SCALED_SPREAD, w->points[0], w->taps[0])(&first);
            winograd_pass_for(WINOGRAD_SCALED_SPREAD, w->points[1], w->taps[1])(&second);
        }
    }
}

// n neighbouring taps of W units, added to their rows.
static void scatter_run(const fr_winograd_weights *w, const real *from, ptrdiff_t units, ptrdiff_t n, real *to) {
    for (ptrdiff_t first = 0; first < n; first += FR_WIDTH) {
        const ptrdiff_t count = n - first < FR_WIDTH ? n - first : FR_WIDTH;
        vec square[FR_WIDTH];
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) square[i] = i < count ? vload(from + (first + i) * FR_WIDTH) : vzero();
        transpose(square);
        FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) {
            real *row = to + u * w->unit_stride + first;
            if (u < units) vstore_lanes(row, vadd(vload_lanes(row, count), square[u]), count);
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
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1], along = w->taps[1];
    const ptrdiff_t half_step = w->points[1] * FR_WIDTH, half_row = WINOGRAD_CHANNELS * half_step;
    real *finished = (real *)w->scratch, *half = finished + WINOGRAD_CHANNELS * taps * FR_WIDTH;
    winograd_pass first = {.in_row = w->point_stride, .in_step = FR_SLOTS * FR_WIDTH, .out = half, .out_stride = half_row,
                           .out_row = FR_WIDTH, .out_step = half_step, .rows = w->points[1]};
    winograd_pass second = {.in_row = half_row, .in_step = w->points[0] == 1 ? FR_SLOTS * FR_WIDTH : half_step,
                            .out = finished, .out_stride = FR_WIDTH, .out_row = along * FR_WIDTH,
                            .out_step = taps * FR_WIDTH, .rows = w->taps[0]};
    for (ptrdiff_t c = 0; c < w->channels; c += WINOGRAD_CHANNELS) {
        const ptrdiff_t count = w->channels - c < WINOGRAD_CHANNELS ? w->channels - c : WINOGRAD_CHANNELS;
        first.count = second.count = count;
        for (int v = 0; v * FR_WIDTH < w->units; ++v) {
            const real *from = (const real *)w->transformed + (c * FR_SLOTS + v) * FR_WIDTH;
            for (ptrdiff_t j = 0; j < w->points[0]; ++j) first.in[j] = from + j * w->points[1] * w->point_stride;
            for (ptrdiff_t j = 0; j < w->points[1]; ++j)
                second.in[j] = w->points[0] == 1 ? from + j * w->point_stride : half + j * FR_WIDTH;
            if (w->points[0] > 1) winograd_pass_for(WINOGRAD_SCALED_GATHER, w->points[0], w->taps[0])(&first);
            winograd_pass_for(WINOGRAD_SCALED_GATHER, w->points[1], w->taps[1])(&second);
            scatter_taps(w, finished, lanes_left(w->units, v), count,
                         (real *)w->weight + v * FR_WIDTH * w->unit_stride + c * w->channel_stride);
        }
    }
}
