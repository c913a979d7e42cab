// Places of maps a step apart on their way to channels last: only these are turned.
#pragma once

#include "plane_rows.h"

// Fewer places of a row are moved one by one: most lanes of a square would be empty.
enum { FR_FEW_PLACES = FR_WIDTH / 2, FR_MOST_STEP = 3 };

// A row of some channels, at most as many as a vector has lanes: squares are transposed in registers.
FR_INLINE void turn_places_row(const fr_places *p, const real *src, real *dst, ptrdiff_t channels,
                                  const ptrdiff_t step) {
    for (ptrdiff_t j = 0; j < p->columns; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(p->columns - j, 0), more = p->columns - j > FR_WIDTH;
        vec v[FR_WIDTH];
    FR_UNROLL(16) for (int c = 0; c < FR_WIDTH; ++c) {
            const real *from = src + c * p->channel_stride + j * step;
            v[c] = c >= channels ? vzero() : more ? load_whole_every(from, step) : load_every(from, step, lanes);
        }
        transpose(v);
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i)
            if (i < lanes) vstore_lanes(dst + (j + i) * p->dst_stride, v[i], channels);
    }
}

FR_INLINE void turn_places_by(const fr_places *p, const ptrdiff_t step) {
    for (ptrdiff_t c = 0; c < p->channels; c += FR_WIDTH) {
        const ptrdiff_t channels = lanes_left(p->channels - c, 0);
        for (ptrdiff_t r = 0; r < p->rows; ++r)
            turn_places_row(p, (const real *)p->src + c * p->channel_stride + r * p->src_stride,
                            (real *)p->dst + r * p->columns * p->dst_stride + c, channels, step);
    }
}

static FR_NOINLINE void turn_places_1(const fr_places *p) { turn_places_by(p, 1); }
static FR_NOINLINE void turn_places_2(const fr_places *p) { turn_places_by(p, 2); }
static FR_NOINLINE void turn_places_3(const fr_places *p) { turn_places_by(p, 3); }

FR_INLINE void move_places(const fr_places *p, const real *src, real *dst, const ptrdiff_t channels) {
    for (ptrdiff_t r = 0; r < p->rows; ++r, src += p->src_stride) {
        for (ptrdiff_t j = 0; j < p->columns; ++j, dst += p->dst_stride)
            for (ptrdiff_t c = 0; c < channels; ++c) dst[c] = src[j * p->step + c * p->channel_stride];
    }
}

static FR_NOINLINE void move_few_places(const fr_places *p) {
    for (ptrdiff_t c = 0; c < p->channels; c += FR_WIDTH) {
        const real *src = (const real *)p->src + c * p->channel_stride;
        if (p->channels - c >= FR_WIDTH) move_places(p, src, (real *)p->dst + c, FR_WIDTH);
        else move_places(p, src, (real *)p->dst + c, p->channels - c);
    }
}

static void FR_NAME(turn_places)(const fr_places *p) {
    if (p->columns < FR_FEW_PLACES || p->step > FR_MOST_STEP) move_few_places(p);
    else if (p->step == 1) turn_places_1(p);
    else if (p->step == 2) turn_places_2(p);
    else turn_places_3(p);
}
