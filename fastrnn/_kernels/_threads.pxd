# The only contact with OpenMP: how many threads a call gets, how they start, and how they wait for each other.

from fastrnn._kernels._dispatch cimport FR_CHUNK

cdef extern from "team.h" nogil:
    ctypedef struct fr_barrier:
        pass
    ctypedef struct fr_queue:
        pass
    ctypedef struct fr_crew:
        pass
    const int FR_QUEUES
    void fr_fetch_rows(const char *data, long rows, long row_bytes, long stride_bytes)

cdef struct Team:
    int size
    fr_barrier barrier
    fr_crew crew
    fr_queue *queues  # one for each member, NULL in a team of one

# A member's way through rounds of work. In a round, parts 0..n-1 are shared out evenly; a member takes its own range in pieces of
# `grain` parts and then, piece by piece, what others have not come to yet: cores are seldom equally fast. With grain 0 each takes
# its own range in one piece. Between two rounds the team must meet. All members make the same rounds.
cdef struct Rounds:
    Team *team
    int member
    int parity     # of the round
    int owner      # whose range is being taken
    int visited    # ranges that are finished
    ptrdiff_t parts, grain, taken
    bint backwards

# One member's share of a call; members are numbered 0..team.size-1.
ctypedef void (*share_fn)(void *work, Team *team, int member) noexcept nogil

cdef double product_time(double rows, double inputs, double outputs) noexcept nogil
cdef int team_size(double nanoseconds, ptrdiff_t meetings, ptrdiff_t parts) noexcept nogil
cdef void run_team(share_fn share, void *work, int size) noexcept nogil
cdef void wait_for_team(Team *team) noexcept nogil
cdef void start_round(Rounds *rounds, ptrdiff_t parts, ptrdiff_t grain, bint backwards) noexcept nogil
cdef bint take(Rounds *rounds, ptrdiff_t *first, ptrdiff_t *last) noexcept nogil

cdef inline ptrdiff_t first_of(ptrdiff_t parts, int member, int size) noexcept nogil:
    """The first part of a member's even share; the next member's first is its end."""
    return parts * member // size

cdef inline ptrdiff_t first_element(ptrdiff_t n, int member, int size) noexcept nogil:
    """The same of n elements in whole chunks, so that no two members write to one cache line and sums do not depend on the team."""
    return n if member == size else first_of(n // FR_CHUNK, member, size) * FR_CHUNK
