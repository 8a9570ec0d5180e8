/* Who has sent a signal, or made a child end, as every way of being told tells it: handlers, sigwaitinfo, sigtimedwait,
 * waitid, signalfd; by kill, sigqueue, tgkill, and by ends, stops and continuations.
 *
 * Wrong would be: an id by which the program does not know who has sent it.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile sig_atomic_t handled, number, code, sender;

static void note(int signal, siginfo_t *info, void *context) {
    (void)context;
    number = signal, code = info->si_code, sender = info->si_pid;
    handled++;
}

/* What the child is to do next, and what it has done. */
static struct {
    volatile int step, done;
} *orders;

enum { BY_KILL = 1, BY_QUEUE, BY_TGKILL, BY_GROUP, TO_STOP, TO_END };

static void serve(pid_t parent) {
    union sigval value = {.sival_int = 5};
    for (;;) {
        while (orders->step == orders->done) usleep(500);
        switch (orders->step & 7) {
        case BY_KILL: kill(parent, SIGUSR1); break;
        case BY_QUEUE: sigqueue(parent, SIGUSR1, value); break;
        case BY_TGKILL: syscall(SYS_tgkill, parent, parent, SIGUSR1); break;
        case BY_GROUP: kill(-getpgid(parent), SIGUSR1); break;
        case TO_STOP: raise(SIGSTOP); break;
        case TO_END: _exit(3);
        }
        orders->done = orders->step;
    }
}

/* So that each order differs from the one before. */
static int rounds;
static void order(int what) { orders->step = what | (++rounds << 3); }
static void await_done(void) {
    while (orders->step != orders->done) usleep(500);
}

static void expect_handled(int signal, int expected, pid_t who, const char *what) {
    while (handled == 0) usleep(500);
    CHECK(number == signal && code == expected && sender == who, "%s: a handler is told signal %d, code %d, sender %d instead of %d",
          what, (int)number, (int)code, (int)sender, who);
    handled = 0;
}

static void expect_waited(sigset_t *set, int signal, int expected, pid_t who, const char *what, int timed) {
    siginfo_t info = {0};
    struct timespec time = {5, 0};
    CHECK((timed ? sigtimedwait(set, &info, &time) : sigwaitinfo(set, &info)) == signal, "%s: waited", what);
    /* libc tells SI_TKILL as SI_USER here. */
    CHECK((info.si_code == expected || (expected == SI_TKILL && info.si_code == SI_USER)) && info.si_pid == who, "%s: a wait is told code %d, sender %d instead of %d", what,
          info.si_code, info.si_pid, who);
}

static void all_ways(pid_t child) {
    static const struct {
        int how, code;
        const char *name;
    } ways[] = {{BY_KILL, SI_USER, "kill"}, {BY_QUEUE, SI_QUEUE, "sigqueue"}, {BY_TGKILL, SI_TKILL, "tgkill"}, {BY_GROUP, SI_USER, "a group"}};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    CHECK(fd >= 0, "signalfd");
    for (unsigned at = 0; at < sizeof ways / sizeof *ways; at++) {
        order(ways[at].how);
        expect_handled(SIGUSR1, ways[at].code, child, ways[at].name);
        await_done();
        CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0, "block");
        for (int timed = 0; timed < 2; timed++) {
            order(ways[at].how);
            expect_waited(&set, SIGUSR1, ways[at].code, child, ways[at].name, timed);
            await_done();
        }
        order(ways[at].how);
        struct signalfd_siginfo told;
        CHECK(read(fd, &told, sizeof told) == sizeof told, "signalfd: read");
        CHECK(told.ssi_signo == SIGUSR1 && told.ssi_code == ways[at].code && (pid_t)told.ssi_pid == child,
              "%s: a signalfd tells code %d, sender %d instead of %d", ways[at].name, told.ssi_code, told.ssi_pid, child);
        await_done();
        CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0, "unblock");
    }
    CHECK(close(fd) == 0 && handled == 0, "nothing else has come");
}

int main(void) {
    setpgid(0, 0);
    orders = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(orders != MAP_FAILED);
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART}, old;
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGCHLD, &action, NULL) == 0);
    pid_t parent = getpid(), child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        signal(SIGUSR1, SIG_IGN);
        serve(parent);
    }

    ready();

    CHECK(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_sigaction == note && (old.sa_flags & SA_SIGINFO), "the handler is what it was");
    all_ways(child);
    SAY("told senders: a child of before");
    order(TO_STOP);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PID, child, &info, WSTOPPED) == 0 && info.si_pid == child && info.si_code == CLD_STOPPED, "waitid: %d", info.si_pid);
    expect_handled(SIGCHLD, CLD_STOPPED, child, "a stop");
    CHECK(kill(child, SIGCONT) == 0, "continue");
    expect_handled(SIGCHLD, CLD_CONTINUED, child, "a continuation");
    CHECK(waitid(P_ALL, 0, &info, WCONTINUED) == 0 && info.si_pid == child, "waitid, continued");
    await_done();
    order(TO_END);
    expect_handled(SIGCHLD, CLD_EXITED, child, "an end");
    CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == child, "waitid, any");
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3, "waitpid");
    SAY("told senders: stops and ends");

    orders->step = orders->done = 0;
    handled = 0;
    child = fork();
    if (child == 0) {
        signal(SIGUSR1, SIG_IGN);
        serve(parent);
    }
    all_ways(child);
    action.sa_handler = SIG_DFL;
    action.sa_flags = 0;
    CHECK(sigaction(SIGCHLD, &action, &old) == 0 && old.sa_sigaction == note, "the old handler");
    CHECK(sigaction(SIGCHLD, &old, &action) == 0 && action.sa_handler == SIG_DFL, "the old default");
    kill(child, SIGKILL);
    expect_handled(SIGCHLD, CLD_KILLED, child, "a kill");
    CHECK(waitpid(child, &status, 0) == child, "waitpid");
    CHECK(kill(0, SIGUSR1) == 0, "its own group");
    expect_handled(SIGUSR1, SI_USER, getpid(), "its own group");
    SAY("told senders: a child of later");
    return finish(7);
}
