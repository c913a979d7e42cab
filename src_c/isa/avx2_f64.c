// Every kernel for avx2, float64.
#include "../simd/vec_avx2_f64.h"

#include "../kernels/vmath_f64.h"

#define FR_NAME(what) fr_##what##_f64__avx2
#include "../kernels/table.h"
