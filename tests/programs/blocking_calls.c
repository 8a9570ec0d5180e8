/* Calls in which threads stand for a long time: one thread for each.
 *
 * None may return early or with EINTR because of a checkpoint: a program that was never sent a signal does not expect
 * it. Waits with a duration must last for it, by their own clock; waits without one must still stand, and then return
 * what they wait for.
 */
#include "program.h"

#define ASKED (2 * SECONDS)
#define ASKED_MS 2000

#include "waits.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/timerfd.h>

/* What the threads without a deadline wait on; all are made ready together at the end. */
static int wake[2], events, timer, never[2], filled_pipe[2], pair[2], slow_pair[2];
/* Long transfers, of which the first part fits: by write, writev, sendmsg, sendmmsg; and some that are waited for whole. */
static int long_pipe[2], long_pair[3][2], whole_pair[2][2], full_pair[2], datagrams[2], splice_from[2], splice_to[2];
enum { LONG = 400000 };
static char long_bytes[LONG];
static sem_t posted, never_posted;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t own[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static pthread_mutex_t signalled_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never_signalled = PTHREAD_COND_INITIALIZER, never_monotonic, signalled = PTHREAD_COND_INITIALIZER;
static int is_signalled;
static pthread_t joined;
static volatile sig_atomic_t user_signals;

static void count(int number) {
    (void)number;
    __atomic_add_fetch(&user_signals, 1, __ATOMIC_SEQ_CST);
}

/* Each call returns its result, or -errno. */
#define RESULT(call)                                                                                                   \
    ({                                                                                                                 \
        long result_ = (call);                                                                                         \
        result_ == -1 ? -(long)errno : result_;                                                                        \
    })

static int epoll_on(int fd) {
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1};
    CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll");
    return epoll;
}

static struct timespec in_asked(clockid_t clock) { return timespec_of(nanoseconds(clock) + ASKED); }

/* With a duration. */
static long call_nanosleep(void) {
    struct timespec time = timespec_of(ASKED);
    return RESULT(nanosleep(&time, NULL));
}
static long call_clock_nanosleep(void) {
    struct timespec time = timespec_of(ASKED);
    return -clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}
static long call_clock_nanosleep_absolute(void) {
    struct timespec time = in_asked(CLOCK_MONOTONIC);
    return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}
