/* A descriptor that nobody can save: an io_uring, a fanotify, an inotify that two processes have, with an event, a lease that somebody waits
 * for, a listening socket, or a message queue in which a thread waits.
 *
 * In the first round a checkpoint must be refused by the object's name, and the program must not notice: the object
 * still works. In the second it is closed, and a checkpoint must work.
 */
#include "program.h"

#include <arpa/inet.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#endif

static const char *notified;

static int ring(void) {
#ifdef IORING_OFF_SQ_RING
    struct io_uring_params parameters;
    memset(&parameters, 0, sizeof parameters);
    return syscall(SYS_io_uring_setup, 8, &parameters);
#else
    errno = ENOSYS;
    return -1;
#endif
}

static int ring_works(int fd) {
#ifdef IORING_OFF_SQ_RING
    return syscall(SYS_io_uring_enter, fd, 0, 0, 0, NULL, 0) == 0;
#else
    return fd < 0;
#endif
}

/* A wait that no refused checkpoint may end. */
static void *wait_for_message(void *argument) {
    char text[64];
    struct timespec end = timespec_of(nanoseconds(CLOCK_REALTIME) + 1000 * SECONDS);
    ssize_t length = mq_timedreceive((int)(intptr_t)argument, text, sizeof text, NULL, &end);
    CHECK(length == 4 && memcmp(text, "four", 4) == 0, "mq_timedreceive: %zd", length);
    return NULL;
}

