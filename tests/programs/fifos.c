/* FIFOs (fifo(7)): one with both ends here and something in it, one that is open for both at once, one that nobody has written to
 * yet, one whose writer has gone, one whose reader has, one between parent and child, and one whose name has been removed.
 *
 * Wrong would be: bytes that are lost, doubled or another's; an end where there is none, or none where there is one; a FIFO that
 * its name does not lead to any more.
 */
#include "program.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static const char *directory;

static const char *make(const char *name) {
    const char *path = in(directory, name);
    MAKE(mkfifo(path, 0640) == 0);
    return path;
}

static int opened(const char *path, int flags) {
    int own = open(path, flags);
    CHECK(own >= 0, "open %s", path);
    return own;
}

static int events(int own) {
    struct pollfd one = {.fd = own, .events = POLLIN | POLLOUT};
    CHECK(poll(&one, 1, 0) >= 0, "poll");
    return one.revents;
}

static int holds(int own, const char *text) {
    char bytes[64] = {0};
    return read(own, bytes, sizeof bytes - 1) == (ssize_t)strlen(text) && strcmp(bytes, text) == 0;
}

static int leads_to(int own, const char *path) {
    char link[64], text[4096] = {0};
    struct stat by_name, by_number;
    snprintf(link, sizeof link, "/proc/self/fd/%d", own);
    CHECK(readlink(link, text, sizeof text - 1) > 0 && stat(path, &by_name) == 0 && fstat(own, &by_number) == 0, "%s", path);
    return strcmp(text, path) == 0 && by_name.st_ino == by_number.st_ino && S_ISFIFO(by_number.st_mode);
}

int main(int argc, char **argv) {
    MAKE(argc == 2 && signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    directory = argv[1];
    const char *both = make("both"), *single = make("single"), *awaited = make("awaited"), *left = make("left");
    const char *deaf = make("deaf"), *common = make("common"), *removed = make("removed");

    int reader = opened(both, O_RDONLY | O_NONBLOCK), writer = opened(both, O_WRONLY), twin = dup(writer);
    MAKE(fcntl(reader, F_SETFL, 0) == 0 && fcntl(writer, F_SETPIPE_SZ, 16384) == 16384 && write(twin, "one", 3) == 3);
    int single_end = opened(single, O_RDWR);
    MAKE(write(single_end, "two", 3) == 3);
    int waits = opened(awaited, O_RDONLY | O_NONBLOCK);
    int hung = opened(left, O_RDONLY | O_NONBLOCK);
    MAKE(close(opened(left, O_WRONLY)) == 0 && events(hung) == POLLHUP && events(waits) == 0);
    int listener = opened(deaf, O_RDONLY | O_NONBLOCK), speaker = opened(deaf, O_WRONLY | O_NONBLOCK);
    MAKE(close(listener) == 0 && events(speaker) & POLLERR);
    int nameless = opened(removed, O_RDWR | O_NONBLOCK);
    MAKE(write(nameless, "three", 5) == 5 && unlink(removed) == 0);

    int to_child = opened(common, O_RDWR), status;
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        /* A description of its own; the others it has closed. */
        int own = opened(common, O_RDONLY);
        MAKE(close(to_child) == 0 && close(reader) == 0 && close(writer) == 0 && close(twin) == 0 && close(waits) == 0);
        MAKE(close(hung) == 0 && close(speaker) == 0 && close(single_end) == 0 && close(nameless) == 0);
        char byte;
        CHECK(read(own, &byte, 1) == 1 && byte == 'a' && read(own, &byte, 1) == 1 && byte == 'b', "the child's bytes");
        CHECK(read(own, &byte, 1) == 0, "the end of what the child reads");
        _exit(4);
    }
    MAKE(write(to_child, "a", 1) == 1);

    ready();

    CHECK(leads_to(reader, both) && leads_to(writer, both) && leads_to(single_end, single) && leads_to(waits, awaited), "names");
    CHECK(fcntl(reader, F_GETFL) == (O_RDONLY | 0100000) && fcntl(twin, F_GETFL) == (O_WRONLY | 0100000), "flags %x %x",
          fcntl(reader, F_GETFL), fcntl(twin, F_GETFL));
    CHECK(fcntl(writer, F_GETPIPE_SZ) == 16384, "capacity");
    int other = opened(both, O_WRONLY | O_NONBLOCK);
    CHECK(write(other, "more", 4) == 4 && close(other) == 0 && holds(reader, "onemore"), "both ends");
    CHECK(close(writer) == 0 && close(twin) == 0 && holds(reader, ""), "the end");
    CHECK(holds(single_end, "two") && write(single_end, "x", 1) == 1 && holds(single_end, "x"), "both in one");
    CHECK(holds(nameless, "three") && write(nameless, "y", 1) == 1 && holds(nameless, "y"), "without a name");
    SAY("fifos: what waited, and names");
    CHECK(events(hung) == POLLHUP && holds(hung, ""), "the writer has gone: %x", events(hung));
    CHECK(events(waits) == 0 && holds(waits, ""), "nobody has written yet: %x", events(waits));
    CHECK(events(speaker) & POLLERR && write(speaker, "x", 1) == -1 && errno == EPIPE, "the reader has gone");
    writer = opened(awaited, O_WRONLY);
    CHECK(write(writer, "now", 3) == 3 && holds(waits, "now") && close(writer) == 0 && events(waits) == POLLHUP, "a writer comes");
    SAY("fifos: those who have one end alone");
    CHECK(write(to_child, "b", 1) == 1 && close(to_child) == 0, "to the child");
    CHECK(waitpid(child, &status, 0) == child && status == 4 << 8, "the child: %x", status);
    SAY("fifos: between parent and child");
    return finish(7);
}
