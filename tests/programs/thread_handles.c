/* What others can ask of a thread: join, try to join, join until some time, kill, cancel; and threads that had ended
 * before they were asked.
 *
 * Wrong would be: a wrong return value, a join that hangs or does not wait, a signal that hits another thread.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

enum { THREADS = 6 };

static sem_t standing, handled, go[THREADS];
static __thread int taken;
static int taken_by[THREADS];

static void on_signal(int number) {
    (void)number;
    taken++;
    sem_post(&handled);
}

static void *run(void *argument) {
    long i = (long)argument;
    sem_post(&standing);
    while (sem_wait(&go[i]) != 0) continue;
    taken_by[i] = taken;
    return (void *)(i + 10);
}

static void *end_at_once(void *argument) { return argument; }

int main(void) {
    pthread_t threads[THREADS], ended;
    MAKE(signal(SIGUSR1, on_signal) != SIG_ERR && sem_init(&standing, 0, 0) == 0 &&
         sem_init(&handled, 0, 0) == 0);
    for (long i = 0; i < THREADS; i++) {
        MAKE(sem_init(&go[i], 0, 0) == 0 && pthread_create(&threads[i], NULL, run, (void *)i) == 0);
        MAKE(sem_wait(&standing) == 0);
    }
    MAKE(pthread_create(&ended, NULL, end_at_once, (void *)77) == 0);
    /* It is gone when its id is: only then is there nothing left of it but its value. */
    while (pthread_kill(ended, 0) == 0 && pthread_tryjoin_np(ended, NULL) == EBUSY) usleep(1000);
    int was_joined = pthread_kill(ended, 0) != ESRCH;
    pthread_t ended_too;
    MAKE(pthread_create(&ended_too, NULL, end_at_once, (void *)78) == 0);
    usleep(100000);

    ready();

    void *result = NULL;
    struct timespec until;
    CHECK(pthread_tryjoin_np(threads[0], &result) == EBUSY, "a thread that runs");
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    int64_t begun = nanoseconds(CLOCK_MONOTONIC);
    CHECK(pthread_timedjoin_np(threads[0], &result, &until) == ETIMEDOUT &&
              nanoseconds(CLOCK_MONOTONIC) - begun > 500 * MILLISECONDS,
          "a second is waited for");
    SAY("thread handles: neither tryjoin nor timedjoin finds an end that has not come");
    if (!was_joined) CHECK(pthread_join(ended, &result) == 0 && result == (void *)77, "a thread that had ended");
    CHECK(pthread_join(ended_too, &result) == 0 && result == (void *)78, "another thread that had ended");
    SAY("thread handles: the value of a thread that had ended");
    for (int i = 0; i < THREADS; i++)
        for (int k = 0; k <= i; k++) {
            CHECK(pthread_kill(threads[i], 0) == 0 && pthread_kill(threads[i], SIGUSR1) == 0, "pthread_kill");
            /* Ordinary signals are not counted while one waits. */
            while (sem_wait(&handled) != 0) continue;
        }
    for (int i = 0; i < THREADS; i++) sem_post(&go[i]);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    CHECK(pthread_timedjoin_np(threads[0], &result, &until) == 0 && result == (void *)10, "pthread_timedjoin_np");
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 20;
    CHECK(pthread_clockjoin_np(threads[1], &result, CLOCK_MONOTONIC, &until) == 0 && result == (void *)11,
          "pthread_clockjoin_np");
    int error;
    while ((error = pthread_tryjoin_np(threads[2], &result)) == EBUSY) usleep(1000);
    CHECK(error == 0 && result == (void *)12, "pthread_tryjoin_np");
    for (long i = 3; i < THREADS; i++)
        CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)(i + 10), "pthread_join of %ld", i);
    for (int i = 0; i < THREADS; i++) CHECK(taken_by[i] == i + 1, "thread %d took %d signals", i, taken_by[i]);
    CHECK(taken == 0, "none came to the main thread");
    SAY("thread handles: each thread took its signals and was joined");
    return finish(7);
}
