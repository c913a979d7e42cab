// Every kernel for neon, float32.
#include "../simd/vec_neon_f32.h"

#include "../kernels/vmath_f32.h"

#define FR_NAME(what) fr_##what##_f32__neon
#include "../kernels/table.h"
