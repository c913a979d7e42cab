// CPU detection. On x86-64 by CPUID, and by XGETBV that the operating system saves the wider registers
// (Intel SDM volume 1, sections 14.3 and 15.2).
#include "fr_cpu.h"

#if defined(__x86_64__)

#include <cpuid.h>

enum {
    LEAF1_ECX_FMA = 1u << 12,
    LEAF1_ECX_OSXSAVE = 1u << 27,
    LEAF1_ECX_AVX = 1u << 28,
    LEAF7_EBX_AVX2 = 1u << 5,
    LEAF7_EBX_AVX512F = 1u << 16,
    LEAF7_EBX_AVX512DQ = 1u << 17,
    LEAF7_EBX_AVX512BW = 1u << 30,
    XCR0_AVX = 0x06,     // XMM and YMM state
    XCR0_AVX512 = 0xe6,  // and opmask, upper ZMM, upper 16 ZMM
};
static const unsigned LEAF7_EBX_AVX512VL = 1u << 31;  // not an int, so not an enumerator

typedef struct features {
    unsigned leaf1_ecx, leaf7_ebx, xcr0;
} features;

static unsigned read_xcr0(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static features detect(void) {
    features f = {0, 0, 0};
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d)) f.leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) f.leaf7_ebx = b;
    if (f.leaf1_ecx & LEAF1_ECX_OSXSAVE) f.xcr0 = read_xcr0();
    return f;
}

static int all(unsigned value, unsigned bits) { return (value & bits) == bits; }

int fr_cpu_has_avx2(void) {
    const features f = detect();
    return all(f.xcr0, XCR0_AVX) && all(f.leaf1_ecx, LEAF1_ECX_AVX | LEAF1_ECX_FMA) && all(f.leaf7_ebx, LEAF7_EBX_AVX2);
}

int fr_cpu_has_avx512(void) {
    const features f = detect();
    return fr_cpu_has_avx2() && all(f.xcr0, XCR0_AVX512) &&
           all(f.leaf7_ebx, LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL);
}

int fr_cpu_has_neon(void) { return 0; }

#else

int fr_cpu_has_avx2(void) { return 0; }
int fr_cpu_has_avx512(void) { return 0; }

#if defined(__aarch64__)
int fr_cpu_has_neon(void) { return 1; }  // part of the base architecture
#else
int fr_cpu_has_neon(void) { return 0; }
#endif

#endif
