/* Calls in which threads stand, interrupted by handlers of the program's own, with SA_RESTART and without: a plain run says what
 * the kernel does then (signal(7)), and every other has to do the same.
 *
 * Wrong would be: a call that goes on where it ends with EINTR otherwise, or the other way round; a remaining time of a sleep
 * that is not what is left of it.
 */
#include "program.h"

#include "waits.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum call {
    READ,
    WRITE,
    RECV,
    RECV_TIMED,
    ACCEPT,
    WAITPID,
    POLL,
    POLL_FOREVER,
    PPOLL,
    SELECT,
    PSELECT,
    EPOLL_WAIT,
    NANOSLEEP,
    CLOCK_NANOSLEEP,
    SLEEP_UNTIL,
    SLEEP,
    FUTEX,
    FUTEX_TIMED,
    SEM_WAIT,
    SEM_TIMEDWAIT,
    MUTEX,
    CONDITION,
    SIGTIMEDWAIT,
    SIGWAITINFO,
    SIGWAIT,
    PAUSE,
    USLEEP,
    EPOLL_PWAIT2,
    CONDITION_UNTIL,
    SEND_TIMED,
    CONNECT,
    FLOCK,
    RECORD_LOCK,
    SPLICE,
    CALLS
};

static const char *const names[CALLS] = {
    "read",        "write",       "recv",           "recv with SO_RCVTIMEO", "accept", "waitpid", "poll",  "poll for ever", "ppoll",
    "select",      "pselect",     "epoll_wait",     "nanosleep",             "clock_nanosleep", "clock_nanosleep until", "sleep",
    "futex",       "futex with a time-out", "sem_wait", "sem_timedwait",     "pthread_mutex_lock", "pthread_cond_wait", "sigtimedwait",
    "sigwaitinfo", "sigwait",     "pause",          "usleep", "epoll_pwait2", "pthread_cond_clockwait", "send with SO_SNDTIMEO",
    "connect",     "flock",       "F_SETLKW",       "splice"};

#define HOUR (3600 * SECONDS)

static struct stander {
    enum call call;
    int restarts;
    pthread_t thread;
    pid_t id, child;
    long result;
    int error;
    int64_t begun;
    struct timespec left;
    volatile int64_t interrupted;
    int pipe[2], other_pipe[2], sockets[2], listener, caller, epoll, child_ends[2];
    /* Of one file, which the first has locked. */
    int files[2];
    struct sockaddr_storage name;
    socklen_t name_length;
    uint32_t word;
    sem_t posted;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    int signalled;
} standers[CALLS][2];

static _Thread_local struct stander *own;

static void note(int number) {
    (void)number;
    if (own) own->interrupted = nanoseconds(CLOCK_MONOTONIC);
}

