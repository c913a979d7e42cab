// The one product kernel: a register tile of up to FR_MAX_ROWS rows by four vectors, kept in registers from the initial
// value to the store. Recurrent steps, dense layers and all their gradients are calls of it.
#pragma once

#include "../fr_kernels.h"
#include "lanes.h"
#include "unroll.h"

typedef vec tile[6][FR_SLOTS];

// Rows of B that a tile of three rows or more fetches ahead into the first-level cache. Alone on its core it gains little by
// that; where the core's other hardware thread is busy, a tenth.
enum { FR_NEAR_ROWS = 8, FR_LINE = 64, FR_FETCH_C = 128 };

// What a tile fetches for the next panel while it multiplies, into the second-level cache: its share of that panel's B, a little
// with every k. All at once, the fetches would hold the few buffers for cache misses, and the tile's own loads would wait.
typedef struct ahead {
    ptrdiff_t panels;       // to the next panel: 1 or -1
    ptrdiff_t tile, tiles;  // this tile, and how many share the panel
    const real *aside;      // something else to fetch instead, if it is not NULL,
    ptrdiff_t aside_k;      // and how much of it with every k
} ahead;

// The next piece of what will soon be used, or NULL if none is left.
FR_INLINE const real *next_piece(fr_boxes *f) {
    if (f->box >= f->boxes) return NULL;
    const char *piece = f->from + f->box * f->box_stride + f->run * f->run_stride + f->at;
    f->at += f->most;
    if (f->at >= f->bytes) {
        f->at = 0;
        if (++f->run == f->runs) f->run = 0, ++f->box;
    }
    return (const real *)piece;
}

// Hides where a pointer came from: it is then advanced in a register of its own. Else the compiler keeps one pointer and an
// offset in a register for each row and line, more registers than there are.
FR_INLINE void pin_pointer(const real **p) {
    __asm__ volatile("" : "+r"(*p));
}

// clang-format off
// acc[i][j] += sum over k of a[i*a_row + k*a_k] * b[k*b_k + j], for mr rows and nv vectors; the last vector adds to slot `last`.
// The broadcast values are pinned: folded into each multiply-add they would make the loop load bound.
FR_INLINE void accumulate(tile acc, const int mr, const int nv, const int last, const real *restrict a,
                          ptrdiff_t a_row, ptrdiff_t a_k, const real *restrict b, ptrdiff_t b_k, ptrdiff_t k,
                          const int fetch, const real *next, ptrdiff_t next_k) {
    vec x[6];  // one value of each row, in every lane
    const real *lower = a + 3 * a_row, *near = b + FR_NEAR_ROWS * b_k;
    for (; k > 0; --k, a += a_k, lower += a_k, b += b_k, near += b_k, next += next_k) {
        if (fetch) __builtin_prefetch(next, 0, 2);
        if (mr > 2) __builtin_prefetch(a + FR_NEAR_ROWS * a_k, 0, 3);
        if (mr > 3) pin_pointer(&lower);
        if (mr > 2) pin_pointer(&near);
        FR_UNROLL(6) for (int i = 0; i < mr; ++i) {
            x[i] = vbroadcast((i < 3 ? a : lower) + i % 3 * a_row);
            vpin(&x[i]);
        }
        FR_UNROLL(4) for (int j = 0; j < nv; ++j) {
            vec w = vload(b + j * FR_WIDTH);
            if (mr > 2 && j * FR_WIDTH * sizeof(real) % FR_LINE == 0)
                __builtin_prefetch(near + j * FR_WIDTH, 0, 3);
            if (mr > 1) vpin(&w);
            const int slot = j == nv - 1 ? last : j;
            FR_UNROLL(6) for (int i = 0; i < mr; ++i) acc[i][slot] = vfma(x[i], w, acc[i][slot]);
        }
    }
}
// clang-format on

