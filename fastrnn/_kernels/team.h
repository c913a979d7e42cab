// A team of threads that works through one call together: its barrier, and what a forked child may still do.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // sched_getcpu, cpu_set_t
#endif

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

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

#ifdef __linux__
static inline int fr_cpu(void) { return sched_getcpu(); }

// Moves this thread to another core if it runs on `cpu`, where another member is at work. Left alone, the two would share that core
// until the system's next tick, some milliseconds.
static inline void fr_leave_cpu(int cpu) {
    cpu_set_t allowed, others;
    if (cpu < 0 || sched_getcpu() != cpu || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0)
        sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
static inline int fr_cpu(void) { return -1; }
static inline void fr_leave_cpu(int cpu) { (void)cpu; }
#endif

// A number that one thread sets and others wait for.
typedef struct fr_signal {
    _Alignas(64) atomic_int value;
    atomic_int napping;  // how many
    atomic_int cpu;      // where it was set while some napped
} fr_signal;

// Spins some tenths of a millisecond, then naps, so that more threads than cores make progress. A core that has gone idle takes long to
// wake, so sooner costs more than it saves. Naps end by the clock: a thread that another wakes may be put on that one's core, and
// does not come to run there while the other spins in OpenMP's wait. Each nap is a fraction of all before it.
enum { FR_SPINS = 20000, FR_FIRST_NAP = 10000, FR_LAST_NAP = 1000000, FR_NAP_GROWTH = 8 };  // naps in nanoseconds

static inline void fr_signal_init(fr_signal *s) {
    atomic_init(&s->value, 0);
    atomic_init(&s->napping, 0);
    atomic_init(&s->cpu, -1);
}

static inline void fr_signal_set(fr_signal *s, int value) {
    if (atomic_load(&s->napping) > 0) atomic_store(&s->cpu, fr_cpu());
    atomic_store(&s->value, value);
}

static inline void fr_signal_nap(fr_signal *s, int value) {
    struct timespec nap = {0, FR_FIRST_NAP};
    atomic_fetch_add(&s->napping, 1);
    while (atomic_load(&s->value) != value) {
        nanosleep(&nap, NULL);
        if (nap.tv_nsec < FR_LAST_NAP) nap.tv_nsec += nap.tv_nsec / FR_NAP_GROWTH;
    }
    atomic_fetch_sub(&s->napping, 1);
    fr_leave_cpu(atomic_load(&s->cpu));
}

static inline void fr_signal_wait(fr_signal *s, int value) {
    for (int spins = 0; spins < FR_SPINS; ++spins) {
        if (atomic_load_explicit(&s->value, memory_order_acquire) == value) return;
        fr_pause();
    }
    fr_signal_nap(s, value);
}

// Arrivals and the generation stand on lines of their own: the waiting read one while the late write the other.
typedef struct fr_barrier {
    _Alignas(64) atomic_int arrived;
    fr_signal generation;
} fr_barrier;

static inline void fr_barrier_init(fr_barrier *b) {
    atomic_init(&b->arrived, 0);
    fr_signal_init(&b->generation);
}

static inline void fr_barrier_wait(fr_barrier *b, int size) {
    const int next = atomic_load_explicit(&b->generation.value, memory_order_relaxed) + 1;
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == size - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        fr_signal_set(&b->generation, next);
    } else {
        fr_signal_wait(&b->generation, next);
    }
}

// How members come and go. OpenMP wakes them, perhaps on the core of member 0, the caller, and its own wait for them at the end
// spins for milliseconds, so nobody may come to that wait before all others are done.
typedef struct fr_crew {
    int cpu;  // the caller's
    atomic_int present, finished;
    fr_signal done;
} fr_crew;

// Looks of member 0 for the others, some microseconds, before it lets one that waits for its core run.
enum { FR_LOOKS = 50 };

static inline void fr_crew_init(fr_crew *c) {
    c->cpu = fr_cpu();
    atomic_init(&c->present, 1);
    atomic_init(&c->finished, 1);
    fr_signal_init(&c->done);
}

static inline void fr_crew_enter(fr_crew *c, int member, int size) {
    if (member > 0) {
        fr_leave_cpu(c->cpu);
        atomic_fetch_add_explicit(&c->present, 1, memory_order_relaxed);
        return;
    }
    for (int looks = 0; looks < FR_LOOKS; ++looks) {
        if (atomic_load_explicit(&c->present, memory_order_relaxed) == size) return;
        fr_pause();
    }
    sched_yield();
}

static inline void fr_crew_leave(fr_crew *c, int member, int size) {
    if (size == 1) return;
    if (member == 0) fr_signal_wait(&c->done, 1);
    else if (atomic_fetch_add_explicit(&c->finished, 1, memory_order_acq_rel) == size - 1) fr_signal_set(&c->done, 1);
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
