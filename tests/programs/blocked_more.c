/* Threads that stand in calls of which others tell less: futex_waitv, accept, connect to a full queue, F_SETLKW, waitid, locks
 * with a time by a given clock, one of which expires.
 *
 * Wrong would be: a call that comes back before what it waits for, with another result, or that never does.
 */
#include "program.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { WAITV, ACCEPT, CONNECT, RECORD, WAITID, RWLOCK, CLOCKLOCK, EXPIRING, CALLS };

static const char *names[CALLS] = {"futex_waitv", "accept",       "connect",  "F_SETLKW",
                                   "waitid",      "timedwrlock", "clocklock", "clocklock that expires"};
static atomic_int done[CALLS];
static atomic_int let_go;
static _Atomic uint32_t word;
static int listener, full, to_full, locked, child_ends[2];
static pid_t child;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static int64_t deadline;

static struct sockaddr_un name_of(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    return address;
}

static int listen_at(const char *name, int backlog) {
    struct sockaddr_un address = name_of(name);
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(name);
    MAKE(made >= 0 && bind(made, (struct sockaddr *)&address, sizeof address) == 0 && listen(made, backlog) == 0);
    return made;
}

static int connect_to(const char *name, int flags) {
    struct sockaddr_un address = name_of(name);
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    MAKE(made >= 0);
    if (connect(made, (struct sockaddr *)&address, sizeof address) == 0) return made;
    close(made);
    return -1;
}

static int wait_in(int call) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    struct futex_waitv waiter = {.uaddr = (uintptr_t)&word, .val = 0, .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG};
    struct timespec later = timespec_of(nanoseconds(CLOCK_MONOTONIC) + 300 * SECONDS), at = timespec_of(deadline);
    struct timespec wall = timespec_of(nanoseconds(CLOCK_REALTIME) + 300 * SECONDS);
    siginfo_t told = {0};
    switch (call) {
    case WAITV: {
        long woken = syscall(SYS_futex_waitv, &waiter, 1, 0, NULL, 0);
        /* Linux before 5.16 has none. */
        while (woken == -1 && errno == ENOSYS && !let_go) usleep(1000);
        if (woken == -1 && errno == ENOSYS) return 0;
        /* Begun again after the word has changed, as the kernel does it after any signal, it finds that at once. */
        return (woken == 0 || errno == EAGAIN) && word != 0 ? 0 : errno ? errno : -1;
    }
    case ACCEPT: {
        int met = accept(listener, NULL, NULL);
        char byte = 0;
        return met >= 0 && read(met, &byte, 1) == 1 && byte == 'a' ? 0 : -1;
    }
    case CONNECT: return to_full = connect_to("full", 0), to_full >= 0 && write(to_full, "c", 1) == 1 ? 0 : errno;
    case RECORD: return fcntl(locked, F_SETLKW, &lock) == 0 ? 0 : errno;
    case WAITID:
        return waitid(P_PID, (id_t)child, &told, WEXITED) == 0 && told.si_pid == child && told.si_status == 5 ? 0 : -1;
    case RWLOCK: return pthread_rwlock_timedwrlock(&rwlock, &wall);
    case CLOCKLOCK: return pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &later);
    default: {
        int error = pthread_mutex_clocklock(&held, CLOCK_MONOTONIC, &at);
        int64_t late = nanoseconds(CLOCK_MONOTONIC) - deadline;
        return error == ETIMEDOUT && late >= 0 && late < 3 * SECONDS ? 0 : -1;
    }
    }
}

static void *stand(void *argument) {
    int call = (int)(intptr_t)argument, error = wait_in(call);
    CHECK(error == 0, "%s: %d %s", names[call], error, strerror(error));
    CHECK(let_go || call == EXPIRING, "%s came back too early", names[call]);
    done[call] = 1;
    return argument;
}

/* Holds the record lock until its pipe ends. */
static void hold(void) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    int file = open("record", O_RDWR);
    char byte = 'r';
    close(child_ends[1]);
    if (file < 0 || fcntl(file, F_SETLK, &lock) != 0) _exit(1);
    int told = open("holds", O_WRONLY | O_CREAT, 0600);
    if (told < 0) _exit(2);
    while (read(child_ends[0], &byte, 1) != 0) continue;
    _exit(5);
}

int main(int argc, char **argv) {
    MAKE(argc == 2 && chdir(argv[1]) == 0);
    locked = open("record", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    unlink("holds");
    MAKE(locked >= 0 && pipe(child_ends) == 0);
    child = fork();
    if (child == 0) hold();
    MAKE(child > 0 && close(child_ends[0]) == 0 && fcntl(child_ends[1], F_SETFD, FD_CLOEXEC) == 0);
    while (access("holds", F_OK) != 0) usleep(1000);
    listener = listen_at("listener", 5);
    full = listen_at("full", 1);
    int waiting = 0, one;
    while ((one = connect_to("full", SOCK_NONBLOCK)) >= 0) waiting++;
    MAKE(waiting > 0 && errno == EAGAIN);
    MAKE(pthread_rwlock_rdlock(&rwlock) == 0 && pthread_mutex_lock(&mutex) == 0 && pthread_mutex_lock(&held) == 0);
    deadline = nanoseconds(CLOCK_MONOTONIC) + 2 * SECONDS;
    pthread_t threads[CALLS];
    for (int i = 0; i < CALLS; i++) MAKE(pthread_create(&threads[i], NULL, stand, (void *)(intptr_t)i) == 0);
    usleep(100000);

    ready();

    for (int i = 0; i < CALLS; i++) CHECK(i == EXPIRING || !done[i], "%s is over", names[i]);
    let_go = 1;
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0);
    int met = connect_to("listener", 0);
    MAKE(met >= 0 && write(met, "a", 1) == 1);
    for (int i = 0; i <= waiting; i++) {
        char byte = 0;
        int taken = accept(full, NULL, NULL);
        CHECK(taken >= 0, "accept from the full queue: %s", strerror(errno));
        if (i == waiting) CHECK(read(taken, &byte, 1) == 1 && byte == 'c', "the last one in the queue");
    }
    MAKE(close(child_ends[1]) == 0);
    MAKE(pthread_rwlock_unlock(&rwlock) == 0 && pthread_mutex_unlock(&mutex) == 0);
    for (int i = 0; i < CALLS; i++) CHECK(pthread_join(threads[i], NULL) == 0 && done[i], "%s", names[i]);
    SAY("blocked more: each came back for what it waited for");
    return finish(7);
}
