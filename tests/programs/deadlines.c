/* Calls that stand until a deadline or for a time, beside those of blocking_calls.c: one thread for each.
 *
 * Wrong would be: one that ends before its time by its own clock, that begins its time anew, or ends in another way than by
 * its time.
 */
#include "program.h"

#define ASKED (2 * SECONDS)

#include "waits.h"

#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
/* Linux 6.7, futex(2) by other words. */
#define FUTEX_WAIT_BY_FLAGS 455
#define SIZE_U32 2
#define PRIVATE 128

enum { WAITV, WAIT, REQUEUE_PI, CLOCKLOCK_PI, CLOCKLOCK, CLOCKWAIT, CLOCKJOIN, TIMEDJOIN, SEM_CLOCKWAIT, RWLOCK, BOOT_TIME, CONNECT, CALLS };

static const char *const names[CALLS] = {"futex_waitv", "futex_wait", "FUTEX_WAIT_REQUEUE_PI", "clocklock with PI", "clocklock",
                                         "cond_clockwait", "clockjoin", "timedjoin", "sem_clockwait", "rwlock_clockrdlock",
                                         "clock_nanosleep by CLOCK_BOOTTIME", "connect with SO_SNDTIMEO"};
static struct wait waits[CALLS];
static uint32_t words[2], target;
static pthread_mutex_t inheriting, held = PTHREAD_MUTEX_INITIALIZER, free_one = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t written = PTHREAD_RWLOCK_INITIALIZER;
static sem_t posted;
static pthread_t forever;
static int caller;
static struct sockaddr_un full = {.sun_family = AF_UNIX, .sun_path = "full"};

struct waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static int failed(long result) { return result == -1 ? errno : 0; }

static int stand(int call, struct timespec *end) {
    struct waiter waiters[2] = {{0, (uintptr_t)&words[0], SIZE_U32 | PRIVATE, 0}, {0, (uintptr_t)&words[1], SIZE_U32, 0}};
    int error;
    switch (call) {
    case WAITV: return failed(syscall(SYS_futex_waitv, waiters, 2, 0, end, CLOCK_MONOTONIC));
    case WAIT: return failed(syscall(FUTEX_WAIT_BY_FLAGS, &words[0], 0L, 0xffffffffL, SIZE_U32 | PRIVATE, end, CLOCK_MONOTONIC));
    case REQUEUE_PI: return failed(syscall(SYS_futex, &words[0], FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, end, &target, 0));
    case CLOCKLOCK_PI: return pthread_mutex_clocklock(&inheriting, CLOCK_MONOTONIC, end);
    case CLOCKLOCK: return pthread_mutex_clocklock(&held, CLOCK_MONOTONIC, end);
    case CLOCKWAIT:
        MAKE(pthread_mutex_lock(&free_one) == 0);
        error = pthread_cond_clockwait(&never, &free_one, CLOCK_MONOTONIC, end);
        MAKE(pthread_mutex_unlock(&free_one) == 0);
        return error;
    case CLOCKJOIN: return pthread_clockjoin_np(forever, NULL, CLOCK_MONOTONIC, end);
    case TIMEDJOIN: return pthread_timedjoin_np(forever, NULL, end);
    case SEM_CLOCKWAIT: return failed(sem_clockwait(&posted, CLOCK_MONOTONIC, end));
    case RWLOCK: return pthread_rwlock_clockrdlock(&written, CLOCK_MONOTONIC, end);
    case BOOT_TIME: return clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, end, NULL);
    case CONNECT: return failed(connect(caller, (struct sockaddr *)&full, sizeof full));
    }
    return -1;
}

static void *run(void *argument) {
    int call = (int)(intptr_t)argument;
    clockid_t clock = call == BOOT_TIME ? CLOCK_BOOTTIME : call == TIMEDJOIN ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    begin_wait(&waits[call], clock, ASKED);
    struct timespec end = timespec_of(waits[call].begun + ASKED);
    int error = stand(call, &end);
    end_wait(&waits[call]);
    int expected = call == BOOT_TIME ? 0 : call == CONNECT ? EAGAIN : ETIMEDOUT;
    /* Linux before 6.7 has no futex_wait, before 5.16 no futex_waitv. */
    int absent = (call == WAIT || call == WAITV) && error == ENOSYS;
    CHECK(error == expected || absent, "%s: %d %s", names[call], error, strerror(error));
    if (absent) waits[call].ended = waits[call].begun + ASKED, waits[call].ended_monotonic = waits[call].begun_monotonic + ASKED;
    return argument;
}

static void *wait_forever(void *argument) {
    for (;;) pause();
    return argument;
}

int main(int argc, char **argv) {
    struct reference reference;
    pthread_t threads[CALLS];
    pthread_mutexattr_t attributes;
    struct timeval time = {ASKED / SECONDS, 0};
    MAKE(argc == 2 && chdir(argv[1]) == 0);
    MAKE(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    MAKE(pthread_mutex_init(&inheriting, &attributes) == 0 && pthread_mutex_lock(&inheriting) == 0 && pthread_mutex_lock(&held) == 0);
    MAKE(pthread_rwlock_wrlock(&written) == 0 && sem_init(&posted, 0, 0) == 0);
    MAKE(pthread_create(&forever, NULL, wait_forever, NULL) == 0);
    /* A listener whose queue is full. */
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), first;
    MAKE(bind(listener, (struct sockaddr *)&full, sizeof full) == 0 && listen(listener, 0) == 0);
    do MAKE((first = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
    while (connect(first, (struct sockaddr *)&full, sizeof full) == 0);
    MAKE(errno == EAGAIN);
    MAKE((caller = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0 && setsockopt(caller, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) == 0);
    for (int i = 0; i < CALLS; i++) {
        MAKE(pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i) == 0);
        while (!__atomic_load_n(&waits[i].begun, __ATOMIC_SEQ_CST)) usleep(100);
    }
    let_a_part_pass(&reference);

    ready();

    for (int i = 0; i < CALLS; i++) {
        MAKE(pthread_join(threads[i], NULL) == 0);
        /* The true time goes on while the program does not. */
        check_wait(&waits[i], i == TIMEDJOIN ? NULL : &reference, i == CONNECT, names[i]);
        SAY("deadline: %s", names[i]);
    }
    return finish(7);
}
