// What this CPU and operating system can run. Each name is an exact feature set:
//   avx2: AVX2, FMA        avx512: AVX-512 F, BW, DQ, VL and FMA        neon: AArch64 Advanced SIMD
#pragma once

int fr_cpu_has_avx2(void);
int fr_cpu_has_avx512(void);
int fr_cpu_has_neon(void);
