/* signalfd: which signals it tells of, flags, what waits, a thread that reads, an epoll that watches it; shared with a child, of
 * which each reads its own.
 *
 * Wrong would be: a signal that is lost or told of twice, another sender or value, one that the mask does not have, a reader
 * that ends with EINTR.
 */
#include "program.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

static sigset_t set_of(int first, int second) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, first);
    sigaddset(&set, second);
    return set;
}

static struct signalfd_siginfo take(int fd, int signal) {
    struct signalfd_siginfo info;
    CHECK(read(fd, &info, sizeof info) == sizeof info && (int)info.ssi_signo == signal, "signal %d", signal);
    return info;
}

static void *reads(void *fd) {
    take((int)(intptr_t)fd, SIGUSR2);
    return NULL;
}

int main(void) {
    sigset_t all, queued = set_of(SIGRTMIN, SIGUSR1), waited = set_of(SIGUSR2, SIGHUP), chosen = set_of(SIGTERM, SIGINT);
    pthread_t reader;
    sigfillset(&all);
    MAKE(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    int told = signalfd(-1, &queued, SFD_NONBLOCK | SFD_CLOEXEC), blocking = signalfd(-1, &waited, 0);
    int changed = signalfd(-1, &queued, SFD_NONBLOCK), epoll = epoll_create1(EPOLL_CLOEXEC);
    MAKE(told >= 0 && blocking >= 0 && changed >= 0 && epoll >= 0 && signalfd(changed, &chosen, 0) == changed);
    struct epoll_event watch = {.events = EPOLLIN, .data.u64 = 77}, event;
    MAKE(epoll_ctl(epoll, EPOLL_CTL_ADD, changed, &watch) == 0);
    struct flags flags[] = {flags_of(told), flags_of(blocking), flags_of(changed)};
    MAKE(pthread_create(&reader, NULL, reads, (void *)(intptr_t)blocking) == 0);
    pid_t child = fork();
    MAKE(child != -1);
    if (child == 0) {
        MAKE(sigqueue(getppid(), SIGRTMIN, (union sigval){.sival_int = 1}) == 0);
        MAKE(sigqueue(getppid(), SIGRTMIN, (union sigval){.sival_int = 2}) == 0);
        take(blocking, SIGHUP);
        _exit(9);
    }
    struct pollfd both = {told, POLLIN, 0};
    MAKE(poll(&both, 1, -1) == 1);
    for (sigset_t seen;; poll(NULL, 0, 1)) {
        char status;
        /* Both of the child's have come when it stands in its read. */
        MAKE(sigpending(&seen) == 0);
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/stat", child);
        FILE *file = fopen(path, "r");
        MAKE(file != NULL && fgets(line, sizeof line, file) != NULL);
        fclose(file);
        MAKE(sscanf(strrchr(line, ')') + 2, "%c", &status) == 1);
        if (status == 'S' && sigismember(&seen, SIGRTMIN)) break;
    }
    MAKE(raise(SIGTERM) == 0);

    ready();

    CHECK(same_flags(told, flags[0]) && same_flags(blocking, flags[1]) && same_flags(changed, flags[2]), "flags");
    for (int value = 1; value <= 2; value++) {
        struct signalfd_siginfo info = take(told, SIGRTMIN);
        CHECK(info.ssi_int == value && (pid_t)info.ssi_pid == child && info.ssi_code == SI_QUEUE, "value %d of %d, code %d",
              info.ssi_int, (int)info.ssi_pid, info.ssi_code);
    }
    struct signalfd_siginfo none;
    CHECK(read(told, &none, sizeof none) == -1 && errno == EAGAIN, "no more");
    SAY("signalfd: what waited");
    CHECK(epoll_wait(epoll, &event, 1, 1000) == 1 && event.data.u64 == 77, "epoll");
    CHECK(sigismember(&chosen, SIGTERM) && take(changed, SIGTERM).ssi_pid == (uint32_t)getpid(), "by raise");
    CHECK(epoll_wait(epoll, &event, 1, 0) == 0, "epoll: nothing more");
    CHECK(kill(getpid(), SIGINT) == 0 && epoll_wait(epoll, &event, 1, 1000) == 1, "epoll: new");
    take(changed, SIGINT);
    SAY("signalfd: by epoll");
    CHECK(kill(getpid(), SIGUSR2) == 0 && pthread_join(reader, NULL) == 0, "a thread that reads");
    int status;
    CHECK(kill(child, SIGHUP) == 0 && waitpid(child, &status, 0) == child && status == 0x900, "the child: %x", status);
    SAY("signalfd: who stood in read");
    return finish(7);
}