static long call_clock_nanosleep_wall(void) {
    struct timespec time = in_asked(CLOCK_REALTIME);
    return -clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL);
}
static long call_sleep(void) { return sleep(2); }
static long call_poll_time(void) {
    struct pollfd polled = {never[0], POLLIN, 0};
    return RESULT(poll(&polled, 1, ASKED_MS));
}
static long call_poll_nothing(void) { return RESULT(poll(NULL, 0, ASKED_MS)); }
static long call_ppoll_time(void) {
    struct pollfd polled = {never[0], POLLIN, 0};
    struct timespec time = timespec_of(ASKED);
    return RESULT(ppoll(&polled, 1, &time, NULL));
}
static long call_select_time(void) {
    struct timeval time = {2, 0};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(never[0], &set);
    return RESULT(select(never[0] + 1, &set, NULL, NULL, &time));
}
static long call_epoll_wait_time(void) {
    struct epoll_event event;
    return RESULT(epoll_wait(epoll_on(never[0]), &event, 1, ASKED_MS));
}
static long call_sem_timedwait(void) {
    struct timespec time = in_asked(CLOCK_REALTIME);
    return RESULT(sem_timedwait(&never_posted, &time));
}
static long call_cond_timedwait(void) {
    struct timespec time = in_asked(CLOCK_REALTIME);
    pthread_mutex_lock(&own[0]);
    return -pthread_cond_timedwait(&never_signalled, &own[0], &time);
}
static long call_cond_timedwait_monotonic(void) {
    struct timespec time = in_asked(CLOCK_MONOTONIC);
    pthread_mutex_lock(&own[1]);
    return -pthread_cond_timedwait(&never_monotonic, &own[1], &time);
}
static long call_mutex_timedlock(void) {
    struct timespec time = in_asked(CLOCK_REALTIME);
    return -pthread_mutex_timedlock(&held, &time);
}
static long call_sigtimedwait(void) {
    struct timespec time = timespec_of(ASKED);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 7);
    return RESULT(sigtimedwait(&set, NULL, &time));
}
static long call_recv_timeout(void) {
    char byte;
    return RESULT(recv(slow_pair[0], &byte, 1, 0));
}
static long call_read_timeout(void) {
    char byte;
    return RESULT(read(slow_pair[0], &byte, 1));
}
static long call_recvmsg_timeout(void) {
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return RESULT(recvmsg(slow_pair[0], &message, 0));
}
static long call_send_timeout(void) { return RESULT(send(full_pair[0], "x", 1, 0)); }
static long call_usleep(void) { return RESULT(usleep(ASKED / 1000)); }
static long call_pselect_time(void) {
    struct timespec time = timespec_of(ASKED);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(never[0], &set);
    return RESULT(pselect(never[0] + 1, &set, NULL, NULL, &time, NULL));
}
static long call_epoll_pwait_time(void) {
    struct epoll_event event;
    sigset_t none;
    sigemptyset(&none);
    return RESULT(epoll_pwait(epoll_on(never[0]), &event, 1, ASKED_MS, &none));
}
static long call_epoll_pwait2_time(void) {
    struct epoll_event event;
    struct timespec time = timespec_of(ASKED);
    return RESULT(epoll_pwait2(epoll_on(never[0]), &event, 1, &time, NULL));
}
static uint32_t futex_words[3] = {5, 5, 5};
static long call_futex_time(void) {
    struct timespec time = timespec_of(ASKED);
    return RESULT(syscall(SYS_futex, &futex_words[0], FUTEX_WAIT_PRIVATE, 5, &time, NULL, 0));
}
static long call_futex_absolute(void) {
    struct timespec time = in_asked(CLOCK_MONOTONIC);
    return RESULT(syscall(SYS_futex, &futex_words[1], FUTEX_WAIT_BITSET_PRIVATE, 5, &time, NULL, ~0u));
}
static long call_timerfd(void) {
    uint64_t expirations = 0;
    struct itimerspec spec = {.it_value = timespec_of(ASKED)};
    CHECK(timerfd_settime(timer, 0, &spec, NULL) == 0, "timerfd");
    long result = RESULT(read(timer, &expirations, 8));
    return result == 8 ? (long)expirations : result;
}

