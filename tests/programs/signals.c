/* Signals: handlers with their flags and masks, blocked and pending ones, the alternate stack, interval timers.
 *
 * Wrong would be: a handler at its default (the program dies), a pending signal lost or told twice, queued real-time
 * signals out of order or without their values, a handler that runs on the wrong stack or with another mask, an
 * interval timer that fires once and never again, a call that SA_RESTART should have restarted ending with EINTR.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

struct taken {
    int number, code, value, pid_is_own, on_alternate_stack, mask_as_asked;
};

static struct taken log_of[32];
static volatile int taken;
static volatile sig_atomic_t ticks, profiled;
static char *alternate;
static size_t alternate_size;

static void note(int number, siginfo_t *info, void *context) {
    (void)context;
    sigset_t mask;
    char here;
    int kept = errno;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    struct taken *entry = &log_of[taken++];
    entry->number = number;
    entry->code = info->si_code;
    entry->value = info->si_value.sival_int;
    entry->pid_is_own = info->si_pid == getpid() && info->si_uid == getuid();
    entry->on_alternate_stack = &here >= alternate && &here < alternate + alternate_size;
    entry->mask_as_asked = sigismember(&mask, number) && sigismember(&mask, SIGTERM) && sigismember(&mask, SIGHUP);
    errno = kept;
}

static void tick(int number) {
    if (number == SIGALRM)
        ticks++;
    else
        profiled++;
}

static int same_set(const sigset_t *a, const sigset_t *b) {
    for (int i = 1; i < 65; i++)
        if (sigismember(a, i) != sigismember(b, i)) return 0;
    return 1;
}

static int same_action(const struct sigaction *a, const struct sigaction *b) {
    return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags && same_set(&a->sa_mask, &b->sa_mask);
}

int main(void) {
    struct sigaction action;
    sigset_t blocked;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = note;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaddset(&action.sa_mask, SIGHUP);
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGRTMIN + 5, &action, NULL) == 0);
    MAKE(sigaction(SIGUSR2, &action, NULL) == 0);
    action.sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER;
    MAKE(sigaction(SIGQUIT, &action, NULL) == 0);
    memset(&action, 0, sizeof action);
    action.sa_handler = tick;
    action.sa_flags = SA_RESTART;
    MAKE(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGPROF, &action, NULL) == 0);
    action.sa_handler = SIG_IGN;
    action.sa_flags = SA_NOCLDWAIT;
    MAKE(sigaction(SIGCHLD, &action, NULL) == 0);
    MAKE(signal(SIGPIPE, SIG_IGN) != SIG_ERR && signal(SIGINT, SIG_IGN) != SIG_ERR);

    alternate_size = 64 * 1024;
    alternate = malloc(alternate_size);
    stack_t stack = {.ss_sp = alternate, .ss_size = alternate_size, .ss_flags = 0};
    MAKE(alternate != NULL && sigaltstack(&stack, NULL) == 0);

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    sigaddset(&blocked, SIGWINCH);
    sigaddset(&blocked, SIGRTMIN + 5);
    MAKE(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    /* One for the process, one for the thread, three that queue. */
    MAKE(kill(getpid(), SIGUSR1) == 0);
    MAKE(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2) == 0);
    for (int i = 1; i <= 3; i++) MAKE(sigqueue(getpid(), SIGRTMIN + 5, (union sigval){.sival_int = 100 + i}) == 0);

    struct itimerval interval = {{0, 20000}, {0, 20000}}, profile = {{0, 50000}, {0, 50000}};
    MAKE(setitimer(ITIMER_REAL, &interval, NULL) == 0 && setitimer(ITIMER_PROF, &profile, NULL) == 0);

    struct sigaction actions[65];
    sigset_t mask, pending;
    for (int i = 1; i < 65; i++)
        if (sigaction(i, NULL, &actions[i]) != 0) memset(&actions[i], 0, sizeof actions[i]);
    MAKE(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && sigpending(&pending) == 0);
    while (ticks < 2) continue;

    ready();

    for (int i = 1; i < 65; i++) {
        struct sigaction now;
        if (sigaction(i, NULL, &now) != 0) memset(&now, 0, sizeof now);
        CHECK(same_action(&now, &actions[i]), "disposition of signal %d", i);
    }
    sigset_t now;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &now) == 0 && same_set(&now, &mask), "the mask");
    CHECK(sigpending(&now) == 0 && same_set(&now, &pending), "pending signals");
    CHECK(taken == 0, "none of the blocked signals was taken");
    CHECK(sigaltstack(NULL, &stack) == 0 && stack.ss_sp == alternate && stack.ss_size == alternate_size &&
              stack.ss_flags == 0,
          "the alternate stack");
    SAY("signals: dispositions of all, mask, pending set, alternate stack");

    int ticked = ticks;
    while (ticks < ticked + 5) continue;
    CHECK(getitimer(ITIMER_REAL, &interval) == 0 && interval.it_interval.tv_usec == 20000, "the real timer's interval");
    CHECK(getitimer(ITIMER_PROF, &profile) == 0 && profile.it_interval.tv_usec == 50000, "the profiling interval");
    for (int before = profiled; profiled < before + 2;) continue;
    memset(&interval, 0, sizeof interval);
    CHECK(setitimer(ITIMER_REAL, &interval, NULL) == 0 && setitimer(ITIMER_PROF, &interval, NULL) == 0, "disarm");
    SAY("signals: interval timers go on");

    CHECK(sigprocmask(SIG_UNBLOCK, &blocked, NULL) == 0, "unblock");
    CHECK(taken == 5, "%d signals taken", taken);
    int queued = 0;
    for (int i = 0; i < 5; i++) {
        struct taken *entry = &log_of[i];
        CHECK(entry->on_alternate_stack && entry->mask_as_asked,
              "signal %d: stack %d, mask %d", entry->number, entry->on_alternate_stack,
              entry->mask_as_asked);
        if (entry->number == SIGUSR1) CHECK(entry->code == SI_USER, "SIGUSR1's code is %d", entry->code);
        if (entry->number == SIGUSR2) CHECK(entry->code == SI_TKILL, "SIGUSR2's code is %d", entry->code);
        if (entry->number == SIGRTMIN + 5) {
            CHECK(entry->code == SI_QUEUE, "the queued signal's code is %d", entry->code);
            queued = queued * 1000 + entry->value;
        }
    }
    /* Signals that become deliverable together are stacked up, so that the handler of the last one runs first. */
    CHECK(queued == 101102103 || queued == 103102101, "queued values come as %d", queued);
    SAY("signals: SIGUSR1 for the process, SIGUSR2 for the thread, three queued values, each once");

    CHECK(raise(SIGUSR1) == 0 && taken == 6 && raise(SIGQUIT) == 0 && taken == 7, "new signals");
    struct sigaction reset;
    CHECK(sigaction(SIGQUIT, NULL, &reset) == 0 && reset.sa_handler == SIG_DFL, "SA_RESETHAND");
    CHECK(raise(SIGPIPE) == 0 && raise(SIGINT) == 0, "ignored signals");
    SAY("signals: new ones are taken, SA_RESETHAND resets, ignored ones are ignored");
    return finish(7);
}
