// Pooling of maps that lie channels first, with the places of what was taken. Windows that a vector finds in the map are read there;
// else the rows of a window are copied with their padding first. `stride` is a constant 1 or 2, or 0 for any other, where windows of
// stride 1 are gone through and some of them picked. A minimum is a maximum of copies that are negated.
#pragma once

#include "pool_rows.h"

// What was taken so far, and the sum of all that was looked at, which is NaN if one of them is.
typedef struct selection {
    vec best, taps, sum;
} selection;

FR_INLINE void select_value(selection *all, vec v, real tap, const int nan) {
    if (nan) {
        pool_select(&all->best, &all->taps, v, vset1(tap), 1);
    } else {
        all->taps = vselect(vgt(v, all->best), vset1(tap), all->taps);
        all->best = vmax(v, all->best);
        all->sum = vadd(all->sum, v);
    }
}

// `count` places of a row, the first of which is `tap`. `pairs`: stride 2 without dilation.
FR_INLINE void select_row(selection *all, const real *row, ptrdiff_t count, ptrdiff_t dilation, real tap,
                             const int stride, const int pairs, const int nan) {
    FR_UNROLL(3) for (ptrdiff_t j = 0; j < count; j += pairs ? 2 : 1) {
        const vec a = vload(row + j * dilation), b = stride == 2 ? vload(row + j * dilation + FR_WIDTH) : a;
        select_value(all, stride == 2 ? vunzip_even(a, b) : a, tap + (real)j, nan);
        if (pairs && j + 1 < count) select_value(all, vunzip_odd(a, b), tap + (real)(j + 1), nan);
    }
}

// The places of a window in their order, from element `at` of its rows on. `kernel` is the constant size of windows in a row, or 0.
// Without `nan` numbers alone are expected.
FR_INLINE selection select_taps(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, vec first, const int stride,
                                const int kernel, const int nan) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const real *x = rows->x + at;
    const ptrdiff_t step = rows->height_step, height = rows->height.hi - rows->height.lo;
    selection all = {vset1(-(real)INFINITY), first, vzero()};
    if (kernel && rows->height.lo == 0 && height == kernel && rows->depth.lo == 0 && rows->depth.hi == 1) {
        FR_UNROLL(3) for (ptrdiff_t h = 0; h < kernel; ++h)
            select_row(&all, x + h * step, kernel, 1, (real)(h * kernel), stride, stride == 2, nan);
        return all;
    }
    for (ptrdiff_t d = rows->depth.lo; d < rows->depth.hi; ++d) {
        for (ptrdiff_t h = rows->height.lo; h < rows->height.hi; ++h) {
            const real *row = x + d * rows->depth_step + h * step;
            const real tap = (real)((d * H->kernel + h) * W->kernel);
            if (kernel) select_row(&all, row, kernel, 1, tap, stride, stride == 2, nan);
            else if (W->dilation == 1) select_row(&all, row, W->kernel, 1, tap, stride, stride == 2, nan);
            else select_row(&all, row, W->kernel, W->dilation, tap, stride, 0, nan);
        }
    }
    return all;
}

// The first tap of the rows of a window that is in the map, before the column is looked at.
FR_INLINE ptrdiff_t first_row_tap(const fr_pool *s, const pool_rows *rows) {
    if (pool_rows_empty(rows)) return pool_places(s);
    return (rows->depth.lo * s->axis[1].kernel + rows->height.lo) * s->axis[2].kernel;
}

// The first `lanes` windows of a vector go to element `to`.
FR_INLINE void put_vector_of(const fr_pool *s, const selection *all, ptrdiff_t to, ptrdiff_t lanes) {
    store_taps(s, to, all->taps, lanes);
    vstore_lanes((real *)s->y + to, s->mode == FR_POOL_MIN ? vneg(all->best) : all->best, lanes);
}

// Any values. Not inlined: rare.
static FR_NOINLINE void select_any(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, const vec *first, int stride,
                                   ptrdiff_t to, ptrdiff_t lanes) {
    const selection all =
        stride == 2 ? select_taps(s, rows, at, *first, 2, 0, 1) : select_taps(s, rows, at, *first, 1, 0, 1);
    put_vector_of(s, &all, to, lanes);
}

