/* What the programs about Unix sockets do alike: names, listeners, callers, messages. */
#ifndef UNIX_SOCKETS_H
#define UNIX_SOCKETS_H

#include "program.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static unsigned char bytes[300 * 1024];

struct address {
    struct sockaddr_un name;
    socklen_t length;
};

UNUSED static struct address path_of(const char *path) {
    struct address address = {{.sun_family = AF_UNIX}, sizeof address.name};
    CHECK(strlen(path) < sizeof address.name.sun_path, "a path that is too long for a socket: %s", path);
    strcpy(address.name.sun_path, path);
    return address;
}

UNUSED static struct address abstract_of(const char *text) {
    struct address address = {{.sun_family = AF_UNIX}, 0};
    /* A NUL in the middle belongs to it. */
    int count = snprintf(address.name.sun_path + 1, sizeof address.name.sun_path - 2, "%s", text);
    address.name.sun_path[1 + count] = 0;
    address.name.sun_path[2 + count] = 'z';
    address.length = offsetof(struct sockaddr_un, sun_path) + 3 + count;
    return address;
}

UNUSED static int listener(int type, struct address address, int backlog) {
    int fd = socket(AF_UNIX, type, 0);
    MAKE(fd >= 0 && bind(fd, (struct sockaddr *)&address.name, address.length) == 0 && listen(fd, backlog) == 0);
    return fd;
}

UNUSED static int caller(int type, struct address address) {
    int fd = socket(AF_UNIX, type, 0);
    MAKE(fd >= 0 && connect(fd, (struct sockaddr *)&address.name, address.length) == 0);
    return fd;
}

UNUSED static int accepted(int fd) {
    int end = accept(fd, NULL, NULL);
    MAKE(end >= 0);
    return end;
}

UNUSED static int sends(int fd, const char *text) {
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

UNUSED static int receives(int fd, const char *text) {
    ssize_t count = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    return count == (ssize_t)strlen(text) && memcmp(bytes, text, count) == 0;
}

UNUSED static int nothing_there(int fd) {
    errno = 0;
    return recv(fd, bytes, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

UNUSED static int at_end(int fd) { return recv(fd, bytes, 1, MSG_DONTWAIT) == 0; }

/* The next receive is told ECONNRESET, once, and then the end. */
UNUSED static int is_reset(int fd) {
    errno = 0;
    return recv(fd, bytes, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET && at_end(fd);
}

#endif
