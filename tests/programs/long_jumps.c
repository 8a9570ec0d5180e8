/* Handlers that leave the call they have interrupted by siglongjmp(3): before the checkpoint, and after it. Each call is then
 * made anew: one is under way at the checkpoint, with a time-out.
 *
 * Wrong would be: a call that lasts longer or shorter than it was asked to, because Zap believes that the one that was left is
 * still under way; a call that cannot be left; one that does not get what it waits for.
 */
#include "program.h"

#include "waits.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

enum call { READ, READ_TIMED, WRITE_TIMED, POLL, EPOLL_WAIT, NANOSLEEP, SLEEP_UNTIL, SEM_TIMEDWAIT, SEM_CLOCKWAIT, FUTEX, FUTEX_UNTIL,
    COND_TIMEDWAIT, SIGTIMEDWAIT, ACCEPT, CALLS };

static const char *const names[CALLS] = {"read", "read with SO_RCVTIMEO", "write with SO_SNDTIMEO", "poll", "epoll_wait", "nanosleep",
                                         "clock_nanosleep until", "sem_timedwait", "sem_clockwait", "futex", "futex until",
                                         "pthread_cond_timedwait", "sigtimedwait", "accept"};

/* One that leaves a call before the checkpoint, then stands in another; one that leaves after it. */
enum { EARLY, LATE, KINDS };

static struct jumper {
    enum call call;
    int kind;
    pthread_t thread;
    pid_t id;
    sigjmp_buf back;
    volatile int armed, left;
    int stage;
    struct wait wait;
    int sockets[2], pipe[2], listener, epoll;
    sem_t never;
    uint32_t word;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
} jumpers[CALLS][KINDS];

static _Thread_local struct jumper *own;
/* More than fits into a socket, however full it is after a restart. */
static char large[1 << 20];

static void leave(int number) {
    if (own && own->armed) {
        own->armed = 0;
        own->left++;
        siglongjmp(own->back, number);
    }
}

static void set_time_out(int socket, int option, int64_t ns) {
    struct timeval time = {ns / SECONDS, ns % SECONDS / 1000};
    CHECK(setsockopt(socket, SOL_SOCKET, option, &time, sizeof time) == 0, "setsockopt");
}

/* Returns whether it has ended by its time-out. */
static int wait_in(struct jumper *jumper, int64_t ns) {
    struct timespec left = timespec_of(ns), until = timespec_of(nanoseconds(CLOCK_MONOTONIC) + ns);
    struct timespec wall = timespec_of(nanoseconds(CLOCK_REALTIME) + ns);
    struct pollfd polled = {jumper->pipe[0], POLLIN, 0};
    struct epoll_event event;
    sigset_t signals;
    char bytes[1];
    ssize_t written;
    int error;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    switch (jumper->call) {
    /* It has no time-out of its own. */
    case READ: return poll(&polled, 1, (int)(ns / MILLISECONDS)) == 0 || read(jumper->pipe[0], bytes, 1) == 99;
    case READ_TIMED:
        set_time_out(jumper->sockets[0], SO_RCVTIMEO, ns);
        return read(jumper->sockets[0], bytes, 1) == -1 && errno == EAGAIN;
    case WRITE_TIMED:
        set_time_out(jumper->sockets[0], SO_SNDTIMEO, ns);
        written = write(jumper->sockets[0], large, sizeof large);
        return written == -1 ? errno == EAGAIN : written < (ssize_t)sizeof large;
    case POLL: return poll(&polled, 1, (int)(ns / MILLISECONDS)) == 0;
    case EPOLL_WAIT: return epoll_wait(jumper->epoll, &event, 1, (int)(ns / MILLISECONDS)) == 0;
    case NANOSLEEP: return nanosleep(&left, NULL) == 0;
    case SLEEP_UNTIL: return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0;
    case SEM_TIMEDWAIT: return sem_timedwait(&jumper->never, &wall) == -1 && errno == ETIMEDOUT;
    case SEM_CLOCKWAIT: return sem_clockwait(&jumper->never, CLOCK_MONOTONIC, &until) == -1 && errno == ETIMEDOUT;
    case FUTEX: return syscall(SYS_futex, &jumper->word, FUTEX_WAIT_PRIVATE, 0, &left, NULL, 0) == -1 && errno == ETIMEDOUT;
    case FUTEX_UNTIL:
        return syscall(SYS_futex, &jumper->word, FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, ~0u) == -1 && errno == ETIMEDOUT;
    case COND_TIMEDWAIT:
        /* Left by a jump, it has the mutex or not. */
        pthread_mutex_init(&jumper->mutex, NULL);
        pthread_cond_init(&jumper->condition, NULL);
        pthread_mutex_lock(&jumper->mutex);
        error = pthread_cond_timedwait(&jumper->condition, &jumper->mutex, &wall);
        return error == ETIMEDOUT;
    case SIGTIMEDWAIT: return sigtimedwait(&signals, NULL, &left) == -1 && errno == EAGAIN;
    case ACCEPT:
        set_time_out(jumper->listener, SO_RCVTIMEO, ns);
        return accept(jumper->listener, NULL, NULL) == -1 && errno == EAGAIN;
    case CALLS: break;
    }
    return 0;
}