// Windows o..o+count-1 of a row of y, the first of which starts at the first element of the rows. Results may be written up to
// element `limit`.
typedef void select_fn(const fr_pool *s, const pool_rows *rows, ptrdiff_t row, ptrdiff_t o, ptrdiff_t count, ptrdiff_t limit);

FR_INLINE void select_windows(const fr_pool *s, const pool_rows *given, ptrdiff_t row, ptrdiff_t o, ptrdiff_t count,
                              ptrdiff_t limit, const int stride, const int kernel) {
    const pool_rows rows = *given;
    const vec start = vset1((real)first_row_tap(s, &rows)), places = vset1((real)pool_places(s));
    const ptrdiff_t last = count > FR_WIDTH ? count - FR_WIDTH : 0;  // the last vector may overlap the one before
    for (ptrdiff_t n = 0; n < count; n += FR_WIDTH) {
        const ptrdiff_t i = n < last ? n : last, to = row * s->axis[2].out + o + i, lanes = pool_lanes(to, limit, count - i);
        const vec columns = vload_lanes((const real *)s->first + o + i, lanes_left(count - i, 0));
        const vec first = vmin(places, vadd(start, columns));
        const selection all = select_taps(s, &rows, i * stride, first, stride, kernel, 0);
        if (vany(visnan(all.sum))) select_any(s, given, i * stride, &first, stride, to, lanes);
        else put_vector_of(s, &all, to, lanes);
    }
}
static FR_NOINLINE void select_1(const fr_pool *s, const pool_rows *rows, ptrdiff_t row, ptrdiff_t o, ptrdiff_t count,
                                  ptrdiff_t limit) {
    select_windows(s, rows, row, o, count, limit, 1, 0);
}
static FR_NOINLINE void select_1_3(const fr_pool *s, const pool_rows *rows, ptrdiff_t row, ptrdiff_t o, ptrdiff_t count,
                                  ptrdiff_t limit) {
    select_windows(s, rows, row, o, count, limit, 1, 3);
}
static FR_NOINLINE void select_2(const fr_pool *s, const pool_rows *rows, ptrdiff_t row, ptrdiff_t o, ptrdiff_t count,
                                  ptrdiff_t limit) {
    select_windows(s, rows, row, o, count, limit, 2, 0);
}
static FR_NOINLINE void select_2_2(const fr_pool *s, const pool_rows *rows, ptrdiff_t row, ptrdiff_t o, ptrdiff_t count,
                                  ptrdiff_t limit) {
    select_windows(s, rows, row, o, count, limit, 2, 2);
}
static FR_NOINLINE void select_2_3(const fr_pool *s, const pool_rows *rows, ptrdiff_t row, ptrdiff_t o, ptrdiff_t count,
                                  ptrdiff_t limit) {
    select_windows(s, rows, row, o, count, limit, 2, 3);
}

FR_INLINE void put_selection(const fr_pool *s, ptrdiff_t to, real value, ptrdiff_t tap) {
    ((real *)s->y)[to] = s->mode == FR_POOL_MIN ? -value : value;
    if (s->wide) ((int32_t *)s->taps)[to] = (int32_t)tap;
    else ((uint8_t *)s->taps)[to] = (uint8_t)tap;
}

FR_INLINE ptrdiff_t first_tap(const fr_pool *s, const pool_rows *rows, ptrdiff_t o) {
    const ptrdiff_t places = pool_places(s), tap = first_row_tap(s, rows) + (ptrdiff_t)((const real *)s->first)[o];
    return tap < places ? tap : places;
}

