// SIMD vocabulary, float, portable baseline: 4 lanes of the compiler's own vector extension, no intrinsics, any CPU.
//
// The contract of every function, the same for all ISAs and both dtypes:
//   vload, vstore         any alignment of whole reals
//   vload_n, vstore_n     0 <= n <= FR_WIDTH lanes; missing lanes read as zero, memory past n is never touched
//   vfma, vfms, vfnma     (a, b, c): a * b + c, a * b - c, c - a * b; two roundings: without a fused
//                         instruction, one rounding would cost a library call, 10 to 370 times slower
//   vmin, vmax            b if either operand is NaN, so that vmin(limit, x) keeps a NaN of x
//   vround                to the nearest integral value, ties to even; infinities, NaN and huge values unchanged
//   vscale2(p, n)         p * 2^n for integral n, |n| <= 252, with gradual underflow and overflow to infinity;
//                         rounded once for 1/2 <= |p| <= 2; NaN if p is NaN, whatever n is
//   vpow2(n)              2^n for integral n with a normal 2^n; any value for other n
//   vlt, vle, vgt, veq    false if either operand is NaN
//   vselect(m, a, b)      m ? a : b
//   vsum, vmax_lane       over the lanes, pairwise; vmax_lane is meant for lanes that are not NaN
//   vzip_lo, vzip_hi      a0 b0 a1 b1 ... of the lower halves, of the upper halves
//   vload_between         lanes lo..hi-1 from memory, the others of `fill`; vstore_between: only those lanes. 0 <= lo, hi <= FR_WIDTH;
//                         memory of other lanes is never touched
//   veq_u8, veq_i32       which of the lanes lo..hi-1 of integers in memory are equal to n; not the other lanes
//   vstore_u8, vstore_i32 the first n lanes, which hold integral values of the type
//   vmax_nan              NaN if either operand is NaN
//   vgt_nan               a > b, or a is NaN
//   vunordered            a is NaN or b is NaN
//   vor, vany             of masks: set in either; whether any lane is set
//   vunzip_even, _odd     a0 a2 ... b0 b2 ..., a1 a3 ... b1 b3 ...
//   vunzip_third          every third of all lanes, from a0 on
//   vexponent             n with 2^n <= a < 2^(n+1) for normal a > 0; any value for other a
//   vstream, vstream_end   vstore, and nothing
//   vpin                  does nothing: no baseline folds an unaligned load into its use
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FR_INLINE static inline __attribute__((always_inline))
#define FR_WIDTH 4
#define FR_MAX_ROWS 3  // rows of a tile 4 vectors wide: 12 of 16 registers hold sums

typedef float real;
typedef float vec __attribute__((vector_size(16)));
typedef int32_t vmask __attribute__((vector_size(16)));  // all ones or all zeros per lane
typedef uint32_t vbits __attribute__((vector_size(16)));

FR_INLINE vec vzero(void) { return (vec){0, 0, 0, 0}; }
FR_INLINE vec vset1(real x) { return (vec){x, x, x, x}; }
FR_INLINE vec vbroadcast(const real *p) { return vset1(*p); }
FR_INLINE vec vload(const real *p) {
    vec v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
FR_INLINE void vstore(real *p, vec v) { __builtin_memcpy(p, &v, sizeof v); }

FR_INLINE vec vload_n(const real *p, ptrdiff_t n) {
    vec v = vzero();
    if (n > 0) v[0] = p[0];
    if (n > 1) v[1] = p[1];
    if (n > 2) v[2] = p[2];
    if (n > 3) v[3] = p[3];
    return v;
}
FR_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) {
    if (n > 0) p[0] = v[0];
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
    if (n > 3) p[3] = v[3];
}

FR_INLINE vmask vlt(vec a, vec b) { return (vmask)(a < b); }
FR_INLINE vmask vle(vec a, vec b) { return (vmask)(a <= b); }
FR_INLINE vmask vgt(vec a, vec b) { return (vmask)(a > b); }
FR_INLINE vmask veq(vec a, vec b) { return (vmask)(a == b); }
FR_INLINE vmask visnan(vec a) { return (vmask)(a != a); }  // NOLINT(misc-redundant-expression)
FR_INLINE vec vselect(vmask m, vec a, vec b) { return (vec)((m & (vmask)a) | (~m & (vmask)b)); }

