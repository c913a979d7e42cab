// Every kernel for neon, float64.
#include "../simd/vec_neon_f64.h"

#include "../kernels/vmath_f64.h"

#define FR_NAME(what) fr_##what##_f64__neon
#include "../kernels/table.h"
