// Every kernel for scalar, float64.
#include "../simd/vec_scalar_f64.h"

#include "../kernels/vmath_f64.h"

#define FR_NAME(what) fr_##what##_f64__scalar
#include "../kernels/table.h"
