/* Named sockets that a checkpoint refuses, and what the program does about it: argv[1] says which. A caller that waits to
 * be accepted and has sent something (data) or hung up (gone); a file that another has taken the place of (taken); a
 * relative name whose file is not in the working directory (relative); an error that waits behind messages
 * (boundaries).
 */
#include "program.h"
#include "unix_sockets.h"

int main(int argc, char **argv) {
    CHECK(argc > 2, "usage: sockets_refused WHICH DIRECTORY");
    const char *which = argv[1];
    MAKE(chdir(argv[2]) == 0);
    struct address at = path_of(strcmp(which, "relative") == 0 ? "s" : in(argv[2], "s"));
    int server = listener(SOCK_STREAM, at, 5), call = -1, pair[2] = {-1, -1};
    if (strcmp(which, "data") == 0) {
        call = caller(SOCK_STREAM, at);
        MAKE(sends(call, "so early"));
    } else if (strcmp(which, "gone") == 0) {
        MAKE(close(caller(SOCK_STREAM, at)) == 0);
    } else if (strcmp(which, "taken") == 0) {
        MAKE(rename("s", "s.kept") == 0 && close(open("s", O_CREAT | O_WRONLY, 0600)) == 0);
    } else if (strcmp(which, "relative") == 0) {
        MAKE(chdir("/") == 0);
    } else {
        CHECK(strcmp(which, "boundaries") == 0, "which: %s", which);
        MAKE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
        MAKE(sends(pair[0], "unread") && sends(pair[1], "the last word") && close(pair[1]) == 0);
    }

    ready();

    if (strcmp(which, "data") == 0) {
        int end = accepted(server);
        CHECK(receives(end, "so early") && nothing_there(end), "what was sent");
        close(end), close(call);
    } else if (strcmp(which, "gone") == 0) {
        int end = accepted(server);
        CHECK(at_end(end), "who has hung up");
        close(end);
    } else if (strcmp(which, "taken") == 0) {
        struct stat stat_now;
        CHECK(stat("s", &stat_now) == 0 && S_ISREG(stat_now.st_mode), "the other file");
        CHECK(rename("s.kept", "s") == 0, "the socket's file");
    } else if (strcmp(which, "relative") == 0) {
        CHECK(access("/s", F_OK) == -1 && chdir(argv[2]) == 0, "no file in the other directory");
    } else {
        errno = 0;
        CHECK(recv(pair[0], bytes, 100, 0) == -1 && errno == ECONNRESET, "the error comes first");
        CHECK(receives(pair[0], "the last word") && at_end(pair[0]), "then the message");
    }
    SAY("sockets refused: %s: the program has not noticed", which);

    ready();

    call = caller(SOCK_STREAM, at);
    int end = accepted(server);
    CHECK(sends(call, "goes on") && receives(end, "goes on"), "the listener");
    SAY("sockets refused: %s: and goes on", which);
    return finish(7);
}
