// Rows of maps on their way into the first-level cache, with what stands for the padding around them: what reads them there needs
// no masks. Whole vectors are written; a row's rest is overwritten by the row that follows.
#pragma once

#include "pool_windows.h"

enum { POOL_BUFFER = 4096 };          // 16 KB of floats
enum { POOL_BEYOND = 4 * FR_WIDTH };  // reals that may be read or written past the last row

// Columns from..from+n-1 of a row lie in the buffer between places outside: `left` before them, `span` in all. Rows are `pitch` apart
// and begin `lead` after a whole vector, so that the columns begin with one.
typedef struct pool_part {
    ptrdiff_t from, n, left, span, lead, pitch;
} pool_part;

// Columns start..start+span-1 of rows of `size`.
FR_INLINE pool_part pool_part_of(ptrdiff_t start, ptrdiff_t span, ptrdiff_t size) {
    const ptrdiff_t from = start > 0 ? start : 0, end = start + span < size ? start + span : size;
    const ptrdiff_t n = end > from ? end - from : 0, left = n ? from - start : 0;
    const ptrdiff_t lead = (FR_WIDTH - left % FR_WIDTH) % FR_WIDTH, vectors = (lead + span + FR_WIDTH - 1) / FR_WIDTH;
    return (pool_part){n ? from : 0, n, left, span, lead, vectors * FR_WIDTH};
}

// The columns that windows o..o+count-1 meet.
FR_INLINE pool_part pool_part_met(const fr_pool_axis *W, ptrdiff_t o, ptrdiff_t count) {
    const ptrdiff_t span = (count - 1) * W->stride + (W->kernel - 1) * W->dilation + 1;
    return pool_part_of(o * W->stride - W->padding, span, W->size);
}

// How many windows of a row, at most all, go into the buffer with `rows` rows; 0: not a single one.
FR_INLINE ptrdiff_t pool_windows_at_once(const fr_pool_axis *W, ptrdiff_t rows) {
    const ptrdiff_t room = POOL_BUFFER / rows - 2 * FR_WIDTH - (W->kernel - 1) * W->dilation - 1;
    const ptrdiff_t most = room < 0 ? 0 : room / W->stride + 1;
    return most < W->out ? most : W->out;
}

// The rows of x that one row of y meets.
typedef struct pool_rows {
    const real *x;  // of the first tap of the window, which may be outside
    ptrdiff_t depth_step, height_step;
    pool_span depth, height;
} pool_rows;

FR_INLINE pool_rows pool_rows_of(const fr_pool *s, const pool_place *p) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t slice = H->size * W->size;
    const pool_span d = pool_window(D, p->depth), h = pool_window(H, p->height);
    const real *x = (const real *)s->x + p->plane * D->size * slice;
    return (pool_rows){x + d.start * slice + h.start * W->size, D->dilation * slice, H->dilation * W->size, d, h};
}

FR_INLINE int pool_rows_empty(const pool_rows *r) {
    return r->depth.lo == r->depth.hi || r->height.lo == r->height.hi;
}

FR_INLINE vec join_vector(const real *const row[3], ptrdiff_t i, ptrdiff_t lanes, const int count, const int mode) {
    const vec fill = pool_outside(mode);
    vec all = pool_signed(mode, vload_filled(row[0] + i, lanes, fill));
    if (count > 1) all = pool_join(mode, all, pool_signed(mode, vload_filled(row[1] + i, lanes, fill)));
    if (count > 2) all = pool_join(mode, all, pool_signed(mode, vload_filled(row[2] + i, lanes, fill)));
    return all;
}

// One to three rows joined, to what the buffer holds if `add`.
FR_INLINE void lay_joined(const real *const row[3], const pool_part *c, real *to, int add, const int count,
                             const int mode) {
    const vec fill = pool_signed(mode, pool_outside(mode));
    const ptrdiff_t n = c->n, right = c->span - c->left;
    ptrdiff_t i = 0;
    for (ptrdiff_t at = 0; at < c->left && !add; at += FR_WIDTH) vstore(to + at, fill);
    to += c->left;
    for (; i + FR_WIDTH <= n; i += FR_WIDTH) {
        const vec all = join_vector(row, i, FR_WIDTH, count, mode);
        vstore(to + i, add ? pool_join(mode, vload(to + i), all) : all);
    }
    if (i < n) {
        const vec all = join_vector(row, i, n - i, count, mode);
        vstore(to + i, add ? pool_join(mode, vload(to + i), all) : all);
        i += FR_WIDTH;
    }
    for (; i < right && !add; i += FR_WIDTH) vstore(to + i, fill);
}

// All rows of a window, joined.
FR_INLINE void lay_window(const pool_rows *rows, const pool_part *c, real *to, const int mode) {
    const real *row[3];
    int count = 0, add = 0;
    if (pool_rows_empty(rows)) {
        const pool_part outside = {.span = c->span};
        lay_joined(row, &outside, to, 0, 1, mode);
        return;
    }
    for (ptrdiff_t d = rows->depth.lo; d < rows->depth.hi; ++d) {
        const int last_depth = d + 1 == rows->depth.hi;
        for (ptrdiff_t h = rows->height.lo; h < rows->height.hi; ++h) {
            row[count++] = rows->x + d * rows->depth_step + h * rows->height_step + c->from;
            if (count < 3 && !(last_depth && h + 1 == rows->height.hi)) continue;
            if (count == 1) lay_joined(row, c, to, add, 1, mode);
            else if (count == 2) lay_joined(row, c, to, add, 2, mode);
            else lay_joined(row, c, to, add, 3, mode);
            count = 0, add = 1;
        }
    }
}

// The end of the maps that a share certainly may read: that of its last plane.
FR_INLINE const real *pool_maps_end(const fr_pool *s) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t planes = (s->row + s->rows + D->out * H->out - 1) / (D->out * H->out);
    return (const real *)s->x + planes * D->size * H->size * W->size;
}

// Whether no window reaches past a row.
FR_INLINE int pool_stays_inside(const fr_pool_axis *W) {
    return W->padding == 0 && (W->out - 1) * W->stride + (W->kernel - 1) * W->dilation < W->size;
}

// Whether `met` elements from the start of each row of a window may be read: whole vectors then need no masks, since what lies past
// a row is in the maps. Only where windows stay inside.
FR_INLINE int pool_in_place(const pool_rows *r, ptrdiff_t met, const real *end) {
    return end - r->x >= (r->depth.hi - 1) * r->depth_step + (r->height.hi - 1) * r->height_step + met;
}

// Asks for what the windows some rows further on will read, as much of it as comes new with each row of them.
FR_INLINE void pool_fetch(const fr_pool *s, const pool_rows *r) {
    const real *ahead = r->x + POOL_BUFFER;
    for (ptrdiff_t i = 0; i < s->axis[1].stride * s->axis[2].size; i += FR_WIDTH) lanes_fetch(ahead + i);
}

// Lanes of y that are stored from `at` on: past a row's end lies what is stored later, up to the end of the share.
FR_INLINE ptrdiff_t pool_lanes(ptrdiff_t at, ptrdiff_t limit, ptrdiff_t count) {
    return at + FR_WIDTH <= limit ? FR_WIDTH : lanes_left(count, 0);
}
