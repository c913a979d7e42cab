// A team of threads that works through one call together: its barrier, and what a forked child may still do.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#ifdef _OPENMP
#include <omp.h>
enum { FR_HAVE_OPENMP = 1 };
#else
enum { FR_HAVE_OPENMP = 0 };
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_num_threads(void) { return 1; }
static inline int omp_get_thread_num(void) { return 0; }
#endif

#if defined(__x86_64__)
static inline void fr_pause(void) { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
static inline void fr_pause(void) { __asm__ volatile("yield"); }
#else
static inline void fr_pause(void) {}
#endif

// The OpenMP limit of the calling thread when it first asked after wish number `wish`; each thread has a limit of its own.
static inline int fr_limit_at(int wish, int limit) {
    static _Thread_local int seen_wish, seen_limit;
    if (seen_wish != wish) seen_wish = wish, seen_limit = limit;
    return seen_limit;
}

// Arrivals and the generation stand on lines of their own: the waiting read one while the late write the other.
typedef struct fr_barrier {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int generation;
} fr_barrier;

static inline void fr_barrier_init(fr_barrier *b) {
    atomic_init(&b->arrived, 0);
    atomic_init(&b->generation, 0);
}

// Spins about 20 microseconds, longer than any healthy step's imbalance, then gives the core away between looks, so that more
// threads than cores still make progress.
enum { FR_SPINS = 1000 };

static inline void fr_barrier_wait(fr_barrier *b, int size) {
    const int generation = atomic_load_explicit(&b->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == size - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&b->generation, generation + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&b->generation, memory_order_acquire) == generation; ++spins) {
        if (spins < FR_SPINS) fr_pause();
        else sched_yield();
    }
}

// How many parts of a member's range are taken, by it or by others, in this round and, zero until then, in the next.
enum { FR_QUEUES = 64 };  // larger teams do not take each other's parts
typedef struct fr_queue {
    _Alignas(64) atomic_long taken[2];
} fr_queue;

static inline void fr_queue_init(fr_queue *q) {
    atomic_init(&q->taken[0], 0);
    atomic_init(&q->taken[1], 0);
}
static inline long fr_queue_take(fr_queue *q, int parity) {
    return atomic_fetch_add_explicit(&q->taken[parity], 1, memory_order_relaxed);
}
static inline void fr_queue_clear(fr_queue *q, int parity) {
    atomic_store_explicit(&q->taken[parity], 0, memory_order_relaxed);
}

// GNU's OpenMP runtime does not survive fork() once it has made threads: the child's next region would wait for threads that do
// not exist. So a child of a process that has used a team works alone.
static atomic_int fr_team_used;
static atomic_int fr_serial_child;

static void fr_after_fork_in_child(void) {
    if (atomic_load(&fr_team_used)) atomic_store(&fr_serial_child, 1);
}

static inline void fr_watch_forks(void) { pthread_atfork(NULL, NULL, fr_after_fork_in_child); }
static inline void fr_note_team(void) { atomic_store_explicit(&fr_team_used, 1, memory_order_relaxed); }
static inline int fr_must_be_serial(void) { return atomic_load_explicit(&fr_serial_child, memory_order_relaxed); }

// What other members have just written lies in their cores' caches; asked for all at once, it comes while other work is done.
static inline void fr_fetch_rows(const char *data, long rows, long row_bytes, long stride_bytes) {
    for (long r = 0; r < rows; ++r, data += stride_bytes) {
        for (long at = 0; at < row_bytes; at += 64) __builtin_prefetch(data + at, 0, 2);
    }
}
