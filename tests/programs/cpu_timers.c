/* POSIX timers on the process's own CPU clock: they expire when the program has used that much of the processor, whatever
 * time has passed and however often it has come back.
 *
 * Wrong would be: one that is refused, that begins anew, that expires early or counts the time in which the program waits.
 */
#include "program.h"

#include <signal.h>
#include <time.h>

enum { RELATIVE, ABSOLUTE, BY_NAME, REPEATED, LATER, TIMERS };

static const char *const names[TIMERS] = {"relative", "absolute", "by the process's id", "repeated", "absolute, set later"};
static volatile int64_t expired[TIMERS];
static volatile int count[TIMERS];
static timer_t timers[TIMERS];
/* When each is to expire, by the CPU clock: at least and at most. */
static int64_t earliest[TIMERS], latest[TIMERS];

/* The kernel looks once in a tick; the rest is what Zap itself uses. */
static const int64_t tolerance = 150 * MILLISECONDS;

static int64_t used(void) { return nanoseconds(CLOCK_PROCESS_CPUTIME_ID); }

static void note(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    int which = info->si_value.sival_int;
    if (count[which]++ == 0) expired[which] = used();
}

static void set(int which, int64_t after, int64_t interval, int flags) {
    int64_t before = used(), at = flags == 0 ? after : before + after;
    struct itimerspec setting = {.it_value = timespec_of(at), .it_interval = timespec_of(interval)};
    MAKE(timer_settime(timers[which], flags, &setting, NULL) == 0);
    earliest[which] = before + after;
    latest[which] = (flags == 0 ? used() : before) + after + tolerance;
}

static void burn_until(int64_t end) {
    while (used() < end) continue;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    /* As clock_getcpuclockid(3) makes it. */
    clockid_t own = (clockid_t)(~(unsigned)getpid() << 3 | 2);
    MAKE(sigaction(SIGRTMIN, &action, NULL) == 0);
    for (int i = 0; i < TIMERS; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = i};
        MAKE(timer_create(i == BY_NAME ? own : CLOCK_PROCESS_CPUTIME_ID, &event, &timers[i]) == 0);
    }
    burn_until(used() + 50 * MILLISECONDS);
    set(RELATIVE, 300 * MILLISECONDS, 0, 0);
    set(ABSOLUTE, 350 * MILLISECONDS, 0, TIMER_ABSTIME);
    set(BY_NAME, 400 * MILLISECONDS, 0, 0);
    set(REPEATED, 300 * MILLISECONDS, 30 * MILLISECONDS, 0);

    ready();

    for (int i = 0; i < LATER; i++) {
        struct itimerspec left;
        int64_t before = used();
        CHECK(timer_gettime(timers[i], &left) == 0, "%s: timer_gettime", names[i]);
        int64_t interval = i == REPEATED ? 30 * MILLISECONDS : 0, end = used() + nanoseconds_of(left.it_value);
        CHECK(nanoseconds_of(left.it_interval) == interval, "%s: its interval", names[i]);
        if (count[i] == 0)
            CHECK(end >= earliest[i] && before + nanoseconds_of(left.it_value) <= latest[i], "%s: ends %ld ns too late", names[i],
                  (long)(end - earliest[i]));
    }
    SAY("cpu timers: what is left of them");
    set(LATER, 100 * MILLISECONDS, 0, TIMER_ABSTIME);
    for (int i = 0; i < TIMERS; i++) {
        burn_until(latest[i]);
        CHECK(count[i] > 0, "%s: it does not expire", names[i]);
        CHECK(expired[i] >= earliest[i], "%s: %ld ns early", names[i], (long)(earliest[i] - expired[i]));
        CHECK(expired[i] <= latest[i], "%s: %ld ns late", names[i], (long)(expired[i] - earliest[i]));
    }
    SAY("cpu timers: each at its time");
    int before = count[REPEATED];
    burn_until(used() + 30 * MILLISECONDS + tolerance);
    CHECK(count[REPEATED] > before, "%s: again and again", names[REPEATED]);
    for (int i = 0; i < TIMERS; i++) {
        CHECK(i == REPEATED || count[i] == 1, "%s: it has expired %d times", names[i], count[i]);
        CHECK(timer_delete(timers[i]) == 0, "%s: timer_delete", names[i]);
    }
    SAY("cpu timers: once or again and again");
    return finish(7);
}
