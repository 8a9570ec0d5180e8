/* Many POSIX timers that expire once, one after the other, while a checkpoint is made: their signals are blocked, and wait.
 *
 * Wrong would be: a timer that tells twice, or not at all, because it expired between the reading of signals and of timers.
 */
#include "program.h"

#include <signal.h>
#include <time.h>

enum { TIMERS = 4000 };

static const int64_t apart = 150 * 1000;

int main(void) {
    static timer_t timers[TIMERS];
    static int told[TIMERS];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    MAKE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    for (int i = 0; i < TIMERS; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = i};
        if (timer_create(CLOCK_MONOTONIC, &event, &timers[i]) != 0) {
            MAKE(errno == EAGAIN);
            printf("expiring timers: not so many signals may wait here (ulimit -i)\n");
            return SKIPPED;
        }
    }
    /* They begin when the checkpoint may come. */
    say_ready();
    for (int i = 0; i < TIMERS; i++) {
        struct itimerspec setting = {.it_value = timespec_of((i + 1) * apart)};
        CHECK(timer_settime(timers[i], 0, &setting, NULL) == 0, "timer_settime");
    }
    wait_for_go();

    struct timespec patience = {5, 0};
    for (int count = 0; count < TIMERS; count++) {
        siginfo_t info;
        CHECK(sigtimedwait(&set, &info, &patience) == SIGRTMIN, "only %d timers of %d have told", count, TIMERS);
        int which = info.si_value.sival_int;
        CHECK(info.si_code == SI_TIMER && info.si_overrun == 0, "code %d, overrun %d", info.si_code, info.si_overrun);
        CHECK(which >= 0 && which < TIMERS && !told[which]++, "timer %d tells again", which);
    }
    struct timespec none = {0, 0};
    CHECK(sigtimedwait(&set, NULL, &none) < 0, "a signal too many");
    for (int i = 0; i < TIMERS; i++) {
        struct itimerspec left;
        CHECK(timer_gettime(timers[i], &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0,
              "timer %d waits still", i);
    }
    SAY("expiring timers: each has told once");
    return finish(7);
}