/* The time-outs of sockets are counted in ticks, which may be one too few. */
static int by_ticks(enum call call) { return call == READ_TIMED || call == WRITE_TIMED || call == ACCEPT; }

/* Leaves a call that would last for an hour. */
static void leave_one(struct jumper *jumper) {
    char byte;
    if (sigsetjmp(jumper->back, 1) == 0) {
        __atomic_store_n(&jumper->armed, 1, __ATOMIC_SEQ_CST);
        int ended = jumper->call == READ ? (int)read(jumper->pipe[0], &byte, 1) : wait_in(jumper, 3600 * SECONDS);
        CHECK(0, "%s has come back: %d", names[jumper->call], ended);
    }
    CHECK(!jumper->armed, "%s was left by its handler", names[jumper->call]);
}

static void last(struct jumper *jumper, int64_t ns, struct wait *wait) {
    int by_wall = jumper->call == SEM_TIMEDWAIT || jumper->call == COND_TIMEDWAIT;
    begin_wait(wait, by_wall ? CLOCK_REALTIME : CLOCK_MONOTONIC, ns);
    int timed_out = wait_in(jumper, ns);
    end_wait(wait);
    CHECK(timed_out, "%s: the time-out does not end it", names[jumper->call]);
}

static void *run(void *argument) {
    struct jumper *jumper = own = argument;
    struct wait again;
    __atomic_store_n(&jumper->id, gettid(), __ATOMIC_SEQ_CST);
    leave_one(jumper);
    __atomic_store_n(&jumper->stage, 1, __ATOMIC_SEQ_CST);
    last(jumper, jumper->kind == EARLY ? ASKED : 30 * MILLISECONDS, &jumper->wait);
    leave_one(jumper);
    last(jumper, 30 * MILLISECONDS, &again);
    check_wait(&again, NULL, by_ticks(jumper->call), names[jumper->call]);
    __atomic_store_n(&jumper->stage, 2, __ATOMIC_SEQ_CST);
    return argument;
}

/* Makes it leave the call in which it stands. */
static void make_leave(struct jumper *jumper) {
    while (!__atomic_load_n(&jumper->armed, __ATOMIC_SEQ_CST)) usleep(1000);
    while (!is_asleep(jumper->id)) usleep(1000);
    int before = jumper->left;
    CHECK(pthread_kill(jumper->thread, SIGUSR1) == 0, "pthread_kill");
    while (jumper->left == before) usleep(1000);
}

static void make(struct jumper *jumper) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct epoll_event event = {.events = EPOLLIN};
    char page[4096] = {0};
    snprintf(name.sun_path, sizeof name.sun_path, "listener-%d-%d", jumper->call, jumper->kind);
    MAKE(pipe(jumper->pipe) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, jumper->sockets) == 0 && sem_init(&jumper->never, 0, 0) == 0);
    MAKE((jumper->epoll = epoll_create1(0)) >= 0 && epoll_ctl(jumper->epoll, EPOLL_CTL_ADD, jumper->pipe[0], &event) == 0);
    if (jumper->call == ACCEPT) {
        jumper->listener = socket(AF_UNIX, SOCK_STREAM, 0);
        MAKE(jumper->listener >= 0 && bind(jumper->listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(jumper->listener, 5) == 0);
    }
    if (jumper->call == WRITE_TIMED)
        while (send(jumper->sockets[0], page, sizeof page, MSG_DONTWAIT) > 0) continue;
    MAKE(pthread_create(&jumper->thread, NULL, run, jumper) == 0);
}

int main(int argc, char **argv) {
    struct reference reference;
    sigset_t signals;
    struct sigaction action = {.sa_handler = leave};
    MAKE(argc == 2 && chdir(argv[1]) == 0);
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    MAKE(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    for (enum call call = 0; call < CALLS; call++)
        for (int kind = 0; kind < KINDS; kind++) {
            jumpers[call][kind].call = call;
            jumpers[call][kind].kind = kind;
            make(&jumpers[call][kind]);
        }
    for (enum call call = 0; call < CALLS; call++) {
        struct jumper *early = &jumpers[call][EARLY], *late = &jumpers[call][LATE];
        make_leave(early);
        while (!__atomic_load_n(&early->stage, __ATOMIC_SEQ_CST) || !is_asleep(early->id)) usleep(1000);
        while (!late->armed || !is_asleep(late->id)) usleep(1000);
    }
    let_a_part_pass(&reference);

    ready();

    for (enum call call = 0; call < CALLS; call++) {
        struct jumper *early = &jumpers[call][EARLY], *late = &jumpers[call][LATE];
        CHECK(late->armed && late->stage == 0, "%s stands until it is left", names[call]);
        make_leave(late);
        make_leave(late);
        CHECK(pthread_join(late->thread, NULL) == 0 && late->stage == 2, "%s: left after it", names[call]);
        check_wait(&late->wait, NULL, by_ticks(call), names[call]);
        make_leave(early);
        CHECK(pthread_join(early->thread, NULL) == 0 && early->stage == 2, "%s: left before it", names[call]);
        check_wait(&early->wait, &reference, by_ticks(call), names[call]);
        SAY("long jumps: %s is left before and after, and keeps its time", names[call]);
    }
    return finish(7);
}
