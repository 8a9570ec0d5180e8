/* alarm: one that comes soon, set before a checkpoint.
 *
 * Wrong would be: an alarm that never comes (the program waits for ever), that comes at once, or that has its whole
 * time again.
 */
#include "program.h"

#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t rung;

static void ring(int number) {
    (void)number;
    rung = 1;
}

int main(void) {
    sigset_t mask, none;
    sigemptyset(&none);
    sigemptyset(&mask);
    sigaddset(&mask, SIGALRM);
    MAKE(signal(SIGALRM, ring) != SIG_ERR);
    int64_t since = nanoseconds(CLOCK_MONOTONIC);
    MAKE(alarm(2) == 0);

    ready();

    struct itimerval left;
    int64_t before = nanoseconds(CLOCK_MONOTONIC);
    CHECK(getitimer(ITIMER_REAL, &left) == 0, "getitimer");
    int64_t after = nanoseconds(CLOCK_MONOTONIC), ns = left.it_value.tv_sec * SECONDS + left.it_value.tv_usec * 1000LL;
    if (ns > 0)
        CHECK(before + ns <= since + 2100 * MILLISECONDS && after + ns >= since + 1900 * MILLISECONDS,
              "%lld ms are left, %lld have gone", (long long)ns / 1000000, (long long)(before - since) / 1000000);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    while (!rung) sigsuspend(&none);
    CHECK(nanoseconds(CLOCK_MONOTONIC) - since >= 1900 * MILLISECONDS, "not too early");
    SAY("alarm: an alarm of 2 s rings, and not too early");
    CHECK(alarm(100) == 0 && alarm(0) == 100, "a new alarm");
    return finish(7);
}
