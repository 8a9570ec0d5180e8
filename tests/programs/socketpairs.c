/* Unix socket pairs: what stands unread in them, with its boundaries, both ways; halves shut down; peers gone.
 *
 * Wrong would be: messages lost, doubled, or run together, an empty datagram lost, a shut-down half that is open again
 * (the reader waits for ever), a peer that is alive again, buffer sizes and options at their defaults.
 */
#include "program.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { STREAM, LARGE, DATAGRAM, PACKET, HALF, GONE_STREAM, GONE_DATAGRAM, GONE_PACKET, OPTIONS, COPIED, COUNT };
static const char *const names[] = {"stream",          "large",           "datagram",      "seqpacket", "half",
                                    "gone stream",     "gone datagram",   "gone seqpacket", "options",  "copied"};
static const int types[] = {SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM,     SOCK_SEQPACKET, SOCK_STREAM,
                            SOCK_STREAM, SOCK_DGRAM,  SOCK_SEQPACKET, SOCK_STREAM,    SOCK_STREAM};
static unsigned char bytes[256 * 1024];

static int option(int fd, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -errno;
}

static int receives(int fd, const char *text) {
    ssize_t count = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    return count == (ssize_t)strlen(text) && memcmp(bytes, text, count) == 0;
}

static int sends(int fd, const char *text) {
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

static int nothing_there(int fd) {
    errno = 0;
    return recv(fd, bytes, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

static int at_end(int fd) { return recv(fd, bytes, 1, MSG_DONTWAIT) == 0; }

int main(void) {
    int pairs[COUNT][2];
    for (int i = 0; i < COUNT; i++)
        MAKE(socketpair(AF_UNIX, types[i] | (i % 2 ? SOCK_CLOEXEC : SOCK_NONBLOCK), 0, pairs[i]) == 0);

    MAKE(sends(pairs[STREAM][0], "abc") && sends(pairs[STREAM][0], "defg") && sends(pairs[STREAM][1], "back"));

    int size = 512 * 1024;
    MAKE(setsockopt(pairs[LARGE][0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    fill(bytes, 100000, 20);
    MAKE(send(pairs[LARGE][0], bytes, 100000, 0) == 100000);

    for (int i = DATAGRAM; i <= PACKET; i++) {
        MAKE(sends(pairs[i][0], "one") && sends(pairs[i][0], "three") && sends(pairs[i][1], "there"));
        /* An empty message: for seqpacket it reads like an end, so only datagrams have one here. */
        if (i == DATAGRAM) MAKE(send(pairs[i][0], "", 0, 0) == 0);
        fill(bytes, 30000, 21);
        MAKE(send(pairs[i][0], bytes, 30000, 0) == 30000);
        MAKE(sends(pairs[i][0], "last") && sends(pairs[i][1], "and back"));
    }

    MAKE(sends(pairs[HALF][0], "no more") && shutdown(pairs[HALF][0], SHUT_WR) == 0 && sends(pairs[HALF][1], "more"));

    for (int i = GONE_STREAM; i <= GONE_PACKET; i++)
        MAKE(sends(pairs[i][1], "left behind") && sends(pairs[i][1], "twice") && close(pairs[i][1]) == 0);

    size = 30000;
    int one = 1;
    struct timeval timeout = {3, 250000};
    MAKE(setsockopt(pairs[OPTIONS][0], SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
    MAKE(setsockopt(pairs[OPTIONS][0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    MAKE(setsockopt(pairs[OPTIONS][0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
    MAKE(setsockopt(pairs[OPTIONS][0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
    MAKE(setsockopt(pairs[OPTIONS][1], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0);

    int copy = dup2(pairs[COPIED][0], 160);
    MAKE(copy == 160 && fcntl(copy, F_SETFD, 0) == 0 && sends(pairs[COPIED][1], "for either"));

    static const int asked[] = {SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_RCVBUF, SO_SNDBUF, SO_PASSCRED, SO_ACCEPTCONN};
    enum { ASKED = sizeof asked / sizeof *asked };
    int options[COUNT][2][ASKED];
    struct flags flags[COUNT][2];
    for (int i = 0; i < COUNT; i++)
        for (int k = 0; k < 2; k++) {
            flags[i][k] = flags_of(pairs[i][k]);
            for (int o = 0; o < ASKED; o++) options[i][k][o] = option(pairs[i][k], asked[o]);
        }

    ready();

    for (int i = 0; i < COUNT; i++)
        for (int k = 0; k < 2; k++) {
            struct stat now;
            if (fstat(pairs[i][k], &now) == 0) CHECK(S_ISSOCK(now.st_mode), "%s: is a socket", names[i]);
            CHECK(same_flags(pairs[i][k], flags[i][k]), "%s: flags of end %d", names[i], k);
            for (int o = 0; o < ASKED; o++)
                CHECK(option(pairs[i][k], asked[o]) == options[i][k][o], "%s: option %d of end %d is %d, was %d",
                      names[i], asked[o], k, option(pairs[i][k], asked[o]), options[i][k][o]);
        }
    struct timeval now;
    socklen_t length = sizeof now;
    CHECK(getsockopt(pairs[OPTIONS][0], SOL_SOCKET, SO_RCVTIMEO, &now, &length) == 0 && now.tv_sec == 3, "SO_RCVTIMEO");
    CHECK(getsockopt(pairs[OPTIONS][1], SOL_SOCKET, SO_SNDTIMEO, &now, &length) == 0 && now.tv_sec == 3, "SO_SNDTIMEO");
    SAY("socket pairs: 10 pairs, S_ISSOCK, flags, types, buffer sizes, timeouts kept");

    CHECK(receives(pairs[STREAM][1], "abcdefg") && receives(pairs[STREAM][0], "back"), "stream: contents");
    CHECK(nothing_there(pairs[STREAM][0]) && nothing_there(pairs[STREAM][1]), "stream: nothing more");
    CHECK(sends(pairs[STREAM][0], "new") && receives(pairs[STREAM][1], "new"), "stream: goes on");
    SAY("socket pairs: stream \"abcdefg\", and \"back\" the other way");
    CHECK(recv(pairs[LARGE][1], bytes, sizeof bytes, MSG_WAITALL | MSG_DONTWAIT) == 100000 && filled(bytes, 100000, 20),
          "large: contents");
    SAY("socket pairs: 100000 bytes unread");
    for (int i = DATAGRAM; i <= PACKET; i++) {
        CHECK(receives(pairs[i][1], "one") && receives(pairs[i][1], "three"), "%s: contents", names[i]);
        if (i == DATAGRAM) CHECK(recv(pairs[i][1], bytes, 10, MSG_DONTWAIT) == 0, "datagram: an empty one");
        CHECK(recv(pairs[i][1], bytes, sizeof bytes, MSG_DONTWAIT) == 30000 && filled(bytes, 30000, 21),
              "%s: a large one", names[i]);
        CHECK(receives(pairs[i][1], "last") && nothing_there(pairs[i][1]), "%s: the last", names[i]);
        CHECK(receives(pairs[i][0], "there") && receives(pairs[i][0], "and back") && nothing_there(pairs[i][0]),
              "%s: the other way", names[i]);
        CHECK(sends(pairs[i][1], "go") && sends(pairs[i][1], "on") && receives(pairs[i][0], "go") &&
                  receives(pairs[i][0], "on"),
              "%s: goes on", names[i]);
        SAY("socket pairs: %s with its boundaries, both ways", names[i]);
    }
    CHECK(receives(pairs[HALF][1], "no more") && at_end(pairs[HALF][1]), "half: contents, then the end");
    errno = 0;
    CHECK(send(pairs[HALF][0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "half: the shut half");
    CHECK(receives(pairs[HALF][0], "more") && sends(pairs[HALF][1], "still") && receives(pairs[HALF][0], "still"),
          "half: the open half");
    SAY("socket pairs: a half shut down, the other open");
    for (int i = GONE_STREAM; i <= GONE_PACKET; i++) {
        if (i == GONE_STREAM)
            CHECK(receives(pairs[i][0], "left behindtwice"), "%s: contents", names[i]);
        else
            CHECK(receives(pairs[i][0], "left behind") && receives(pairs[i][0], "twice"), "%s: contents", names[i]);
        if (i == GONE_DATAGRAM)
            CHECK(nothing_there(pairs[i][0]), "%s: nothing more", names[i]);
        else
            CHECK(at_end(pairs[i][0]), "%s: the end", names[i]);
        errno = 0;
        CHECK(send(pairs[i][0], "x", 1, MSG_NOSIGNAL) == -1 && errno == (i == GONE_DATAGRAM ? ECONNREFUSED : EPIPE),
              "%s: cannot be written", names[i]);
    }
    SAY("socket pairs: what closed peers left behind, then the end");
    CHECK(receives(copy, "for either") && close(pairs[COPIED][0]) == 0 && sends(copy, "x") &&
              receives(pairs[COPIED][1], "x") && close(copy) == 0 && at_end(pairs[COPIED][1]),
          "copied: one socket under two numbers");
    SAY("socket pairs: dup'ed ends, the end comes with the last");
    return finish(7);
}
