/* Pipes: what stands unread in them, which ends exist, capacity, flags, packet mode.
 *
 * Wrong would be: bytes lost, doubled or out of order, packets run together, a pipe that became a socket pair (fstat,
 * F_SETPIPE_SZ and splice then differ), a capacity of 64 KiB where the program had set another one (a writer blocks),
 * an end of file that never comes because Zap holds the writing end, or that comes too early.
 */
#include "program.h"

#include <signal.h>
#include <sys/ioctl.h>

enum { PLAIN, LARGE, GROWN, SMALL, PACKETS, ENDED, COPIED, BROKEN, FULL, EMPTY, COUNT };
static const char *const names[] = {"plain",  "large",  "grown",  "small", "packets",
                                    "ended",  "copied", "broken", "full",  "empty"};

static unsigned char bytes[256 * 1024];

static void nonblocking(int fd, int on) {
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

static int unread(int fd) {
    int count = -1;
    ioctl(fd, FIONREAD, &count);
    return count;
}

/* Reads exactly `length` bytes and says whether they are the pattern of `seed`. */
static int reads_pattern(int fd, size_t length, uint64_t seed) {
    size_t done = 0;
    while (done < length) {
        ssize_t count = read(fd, bytes + done, length - done);
        if (count <= 0) return 0;
        done += count;
    }
    return filled(bytes, length, seed);
}

int main(void) {
    int pipes[COUNT][2];
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < COUNT; i++) MAKE(pipe2(pipes[i], i == PACKETS ? O_DIRECT | O_CLOEXEC : 0) == 0);

    MAKE(write(pipes[PLAIN][1], "hello", 5) == 5);
    nonblocking(pipes[PLAIN][0], 1);
    MAKE(fcntl(pipes[PLAIN][1], F_SETFD, FD_CLOEXEC) == 0);

    fill(bytes, 60000, 10);
    MAKE(write(pipes[LARGE][1], bytes, 60000) == 60000);

    MAKE(fcntl(pipes[GROWN][1], F_SETPIPE_SZ, 256 * 1024) == 256 * 1024);
    fill(bytes, 200000, 11);
    MAKE(write(pipes[GROWN][1], bytes, 200000) == 200000);

    MAKE(fcntl(pipes[SMALL][1], F_SETPIPE_SZ, 4096) == 4096);
    MAKE(write(pipes[SMALL][1], "small", 5) == 5);

    MAKE(write(pipes[PACKETS][1], "a", 1) == 1);
    MAKE(write(pipes[PACKETS][1], "packet", 6) == 6);
    fill(bytes, 4096, 12);
    MAKE(write(pipes[PACKETS][1], bytes, 4096) == 4096);
    MAKE(write(pipes[PACKETS][1], "last", 4) == 4);

    MAKE(write(pipes[ENDED][1], "the end", 7) == 7 && close(pipes[ENDED][1]) == 0);

    int read_copy = dup2(pipes[COPIED][0], 150), write_copy = fcntl(pipes[COPIED][1], F_DUPFD_CLOEXEC, 151);
    MAKE(read_copy == 150 && write_copy == 151 && write(write_copy, "copied", 6) == 6);

    MAKE(write(pipes[BROKEN][1], "lost", 4) == 4 && close(pipes[BROKEN][0]) == 0);

    /* Written in whole pages: how much else would fit depends on how pages were filled. */
    nonblocking(pipes[FULL][0], 1);
    nonblocking(pipes[FULL][1], 1);
    int in_full = 0;
    for (;;) {
        for (int i = 0; i < 4096; i++) bytes[i] = pattern_byte(13, in_full + i);
        ssize_t count = write(pipes[FULL][1], bytes, 4096);
        if (count < 0) break;
        in_full += count;
    }
    MAKE(errno == EAGAIN && in_full > 60000);
    nonblocking(pipes[EMPTY][0], 1);

    int capacity[COUNT], waiting[COUNT];
    struct flags flags[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        int end = i == BROKEN ? 1 : 0;
        capacity[i] = fcntl(pipes[i][end], F_GETPIPE_SZ);
        waiting[i] = unread(pipes[i][end]);
        for (int k = 0; k < 2; k++) flags[i][k] = flags_of(pipes[i][k]);
    }

    ready();

    for (int i = 0; i < COUNT; i++) {
        int end = i == BROKEN ? 1 : 0;
        struct stat both[2];
        for (int k = 0; k < 2; k++) {
            CHECK(same_flags(pipes[i][k], flags[i][k]), "%s: flags of end %d: F_GETFL %o, was %o; F_GETFD %d, was %d",
                  names[i], k, flags_of(pipes[i][k]).status, flags[i][k].status, flags_of(pipes[i][k]).descriptor,
                  flags[i][k].descriptor);
            if (fstat(pipes[i][k], &both[k]) == 0)
                CHECK(S_ISFIFO(both[k].st_mode), "%s: end %d is a pipe", names[i], k);
        }
        if (i != ENDED && i != BROKEN) CHECK(both[0].st_ino == both[1].st_ino, "%s: both ends are one pipe", names[i]);
        CHECK(fcntl(pipes[i][end], F_GETPIPE_SZ) == capacity[i], "%s: capacity %d, was %d", names[i],
              fcntl(pipes[i][end], F_GETPIPE_SZ), capacity[i]);
        if (i != BROKEN)
            CHECK(unread(pipes[i][end]) == waiting[i], "%s: %d bytes unread, were %d", names[i],
                  unread(pipes[i][end]), waiting[i]);
    }
    SAY("pipes: 10 pipes, S_ISFIFO, flags, capacities and counts of unread bytes kept");

    CHECK(read(pipes[PLAIN][0], bytes, 100) == 5 && memcmp(bytes, "hello", 5) == 0, "plain: contents");
    errno = 0;
    CHECK(read(pipes[PLAIN][0], bytes, 1) == -1 && errno == EAGAIN, "plain: O_NONBLOCK");
    CHECK(close(pipes[PLAIN][1]) == 0 && read(pipes[PLAIN][0], bytes, 1) == 0, "plain: ends with its writer");
    SAY("pipes: 5 bytes \"hello\", O_NONBLOCK kept, then the end");
    CHECK(reads_pattern(pipes[LARGE][0], 60000, 10), "large: contents");
    SAY("pipes: 60000 bytes unread");
    CHECK(reads_pattern(pipes[GROWN][0], 200000, 11), "grown: contents");
    fill(bytes, 250000, 14);
    CHECK(write(pipes[GROWN][1], bytes, 250000) == 250000 && reads_pattern(pipes[GROWN][0], 250000, 14),
          "grown: room for 250000");
    SAY("pipes: 200000 bytes in a capacity of 262144");
    CHECK(read(pipes[SMALL][0], bytes, 100) == 5 && memcmp(bytes, "small", 5) == 0, "small: contents");
    nonblocking(pipes[SMALL][1], 1);
    CHECK(write(pipes[SMALL][1], bytes, 8192) == 4096, "small: no room for more than its capacity");
    SAY("pipes: a capacity of 4096");
    CHECK(read(pipes[PACKETS][0], bytes, 100) == 1 && bytes[0] == 'a', "packets: first");
    CHECK(read(pipes[PACKETS][0], bytes, 3) == 3 && memcmp(bytes, "pac", 3) == 0, "packets: second, cut short");
    CHECK(read(pipes[PACKETS][0], bytes, 8192) == 4096 && filled(bytes, 4096, 12), "packets: third");
    CHECK(write(pipes[PACKETS][1], "new", 3) == 3 && read(pipes[PACKETS][0], bytes, 100) == 4, "packets: fourth");
    CHECK(read(pipes[PACKETS][0], bytes, 100) == 3, "packets: a new one");
    SAY("pipes: packets of 1, 6, 4096 and 4 bytes");
    CHECK(read(pipes[ENDED][0], bytes, 100) == 7 && memcmp(bytes, "the end", 7) == 0, "ended: contents");
    CHECK(read(pipes[ENDED][0], bytes, 100) == 0, "ended: its end");
    SAY("pipes: unread bytes of a writer that has closed, then the end");
    CHECK(close(pipes[COPIED][0]) == 0 && close(pipes[COPIED][1]) == 0, "copied: close one of two");
    CHECK(write(write_copy, "!", 1) == 1 && read(read_copy, bytes, 100) == 7 && memcmp(bytes, "copied!", 7) == 0,
          "copied: the other is open");
    CHECK(fcntl(write_copy, F_GETFD) == FD_CLOEXEC && fcntl(read_copy, F_GETFD) == 0, "copied: close-on-exec");
    CHECK(close(write_copy) == 0 && read(read_copy, bytes, 1) == 0, "copied: ends with the last");
    SAY("pipes: dup'ed ends, the end comes with the last");
    errno = 0;
    CHECK(write(pipes[BROKEN][1], "x", 1) == -1 && errno == EPIPE, "broken: EPIPE");
    SAY("pipes: EPIPE where the reader has closed");
    errno = 0;
    CHECK(write(pipes[FULL][1], bytes, 4096) == -1 && errno == EAGAIN, "full: is full");
    for (int done = 0; done < in_full;) {
        ssize_t count = read(pipes[FULL][0], bytes, 4096);
        CHECK(count > 0, "full: %d of %d bytes", done, in_full);
        for (int i = 0; i < count; i++) CHECK(bytes[i] == pattern_byte(13, done + i), "full: byte %d", done + i);
        done += count;
    }
    CHECK(write(pipes[FULL][1], bytes, 4096) == 4096, "full: has room again");
    SAY("pipes: a full one is full, and its contents");
    errno = 0;
    CHECK(read(pipes[EMPTY][0], bytes, 1) == -1 && errno == EAGAIN, "empty: is empty, not ended");
    SAY("pipes: an empty one is empty, not ended");
    return finish(7);
}
