/* POSIX timers whose signal waits at a checkpoint: those that tick count on, and tell once how often they have expired; those
 * that expire once tell their values in order. By real-time signals, by standard ones, to a thread, on the CPU clock; and what
 * alarm(2) has sent beside.
 *
 * Wrong would be: a signal that comes twice, not at all, without its value or sender, or with expirations too few or of the
 * time in which the program did not exist.
 */
#include "program.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { QUEUED, STANDARD, THREADS, WALL, BY_PROCESSOR, TICKING, FIRST = TICKING, SECOND, ALARM, TIMERS };

static const char *const names[] = {"queued", "standard", "to a thread", "by the wall", "by the processor"};
static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_PROCESS_CPUTIME_ID};
/* What is left of a timer is no time of the wall. */
static const clockid_t measures[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID};
static const int64_t interval = 7 * MILLISECONDS;
static timer_t timers[TIMERS];
static int64_t begun[TICKING];

static int number(int which) {
    switch (which) {
    case STANDARD: return SIGUSR1;
    case FIRST: case SECOND: return SIGRTMIN + TICKING;
    case ALARM: return SIGVTALRM;
    default: return SIGRTMIN + which;
    }
}

static void make(int which, clockid_t clock, int64_t value, int64_t ticks) {
    struct sigevent event = {.sigev_notify = which == THREADS ? SIGEV_THREAD_ID : SIGEV_SIGNAL,
                             .sigev_signo = number(which),
                             .sigev_value.sival_int = 100 + which,
                             .sigev_notify_thread_id = (pid_t)syscall(SYS_gettid)};
    struct itimerspec setting = {.it_value = timespec_of(value), .it_interval = timespec_of(ticks)};
    MAKE(timer_create(clock, &event, &timers[which]) == 0);
    MAKE(timer_settime(timers[which], 0, &setting, NULL) == 0);
}

static int waits(int signal) {
    sigset_t waiting;
    MAKE(sigpending(&waiting) == 0);
    return sigismember(&waiting, signal);
}

static siginfo_t take(const char *name, int signal, int timer) {
    siginfo_t info;
    sigset_t set;
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, signal);
    CHECK(sigtimedwait(&set, &info, &none) == signal, "%s: no signal", name);
    CHECK(info.si_code == (timer ? SI_TIMER : SI_KERNEL), "%s: code %d", name, info.si_code);
    return info;
}

/* What has been told of since the timer was set, and is told of now. */
static void ticks(int which, int *told) {
    int64_t before = nanoseconds(measures[which]) - begun[which];
    int times = 0, overrun = -1;
    do {
        siginfo_t info = take(names[which], number(which), 1);
        overrun = info.si_overrun;
        *told += overrun + 1;
        CHECK(info.si_value.sival_int == 100 + which, "%s: value %d", names[which], info.si_value.sival_int);
        /* The CPU time of before a restart no clock of the kernel has counted, and a timer that was set to a duration by the
         * clock of the wall is not set to a time of it: what they have told of comes apart. */
    } while (++times < 8 && which >= WALL && waits(number(which)));
    int64_t after = nanoseconds(measures[which]) - begun[which];
    CHECK(which >= WALL || timer_getoverrun(timers[which]) == overrun, "%s: timer_getoverrun", names[which]);
    /* Each checkpoint may move a tick by the time that a system call takes, and a clock stands for a moment. */
    CHECK(*told + 1 >= before / interval, "%s: told of %d expirations, not of %ld", names[which], *told,
          (long)(before / interval));
    CHECK(*told - 1 <= after / interval, "%s: told of %d expirations, of no more than %ld", names[which], *told,
          (long)(after / interval));
}

int main(void) {
    sigset_t all;
    int told[TICKING] = {0};
    sigfillset(&all);
    MAKE(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    for (int i = 0; i < TICKING; i++) {
        begun[i] = nanoseconds(measures[i]);
        make(i, clocks[i], interval, interval);
    }
    make(FIRST, CLOCK_MONOTONIC, 1 * MILLISECONDS, 0);
    make(SECOND, CLOCK_MONOTONIC, 10 * MILLISECONDS, 0);
    make(ALARM, CLOCK_MONOTONIC, 1 * MILLISECONDS, 0);
    struct itimerval once = {.it_value = {0, 1000}};
    MAKE(setitimer(ITIMER_REAL, &once, NULL) == 0);
    for (int64_t end = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) + 50 * MILLISECONDS; nanoseconds(CLOCK_PROCESS_CPUTIME_ID) < end;)
        continue;

    ready();

    for (int i = 0; i < TICKING; i++) ticks(i, &told[i]);
    SAY("overdue timers: each tells once, of all");
    for (int i = FIRST; i <= SECOND; i++) {
        siginfo_t info = take("once", number(i), 1);
        CHECK(info.si_value.sival_int == 100 + i && info.si_overrun == 0, "once: value %d", info.si_value.sival_int);
    }
    CHECK(take("a standard one", number(ALARM), 1).si_value.sival_int == 100 + ALARM, "a standard one: its value");
    take("alarm", SIGALRM, 0);
    SAY("overdue timers: what expires once, in order, with its value");
    for (int i = 0; i < TICKING; i++) {
        for (int64_t end = nanoseconds(measures[i]) + 3 * interval; nanoseconds(measures[i]) < end;) continue;
        ticks(i, &told[i]);
        CHECK(timer_delete(timers[i]) == 0, "%s: timer_delete", names[i]);
    }
    SAY("overdue timers: they tick on");
    for (int i = FIRST; i < TIMERS; i++) CHECK(!waits(number(i)), "signal %d waits again", number(i));
    return finish(7);
}