FR_INLINE vec vadd(vec a, vec b) { return a + b; }
FR_INLINE vec vsub(vec a, vec b) { return a - b; }
FR_INLINE vec vmul(vec a, vec b) { return a * b; }
FR_INLINE vec vdiv(vec a, vec b) { return a / b; }
FR_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
FR_INLINE vec vfms(vec a, vec b, vec c) { return a * b - c; }
FR_INLINE vec vfnma(vec a, vec b, vec c) { return c - a * b; }
FR_INLINE vec vsqrt(vec a) {
    return (vec){__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
FR_INLINE vec vmin(vec a, vec b) { return vselect(vlt(a, b), a, b); }
FR_INLINE vec vmax(vec a, vec b) { return vselect(vgt(a, b), a, b); }
FR_INLINE vec vabs(vec a) { return (vec)((vmask)a & ~(vmask)vset1(-0.0f)); }
FR_INLINE vec vneg(vec a) { return (vec)((vmask)a ^ (vmask)vset1(-0.0f)); }
FR_INLINE vec vcopysign(vec mag, vec sgn) { return vselect((vmask)vset1(-0.0f), sgn, mag); }

// Adding 2^23 to |a| < 2^23 leaves no fraction bits; larger values are integral already.
FR_INLINE vec vround(vec a) {
    const vec big = vset1(8388608.0f);
    const vec size = vabs(a);
    return vcopysign(vselect(vlt(size, big), (size + big) - big, size), a);
}

// 2^n for integral -126 <= n <= 127, from t = n + 12583039.0f (= 1.5 * 2^23 + 127): the low bits of t
// are the biased exponent of 2^n.
FR_INLINE vec vpow2_biased(vec t) {
    return (vec)((vbits)t << 23);
}

FR_INLINE vec vpow2(vec n) { return vpow2_biased(n + vset1(12583039.0f)); }

// Two factors of about half the exponent each; adding the large constant also rounds n / 2 to an integer.
FR_INLINE vec vscale2(vec p, vec n) {
    const vec biased = vset1(12583039.0f);
    const vec t1 = n * vset1(0.5f) + biased;
    const vec t2 = (n - (t1 - biased)) + biased;
    return p * vpow2_biased(t1) * vpow2_biased(t2);
}

FR_INLINE real vsum(vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }
FR_INLINE real vmax_lane(vec v) {
    const real a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
}

FR_INLINE vec vzip_lo(vec a, vec b) { return (vec){a[0], b[0], a[1], b[1]}; }
FR_INLINE vec vzip_hi(vec a, vec b) { return (vec){a[2], b[2], a[3], b[3]}; }

FR_INLINE vec vload_between(const real *p, ptrdiff_t lo, ptrdiff_t hi, vec fill) {
    for (int i = 0; i < FR_WIDTH; ++i) {
        if (i >= lo && i < hi) fill[i] = p[i];
    }
    return fill;
}
FR_INLINE void vstore_between(real *p, vec v, ptrdiff_t lo, ptrdiff_t hi) {
    for (int i = 0; i < FR_WIDTH; ++i) {
        if (i >= lo && i < hi) p[i] = v[i];
    }
}
FR_INLINE vmask veq_u8(const uint8_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    vmask m = {0};
    for (int i = 0; i < FR_WIDTH; ++i) {
        if (i >= lo && i < hi && p[i] == n) m[i] = -1;
    }
    return m;
}
FR_INLINE vmask veq_i32(const int32_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    vmask m = {0};
    for (int i = 0; i < FR_WIDTH; ++i) {
        if (i >= lo && i < hi && p[i] == n) m[i] = -1;
    }
    return m;
}
FR_INLINE void vstore_u8(uint8_t *p, vec v, ptrdiff_t n) {
    for (int i = 0; i < FR_WIDTH; ++i) {
        if (i < n) p[i] = (uint8_t)v[i];
    }
}
FR_INLINE void vstore_i32(int32_t *p, vec v, ptrdiff_t n) {
    for (int i = 0; i < FR_WIDTH; ++i) {
        if (i < n) p[i] = (int32_t)v[i];
    }
}

FR_INLINE vmask vor(vmask a, vmask b) { return a | b; }
FR_INLINE vmask vunordered(vec a, vec b) { return vor(visnan(a), visnan(b)); }
FR_INLINE vmask vgt_nan(vec a, vec b) { return vgt(a, b) | visnan(a); }
FR_INLINE int vany(vmask m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
FR_INLINE vec vmax_nan(vec a, vec b) { return vselect(vgt_nan(a, b), a, b); }

FR_INLINE vec vunzip_even(vec a, vec b) { return (vec){a[0], a[2], b[0], b[2]}; }
FR_INLINE vec vunzip_odd(vec a, vec b) { return (vec){a[1], a[3], b[1], b[3]}; }
FR_INLINE vec vunzip_third(vec a, vec b, vec c) { return (vec){a[0], a[3], b[2], c[1]}; }

// The biased exponent becomes the last bits of 2^23 + 127 + n.
FR_INLINE vec vexponent(vec a) {
    return (vec)(((vbits)a >> 23) | (vbits)vset1(8388608.0f)) - vset1(8388735.0f);
}

FR_INLINE void vstream(real *p, vec v) { vstore(p, v); }
FR_INLINE void vstream_end(void) {}

FR_INLINE void vpin(vec *v) { (void)v; }