static long stand(struct stander *stander) {
    struct timespec hour = timespec_of(HOUR), until = timespec_of(nanoseconds(CLOCK_MONOTONIC) + HOUR);
    struct timespec wall = timespec_of(nanoseconds(CLOCK_REALTIME) + HOUR);
    struct timeval hour_of_select = {3600, 0};
    struct pollfd polled = {stander->pipe[0], POLLIN, 0};
    struct epoll_event event;
    fd_set set;
    sigset_t signals;
    char bytes[10] = {0};
    int number = 0;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    FD_ZERO(&set);
    FD_SET(stander->pipe[0], &set);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    switch (stander->call) {
    case READ: return read(stander->pipe[0], bytes, 1);
    case WRITE: return write(stander->pipe[1], bytes, 1);
    case RECV:
    case RECV_TIMED: return recv(stander->sockets[0], bytes, 1, 0);
    case ACCEPT: return accept(stander->listener, NULL, NULL) >= 0 ? 1 : -1;
    case WAITPID: return waitpid(stander->child, NULL, 0) == stander->child ? 1 : -1;
    case POLL: return poll(&polled, 1, 3600000);
    case POLL_FOREVER: return poll(&polled, 1, -1);
    case PPOLL: return ppoll(&polled, 1, &hour, NULL);
    case SELECT: return select(stander->pipe[0] + 1, &set, NULL, NULL, &hour_of_select);
    case PSELECT: return pselect(stander->pipe[0] + 1, &set, NULL, NULL, &hour, NULL);
    case EPOLL_WAIT: return epoll_wait(stander->epoll, &event, 1, 3600000);
    case NANOSLEEP: return nanosleep(&hour, &stander->left);
    case CLOCK_NANOSLEEP:
        errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, &stander->left);
        return errno ? -1 : 0;
    case SLEEP_UNTIL:
        errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        return errno ? -1 : 0;
    case SLEEP:
        stander->left.tv_sec = sleep(3600);
        errno = EINTR;
        return stander->left.tv_sec ? -1 : 0;
    case FUTEX: return syscall(SYS_futex, &stander->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == 0 || errno == EAGAIN ? 1 : -1;
    case FUTEX_TIMED: return syscall(SYS_futex, &stander->word, FUTEX_WAIT_PRIVATE, 0, &hour, NULL, 0) == 0 || errno == EAGAIN ? 1 : -1;
    case SEM_WAIT: return sem_wait(&stander->posted);
    case SEM_TIMEDWAIT: return sem_timedwait(&stander->posted, &wall);
    case MUTEX: return pthread_mutex_lock(&stander->mutex);
    case CONDITION:
        pthread_mutex_lock(&stander->mutex);
        while (!stander->signalled)
            if (pthread_cond_wait(&stander->condition, &stander->mutex) != 0) return -1;
        return 1;
    case SIGTIMEDWAIT: return sigtimedwait(&signals, NULL, &hour) == SIGTERM ? 1 : -1;
    case SIGWAITINFO: return sigwaitinfo(&signals, NULL) == SIGTERM ? 1 : -1;
    case SIGWAIT: return sigwait(&signals, &number) == 0 && number == SIGTERM ? 1 : -1;
    case PAUSE: return pause();
    case USLEEP: return usleep(3600000000u);
    case EPOLL_PWAIT2: return epoll_pwait2(stander->epoll, &event, 1, &hour, NULL);
    case CONDITION_UNTIL:
        pthread_mutex_lock(&stander->mutex);
        while (!stander->signalled)
            if (pthread_cond_clockwait(&stander->condition, &stander->mutex, CLOCK_MONOTONIC, &until) != 0) return -1;
        pthread_mutex_unlock(&stander->mutex);
        return 1;
    case SEND_TIMED: return send(stander->sockets[0], bytes, 1, 0);
    case CONNECT: return connect(stander->caller, (struct sockaddr *)&stander->name, stander->name_length);
    case FLOCK: return flock(stander->files[1], LOCK_EX);
    case RECORD_LOCK: return fcntl(stander->files[1], F_SETLKW, &lock);
    case SPLICE: return splice(stander->pipe[0], NULL, stander->other_pipe[1], NULL, 1, 0);
    case CALLS: break;
    }
    return -1;
}

static void *run(void *argument) {
    struct stander *stander = own = argument;
    stander->begun = nanoseconds(CLOCK_MONOTONIC);
    __atomic_store_n(&stander->id, gettid(), __ATOMIC_SEQ_CST);
    stander->result = stand(stander);
    stander->error = stander->result < 0 ? errno : 0;
    return argument;
}

