/* Threads in sigwaitinfo while a child sends their signals, and one that the main thread handles, to the process all the time.
 *
 * Wrong would be: a wait that ends with EINTR though no handler has run in its thread, as when a signal for the process wakes one
 * thread and another takes it; a value that is lost or out of order.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { WAITERS = 3, END = -1 };
static volatile int handled, received[WAITERS];

static void handle(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    if (info->si_value.sival_int == handled) handled++;
}

static void *wait_for(void *argument) {
    long own = (long)argument;
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1 + (int)own);
    for (;;) {
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 1 + own, "the wait of thread %ld", own);
        if (info.si_value.sival_int == END) return argument;
        CHECK(info.si_value.sival_int == received[own], "value %d instead of %d", info.si_value.sival_int, received[own]);
        received[own]++;
    }
}

static int send_all(pid_t to, int value, int handled_too) {
    union sigval number = {.sival_int = value};
    for (int i = 0; i < WAITERS + handled_too; i++)
        while (sigqueue(to, SIGRTMIN + 1 + i, number) == -1) {
            if (errno != EAGAIN) return 0;
            usleep(100);
        }
    return 1;
}

int main(void) {
    pthread_t waiters[WAITERS];
    sigset_t theirs, handlers;
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&theirs);
    sigemptyset(&handlers);
    for (int i = 0; i < WAITERS; i++) sigaddset(&theirs, SIGRTMIN + 1 + i);
    sigaddset(&handlers, SIGRTMIN + 1 + WAITERS);
    MAKE(sigaction(SIGRTMIN + 1 + WAITERS, &action, NULL) == 0 && sigprocmask(SIG_BLOCK, &theirs, NULL) == 0);
    MAKE(sigprocmask(SIG_BLOCK, &handlers, NULL) == 0);
    for (long i = 0; i < WAITERS; i++) MAKE(pthread_create(&waiters[i], NULL, wait_for, (void *)i) == 0);
    MAKE(sigprocmask(SIG_UNBLOCK, &handlers, NULL) == 0);
    say_ready();
    pid_t own = getpid(), child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        int value = 0;
        for (; !told_to_go_on(); value++) {
            if (!send_all(own, value, 1)) _exit(1);
            usleep(300);
        }
        /* How many, modulo what a status can tell. */
        _exit(value % 100);
    }
    int status;
    while (waitpid(child, &status, 0) == -1) CHECK(errno == EINTR, "waitpid");
    CHECK(WIFEXITED(status), "the child: %x", status);
    CHECK(send_all(own, END, 0), "the end");
    for (int i = 0; i < WAITERS; i++) {
        CHECK(pthread_join(waiters[i], NULL) == 0, "join");
        CHECK(received[i] % 100 == WEXITSTATUS(status) && received[i] == handled, "%d received, %d handled", received[i], handled);
    }
    SAY("woken in vain: no wait, and no value lost");
    return finish(7);
}
