// Tiles of Winograd convolution through the transforms of both axes, from memory to memory once: what one axis leaves stays in
// registers for the other, as far as there are enough.
#pragma once

#include "gemm.h"
#include "winograd_transform.h"

// `count` tiles of whole vectors: value (r, c) of tile i is at in[r] + c*in_column + i*in_step, and result (r, c) goes to
// out + r*out_row + c*out_column + i*out_step.
typedef struct winograd_tiles {
    const real *in[WINOGRAD_MOST];
    ptrdiff_t in_column, in_step;
    real *out;
    ptrdiff_t out_row, out_column, out_step;
    ptrdiff_t count;
} winograd_tiles;

// An axis: WINOGRAD_NONE is not transformed, the edges have five points and three or four outputs; n outputs or taps on six
// points, or on eight, are n - 2 or n - 3 further on.
enum {
    WINOGRAD_NONE,
    WINOGRAD_EDGE,
    WINOGRAD_SIX,
    WINOGRAD_EDGE_4 = 6,
    WINOGRAD_EIGHT,
    WINOGRAD_AXES = 11,
    WINOGRAD_ROW_AXES = 7
};

FR_INLINE int winograd_axis(int points, int n) {
    return points == 1   ? WINOGRAD_NONE
           : points == 5 ? (n == 4 ? WINOGRAD_EDGE_4 : WINOGRAD_EDGE)
           : points == 6 ? WINOGRAD_SIX + n - 2
                         : WINOGRAD_EIGHT + n - 3;
}

FR_INLINE int is_edge(const int axis) { return axis == WINOGRAD_EDGE || axis == WINOGRAD_EDGE_4; }

FR_INLINE int points_of(const int axis) {
    return axis == WINOGRAD_NONE ? 1 : is_edge(axis) ? 5 : axis < WINOGRAD_EIGHT ? 6 : 8;
}
FR_INLINE int outputs_of(const int axis) {
    return axis == WINOGRAD_NONE     ? 1
           : axis == WINOGRAD_EDGE   ? 3
           : axis == WINOGRAD_EDGE_4 ? 4
           : axis < WINOGRAD_EIGHT   ? axis
                                     : axis - WINOGRAD_EIGHT + 3;
}
FR_INLINE int values_in(const int op, const int axis) {
    return op == WINOGRAD_SPREAD || op == WINOGRAD_SCALED_SPREAD ? outputs_of(axis) : points_of(axis);
}
FR_INLINE int values_out(const int op, const int axis) {
    return op == WINOGRAD_GATHER || op == WINOGRAD_SCALED_GATHER ? outputs_of(axis) : points_of(axis);
}

// What is inlined to be specialised. Without optimisation, as under the sanitizers, nothing would be left out of all those copies:
// the compiler would take minutes.
#ifdef __OPTIMIZE__
#define FR_SPECIAL FR_INLINE
#else
#define FR_SPECIAL static inline
#endif

FR_SPECIAL void transform_axis(const int op, const int axis, const vec *a, vec *b) {
    const int h = points_of(axis) / 2 - 1, n = outputs_of(axis);
    if (axis == WINOGRAD_NONE) b[0] = a[0];
    else if (is_edge(axis) && op == WINOGRAD_INPUT) transform_edge_input(a, b);
    else if (is_edge(axis) && op == WINOGRAD_GATHER) transform_edge_gather(n, a, b);
    else if (is_edge(axis)) transform_edge_spread(n, a, b);
    else if (op == WINOGRAD_INPUT) transform_input(h, a, b);
    else if (op == WINOGRAD_GATHER) transform_gather(h, n, 0, a, b);
    else if (op == WINOGRAD_SPREAD) transform_spread(h, n, 0, a, b);
    else if (op == WINOGRAD_SCALED_GATHER) transform_gather(h, n, 1, a, b);
    else transform_spread(h, n, 1, a, b);
}

