// The weights of Winograd convolution: to their transformed form, U = G g G^T, and its gradient back, g += G^T U G.
#pragma once

#include "pack.h"
#include "winograd_transform.h"

enum { WINOGRAD_CHANNELS = 8 };  // transformed at a time, so that everything between the two passes stays near

// taps [tap][W] of W units and one channel, from rows of taps, in reverse if the kernel is flipped.
static void gather_taps(const fr_winograd_weights *w, const real *from, ptrdiff_t units, real *to) {
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1];
    for (ptrdiff_t first = 0; first < w->valid; first += FR_WIDTH) {
        const ptrdiff_t count = w->valid - first < FR_WIDTH ? w->valid - first : FR_WIDTH;
        vec square[FR_WIDTH];
        FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u)
            square[u] = u < units ? vload_n(from + u * w->unit_stride + first, count) : vzero();
        transpose(square);
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) {
            if (i < count) vstore(to + (w->flipped ? w->valid - 1 - first - i : first + i) * FR_WIDTH, square[i]);
        }
    }
    for (ptrdiff_t tap = w->valid; tap < taps; ++tap) vstore(to + tap * FR_WIDTH, vzero());
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
            for (ptrdiff_t i = 0; i < count; ++i)
                gather_taps(w, from + i * w->channel_stride, lanes_left(w->units, v), gathered + i * taps * FR_WIDTH);
            second.out = (real *)w->transformed + (c * FR_SLOTS + v) * FR_WIDTH;
            if (w->points[0] > 1) winograd_pass_for(WINOGRAD_SCALED_SPREAD, w->points[0], w->taps[0])(&first);
            winograd_pass_for(WINOGRAD_SCALED_SPREAD, w->points[1], w->taps[1])(&second);
        }
    }
}

// The valid taps of one channel and W units, added to their rows.
static void scatter_taps(const fr_winograd_weights *w, const real *from, ptrdiff_t units, real *to) {
    for (ptrdiff_t first = 0; first < w->valid; first += FR_WIDTH) {
        const ptrdiff_t count = w->valid - first < FR_WIDTH ? w->valid - first : FR_WIDTH;
        vec square[FR_WIDTH];
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) square[i] = i < count ? vload(from + (first + i) * FR_WIDTH) : vzero();
        transpose(square);
        FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) {
            real *row = to + u * w->unit_stride + first;
            if (u < units) vstore_n(row, vadd(vload_n(row, count), square[u]), count);
        }
    }
}

static void FR_NAME(winograd_weight_gradient)(const fr_winograd_weights *w) {
    const ptrdiff_t taps = (ptrdiff_t)w->taps[0] * w->taps[1], along = w->taps[1], half_row = w->points[1] * FR_WIDTH;
    real *finished = (real *)w->scratch, *half = finished + taps * FR_WIDTH;
    winograd_pass first = {.in_row = w->point_stride, .out = half, .out_stride = half_row, .out_row = FR_WIDTH,
                           .rows = w->points[1], .count = 1};
    winograd_pass second = {.in_row = half_row, .out = finished, .out_stride = FR_WIDTH, .out_row = along * FR_WIDTH,
                            .rows = w->taps[0], .count = 1};
    for (ptrdiff_t c = 0; c < w->channels; ++c) {
        for (int v = 0; v * FR_WIDTH < w->units; ++v) {
            const real *from = (const real *)w->transformed + (c * FR_SLOTS + v) * FR_WIDTH;
            for (ptrdiff_t j = 0; j < w->points[0]; ++j) first.in[j] = from + j * w->points[1] * w->point_stride;
            for (ptrdiff_t j = 0; j < w->points[1]; ++j)
                second.in[j] = w->points[0] == 1 ? from + j * w->point_stride : half + j * FR_WIDTH;
            if (w->points[0] > 1) winograd_pass_for(WINOGRAD_SCALED_GATHER, w->points[0], w->taps[0])(&first);
            winograd_pass_for(WINOGRAD_SCALED_GATHER, w->points[1], w->taps[1])(&second);
            scatter_taps(w, finished, lanes_left(w->units, v),
                         (real *)w->weight + v * FR_WIDTH * w->unit_stride + c * w->channel_stride);
        }
    }
}
