// SIMD vocabulary, double on AVX2 and FMA: 4 lanes.
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
#define FR_WIDTH 4
#define FR_MAX_ROWS 3  // rows of a tile 4 vectors wide: 12 of 16 registers hold sums

typedef double real;
typedef __m256d vec;
typedef __m256d vmask;  // all ones or all zeros per lane

FR_INLINE vec vzero(void) { return _mm256_setzero_pd(); }
FR_INLINE vec vset1(real x) { return _mm256_set1_pd(x); }
FR_INLINE vec vload(const real *p) { return _mm256_loadu_pd(p); }
FR_INLINE void vstore(real *p, vec v) { _mm256_storeu_pd(p, v); }
FR_INLINE vec vbroadcast(const real *p) { return _mm256_set1_pd(*p); }

FR_INLINE __m256i vfirst(ptrdiff_t n) {
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), lane);
}
FR_INLINE vec vload_n(const real *p, ptrdiff_t n) { return _mm256_maskload_pd(p, vfirst(n)); }
FR_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) { _mm256_maskstore_pd(p, vfirst(n), v); }

FR_INLINE vec vadd(vec a, vec b) { return _mm256_add_pd(a, b); }
FR_INLINE vec vsub(vec a, vec b) { return _mm256_sub_pd(a, b); }
FR_INLINE vec vmul(vec a, vec b) { return _mm256_mul_pd(a, b); }
FR_INLINE vec vdiv(vec a, vec b) { return _mm256_div_pd(a, b); }
FR_INLINE vec vfma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
FR_INLINE vec vfms(vec a, vec b, vec c) { return _mm256_fmsub_pd(a, b, c); }
FR_INLINE vec vfnma(vec a, vec b, vec c) { return _mm256_fnmadd_pd(a, b, c); }
FR_INLINE vec vsqrt(vec a) { return _mm256_sqrt_pd(a); }
FR_INLINE vec vmin(vec a, vec b) { return _mm256_min_pd(a, b); }
FR_INLINE vec vmax(vec a, vec b) { return _mm256_max_pd(a, b); }
FR_INLINE vec vabs(vec a) { return _mm256_andnot_pd(vset1(-0.0), a); }
FR_INLINE vec vneg(vec a) { return _mm256_xor_pd(vset1(-0.0), a); }
FR_INLINE vec vround(vec a) { return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FR_INLINE vec vcopysign(vec mag, vec sgn) {
    const vec sign = vset1(-0.0);
    return _mm256_or_pd(_mm256_andnot_pd(sign, mag), _mm256_and_pd(sign, sgn));
}

// 2^n for integral -1022 <= n <= 1023, from t = n + 6755399441056767.0 (= 1.5 * 2^52 + 1023): the low bits of t
// are the biased exponent of 2^n.
FR_INLINE vec vpow2_biased(vec t) {
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(t), 52));
}

FR_INLINE vec vpow2(vec n) { return vpow2_biased(vadd(n, vset1(6755399441056767.0))); }

// Two factors of about half the exponent each; adding the large constant also rounds n / 2 to an integer.
FR_INLINE vec vscale2(vec p, vec n) {
    const vec biased = vset1(6755399441056767.0);
    const vec t1 = vfma(n, vset1(0.5), biased);
    const vec t2 = vadd(vsub(n, vsub(t1, biased)), biased);
    return vmul(vmul(p, vpow2_biased(t1)), vpow2_biased(t2));
}

FR_INLINE vmask vlt(vec a, vec b) { return _mm256_cmp_pd(a, b, _CMP_LT_OQ); }
FR_INLINE vmask vle(vec a, vec b) { return _mm256_cmp_pd(a, b, _CMP_LE_OQ); }
FR_INLINE vmask vgt(vec a, vec b) { return _mm256_cmp_pd(a, b, _CMP_GT_OQ); }
FR_INLINE vmask veq(vec a, vec b) { return _mm256_cmp_pd(a, b, _CMP_EQ_OQ); }
FR_INLINE vmask visnan(vec a) { return _mm256_cmp_pd(a, a, _CMP_UNORD_Q); }
FR_INLINE vec vselect(vmask m, vec a, vec b) { return _mm256_blendv_pd(b, a, m); }

FR_INLINE real vsum(vec v) {
    const __m128d d = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}
FR_INLINE real vmax_lane(vec v) {
    const __m128d d = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(d, _mm_unpackhi_pd(d, d)));
}

