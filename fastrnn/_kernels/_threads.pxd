# The only contact with OpenMP: how many threads a call gets, how they start, and how they wait for each other.

cdef extern from "team.h" nogil:
    ctypedef struct fr_barrier:
        pass

cdef struct Team:
    int size
    fr_barrier barrier

# One member's share of a call; members are numbered 0..team.size-1.
ctypedef void (*share_fn)(void *work, Team *team, int member) noexcept nogil

cdef int team_size(double multiply_adds, ptrdiff_t meetings, ptrdiff_t parts) noexcept nogil
cdef void run_team(share_fn share, void *work, int size) noexcept nogil
cdef void wait_for_team(Team *team) noexcept nogil

cdef inline ptrdiff_t first_of(ptrdiff_t parts, int member, int size) noexcept nogil:
    """The first part of a member's even share; the next member's first is its end."""
    return parts * member // size
