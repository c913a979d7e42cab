// SIMD vocabulary, float on AVX-512 F, BW, DQ and VL: 16 lanes.
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
#define FR_WIDTH 16
#define FR_MAX_ROWS 6  // rows of a tile 4 vectors wide: 24 of 32 registers hold sums

typedef float real;
typedef __m512 vec;
typedef __mmask16 vmask;

FR_INLINE vec vzero(void) { return _mm512_setzero_ps(); }
FR_INLINE vec vset1(real x) { return _mm512_set1_ps(x); }
FR_INLINE vec vload(const real *p) { return _mm512_loadu_ps(p); }
FR_INLINE void vstore(real *p, vec v) { _mm512_storeu_ps(p, v); }
FR_INLINE vec vbroadcast(const real *p) { return _mm512_set1_ps(*p); }

FR_INLINE vmask vfirst(ptrdiff_t n) { return (vmask)((1u << n) - 1u); }
FR_INLINE vec vload_n(const real *p, ptrdiff_t n) { return _mm512_maskz_loadu_ps(vfirst(n), p); }
FR_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) { _mm512_mask_storeu_ps(p, vfirst(n), v); }

FR_INLINE vec vadd(vec a, vec b) { return _mm512_add_ps(a, b); }
FR_INLINE vec vsub(vec a, vec b) { return _mm512_sub_ps(a, b); }
FR_INLINE vec vmul(vec a, vec b) { return _mm512_mul_ps(a, b); }
FR_INLINE vec vdiv(vec a, vec b) { return _mm512_div_ps(a, b); }
FR_INLINE vec vfma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
FR_INLINE vec vfms(vec a, vec b, vec c) { return _mm512_fmsub_ps(a, b, c); }
FR_INLINE vec vfnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
FR_INLINE vec vsqrt(vec a) { return _mm512_sqrt_ps(a); }
FR_INLINE vec vmin(vec a, vec b) { return _mm512_min_ps(a, b); }
FR_INLINE vec vmax(vec a, vec b) { return _mm512_max_ps(a, b); }
FR_INLINE vec vabs(vec a) { return _mm512_andnot_ps(vset1(-0.0f), a); }
FR_INLINE vec vneg(vec a) { return _mm512_xor_ps(vset1(-0.0f), a); }
FR_INLINE vec vround(vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FR_INLINE vec vcopysign(vec mag, vec sgn) {
    const __m512i sign = _mm512_castps_si512(vset1(-0.0f));
    const __m512i s = _mm512_castps_si512(sgn), m = _mm512_castps_si512(mag);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(sign, s, m, 0xCA));  // sign ? s : m, bit by bit
}
FR_INLINE vec vscale2(vec p, vec n) { return _mm512_scalef_ps(p, n); }
FR_INLINE vec vpow2(vec n) { return vscale2(vset1(1.0f), n); }

FR_INLINE vmask vlt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
FR_INLINE vmask vle(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
FR_INLINE vmask vgt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
FR_INLINE vmask veq(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
FR_INLINE vmask visnan(vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
FR_INLINE vec vselect(vmask m, vec a, vec b) { return _mm512_mask_blend_ps(m, b, a); }

FR_INLINE real vsum(vec v) {
    const __m256 q = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 d = _mm_add_ps(_mm256_castps256_ps128(q), _mm256_extractf128_ps(q, 1));
    const __m128 e = _mm_add_ps(d, _mm_movehl_ps(d, d));
    return _mm_cvtss_f32(_mm_add_ss(e, _mm_movehdup_ps(e)));
}
FR_INLINE real vmax_lane(vec v) {
    const __m256 q = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 d = _mm_max_ps(_mm256_castps256_ps128(q), _mm256_extractf128_ps(q, 1));
    const __m128 e = _mm_max_ps(d, _mm_movehl_ps(d, d));
    return _mm_cvtss_f32(_mm_max_ss(e, _mm_movehdup_ps(e)));
}

// Lanes 0..15 count a's, 16..31 b's.
FR_INLINE vec vzip_lo(vec a, vec b) {
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), b);
}
FR_INLINE vec vzip_hi(vec a, vec b) {
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31),
                                  b);
}

FR_INLINE vmask vmask_between(ptrdiff_t lo, ptrdiff_t hi) { return (vmask)(vfirst(hi) & ~vfirst(lo)); }
FR_INLINE vec vload_between(const real *p, ptrdiff_t lo, ptrdiff_t hi, vec fill) {
    return _mm512_mask_loadu_ps(fill, vmask_between(lo, hi), p);
}
FR_INLINE void vstore_between(real *p, vec v, ptrdiff_t lo, ptrdiff_t hi) {
    _mm512_mask_storeu_ps(p, vmask_between(lo, hi), v);
}
FR_INLINE vmask veq_u8(const uint8_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    const vmask inside = vmask_between(lo, hi);
    return _mm_mask_cmpeq_epi8_mask(inside, _mm_maskz_loadu_epi8(inside, p), _mm_set1_epi8((char)n));
}
FR_INLINE vmask veq_i32(const int32_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    const vmask inside = vmask_between(lo, hi);
    return _mm512_mask_cmpeq_epi32_mask(inside, _mm512_maskz_loadu_epi32(inside, p), _mm512_set1_epi32(n));
}
FR_INLINE void vstore_u8(uint8_t *p, vec v, ptrdiff_t n) {
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
    if (n == FR_WIDTH) _mm_storeu_si128((__m128i *)p, bytes);
    else _mm_mask_storeu_epi8(p, vfirst(n), bytes);
}
FR_INLINE void vstore_i32(int32_t *p, vec v, ptrdiff_t n) {
    _mm512_mask_storeu_epi32(p, vfirst(n), _mm512_cvtps_epi32(v));
}

FR_INLINE vmask vunordered(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
FR_INLINE vmask vor(vmask a, vmask b) { return (vmask)(a | b); }
FR_INLINE vmask vgt_nan(vec a, vec b) { return (vmask)(vgt(a, b) | visnan(a)); }
FR_INLINE int vany(vmask m) { return m != 0; }
FR_INLINE vec vmax_nan(vec a, vec b) { return vselect(visnan(a), a, vmax(a, b)); }

FR_INLINE vec vunzip_even(vec a, vec b) {
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b);
}
FR_INLINE vec vunzip_odd(vec a, vec b) {
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b);
}
FR_INLINE vec vunzip_third(vec a, vec b, vec c) {
    const vec mixed =
        _mm512_mask_blend_ps(0x2492, _mm512_mask_blend_ps(0x4924, a, b), c);  // lane 3 i modulo 16 is result i
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14, 1, 4, 7, 10, 13), mixed);
}

FR_INLINE vec vexponent(vec a) { return _mm512_getexp_ps(a); }

FR_INLINE void vstream(real *p, vec v) { _mm512_stream_ps(p, v); }
FR_INLINE void vstream_end(void) { _mm_sfence(); }

FR_INLINE void vpin(vec *v) { __asm__ volatile("" : "+v"(*v)); }
