/* A program in which every thread blocks every signal by a system call of its own.
 *
 * Wrong would be: a checkpoint that is refused, another mask afterwards, a signal that is taken though it is blocked.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

static uint64_t raw_mask(const uint64_t *new_mask) {
    uint64_t old = 0;
    long result;
    register long size __asm__("r10") = 8;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_rt_sigprocmask), "D"((long)SIG_SETMASK), "S"(new_mask), "d"(&old), "r"(size)
                     : "rcx", "r11", "memory");
    return result == 0 ? old : 0;
}

static const uint64_t everything = ~0ull;
static const uint64_t blocked = ~0ull & ~(1ull << (SIGKILL - 1)) & ~(1ull << (SIGSTOP - 1));
static volatile int taken, standing, ended;
static int pipe_ends[2];

static void on_signal(int number) {
    (void)number;
    taken++;
}

static void *run(void *argument) {
    char byte;
    raw_mask(&everything);
    standing = 1;
    CHECK(read(pipe_ends[0], &byte, 1) == 1, "read");
    CHECK(raw_mask(&everything) == blocked, "the thread's mask");
    ended = 1;
    return argument;
}

int main(void) {
    pthread_t thread;
    MAKE(pipe(pipe_ends) == 0 && signal(SIGUSR1, on_signal) != SIG_ERR);
    /* The first pthread_create unblocks signals of its own. */
    MAKE(pthread_create(&thread, NULL, run, NULL) == 0);
    raw_mask(&everything);
    while (!standing) usleep(1000);
    MAKE(kill(getpid(), SIGUSR1) == 0);

    ready();

    CHECK(raw_mask(&everything) == blocked, "the mask");
    CHECK(taken == 0, "the blocked signal was not taken");
    CHECK(write(pipe_ends[1], "!", 1) == 1 && pthread_join(thread, NULL) == 0 && ended, "the thread");
    SAY("all_blocked: both threads have their masks");
    uint64_t none = 0;
    raw_mask(&none);
    CHECK(taken == 1, "the signal is taken once it is unblocked");
    SAY("all_blocked: a pending signal stayed");
    return finish(7);
}