// Result rows first..last-1 of one tile. Other results of the columns' transforms are dead, and the compiler leaves them out.
// Pointers are pinned as they go along: else the compiler keeps the address of every value on the stack.
FR_SPECIAL void transform_rows(const winograd_tiles *t, const int op, const int down, const int along, const int first,
                               const int last, ptrdiff_t tile) {
    vec half[6][WINOGRAD_MOST], result[WINOGRAD_MOST];
    const real *from[WINOGRAD_MOST];
    FR_UNROLL(8) for (int r = 0; r < values_in(op, down); ++r) from[r] = t->in[r] + tile * t->in_step;
    FR_UNROLL(8) for (int c = 0; c < values_in(op, along); ++c) {
        vec column[WINOGRAD_MOST];
        FR_UNROLL(8) for (int r = 0; r < values_in(op, down); ++r) {
            column[r] = vload(from[r]);
            vpin(&column[r]);
            from[r] += t->in_column;
            pin_pointer(&from[r]);
        }
        transform_axis(op, down, column, result);
        FR_UNROLL(8) for (int r = first; r < last; ++r) half[r][c] = result[r];
    }
    const real *row = t->out + tile * t->out_step + first * t->out_row;
    FR_UNROLL(8) for (int r = first; r < last; ++r, row += t->out_row) {
        const real *to = row;
        transform_axis(op, along, half[r], result);
        FR_UNROLL(8) for (int c = 0; c < values_out(op, along); ++c, to += t->out_column) {
            pin_pointer(&to);
            vstore((real *)to, result[c]);
        }
    }
}

// The input of a tile has more values than there are registers. Points 0 and +-q_0 go first, then the others: they share nothing.
FR_SPECIAL void run_tiles(const winograd_tiles *tiles, const int op, const int down, const int along) {
    const winograd_tiles t = *tiles;
    const int rows = values_out(op, down), split = op == WINOGRAD_INPUT && rows > 3 ? 3 : rows;
    for (ptrdiff_t i = 0; i < t.count; ++i) {
        transform_rows(&t, op, down, along, 0, split, i);
        if (split < rows) transform_rows(&t, op, down, along, split, rows, i);
    }
}

// One function for each operation and pair of axes, so that each keeps its values in registers.
typedef void winograd_tiles_fn(const winograd_tiles *tiles);
#define FR_WINOGRAD(name, op, down, along) \
    static FR_NOINLINE void name##_##down##_##along(const winograd_tiles *t) { run_tiles(t, op, down, along); }
#define FR_WINOGRAD_LINES(name, op, a, b, c, d, e, f) \
    FR_WINOGRAD(name, op, 0, a) FR_WINOGRAD(name, op, 0, b) FR_WINOGRAD(name, op, 0, c) \
    FR_WINOGRAD(name, op, 0, d) FR_WINOGRAD(name, op, 0, e) FR_WINOGRAD(name, op, 0, f)
#define FR_WINOGRAD_ROW(name, op, down) \
    FR_WINOGRAD(name, op, down, 2) FR_WINOGRAD(name, op, down, 3) FR_WINOGRAD(name, op, down, 4) FR_WINOGRAD(name, op, down, 5)
#define FR_WINOGRAD_SQUARES(name, op) \
    FR_WINOGRAD_ROW(name, op, 2) FR_WINOGRAD_ROW(name, op, 3) FR_WINOGRAD_ROW(name, op, 4) FR_WINOGRAD_ROW(name, op, 5)
#define FR_WINOGRAD_EDGES(name, op, edge, whole) \
    FR_WINOGRAD(name, op, edge, edge) FR_WINOGRAD(name, op, edge, whole) FR_WINOGRAD(name, op, whole, edge)
