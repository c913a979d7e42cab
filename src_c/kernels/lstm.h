// LSTM cell after the products. Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000:
//   i, f, o = sigmoid(.)   g = tanh(.)   c = f c_prev + i g   h = o tanh(c)
// i g and o tanh(c) take one division each. The forget gate has its own, or a cell would leak: where it saturates it is 1 to the last
// bit. So have all gates that are kept, whose slopes must then be 0.
#pragma once

#include "lanes.h"

static void FR_NAME(lstm)(const fr_cell *s) {
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const real *c_prev = (const real *)s->c_prev + p * FR_WIDTH;
        real *c = (real *)s->c + p * FR_WIDTH, *h = (real *)s->h + p * FR_WIDTH;
        const ptrdiff_t lanes = lanes_left(s->units, p);
        for (ptrdiff_t r = 0; r < s->rows; ++r, gates += FR_SLOTS * FR_WIDTH) {
            const quotient i = sigmoid_quotient(vload(gates)), g = tanh_quotient(vload(gates + 2 * FR_WIDTH));
            const quotient o = sigmoid_quotient(vload(gates + 3 * FR_WIDTH));
            const vec f = vsigmoid(vload(gates + FR_WIDTH));
            const vec cell = vfma(f, vload(c_prev + r * s->c_prev_stride), vquotient_product(i, g));
            vstore(c + r * s->c_stride, cell);
            vstore_soon(h + r * s->h_stride, vquotient_product(o, tanh_quotient(cell)), lanes);
            if (s->keep) {
                vstore(gates, vquotient(i));
                vstore(gates + FR_WIDTH, f);
                vstore(gates + 2 * FR_WIDTH, vquotient(g));
                vstore(gates + 3 * FR_WIDTH, vquotient(o));
            }
        }
    }
}

//   dh += dy          do = dh tanh(c) o(1-o)              dc += dh o (1 - tanh(c)^2)
//   di = dc g i(1-i)  df = dc c_prev f(1-f)               dg = dc i (1-g^2)            dc_prev = dc f
// dh is left as it was: all of dh_{t-1} passes through the product.
static void FR_NAME(lstm_backward)(const fr_cell_backward *s) {
    const vec one = vset1(1);
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const real *c_prev = (const real *)s->c_prev + p * FR_WIDTH, *c = (const real *)s->c + p * FR_WIDTH;
        const real *dy = s->dy ? (const real *)s->dy + p * FR_WIDTH : NULL;
        const real *dh_in = (const real *)s->dh + p * FR_WIDTH;
        real *dc_carry = (real *)s->dc + p * FR_WIDTH;
        const ptrdiff_t lanes = lanes_left(s->units, p);
        for (ptrdiff_t r = 0; r < s->rows; ++r, gates += FR_SLOTS * FR_WIDTH) {
            const vec i = vload(gates), f = vload(gates + FR_WIDTH);
            const vec g = vload(gates + 2 * FR_WIDTH), o = vload(gates + 3 * FR_WIDTH);
            const vec tanh_c = vtanh(vload(c + r * s->c_stride));
            vec dh = vload(dh_in + r * s->dh_stride);
            if (dy) dh = vadd(dh, vload_lanes(dy + r * s->dy_stride, lanes));
            const vec dh_o = vmul(dh, o);
            const vec dc = vfma(dh_o, vfnma(tanh_c, tanh_c, one), vload(dc_carry + r * s->dc_stride));
            vstore(dc_carry + r * s->dc_stride, vmul(dc, f));
            vstore(gates, vmul(vmul(dc, g), vmul(i, vsub(one, i))));
            vstore(gates + FR_WIDTH, vmul(vmul(dc, vload(c_prev + r * s->c_prev_stride)), vmul(f, vsub(one, f))));
            vstore(gates + 2 * FR_WIDTH, vmul(vmul(dc, i), vfnma(g, g, one)));
            vstore(gates + 3 * FR_WIDTH, vmul(vmul(dh_o, tanh_c), vsub(one, o)));
            clear_padding(gates, lanes);
        }
    }
}
