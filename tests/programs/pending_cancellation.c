/* A cancellation whose signal waits at the checkpoint: libc's handler believes only what comes from the process's own id.
 *
 * Wrong would be: a thread that is never cancelled.
 */
#define _GNU_SOURCE
#include "program.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static atomic_int waits, go;

/* libc's functions do not block its own signal. */
static void change_mask(int how) {
    unsigned long cancel = 1UL << 31;
    MAKE(syscall(SYS_rt_sigprocmask, how, &cancel, NULL, 8) == 0);
}

static void *worker(void *argument) {
    int old;
    change_mask(SIG_BLOCK);
    MAKE(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old) == 0);
    waits = 1;
    /* No point of cancellation. */
    while (!go) syscall(SYS_sched_yield);
    change_mask(SIG_UNBLOCK);
    return argument;
}

int main(void) {
    pthread_t thread;
    void *result;
    MAKE(pthread_create(&thread, NULL, worker, &waits) == 0);
    while (!waits) usleep(100);
    MAKE(pthread_cancel(thread) == 0);

    ready();

    go = 1;
    CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED, "the thread was not cancelled");
    SAY("cancellation: it had waited");
    return finish(7);
}
