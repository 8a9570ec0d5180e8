/* A program whose sockets have strangers at their other ends, which the test plays: it is the server at argv[1]/stranger,
 * and calls at argv[1]/inside. What the program holds in each round is told by the test.
 */
#include "program.h"
#include "unix_sockets.h"

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: stranger DIRECTORY");
    struct address outside = path_of(in(argv[1], "stranger")), inside = path_of(in(argv[1], "inside"));
    int server = listener(SOCK_STREAM, inside, 5);
    MAKE(chmod(inside.name.sun_path, 0600) == 0);
    int call = caller(SOCK_STREAM, outside);

    ready(); /* The stranger has accepted, and then hangs up. */

    CHECK(at_end(call) && close(call) == 0, "the stranger has hung up");
    SAY("stranger: it has hung up");

    ready(); /* It calls. */

    int end = accepted(server);
    struct ucred was, is;
    socklen_t length = sizeof was;
    CHECK(getsockopt(end, SOL_SOCKET, SO_PEERCRED, &was, &length) == 0, "SO_PEERCRED");
    SAY("stranger: it has called");

    ready(); /* It has hung up. */

    CHECK(at_end(end) && getsockopt(end, SOL_SOCKET, SO_PEERCRED, &is, &length) == 0, "the end");
    /* Who may become the stranger has it told. */
    CHECK(is.uid == was.uid || (geteuid() != 0 && is.uid == geteuid()), "who it was: %d, was %d", is.uid, was.uid);
    int own = caller(SOCK_STREAM, inside), served = accepted(server);
    CHECK(sends(own, "goes on") && receives(served, "goes on"), "the listener");
    struct stat file;
    CHECK(lstat(inside.name.sun_path, &file) == 0 && file.st_mode == (S_IFSOCK | 0600), "its file");
    SAY("stranger: the rest goes on");
    return finish(7);
}