// The same from windows of stride 1, whose values and taps wait in `values` and `numbers`.
static FR_NOINLINE void select_picked(const fr_pool *s, const pool_rows *rows, real *values, real *numbers, ptrdiff_t row, ptrdiff_t o,
                             ptrdiff_t count) {
    const fr_pool_axis *W = &s->axis[2];
    for (ptrdiff_t i = 0; i <= (count - 1) * W->stride; i += FR_WIDTH) {
        selection all = select_taps(s, rows, i, vset1(-1), 1, 0, 0);
        if (vany(visnan(all.sum))) all = select_taps(s, rows, i, vset1(-1), 1, 0, 1);
        vstore(values + i, all.best);
        vstore(numbers + i, all.taps);
    }
    for (ptrdiff_t i = 0; i < count; ++i) {
        const real tap = numbers[i * W->stride];
        put_selection(s, row * W->out + o + i, values[i * W->stride], tap < 0 ? first_tap(s, rows, o + i) : (ptrdiff_t)tap);
    }
}

// A row of windows that no buffer holds, one value after the other.
FR_INLINE void select_without_buffer(const fr_pool *s, const pool_place *to) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const pool_rows rows = pool_rows_of(s, to);
    const int negated = s->mode == FR_POOL_MIN;
    for (ptrdiff_t o = 0; o < W->out; ++o) {
        const pool_span w = pool_window(W, o);
        real best = -(real)INFINITY;
        ptrdiff_t tap = first_tap(s, &rows, o);
        for (ptrdiff_t d = rows.depth.lo; d < rows.depth.hi; ++d) {
            for (ptrdiff_t h = rows.height.lo; h < rows.height.hi; ++h) {
                const real *row = rows.x + d * rows.depth_step + h * rows.height_step + w.start;
                for (ptrdiff_t i = w.lo; i < w.hi; ++i) {
                    const real value = negated ? -row[i * W->dilation] : row[i * W->dilation];
                    if (value > best || value != value) best = value, tap = (d * H->kernel + h) * W->kernel + i;
                }
            }
        }
        put_selection(s, to->row * W->out + o, best, tap);
    }
}

// Rows of x in the buffer that some rows of y meet, `span` of them for each tap of the depth.
typedef struct select_band {
    real *rows;  // of the first window's first tap, which may be outside and is not written then
    ptrdiff_t span;
} select_band;

FR_INLINE void lay_rows(const fr_pool *s, const pool_place *first, const pool_part *c, const select_band *band,
                        const int mode) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const pool_rows rows = pool_rows_of(s, first);
    const ptrdiff_t above = H->padding - first->height * H->stride, lo = above > 0 ? above : 0;
    const ptrdiff_t hi = H->size + above < band->span ? H->size + above : band->span;
    for (ptrdiff_t d = rows.depth.lo; d < rows.depth.hi; ++d) {
        for (ptrdiff_t h = lo; h < hi; ++h) {
            const real *row[3] = {rows.x + d * rows.depth_step + h * W->size + c->from, NULL, NULL};
            lay_joined(row, c, band->rows + (d * band->span + h) * c->pitch, 0, 1, mode);
        }
    }
}
static FR_NOINLINE void lay_rows_max(const fr_pool *s, const pool_place *first, const pool_part *c,
                                     const select_band *band) {
    lay_rows(s, first, c, band, FR_POOL_MAX);
}
static FR_NOINLINE void lay_rows_min(const fr_pool *s, const pool_place *first, const pool_part *c,
                                     const select_band *band) {
    lay_rows(s, first, c, band, FR_POOL_MIN);
}

// Rows of x that one window spans, and room for two more where windows are picked.
FR_INLINE ptrdiff_t rows_spanned(const fr_pool *s, ptrdiff_t windows) {
    return s->axis[0].kernel * ((windows - 1) * s->axis[1].stride + (s->axis[1].kernel - 1) * s->axis[1].dilation + 1);
}

// So many rows of y are selected from one band, of which there is room for at least one.
FR_INLINE ptrdiff_t rows_at_once(const fr_pool *s, const pool_place *p, const pool_part *c, ptrdiff_t more) {
    const ptrdiff_t end = s->row + s->rows, left = s->axis[1].out - p->height;
    const ptrdiff_t most = left < end - p->row ? left : end - p->row;
    const ptrdiff_t room = POOL_BUFFER / c->pitch - more - rows_spanned(s, 1), each = s->axis[0].kernel * s->axis[1].stride;
    const ptrdiff_t fit = room > 0 ? 1 + room / each : 1;
    return fit < most ? fit : most;
}

