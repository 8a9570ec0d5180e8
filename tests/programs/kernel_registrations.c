/* What each thread has told the kernel of itself: the list of its robust locks, its rseq area, the word that is cleared
 * at its end, its GS base.
 *
 * Wrong would be: an address of another thread or none, an rseq area that the kernel does not keep up to date.
 */
#include "program.h"

#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/syscall.h>

#if defined __x86_64__
#include <asm/prctl.h>
#endif

enum { THREADS = 4 };

extern __attribute__((weak)) const ptrdiff_t __rseq_offset;
extern __attribute__((weak)) const unsigned int __rseq_size;

struct state {
    void *robust;
    size_t length;
    unsigned long gs;
};

static sem_t standing, go;
static unsigned long for_gs[THREADS][16];

static struct state look(void) {
    struct state state = {0};
    CHECK(syscall(SYS_get_robust_list, 0, &state.robust, &state.length) == 0, "get_robust_list");
#if defined __x86_64__
    CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &state.gs) == 0, "arch_prctl");
#endif
    return state;
}

static void check(struct state was, long i) {
    struct state now = look();
    CHECK(now.robust == was.robust && now.length == was.length, "thread %ld: the list of robust locks", i);
#if defined __x86_64__
    unsigned long value;
    CHECK(now.gs == was.gs, "thread %ld: GS base", i);
    if (now.gs) {
        __asm__ volatile("movq %%gs:24, %0" : "=r"(value));
        CHECK(value == 1000 + (unsigned long)i, "thread %ld: what GS points to", i);
    }
#endif
    if (&__rseq_size && __rseq_size) {
        volatile struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
        cpu_set_t all, one;
        CHECK(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
        CHECK((int)area->cpu_id >= 0, "thread %ld: the rseq area is registered", i);
        /* On every processor, right after the move to it. */
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &all)) continue;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            CHECK(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
            CHECK((int)area->cpu_id == cpu && sched_getcpu() == cpu, "thread %ld: on processor %d rseq says %d", i,
                  cpu, (int)area->cpu_id);
        }
        CHECK(sched_setaffinity(0, sizeof all, &all) == 0, "sched_setaffinity");
    }
}

static void *run(void *argument) {
    long i = (long)argument;
#if defined __x86_64__
    if (i % 2) {
        for_gs[i][3] = 1000 + i;
        MAKE(syscall(SYS_arch_prctl, ARCH_SET_GS, for_gs[i]) == 0);
    }
#endif
    struct state state = look();
    sem_post(&standing);
    while (sem_wait(&go) != 0) continue;
    check(state, i);
    return argument;
}

int main(void) {
    pthread_t threads[THREADS];
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    for (long i = 1; i < THREADS; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (long i = 1; i < THREADS; i++) MAKE(sem_wait(&standing) == 0);
    struct state state = look();

    ready();

    check(state, 0);
    for (long i = 1; i < THREADS; i++) sem_post(&go);
    /* A join waits for the word that the kernel clears. */
    for (long i = 1; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    SAY("kernel registrations: robust lists, rseq areas, cleared words, GS bases");
    return finish(7);
}
