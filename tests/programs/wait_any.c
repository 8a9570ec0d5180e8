/* A process that makes children as fast as it can and waits for any of them, in each way that there is.
 *
 * Wrong would be: a child that nobody has made, a status that is another's, a handler of SIGCHLD that is told of a child that
 * is none, an id of its own that changes.
 */
#include "program.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { CHILDREN = 3, TOLD = 64 };

static volatile sig_atomic_t told;
static volatile pid_t senders[TOLD];

static void note(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    if (told < TOLD) {
        senders[told] = info->si_pid;
        told++;
    }
}

/* Waits for any child by the way `way`. */
static pid_t wait_for_any(int way, int *status) {
    struct rusage usage;
    siginfo_t info;
    switch (way) {
    case 0: return wait(status);
    case 1: return waitpid(-1, status, 0);
    case 2: return waitpid(0, status, 0);
    case 3: return wait4(-1, status, 0, &usage);
    case 4: return waitpid(-getpgrp(), status, 0);
    default:
        if (waitid(P_ALL, 0, &info, WEXITED) != 0) return -1;
        *status = info.si_status << 8;
        return info.si_pid;
    }
}

static int index_of(pid_t child, const pid_t *children) {
    for (int i = 0; i < CHILDREN; i++) {
        if (children[i] == child) return i;
    }
    return -1;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    MAKE(sigaction(SIGCHLD, &action, NULL) == 0);
    pid_t own = getpid(), parent = getppid(), group = getpgrp(), session = getsid(0);
    /* READY is said by another, so that no moment of this one is without children. */
    pid_t waiter = fork();
    MAKE(waiter >= 0);
    if (waiter == 0) {
        ready();
        _exit(0);
    }
    int over = 0;
    for (long round = 0; !over; round++) {
        pid_t children[CHILDREN];
        told = 0;
        for (int i = 0; i < CHILDREN; i++) {
            children[i] = fork();
            MAKE(children[i] >= 0);
            if (children[i] == 0) _exit((int)((round + i) % 100));
        }
        for (int seen = 0; seen < CHILDREN;) {
            int status = -1;
            pid_t ended = wait_for_any((int)(round % 6), &status);
            CHECK(ended > 0, "wait %ld", round % 6);
            if (ended == waiter) {
                over = 1;
                continue;
            }
            int i = index_of(ended, children);
            CHECK(i >= 0, "wait %ld tells of %d, who is none of %d %d %d", round % 6, (int)ended, (int)children[0],
                  (int)children[1], (int)children[2]);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (round + i) % 100, "status %x", status);
            seen++;
        }
        for (int i = 0; i < told; i++) {
            pid_t sender = senders[i];
            CHECK(sender == waiter || index_of(sender, children) >= 0, "SIGCHLD of %d, who is none of %d %d %d",
                  (int)sender, (int)children[0], (int)children[1], (int)children[2]);
        }
        CHECK(getpid() == own && getppid() == parent && getpgrp() == group && getsid(0) == session, "ids");
    }
    SAY("wait_any: every child was one of its own");
    return finish(7);
}
