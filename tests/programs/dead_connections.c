/* Connections to a named Unix socket that is gone: its listener and the other ends are closed, and its file is removed. One has
 * something unread, one is in two processes, one is to be told ECONNRESET, one is of messages, one of an abstract name.
 *
 * Wrong would be: what had been sent is lost, an end that does not come, an error that is not told, a file that is there again.
 */
#include "program.h"
#include "unix_sockets.h"

#include <poll.h>
#include <sys/wait.h>

enum { STREAM, MESSAGES, ABSTRACT, NAMES };

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: dead_connections DIRECTORY");
    MAKE(chdir(argv[1]) == 0);
    char abstract[64];
    snprintf(abstract, sizeof abstract, "zap dead connections of %d", getpid());
    const int types[NAMES] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_STREAM};
    const struct address names[NAMES] = {path_of(in(argv[1], "s")), path_of("m"), abstract_of(abstract)};
    int unread[NAMES], empty[NAMES], reset = -1;
    for (int i = 0; i < NAMES; i++) {
        int server = listener(types[i], names[i], 5), ends[3];
        unread[i] = caller(types[i], names[i]), ends[0] = accepted(server);
        empty[i] = caller(types[i], names[i]), ends[1] = accepted(server);
        MAKE(sends(ends[0], "the last word"));
        if (i == STREAM) {
            reset = caller(types[i], names[i]), ends[2] = accepted(server);
            MAKE(sends(reset, "nobody reads it") && close(ends[2]) == 0);
        }
        MAKE(close(ends[0]) == 0 && close(ends[1]) == 0 && close(server) == 0);
    }
    MAKE(unlink("s") == 0 && unlink("m") == 0);
    int go[2];
    MAKE(pipe(go) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        close(go[1]);
        char byte;
        CHECK(read(go[0], &byte, 1) == 0, "go");
        _exit(receives(unread[ABSTRACT], "the last word") && at_end(unread[ABSTRACT]) ? 5 : 1);
    }

    ready();

    CHECK(close(go[1]) == 0, "go");
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5, "the child: %x", status);
    CHECK(at_end(unread[ABSTRACT]), "what the child has read is read");
    for (int i = 0; i < NAMES; i++) {
        struct pollfd polled = {.fd = empty[i], .events = POLLIN | POLLOUT};
        CHECK(poll(&polled, 1, 0) == 1 && polled.revents & POLLHUP, "connection %d: POLLHUP", i);
        CHECK(at_end(empty[i]) && send(empty[i], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "connection %d: its end", i);
        if (i != ABSTRACT) CHECK(receives(unread[i], "the last word") && at_end(unread[i]), "connection %d: what was sent", i);
    }
    CHECK(is_reset(reset), "the error");
    CHECK(access("s", F_OK) == -1 && access("m", F_OK) == -1, "no file");
    SAY("dead connections: each has what was sent, and its end");

    /* The names are free. */
    for (int i = 0; i < NAMES; i++) {
        int server = listener(types[i], names[i], 5), call = caller(types[i], names[i]), end = accepted(server);
        CHECK(sends(call, "goes on") && receives(end, "goes on"), "a new listener");
    }
    CHECK(unlink("s") == 0 && unlink("m") == 0, "unlink");
    return finish(7);
}
