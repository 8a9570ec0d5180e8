/* What a parent is told of its children's ends: the CPU time that they have used, with that of their own children, and that one
 * has left a core dump. One lives, two have ended and nobody has waited for them.
 *
 * Wrong would be: time of before a checkpoint that is lost or counted twice, a core dump that nobody knows of any more.
 */
#include "program.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int64_t used_by(const struct rusage *usage) {
    const struct timeval *user = &usage->ru_utime, *system = &usage->ru_stime;
    return (user->tv_sec + system->tv_sec) * SECONDS + (user->tv_usec + system->tv_usec) * 1000LL;
}

static void burn(int64_t time) {
    int64_t end = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) + time;
    while (nanoseconds(CLOCK_PROCESS_CPUTIME_ID) < end) continue;
}

/* The kernel tells of children in ticks of 10 ms, and of each process apart. */
static void is_about(const char *what, int64_t used, int64_t expected) {
    CHECK(used >= expected - 60 * MILLISECONDS && used <= expected + 250 * MILLISECONDS, "%s: %ld ms, not %ld", what,
          (long)(used / MILLISECONDS), (long)(expected / MILLISECONDS));
}

static siginfo_t told(pid_t child) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == child, "waitid");
    return info;
}

static pid_t forked(void) {
    pid_t child = fork();
    MAKE(child != -1);
    return child;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && chdir(argv[1]) == 0, "usage: children_accounts DIRECTORY");
    int end[2], begun[2], status;
    char byte;
    struct rusage usage;
    MAKE(pipe(end) == 0 && pipe(begun) == 0);
    pid_t dumped = forked();
    if (dumped == 0) {
        struct rlimit limit;
        getrlimit(RLIMIT_CORE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_CORE, &limit);
        abort();
    }
    siginfo_t before = told(dumped);
    pid_t ended = forked();
    if (ended == 0) {
        burn(200 * MILLISECONDS);
        _exit(5);
    }
    told(ended);
    pid_t unnamed = forked();
    if (unnamed == 0) {
        burn(100 * MILLISECONDS);
        _exit(0);
    }
    told(unnamed);
    pid_t living = forked();
    if (living == 0) {
        pid_t own = forked();
        if (own == 0) {
            burn(150 * MILLISECONDS);
            _exit(0);
        }
        MAKE(waitpid(own, NULL, 0) == own);
        burn(150 * MILLISECONDS);
        close(end[1]);
        MAKE(write(begun[1], "", 1) == 1 && read(end[0], &byte, 1) == 0);
        burn(100 * MILLISECONDS);
        _exit(6);
    }
    MAKE(read(begun[0], &byte, 1) == 1);

    ready();

    siginfo_t after = told(dumped);
    CHECK(after.si_code == before.si_code && after.si_status == SIGABRT, "code %d, not %d", after.si_code, before.si_code);
    CHECK(waitpid(dumped, &status, 0) == dumped && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x", status);
    CHECK(!!WCOREDUMP(status) == (before.si_code == CLD_DUMPED), "core dump: status %x", status);
    SAY("children's accounts: a core dump");
    CHECK(wait4(ended, &status, 0, &usage) == ended && WEXITSTATUS(status) == 5, "status %x", status);
    is_about("the ended one", used_by(&usage), 200 * MILLISECONDS);
    SAY("children's accounts: an ended child");
    close(end[1]);
    CHECK(wait4(living, &status, 0, &usage) == living && WEXITSTATUS(status) == 6, "status %x", status);
    is_about("the living one", used_by(&usage), 400 * MILLISECONDS);
    CHECK(getrusage(RUSAGE_CHILDREN, &usage) == 0, "getrusage");
    is_about("all", used_by(&usage), 600 * MILLISECONDS);
    CHECK(waitid(P_PID, (id_t)unnamed, NULL, WEXITED) == 0 && getrusage(RUSAGE_CHILDREN, &usage) == 0, "waitid without a place");
    is_about("all, and one more", used_by(&usage), 700 * MILLISECONDS);
    pid_t next = forked();
    if (next == 0) _exit(7);
    CHECK(wait4(next, &status, 0, &usage) == next && WEXITSTATUS(status) == 7, "status %x", status);
    is_about("a new one", used_by(&usage), 0);
    SAY("children's accounts: a living child");
    return finish(7);
}
