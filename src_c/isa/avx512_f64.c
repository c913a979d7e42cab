// Every kernel for avx512, float64.
#include "../simd/vec_avx512_f64.h"

#include "../kernels/vmath_f64.h"

#define FR_NAME(what) fr_##what##_f64__avx512
#include "../kernels/table.h"