/* Without. */
static long call_poll(void) {
    struct pollfd polled = {wake[0], POLLIN, 0};
    return RESULT(poll(&polled, 1, -1));
}
static long call_poll_long(void) {
    struct pollfd polled = {wake[0], POLLIN, 0};
    return RESULT(poll(&polled, 1, 100000000));
}
static long call_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(wake[0], &set);
    return RESULT(select(wake[0] + 1, &set, NULL, NULL, NULL));
}
static long call_epoll_wait(void) {
    struct epoll_event event;
    return RESULT(epoll_wait(epoll_on(wake[0]), &event, 1, -1));
}
static int pipe_read[2];
static long call_read_pipe(void) {
    char bytes[10];
    return RESULT(read(pipe_read[0], bytes, sizeof bytes));
}
static long call_write_pipe(void) {
    char bytes[5000] = {0};
    return RESULT(write(filled_pipe[1], bytes, sizeof bytes));
}
static long call_write_long(void) { return RESULT(write(long_pipe[1], long_bytes, LONG)); }
static long call_writev_long(void) {
    struct iovec parts[] = {{long_bytes, 100000}, {long_bytes + 100000, 250000}, {long_bytes + 350000, LONG - 350000}};
    return RESULT(writev(long_pair[0][0], parts, 3));
}
static long call_sendmsg_long(void) {
    struct iovec parts[] = {{long_bytes, 300000}, {long_bytes + 300000, LONG - 300000}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return RESULT(sendmsg(long_pair[1][0], &message, 0));
}
/* A checkpoint finds the second of three messages half sent. */
static long call_sendmmsg_long(void) {
    struct iovec parts[] = {{long_bytes, 1000}, {long_bytes + 1000, 349000}, {long_bytes + 350000, LONG - 350000}};
    struct mmsghdr messages[3];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < 3; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    long result = RESULT(sendmmsg(long_pair[2][0], messages, 3, 0));
    for (int i = 0; i < 3; i++)
        if (result == 3 && messages[i].msg_len != parts[i].iov_len) return -1000;
    return result;
}
static long call_recvmmsg(void) {
    char bytes[3][10];
    struct iovec parts[3];
    struct mmsghdr messages[3];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < 3; i++) {
        parts[i] = (struct iovec){bytes[i], 10};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    long result = RESULT(recvmmsg(datagrams[0], messages, 3, 0, NULL));
    for (int i = 0; i < 3; i++)
        if (result == 3 && (messages[i].msg_len != 4 || bytes[i][3] != '0' + i)) return -1000;
    return result;
}
static long call_recvmsg_whole(void) {
    char bytes[10];
    struct iovec parts[] = {{bytes, 2}, {bytes + 2, 5}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    long result = RESULT(recvmsg(whole_pair[0][0], &message, MSG_WAITALL));
    return result == 7 && memcmp(bytes, "abcdefg", 7) != 0 ? -1000 : result;
}
static long call_recvfrom_whole(void) {
    char bytes[10];
    long result = RESULT(recvfrom(whole_pair[1][0], bytes, 7, MSG_WAITALL, NULL, NULL));
    return result == 7 && memcmp(bytes, "abcdefg", 7) != 0 ? -1000 : result;
}
static long call_splice(void) { return RESULT(splice(splice_from[0], NULL, splice_to[1], NULL, 4, 0)); }
static long call_futex(void) { return RESULT(syscall(SYS_futex, &futex_words[2], FUTEX_WAIT_PRIVATE, 5, NULL, NULL, 0)); }
static long call_sigwaitinfo(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 8);
    return RESULT(sigwaitinfo(&set, NULL)) == SIGRTMIN + 8;
}
static long call_recv(void) {
    char bytes[10];
    return RESULT(recv(pair[0], bytes, 7, MSG_WAITALL));
}
static long call_read_eventfd(void) {
    uint64_t value = 0;
    long result = RESULT(read(events, &value, 8));
    return result == 8 ? (long)value : result;
}
static long call_sem_wait(void) { return RESULT(sem_wait(&posted)); }
static long call_mutex_lock(void) {
    int result = pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
    return -result;
}
static long call_cond_wait(void) {
    int result = 0;
    pthread_mutex_lock(&signalled_mutex);
    while (!is_signalled && result == 0) result = pthread_cond_wait(&signalled, &signalled_mutex);
    pthread_mutex_unlock(&signalled_mutex);
    return -result;
}
static long call_join(void) {
    void *value;
    int result = pthread_join(joined, &value);
    return result ? -result : (long)value;
}
static long call_pause(void) { return RESULT(pause()); }
static long call_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return RESULT(sigsuspend(&none));
}
static long call_sigwait(void) {
    sigset_t set;
    int number = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 8);
    int result = sigwait(&set, &number);
    return result ? -result : number == SIGRTMIN + 8;
}

