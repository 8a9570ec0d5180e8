/* What is left of conversations: ends whose other end has closed without receiving all (ECONNRESET), in pairs and with
 * names, with and without something to be received before; listeners and bound sockets that were shut; a name that one
 * caller had and another has now; a listener that has taken another one's place; a relative name, of which a process in
 * another directory has an end; a mode of the socket itself.
 *
 * Wrong would be: an end where an error was to be told, or an error twice, a listener that takes callers again, a name in
 * other hands, files that were not there before or have another mode.
 */
#include "program.h"
#include "unix_sockets.h"

#include <poll.h>
#include <sys/wait.h>

enum { PLAIN, WITH_DATA, NAMED, NAMED_WITH_DATA, NAMED_CALLER, ABANDONED, RESETS };
static const char *const names[] = {"pair", "pair with data", "accepted", "accepted, with data", "caller",
                                    "caller of a listener that is gone"};

static int has_data(int which) { return which == WITH_DATA || which == NAMED_WITH_DATA; }

/* An end whose other end has closed with something unread. */
static int reset_end(int which, int server, struct address at) {
    int ends[2];
    if (which <= WITH_DATA) {
        MAKE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    } else {
        ends[which == NAMED_CALLER ? 0 : 1] = caller(SOCK_STREAM, at);
        ends[which == NAMED_CALLER ? 1 : 0] = accepted(server);
    }
    MAKE(sends(ends[0], "never read"));
    if (has_data(which)) MAKE(sends(ends[1], "the last word"));
    MAKE(close(ends[1]) == 0);
    return ends[0];
}

static int refuses(struct address at) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    errno = 0;
    int refused = connect(fd, (struct sockaddr *)&at.name, at.length) == -1 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static void bound_caller(int fd, struct address own, struct address to) {
    MAKE(fd >= 0 && bind(fd, (struct sockaddr *)&own.name, own.length) == 0);
    MAKE(connect(fd, (struct sockaddr *)&to.name, to.length) == 0);
}

static int peer_is(int fd, struct address other) {
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    return getpeername(fd, (struct sockaddr *)&name, &length) == 0 && strcmp(name.sun_path, other.name.sun_path) == 0;
}

