/* inotify: what is watched, by which number and for what; paths that were relative, a symbolic link itself, a watch for one event;
 * an epoll and a thread that wait; an instance shared with a child.
 *
 * Wrong would be: an event that is not told of or told of twice, another number, one of what nobody watches, a reader that ends
 * with EINTR, a new watch under an old number.
 */
#include "program.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ROOM (sizeof(struct inotify_event) + 256)

/* struct inotify_event without the name. */
struct event {
    int wd;
    uint32_t mask, cookie, len;
};

/* Takes events one by one, however many a read gives. */
static struct event take(int fd, char *name) {
    static char space[ROOM];
    static ssize_t length, at;
    struct event event;
    if (at == length) {
        at = 0;
        length = read(fd, space, sizeof space);
        CHECK(length >= (ssize_t)sizeof event, "read gives an event: %zd", length);
    }
    memcpy(&event, space + at, sizeof event);
    snprintf(name, 256, "%s", event.len != 0 ? space + at + sizeof event : "");
    at += (ssize_t)(sizeof event + event.len);
    return event;
}

static uint32_t expect(int fd, int watch, uint32_t mask, const char *name) {
    char seen[256];
    struct event event = take(fd, seen);
    CHECK(event.wd == watch && event.mask == mask && strcmp(seen, name) == 0, "watch %d, mask %x, \"%s\" instead of %d, %x, \"%s\"",
          event.wd, event.mask, seen, watch, mask, name);
    return event.cookie;
}

static int nothing(int fd) {
    int count = -1;
    return ioctl(fd, FIONREAD, &count) == 0 && count == 0;
}

static void make(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0 && close(fd) == 0, "%s is made", path);
}

static void change(const char *path) {
    int fd = open(path, O_WRONLY | O_TRUNC);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0, "%s is changed", path);
}

static void *reads(void *fd) {
    struct event event;
    CHECK(read((int)(intptr_t)fd, &event, sizeof event) == sizeof event && event.mask == IN_MODIFY && event.wd == 1,
          "a thread that reads");
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: inotify DIRECTORY");
    MAKE(chdir(argv[1]) == 0 && mkdir("watched", 0700) == 0 && mkdir("watched/inner", 0700) == 0);
    make("file");
    make("once");
    make("read");
    make("child");
    MAKE(symlink("file", "link") == 0 && symlink("watched/inner", "to-inner") == 0);

    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), blocking = inotify_init(), none = inotify_init1(IN_NONBLOCK);
    MAKE(fd >= 0 && blocking >= 0 && none >= 0);
    int directory = inotify_add_watch(fd, "watched", IN_CREATE | IN_DELETE | IN_MOVE | IN_ONLYDIR);
    int left = inotify_add_watch(fd, "child", IN_MODIFY);
    int file = (int)syscall(SYS_inotify_add_watch, fd, in(argv[1], "file"), IN_CLOSE_WRITE);
    MAKE(directory == 1 && left == 2 && file == 3 && inotify_rm_watch(fd, left) == 0);
    expect(fd, left, IN_IGNORED, "");
    int link = inotify_add_watch(fd, "link", IN_DELETE_SELF | IN_DONT_FOLLOW);
    int inner = inotify_add_watch(fd, "to-inner", IN_CREATE);
    int once = inotify_add_watch(fd, "once", IN_MODIFY | IN_ONESHOT);
    MAKE(link == 4 && inner == 5 && once == 6);
    /* A file that is open, by its descriptor: nobody else opens, reads or closes it; and a watch for nothing. */
    char opened[64];
    int open_file = open("open", O_CREAT | O_RDWR, 0600);
    snprintf(opened, sizeof opened, "/proc/self/fd/%d", open_file);
    int own = inotify_add_watch(fd, opened, IN_ALL_EVENTS), idle = inotify_add_watch(fd, ".", IN_ONLYDIR);
    MAKE(own == 7 && idle == 8);
    /* What is asked for later is added. */
    MAKE(inotify_add_watch(fd, "./watched/inner/../inner", IN_DELETE | IN_MASK_ADD) == inner);
    MAKE(inotify_add_watch(blocking, "read", IN_MODIFY) == 1);
    MAKE(chdir("watched") == 0);

    struct epoll_event watch = {.events = EPOLLIN, .data.u64 = 77}, event;
    int epoll = epoll_create1(EPOLL_CLOEXEC), again = dup(fd), tell[2];
    MAKE(epoll >= 0 && again >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &watch) == 0 && pipe(tell) == 0);
    pthread_t reader;
    MAKE(pthread_create(&reader, NULL, reads, (void *)(intptr_t)blocking) == 0);
    pid_t child = fork();
    MAKE(child != -1);
    if (child == 0) {
        char byte;
        MAKE(close(tell[1]) == 0);
        CHECK(read(tell[0], &byte, 1) == 1, "told");
        expect(fd, file, IN_CLOSE_WRITE, "");
        CHECK(nothing(fd), "nothing more for the child");
        _exit(9);
    }

    ready();

    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC, "flags");
    CHECK((fcntl(blocking, F_GETFL) & O_NONBLOCK) == 0 && fcntl(blocking, F_GETFD) == 0, "flags of the other");
    char name[256];
    CHECK(nothing(fd) && read(none, name, sizeof name) == -1 && errno == EAGAIN, "nothing has happened");
    CHECK(epoll_wait(epoll, &event, 1, 0) == 0, "epoll: nothing");

    int status;
    change("../file");
    CHECK(write(tell[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && status == 0x900, "the child: %x", status);
    CHECK(nothing(fd), "the child has taken it");
    SAY("inotify: shared with a child");

    CHECK(write(open_file, "x", 1) == 1, "write");
    expect(fd, own, IN_MODIFY, "");
    make("new");
    CHECK(epoll_wait(epoll, &event, 1, 1000) == 1 && event.data.u64 == 77, "epoll");
    expect(again, directory, IN_CREATE, "new");
    CHECK(rename("new", "newer") == 0, "rename");
    uint32_t from = expect(fd, directory, IN_MOVED_FROM, "new"), to = expect(fd, directory, IN_MOVED_TO, "newer");
    CHECK(from != 0 && from == to, "cookies");
    CHECK(unlink("newer") == 0, "unlink");
    expect(fd, directory, IN_DELETE, "newer");
    CHECK(mkdir("inner/made", 0700) == 0 && rmdir("inner/made") == 0, "in the inner directory");
    expect(fd, inner, IN_CREATE | IN_ISDIR, "made");
    expect(fd, inner, IN_DELETE | IN_ISDIR, "made");
    SAY("inotify: directories");

    change("../once");
    expect(fd, once, IN_MODIFY, "");
    expect(fd, once, IN_IGNORED, "");
    change("../once");
    CHECK(unlink("../link") == 0, "unlink of a link");
    expect(fd, link, IN_DELETE_SELF, "");
    expect(fd, link, IN_IGNORED, "");
    CHECK(symlink("file", "../link") == 0 && nothing(fd), "nothing more");
    SAY("inotify: for one event, and the link itself");

    change("../read");
    CHECK(pthread_join(reader, NULL) == 0, "the reader");
    CHECK(inotify_rm_watch(fd, file) == 0, "the file is left");
    expect(fd, file, IN_IGNORED, "");
    CHECK(inotify_add_watch(fd, "../child", IN_MODIFY) > idle, "a new number");
    CHECK(inotify_add_watch(none, "../child", IN_MODIFY) == 1, "the first number");
    CHECK(nothing(fd), "nothing more at the end");
    SAY("inotify: a thread that reads, and new watches");
    return finish(7);
}
