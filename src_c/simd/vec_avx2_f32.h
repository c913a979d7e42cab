// SIMD vocabulary, float on AVX2 and FMA: 8 lanes.
//
// The contract of every function, the same for all ISAs and both dtypes:
//   vload, vstore         any alignment of whole reals
//   vload_n, vstore_n     0 <= n <= FR_WIDTH lanes; missing lanes read as zero, memory past n is never touched
//   vfma, vfms, vfnma     (a, b, c): a * b + c, a * b - c, c - a * b; one rounding
//   vmin, vmax            b if either operand is NaN, so that vmin(limit, x) keeps a NaN of x
//   vround                to the nearest integral value, ties to even; infinities, NaN and huge values unchanged
//   vscale2(p, n)         p * 2^n for integral n, |n| <= 252, with gradual underflow and overflow to infinity;
//                         rounded once for 1/2 <= |p| <= 2; NaN if p is NaN, whatever n is
//   vpow2(n)              2^n for integral n with a normal 2^n; any value for other n
//   vlt, vle, vgt, veq    false if either operand is NaN
//   vselect(m, a, b)      m ? a : b
//   vsum, vmax_lane       over the lanes, pairwise; vmax_lane is meant for lanes that are not NaN
//   vzip_lo, vzip_hi      a0 b0 a1 b1 ... of the lower halves, of the upper halves
//   vpin                  hides where a value came from: its load then stays in a register, not folded into each use
#pragma once

#include <immintrin.h>
#include <stddef.h>

#define FR_INLINE static inline __attribute__((always_inline))
#define FR_WIDTH 8
#define FR_MAX_ROWS 3  // rows of a tile 4 vectors wide: 12 of 16 registers hold sums

typedef float real;
typedef __m256 vec;
typedef __m256 vmask;  // all ones or all zeros per lane

FR_INLINE vec vzero(void) { return _mm256_setzero_ps(); }
FR_INLINE vec vset1(real x) { return _mm256_set1_ps(x); }
FR_INLINE vec vload(const real *p) { return _mm256_loadu_ps(p); }
FR_INLINE void vstore(real *p, vec v) { _mm256_storeu_ps(p, v); }
FR_INLINE vec vbroadcast(const real *p) { return _mm256_set1_ps(*p); }

FR_INLINE __m256i vfirst(ptrdiff_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}
FR_INLINE vec vload_n(const real *p, ptrdiff_t n) { return _mm256_maskload_ps(p, vfirst(n)); }
FR_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) { _mm256_maskstore_ps(p, vfirst(n), v); }

FR_INLINE vec vadd(vec a, vec b) { return _mm256_add_ps(a, b); }
FR_INLINE vec vsub(vec a, vec b) { return _mm256_sub_ps(a, b); }
FR_INLINE vec vmul(vec a, vec b) { return _mm256_mul_ps(a, b); }
FR_INLINE vec vdiv(vec a, vec b) { return _mm256_div_ps(a, b); }
FR_INLINE vec vfma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
FR_INLINE vec vfms(vec a, vec b, vec c) { return _mm256_fmsub_ps(a, b, c); }
FR_INLINE vec vfnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
FR_INLINE vec vsqrt(vec a) { return _mm256_sqrt_ps(a); }
FR_INLINE vec vmin(vec a, vec b) { return _mm256_min_ps(a, b); }
FR_INLINE vec vmax(vec a, vec b) { return _mm256_max_ps(a, b); }
FR_INLINE vec vabs(vec a) { return _mm256_andnot_ps(vset1(-0.0f), a); }
FR_INLINE vec vneg(vec a) { return _mm256_xor_ps(vset1(-0.0f), a); }
FR_INLINE vec vround(vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FR_INLINE vec vcopysign(vec mag, vec sgn) {
    const vec sign = vset1(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(sign, mag), _mm256_and_ps(sign, sgn));
}

// 2^n for integral -126 <= n <= 127, from t = n + 12583039.0f (= 1.5 * 2^23 + 127): the low bits of t
// are the biased exponent of 2^n.
FR_INLINE vec vpow2_biased(vec t) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23));
}

FR_INLINE vec vpow2(vec n) { return vpow2_biased(vadd(n, vset1(12583039.0f))); }

// Two factors of about half the exponent each; adding the large constant also rounds n / 2 to an integer.
FR_INLINE vec vscale2(vec p, vec n) {
    const vec biased = vset1(12583039.0f);
    const vec t1 = vfma(n, vset1(0.5f), biased);
    const vec t2 = vadd(vsub(n, vsub(t1, biased)), biased);
    return vmul(vmul(p, vpow2_biased(t1)), vpow2_biased(t2));
}

FR_INLINE vmask vlt(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
FR_INLINE vmask vle(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
FR_INLINE vmask vgt(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
FR_INLINE vmask veq(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
FR_INLINE vmask visnan(vec a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
FR_INLINE vec vselect(vmask m, vec a, vec b) { return _mm256_blendv_ps(b, a, m); }

FR_INLINE real vsum(vec v) {
    const __m128 d = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 e = _mm_add_ps(d, _mm_movehl_ps(d, d));
    return _mm_cvtss_f32(_mm_add_ss(e, _mm_movehdup_ps(e)));
}
FR_INLINE real vmax_lane(vec v) {
    const __m128 d = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 e = _mm_max_ps(d, _mm_movehl_ps(d, d));
    return _mm_cvtss_f32(_mm_max_ss(e, _mm_movehdup_ps(e)));
}

// The unpack instructions work within 128-bit halves; the permutation joins the right ones.
FR_INLINE vec vzip_lo(vec a, vec b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}
FR_INLINE vec vzip_hi(vec a, vec b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}

FR_INLINE void vpin(vec *v) { __asm__ volatile("" : "+x"(*v)); }