static mode_t mode_of(const char *path) {
    struct stat stat_now;
    CHECK(lstat(path, &stat_now) == 0 && S_ISSOCK(stat_now.st_mode), "the socket's file %s", path);
    return stat_now.st_mode & 07777;
}

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: socket_ends DIRECTORY");
    MAKE(chdir(argv[1]) == 0);
    umask(022);
    struct address at = path_of(in(argv[1], "s")), gone = path_of(in(argv[1], "s.gone"));
    struct address shut_at = path_of(in(argv[1], "s.shut")), own = path_of(in(argv[1], "s.own"));
    struct address replaced = path_of(in(argv[1], "s.replaced")), relative = path_of("s.relative");
    int server = listener(SOCK_STREAM, at, 5);

    int ends[RESETS];
    for (int i = 0; i < ABANDONED; i++) ends[i] = reset_end(i, server, at);
    /* One whose listener is gone: another end under the name lives on. */
    int listens = listener(SOCK_STREAM, gone, 5), stays[2];
    stays[0] = caller(SOCK_STREAM, gone), stays[1] = accepted(listens);
    ends[ABANDONED] = caller(SOCK_STREAM, gone);
    MAKE(sends(ends[ABANDONED], "never read"));
    close(listens);
    MAKE(unlink(gone.name.sun_path) == 0);

    int shut_listener = listener(SOCK_STREAM, shut_at, 5), shut_bound = socket(AF_UNIX, SOCK_STREAM, 0);
    int shut_alone = socket(AF_UNIX, SOCK_STREAM, 0);
    struct address abstract = abstract_of(in(argv[1], "bound"));
    MAKE(bind(shut_bound, (struct sockaddr *)&abstract.name, abstract.length) == 0);
    MAKE(shutdown(shut_listener, SHUT_RD) == 0 && shutdown(shut_bound, SHUT_WR) == 0 && shutdown(shut_alone, SHUT_WR) == 0);
    MAKE(refuses(shut_at));

    /* The same name three times: who had it first has gone, the second lives on without a file. Who has it last is the
     * oldest socket, so that no order by age is right. */
    int calls[3], served[3];
    for (int i = 2; i >= 0; i--) calls[i] = socket(AF_UNIX, SOCK_STREAM, 0);
    for (int i = 0; i < 3; i++) {
        if (i > 0) MAKE(unlink(own.name.sun_path) == 0);
        bound_caller(calls[i], own, at), served[i] = accepted(server);
        if (i == 0) MAKE(close(calls[0]) == 0);
    }
    MAKE(chmod(own.name.sun_path, 0604) == 0);

    int before = listener(SOCK_STREAM, replaced, 5), to_before = caller(SOCK_STREAM, replaced);
    int from_before = accepted(before);
    MAKE(unlink(replaced.name.sun_path) == 0);
    int after = listener(SOCK_STREAM, replaced, 5), to_after = caller(SOCK_STREAM, replaced), from_after = accepted(after);
    MAKE(chmod(replaced.name.sun_path, 0620) == 0 && fchmod(after, 0610) == 0);

    int here = listener(SOCK_STREAM, relative, 5), near = caller(SOCK_STREAM, relative), tell[2];
    MAKE(pipe(tell) == 0);
    fflush(stdout);
    pid_t pid = fork();
    MAKE(pid >= 0);
    if (pid == 0) {
        int far = accepted(here);
        for (int fd = 3; fd < far; fd++)
            if (fd != tell[0]) close(fd);
        MAKE(chdir("/") == 0);
        char word;
        CHECK(read(tell[0], &word, 1) == 1 && receives(far, "hello") && sends(far, "from afar"), "the far end");
        _exit(12);
    }
    close(tell[0]);
    MAKE(sends(near, "hello"));
    /* Until the child has its end, which has the listener's name. */
    struct pollfd waiting = {here, POLLIN, 0};
    while (poll(&waiting, 1, 0) != 0) usleep(1000);

    ready();

    for (int i = 0; i < RESETS; i++) {
        if (has_data(i)) CHECK(receives(ends[i], "the last word"), "%s: what was in flight", names[i]);
        CHECK(is_reset(ends[i]), "%s: ECONNRESET", names[i]);
    }
    SAY("socket ends: ECONNRESET in 6 of them, after what was in flight");
    CHECK(refuses(shut_at), "a listener that was shut takes nobody");
    CHECK(mode_of(shut_at.name.sun_path) == 0755, "its file");
    errno = 0;
    CHECK(connect(shut_bound, (struct sockaddr *)&at.name, at.length) == 0 &&
              send(shut_bound, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE,
          "one that was shut before it called");
    CHECK(connect(shut_alone, (struct sockaddr *)&at.name, at.length) == 0 &&
              send(shut_alone, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE,
          "the same without a name");
    SAY("socket ends: what was shut is shut");
    for (int i = 0; i < 3; i++) CHECK(peer_is(served[i], own), "the name of caller %d", i);
    CHECK(at_end(served[0]), "the first caller is gone");
    CHECK(sends(calls[1], "second") && receives(served[1], "second") && sends(calls[2], "third") &&
              receives(served[2], "third"),
          "the others are there");
    CHECK(mode_of(own.name.sun_path) == 0604, "the file of the last");
    SAY("socket ends: three callers had one name");
    int new = caller(SOCK_STREAM, replaced), newer = accepted(after);
    CHECK(sends(new, "new") && receives(newer, "new"), "the listener that has taken the place");
    CHECK(sends(to_before, "b") && receives(from_before, "b") && sends(to_after, "a") && receives(from_after, "a"),
          "who came before and after");
    struct stat stat_now;
    CHECK(mode_of(replaced.name.sun_path) == 0620 && fstat(after, &stat_now) == 0 && (stat_now.st_mode & 07777) == 0610,
          "modes of file and socket: %o", stat_now.st_mode);
    CHECK(access(gone.name.sun_path, F_OK) == -1, "a file that nobody had");
    CHECK(sends(stays[0], "stays") && receives(stays[1], "stays"), "without a listener");
    SAY("socket ends: listeners that are gone, or have taken another one's place");
    int status;
    CHECK(write(tell[1], "g", 1) == 1 && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 12,
          "the child ends: %x", status);
    CHECK(receives(near, "from afar"), "the near end");
    int local = caller(SOCK_STREAM, relative), served_here = accepted(here);
    CHECK(sends(local, "near") && receives(served_here, "near"), "the relative name");
    SAY("socket ends: a process in another directory has one end");
    return finish(7);
}
