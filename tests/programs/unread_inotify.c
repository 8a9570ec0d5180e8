/* inotify: events that nobody has read yet at a checkpoint. Instances that watch the same are told the same: what one of them has
 * read at once is what the others must give later, byte for byte, in whichever way they are read.
 *
 * Wrong would be: an event that is lost, told twice, or in another order; a placeholder that the program sees; poll, epoll or
 * FIONREAD that tell something else than the reads; a buffer that is too small and takes an event nevertheless.
 */
#include "program.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define HEAD sizeof(struct inotify_event)
#define MOST 65536
#define ROOM (HEAD + 256)

enum { WHOLE, SINGLY, TIGHT, CUT, LIST, NUMBERED, FORKED, SHARED_LATER, THREADED, COPIED, INSTANCES };

static char expected[MOST];
static size_t length;

static int waiting(int fd) {
    int count = -1;
    CHECK(ioctl(fd, FIONREAD, &count) == 0, "FIONREAD");
    return count;
}

/* The length of the event at `at`. */
static size_t one(size_t at) {
    struct inotify_event event;
    memcpy(&event, expected + at, HEAD);
    return HEAD + event.len;
}

/* Whether the kernel says that there is something to read, by every way of asking. */
static int is_ready(int fd, int epoll) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    struct timeval now = {0, 0};
    struct epoll_event event;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    int polls = poll(&polled, 1, 0), selects = select(fd + 1, &set, NULL, NULL, &now), epolls = epoll_wait(epoll, &event, 1, 0);
    CHECK(polls == selects && polls == epolls, "poll, select and epoll agree: %d %d %d", polls, selects, epolls);
    return polls;
}

static int epoll_of(int fd) {
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    MAKE(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    return epoll;
}

static void make(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0 && close(fd) == 0, "%s is made", path);
}

/* A name of so many bytes. */
static const char *named(size_t bytes) {
    static char name[256];
    memset(name, 'n', bytes);
    name[bytes] = 0;
    return name;
}

static void same(const char *given, ssize_t count, size_t at, const char *way) {
    CHECK(count >= 0 && at + (size_t)count <= length && memcmp(given, expected + at, (size_t)count) == 0, "%s: events at %zu: %zd",
          way, at, count);
}

/* Reads all but the last thing that happens, by buffers of `room` bytes. */
static void read_by(int fd, size_t room, const char *way) {
    char given[MOST];
    for (size_t at = 0; at < length;) {
        size_t fits = 0;
        while (at + fits < length && fits + one(at + fits) <= room) fits += one(at + fits);
        CHECK(waiting(fd) == (int)(length - at + HEAD + 16), "%s: %d wait at %zu", way, waiting(fd), at);
        ssize_t count = read(fd, given, at + fits == length ? fits : room);
        CHECK(count == (ssize_t)fits, "%s: %zd instead of %zu", way, count, fits);
        same(given, count, at, way);
        at += fits;
    }
}

static void *reads_all(void *fd) {
    read_by((int)(intptr_t)fd, ROOM, "a thread");
    return NULL;
}

/* The last thing that happens, behind everything else. */
static void then_later(int fd, const char *way) {
    char given[ROOM];
    CHECK(waiting(fd) == (int)HEAD + 16, "%s: %d wait at the end", way, waiting(fd));
    struct inotify_event event;
    CHECK(read(fd, given, sizeof given) == (ssize_t)HEAD + 16, "%s: the last", way);
    memcpy(&event, given, HEAD);
    CHECK(event.wd == 1 && event.mask == IN_CREATE && strcmp(given + HEAD, "later") == 0, "%s: what happened later", way);
    CHECK(waiting(fd) == 0, "%s: nothing more", way);
}

/* So many events that not all of them have room. */
#define HIGHEST 20000
static int overfull(const char *directory) {
    int most = 0, fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    MAKE(file != NULL && fscanf(file, "%d", &most) == 1 && fclose(file) == 0 && fd >= 0);
    MAKE(mkdir("many", 0700) == 0 && inotify_add_watch(fd, in(directory, "many"), IN_CREATE | IN_DELETE) == 1);
    if (most > HIGHEST) return fd;
    for (int i = 0; i < most; i += 2) MAKE(mkdir("many/one", 0700) == 0 && rmdir("many/one") == 0);
    MAKE(mkdir("many/one", 0700) == 0 && rmdir("many/one") == 0);
    MAKE(waiting(fd) == most * 32 + 16);
    return fd;
}

