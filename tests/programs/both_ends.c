/* One description that is both ends of a pipe (an open of /proc/self/fd/N for reading and writing), alone and beside the
 * others.
 *
 * Wrong would be: what is in the pipe gone, an end of file or SIGPIPE where there is still a writer or reader.
 */
#include "program.h"

#include <poll.h>

static int both_of(int end) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", end);
    int both = open(path, O_RDWR);
    MAKE(both >= 0);
    return both;
}

static void check(int both, const char *expected, const char *more) {
    char text[64] = "";
    CHECK((fcntl(both, F_GETFL) & O_ACCMODE) == O_RDWR, "its access mode");
    CHECK(write(both, more, strlen(more)) == (ssize_t)strlen(more), "writing to it");
    ssize_t length = read(both, text, sizeof text - 1);
    CHECK(length == (ssize_t)(strlen(expected) + strlen(more)), "it gives %zd bytes", length);
    CHECK(strncmp(text, expected, strlen(expected)) == 0 && strcmp(text + strlen(expected), more) == 0, "it says %s", text);
    // There is a writer: itself.
    struct pollfd entry = {.fd = both, .events = POLLIN};
    CHECK(poll(&entry, 1, 20) == 0, "poll says %x of it", entry.revents);
}

int main(void) {
    int alone[2], beside[2];
    MAKE(pipe(alone) == 0 && pipe(beside) == 0);
    int only = both_of(alone[0]), third = both_of(beside[1]);
    MAKE(close(alone[0]) == 0 && close(alone[1]) == 0);
    MAKE(write(only, "one ", 4) == 4 && write(beside[1], "two ", 4) == 4);
    ready();
    check(only, "one ", "three");
    check(third, "two ", "four");
    CHECK(write(third, "x", 1) == 1 && read(beside[0], (char[2]){0}, 2) == 1, "the other end");
    SAY("both_ends: everything is there");
    return finish(7);
}
