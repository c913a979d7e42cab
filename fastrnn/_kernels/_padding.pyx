"""Rows of padded maps: the inside of a row is copied and its borders are filled; places a stride apart become neighbours."""

from libc.string cimport memcpy, memset

from fastrnn._kernels._windows cimport place_of

ctypedef fused real:
    float
    double


cdef void pad_row(const Axis *axis, int itemsize, const char *row, Range places, ptrdiff_t part, char *to) noexcept nogil:
    """Places of a row, some of them outside: place p goes to [(p - first) % step][(p - first) // step], `part` elements a step."""
    cdef ptrdiff_t first = min(max(places.first, <ptrdiff_t> 0), places.end), end = max(min(places.end, axis.source), first)
    if axis.step == 1:
        memcpy(to + (first - places.first) * itemsize, row + first * itemsize, (end - first) * itemsize)
    elif itemsize == 4:
        split_row(<const float *> row, places.first, first, end, axis.step, part, <float *> to)
    else:
        split_row(<const double *> row, places.first, first, end, axis.step, part, <double *> to)
    fill_border(axis, itemsize, row, places.first, places.first, first, part, to)
    fill_border(axis, itemsize, row, places.first, end, places.end, part, to)


cdef void fill_border(const Axis *axis, int itemsize, const char *row, ptrdiff_t start, ptrdiff_t first, ptrdiff_t end,
                      ptrdiff_t part, char *to) noexcept nogil:
    cdef ptrdiff_t place, source, at
    for place in range(first, end):
        at = (place - start) % axis.step * part + (place - start) // axis.step
        source = place_of(axis, place)
        if source < 0:
            memset(to + at * itemsize, 0, itemsize)
        else:
            memcpy(to + at * itemsize, row + source * itemsize, itemsize)


cdef void split_row(const real *row, ptrdiff_t start, ptrdiff_t first, ptrdiff_t end, ptrdiff_t step, ptrdiff_t part,
                    real *to) noexcept nogil:
    cdef ptrdiff_t phase, place, at
    for phase in range(step):
        place = first + (start + phase - first) % step
        if place < first:
            place += step
        at = (place - start) % step * part + (place - start) // step
        while place < end:
            to[at] = row[place]
            at += 1
            place += step