static void overfull_is_right(int fd, int was) {
    static char given[MOST];
    struct inotify_event event;
    int count = 0, ended = 0;
    ssize_t got;
    while ((got = read(fd, given, sizeof given)) > 0) {
        for (ssize_t at = 0; at < got; at += (ssize_t)(HEAD + event.len), count++) {
            memcpy(&event, given + at, HEAD);
            CHECK(!ended, "nothing after the overflow");
            if (event.mask == IN_Q_OVERFLOW) {
                CHECK(event.wd == -1 && event.len == 0 && count == was, "the overflow comes after %d", count);
                ended = 1;
                continue;
            }
            uint32_t mask = (count % 2 == 0 ? IN_CREATE : IN_DELETE) | IN_ISDIR;
            CHECK(event.wd == 1 && event.mask == mask && event.len == 16 && strcmp(given + at + HEAD, "one") == 0, "number %d: %x",
                  count, event.mask);
        }
    }
    CHECK(got == -1 && errno == EAGAIN && (was == 0 ? count == 0 : ended), "all is read: %d", count);
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: unread_inotify DIRECTORY");
    MAKE(chdir(argv[1]) == 0 && mkdir("watched", 0700) == 0 && mkdir("left", 0700) == 0);
    make("file");
    make("once");

    int fds[INSTANCES], epolls[INSTANCES], twin = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), closed = -1;
    /* The last two: who reads at once, and who never does. */
    for (int i = 0; i <= INSTANCES + 1; i++) {
        int fd = i == INSTANCES ? twin : inotify_init1((i == THREADED ? 0 : IN_NONBLOCK) | IN_CLOEXEC);
        MAKE(fd >= 0 && inotify_add_watch(fd, "watched", IN_CREATE | IN_DELETE | IN_MOVE | IN_ATTRIB) == 1);
        MAKE(inotify_add_watch(fd, "file", IN_MODIFY | IN_CLOSE_WRITE) == 2 && inotify_add_watch(fd, "left", IN_CREATE) == 3);
        MAKE(inotify_add_watch(fd, "once", IN_OPEN) == 4);
        if (i < INSTANCES) epolls[i] = epoll_of(fds[i] = fd);
        if (i > INSTANCES) closed = fd;
    }
    int copy = dup(fds[COPIED]);
    MAKE(copy >= 0);

    make(in("watched", "a"));
    make(in("watched", named(15)));
    make(in("watched", named(16)));
    make(in("watched", named(255)));
    MAKE(rename("watched/a", "watched/b") == 0 && chmod("watched", 0750) == 0);
    for (int i = 0; i < INSTANCES; i++) MAKE(inotify_rm_watch(fds[i], 3) == 0);
    MAKE(inotify_rm_watch(twin, 3) == 0 && inotify_rm_watch(closed, 3) == 0);
    int file = open("file", O_WRONLY);
    MAKE(file >= 0 && write(file, "x", 1) == 1 && close(file) == 0);
    MAKE(unlink(in("watched", named(16))) == 0 && rename("watched/b", "b") == 0 && rename("b", "watched/c") == 0);
    length = (size_t)read(twin, expected, sizeof expected);
    MAKE(length > 16 * HEAD && length < MOST / 2);
    int many = overfull(argv[1]), was = waiting(many) / 32;

    ready();

    for (int i = 0; i < INSTANCES; i++) {
        CHECK(waiting(fds[i]) == (int)length && is_ready(fds[i], epolls[i]) == 1, "instance %d: %d wait", i, waiting(fds[i]));
    }
    char given[MOST];
    errno = 0;
    CHECK(waiting(twin) == 0 && read(twin, given, sizeof given) == -1 && errno == EAGAIN, "who has read has read all");
    make("watched/later");

    ssize_t count = read(fds[WHOLE], given, sizeof given);
    CHECK(count == (ssize_t)length + (ssize_t)HEAD + 16, "all at once, and what has come since: %zd", count);
    same(given, (ssize_t)length, 0, "all at once");
    CHECK(is_ready(fds[WHOLE], epolls[WHOLE]) == 0 && waiting(fds[WHOLE]) == 0, "nothing waits");
    errno = 0;
    CHECK(read(fds[WHOLE], given, sizeof given) == -1 && errno == EAGAIN, "nothing is left");
    SAY("unread inotify: all at once");

    /* For each event a buffer that is too small, more than once, and one that is just large enough. */
    for (size_t at = 0; at < length; at += one(at)) {
        for (size_t room = 0; room < one(at); room += 8) {
            errno = 0;
            CHECK(read(fds[SINGLY], given, room) == -1 && errno == EINVAL, "room for %zu", room);
        }
        count = read(fds[SINGLY], given, one(at));
        CHECK(count == (ssize_t)one(at), "one at %zu: %zd", at, count);
        same(given, count, at, "singly");
        CHECK(waiting(fds[SINGLY]) == (int)(length - at - one(at) + HEAD + 16), "%d wait", waiting(fds[SINGLY]));
    }
    then_later(fds[SINGLY], "singly");
    SAY("unread inotify: one by one");

    read_by(fds[TIGHT], ROOM, "buffers for one");
    then_later(fds[TIGHT], "buffers for one");
    read_by(fds[CUT], 400, "buffers for some");
    then_later(fds[CUT], "buffers for some");
    read_by(copy, MOST, "a copy");
    then_later(copy, "a copy");
    CHECK(close(copy) == 0 && waiting(fds[COPIED]) == 0, "the copy has read the same");
    SAY("unread inotify: by buffers");

    struct iovec parts[] = {{given, one(0)}, {given + one(0), length - one(0)}};
    count = readv(fds[LIST], parts, 2);
    CHECK(count == (ssize_t)length, "readv: %zd", count);
    same(given, count, 0, "readv");
    then_later(fds[LIST], "readv");
    count = syscall(SYS_read, fds[NUMBERED], given, length);
    CHECK(count == (ssize_t)length, "by number: %zd", count);
    same(given, count, 0, "by number");
    then_later(fds[NUMBERED], "by number");
    SAY("unread inotify: by readv and by number");

    pthread_t reader;
    CHECK(pthread_create(&reader, NULL, reads_all, (void *)(intptr_t)fds[THREADED]) == 0 && pthread_join(reader, NULL) == 0, "a thread");
    then_later(fds[THREADED], "one that would wait");
    SAY("unread inotify: a blocking one");

    /* A child takes the first, with a buffer that ends within the second's; the parent the others. */
    int status;
    pid_t child = fork();
    if (child == 0) {
        count = read(fds[FORKED], given, one(0) + HEAD);
        CHECK(count == (ssize_t)one(0), "the child: %zd", count);
        same(given, count, 0, "the child");
        _exit(9);
    }
    CHECK(child != -1 && waitpid(child, &status, 0) == child && status == 0x900, "the child: %x", status);
    count = read(fds[FORKED], given, length - one(0));
    CHECK(count == (ssize_t)(length - one(0)), "after the child: %zd", count);
    same(given, count, one(0), "after the child");
    then_later(fds[FORKED], "after the child");
    child = fork();
    if (child == 0) {
        count = read(fds[SHARED_LATER], given, length);
        same(given, count, 0, "the child alone");
        _exit(count == (ssize_t)length ? 9 : 1);
    }
    CHECK(child != -1 && waitpid(child, &status, 0) == child && status == 0x900, "the child alone: %x", status);
    then_later(fds[SHARED_LATER], "after the child alone");
    SAY("unread inotify: in a child");

    /* Closed with all that it holds: its number may be anything else's. */
    struct inotify_event looks_so = {.wd = 0x40000001, .mask = IN_IGNORED};
    int tell[2];
    CHECK(close(closed) == 0 && pipe(tell) == 0 && write(tell[1], &looks_so, HEAD) == HEAD, "a pipe");
    CHECK(read(tell[0], given, sizeof given) == HEAD && memcmp(given, &looks_so, HEAD) == 0, "what looks like it is not it");
    overfull_is_right(many, was);
    SAY("unread inotify: a closed one, and too many");

    int next = inotify_add_watch(fds[WHOLE], ".", IN_CREATE);
    CHECK(next == 5, "the next number: %d", next);
    CHECK((next = open("once", O_RDONLY)) >= 0 && close(next) == 0, "once more");
    CHECK(read(fds[WHOLE], given, sizeof given) == HEAD, "the watch works");
    return finish(7);
}
