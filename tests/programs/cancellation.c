/* Threads that are cancelled (pthread_cancel(3)) while they wait, in every call that waits; asynchronously; with the
 * cancellation disabled; and before the checkpoint, to be noticed after it.
 *
 * Wrong would be: a thread that goes on, a join that does not give PTHREAD_CANCELED, a clean-up handler that does not run
 * or runs twice, a lock of Zap's that a cancelled thread leaves behind.
 */
#include "program.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum call {
    READ,
    READV,
    WRITE,
    PAUSE,
    NANOSLEEP,
    CLOCK_NANOSLEEP,
    SLEEP,
    USLEEP,
    POLL,
    PPOLL,
    SELECT,
    PSELECT,
    EPOLL_WAIT,
    EPOLL_PWAIT,
    SEM_WAIT,
    SEM_TIMEDWAIT,
    COND_WAIT,
    COND_TIMEDWAIT,
    RECV,
    RECVFROM,
    RECVMSG,
    SIGWAIT,
    SIGTIMEDWAIT,
    SIGSUSPEND,
    JOIN,
    ASYNCHRONOUS,
    PENDING,
    DISABLED,
    CALLS
};

static const char *const names[CALLS] = {
    "read",           "readv",         "write",     "pause",          "nanosleep",  "clock_nanosleep",
    "sleep",          "usleep",        "poll",      "ppoll",          "select",     "pselect",
    "epoll_wait",     "epoll_pwait",   "sem_wait",  "sem_timedwait",  "cond_wait",  "cond_timedwait",
    "recv",           "recvfrom",      "recvmsg",   "sigwait",        "sigtimedwait", "sigsuspend",
    "join",           "asynchronous",  "pending",   "disabled"};

static int cleaned[CALLS], cleaned_outer[CALLS], went_on[CALLS];
static int empty_pipe[2], full_pipe[2], sockets[2], epoll;
static sem_t standing, never, go;
static pthread_mutex_t mutexes[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_t threads[CALLS], forever;
static volatile int spinning = 1;

static void clean(void *argument) { ++*(int *)argument; }

static void clean_and_unlock(void *argument) { CHECK(pthread_mutex_unlock(argument) == 0, "the mutex is held again"); }

static void *wait_forever(void *argument) {
    while (1) sem_wait(&never);
    return argument;
}

static void wait_in(enum call call) {
    char space[16];
    struct timespec hour = {3600, 0}, until;
    struct timeval hour_of_select = {3600, 0};
    struct iovec part = {space, sizeof space};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct pollfd poll_of = {empty_pipe[0], POLLIN, 0};
    struct epoll_event event;
    fd_set set;
    sigset_t signals, none;
    int number;
    FD_ZERO(&set);
    FD_SET(empty_pipe[0], &set);
    sigemptyset(&none);
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 3600;
    sem_post(&standing);
    switch (call) {
    case READ: CHECK(read(empty_pipe[0], space, 1) == 99, "read came back"); break;
    case READV: CHECK(readv(empty_pipe[0], &part, 1) == 99, "readv came back"); break;
    case WRITE: CHECK(write(full_pipe[1], space, 1) == 99, "write came back"); break;
    case PAUSE: pause(); break;
    case NANOSLEEP: nanosleep(&hour, NULL); break;
    case CLOCK_NANOSLEEP: clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, NULL); break;
    case SLEEP: sleep(3600); break;
    case USLEEP: usleep(3600000000u); break;
    case POLL: poll(&poll_of, 1, 3600000); break;
    case PPOLL: ppoll(&poll_of, 1, &hour, NULL); break;
    case SELECT: select(FD_SETSIZE, &set, NULL, NULL, &hour_of_select); break;
    case PSELECT: pselect(FD_SETSIZE, &set, NULL, NULL, &hour, NULL); break;
    case EPOLL_WAIT: epoll_wait(epoll, &event, 1, 3600000); break;
    case EPOLL_PWAIT: epoll_pwait(epoll, &event, 1, -1, &none); break;
    case SEM_WAIT: sem_wait(&never); break;
    case SEM_TIMEDWAIT: sem_timedwait(&never, &until); break;
    case COND_WAIT:
    case COND_TIMEDWAIT: {
        pthread_mutex_t *mutex = &mutexes[call - COND_WAIT];
        pthread_mutex_lock(mutex);
        pthread_cleanup_push(clean_and_unlock, mutex);
        while (1) {
            if (call == COND_WAIT) pthread_cond_wait(&condition, mutex);
            else pthread_cond_timedwait(&condition, mutex, &until);
        }
        pthread_cleanup_pop(1);
        break;
    }
    case RECV: recv(sockets[0], space, 1, 0); break;
    case RECVFROM: recvfrom(sockets[0], space, 1, 0, NULL, NULL); break;
    case RECVMSG: recvmsg(sockets[0], &message, 0); break;
    case SIGWAIT: sigwait(&signals, &number); break;
    case SIGTIMEDWAIT: sigtimedwait(&signals, NULL, &hour); break;
    case SIGSUSPEND: sigsuspend(&signals); break;
    case JOIN: pthread_join(forever, NULL); break;
    case ASYNCHRONOUS:
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        while (spinning) continue;
        break;
    case PENDING:
        /* Cancelled before the checkpoint; no call that would notice comes before it. */
        while (spinning) continue;
        pthread_testcancel();
        break;
    case DISABLED: {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        while (sem_wait(&go) != 0) continue;
        pthread_testcancel();
        went_on[call]++;
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        pthread_testcancel();
        break;
    }
    case CALLS: break;
    }
    went_on[call]++;
}