// The unpack instructions work within 128-bit halves; the permutation joins the right ones.
FR_INLINE vec vzip_lo(vec a, vec b) {
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x20);
}
FR_INLINE vec vzip_hi(vec a, vec b) {
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x31);
}

FR_INLINE __m256i vbetween(ptrdiff_t lo, ptrdiff_t hi) { return _mm256_andnot_si256(vfirst(lo), vfirst(hi)); }
FR_INLINE vec vload_between(const real *p, ptrdiff_t lo, ptrdiff_t hi, vec fill) {
    const __m256i inside = vbetween(lo, hi);
    return _mm256_blendv_pd(fill, _mm256_maskload_pd(p, inside), _mm256_castsi256_pd(inside));
}
FR_INLINE void vstore_between(real *p, vec v, ptrdiff_t lo, ptrdiff_t hi) {
    _mm256_maskstore_pd(p, vbetween(lo, hi), v);
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
    return _mm256_castsi256_pd(_mm256_and_si256(_mm256_cvtepi8_epi64(equal), vbetween(lo, hi)));
}
FR_INLINE __m128i vfirst_i32(ptrdiff_t n) {
    return _mm_cmpgt_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3));
}
FR_INLINE vmask veq_i32(const int32_t *p, ptrdiff_t lo, ptrdiff_t hi, int n) {
    const __m128i inside = _mm_andnot_si128(vfirst_i32(lo), vfirst_i32(hi));
    const __m128i equal = _mm_cmpeq_epi32(_mm_maskload_epi32(p, inside), _mm_set1_epi32(n));
    return _mm256_castsi256_pd(_mm256_cvtepi32_epi64(_mm_and_si128(equal, inside)));
}
FR_INLINE void vstore_u8(uint8_t *p, vec v, ptrdiff_t n) {
    const __m128i numbers = _mm256_cvtpd_epi32(v), pairs = _mm_packs_epi32(numbers, numbers);
    uint8_t whole[16];
    _mm_storeu_si128((__m128i *)whole, _mm_packus_epi16(pairs, pairs));
    if (n == FR_WIDTH) __builtin_memcpy(p, whole, FR_WIDTH);
    else __builtin_memcpy(p, whole, (size_t)n);
}
FR_INLINE void vstore_i32(int32_t *p, vec v, ptrdiff_t n) {
    _mm_maskstore_epi32(p, vfirst_i32(n), _mm256_cvtpd_epi32(v));
}

FR_INLINE vmask vunordered(vec a, vec b) { return _mm256_cmp_pd(a, b, _CMP_UNORD_Q); }
FR_INLINE vmask vor(vmask a, vmask b) { return _mm256_or_pd(a, b); }
FR_INLINE vmask vgt_nan(vec a, vec b) { return _mm256_or_pd(vgt(a, b), visnan(a)); }
FR_INLINE int vany(vmask m) { return _mm256_movemask_pd(m) != 0; }
FR_INLINE vec vmax_nan(vec a, vec b) { return vselect(visnan(a), a, vmax(a, b)); }

// Shuffled within 128-bit halves to a b, a b; the permutation joins those of a.
FR_INLINE vec vunzip_even(vec a, vec b) {
    return _mm256_permute4x64_pd(_mm256_unpacklo_pd(a, b), 0xD8);
}
FR_INLINE vec vunzip_odd(vec a, vec b) { return _mm256_permute4x64_pd(_mm256_unpackhi_pd(a, b), 0xD8); }
FR_INLINE vec vunzip_third(vec a, vec b, vec c) {
    const vec mixed = _mm256_blend_pd(_mm256_blend_pd(a, b, 0x4), c, 0x2);  // lane 3 i modulo 4 is result i
    return _mm256_permute4x64_pd(mixed, 0x6C);
}

// The biased exponent becomes the last bits of 2^52 + 1023 + n.
FR_INLINE vec vexponent(vec a) {
    const __m256i biased = _mm256_srli_epi64(_mm256_castpd_si256(a), 52);
    const vec whole = _mm256_or_pd(_mm256_castsi256_pd(biased), vset1(4503599627370496.0));
    return vsub(whole, vset1(4503599627371519.0));
}

FR_INLINE void vstream(real *p, vec v) { _mm256_stream_pd(p, v); }
FR_INLINE void vstream_end(void) { _mm_sfence(); }

FR_INLINE void vpin(vec *v) { __asm__ volatile("" : "+x"(*v)); }
