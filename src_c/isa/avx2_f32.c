// Every kernel for avx2, float32.
#include "../simd/vec_avx2_f32.h"

#include "../kernels/vmath_f32.h"

#define FR_NAME(what) fr_##what##_f32__avx2
#include "../kernels/table.h"
