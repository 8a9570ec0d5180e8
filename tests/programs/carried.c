/* Descriptors in flight (SCM_RIGHTS): to this process and to a child, with and without other bytes before and behind
 * them, several in a message, one in flight in a socket that is in flight itself, ends that are nowhere else.
 *
 * Wrong would be: a descriptor lost or given with another byte, a copy of it left open (the end of a pipe never comes),
 * an offset that is not shared any more, flags or contents lost.
 */
#include "program.h"

#include <sys/socket.h>
#include <sys/wait.h>

static void send_with(int socket, const char *text, size_t length, const int *fds, int count) {
    union {
        char bytes[CMSG_SPACE(60 * sizeof(int))];
        struct cmsghdr header;
    } control = {{0}};
    struct iovec part = {(char *)text, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    MAKE(sendmsg(socket, &message, 0) == (ssize_t)length);
}

/* Receives up to `length` bytes, which must be `text`, and `count` descriptors. */
static void receive_with(int socket, const char *text, size_t length, int *fds, int count) {
    char bytes[4096];
    union {
        char bytes[CMSG_SPACE(60 * sizeof(int))];
        struct cmsghdr header;
    } control;
    struct iovec part = {bytes, length};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT);
    CHECK(got == (ssize_t)strlen(text) && memcmp(bytes, text, got) == 0, "message: %.*s, not %s", (int)(got < 0 ? 0 : got),
          bytes, text);
    int found = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_type != SCM_RIGHTS) continue;
        found = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        CHECK(found == count, "%s: %d descriptors, not %d", text, found, count);
        memcpy(fds, CMSG_DATA(header), found * sizeof(int));
    }
    CHECK(found == count && !(message.msg_flags & MSG_CTRUNC), "%s: %d descriptors, not %d", text, found, count);
}

/* The writing end of a new pipe is in flight alone; the reading end is returned. */
static int send_writer(int socket, const char *text, size_t length) {
    int ends[2];
    MAKE(pipe(ends) == 0);
    send_with(socket, text, length, &ends[1], 1);
    MAKE(close(ends[1]) == 0);
    return ends[0];
}

static void writes(int writer, int reader, const char *what) {
    char byte = 0;
    CHECK(write(writer, "w", 1) == 1 && read(reader, &byte, 1) == 1 && byte == 'w', "%s: a pipe through flight", what);
    CHECK(close(writer) == 0 && read(reader, &byte, 1) == 0, "%s: the only end", what);
}

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: carried DIRECTORY");
    int before = 0;
    for (int fd = 0; fd < 256; fd++) before += fcntl(fd, F_GETFD) >= 0;

    /* A stream, with bytes around what carries. */
    int stream[2];
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0);
    send_with(stream[0], "plain ", 6, NULL, 0);
    int first = send_writer(stream[0], "one", 3);
    send_with(stream[0], "between ", 8, NULL, 0);
    int second = send_writer(stream[0], "two", 3);
    send_with(stream[0], "behind", 6, NULL, 0);

    /* Messages with a file whose offset is shared, many of one description, an end of a pipe with contents. */
    int packets[2], file = open(in(argv[1], "carried"), O_RDWR | O_CREAT | O_TRUNC, 0600), full[2], fds[60];
    MAKE(file >= 0 && write(file, "0123456789", 10) == 10 && lseek(file, 4, SEEK_SET) == 4);
    MAKE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) == 0 && pipe2(full, O_NONBLOCK) == 0);
    send_with(packets[0], "file", 4, &file, 1);
    for (int i = 0; i < 60; i++) fds[i] = i % 2 ? full[0] : file;
    MAKE(write(full[1], "contents", 8) == 8);
    send_with(packets[0], "many", 4, fds, 60);
    send_with(packets[0], "none", 4, NULL, 0);
    MAKE(close(full[0]) == 0);

    /* A socket in flight, in which another descriptor is; its sender is closed. */
    int outer[2], inner[2];
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, outer) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, inner) == 0);
    int third = send_writer(inner[0], "deep", 4);
    send_with(outer[0], "socket", 6, &inner[1], 1);
    MAKE(close(inner[0]) == 0 && close(inner[1]) == 0);

    /* To a child, which shares the receiving socket with this process. */
    int pair[2], back[2];
    MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(back) == 0);
    fflush(stdout);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        close(pair[0]);
        char byte;
        CHECK(read(back[0], &byte, 1) == 1, "the word to go on");
        int writer;
        receive_with(pair[1], "child", 64, &writer, 1);
        CHECK(write(writer, "w", 1) == 1, "the child writes");
        _exit(0);
    }
    int fourth = send_writer(pair[0], "child", 5);

    ready();

    int got[60];
    receive_with(stream[1], "plain ", 6, got, 0);
    receive_with(stream[1], "o", 1, got, 1);
    receive_with(stream[1], "nebetween two", 64, got + 1, 1);
    receive_with(stream[1], "behind", 64, got, 0);
    writes(got[0], first, "stream");
    writes(got[1], second, "stream, the second");
    SAY("carried: a stream's, each with its byte");

    char text[16] = "";
    receive_with(packets[1], "file", 64, got, 1);
    CHECK(read(got[0], text, 2) == 2 && memcmp(text, "45", 2) == 0 && lseek(file, 0, SEEK_CUR) == 6, "one offset");
    CHECK(close(got[0]) == 0, "close");
    receive_with(packets[1], "many", 64, got, 60);
    receive_with(packets[1], "none", 64, got, 0);
    CHECK(lseek(got[0], 1, SEEK_CUR) == 7 && lseek(got[58], 0, SEEK_CUR) == 7, "one offset for all");
    CHECK(read(got[1], text, sizeof text) == 8 && memcmp(text, "contents", 8) == 0, "contents of a pipe in flight");
    CHECK(fcntl(got[59], F_GETFL) == (O_RDONLY | O_NONBLOCK) || fcntl(got[59], F_GETFL) & O_NONBLOCK, "flags");
    for (int i = 0; i < 60; i++) CHECK(close(got[i]) == 0, "close");
    errno = 0;
    signal(SIGPIPE, SIG_IGN);
    CHECK(write(full[1], "x", 1) == -1 && errno == EPIPE, "no other end is left: %d", errno);
    SAY("carried: a file with its offset, a pipe with its contents, 60 in a message");

    receive_with(outer[1], "socket", 64, got, 1);
    receive_with(got[0], "deep", 64, got + 1, 1);
    CHECK(recv(got[0], text, 1, MSG_DONTWAIT) == 0, "its sender is gone");
    writes(got[1], third, "in a socket in flight");
    CHECK(close(got[0]) == 0, "close");
    SAY("carried: what is in flight in what is in flight");

    int status;
    CHECK(write(back[1], "g", 1) == 1 && waitpid(child, &status, 0) == child && status == 0, "the child");
    CHECK(read(fourth, text, 1) == 1 && read(fourth, text, 1) == 0, "what the child has received");
    SAY("carried: to a child");

    int rest[] = {stream[0], stream[1], first, second, packets[0], packets[1], file, full[1], outer[0], outer[1], third,
                  pair[0], pair[1], back[0], back[1], fourth};
    for (unsigned i = 0; i < sizeof rest / sizeof *rest; i++) CHECK(close(rest[i]) == 0, "close");
    int after = 0;
    for (int fd = 0; fd < 256; fd++) after += fcntl(fd, F_GETFD) >= 0;
    CHECK(after == before, "%d descriptors, %d before", after, before);
    SAY("carried: and no copy is left");
    return finish(9);
}
