// Every kernel for scalar, float32.
#include "../simd/vec_scalar_f32.h"

#include "../kernels/vmath_f32.h"

#define FR_NAME(what) fr_##what##_f32__scalar
#include "../kernels/table.h"
