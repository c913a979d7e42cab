// SIMD vocabulary, double on AArch64 (NEON with fused multiply-add): 2 lanes.
//
// The contract of every function, the same for all ISAs and both dtypes:
//   vload, vstore         any alignment of whole reals
//   vload_n, vstore_n     0 <= n <= FR_WIDTH lanes; missing lanes read as zero, memory past n is never touched
//   vfma, vfms, vfnma     (a, b, c): a * b + c, a * b - c, c - a * b; one rounding
//   vmin, vmax            b if either operand is NaN, so that vmin(limit, x) keeps a NaN of x
//   vround                to the nearest integral value, ties to even; infinities, NaN and huge values unchanged
//   vscale2(p, n)         p * 2^n for integral n, |n| <= 2044, with gradual underflow and overflow to infinity;
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
//   vpin                  hides where a value came from: its load then stays in a register, not folded into each use
#pragma once

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#define FR_INLINE static inline __attribute__((always_inline))
#define FR_WIDTH 2
#define FR_MAX_ROWS 6  // rows of a tile 4 vectors wide: 24 of 32 registers hold sums

typedef double real;
typedef float64x2_t vec;
typedef uint64x2_t vmask;  // all ones or all zeros per lane

FR_INLINE vec vzero(void) { return vdupq_n_f64(0); }
FR_INLINE vec vset1(real x) { return vdupq_n_f64(x); }
FR_INLINE vec vload(const real *p) { return vld1q_f64(p); }
FR_INLINE void vstore(real *p, vec v) { vst1q_f64(p, v); }
FR_INLINE vec vbroadcast(const real *p) { return vld1q_dup_f64(p); }

FR_INLINE vec vload_n(const real *p, ptrdiff_t n) {
    vec v = vzero();
    if (n > 0) v = vld1q_lane_f64(p + 0, v, 0);
    if (n > 1) v = vld1q_lane_f64(p + 1, v, 1);
    return v;
}
FR_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) {
    if (n > 0) vst1q_lane_f64(p + 0, v, 0);
    if (n > 1) vst1q_lane_f64(p + 1, v, 1);
}

FR_INLINE vmask vlt(vec a, vec b) { return vcltq_f64(a, b); }
FR_INLINE vmask vle(vec a, vec b) { return vcleq_f64(a, b); }
FR_INLINE vmask vgt(vec a, vec b) { return vcgtq_f64(a, b); }
FR_INLINE vmask veq(vec a, vec b) { return vceqq_f64(a, b); }
FR_INLINE vmask visnan(vec a) { return veorq_u64(vceqq_f64(a, a), vdupq_n_u64(UINT64_MAX)); }
FR_INLINE vec vselect(vmask m, vec a, vec b) { return vbslq_f64(m, a, b); }

FR_INLINE vec vadd(vec a, vec b) { return vaddq_f64(a, b); }
FR_INLINE vec vsub(vec a, vec b) { return vsubq_f64(a, b); }
FR_INLINE vec vmul(vec a, vec b) { return vmulq_f64(a, b); }
FR_INLINE vec vdiv(vec a, vec b) { return vdivq_f64(a, b); }
FR_INLINE vec vfma(vec a, vec b, vec c) { return vfmaq_f64(c, a, b); }
FR_INLINE vec vfms(vec a, vec b, vec c) { return vfmaq_f64(vnegq_f64(c), a, b); }
FR_INLINE vec vfnma(vec a, vec b, vec c) { return vfmsq_f64(c, a, b); }
FR_INLINE vec vsqrt(vec a) { return vsqrtq_f64(a); }
FR_INLINE vec vmin(vec a, vec b) { return vselect(vlt(a, b), a, b); }
FR_INLINE vec vmax(vec a, vec b) { return vselect(vgt(a, b), a, b); }
FR_INLINE vec vabs(vec a) { return vabsq_f64(a); }
FR_INLINE vec vneg(vec a) { return vnegq_f64(a); }
FR_INLINE vec vround(vec a) { return vrndnq_f64(a); }
FR_INLINE vec vcopysign(vec mag, vec sgn) { return vselect(vreinterpretq_u64_f64(vset1(-0.0)), sgn, mag); }

// 2^n for integral -1022 <= n <= 1023, from t = n + 6755399441056767.0 (= 1.5 * 2^52 + 1023): the low bits of t
// are the biased exponent of 2^n.
FR_INLINE vec vpow2_biased(vec t) {
    return vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(t), 52));
}

FR_INLINE vec vpow2(vec n) { return vpow2_biased(vadd(n, vset1(6755399441056767.0))); }

// Two factors of about half the exponent each; adding the large constant also rounds n / 2 to an integer.
FR_INLINE vec vscale2(vec p, vec n) {
    const vec biased = vset1(6755399441056767.0);
    const vec t1 = vfma(n, vset1(0.5), biased);
    const vec t2 = vadd(vsub(n, vsub(t1, biased)), biased);
    return vmul(vmul(p, vpow2_biased(t1)), vpow2_biased(t2));
}

FR_INLINE real vsum(vec v) { return vaddvq_f64(v); }
FR_INLINE real vmax_lane(vec v) { return vmaxvq_f64(v); }

FR_INLINE vec vzip_lo(vec a, vec b) { return vzip1q_f64(a, b); }
FR_INLINE vec vzip_hi(vec a, vec b) { return vzip2q_f64(a, b); }

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
        if (i >= lo && i < hi && p[i] == n) m[i] = UINT64_MAX;
    }
    return m;
}
FR_INLINE vmask veq_i32(const int32_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    vmask m = {0};
    for (int i = 0; i < FR_WIDTH; ++i) {
        if (i >= lo && i < hi && p[i] == n) m[i] = UINT64_MAX;
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

FR_INLINE vmask vor(vmask a, vmask b) { return vorrq_u64(a, b); }
FR_INLINE vmask vunordered(vec a, vec b) { return vor(visnan(a), visnan(b)); }
FR_INLINE vmask vgt_nan(vec a, vec b) { return vorrq_u64(vgt(a, b), visnan(a)); }
FR_INLINE int vany(vmask m) { return vmaxvq_u32(vreinterpretq_u32_u64(m)) != 0; }
FR_INLINE vec vmax_nan(vec a, vec b) { return vmaxq_f64(a, b); }

FR_INLINE vec vunzip_even(vec a, vec b) { return vuzp1q_f64(a, b); }
FR_INLINE vec vunzip_odd(vec a, vec b) { return vuzp2q_f64(a, b); }
FR_INLINE vec vunzip_third(vec a, vec b, vec c) {
    (void)c;
    return (vec){a[0], b[1]};
}

// The biased exponent becomes the last bits of 2^52 + 1023 + n.
FR_INLINE vec vexponent(vec a) {
    const uint64x2_t biased = vshrq_n_u64(vreinterpretq_u64_f64(a), 52);
    const vec whole = vreinterpretq_f64_u64(vorrq_u64(biased, vreinterpretq_u64_f64(vset1(4503599627370496.0))));
    return vsub(whole, vset1(4503599627371519.0));
}

FR_INLINE void vstream(real *p, vec v) { vstore(p, v); }
FR_INLINE void vstream_end(void) {}

FR_INLINE void vpin(vec *v) { __asm__ volatile("" : "+w"(*v)); }