// Two panels for one row: eight independent sums, enough to hide the latency of a multiply-add.
FR_INLINE void accumulate_pair(tile acc, const int nv, const int last, const real *restrict a, ptrdiff_t a_k,
                               const real *restrict b0, const real *restrict b1, ptrdiff_t b_k, ptrdiff_t k) {
    for (; k > 0; --k, a += a_k, b0 += b_k, b1 += b_k) {
        const vec x = vbroadcast(a);
        FR_UNROLL(4) for (int j = 0; j < nv; ++j) {
            const int slot = j == nv - 1 ? last : j;
            acc[0][slot] = vfma(x, vload(b0 + j * FR_WIDTH), acc[0][slot]);
            acc[1][slot] = vfma(x, vload(b1 + j * FR_WIDTH), acc[1][slot]);
        }
    }
}

// The rows of A of the next segment, which lies elsewhere: their first lines come nearer while this one is multiplied.
FR_INLINE void fetch_segment(const real *a, const int mr, const fr_run *run) {
    if (run->k_stride != 1) return;
    FR_UNROLL(6) for (int i = 0; i < mr; ++i) {
        for (ptrdiff_t j = 0; j < run->length; j += FR_LINE / (ptrdiff_t)sizeof(real)) __builtin_prefetch(a + i * run->row_stride + j, 0, 3);
    }
}

FR_INLINE void run_segments(tile acc, const int mr, const int nv, const int last, const fr_run *run,
                            ptrdiff_t row, ptrdiff_t panel, const int fetch, ahead far) {
    const real *a = (const real *)run->a + row * run->row_stride + panel * run->a_panel_stride;
    const real *b = (const real *)run->b + panel * run->panel_stride;
    const ptrdiff_t next_k = !fetch ? 0 : far.aside ? far.aside_k : (run->b_stride + far.tiles - 1) / far.tiles;
    const real *next = far.aside ? far.aside : b + far.panels * run->panel_stride + far.tile * next_k * run->segments * run->length;
    for (ptrdiff_t s = 0; s < run->segments; ++s) {
        if (mr > 2 && s + 1 < run->segments) fetch_segment(a + run->segment_stride, mr, run);
        accumulate(acc, mr, nv, last, a, run->row_stride, run->k_stride, b, run->b_stride, run->length, fetch, next, next_k);
        a += run->segment_stride;
        b += run->length * run->b_stride + run->b_skip;
        next += run->length * next_k;
    }
}

FR_INLINE void pair_segments(tile acc, const int nv, const int last, const fr_run *run, ptrdiff_t panel) {
    const real *a = (const real *)run->a;
    const real *b = (const real *)run->b + panel * run->panel_stride;
    for (ptrdiff_t s = 0; s < run->segments; ++s) {
        accumulate_pair(acc, nv, last, a, run->k_stride, b, b + run->panel_stride, run->b_stride, run->length);
        a += run->segment_stride;
        b += run->length * run->b_stride + run->b_skip;
    }
}

FR_INLINE void load_row(vec *acc, const int slots, const real *from, ptrdiff_t columns) {
    if (columns >= slots * FR_WIDTH) {
        FR_UNROLL(4) for (int j = 0; j < slots; ++j) acc[j] = vload(from + j * FR_WIDTH);
    } else {
        FR_UNROLL(4) for (int j = 0; j < slots; ++j) acc[j] = vload_n(from + j * FR_WIDTH, lanes_left(columns, j));
    }
}

FR_INLINE void store_row(const vec *acc, const int slots, real *to, ptrdiff_t columns, int add) {
    if (columns >= slots * FR_WIDTH) {
        FR_UNROLL(4) for (int j = 0; j < slots; ++j)
            vstore(to + j * FR_WIDTH, add ? vadd(vload(to + j * FR_WIDTH), acc[j]) : acc[j]);
    } else {
        FR_UNROLL(4) for (int j = 0; j < slots; ++j) {
            const ptrdiff_t lanes = lanes_left(columns, j);
            vstore_n(to + j * FR_WIDTH, add ? vadd(vload_n(to + j * FR_WIDTH, lanes), acc[j]) : acc[j], lanes);
        }
    }
}

FR_INLINE void start_row(vec *acc, const int slots, const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel) {
    if (g->init == NULL) {
        FR_UNROLL(4) for (int j = 0; j < slots; ++j) acc[j] = vzero();
    } else {
        load_row(acc, slots, (const real *)g->init + row * g->init_row_stride + panel * g->init_panel_stride,
                 g->columns - panel * slots * FR_WIDTH);
    }
}

