// Winograd convolution, stride 1, before and after the products of its points: maps to transformed tiles and back, and the same
// for weights. Contracts in fr_kernels.h.
//
// One vector of channels at a time. Its maps come, transposed, into a band [row][column][W] of the rows that one row of tiles
// reads, which stays in the first-level cache. Results go the same way backwards.
#pragma once

#include "pack.h"
#include "rnn.h"
#include "winograd_tile.h"

// One vector of channels between the maps and a band.
typedef struct winograd_strip {
    const fr_winograd *w;
    real *maps;  // of the first channel
    ptrdiff_t lanes;
    real *band;  // map place (row, column) is at ((row - top) % ring * pitch + column - left) * W
    ptrdiff_t ring, pitch;
    ptrdiff_t low, high;  // columns of the maps that the band holds
} winograd_strip;

static winograd_strip strip_of(const fr_winograd *w, ptrdiff_t group, real *band, ptrdiff_t ring, ptrdiff_t pitch) {
    const ptrdiff_t channel = group * FR_WIDTH, last = w->left + pitch;
    return (winograd_strip){
        .w = w,
        .maps = (real *)w->maps + channel * w->channel_stride,
        .lanes = lanes_left(w->channels, group),
        .band = band,
        .ring = ring,
        .pitch = pitch,
        .low = w->left < 0 ? 0 : w->left,
        .high = last < w->map_columns ? last : w->map_columns,
    };
}

FR_INLINE real *band_at(const winograd_strip *s, ptrdiff_t row, ptrdiff_t column) {
    return s->band + ((row - s->w->top) % s->ring * s->pitch + column - s->w->left) * FR_WIDTH;
}

// The places of rows first..last-1 in the order of their maps: a run may cross rows if the rows lie end to end.
typedef struct winograd_walk {
    ptrdiff_t row, column;
    real *at;
} winograd_walk;

FR_INLINE void walk_on(const winograd_strip *s, winograd_walk *walk, ptrdiff_t places) {
    walk->at += places * FR_WIDTH;
    walk->column += places;
    if (walk->column < s->high) return;
    walk->column = s->low;
    walk->at = band_at(s, ++walk->row, s->low);
}

// W channels of `count` <= W places at `from`, transposed to the band.
FR_INLINE void fill_square(const winograd_strip *s, winograd_walk *walk, const real *from, ptrdiff_t count) {
    const ptrdiff_t stride = s->w->channel_stride;
    vec square[FR_WIDTH];
    FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) __builtin_prefetch(from + (u + FR_WIDTH) * stride, 0, 2);
    if (count == FR_WIDTH && s->lanes == FR_WIDTH) {
    FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) square[u] = vload(from + u * stride);
    } else {
        FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u)
            square[u] = u < s->lanes ? vload_n(from + u * stride, count) : vzero();
    }
    transpose(square);
    if (count == FR_WIDTH && walk->column + FR_WIDTH <= s->high) {
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) vstore(walk->at + i * FR_WIDTH, square[i]);
        walk_on(s, walk, FR_WIDTH);
    } else {
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) {
            if (i < count) {
                vstore(walk->at, square[i]);
                walk_on(s, walk, 1);
            }
        }
    }
}

static void fill_run(const winograd_strip *s, ptrdiff_t row, ptrdiff_t count) {
    const fr_winograd *w = s->w;
    const real *from = s->maps + row * w->row_stride + s->low * w->column_stride;
    winograd_walk walk = {row, s->low, band_at(s, row, s->low)};
    if (w->column_stride == 1) {
        for (; count > 0; count -= FR_WIDTH, from += FR_WIDTH) fill_square(s, &walk, from, count < FR_WIDTH ? count : FR_WIDTH);
    } else {
        for (; count > 0; --count, from += w->column_stride, walk.at += FR_WIDTH)
            vstore(walk.at, vload_lanes(from, s->lanes));
    }
}

FR_INLINE int rows_join(const winograd_strip *s) {
    return s->w->column_stride == 1 && s->high - s->low == s->w->row_stride;
}

// Rows first..last-1 of the map's coordinates into the band; zeros where there is no map.
static void fill_rows(const winograd_strip *s, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t columns = s->high - s->low, rows = s->w->map_rows;
    for (ptrdiff_t row = first; row < last; ++row) {
        if (row >= 0 && row < rows) continue;
        for (ptrdiff_t i = 0; i < columns; ++i) vstore(band_at(s, row, s->low + i), vzero());
    }
    first = first < 0 ? 0 : first;
    last = last > rows ? rows : last;
    if (columns <= 0 || first >= last) return;
    if (rows_join(s)) fill_run(s, first, (last - first) * columns);
    else for (; first < last; ++first) fill_run(s, first, columns);
}

