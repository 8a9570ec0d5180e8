/* Threads that are cancelled (pthread_cancel(3)) while they wait, in every call that waits; asynchronously; with the
 * cancellation disabled; and before the checkpoint, to be noticed after it. Threads beside them end by pthread_exit from
 * a handler that interrupts the same calls. With a directory as argument: the calls that need files there; with "ipc": those
 * that wait for System V's queues and semaphores, and for POSIX message queues.
 *
 * Wrong would be: a thread that goes on, a join that does not give PTHREAD_CANCELED, a clean-up handler that does not run
 * or runs twice, a lock of Zap's that a cancelled thread leaves behind.
 */
#include "program.h"

#include <arpa/inet.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

enum call {
    LOCK,
    RECORD_LOCK,
    OPEN_FIFO,
    ACCEPT,
    ACCEPT4,
    CONNECT,
    FILES,
    READ = FILES,
    READV,
    WRITE,
    WRITEV,
    PAUSE,
    NANOSLEEP,
    CLOCK_NANOSLEEP,
    CLOCK_NANOSLEEP_UNTIL,
    SLEEP,
    USLEEP,
    POLL,
    PPOLL,
    SELECT,
    PSELECT,
    EPOLL_WAIT,
    EPOLL_PWAIT,
    EPOLL_PWAIT2,
    SEM_WAIT,
    SEM_TIMEDWAIT,
    SEM_CLOCKWAIT,
    COND_WAIT,
    COND_TIMEDWAIT,
    COND_CLOCKWAIT,
    RECV,
    RECVFROM,
    RECVMSG,
    RECV_ALL,
    SEND,
    SENDTO,
    SENDMSG,
    RECVMMSG,
    SENDMMSG,
    SPLICE,
    WAITPID,
    WAITID,
    WAIT3,
    WAIT4,
    WAIT,
    SIGWAIT,
    SIGTIMEDWAIT,
    SIGWAITINFO,
    SIGSUSPEND,
    JOIN,
    TIMED_JOIN,
    CLOCK_JOIN,
    IPC,
    MSGRCV = IPC,
    MSGSND,
    SEMOP,
    SEMTIMEDOP,
    MQ_RECEIVE,
    MQ_SEND,
    MQ_TIMEDRECEIVE,
    MQ_TIMEDSEND,
    ASYNCHRONOUS,
    PENDING,
    DISABLED,
    CALLS
};

static const char *const names[CALLS] = {
    "fcntl",       "F_SETLKW",     "open",           "accept",          "accept4",     "connect",
    "read",        "readv",        "write",          "writev",          "pause",       "nanosleep",
    "clock_nanosleep", "clock_nanosleep until", "sleep", "usleep",      "poll",        "ppoll",
    "select",      "pselect",      "epoll_wait",     "epoll_pwait",     "epoll_pwait2", "sem_wait",
    "sem_timedwait", "sem_clockwait", "cond_wait",   "cond_timedwait",  "cond_clockwait", "recv",
    "recvfrom",    "recvmsg",      "recv of all",    "send",            "sendto",      "sendmsg",
    "recvmmsg",    "sendmmsg",     "splice",         "waitpid",         "waitid",      "wait3",
    "wait4",       "wait",
    "sigwait",     "sigtimedwait", "sigwaitinfo",    "sigsuspend",      "join",        "timedjoin",
    "clockjoin",   "msgrcv",       "msgsnd",         "semop",       "semtimedop",  "mq_receive",
    "mq_send",     "mq_timedreceive", "mq_timedsend", "asynchronous",   "pending",     "disabled"};

static int cleaned[CALLS], cleaned_outer[CALLS], went_on[CALLS];
static int empty_pipe[2], other_pipe[2], full_pipe[2], sockets[2], full_sockets[2], epoll, locked[2];
static const char *fifo;
static int listener, semaphores, queue, full_queue;
static mqd_t named_queue, full_named_queue;
static char queue_names[2][64];
static struct sockaddr_un full_name;
static int child_ends[2];
static pid_t child;
/* More than fits into a socket, however full it is after a restart. */
static char large[1 << 20];
static sem_t standing, never, go;
static pthread_mutex_t mutexes[3] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_t threads[CALLS], leavers[CALLS], forever[3];
static int left[CALLS];
static volatile int spinning = 1;

static void clean(void *argument) { ++*(int *)argument; }

static void clean_and_unlock(void *argument) { CHECK(pthread_mutex_unlock(argument) == 0, "the mutex is held again"); }

static void *wait_forever(void *argument) {
    while (1) sem_wait(&never);
    return argument;
}

static const struct ipc_message {
    long type;
    char text[64];
} ipc_message = {1, "x"};

