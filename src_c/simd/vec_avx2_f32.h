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

FR_INLINE __m256i vbetween(ptrdiff_t lo, ptrdiff_t hi) { return _mm256_andnot_si256(vfirst(lo), vfirst(hi)); }
FR_INLINE vec vload_between(const real *p, ptrdiff_t lo, ptrdiff_t hi, vec fill) {
    const __m256i inside = vbetween(lo, hi);
    return _mm256_blendv_ps(fill, _mm256_maskload_ps(p, inside), _mm256_castsi256_ps(inside));
}
FR_INLINE void vstore_between(real *p, vec v, ptrdiff_t lo, ptrdiff_t hi) {
    _mm256_maskstore_ps(p, vbetween(lo, hi), v);
}
// There are no masked loads of bytes: a part goes through a whole vector of them.
FR_INLINE vmask veq_u8(const uint8_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    uint8_t whole[8] = {0};
    if (lo == 0 && hi == FR_WIDTH) {
        __builtin_memcpy(whole, p, FR_WIDTH);
    } else {
        for (ptrdiff_t i = lo; i < hi; ++i) whole[i] = p[i];
    }
    const __m128i equal = _mm_cmpeq_epi8(_mm_loadl_epi64((const __m128i *)whole), _mm_set1_epi8((char)n));
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_cvtepi8_epi32(equal), vbetween(lo, hi)));
}
FR_INLINE vmask veq_i32(const int32_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    const __m256i inside = vbetween(lo, hi);
    const __m256i equal = _mm256_cmpeq_epi32(_mm256_maskload_epi32(p, inside), _mm256_set1_epi32(n));
    return _mm256_castsi256_ps(_mm256_and_si256(equal, inside));
}
FR_INLINE void vstore_u8(uint8_t *p, vec v, ptrdiff_t n) {
    const __m256i numbers = _mm256_cvtps_epi32(v);
    const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
    uint8_t whole[16];
    _mm_storeu_si128((__m128i *)whole, _mm_packus_epi16(pairs, pairs));
    if (n == FR_WIDTH) __builtin_memcpy(p, whole, FR_WIDTH);
    else __builtin_memcpy(p, whole, (size_t)n);
}
FR_INLINE void vstore_i32(int32_t *p, vec v, ptrdiff_t n) {
    _mm256_maskstore_epi32(p, vfirst(n), _mm256_cvtps_epi32(v));
}

FR_INLINE vmask vunordered(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
FR_INLINE vmask vor(vmask a, vmask b) { return _mm256_or_ps(a, b); }
FR_INLINE vmask vgt_nan(vec a, vec b) { return _mm256_or_ps(vgt(a, b), visnan(a)); }
FR_INLINE int vany(vmask m) { return _mm256_movemask_ps(m) != 0; }
FR_INLINE vec vmax_nan(vec a, vec b) { return vselect(visnan(a), a, vmax(a, b)); }

// Shuffled within 128-bit halves to a a b b, a a b b; the permutation of pairs joins those of a.
FR_INLINE vec vunzip_even(vec a, vec b) {
    const __m256d pairs = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(pairs, 0xD8));
}
FR_INLINE vec vunzip_odd(vec a, vec b) {
    const __m256d pairs = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xDD));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(pairs, 0xD8));
}
FR_INLINE vec vunzip_third(vec a, vec b, vec c) {
    const vec mixed = _mm256_blend_ps(_mm256_blend_ps(a, b, 0x92), c, 0x24);  // lane 3 i modulo 8 is result i
    return _mm256_permutevar8x32_ps(mixed, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
}

// The biased exponent becomes the last bits of 2^23 + 127 + n.
FR_INLINE vec vexponent(vec a) {
    const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(a), 23);
    const vec whole = _mm256_or_ps(_mm256_castsi256_ps(biased), vset1(8388608.0f));
    return vsub(whole, vset1(8388735.0f));
}

FR_INLINE void vstream(real *p, vec v) { _mm256_stream_ps(p, v); }
FR_INLINE void vstream_end(void) { _mm_sfence(); }

FR_INLINE void vpin(vec *v) { __asm__ volatile("" : "+x"(*v)); }