/* Ends what the call waits for. */
static void let_go(struct stander *stander) {
    char page[4096];
    struct flock unlocked = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    switch (stander->call) {
    case WRITE: CHECK(read(stander->pipe[0], page, sizeof page) == sizeof page, "read"); break;
    case RECV:
    case RECV_TIMED: CHECK(send(stander->sockets[1], "x", 1, 0) == 1, "send"); break;
    case ACCEPT: {
        int caller = socket(AF_UNIX, SOCK_STREAM, 0);
        CHECK(connect(caller, (struct sockaddr *)&stander->name, stander->name_length) == 0, "connect");
        break;
    }
    case WAITPID: CHECK(close(stander->child_ends[1]) == 0, "close"); break;
    case FUTEX:
    case FUTEX_TIMED:
        __atomic_store_n(&stander->word, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &stander->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        break;
    case SEM_WAIT:
    case SEM_TIMEDWAIT: sem_post(&stander->posted); break;
    case MUTEX: pthread_mutex_unlock(&stander->mutex); break;
    case SEND_TIMED: CHECK(read(stander->sockets[1], page, sizeof page) > 0, "read"); break;
    case CONNECT: CHECK(accept(stander->listener, NULL, NULL) >= 0, "accept"); break;
    case FLOCK: CHECK(flock(stander->files[0], LOCK_UN) == 0, "flock"); break;
    case RECORD_LOCK: CHECK(fcntl(stander->files[0], F_OFD_SETLK, &unlocked) == 0, "F_OFD_SETLK"); break;
    case CONDITION:
    case CONDITION_UNTIL:
        pthread_mutex_lock(&stander->mutex);
        stander->signalled = 1;
        pthread_cond_signal(&stander->condition);
        pthread_mutex_unlock(&stander->mutex);
        break;
    case SIGTIMEDWAIT:
    case SIGWAITINFO:
    case SIGWAIT: pthread_kill(stander->thread, SIGTERM); break;
    default: CHECK(write(stander->pipe[1], "x", 1) == 1, "write"); break;
    }
}

/* The children are made before any thread. */
static void make_child(struct stander *stander) {
    char byte;
    MAKE(pipe2(stander->child_ends, O_CLOEXEC) == 0 && (stander->child = fork()) >= 0);
    if (stander->child == 0) {
        /* Of the other one's too. */
        for (int i = 0; i < 2; i++)
            if (standers[WAITPID][i].child_ends[1]) close(standers[WAITPID][i].child_ends[1]);
        while (read(stander->child_ends[0], &byte, 1) != 0) continue;
        _exit(0);
    }
    MAKE(close(stander->child_ends[0]) == 0);
}

static void make(struct stander *stander) {
    struct epoll_event event = {.events = EPOLLIN};
    struct timeval hour = {3600, 0};
    char page[4096] = {0};
    MAKE(pipe(stander->pipe) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, stander->sockets) == 0 && sem_init(&stander->posted, 0, 0) == 0);
    MAKE((stander->epoll = epoll_create1(0)) >= 0 && epoll_ctl(stander->epoll, EPOLL_CTL_ADD, stander->pipe[0], &event) == 0);
    MAKE(pthread_mutex_init(&stander->mutex, NULL) == 0 && pthread_cond_init(&stander->condition, NULL) == 0);
    if (stander->call == MUTEX) MAKE(pthread_mutex_lock(&stander->mutex) == 0);
    if (stander->call == RECV_TIMED) MAKE(setsockopt(stander->sockets[0], SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour) == 0);
    if (stander->call == WRITE)
        MAKE(fcntl(stander->pipe[1], F_SETPIPE_SZ, sizeof page) == sizeof page && write(stander->pipe[1], page, sizeof page) == sizeof page);
    if (stander->call == SEND_TIMED) {
        MAKE(setsockopt(stander->sockets[0], SOL_SOCKET, SO_SNDTIMEO, &hour, sizeof hour) == 0);
        while (send(stander->sockets[0], page, sizeof page, MSG_DONTWAIT) > 0) continue;
        while (send(stander->sockets[0], page, 1, MSG_DONTWAIT) > 0) continue;
        MAKE(errno == EAGAIN);
    }
    if (stander->call == SPLICE) MAKE(pipe(stander->other_pipe) == 0);
    if (stander->call == FLOCK || stander->call == RECORD_LOCK) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        char name[32];
        snprintf(name, sizeof name, "locked-%d-%d", stander->call, stander->restarts);
        for (int i = 0; i < 2; i++) MAKE((stander->files[i] = open(name, O_RDWR | O_CREAT, 0600)) >= 0);
        if (stander->call == FLOCK) MAKE(flock(stander->files[0], LOCK_EX) == 0);
        else MAKE(fcntl(stander->files[0], F_OFD_SETLK, &lock) == 0);
    }
    if (stander->call == ACCEPT || stander->call == CONNECT) {
        struct sockaddr_un {
            sa_family_t family;
            char path[108];
        } name = {.family = AF_UNIX};
        stander->name_length = sizeof name;
        snprintf(name.path, sizeof name.path, "listener-%d-%d", stander->call, stander->restarts);
        memcpy(&stander->name, &name, sizeof name);
        stander->listener = socket(AF_UNIX, SOCK_STREAM, 0);
        MAKE(bind(stander->listener, (struct sockaddr *)&name, sizeof name) == 0);
        MAKE(listen(stander->listener, stander->call == CONNECT ? 0 : 5) == 0);
    }
    if (stander->call == CONNECT) {
        int first;
        do MAKE((first = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
        while (connect(first, (struct sockaddr *)&stander->name, stander->name_length) == 0);
        MAKE(errno == EAGAIN && (stander->caller = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
    }
    MAKE(pthread_create(&stander->thread, NULL, run, stander) == 0);
}

static struct reference reference;

static void check(struct stander *stander) {
    const char *name = names[stander->call], *how = stander->restarts ? "with SA_RESTART" : "without SA_RESTART";
    CHECK(pthread_join(stander->thread, NULL) == 0, "join");
    if (stander->error == EINTR) SAY("interrupted: %s, %s: EINTR", name, how);
    else SAY("interrupted: %s, %s: %ld, error %d", name, how, stander->result, stander->error);
    if (stander->call == SLEEP) {
        int64_t passed = (stander->interrupted - stander->begun) / SECONDS;
        CHECK(stander->left.tv_sec >= 3600 - passed - 1 && stander->left.tv_sec <= 3600, "sleep: %ld s left", (long)stander->left.tv_sec);
    } else if (stander->left.tv_sec) {
        int64_t more = nanoseconds_of(stander->left) + stander->interrupted - stander->begun - HOUR;
        CHECK(more >= 0, "%s: %lld ns too few are left", name, (long long)-more);
        CHECK(more < allowed_delay(&reference), "%s: %lld ns too many are left", name, (long long)more);
    }
}

int main(int argc, char **argv) {
    sigset_t signals;
    MAKE(argc == 2 && chdir(argv[1]) == 0);
    for (int restarts = 0; restarts < 2; restarts++) {
        struct sigaction action = {.sa_handler = note, .sa_flags = restarts ? SA_RESTART : 0};
        MAKE(sigaction(restarts ? SIGUSR1 : SIGUSR2, &action, NULL) == 0);
        make_child(&standers[WAITPID][restarts]);
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    MAKE(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
    for (int i = 0; i < CALLS * 2; i++) {
        struct stander *stander = &standers[i / 2][i % 2];
        stander->call = i / 2;
        stander->restarts = i % 2;
        make(stander);
    }
    for (int i = 0; i < CALLS * 2; i++)
        while (!__atomic_load_n(&standers[i / 2][i % 2].id, __ATOMIC_SEQ_CST) || !is_asleep(standers[i / 2][i % 2].id)) usleep(1000);
    let_a_part_pass(&reference);

    ready();

    for (int i = 0; i < CALLS * 2; i++) {
        struct stander *stander = &standers[i / 2][i % 2];
        while (!is_asleep(stander->id)) usleep(1000);
        CHECK(stander->interrupted == 0, "%s: interrupted by itself", names[stander->call]);
        CHECK(pthread_kill(stander->thread, stander->restarts ? SIGUSR1 : SIGUSR2) == 0, "pthread_kill");
        while (stander->interrupted == 0) usleep(1000);
    }
    for (int i = 0; i < CALLS * 2; i++) let_go(&standers[i / 2][i % 2]);
    for (int i = 0; i < CALLS * 2; i++) check(&standers[i / 2][i % 2]);
    for (int i = 0; i < 2; i++) waitpid(standers[WAITPID][i].child, NULL, 0);
    return finish(7);
}