// Columns left and right of the map stay zero.
static void clear_margins(const winograd_strip *s) {
    const ptrdiff_t low = s->low < s->high ? s->low - s->w->left : s->pitch, high = s->high - s->w->left;
    for (ptrdiff_t r = 0; r < s->ring; ++r) {
        real *row = s->band + r * s->pitch * FR_WIDTH;
        for (ptrdiff_t i = 0; i < low; ++i) vstore(row + i * FR_WIDTH, vzero());
        for (ptrdiff_t i = high < low ? low : high; i < s->pitch; ++i) vstore(row + i * FR_WIDTH, vzero());
    }
}

// The tiles of a row that have one width: points and outputs along the row, and where they begin.
typedef struct winograd_segment {
    ptrdiff_t count, place;  // first output, counted from the first of the row
    int points, outputs;
    real *tiles;
} winograd_segment;

FR_INLINE winograd_segment segment_of(const fr_winograd *w, int edge) {
    if (!edge) return (winograd_segment){w->tile_columns, 0, w->points[1], w->outputs[1], (real *)w->tiles};
    return (winograd_segment){w->edge_columns, w->tile_columns * w->outputs[1], w->points[1] - 1, w->outputs[1] - 1,
                              (real *)w->edge_tiles};
}

FR_INLINE ptrdiff_t group_at(const fr_winograd *w, ptrdiff_t group) {
    return group / FR_SLOTS * w->panel_stride + group % FR_SLOTS * FR_WIDTH;
}

// Maps to tiles: the input, or (reaching over its outputs only) the gradient of the output.
FR_INLINE void transform_maps(const fr_winograd *w, const int op) {
    const int input = op == WINOGRAD_INPUT, points = w->points[0] - w->edge_rows, outputs = w->outputs[0] - w->edge_rows;
    const winograd_segment last = segment_of(w, w->edge_columns > 0);
    const ptrdiff_t ring = input ? points : outputs, over = input ? w->points[1] - w->outputs[1] : 0;
    const ptrdiff_t pitch = last.place + last.count * last.outputs + over;
    real *band = (real *)w->scratch;
    winograd_tiles tiles = {.in_column = FR_WIDTH, .out_row = w->points[1] * w->point_stride, .out_column = w->point_stride,
                            .out_step = w->tile_stride};
    for (ptrdiff_t group = 0; group * FR_WIDTH < w->channels; ++group) {
        const winograd_strip s = strip_of(w, group, band, ring, pitch);
        ptrdiff_t filled = w->top;
        clear_margins(&s);
        for (ptrdiff_t i = 0; i < w->tile_rows; ++i) {
            const ptrdiff_t row = w->top + i * outputs;
            fill_rows(&s, filled, row + ring);
            filled = row + ring;
            for (int edge = 0; edge <= (w->edge_columns > 0); ++edge) {
                const winograd_segment t = segment_of(w, edge);
                for (ptrdiff_t j = 0; j < ring; ++j)
                    tiles.in[j] = band + ((i * outputs + j) % ring * pitch + t.place) * FR_WIDTH;
                tiles.in_step = t.outputs * FR_WIDTH, tiles.count = t.count;
                tiles.out = t.tiles + i * t.count * w->tile_stride + group_at(w, group);
                winograd_function(op, points, outputs, t.points, t.outputs)(&tiles);
            }
        }
    }
}

static void FR_NAME(winograd_input)(const fr_winograd *w) { transform_maps(w, WINOGRAD_INPUT); }
static void FR_NAME(winograd_spread)(const fr_winograd *w) { transform_maps(w, WINOGRAD_SPREAD); }

// What a finished value still gets: + bias, then at least `least`.
typedef struct winograd_finish {
    vec bias, least;
} winograd_finish;

FR_INLINE vec finish_tile(winograd_finish f, vec v) { return vmax(f.least, vadd(v, f.bias)); }