FR_INLINE void finish_row(const vec *acc, const int slots, const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel) {
    store_row(acc, slots, (real *)g->c + row * g->c_row_stride + panel * g->c_panel_stride,
              g->columns - panel * slots * FR_WIDTH, g->add);
}

// C, which is written and perhaps read when a long sum is through: meanwhile it comes nearer. Short sums have just met it.
FR_INLINE void fetch_c(const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel, const int mr, const int slots) {
    if (mr < 3 || g->run[0].segments * g->run[0].length < FR_FETCH_C) return;
    const real *c = (const real *)g->c + row * g->c_row_stride + panel * g->c_panel_stride;
    FR_UNROLL(6) for (int i = 0; i < mr; ++i) {
        FR_UNROLL(4) for (int j = 0; j < slots; ++j) {
            if (j * FR_WIDTH * sizeof(real) % FR_LINE == 0) __builtin_prefetch(c + i * g->c_row_stride + j * FR_WIDTH, 1, 3);
        }
    }
}

// Rows row..row+mr-1 of one panel. Three or two vectors may feed a four-slot panel: the gates of a GRU.
FR_INLINE void gemm_tile(const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel, const int mr, const int slots, const int fetch,
                         ahead far) {
    tile acc;
    FR_UNROLL(6) for (int i = 0; i < mr; ++i) start_row(acc[i], slots, g, row + i, panel);
    fetch_c(g, row, panel, mr, slots);
    for (int r = 0; r < g->runs; ++r) {
        const fr_run *run = &g->run[r];
        if (slots == 4 && run->vectors == 3 && run->last == 3) run_segments(acc, mr, 3, 3, run, row, panel, fetch, far);
        else if (slots == 4 && run->vectors == 3) run_segments(acc, mr, 3, 2, run, row, panel, fetch, far);
        else if (slots == 4 && run->vectors == 2) run_segments(acc, mr, 2, 1, run, row, panel, fetch, far);
        else run_segments(acc, mr, slots, slots - 1, run, row, panel, fetch, far);
    }
    FR_UNROLL(6) for (int i = 0; i < mr; ++i) finish_row(acc[i], slots, g, row + i, panel);
}

typedef void tile_fn(const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel, const ahead *far);

// Each shape of tile is a function of its own: inlined side by side their loops would run out of registers. tiles_4_1[5] is the
// tile of 6 rows and 4 slots that fetches ahead.
#define FR_TILE(mr, slots, fetch)                                                                                     \
    static FR_NOINLINE void tile_##mr##_##slots##_##fetch(const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel, const ahead *far) { \
        if (mr <= FR_MAX_ROWS) gemm_tile(g, row, panel, mr, slots, fetch, *far);                                       \
    }
#define FR_TILES(slots, fetch)                                                                                        \
    FR_TILE(1, slots, fetch)                                                                                          \
    FR_TILE(2, slots, fetch)                                                                                          \
    FR_TILE(3, slots, fetch)                                                                                          \
    FR_TILE(4, slots, fetch)                                                                                          \
    FR_TILE(5, slots, fetch)                                                                                          \
    FR_TILE(6, slots, fetch)                                                                                          \
    static tile_fn *const tiles_##slots##_##fetch[] = {tile_1_##slots##_##fetch, tile_2_##slots##_##fetch,            \
                                                       tile_3_##slots##_##fetch, tile_4_##slots##_##fetch,            \
                                                       tile_5_##slots##_##fetch, tile_6_##slots##_##fetch};
FR_TILES(1, 0)
FR_TILES(2, 0)
FR_TILES(3, 0)
FR_TILES(4, 0)
FR_TILES(4, 1)

