/* Signals for input and output (O_ASYNC, F_SETOWN, F_SETSIG), asked for before: for the process, for a thread, for a child,
 * for a process group; of pipes that the children have too, and of a socket.
 *
 * Wrong would be: a signal that does not come, or to somebody else; an owner or a signal that has changed.
 */
#define _GNU_SOURCE
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

static volatile sig_atomic_t seen_signal, seen_descriptor;
static volatile pid_t seen_thread;
static pid_t thread_id;
static int gate[2];

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    seen_descriptor = info->si_fd;
    seen_thread = gettid();
    seen_signal = number;
}

static void *thread(void *nothing) {
    char byte;
    __atomic_store_n(&thread_id, gettid(), __ATOMIC_RELEASE);
    while (read(gate[0], &byte, 1) < 0 && errno == EINTR) continue;
    return nothing;
}

static void own(int fd, int kind, pid_t id, int signal) {
    struct f_owner_ex owner = {kind, id};
    MAKE(fcntl(fd, F_SETOWN_EX, &owner) == 0 && fcntl(fd, F_SETSIG, signal) == 0);
    MAKE(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC) == 0);
}

static void check(const char *what, int fd, int kind, pid_t id, int signal) {
    struct f_owner_ex owner;
    CHECK(fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.type == kind && owner.pid == id, "%s: owner %d %d, not %d", what,
          owner.type, owner.pid, id);
    CHECK(fcntl(fd, F_GETSIG) == signal, "%s: signal %d", what, fcntl(fd, F_GETSIG));
    CHECK(fcntl(fd, F_GETFL) & O_ASYNC, "%s: O_ASYNC", what);
}

static void expect(const char *what, int from, int fd, int signal, pid_t who) {
    seen_signal = 0;
    CHECK(write(from, "x", 1) == 1, "%s: write", what);
    for (int i = 0; i < 2000 && !seen_signal; i++) usleep(1000);
    CHECK(seen_signal == signal && seen_descriptor == fd, "%s: signal %d for %d", what, seen_signal, seen_descriptor);
    CHECK(seen_thread == who, "%s: to thread %d, not %d", what, seen_thread, who);
}

/* Ends with the number of the first signal that comes. */
static pid_t child(int group) {
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    fflush(stdout);
    pid_t pid = fork();
    MAKE(pid >= 0);
    if (pid == 0) {
        int number;
        if (group) setpgid(0, 0);
        sigwait(&all, &number);
        _exit(number);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (group) MAKE(setpgid(pid, pid) == 0);
    return pid;
}

static void expect_child(const char *what, int from, pid_t pid, int signal) {
    int status;
    CHECK(write(from, "x", 1) == 1, "%s: write", what);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == signal, "%s: %x", what, status);
}

int main(void) {
    int pipes[3][2], pair[2], first = SIGRTMIN + 1, second = SIGRTMIN + 2;
    pthread_t other;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    MAKE(sigaction(first, &action, NULL) == 0 && sigaction(second, &action, NULL) == 0);
    MAKE(pipe(gate) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    for (int i = 0; i < 3; i++) MAKE(pipe(pipes[i]) == 0);
    pid_t alone = child(0), group = child(1);
    MAKE(pthread_create(&other, NULL, thread, NULL) == 0);
    while (__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE) == 0) usleep(1000);
    own(pipes[0][0], F_OWNER_PID, getpid(), first);
    own(pair[0], F_OWNER_TID, thread_id, second);
    own(pipes[1][0], F_OWNER_PID, alone, SIGUSR1);
    own(pipes[2][0], F_OWNER_PGRP, group, SIGUSR2);

    ready();

    check("process", pipes[0][0], F_OWNER_PID, getpid(), first);
    check("thread", pair[0], F_OWNER_TID, thread_id, second);
    check("child", pipes[1][0], F_OWNER_PID, alone, SIGUSR1);
    check("group", pipes[2][0], F_OWNER_PGRP, group, SIGUSR2);
    expect("thread", pair[1], pair[0], second, thread_id);
    expect_child("child", pipes[1][1], alone, SIGUSR1);
    expect_child("group", pipes[2][1], group, SIGUSR2);
    close(gate[1]);
    CHECK(pthread_join(other, NULL) == 0, "join");
    expect("process", pipes[0][1], pipes[0][0], first, gettid());
    SAY("owners: each was told");
    return finish(8);
}
