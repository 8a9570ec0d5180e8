/* Threads that do nothing but read clocks: each stands in the vDSO most of the time, where none may be suspended.
 *
 * Wrong would be: a checkpoint that waits for ever for a thread to leave, a clock that goes back or leaps.
 */
#include "program.h"

#include <pthread.h>

enum { THREADS = 12 };

static volatile int stop;

static void *read_clock(void *argument) {
    int64_t last = nanoseconds(CLOCK_MONOTONIC);
    while (!stop) {
        int64_t now = nanoseconds(CLOCK_MONOTONIC);
        CHECK(now >= last && now - last < 60 * SECONDS, "from %lld to %lld", (long long)last, (long long)now);
        last = now;
    }
    return argument;
}

int main(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) MAKE(pthread_create(&threads[i], NULL, read_clock, NULL) == 0);

    ready();

    stop = 1;
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0, "join");
    SAY("clock readers: no clock went back or leapt");
    return finish(7);
}
