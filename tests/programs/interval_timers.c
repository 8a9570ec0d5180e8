/* setitimer by the time that a process works (ITIMER_VIRTUAL, ITIMER_PROF) and by the clock (ITIMER_REAL); and a POSIX timer
 * whose signal is blocked, with all the spans that pass meanwhile.
 *
 * Wrong would be: one that begins anew or has lost its interval, one that never comes; spans that are lost, a signal without
 * its value.
 */
#include "program.h"

#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t worked, came, spans, value, code;

static void note_work(int number) {
    (void)number;
    worked++;
}

static void note(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    came++;
    spans += 1 + info->si_overrun;
    value = info->si_value.sival_int;
    code = info->si_code;
}

/* Works for so long, or until the timer has told it so often. Hardly ever looks at the clock, which would be the kernel's time. */
static void work(int64_t ns, int times) {
    int64_t end = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) + ns;
    while (worked < times && nanoseconds(CLOCK_PROCESS_CPUTIME_ID) < end)
        for (volatile int i = 0; i < 1000000; i++) continue;
}

static int64_t left(int which, int64_t *interval) {
    struct itimerval now;
    CHECK(getitimer(which, &now) == 0, "getitimer");
    *interval = now.it_interval.tv_sec * 1000000LL + now.it_interval.tv_usec;
    return now.it_value.tv_sec * 1000000LL + now.it_value.tv_usec;
}

int main(void) {
    static const int WHICH[] = {ITIMER_VIRTUAL, ITIMER_PROF, ITIMER_REAL};
    static const struct itimerval SPANS[] = {{{0, 30000}, {0, 400000}}, {{0, 70000}, {900, 0}}, {{5, 0}, {800, 0}}};
    struct sigaction working = {.sa_handler = note_work, .sa_flags = SA_RESTART};
    struct sigaction noting = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 77};
    struct itimerspec often = {{0, 10 * MILLISECONDS}, {0, 10 * MILLISECONDS}}, once = {{0, 0}, {0, 10 * MILLISECONDS}};
    int64_t before[3], interval;
    sigset_t blocked;
    timer_t timer;
    MAKE(sigaction(SIGVTALRM, &working, NULL) == 0 && sigaction(SIGRTMIN + 1, &noting, NULL) == 0);
    for (int i = 0; i < 3; i++) MAKE(setitimer(WHICH[i], &SPANS[i], NULL) == 0);
    work(200 * MILLISECONDS, 1);
    for (int i = 0; i < 3; i++) before[i] = left(WHICH[i], &interval);
    MAKE(sigemptyset(&blocked) == 0 && sigaddset(&blocked, SIGRTMIN + 1) == 0);
    MAKE(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    MAKE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, NULL) == 0);
    usleep(105000);

    ready();

    for (int i = 0; i < 3; i++) {
        int64_t now = left(WHICH[i], &interval), wanted = SPANS[i].it_interval.tv_sec * 1000000LL + SPANS[i].it_interval.tv_usec;
        CHECK(interval == wanted, "interval of timer %d: %lld", i, (long long)interval);
        /* The kernel counts in ticks, and a look at a timer may round up by one. */
        CHECK(now <= before[i] + 10000 && now > before[i] - (i == 2 ? 100000000 : 300000), "timer %d: %lld of %lld us left", i,
              (long long)now, (long long)before[i]);
    }
    CHECK(came == 0 && sigprocmask(SIG_UNBLOCK, &blocked, NULL) == 0, "blocked");
    CHECK(came >= 1 && value == 77 && code == SI_TIMER, "came %d times, value %d", (int)came, (int)value);
    /* Ten before READY. The signal may come more than once, each with a part of them. */
    CHECK(spans >= 9, "%d spans have passed", (int)spans);
    CHECK(timer_settime(timer, 0, &once, NULL) == 0, "timer_settime");
    usleep(1000);
    came = value = 0;
    for (int i = 0; i < 5000 && !came; i++) usleep(1000);
    CHECK(came >= 1 && value == 77, "later it came %d times, value %d", (int)came, (int)value);
    work(10 * SECONDS, 5);
    CHECK(worked >= 5, "the timer by its work came %d times", (int)worked);
    SAY("interval timers: what was left, intervals, spans of a blocked signal");
    return finish(7);
}