static void wait_in(enum call call) {
    char space[16];
    struct timespec hour = {3600, 0}, until, monotonic_until;
    struct timeval hour_of_select = {3600, 0};
    struct iovec part = {space, sizeof space};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct iovec large_part = {large, sizeof large};
    struct msghdr large_message = {.msg_iov = &large_part, .msg_iovlen = 1};
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
    clock_gettime(CLOCK_MONOTONIC, &monotonic_until);
    monotonic_until.tv_sec += 3600;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct mmsghdr messages[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
    struct mmsghdr large_messages[2] = {{.msg_hdr = large_message}, {.msg_hdr = large_message}};
    struct ipc_message told = ipc_message;
    struct sembuf take = {0, -1, 0};
    int unconnected = call == CONNECT ? socket(AF_UNIX, SOCK_STREAM, 0) : -1;
    siginfo_t ended;
    sem_post(&standing);
    switch (call) {
    case LOCK: CHECK(fcntl(locked[1], F_OFD_SETLKW, &lock) == 99, "fcntl came back"); break;
    case RECORD_LOCK: CHECK(fcntl(locked[1], F_SETLKW, &lock) == 99, "fcntl came back"); break;
    case ACCEPT: accept(listener, NULL, NULL); break;
    case ACCEPT4: accept4(listener, NULL, NULL, SOCK_CLOEXEC); break;
    case CONNECT: connect(unconnected, (struct sockaddr *)&full_name, sizeof full_name); break;
    case OPEN_FIFO: CHECK(open(fifo, O_RDONLY) == 99, "open came back"); break;
    case READ: CHECK(read(empty_pipe[0], space, 1) == 99, "read came back"); break;
    case READV: CHECK(readv(empty_pipe[0], &part, 1) == 99, "readv came back"); break;
    case WRITE: CHECK(write(full_pipe[1], space, 1) == 99, "write came back"); break;
    case WRITEV: CHECK(writev(full_pipe[1], &part, 1) == 99, "writev came back"); break;
    case PAUSE: pause(); break;
    case NANOSLEEP: nanosleep(&hour, NULL); break;
    case CLOCK_NANOSLEEP: clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, NULL); break;
    case CLOCK_NANOSLEEP_UNTIL: clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &monotonic_until, NULL); break;
    case SLEEP: sleep(3600); break;
    case USLEEP: usleep(3600000000u); break;
    case POLL: poll(&poll_of, 1, 3600000); break;
    case PPOLL: ppoll(&poll_of, 1, &hour, NULL); break;
    case SELECT: select(FD_SETSIZE, &set, NULL, NULL, &hour_of_select); break;
    case PSELECT: pselect(FD_SETSIZE, &set, NULL, NULL, &hour, NULL); break;
    case EPOLL_WAIT: epoll_wait(epoll, &event, 1, 3600000); break;
    case EPOLL_PWAIT: epoll_pwait(epoll, &event, 1, -1, &none); break;
    case EPOLL_PWAIT2:
        if (epoll_pwait2(epoll, &event, 1, &hour, NULL) == -1 && errno == ENOSYS) sem_wait(&never);
        break;
    case SEM_WAIT: sem_wait(&never); break;
    case SEM_TIMEDWAIT: sem_timedwait(&never, &until); break;
    case SEM_CLOCKWAIT: sem_clockwait(&never, CLOCK_MONOTONIC, &monotonic_until); break;
    case COND_WAIT:
    case COND_CLOCKWAIT:
    case COND_TIMEDWAIT: {
        pthread_mutex_t *mutex = &mutexes[call - COND_WAIT];
        pthread_mutex_lock(mutex);
        pthread_cleanup_push(clean_and_unlock, mutex);
        while (1) {
            if (call == COND_WAIT) pthread_cond_wait(&condition, mutex);
            else if (call == COND_TIMEDWAIT) pthread_cond_timedwait(&condition, mutex, &until);
            else pthread_cond_clockwait(&condition, mutex, CLOCK_MONOTONIC, &monotonic_until);
        }
        pthread_cleanup_pop(1);
        break;
    }
    case RECV: recv(sockets[0], space, 1, 0); break;
    case RECVFROM: recvfrom(sockets[0], space, 1, 0, NULL, NULL); break;
    case RECVMSG: recvmsg(sockets[0], &message, 0); break;
    case RECV_ALL: recv(sockets[0], space, sizeof space, MSG_WAITALL); break;
    case SEND: send(full_sockets[1], large, sizeof large, 0); break;
    case SENDTO: sendto(full_sockets[1], large, sizeof large, 0, NULL, 0); break;
    case SENDMSG: sendmsg(full_sockets[1], &large_message, 0); break;
    case RECVMMSG: recvmmsg(sockets[0], messages, 2, 0, NULL); break;
    case SENDMMSG: sendmmsg(full_sockets[1], large_messages, 2, 0); break;
    case WAITPID: waitpid(child, NULL, 0); break;
    case WAITID: waitid(P_PID, (id_t)child, &ended, WEXITED); break;
    case WAIT3: wait3(NULL, 0, NULL); break;
    case WAIT4: wait4(child, NULL, 0, NULL); break;
    case WAIT: wait(NULL); break;
    case SPLICE: CHECK(splice(empty_pipe[0], NULL, other_pipe[1], NULL, 1, 0) == 99, "splice came back"); break;
    case SIGWAIT: sigwait(&signals, &number); break;
    case SIGTIMEDWAIT: sigtimedwait(&signals, NULL, &hour); break;
    case SIGWAITINFO: sigwaitinfo(&signals, NULL); break;
    case SIGSUSPEND: sigsuspend(&signals); break;
    case JOIN: pthread_join(forever[0], NULL); break;
    case TIMED_JOIN: pthread_timedjoin_np(forever[1], NULL, &until); break;
    case CLOCK_JOIN: pthread_clockjoin_np(forever[2], NULL, CLOCK_MONOTONIC, &monotonic_until); break;
    case MSGRCV: msgrcv(queue, &told, sizeof told.text, 0, 0); break;
    case MSGSND: msgsnd(full_queue, &told, sizeof told.text, 0); break;
    case MQ_RECEIVE: mq_receive(named_queue, space, sizeof space, NULL); break;
    case MQ_SEND: mq_send(full_named_queue, space, 1, 0); break;
    case MQ_TIMEDRECEIVE: mq_timedreceive(named_queue, space, sizeof space, NULL, &until); break;
    case MQ_TIMEDSEND: mq_timedsend(full_named_queue, space, 1, 0, &until); break;
    case SEMOP:
    case SEMTIMEDOP:
        /* No points of cancellation. */
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        if (call == SEMOP) semop(semaphores, &take, 1);
        else semtimedop(semaphores, &take, 1, &hour);
        break;
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

/* Ends by pthread_exit from a handler. */
static void *run_and_leave(void *argument) {
    enum call call = (enum call)(long)argument;
    pthread_cleanup_push(clean, &left[call]);
    wait_in(call);
    pthread_cleanup_pop(0);
    return argument;
}

static void leave(int number) { pthread_exit((void *)(long)number); }

/* A thread can be joined by one only. */
static int can_leave(enum call call) { return call < JOIN; }

static void start_leaver(enum call call) {
    if (can_leave(call))
        MAKE(pthread_create(&leavers[call], NULL, run_and_leave, (void *)(long)call) == 0 && sem_wait(&standing) == 0);
}

static void check_left(enum call call) {
    void *result = NULL;
    if (!can_leave(call)) return;
    int went = went_on[call];
    CHECK(pthread_kill(leavers[call], SIGUSR1) == 0 && pthread_join(leavers[call], &result) == 0, "%s: join", names[call]);
    CHECK(result == (void *)(long)SIGUSR1 && left[call] == 1 && went_on[call] == went, "%s: pthread_exit from a handler",
          names[call]);
    left[call] = 0;
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

/* Threads that spin, cancelled asynchronously one after the other. */
static void cancel_spinning(void) {
    for (int i = 0; i < 50; i++) {
        cleaned[ASYNCHRONOUS] = cleaned_outer[ASYNCHRONOUS] = 0;
        start(ASYNCHRONOUS);
        CHECK(pthread_cancel(threads[ASYNCHRONOUS]) == 0, "cancel");
        check_cancelled(ASYNCHRONOUS);
    }
}

static void fill_up(int fd) {
    char page[4096] = {0};
    MAKE(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    while (write(fd, page, sizeof page) > 0) continue;
    while (write(fd, page, 1) > 0) continue;
    MAKE(fcntl(fd, F_SETFL, 0) == 0);
}

static int listen_at(const char *path, int backlog, struct sockaddr_un *name) {
    int made = socket(AF_UNIX, SOCK_STREAM, 0);
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(name->sun_path, sizeof name->sun_path, "%s", path);
    MAKE(made >= 0 && bind(made, (struct sockaddr *)name, sizeof *name) == 0 && listen(made, backlog) == 0);
    return made;
}

static void make_files(const char *directory) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct sockaddr_un name;
    int one;
    MAKE(chdir(directory) == 0 && mkfifo(fifo = "fifo", 0600) == 0);
    MAKE((locked[0] = open("locked", O_RDWR | O_CREAT, 0600)) >= 0 && (locked[1] = open("locked", O_RDWR)) >= 0);
    MAKE(fcntl(locked[0], F_OFD_SETLK, &lock) == 0);
    listener = listen_at("listener", 5, &name);
    listen_at("full", 1, &full_name);
    do MAKE((one = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
    while (connect(one, (struct sockaddr *)&full_name, sizeof full_name) == 0);
    MAKE(errno == EAGAIN && close(one) == 0);
}

static void make_queues(void) {
    MAKE((semaphores = semget(IPC_PRIVATE, 1, 0600)) >= 0 && (queue = msgget(IPC_PRIVATE, 0600)) >= 0);
    MAKE((full_queue = msgget(IPC_PRIVATE, 0600)) >= 0);
    while (msgsnd(full_queue, &ipc_message, sizeof ipc_message.text, IPC_NOWAIT) == 0) continue;
    MAKE(errno == EAGAIN);
    struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 16};
    for (int i = 0; i < 2; i++) {
        snprintf(queue_names[i], sizeof queue_names[i], "/zap-cancellation-%d-%d", (int)getpid(), i);
        mqd_t made = mq_open(queue_names[i], O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
        MAKE(made >= 0);
        *(i == 0 ? &named_queue : &full_named_queue) = made;
    }
    MAKE(mq_send(full_named_queue, "x", 1, 0) == 0);
}

/* A child that lives as long as the program wants. */
static void make_child(void) {
    char byte;
    MAKE(pipe(child_ends) == 0 && (child = fork()) >= 0);
    if (child == 0) {
        close(child_ends[1]);
        while (read(child_ends[0], &byte, 1) != 0) continue;
        _exit(5);
    }
    MAKE(close(child_ends[0]) == 0);
}

int main(int argc, char **argv) {
    int ipc = argc > 1 && strcmp(argv[1], "ipc") == 0, files = argc > 1 && !ipc;
    enum call first = files ? 0 : ipc ? IPC : FILES, end = files ? FILES : ipc ? ASYNCHRONOUS : IPC;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    MAKE(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0 && signal(SIGUSR1, leave) != SIG_ERR);
    MAKE(pipe(empty_pipe) == 0 && pipe(other_pipe) == 0 && pipe(full_pipe) == 0);
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0 && (epoll = epoll_create1(0)) >= 0);
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, full_sockets) == 0);
    fill_up(full_pipe[1]);
    fill_up(full_sockets[1]);
    if (files) make_files(argv[1]);
    if (ipc) make_queues();
    if (!files && !ipc) make_child();
    struct epoll_event event = {.events = EPOLLIN};
    MAKE(epoll_ctl(epoll, EPOLL_CTL_ADD, empty_pipe[0], &event) == 0);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&never, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    for (int i = 0; i < 3; i++) MAKE(pthread_create(&forever[i], NULL, wait_forever, NULL) == 0);
    for (enum call call = first; call < end; call++) start_leaver(call);
    for (enum call call = first; call < end; call++) start(call);
    for (enum call call = ASYNCHRONOUS; call < CALLS; call++) start(call);
    MAKE(pthread_cancel(threads[PENDING]) == 0 && pthread_cancel(threads[DISABLED]) == 0);

    ready();

    for (enum call call = first; call < end; call++) check_left(call);
    SAY("cancellation: handlers that end threads");
    for (enum call call = first; call < end; call++) {
        CHECK(pthread_cancel(threads[call]) == 0, "%s: cancel", names[call]);
        check_cancelled(call);
        SAY("cancellation: in %s", names[call]);
    }
    CHECK(pthread_cancel(threads[ASYNCHRONOUS]) == 0, "cancel");
    check_cancelled(ASYNCHRONOUS);
    cancel_spinning();
    SAY("cancellation: asynchronously");
    spinning = 0;
    sem_post(&go);
    check_cancelled(PENDING);
    check_cancelled(DISABLED);
    SAY("cancellation: asked for before, noticed after; disabled, then enabled");
    for (enum call call = first; call < end; call++) {
        cleaned[call] = cleaned_outer[call] = 0;
        start(call);
        CHECK(pthread_cancel(threads[call]) == 0, "%s: cancel", names[call]);
        check_cancelled(call);
        start_leaver(call);
        check_left(call);
    }
    SAY("cancellation: all calls once more, by new threads");
    for (int i = 0; i < 3; i++)
        CHECK(pthread_cancel(forever[i]) == 0 && pthread_join(forever[i], NULL) == 0, "the threads that others joined");
    if (ipc) {
        MAKE(mq_unlink(queue_names[0]) == 0 && mq_unlink(queue_names[1]) == 0);
        MAKE(semctl(semaphores, 0, IPC_RMID) == 0 && msgctl(queue, IPC_RMID, NULL) == 0 && msgctl(full_queue, IPC_RMID, NULL) == 0);
    } else if (!files) {
        int status;
        MAKE(close(child_ends[1]) == 0);
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5, "the child that was waited for");
    }
    return finish(7);
}
