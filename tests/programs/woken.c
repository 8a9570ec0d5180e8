/* A program that waits for a signal of its child, again and again, in each call that unblocks it only while it waits. The
 * handler sets a flag; the call must return after it, as it always does (sigsuspend(2), ppoll(2), pselect(2), epoll_pwait(2)).
 *
 * Wrong would be: a call that goes on although the handler has run, since nothing wakes it any more.
 */
#include "program.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/wait.h>

static volatile sig_atomic_t told;

static void handle(int number) {
    (void)number;
    told = 1;
}

static int wait_once(long round, int epoll, const sigset_t *open) {
    struct epoll_event event;
    switch (round % 4) {
        case 0: return sigsuspend(open);
        case 1: return ppoll(NULL, 0, NULL, open);
        case 2: return pselect(0, NULL, NULL, NULL, NULL, open);
        default: return epoll_pwait(epoll, &event, 1, -1, open);
    }
}

int main(void) {
    int gate[2], epoll = epoll_create1(EPOLL_CLOEXEC), status;
    sigset_t closed, open;
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    MAKE(epoll >= 0 && pipe(gate) == 0 && sigemptyset(&closed) == 0 && sigaddset(&closed, SIGUSR1) == 0);
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0 && sigprocmask(SIG_BLOCK, &closed, &open) == 0);
    MAKE(sigdelset(&open, SIGUSR1) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        char byte;
        MAKE(close(gate[1]) == 0);
        while (read(gate[0], &byte, 1) == 1) CHECK(kill(getppid(), SIGUSR1) == 0, "kill");
        _exit(6);
    }
    MAKE(close(gate[0]) == 0);
    say_ready();
    for (long round = 0; !told_to_go_on(); round++) {
        told = 0;
        CHECK(write(gate[1], "x", 1) == 1, "asking for a signal");
        /* Three pairs that wake each other without a rest keep processes of other sessions that could run from doing so, for tens
         * of seconds (Linux 6.18 on two processors, without Zap): the coordinator is one. */
        if (round % 50 == 0) usleep(1000);
        while (!told) CHECK(wait_once(round, epoll, &open) == -1 && errno == EINTR, "call %ld of four", round % 4);
    }
    CHECK(close(gate[1]) == 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 6, "the child");
    SAY("woken: no signal was waited for in vain");
    return finish(7);
}
