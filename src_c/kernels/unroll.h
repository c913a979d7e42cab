// Loops of constant length over register arrays must be unrolled whole, or the arrays fall into memory.
#pragma once

#define FR_PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define FR_UNROLL(n) FR_PRAGMA(clang loop unroll(full))
#else
#define FR_UNROLL(n) FR_PRAGMA(GCC unroll n)
#endif

#define FR_NOINLINE __attribute__((noinline))