FR_INLINE void drain_square(const winograd_strip *s, winograd_walk *walk, winograd_finish f, real *to, ptrdiff_t count) {
    const ptrdiff_t stride = s->w->channel_stride;
    vec square[FR_WIDTH];
    if (count == FR_WIDTH && walk->column + FR_WIDTH <= s->high) {
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) square[i] = finish_tile(f, vload(walk->at + i * FR_WIDTH));
        walk_on(s, walk, FR_WIDTH);
    } else {
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i) {
            square[i] = vzero();
            if (i < count) {
                square[i] = finish_tile(f, vload(walk->at));
                walk_on(s, walk, 1);
            }
        }
    }
    transpose(square);
    if (count == FR_WIDTH && s->lanes == FR_WIDTH) {
        FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) vstore(to + u * stride, square[u]);
    } else {
        FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u)
            if (u < s->lanes) vstore_n(to + u * stride, square[u], count);
    }
}

static void drain_run(const winograd_strip *s, winograd_finish f, ptrdiff_t row, ptrdiff_t count) {
    const fr_winograd *w = s->w;
    real *to = s->maps + row * w->row_stride + s->low * w->column_stride;
    winograd_walk walk = {row, s->low, band_at(s, row, s->low)};
    if (w->column_stride == 1) {
        for (; count > 0; count -= FR_WIDTH, to += FR_WIDTH)
            drain_square(s, &walk, f, to, count < FR_WIDTH ? count : FR_WIDTH);
    } else {
        for (; count > 0; --count, to += w->column_stride, walk.at += FR_WIDTH)
            vstore_lanes(to, finish_tile(f, vload(walk.at)), s->lanes);
    }
}

static void drain_rows(const winograd_strip *s, winograd_finish f, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t columns = s->high - s->low;
    if (rows_join(s)) drain_run(s, f, first, (last - first) * columns);
    else for (; first < last; ++first) drain_run(s, f, first, columns);
}

// tanh and sigmoid work on the band; the others are a bound below.
static winograd_finish activate(const fr_winograd *w, vec bias, real *band, ptrdiff_t vectors) {
    const vec none = vdiv(vset1(-1), vzero());
    if (w->activation == FR_ACTIVATION_NONE) return (winograd_finish){bias, none};
    if (w->activation == FR_ACTIVATION_RELU) return (winograd_finish){bias, vzero()};
    for (ptrdiff_t i = 0; i < vectors; ++i) {
        const vec v = vadd(vload(band + i * FR_WIDTH), bias);
        vstore(band + i * FR_WIDTH, w->activation == FR_ACTIVATION_TANH ? vtanh(v) : vsigmoid(v));
    }
    return (winograd_finish){vset1((real)-0.0), none};
}

// One row of the tiles of a segment, to its columns of the band.
static void gather_tile_row(const fr_winograd *w, const winograd_segment t, const real *from, real *band, ptrdiff_t pitch) {
    const int points = w->points[0] - w->edge_rows, outputs = w->outputs[0] - w->edge_rows;
    winograd_tiles tiles = {.in_column = w->point_stride, .in_step = w->tile_stride, .out = band + t.place * FR_WIDTH,
                            .out_row = pitch * FR_WIDTH, .out_column = FR_WIDTH, .out_step = t.outputs * FR_WIDTH,
                            .count = t.count};
    for (ptrdiff_t j = 0; j < points; ++j) tiles.in[j] = from + j * w->points[1] * w->point_stride;
    winograd_function(WINOGRAD_GATHER, points, outputs, t.points, t.outputs)(&tiles);
}

// Tiles to maps.
static void FR_NAME(winograd_output)(const fr_winograd *w) {
    const winograd_segment last = segment_of(w, w->edge_columns > 0);
    const ptrdiff_t pitch = last.place + last.count * last.outputs, ring = w->outputs[0] - w->edge_rows;
    real *band = (real *)w->scratch;
    for (ptrdiff_t group = 0; group * FR_WIDTH < w->channels; ++group) {
        const winograd_strip s = strip_of(w, group, band, ring, pitch);
        const vec bias = w->bias == NULL ? vset1((real)-0.0) : vload_lanes((const real *)w->bias + group * FR_WIDTH, s.lanes);
        for (ptrdiff_t i = 0; i < w->tile_rows; ++i) {
            const ptrdiff_t row = w->top + i * ring;
            for (int edge = 0; edge <= (w->edge_columns > 0); ++edge) {
                const winograd_segment t = segment_of(w, edge);
                gather_tile_row(w, t, t.tiles + i * t.count * w->tile_stride + group_at(w, group), band, pitch);
            }
            const winograd_finish f = activate(w, bias, band, ring * pitch);
            drain_rows(&s, f, row, row + ring < w->map_rows ? row + ring : w->map_rows);
        }
    }
}
