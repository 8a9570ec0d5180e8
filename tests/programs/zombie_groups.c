/* Ended children in process groups: one that has led its own, others in that of an ended one, of a living one, of the parent.
 *
 * Wrong would be: another group than before, a wait for a group that does not find those that are in it or finds others.
 */
#include "program.h"

#include <signal.h>
#include <sys/wait.h>

/* A child in `group` (0: of its own), that ends with this status, or waits for a signal if that is 0. */
static pid_t child_in(pid_t group, int status) {
    int word[2];
    MAKE(pipe(word) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        char byte;
        close(word[1]);
        (void)!read(word[0], &byte, 1);
        while (status == 0) pause();
        _exit(status);
    }
    MAKE(setpgid(child, group) == 0 && close(word[0]) == 0 && close(word[1]) == 0);
    siginfo_t info;
    if (status != 0) MAKE(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0);
    return child;
}

/* Waits for the group's `count` ended ones, `sum` of whose statuses is told. */
static void wait_for(const char *what, pid_t group, int count, int sum) {
    int status, seen = 0;
    for (int i = 0; i < count; i++) {
        pid_t child = waitpid(-group, &status, WNOHANG);
        CHECK(child > 0 && WIFEXITED(status), "%s: wait %d gives %d, %m", what, i, child);
        seen += WEXITSTATUS(status);
    }
    CHECK(seen == sum, "%s: statuses of %d instead of %d", what, seen, sum);
    SAY("%s: waited for", what);
}

int main(void) {
    pid_t alone = child_in(0, 1), leader = child_in(0, 2), follower = child_in(leader, 3);
    pid_t living = child_in(0, 0), beside = child_in(living, 4), own = child_in(getpgrp(), 5);
    /* A group whose leader is gone and waited for. */
    pid_t gone = child_in(0, 6), left = child_in(gone, 7), right = child_in(gone, 8);
    int status;
    MAKE(waitpid(gone, &status, 0) == gone);

    ready();

    CHECK(getpgid(alone) == alone && getpgid(leader) == leader && getpgid(follower) == leader, "groups of ended ones");
    CHECK(getpgid(living) == living && getpgid(beside) == living && getpgid(own) == getpgrp(), "groups of living ones");
    CHECK(getpgid(left) == gone && getpgid(right) == gone, "the group of one that is gone");
    errno = 0;
    CHECK(waitpid(-own, &status, WNOHANG) == -1 && errno == ECHILD, "a group that there is not");
    wait_for("a leader and one that has followed it", leader, 2, 5);
    wait_for("one alone", alone, 1, 1);
    wait_for("one beside a living one", living, 1, 4);
    CHECK(waitpid(-living, &status, WNOHANG) == 0, "the living one has not ended");
    wait_for("two that were left", gone, 2, 15);
    CHECK(waitpid(0, &status, WNOHANG) == own && WEXITSTATUS(status) == 5, "the parent's group");
    CHECK(killpg(living, SIGTERM) == 0 && waitpid(-living, &status, 0) == living && WTERMSIG(status) == SIGTERM, "the living one's end");
    CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD, "nobody is left");
    return finish(7);
}
