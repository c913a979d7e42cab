// GRU cell after the products. Cho et al. 2014; the form with the reset gate after the product is cuDNN's and PyTorch's.
//   r, z = sigmoid(.)   n = tanh(a_x + r a_h)  or, reset before the product,  n = tanh(W x + R (r h_prev))
//   h = (1-z) n + z h_prev = n + z (h_prev - n)
#pragma once

#include "lanes.h"

static void FR_NAME(gru)(const fr_cell *s) {
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const real *h_prev = (const real *)s->h_prev + p * FR_WIDTH;
        real *h = (real *)s->h + p * FR_WIDTH;
        const ptrdiff_t lanes = lanes_left(s->units, p);
        for (ptrdiff_t row = 0; row < s->rows; ++row, gates += FR_SLOTS * FR_WIDTH) {
            const vec r = vsigmoid(vload(gates)), z = vsigmoid(vload(gates + FR_WIDTH));
            const vec a_h = vload(gates + 3 * FR_WIDTH), n = vtanh(vfma(r, a_h, vload(gates + 2 * FR_WIDTH)));
            const vec before = vload_lanes(h_prev + row * s->h_prev_stride, lanes);
            vstore_soon(h + row * s->h_stride, vfma(z, vsub(before, n), n), lanes);
            if (s->keep) {  // a_h stays in the fourth slot
                vstore(gates, r);
                vstore(gates + FR_WIDTH, z);
                vstore(gates + 2 * FR_WIDTH, n);
            }
        }
    }
}

//   dh += dy   dn = dh (1-z)(1-n^2)   dz = dh (h_prev-n) z(1-z)   dr = dn a_h r(1-r)   da_h = dn r   dh_prev = dh z + ...
static void FR_NAME(gru_backward)(const fr_cell_backward *s) {
    const vec one = vset1(1);
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const real *h_prev = (const real *)s->h_prev + p * FR_WIDTH;
        const real *dy = s->dy ? (const real *)s->dy + p * FR_WIDTH : NULL;
        real *dh_carry = (real *)s->dh + p * FR_WIDTH;
        const ptrdiff_t lanes = lanes_left(s->units, p);
        for (ptrdiff_t row = 0; row < s->rows; ++row, gates += FR_SLOTS * FR_WIDTH) {
            const vec r = vload(gates), z = vload(gates + FR_WIDTH);
            const vec n = vload(gates + 2 * FR_WIDTH), a_h = vload(gates + 3 * FR_WIDTH);
            vec dh = vload(dh_carry + row * s->dh_stride);
            if (dy) dh = vadd(dh, vload_lanes(dy + row * s->dy_stride, lanes));
            const vec dn = vmul(vmul(dh, vsub(one, z)), vfnma(n, n, one));
            const vec before = vload_lanes(h_prev + row * s->h_prev_stride, lanes);
            vstore(gates, vmul(vmul(dn, a_h), vmul(r, vsub(one, r))));
            vstore(gates + FR_WIDTH, vmul(vmul(dh, vsub(before, n)), vmul(z, vsub(one, z))));
            vstore(gates + 2 * FR_WIDTH, dn);
            vstore(gates + 3 * FR_WIDTH, vmul(dn, r));
            clear_padding(gates, lanes);
            vstore(dh_carry + row * s->dh_stride, vmul(dh, z));
        }
    }
}

// Reset before the product, first half: r, z and r*h_prev, the operand of the second product.
static void FR_NAME(gru_reset)(const fr_cell *s) {
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const real *h_prev = (const real *)s->h_prev + p * FR_WIDTH;
        real *reset_h = (real *)s->h + p * FR_WIDTH;
        const ptrdiff_t lanes = lanes_left(s->units, p);
        for (ptrdiff_t row = 0; row < s->rows; ++row, gates += FR_SLOTS * FR_WIDTH) {
            const vec r = vsigmoid(vload(gates));
            vstore(gates, r);
            vstore(gates + FR_WIDTH, vsigmoid(vload(gates + FR_WIDTH)));
            vstore_soon(reset_h + row * s->h_stride, vmul(r, vload_lanes(h_prev + row * s->h_prev_stride, lanes)),
                        lanes);
        }
    }
}

// Second half: the third slot now holds the whole pre-activation of n.
static void FR_NAME(gru_update)(const fr_cell *s) {
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const real *h_prev = (const real *)s->h_prev + p * FR_WIDTH;
        real *h = (real *)s->h + p * FR_WIDTH;
        const ptrdiff_t lanes = lanes_left(s->units, p);
        for (ptrdiff_t row = 0; row < s->rows; ++row, gates += FR_SLOTS * FR_WIDTH) {
            const vec z = vload(gates + FR_WIDTH), n = vtanh(vload(gates + 2 * FR_WIDTH));
            const vec before = vload_lanes(h_prev + row * s->h_prev_stride, lanes);
            vstore_soon(h + row * s->h_stride, vfma(z, vsub(before, n), n), lanes);
            if (s->keep) vstore(gates + 2 * FR_WIDTH, n);
        }
    }
}

//   dh += dy   dn = dh (1-z)(1-n^2)   dz = dh (h_prev-n) z(1-z)   dh_prev = dh z + ...
static void FR_NAME(gru_update_backward)(const fr_cell_backward *s) {
    const vec one = vset1(1);
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const real *h_prev = (const real *)s->h_prev + p * FR_WIDTH;
        const real *dy = s->dy ? (const real *)s->dy + p * FR_WIDTH : NULL;
        real *dh_carry = (real *)s->dh + p * FR_WIDTH;
        const ptrdiff_t lanes = lanes_left(s->units, p);
        for (ptrdiff_t row = 0; row < s->rows; ++row, gates += FR_SLOTS * FR_WIDTH) {
            const vec z = vload(gates + FR_WIDTH), n = vload(gates + 2 * FR_WIDTH);
            vec dh = vload(dh_carry + row * s->dh_stride);
            if (dy) dh = vadd(dh, vload_lanes(dy + row * s->dy_stride, lanes));
            const vec before = vload_lanes(h_prev + row * s->h_prev_stride, lanes);
            vstore(gates + FR_WIDTH, vmul(vmul(dh, vsub(before, n)), vmul(z, vsub(one, z))));
            vstore(gates + 2 * FR_WIDTH, vmul(vmul(dh, vsub(one, z)), vfnma(n, n, one)));
            clear_padding(gates, lanes);
            vstore(dh_carry + row * s->dh_stride, vmul(dh, z));
        }
    }
}

// With drh the gradient of r*h_prev:   dr = drh h_prev r(1-r)   dh_prev += drh r
static void FR_NAME(gru_reset_backward)(const fr_cell_backward *s) {
    const vec one = vset1(1);
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const real *h_prev = (const real *)s->h_prev + p * FR_WIDTH, *drh = (const real *)s->drh + p * FR_WIDTH;
        real *dh_carry = (real *)s->dh + p * FR_WIDTH;
        const ptrdiff_t lanes = lanes_left(s->units, p);
        for (ptrdiff_t row = 0; row < s->rows; ++row, gates += FR_SLOTS * FR_WIDTH) {
            const vec r = vload(gates), d = vload(drh + row * s->drh_stride);
            const vec before = vload_lanes(h_prev + row * s->h_prev_stride, lanes);
            vstore(gates, vmul(vmul(d, before), vmul(r, vsub(one, r))));
            clear_padding(gates, lanes);
            vstore(dh_carry + row * s->dh_stride, vfma(d, r, vload(dh_carry + row * s->dh_stride)));
        }
    }
}
