# Which rows a time step reads and writes: the plan that lets one time loop serve every direction and any lengths.

cimport numpy as cnp


cdef class Plan:
    cdef readonly cnp.ndarray row      # (T',) intp, first row of each step
    cdef readonly cnp.ndarray active   # (T',) its number of rows; never grows, and is N at first
    cdef readonly cnp.ndarray last     # (N,) each sequence's last row
    cdef readonly cnp.ndarray order    # (N,) the sequences, longest first; None if the rows are the user's rows
    cdef readonly cnp.ndarray place    # (N,) the place of each in `order`, or None
    cdef readonly cnp.ndarray lengths  # (N,) or None
    cdef readonly ptrdiff_t rows       # how many there are
    cdef readonly bint reverse         # whether steps run backwards in time

    cpdef cnp.ndarray gathered(self, cnp.ndarray steps)
    cpdef object scatter(self, cnp.ndarray rows, cnp.ndarray steps)
    cdef cnp.ndarray before(self)


cdef Plan new_ragged(cnp.ndarray lengths, bint reverse)