// The single row of two neighbouring panels.
FR_INLINE void gemm_pair(const fr_gemm *g, ptrdiff_t panel, const int slots) {
    tile acc;
    FR_UNROLL(2) for (int i = 0; i < 2; ++i) start_row(acc[i], slots, g, 0, panel + i);
    for (int r = 0; r < g->runs; ++r) {
        const fr_run *run = &g->run[r];
        if (slots == 4 && run->vectors == 3 && run->last == 3) pair_segments(acc, 3, 3, run, panel);
        else if (slots == 4 && run->vectors == 3) pair_segments(acc, 3, 2, run, panel);
        else if (slots == 4 && run->vectors == 2) pair_segments(acc, 2, 1, run, panel);
        else pair_segments(acc, slots, slots - 1, run, panel);
    }
    FR_UNROLL(2) for (int i = 0; i < 2; ++i) finish_row(acc[i], slots, g, 0, panel + i);
}

FR_INLINE ptrdiff_t bytes_of_b(const fr_gemm *g) {
    ptrdiff_t reals = 0;
    for (int r = 0; r < g->runs; ++r) reals += g->run[r].segments * g->run[r].length * g->run[r].b_stride;
    return g->panels * reals * (ptrdiff_t)sizeof(real);
}

// The rows are spread evenly over the tiles (16 = 6 + 5 + 5), so that no tile is a thin, slow remainder.
static void gemm_panels(const fr_gemm *g, tile_fn *const *plain, tile_fn *const *fetching) {
    const ptrdiff_t tiles = (g->rows + FR_MAX_ROWS - 1) / FR_MAX_ROWS;
    const ptrdiff_t height = g->rows / tiles, taller = g->rows % tiles;
    const int fetch = tiles > 1 && tiles <= FR_FAR_TILES && (g->far || bytes_of_b(g) > FR_FAR_BYTES);
    for (ptrdiff_t i = 0; i < g->panels; ++i) {
        const ptrdiff_t panel = g->backwards ? g->panels - 1 - i : i, next = g->backwards ? -1 : 1;
        tile_fn *const *shapes = fetch && (g->far || i + 1 < g->panels) ? fetching : plain;
        ptrdiff_t row = 0;
        for (ptrdiff_t t = 0; t < tiles; ++t) {
            const ptrdiff_t mr = height + (t < taller);
            const ahead far = {.panels = next, .tile = t, .tiles = tiles};
            shapes[mr - 1](g, row, panel, &far);
            row += mr;
        }
    }
}

FR_INLINE void gemm_one_row(const fr_gemm *g, const int slots, tile_fn *single) {
    const ptrdiff_t pairs = g->panels / 2;
    const ahead nothing = {.tiles = 1};
    if (g->panels % 2 && g->backwards) single(g, 0, g->panels - 1, &nothing);
    for (ptrdiff_t i = 0; i < pairs; ++i) gemm_pair(g, 2 * (g->backwards ? pairs - 1 - i : i), slots);
    if (g->panels % 2 && !g->backwards) single(g, 0, g->panels - 1, &nothing);
}

FR_INLINE void gemm_slots(const fr_gemm *g, const int slots, tile_fn *const *plain, tile_fn *const *fetching) {
    if (g->rows == 1 && g->run[0].a_panel_stride == 0) gemm_one_row(g, slots, plain[0]);
    else gemm_panels(g, plain, fetching);
}

static FR_NOINLINE void gemm_slots_1(const fr_gemm *g) { gemm_slots(g, 1, tiles_1_0, tiles_1_0); }
static FR_NOINLINE void gemm_slots_2(const fr_gemm *g) { gemm_slots(g, 2, tiles_2_0, tiles_2_0); }
static FR_NOINLINE void gemm_slots_3(const fr_gemm *g) { gemm_slots(g, 3, tiles_3_0, tiles_3_0); }
static FR_NOINLINE void gemm_slots_4(const fr_gemm *g) { gemm_slots(g, 4, tiles_4_0, tiles_4_1); }

static void FR_NAME(gemm)(const fr_gemm *g) {
    if (g->rows <= 0 || g->panels <= 0) return;
    switch (g->slots) {
        case 1: gemm_slots_1(g); break;
        case 2: gemm_slots_2(g); break;
        case 3: gemm_slots_3(g); break;
        default: gemm_slots_4(g); break;
    }
}
