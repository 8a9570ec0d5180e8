/* How threads are scheduled: policy, priority, nice value and processors of each, timer slack.
 *
 * Wrong would be: a thread that has the policy or the processors of another, or of whoever restarted the program.
 */
#include "program.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { THREADS = 5 };

/* A nice value that an ordinary user may set, wherever it stands now. */
static int nicer(int by) {
    int nice = getpriority(PRIO_PROCESS, 0) + by;
    return nice < 19 ? nice : 19;
}

struct state {
    int policy, priority, nice, slack;
    cpu_set_t processors;
};

static struct state before[THREADS];
static sem_t standing, go;
static int last_processor;

static struct state look(void) {
    struct state state;
    struct sched_param parameters;
    memset(&state, 0, sizeof state);
    state.policy = sched_getscheduler(0);
    CHECK(sched_getparam(0, &parameters) == 0, "sched_getparam");
    state.priority = parameters.sched_priority;
    errno = 0;
    state.nice = getpriority(PRIO_PROCESS, 0);
    CHECK(errno == 0 && sched_getaffinity(0, sizeof state.processors, &state.processors) == 0, "sched_getaffinity");
    state.slack = prctl(PR_GET_TIMERSLACK);
    return state;
}

static void make(long i) {
    struct sched_param none = {0}, some = {.sched_priority = 3};
    cpu_set_t one;
    CPU_ZERO(&one);
    switch (i) {
    case 0:
        MAKE(setpriority(PRIO_PROCESS, 0, nicer(3)) == 0 && prctl(PR_SET_TIMERSLACK, 70000) == 0);
        break;
    case 1:
        MAKE(sched_setscheduler(0, SCHED_BATCH, &none) == 0 && setpriority(PRIO_PROCESS, 0, nicer(7)) == 0);
        break;
    case 2:
        MAKE(setpriority(PRIO_PROCESS, 0, nicer(5)) == 0 && sched_setscheduler(0, SCHED_IDLE, &none) == 0);
        break;
    case 3:
        CPU_SET(last_processor, &one);
        MAKE(sched_setaffinity(0, sizeof one, &one) == 0);
        break;
    case 4:
        /* Not everybody may. */
        if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &some) != 0) MAKE(errno == EPERM);
        break;
    }
}

static void check(long i) {
    struct state now = look(), was = before[i];
    CHECK(now.policy == was.policy && now.priority == was.priority, "thread %ld: policy %d/%d, was %d/%d", i,
          now.policy, now.priority, was.policy, was.priority);
    CHECK(now.nice == was.nice, "thread %ld: nice %d, was %d", i, now.nice, was.nice);
    CHECK(CPU_EQUAL(&now.processors, &was.processors), "thread %ld: processors", i);
    CHECK(now.slack == was.slack, "thread %ld: timer slack %d, was %d", i, now.slack, was.slack);
}

static void *run(void *argument) {
    long i = (long)argument;
    make(i);
    before[i] = look();
    sem_post(&standing);
    while (sem_wait(&go) != 0) continue;
    check(i);
    return argument;
}

int main(void) {
    pthread_t threads[THREADS];
    cpu_set_t all;
    MAKE(sched_getaffinity(0, sizeof all, &all) == 0);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all)) last_processor = i;
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    for (long i = 1; i < THREADS; i++) {
        MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
        MAKE(sem_wait(&standing) == 0);
    }
    make(0);
    before[0] = look();

    ready();

    check(0);
    for (long i = 1; i < THREADS; i++) {
        struct sched_param parameters;
        int policy;
        CHECK(pthread_getschedparam(threads[i], &policy, &parameters) == 0 &&
                  (policy | (policy == SCHED_RR ? SCHED_RESET_ON_FORK : 0)) == before[i].policy,
              "thread %ld, asked by another", i);
        cpu_set_t processors;
        CHECK(pthread_getaffinity_np(threads[i], sizeof processors, &processors) == 0 &&
                  CPU_EQUAL(&processors, &before[i].processors),
              "processors of thread %ld, asked by another", i);
    }
    for (long i = 1; i < THREADS; i++) sem_post(&go);
    for (long i = 1; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    SAY("scheduling: policies, priorities, nice values, processors, timer slack of five threads");
    return finish(7);
}