static void *run(void *argument) {
    enum call call = (enum call)(long)argument;
    pthread_cleanup_push(clean, &cleaned_outer[call]);
    pthread_cleanup_push(clean, &cleaned[call]);
    wait_in(call);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return argument;
}

static void check_cancelled(enum call call) {
    void *result = NULL;
    CHECK(pthread_join(threads[call], &result) == 0 && result == PTHREAD_CANCELED, "%s: PTHREAD_CANCELED", names[call]);
    CHECK(cleaned[call] == 1 && cleaned_outer[call] == 1, "%s: clean-up handlers ran %d and %d times", names[call],
          cleaned[call], cleaned_outer[call]);
    CHECK(went_on[call] == (call == DISABLED), "%s: it did not go on", names[call]);
}

static void start(enum call call) {
    MAKE(pthread_create(&threads[call], NULL, run, (void *)(long)call) == 0 && sem_wait(&standing) == 0);
}

int main(void) {
    sigset_t signals;
    char page[4096] = {0};
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    MAKE(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
    MAKE(pipe(empty_pipe) == 0 && pipe2(full_pipe, O_NONBLOCK) == 0);
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0 && (epoll = epoll_create1(0)) >= 0);
    while (write(full_pipe[1], page, sizeof page) > 0) continue;
    MAKE(fcntl(full_pipe[1], F_SETFL, 0) == 0);
    struct epoll_event event = {.events = EPOLLIN};
    MAKE(epoll_ctl(epoll, EPOLL_CTL_ADD, empty_pipe[0], &event) == 0);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&never, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    MAKE(pthread_create(&forever, NULL, wait_forever, NULL) == 0);
    for (int call = 0; call < CALLS; call++) start((enum call)call);
    MAKE(pthread_cancel(threads[PENDING]) == 0 && pthread_cancel(threads[DISABLED]) == 0);

    ready();

    for (int call = 0; call < PENDING; call++) CHECK(pthread_cancel(threads[call]) == 0, "%s: cancel", names[call]);
    for (int call = 0; call < PENDING; call++) {
        check_cancelled((enum call)call);
        SAY("cancellation: in %s", names[call]);
    }
    spinning = 0;
    sem_post(&go);
    check_cancelled(PENDING);
    check_cancelled(DISABLED);
    SAY("cancellation: asked for before, noticed after; disabled, then enabled");
    for (int call = 0; call < ASYNCHRONOUS; call++) {
        cleaned[call] = cleaned_outer[call] = 0;
        start((enum call)call);
        CHECK(pthread_cancel(threads[call]) == 0, "%s: cancel", names[call]);
        check_cancelled((enum call)call);
    }
    SAY("cancellation: all calls once more, by new threads");
    CHECK(pthread_cancel(forever) == 0 && pthread_join(forever, NULL) == 0, "the thread that others joined");
    return finish(7);
}