FR_WINOGRAD(input, WINOGRAD_INPUT, 0, 2)
FR_WINOGRAD(input, WINOGRAD_INPUT, 0, 7)
FR_WINOGRAD(input, WINOGRAD_INPUT, 2, 2)
FR_WINOGRAD_EDGES(input, WINOGRAD_INPUT, 1, 2)
FR_WINOGRAD_LINES(gather, WINOGRAD_GATHER, 2, 3, 4, 8, 9, 10)
FR_WINOGRAD_LINES(spread, WINOGRAD_SPREAD, 2, 3, 4, 8, 9, 10)
FR_WINOGRAD_LINES(scaled_gather, WINOGRAD_SCALED_GATHER, 3, 4, 5, 7, 8, 9)
FR_WINOGRAD_LINES(scaled_spread, WINOGRAD_SCALED_SPREAD, 3, 4, 5, 7, 8, 9)
FR_WINOGRAD_SQUARES(gather, WINOGRAD_GATHER)
FR_WINOGRAD_SQUARES(spread, WINOGRAD_SPREAD)
FR_WINOGRAD_SQUARES(scaled_gather, WINOGRAD_SCALED_GATHER)
FR_WINOGRAD_SQUARES(scaled_spread, WINOGRAD_SCALED_SPREAD)
FR_WINOGRAD_EDGES(gather, WINOGRAD_GATHER, 1, 4)
FR_WINOGRAD_EDGES(gather, WINOGRAD_GATHER, 6, 5)
FR_WINOGRAD_EDGES(spread, WINOGRAD_SPREAD, 1, 4)
FR_WINOGRAD_EDGES(spread, WINOGRAD_SPREAD, 6, 5)

#define FR_WINOGRAD_TABLE(name) \
    { \
        {[2] = name##_0_2, name##_0_3, name##_0_4, [8] = name##_0_8, name##_0_9, name##_0_10}, \
        {[1] = name##_1_1, [4] = name##_1_4}, \
        {[2] = name##_2_2, name##_2_3, name##_2_4, name##_2_5}, \
        {[2] = name##_3_2, name##_3_3, name##_3_4, name##_3_5}, \
        {[1] = name##_4_1, name##_4_2, name##_4_3, name##_4_4, name##_4_5}, \
        {[2] = name##_5_2, name##_5_3, name##_5_4, name##_5_5, name##_5_6}, \
        {[5] = name##_6_5, name##_6_6}, \
    }
#define FR_WINOGRAD_SCALED_TABLE(name) \
    { \
        {[3] = name##_0_3, name##_0_4, name##_0_5, [7] = name##_0_7, name##_0_8, name##_0_9}, \
        [2] = {[2] = name##_2_2, name##_2_3, name##_2_4, name##_2_5}, \
        {[2] = name##_3_2, name##_3_3, name##_3_4, name##_3_5}, \
        {[2] = name##_4_2, name##_4_3, name##_4_4, name##_4_5}, \
        {[2] = name##_5_2, name##_5_3, name##_5_4, name##_5_5}, \
    }
static winograd_tiles_fn *const winograd_functions[WINOGRAD_OPS][WINOGRAD_ROW_AXES][WINOGRAD_AXES] = {
    [WINOGRAD_INPUT] = {{[2] = input_0_2, [7] = input_0_7}, {[1] = input_1_1, input_1_2}, {[1] = input_2_1, input_2_2}},
    [WINOGRAD_GATHER] = FR_WINOGRAD_TABLE(gather),
    [WINOGRAD_SPREAD] = FR_WINOGRAD_TABLE(spread),
    [WINOGRAD_SCALED_GATHER] = FR_WINOGRAD_SCALED_TABLE(scaled_gather),
    [WINOGRAD_SCALED_SPREAD] = FR_WINOGRAD_SCALED_TABLE(scaled_spread),
};

// n: outputs of each axis, or taps of the scaled transforms. All inputs of so many points share one transform.
FR_INLINE winograd_tiles_fn *winograd_function(int op, int points0, int n0, int points1, int n1) {
    if (op == WINOGRAD_INPUT) n0 = 2, n1 = points1 == 8 ? 3 : 2;  // the edges' too
    return winograd_functions[op][winograd_axis(points0, n0)][winograd_axis(points1, n1)];
}
