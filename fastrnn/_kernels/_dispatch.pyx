"""The only linker of src_c: owns the table of kernels in use and says which instruction sets there are."""

import os

cdef extern from "fr_dispatch.h" nogil:
    enum:
        FR_F32
        FR_F64
        FR_DTYPES
        FR_ISAS

    ctypedef struct fr_isa:
        const char *name
        int built, supported
        const fr_kernels *tables[2]

    void fr_list_isas(fr_isa *isas)

cdef extern from *:
    """
    #ifndef FR_COMPILER
    #define FR_COMPILER "unknown"
    #endif
    """
    const char *FR_COMPILER

cdef fr_isa isas[FR_ISAS]
cdef int current = 0
cdef Py_ssize_t generation = 0


cdef const fr_kernels *kernels_for(int itemsize) noexcept nogil:
    """The kernels in use for elements of 4 or 8 bytes."""
    return isas[current].tables[FR_F32 if itemsize == 4 else FR_F64]


cdef bint has_tuned_tile() noexcept nogil:
    """Whether the kernels in use are written for this CPU's vectors, not the portable ones."""
    return current != 0


cdef str name_of(int i):
    return isas[i].name.decode()


def available_isas():
    """Names of the instruction sets that are built and that this CPU has, from the plainest to the fastest."""
    return tuple(name_of(i) for i in range(FR_ISAS) if isas[i].built and isas[i].supported)


def built_isas():
    """Names of the instruction sets in this build, whether or not this CPU has them."""
    return tuple(name_of(i) for i in range(FR_ISAS) if isas[i].built)


def get_isa():
    """Name of the instruction set in use."""
    return name_of(current)


def isa_generation():
    """A number that changes with every change of the instruction set; packed weights are valid for one value of it."""
    return generation


def set_isa(name):
    """Use the instruction set `name`: "scalar", "avx2", "avx512" or "neon".

    Raises
    ------
    ValueError : the name is unknown, was not built, or this CPU lacks it; the message says which.
    """
    global current, generation
    names = [name_of(i) for i in range(FR_ISAS)]
    if name not in names:
        raise ValueError(f"set_isa: 'name' must be one of {', '.join(names)}, got {name!r}")
    cdef int i = names.index(name)
    if not isas[i].built:
        raise ValueError(f"set_isa: {name!r} was not built into this fastrnn (built: {', '.join(built_isas())})")
    if not isas[i].supported:
        raise ValueError(f"set_isa: this CPU lacks {name!r} (available: {', '.join(available_isas())})")
    current = i
    generation += 1


def vector_width(itemsize):
    """Lanes of one vector for elements of `itemsize` bytes, with the instruction set in use."""
    return kernels_for(itemsize).width


def compiler():
    """The compiler that built the kernels."""
    return FR_COMPILER.decode()


fr_list_isas(isas)
set_isa(os.environ.get("FASTRNN_ISA") or max(available_isas(), key=built_isas().index))
