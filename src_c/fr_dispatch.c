// The list of instruction sets. FR_BUILT_<isa> comes from the build, which compiles exactly the files it names.
#include "fr_dispatch.h"

#include "fr_cpu.h"

// clang-format off
#define DECLARE(isa) extern const fr_kernels fr_table_f32__##isa, fr_table_f64__##isa
#define BUILT(isa, has) {#isa, 1, has, {&fr_table_f32__##isa, &fr_table_f64__##isa}}
#define ABSENT(isa, has) {#isa, 0, has, {0, 0}}
// clang-format on

DECLARE(scalar);
#ifdef FR_BUILT_avx2
DECLARE(avx2);
#define AVX2(has) BUILT(avx2, has)
#else
#define AVX2(has) ABSENT(avx2, has)
#endif
#ifdef FR_BUILT_avx512
DECLARE(avx512);
#define AVX512(has) BUILT(avx512, has)
#else
#define AVX512(has) ABSENT(avx512, has)
#endif
#ifdef FR_BUILT_neon
DECLARE(neon);
#define NEON(has) BUILT(neon, has)
#else
#define NEON(has) ABSENT(neon, has)
#endif

void fr_list_isas(fr_isa isas[FR_ISAS]) {
    const fr_isa list[FR_ISAS] = {
        BUILT(scalar, 1),
        NEON(fr_cpu_has_neon()),
        AVX2(fr_cpu_has_avx2()),
        AVX512(fr_cpu_has_avx512()),
    };
    for (int i = 0; i < FR_ISAS; ++i) isas[i] = list[i];
}
