/* Children that have ended and were not waited for yet, also some that clone(2) has made with another exit signal.
 *
 * Wrong would be: a status that is lost (the parent waits for ever or gets ECHILD), another one, a second SIGCHLD, a
 * child that was waited for and is there again, a stranger's process that stands in the way of the child's id.
 */
#include "program.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile sig_atomic_t told, told_otherwise;

static void tell(int number) {
    if (number == SIGCHLD) told++;
    if (number == SIGUSR1) told_otherwise++;
}

static pid_t child_that(int exits, int killed_by) {
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        if (killed_by) {
            signal(killed_by, SIG_DFL);
            raise(killed_by);
        }
        _exit(exits);
    }
    siginfo_t info;
    while (waitid(P_PID, child, &info, WEXITED | WNOWAIT) != 0) MAKE(errno == EINTR);
    return child;
}

static pid_t clone_that(int exits, int exit_signal) {
    pid_t child = syscall(SYS_clone, exit_signal, 0, 0, 0, 0);
    MAKE(child >= 0);
    if (child == 0) _exit(exits);
    siginfo_t info;
    while (waitid(P_PID, child, &info, WEXITED | WNOWAIT | __WCLONE) != 0) MAKE(errno == EINTR);
    return child;
}

int main(void) {
    MAKE(signal(SIGCHLD, tell) != SIG_ERR && signal(SIGUSR1, tell) != SIG_ERR);
    pid_t reaped = child_that(9, 0);
    int status;
    MAKE(waitpid(reaped, &status, 0) == reaped && WEXITSTATUS(status) == 9);
    pid_t ended = child_that(3, 0), killed = child_that(0, SIGTERM), well = child_that(0, 0);
    pid_t silent = clone_that(5, 0), otherwise = clone_that(6, SIGUSR1);
    while (told < 4 || told_otherwise < 1) continue;

    ready();

    CHECK(told == 4, "SIGCHLD came %d times", (int)told);
    errno = 0;
    CHECK(waitpid(reaped, &status, WNOHANG) == -1 && errno == ECHILD, "a child that was waited for is gone");
    CHECK(kill(killed, 0) == 0, "a child that has ended can be signalled until it is waited for");
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PID, ended, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == ended &&
              info.si_code == CLD_EXITED && info.si_status == 3,
          "waitid with WNOWAIT");
    CHECK(waitpid(ended, &status, 0) == ended && WIFEXITED(status) && WEXITSTATUS(status) == 3, "status 3");
    SAY("zombie: status 3");
    CHECK(waitpid(killed, &status, WNOHANG) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "SIGTERM");
    SAY("zombie: killed by SIGTERM");
    CHECK(waitpid(-1, &status, 0) == well && status == 0, "any child");
    SAY("zombie: status 0, by waiting for any child");
    errno = 0;
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "no more children of fork");
    CHECK(waitpid(silent, &status, __WCLONE) == silent && WEXITSTATUS(status) == 5, "status 5");
    CHECK(waitpid(-1, &status, __WCLONE) == otherwise && WEXITSTATUS(status) == 6, "status 6");
    SAY("zombie: status 5 and 6 of children with other exit signals");
    errno = 0;
    CHECK(waitpid(-1, &status, WNOHANG | __WALL) == -1 && errno == ECHILD, "no more children");
    CHECK(told_otherwise == 1, "SIGUSR1 came %d times", (int)told_otherwise);
    CHECK(told == 4, "SIGCHLD came %d times", (int)told);
    pid_t fresh = child_that(4, 0);
    CHECK(waitpid(fresh, &status, 0) == fresh && WEXITSTATUS(status) == 4 && told == 5, "a new child");
    SAY("zombie: no more children; a new one gives status 4");
    return finish(7);
}
