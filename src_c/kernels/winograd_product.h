// The products of Winograd's points: the tiles of the product kernel, each of which fetches a piece of the maps that the transforms
// before and after will touch, a little with every k. Memory would else rest during the products, and the transforms wait for it.
#pragma once

#include "gemm.h"

// The next piece for a product over `length` k, if one is left: where it is, and how much of it goes with every k.
FR_INLINE void take_piece(fr_fetch *fetch, const ptrdiff_t *step, ahead *next) {
    const int second = fetch->part[0].box >= fetch->part[0].boxes;
    fr_boxes *f = &fetch->part[second];
    if (f->box >= f->boxes) return;
    next->aside = (const real *)(f->from + f->box * f->box_stride + f->run * f->run_stride + f->at);
    next->aside_k = step[second];
    f->at += f->most;
    if (f->at < f->bytes) return;
    f->at = 0;
    if (++f->run < f->runs) return;
    f->run = 0, ++f->box;
}

static void FR_NAME(winograd_product)(const fr_gemm *g, fr_fetch *fetch) {
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
