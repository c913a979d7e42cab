// SIMD vocabulary, double on AVX-512 F, BW, DQ and VL: 8 lanes.
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
//   vstream               as vstore, past the caches, where p is aligned to a vector; vstream_end: such stores come before later ones
//   vpin                  hides where a value came from: its load then stays in a register, not folded into each use
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define FR_INLINE static inline __attribute__((always_inline))
#define FR_WIDTH 8
#define FR_MAX_ROWS 6  // rows of a tile 4 vectors wide: 24 of 32 registers hold sums

typedef double real;
typedef __m512d vec;
typedef __mmask8 vmask;

FR_INLINE vec vzero(void) { return _mm512_setzero_pd(); }
FR_INLINE vec vset1(real x) { return _mm512_set1_pd(x); }
FR_INLINE vec vload(const real *p) { return _mm512_loadu_pd(p); }
FR_INLINE void vstore(real *p, vec v) { _mm512_storeu_pd(p, v); }
FR_INLINE vec vbroadcast(const real *p) { return _mm512_set1_pd(*p); }

FR_INLINE vmask vfirst(ptrdiff_t n) { return (vmask)((1u << n) - 1u); }
FR_INLINE vec vload_n(const real *p, ptrdiff_t n) { return _mm512_maskz_loadu_pd(vfirst(n), p); }
FR_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) { _mm512_mask_storeu_pd(p, vfirst(n), v); }

FR_INLINE vec vadd(vec a, vec b) { return _mm512_add_pd(a, b); }
FR_INLINE vec vsub(vec a, vec b) { return _mm512_sub_pd(a, b); }
FR_INLINE vec vmul(vec a, vec b) { return _mm512_mul_pd(a, b); }
FR_INLINE vec vdiv(vec a, vec b) { return _mm512_div_pd(a, b); }
FR_INLINE vec vfma(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
FR_INLINE vec vfms(vec a, vec b, vec c) { return _mm512_fmsub_pd(a, b, c); }
FR_INLINE vec vfnma(vec a, vec b, vec c) { return _mm512_fnmadd_pd(a, b, c); }
FR_INLINE vec vsqrt(vec a) { return _mm512_sqrt_pd(a); }
FR_INLINE vec vmin(vec a, vec b) { return _mm512_min_pd(a, b); }
FR_INLINE vec vmax(vec a, vec b) { return _mm512_max_pd(a, b); }
FR_INLINE vec vabs(vec a) { return _mm512_andnot_pd(vset1(-0.0), a); }
FR_INLINE vec vneg(vec a) { return _mm512_xor_pd(vset1(-0.0), a); }
FR_INLINE vec vround(vec a) { return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FR_INLINE vec vcopysign(vec mag, vec sgn) {
    const __m512i sign = _mm512_castpd_si512(vset1(-0.0));
    const __m512i s = _mm512_castpd_si512(sgn), m = _mm512_castpd_si512(mag);
    return _mm512_castsi512_pd(_mm512_ternarylogic_epi64(sign, s, m, 0xCA));  // sign ? s : m, bit by bit
}
FR_INLINE vec vscale2(vec p, vec n) { return _mm512_scalef_pd(p, n); }
FR_INLINE vec vpow2(vec n) { return vscale2(vset1(1.0), n); }

FR_INLINE vmask vlt(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
FR_INLINE vmask vle(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
FR_INLINE vmask vgt(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
FR_INLINE vmask veq(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
FR_INLINE vmask visnan(vec a) { return _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q); }
FR_INLINE vec vselect(vmask m, vec a, vec b) { return _mm512_mask_blend_pd(m, b, a); }

FR_INLINE real vsum(vec v) {
    const __m256d q = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    const __m128d d = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}
FR_INLINE real vmax_lane(vec v) {
    const __m256d q = _mm256_max_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    const __m128d d = _mm_max_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
    return _mm_cvtsd_f64(_mm_max_sd(d, _mm_unpackhi_pd(d, d)));
}

// Lanes 0..7 count a's, 8..15 b's.
FR_INLINE vec vzip_lo(vec a, vec b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), b);
}
FR_INLINE vec vzip_hi(vec a, vec b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), b);
}

FR_INLINE vmask vmask_between(ptrdiff_t lo, ptrdiff_t hi) { return (vmask)(vfirst(hi) & ~vfirst(lo)); }
FR_INLINE vec vload_between(const real *p, ptrdiff_t lo, ptrdiff_t hi, vec fill) {
    return _mm512_mask_loadu_pd(fill, vmask_between(lo, hi), p);
}
FR_INLINE void vstore_between(real *p, vec v, ptrdiff_t lo, ptrdiff_t hi) {
    _mm512_mask_storeu_pd(p, vmask_between(lo, hi), v);
}
FR_INLINE vmask veq_u8(const uint8_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    const __mmask16 inside = vmask_between(lo, hi);
    return (vmask)_mm_mask_cmpeq_epi8_mask(inside, _mm_maskz_loadu_epi8(inside, p), _mm_set1_epi8((char)n));
}
FR_INLINE vmask veq_i32(const int32_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    const vmask inside = vmask_between(lo, hi);
    return _mm256_mask_cmpeq_epi32_mask(inside, _mm256_maskz_loadu_epi32(inside, p), _mm256_set1_epi32(n));
}
FR_INLINE void vstore_u8(uint8_t *p, vec v, ptrdiff_t n) {
    _mm_mask_storeu_epi8(p, vfirst(n), _mm256_cvtepi32_epi8(_mm512_cvtpd_epi32(v)));
}
FR_INLINE void vstore_i32(int32_t *p, vec v, ptrdiff_t n) {
    _mm256_mask_storeu_epi32(p, vfirst(n), _mm512_cvtpd_epi32(v));
}

FR_INLINE vmask vunordered(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q); }
FR_INLINE vmask vor(vmask a, vmask b) { return (vmask)(a | b); }
FR_INLINE vmask vgt_nan(vec a, vec b) { return (vmask)(vgt(a, b) | visnan(a)); }
FR_INLINE int vany(vmask m) { return m != 0; }
FR_INLINE vec vmax_nan(vec a, vec b) { return vselect(visnan(a), a, vmax(a, b)); }

FR_INLINE vec vunzip_even(vec a, vec b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b);
}
FR_INLINE vec vunzip_odd(vec a, vec b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), b);
}
FR_INLINE vec vunzip_third(vec a, vec b, vec c) {
    const vec mixed = _mm512_mask_blend_pd(0x24, _mm512_mask_blend_pd(0x92, a, b), c);  // lane 3 i modulo 8 is result i
    return _mm512_permutexvar_pd(_mm512_setr_epi64(0, 3, 6, 1, 4, 7, 2, 5), mixed);
}

FR_INLINE vec vexponent(vec a) { return _mm512_getexp_pd(a); }

FR_INLINE void vstream(real *p, vec v) { _mm512_stream_pd(p, v); }
FR_INLINE void vstream_end(void) { _mm_sfence(); }

FR_INLINE void vpin(vec *v) { __asm__ volatile("" : "+v"(*v)); }
