// The products of Winograd's points: the tiles of the product kernel, each of which fetches a piece of the maps that the transforms
// before and after will touch, a little with every k. Memory would else rest during the products, and the transforms wait for it.
#pragma once

#include "gemm.h"

// The next piece for a product over `length` k, if one is left: where it is, and how much of it goes with every k.
FR_INLINE void take_piece(fr_fetch *fetch, const ptrdiff_t *step, ahead *next) {
    const int second = fetch->part[0].box >= fetch->part[0].boxes;
    next->aside = next_piece(&fetch->part[second]);
    if (next->aside) next->aside_k = step[second];
}

// One vector of columns: the six sums of a usual tile are too few to hide the latency of a multiply-add, and short.
enum { WINOGRAD_NARROW_ROWS = 12 };

FR_INLINE void narrow_tile(const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel, const int mr) {
    const fr_run *run = &g->run[0];
    const ptrdiff_t stride = run->row_stride, k_stride = run->k_stride;
    const real *a = (const real *)run->a + row * stride + panel * run->a_panel_stride;
    const real *b = (const real *)run->b + panel * run->panel_stride;
    vec acc[WINOGRAD_NARROW_ROWS];
    FR_UNROLL(12) for (int i = 0; i < mr; ++i) acc[i] = vzero();
    for (ptrdiff_t s = 0; s < run->segments; ++s, a += run->segment_stride) {
        const real *from[4] = {a, a + 3 * stride, a + 6 * stride, a + 9 * stride};
        for (ptrdiff_t k = 0; k < run->length; ++k, b += run->b_stride) {
            const vec w = vload(b);
            FR_UNROLL(12) for (int i = 0; i < mr; ++i) acc[i] = vfma(vbroadcast(from[i / 3] + i % 3 * stride), w, acc[i]);
            FR_UNROLL(4) for (int i = 0; 3 * i < mr; ++i) {
                from[i] += k_stride;
                pin_pointer(&from[i]);
            }
        }
    }
    FR_UNROLL(12) for (int i = 0; i < mr; ++i) finish_row(&acc[i], 1, g, row + i, panel);
}

typedef void narrow_fn(const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel);
#define FR_NARROW(mr) \
    static FR_NOINLINE void narrow_##mr(const fr_gemm *g, ptrdiff_t row, ptrdiff_t panel) { narrow_tile(g, row, panel, mr); }
FR_NARROW(1)
FR_NARROW(2)
FR_NARROW(3)
FR_NARROW(4)
FR_NARROW(5)
FR_NARROW(6)
FR_NARROW(7)
FR_NARROW(8)
FR_NARROW(9)
FR_NARROW(10)
FR_NARROW(11)
FR_NARROW(12)

static void narrow_product(const fr_gemm *g) {
    static narrow_fn *const heights[] = {narrow_1, narrow_2, narrow_3, narrow_4,  narrow_5,  narrow_6,
                                         narrow_7, narrow_8, narrow_9, narrow_10, narrow_11, narrow_12};
    const ptrdiff_t tiles = (g->rows + WINOGRAD_NARROW_ROWS - 1) / WINOGRAD_NARROW_ROWS;
    for (ptrdiff_t panel = 0; panel < g->panels; ++panel) {
        for (ptrdiff_t t = 0, row = 0, mr; t < tiles; ++t, row += mr) {
            mr = g->rows / tiles + (t < g->rows % tiles);
            heights[mr - 1](g, row, panel);
        }
    }
}

static void FR_NAME(winograd_product)(const fr_gemm *g, fr_fetch *fetch) {
    if (g->slots == 1) {
        narrow_product(g);
        return;
    }
    static tile_fn *const *const shapes[FR_SLOTS] = {tiles_1_0, tiles_2_0, tiles_3_0, tiles_4_0};
    const ptrdiff_t tiles = (g->rows + FR_MAX_ROWS - 1) / FR_MAX_ROWS;
    const ptrdiff_t bytes = g->run[0].segments * g->run[0].length * (ptrdiff_t)sizeof(real);
    if (tiles == 0) return;
    const ptrdiff_t height = g->rows / tiles, taller = g->rows % tiles;
    const int wide = g->slots == FR_SLOTS && bytes > 0, far = wide && g->far && tiles > 1 && tiles <= FR_FAR_TILES;
    ptrdiff_t step[2] = {0, 0};
    for (int i = 0; wide && i < 2; ++i) step[i] = (fetch->part[i].most + bytes - 1) / bytes;
    for (ptrdiff_t panel = 0; panel < g->panels; ++panel) {
        ptrdiff_t row = 0;
        for (ptrdiff_t t = 0; t < tiles; ++t) {
            const ptrdiff_t mr = height + (t < taller);
            ahead next = {
                .panels = 1, .tile = t / 2, .tiles = tiles / 2};  // where B is far, every other tile fetches of that
            if (wide && !(far && t % 2)) take_piece(fetch, step, &next);
            (far || next.aside ? tiles_4_1 : shapes[g->slots - 1])[mr - 1](g, row, panel, &next);
            row += mr;
        }
    }
}