static struct call {
    const char *name;
    long (*call)(void);
    long expected;
    int lasts; /* for ASKED, by `clock`; else it stands until the end */
    clockid_t clock;
    long result;
    struct wait wait;
    int returned;
    enum { NONE, HANDLED, QUEUED } signal; /* what ends it */
    pthread_t thread;
} calls[] = {
#define LASTS(name_, call_, expected_, clock_) \
    {.name = name_, .call = call_, .expected = expected_, .lasts = 1, .clock = clock_}
#define STANDS(name_, call_, expected_, signal_) \
    {.name = name_, .call = call_, .expected = expected_, .clock = CLOCK_MONOTONIC, .signal = signal_}
    LASTS("nanosleep", call_nanosleep, 0, CLOCK_MONOTONIC),
    LASTS("clock_nanosleep", call_clock_nanosleep, 0, CLOCK_MONOTONIC),
    LASTS("clock_nanosleep, absolute", call_clock_nanosleep_absolute, 0, CLOCK_MONOTONIC),
    LASTS("clock_nanosleep, wall clock", call_clock_nanosleep_wall, 0, CLOCK_REALTIME),
    LASTS("sleep", call_sleep, 0, CLOCK_MONOTONIC),
    LASTS("poll with a timeout", call_poll_time, 0, CLOCK_MONOTONIC),
    LASTS("poll of nothing", call_poll_nothing, 0, CLOCK_MONOTONIC),
    LASTS("ppoll with a timeout", call_ppoll_time, 0, CLOCK_MONOTONIC),
    LASTS("select with a timeout", call_select_time, 0, CLOCK_MONOTONIC),
    LASTS("epoll_wait with a timeout", call_epoll_wait_time, 0, CLOCK_MONOTONIC),
    LASTS("sem_timedwait", call_sem_timedwait, -ETIMEDOUT, CLOCK_REALTIME),
    LASTS("pthread_cond_timedwait", call_cond_timedwait, -ETIMEDOUT, CLOCK_REALTIME),
    LASTS("pthread_cond_timedwait, monotonic", call_cond_timedwait_monotonic, -ETIMEDOUT, CLOCK_MONOTONIC),
    LASTS("pthread_mutex_timedlock", call_mutex_timedlock, -ETIMEDOUT, CLOCK_REALTIME),
    LASTS("sigtimedwait", call_sigtimedwait, -EAGAIN, CLOCK_MONOTONIC),
    LASTS("recv with SO_RCVTIMEO", call_recv_timeout, -EAGAIN, CLOCK_MONOTONIC),
    LASTS("read with SO_RCVTIMEO", call_read_timeout, -EAGAIN, CLOCK_MONOTONIC),
    LASTS("recvmsg with SO_RCVTIMEO", call_recvmsg_timeout, -EAGAIN, CLOCK_MONOTONIC),
    LASTS("send with SO_SNDTIMEO", call_send_timeout, -EAGAIN, CLOCK_MONOTONIC),
    LASTS("usleep", call_usleep, 0, CLOCK_MONOTONIC),
    LASTS("pselect with a timeout", call_pselect_time, 0, CLOCK_MONOTONIC),
    LASTS("epoll_pwait with a timeout", call_epoll_pwait_time, 0, CLOCK_MONOTONIC),
    LASTS("epoll_pwait2 with a timeout", call_epoll_pwait2_time, 0, CLOCK_MONOTONIC),
    LASTS("futex with a timeout", call_futex_time, -ETIMEDOUT, CLOCK_MONOTONIC),
    LASTS("futex with a deadline", call_futex_absolute, -ETIMEDOUT, CLOCK_MONOTONIC),
    LASTS("read of a timerfd", call_timerfd, 1, CLOCK_MONOTONIC),
    STANDS("poll without a timeout", call_poll, 1, NONE),
    STANDS("poll with a long timeout", call_poll_long, 1, NONE),
    STANDS("select without a timeout", call_select, 1, NONE),
    STANDS("epoll_wait without a timeout", call_epoll_wait, 1, NONE),
    STANDS("read of a pipe", call_read_pipe, 4, NONE),
    STANDS("write to a full pipe", call_write_pipe, 5000, NONE),
    STANDS("long write to a pipe", call_write_long, LONG, NONE),
    STANDS("long writev", call_writev_long, LONG, NONE),
    STANDS("long sendmsg", call_sendmsg_long, LONG, NONE),
    STANDS("long sendmmsg", call_sendmmsg_long, 3, NONE),
    STANDS("recvmmsg", call_recvmmsg, 3, NONE),
    STANDS("recvmsg with MSG_WAITALL", call_recvmsg_whole, 7, NONE),
    STANDS("recvfrom with MSG_WAITALL", call_recvfrom_whole, 7, NONE),
    STANDS("splice", call_splice, 4, NONE),
    STANDS("futex", call_futex, 0, NONE),
    STANDS("sigwaitinfo", call_sigwaitinfo, 1, QUEUED),
    STANDS("recv with MSG_WAITALL", call_recv, 7, NONE),
    STANDS("read of an eventfd", call_read_eventfd, 9, NONE),
    STANDS("sem_wait", call_sem_wait, 0, NONE),
    STANDS("pthread_mutex_lock", call_mutex_lock, 0, NONE),
    STANDS("pthread_cond_wait", call_cond_wait, 0, NONE),
    STANDS("pthread_join", call_join, 1234, NONE),
    STANDS("pause", call_pause, -EINTR, HANDLED),
    STANDS("sigsuspend", call_sigsuspend, -EINTR, HANDLED),
    STANDS("sigwait", call_sigwait, 1, QUEUED),
};
enum { COUNT = sizeof calls / sizeof *calls };

