/* Ids that stand somewhere since before a checkpoint: in signals that wait to be taken, in locks of a child on a
 * file and in memory, in the owner of a descriptor, in an ended child.
 *
 * Wrong would be: an id by which the program does not know whom it has; a lock that has no owner, or outlives it unnoticed.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

static struct shared {
    pthread_mutex_t robust, robust_inheriting, inheriting;
    volatile int stands, unlock, unlocked, end;
} *shared;

static volatile sig_atomic_t told_of;

static void note(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    told_of = info->si_fd;
}

static void make_lock(pthread_mutex_t *lock, int robust, int inherit) {
    pthread_mutexattr_t attributes;
    MAKE(pthread_mutexattr_init(&attributes) == 0);
    MAKE(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    if (robust) MAKE(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    if (inherit) MAKE(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    MAKE(pthread_mutex_init(lock, &attributes) == 0);
}

static void hold(int file, pid_t parent) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 5};
    MAKE(fcntl(file, F_SETLK, &lock) == 0 && pthread_mutex_lock(&shared->robust) == 0);
    MAKE(pthread_mutex_lock(&shared->robust_inheriting) == 0 && pthread_mutex_lock(&shared->inheriting) == 0);
    MAKE(sigqueue(parent, SIGRTMIN + 5, (union sigval){.sival_int = 4242}) == 0);
    shared->stands = 1;
    while (!shared->unlock) usleep(1000);
    shared->unlocked = pthread_mutex_unlock(&shared->inheriting) == 0 ? 1 : -1;
    while (!shared->end) usleep(1000);
    _exit(12);
}

static int take(int number, siginfo_t *info) {
    struct timespec none = {0, 0};
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    return sigtimedwait(&one, info, &none) == number;
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    int stream[2], status;
    pid_t me = getpid();
    siginfo_t info;
    sigset_t blocked;
    MAKE(argc == 2);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(shared != MAP_FAILED);
    make_lock(&shared->robust, 1, 0);
    make_lock(&shared->robust_inheriting, 1, 1);
    make_lock(&shared->inheriting, 0, 1);
    int file = open(in(argv[1], "locked"), O_RDWR | O_CREAT, 0600);
    MAKE(file >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0);
    MAKE(sigemptyset(&blocked) == 0 && sigaddset(&blocked, SIGRTMIN + 5) == 0 && sigaddset(&blocked, SIGCHLD) == 0);
    MAKE(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0 && sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) hold(file, me);
    while (!shared->stands) usleep(1000);
    pid_t ended = fork();
    MAKE(ended >= 0);
    if (ended == 0) _exit(77);
    MAKE(waitid(P_PID, ended, &info, WEXITED | WNOWAIT) == 0);
    MAKE(fcntl(stream[0], F_SETOWN, me) == 0 && fcntl(stream[0], F_SETSIG, SIGRTMIN + 3) == 0);
    MAKE(fcntl(stream[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0);

    ready();

    CHECK(take(SIGRTMIN + 5, &info) && info.si_pid == child && info.si_value.sival_int == 4242, "the child's signal: from %d instead of %d",
          info.si_pid, child);
    CHECK(take(SIGCHLD, &info) && info.si_pid == ended && info.si_code == CLD_EXITED && info.si_status == 77,
          "of the ended child: from %d instead of %d", info.si_pid, ended);
    CHECK(waitpid(ended, &status, 0) == ended && WEXITSTATUS(status) == 77, "the ended child");
    CHECK(fcntl(stream[0], F_GETOWN) == me && fcntl(stream[0], F_GETSIG) == SIGRTMIN + 3, "owner %d", fcntl(stream[0], F_GETOWN));
    CHECK(write(stream[1], "a", 1) == 1, "write");
    for (int i = 0; i < 5000 && !told_of; i++) usleep(1000);
    CHECK(told_of == stream[0], "the owner was told of descriptor %d", (int)told_of);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 5};
    CHECK(fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_pid == child, "locked by %d instead of %d", lock.l_pid, child);
    CHECK(pthread_mutex_trylock(&shared->robust) == EBUSY && pthread_mutex_trylock(&shared->robust_inheriting) == EBUSY, "the child's locks");
    shared->unlock = 1;
    while (!shared->unlocked) usleep(1000);
    CHECK(shared->unlocked == 1 && pthread_mutex_lock(&shared->inheriting) == 0, "a lock that the child has given back");
    CHECK(pthread_mutex_unlock(&shared->inheriting) == 0, "unlock");
    shared->end = 1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 12, "the child: %x", status);
    CHECK(pthread_mutex_trylock(&shared->robust) == EOWNERDEAD, "a robust lock of an ended child");
    CHECK(pthread_mutex_trylock(&shared->robust_inheriting) == EOWNERDEAD, "one that lends priority");
    SAY("earlier ids: whom they meant, they mean");
    return finish(7);
}
