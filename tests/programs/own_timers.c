/* Timers that are set to a time of the program's own clocks (TIMER_ABSTIME with CLOCK_MONOTONIC and CLOCK_BOOTTIME), before and
 * after a restart: they expire when that clock says so.
 *
 * Wrong would be: one that expires at once, or not within the time, because the kernel's clock is another one.
 */
#include "program.h"

#include <signal.h>
#include <time.h>

enum { CLOCKS = 2 };

static const clockid_t clocks[CLOCKS] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};
static volatile int64_t expired[CLOCKS];

static void note(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    int which = info->si_value.sival_int;
    expired[which] = nanoseconds(clocks[which]);
}

static void expect(const char *when, timer_t timer, int which) {
    int64_t deadline = nanoseconds(clocks[which]) + 200 * MILLISECONDS;
    struct itimerspec at = {.it_value = timespec_of(deadline)}, left;
    expired[which] = 0;
    MAKE(timer_settime(timer, TIMER_ABSTIME, &at, NULL) == 0 && timer_gettime(timer, &left) == 0);
    CHECK(left.it_value.tv_sec == 0, "%s, clock %d: %ld s left", when, (int)clocks[which], (long)left.it_value.tv_sec);
    while (expired[which] == 0) {
        usleep(1000);
        CHECK(nanoseconds(clocks[which]) < deadline + 5 * SECONDS, "%s, clock %d: it does not expire", when, (int)clocks[which]);
    }
    CHECK(expired[which] >= deadline, "%s, clock %d: %ld ns early", when, (int)clocks[which], (long)(deadline - expired[which]));
}

int main(void) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    MAKE(sigaction(SIGRTMIN, &action, NULL) == 0);
    timer_t timers[CLOCKS];
    for (int i = 0; i < CLOCKS; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = i};
        MAKE(timer_create(clocks[i], &event, &timers[i]) == 0);
        expect("at first", timers[i], i);
    }

    ready();

    for (int i = 0; i < CLOCKS; i++) expect("later", timers[i], i);
    SAY("own timers: at their time");
    return finish(7);
}