static void *run(void *argument) {
    struct call *call = argument;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 7);
    sigaddset(&set, SIGRTMIN + 8);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    begin_wait(&call->wait, call->clock, ASKED);
    call->result = call->call();
    end_wait(&call->wait);
    __atomic_store_n(&call->returned, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *run_joined(void *argument) {
    char byte;
    while (read(never[0], &byte, 1) != 1) continue;
    return argument;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = count;
    action.sa_flags = SA_RESTART;
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 8);
    MAKE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    MAKE(pipe(wake) == 0 && pipe(never) == 0 && pipe(pipe_read) == 0 && pipe(filled_pipe) == 0);
    MAKE((events = eventfd(0, 0)) >= 0 && (timer = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0);
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, slow_pair) == 0);
    fill(long_bytes, LONG, 8);
    MAKE(pipe(long_pipe) == 0 && pipe(splice_from) == 0 && pipe(splice_to) == 0);
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, long_pair[2]) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    MAKE(send(datagrams[1], "let0", 4, 0) == 4);
    for (int i = 0; i < 2; i++) {
        MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, long_pair[i]) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, whole_pair[i]) == 0);
        MAKE(send(whole_pair[i][1], "abc", 3, 0) == 3);
    }
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, full_pair) == 0);
    while (send(full_pair[0], long_bytes, 1000, MSG_DONTWAIT) > 0) continue;
    MAKE(errno == EAGAIN);
    struct timeval timeout = {2, 0};
    MAKE(setsockopt(full_pair[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0);
    MAKE(setsockopt(slow_pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
    MAKE(fcntl(filled_pipe[1], F_SETPIPE_SZ, 4096) == 4096);
    char bytes[5000] = {0};
    MAKE(write(filled_pipe[1], bytes, 4096) == 4096 && send(pair[1], "abc", 3, 0) == 3);
    MAKE(sem_init(&posted, 0, 0) == 0 && sem_init(&never_posted, 0, 0) == 0 && pthread_mutex_lock(&held) == 0);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    MAKE(pthread_cond_init(&never_monotonic, &attributes) == 0);
    MAKE(pthread_create(&joined, NULL, run_joined, (void *)1234) == 0);
    for (int i = 0; i < COUNT; i++) MAKE(pthread_create(&calls[i].thread, NULL, run, &calls[i]) == 0);
    /* Until each stands before its call. */
    for (int i = 0; i < COUNT; i++)
        while (__atomic_load_n(&calls[i].wait.begun, __ATOMIC_SEQ_CST) == 0) sched_yield();
    struct reference reference;
    let_a_part_pass(&reference);

    ready();

    for (int i = 0; i < COUNT; i++)
        if (!calls[i].lasts)
            CHECK(!__atomic_load_n(&calls[i].returned, __ATOMIC_SEQ_CST), "%s: returned %ld by itself", calls[i].name,
                  calls[i].result);
    CHECK(user_signals == 0, "no signal came by itself");

    /* Those with a duration first, since what wakes the others would wake some of them as well. */
    for (int i = 0; i < COUNT; i++) {
        struct call *call = &calls[i];
        if (!call->lasts) continue;
        CHECK(pthread_join(call->thread, NULL) == 0, "join");
        CHECK(call->result == call->expected, "%s: %ld, expected %ld", call->name, call->result, call->expected);
        /* The kernel counts SO_RCVTIMEO in ticks. */
        check_wait(&call->wait, &reference, strstr(call->name, "TIMEO") != NULL, call->name);
        SAY("blocking calls: %s: %ld, elapsed >= asked", call->name, call->result);
    }
    for (int i = 0; i < COUNT; i++)
        if (!calls[i].lasts)
            CHECK(!__atomic_load_n(&calls[i].returned, __ATOMIC_SEQ_CST), "%s: returned %ld by itself", calls[i].name,
                  calls[i].result);

    uint64_t value = 9;
    CHECK(write(wake[1], "x", 1) == 1 && write(never[1], "x", 1) == 1 && write(pipe_read[1], "four", 4) == 4, "wake");
    CHECK(write(events, &value, 8) == 8 && send(pair[1], "defg", 4, 0) == 4, "wake");
    for (int left = 4096 + 5000; left > 0;) {
        ssize_t length = read(filled_pipe[0], bytes, sizeof bytes);
        CHECK(length > 0, "read");
        left -= length;
    }
    for (int i = 0; i < 2; i++) CHECK(send(whole_pair[i][1], "defg", 4, 0) == 4, "wake");
    CHECK(write(splice_from[1], "four", 4) == 4 && read(splice_to[0], bytes, 4) == 4 && memcmp(bytes, "four", 4) == 0, "splice");
    static char long_read[LONG];
    CHECK(send(datagrams[1], "let1", 4, 0) == 4 && send(datagrams[1], "let2", 4, 0) == 4, "wake");
    int long_ends[] = {long_pipe[0], long_pair[0][1], long_pair[1][1], long_pair[2][1]};
    for (int i = 0; i < 4; i++) {
        for (int got = 0; got < LONG;) {
            ssize_t length = read(long_ends[i], long_read + got, LONG - got);
            CHECK(length > 0, "read of a long transfer");
            got += length;
        }
        CHECK(memcmp(long_read, long_bytes, LONG) == 0, "the long transfer %d came whole and in order", i);
    }
    __atomic_store_n(&futex_words[2], 6, __ATOMIC_SEQ_CST);
    CHECK(syscall(SYS_futex, &futex_words[2], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1, "FUTEX_WAKE");
    sem_post(&posted);
    pthread_mutex_unlock(&held);
    pthread_mutex_lock(&signalled_mutex);
    is_signalled = 1;
    pthread_cond_signal(&signalled);
    pthread_mutex_unlock(&signalled_mutex);
    for (int i = 0; i < COUNT; i++)
        if (calls[i].signal != NONE)
            CHECK(pthread_kill(calls[i].thread, calls[i].signal == QUEUED ? SIGRTMIN + 8 : SIGUSR1) == 0, "kill");
    for (int i = 0; i < COUNT; i++) {
        struct call *call = &calls[i];
        if (call->lasts) continue;
        CHECK(pthread_join(call->thread, NULL) == 0, "join");
        CHECK(call->result == call->expected, "%s: %ld, expected %ld", call->name, call->result, call->expected);
        SAY("blocking calls: %s: stood until the end, %ld", call->name, call->result);
    }
    CHECK(user_signals == 2, "%d signals", (int)user_signals);
    return finish(7);
}