// Windows o..o+count-1 of all rows, from copies that are negated for a minimum; picked without `select`.
static void select_strip(const fr_pool *s, ptrdiff_t o, ptrdiff_t count, real *buffer, select_fn *select) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const pool_part c = pool_part_met(W, o, count);
    const ptrdiff_t end = s->row + s->rows, limit = count == W->out ? end * W->out : 0, more = select ? 0 : 2;
    real *const values = buffer, *const numbers = buffer + c.pitch + FR_WIDTH;
    select_band band = {.rows = buffer + (select ? c.lead : 2 * (c.pitch + FR_WIDTH) + c.lead)};
    pool_place to = pool_place_of(s->row, D->out, H->out);
    while (to.row < end) {
        const ptrdiff_t n = rows_at_once(s, &to, &c, more), stop = to.row + n;
        band.span = rows_spanned(s, n) / D->kernel;
        if (s->mode == FR_POOL_MIN) lay_rows_min(s, &to, &c, &band);
        else lay_rows_max(s, &to, &c, &band);
        const real *row = band.rows;
        for (; to.row < stop; pool_next(&to, D->out, H->out), row += H->stride * c.pitch) {
            pool_rows rows = pool_rows_of(s, &to);
            rows.x = row, rows.depth_step = band.span * c.pitch, rows.height_step = H->dilation * c.pitch;
            if (select) select(s, &rows, to.row, o, count, limit);
            else select_picked(s, &rows, values, numbers, to.row, o, count);
        }
    }
}

// As many rows as can be read where they lie; returns the number of the one after them.
static ptrdiff_t select_in_place(const fr_pool *s, select_fn *select) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t end = s->row + s->rows, vectors = (W->out + FR_WIDTH - 1) / FR_WIDTH + 1;
    const ptrdiff_t met = vectors * FR_WIDTH * W->stride + (W->kernel - 1) * W->dilation;
    const real *maps_end = pool_maps_end(s);
    pool_place to = pool_place_of(s->row, D->out, H->out);
    for (; to.row < end; pool_next(&to, D->out, H->out)) {
        const pool_rows rows = pool_rows_of(s, &to);
        if (!pool_in_place(&rows, met, maps_end)) break;
        if (s->far) pool_fetch(s, &rows);
        select(s, &rows, to.row, 0, W->out, end * W->out);
    }
    return to.row;
}

static void select_rows(const fr_pool *given, select_fn *select) {
    fr_pool s = *given;
    const fr_pool_axis *D = &s.axis[0], *H = &s.axis[1], *W = &s.axis[2];
    const ptrdiff_t end = s.row + s.rows, most = pool_windows_at_once(W, rows_spanned(&s, 1) + (select ? 0 : 2));
    if (s.mode == FR_POOL_MAX && select && pool_stays_inside(W)) s.row = select_in_place(&s, select);
    s.rows = end - s.row;
    _Alignas(64) real buffer[POOL_BUFFER + POOL_BEYOND] = {0};  // what lies past a row must be numbers: denormal ones are slow
    for (ptrdiff_t o = 0; o < W->out && most > 0; o += most)
        select_strip(&s, o, o + most < W->out ? most : W->out - o, buffer, select);
    pool_place to = pool_place_of(s.row, D->out, H->out);
    for (; to.row < end && most == 0; pool_next(&to, D->out, H->out)) select_without_buffer(&s, &to);
}

static void select_all(const fr_pool *s) {
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t kernel = W->dilation == 1 ? W->kernel : 0;
    if (W->stride == 1) select_rows(s, kernel == 3 ? select_1_3 : select_1);
    else if (W->stride == 2) select_rows(s, kernel == 3 ? select_2_3 : kernel == 2 ? select_2_2 : select_2);
    else select_rows(s, NULL);
}
