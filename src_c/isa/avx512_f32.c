// Every kernel for avx512, float32.
#include "../simd/vec_avx512_f32.h"

#include "../kernels/vmath_f32.h"

#define FR_NAME(what) fr_##what##_f32__avx512
#include "../kernels/table.h"
