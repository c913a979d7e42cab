// Which instruction sets this build holds, which of them this CPU has, and their tables.
#pragma once

#include "fr_kernels.h"

typedef enum fr_dtype { FR_F32, FR_F64, FR_DTYPES } fr_dtype;

typedef struct fr_isa {
    const char *name;
    int built;      // compiled into this library
    int supported;  // this CPU and operating system can run it
    const fr_kernels *tables[FR_DTYPES];
} fr_isa;

enum { FR_ISAS = 4 };

// From the plainest to the fastest. An instruction set of another architecture is listed too, as neither built nor supported, so
// that every name has an answer.
void fr_list_isas(fr_isa isas[FR_ISAS]);