/* Waits for the lease to be given up. */
static volatile int has_opened;
static void *open_it(void *path) {
    int fd = open(path, O_RDONLY);
    has_opened = 1;
    CHECK(fd >= 0 && close(fd) == 0, "open of a file with a lease");
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 3, "usage: unknown_descriptor io_uring|fanotify|inotify|moved|lease|mapped|listening|queue|notified DIRECTORY");
    pthread_t waiter;
    pid_t other = -1;
    const char *kind = argv[1], *directory = argv[2];
    int fd = -1;
    void *mapped = NULL;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (strcmp(kind, "io_uring") == 0) {
        if ((fd = ring()) < 0) {
            printf("io_uring cannot be had here: %s\n", strerror(errno));
            return SKIPPED;
        }
    } else if (strcmp(kind, "fanotify") == 0) {
        fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_FID, O_RDONLY);
        if (fd < 0 || fanotify_mark(fd, FAN_MARK_ADD, FAN_CREATE | FAN_ONDIR, AT_FDCWD, directory) != 0) {
            printf("fanotify cannot be had here: %s\n", strerror(errno));
            return SKIPPED;
        }
    } else if (strcmp(kind, "inotify") == 0) {
        MAKE(mkdir(in(directory, "watched"), 0700) == 0);
        MAKE((fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0);
        MAKE(inotify_add_watch(fd, in(directory, "watched"), IN_CREATE) >= 0);
        /* It waits to be read. */
        MAKE(mkdir(in(directory, "watched/early"), 0700) == 0 && (other = fork()) != -1);
        while (other == 0) pause();
    } else if (strcmp(kind, "moved") == 0) {
        MAKE(mkdir(in(directory, "watched"), 0700) == 0 && (fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0);
        MAKE(inotify_add_watch(fd, in(directory, "watched"), IN_CREATE) == 1 && chdir(directory) == 0);
        MAKE(rename("watched", "elsewhere") == 0);
    } else if (strcmp(kind, "mapped") == 0) {
        MAKE((fd = open(in(directory, "leased"), O_CREAT | O_RDWR, 0600)) >= 0 && ftruncate(fd, 4096) == 0);
        if (fcntl(fd, F_SETLEASE, F_WRLCK) == -1) {
            printf("leases cannot be had here: %s\n", strerror(errno));
            return SKIPPED;
        }
        MAKE((mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED);
    } else if (strcmp(kind, "lease") == 0) {
        MAKE((fd = open(in(directory, "leased"), O_CREAT | O_RDWR, 0600)) >= 0 && signal(SIGIO, SIG_IGN) != SIG_ERR);
        if (fcntl(fd, F_SETLEASE, F_WRLCK) == -1) {
            printf("leases cannot be had here: %s\n", strerror(errno));
            return SKIPPED;
        }
        MAKE(pthread_create(&waiter, NULL, open_it, strdup(in(directory, "leased"))) == 0);
        for (int lease = F_WRLCK; lease == F_WRLCK; usleep(1000)) lease = fcntl(fd, F_GETLEASE);
    } else if (strcmp(kind, "queue") == 0) {
        char name[64];
        snprintf(name, sizeof name, "/zap-unknown-%d", getpid());
        struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = 64};
        MAKE((fd = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes)) >= 0 && mq_unlink(name) == 0);
        MAKE(pthread_create(&waiter, NULL, wait_for_message, (void *)(intptr_t)fd) == 0);
    } else if (strcmp(kind, "notified") == 0) {
        char name[64];
        snprintf(name, sizeof name, "/zap-notified-%d", getpid());
        struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = 64};
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCHLD};
        notified = strdup(name);
        MAKE((fd = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes)) >= 0 && mq_notify(fd, &event) == 0);
    } else {
        MAKE((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0);
        MAKE(listen(fd, 5) == 0 && getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    }

    ready();

    if (strcmp(kind, "io_uring") == 0) {
        CHECK(ring_works(fd), "the ring works");
    } else if (strcmp(kind, "fanotify") == 0) {
        char space[4096];
        CHECK(mkdir(in(directory, "seen"), 0700) == 0 && read(fd, space, sizeof space) > 0, "it tells of an event");
    } else if (strcmp(kind, "inotify") == 0) {
        char space[4096];
        struct inotify_event event;
        CHECK(read(fd, space, sizeof space) > (ssize_t)sizeof event, "the watch tells of an event");
        memcpy(&event, space, sizeof event);
        CHECK((event.mask & IN_CREATE) && strcmp(space + sizeof event, "early") == 0, "the event has waited");
        CHECK(mkdir(in(directory, "watched/seen"), 0700) == 0, "mkdir");
        CHECK(read(fd, space, sizeof space) > (ssize_t)sizeof event, "the watch tells of another");
        memcpy(&event, space, sizeof event);
        CHECK((event.mask & IN_CREATE) && strcmp(space + sizeof event, "seen") == 0, "the watch works");
        CHECK(kill(other, SIGKILL) == 0 && waitpid(other, NULL, 0) == other, "the other process");
    } else if (strcmp(kind, "moved") == 0) {
        struct inotify_event event;
        char space[4096];
        CHECK(mkdir("elsewhere/seen", 0700) == 0 && read(fd, space, sizeof space) > (ssize_t)sizeof event, "an event");
        memcpy(&event, space, sizeof event);
        CHECK(event.wd == 1 && event.mask == (IN_CREATE | IN_ISDIR) && strcmp(space + sizeof event, "seen") == 0, "of the watch");
    } else if (strcmp(kind, "mapped") == 0) {
        CHECK(fcntl(fd, F_GETLEASE) == F_WRLCK && munmap(mapped, 4096) == 0, "the lease is there");
    } else if (strcmp(kind, "lease") == 0) {
        CHECK(!has_opened && fcntl(fd, F_GETLEASE) == F_RDLCK && fcntl(fd, F_SETLEASE, F_UNLCK) == 0, "the lease is there, and given up");
        CHECK(pthread_join(waiter, NULL) == 0, "who waits for it goes on");
    } else if (strcmp(kind, "queue") == 0) {
        CHECK(mq_send(fd, "four", 4, 0) == 0 && pthread_join(waiter, NULL) == 0, "the waiter is served");
    } else if (strcmp(kind, "notified") == 0) {
        struct sigevent event = {.sigev_notify = SIGEV_NONE};
        CHECK(mq_notify(fd, &event) == -1 && errno == EBUSY, "it is still to tell of a message");
        CHECK(mq_notify(fd, NULL) == 0 && mq_unlink(notified) == 0, "given up");
    } else {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(client, (struct sockaddr *)&address, length) == 0 && accept(fd, NULL, NULL) >= 0, "it listens");
        for (int i = fd + 1; i < fd + 3; i++) close(i);
    }
    SAY("unknown descriptor: %s still works", kind);
    CHECK(close(fd) == 0, "close");

    ready();

    errno = 0;
    CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF, "it stays closed");
    SAY("unknown descriptor: %s is closed", kind);
    return finish(7);
}
