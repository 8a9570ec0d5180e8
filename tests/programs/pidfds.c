/* Descriptors of processes (pidfd_open(2)): of a child, of the program itself, of a child that has been waited for; one that
 * another child has inherited, one in an epoll, one on its way in a socket. With an argument, what is refused: of a child that has
 * ended and that nobody has waited for, of a thread.
 *
 * Wrong would be: a descriptor of another process, or that tells nothing of its end; a signal that comes to nobody; a wait by it
 * that gives another status or id; a descriptor that blocks and was not to.
 */
#include "program.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef PIDFD_NONBLOCK
#define PIDFD_NONBLOCK O_NONBLOCK
#endif

static volatile sig_atomic_t told;

static void handle(int number) { told = number; }

static int of(pid_t pid, unsigned flags) {
    int own = (int)syscall(SYS_pidfd_open, pid, flags);
    if (own < 0 && errno == ENOSYS) {
        printf("pidfds: this kernel has none\n");
        exit(SKIPPED);
    }
    MAKE(own >= 0);
    return own;
}

static int tell(int process, int signal) { return (int)syscall(SYS_pidfd_send_signal, process, signal, NULL, 0); }

static int has_ended(int process, int patience) {
    struct pollfd one = {.fd = process, .events = POLLIN};
    return poll(&one, 1, patience) == 1 && one.revents & POLLIN;
}

/* The id in /proc/self/fdinfo. */
static long id_of(int process) {
    char path[64], text[512] = {0};
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", process);
    int file = open(path, O_RDONLY);
    MAKE(file >= 0 && read(file, text, sizeof text - 1) > 0 && close(file) == 0);
    char *line = strstr(text, "\nPid:");
    return line ? atol(line + 5) : -2;
}

static void send_over(int to, int what) {
    char byte = 1, space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(head), &what, sizeof what);
    MAKE(sendmsg(to, &message, 0) == 1);
}

static int receive(int from) {
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    int what = -1;
    CHECK(recvmsg(from, &message, 0) == 1 && CMSG_FIRSTHDR(&message), "a descriptor that was on its way");
    memcpy(&what, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof what);
    return what;
}

static int unwaited(void) {
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) _exit(3);
    int process = of(child, 0), status;
    MAKE(has_ended(process, -1));
    ready();
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3, "the child's end");
    ready();
    CHECK(has_ended(process, 0) && tell(process, 0) == -1 && errno == ESRCH, "it has ended");
    SAY("pidfds: of one that nobody had waited for");
    return finish(7);
}

static int of_thread(void) {
    int thread = (int)syscall(SYS_pidfd_open, syscall(SYS_gettid), O_EXCL);
    if (thread < 0) {
        printf("pidfds: none of a thread here\n");
        return SKIPPED;
    }
    ready();
    MAKE(close(thread) == 0);
    ready();
    SAY("pidfds: of a thread");
    return finish(7);
}

int main(int argc, char **argv) {
    int gate[2], over[2], status;
    char byte;
    if (argc > 1) return strcmp(argv[1], "ended") == 0 ? unwaited() : of_thread();
    MAKE(signal(SIGUSR1, handle) != SIG_ERR && pipe(gate) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, over) == 0);
    pid_t gone = fork();
    MAKE(gone >= 0);
    if (gone == 0) _exit(1);
    int ended = of(gone, 0);
    MAKE(waitpid(gone, &status, 0) == gone);

    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        MAKE(close(gate[1]) == 0);
        while (read(gate[0], &byte, 1) == -1 && errno == EINTR && !told) continue;
        CHECK(told == SIGUSR1, "the child's signal: %d", told);
        while (read(gate[0], &byte, 1) != 1) continue;
        _exit(42);
    }
    int process = of(child, 0), twin = dup(process), patient = of(child, PIDFD_NONBLOCK), own = of(getpid(), 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 99};
    MAKE(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, twin, &event) == 0);
    pid_t heir = fork();
    MAKE(heir >= 0);
    if (heir == 0) {
        MAKE(close(gate[0]) == 0 && close(gate[1]) == 0);
        CHECK(has_ended(process, -1), "the heir waits");
        CHECK(tell(process, 0) == 0 || errno == ESRCH, "the heir's signal");
        _exit(43);
    }
    send_over(over[0], patient);

    ready();

    CHECK(id_of(process) == child && id_of(own) == getpid() && id_of(ended) == -1, "ids: %ld, %ld, %ld", id_of(process),
          id_of(own), id_of(ended));
    CHECK(has_ended(ended, 0) && tell(ended, 0) == -1 && errno == ESRCH, "one that has ended");
    CHECK(waitid(P_PIDFD, ended, &(siginfo_t){0}, WEXITED) == -1 && errno == ECHILD, "and has been waited for");
    CHECK(tell(own, SIGUSR1) == 0 && told == SIGUSR1, "a signal to itself");
    CHECK(!has_ended(process, 0) && !has_ended(twin, 0) && epoll_wait(epoll, &event, 1, 0) == 0, "the child lives");
    int arrived = receive(over[1]);
    siginfo_t info = {0};
    CHECK(waitid(P_PIDFD, patient, &info, WEXITED) == -1 && errno == EAGAIN, "one that does not block");
    CHECK(fcntl(arrived, F_GETFL) == fcntl(patient, F_GETFL) && id_of(arrived) == child, "the one that was on its way");
    CHECK(fcntl(process, F_GETFD) == FD_CLOEXEC && fcntl(twin, F_GETFD) == 0, "close-on-exec");
    CHECK(tell(process, SIGUSR1) == 0, "a signal to the child");
    SAY("pidfds: signals, and who has ended");
    CHECK(write(gate[1], "xx", 2) == 2, "the child may end");
    CHECK(epoll_wait(epoll, &event, 1, 10000) == 1 && event.data.u64 == 99, "the epoll");
    CHECK(waitid(P_PIDFD, arrived, &info, WEXITED) == 0 && info.si_pid == child && info.si_status == 42,
          "the wait: pid %d, status %d", info.si_pid, info.si_status);
    CHECK(waitpid(heir, &status, 0) == heir && WIFEXITED(status) && WEXITSTATUS(status) == 43, "the heir: %x", status);
    CHECK(id_of(process) == -1, "it has been waited for");
    SAY("pidfds: the child's end");
    return finish(7);
}
