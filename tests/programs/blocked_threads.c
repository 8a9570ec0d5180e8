/* Threads that block every signal by a system call of their own, which no library can see: glibc's helper thread for
 * SIGEV_THREAD does, and here some that wait in different calls.
 *
 * Wrong would be: a checkpoint that is refused or waits for them, a call that ends early or with EINTR, a mask that is
 * another one afterwards, a timer whose function is not called any more.
 */
#include "program.h"

#include "waits.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>

enum { READER, FUTEX, SLEEPER, SUSPENDED, TIMED, POLLER, SPINNER, COUNT };
static const char *const names[] = {"read", "futex", "nanosleep", "sigsuspend", "sem_timedwait", "ppoll", "no call"};

static pthread_t threads[COUNT];
static sem_t standing, never;
static int pipe_ends[2];
static struct wait waits[COUNT];
static struct reference reference;
static volatile int word, spin_on = 1;
static volatile int expired, taken;

/* rt_sigprocmask(2) that nothing comes between. */
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
/* What the kernel makes of it: SIGKILL and SIGSTOP cannot be blocked. */
static const uint64_t blocked = ~0ull & ~(1ull << (SIGKILL - 1)) & ~(1ull << (SIGSTOP - 1));

static void on_timer(union sigval value) {
    if (value.sival_int == 4711) expired++;
}

static void on_signal(int number) {
    (void)number;
    taken++;
}

static void *run(void *argument) {
    long i = (long)argument;
    char byte = 0;
    raw_mask(&everything);
    begin_wait(&waits[i], i == TIMED ? CLOCK_REALTIME : CLOCK_MONOTONIC, ASKED);
    sem_post(&standing);
    switch (i) {
    case READER:
        CHECK(read(pipe_ends[0], &byte, 1) == 1 && byte == '!', "read");
        break;
    case FUTEX:
        CHECK(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL) == 0 || errno == EAGAIN, "futex");
        break;
    case SLEEPER: {
        struct timespec sleep = timespec_of(ASKED);
        CHECK(nanosleep(&sleep, NULL) == 0, "nanosleep is not cut short");
        break;
    }
    case SUSPENDED: {
        sigset_t set;
        sigfillset(&set);
        sigdelset(&set, SIGUSR2);
        CHECK(sigsuspend(&set) == -1 && errno == EINTR && taken == 1, "sigsuspend ends by SIGUSR2 alone");
        break;
    }
    case TIMED: {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until = timespec_of(nanoseconds_of(until) + ASKED);
        CHECK(sem_timedwait(&never, &until) == -1 && errno == ETIMEDOUT, "sem_timedwait");
        break;
    }
    case POLLER: {
        struct timespec time = timespec_of(ASKED);
        CHECK(ppoll(NULL, 0, &time, NULL) == 0, "ppoll");
        break;
    }
    case SPINNER:
        while (spin_on) continue;
        break;
    }
    end_wait(&waits[i]);
    CHECK(raw_mask(&everything) == blocked, "mask of the thread in %s", names[i]);
    return NULL;
}

int main(void) {
    struct sigevent event;
    timer_t timer;
    struct itimerspec interval = {{0, 20000000}, {0, 20000000}};
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_notify_function = on_timer;
    event.sigev_value.sival_int = 4711;
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&never, 0, 0) == 0 && pipe(pipe_ends) == 0);
    MAKE(signal(SIGUSR2, on_signal) != SIG_ERR);
    MAKE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &interval, NULL) == 0);
    for (long i = 0; i < COUNT; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < COUNT; i++) MAKE(sem_wait(&standing) == 0);
    while (expired < 2) usleep(1000);
    let_a_part_pass(&reference);

    ready();

    int before = expired;
    while (expired < before + 5) usleep(1000);
    SAY("blocked_threads: the timer's function is called");
    CHECK(write(pipe_ends[1], "!", 1) == 1, "write");
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL);
    spin_on = 0;
    /* Its signal waits until it is in sigsuspend again. */
    CHECK(pthread_kill(threads[SUSPENDED], SIGUSR2) == 0, "pthread_kill");
    for (int i = 0; i < COUNT; i++) CHECK(pthread_join(threads[i], NULL) == 0, "join %s", names[i]);
    check_wait(&waits[SLEEPER], &reference, 0, "nanosleep");
    check_wait(&waits[TIMED], &reference, 0, "sem_timedwait");
    check_wait(&waits[POLLER], &reference, 0, "ppoll");
    CHECK(timer_delete(timer) == 0, "timer_delete");
    SAY("blocked_threads: seven threads went on, each with its mask");
    return finish(7);
}
