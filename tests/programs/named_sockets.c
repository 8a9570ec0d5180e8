/* Unix sockets with a name: listeners at a path, at a relative path and without one, streams and packets; connections
 * with what is in flight both ways, between two processes and within one; who waits to be accepted; halves shut down,
 * ends that are gone, a caller with a name of its own, a listener whose path is gone, a name that nobody listens to yet.
 *
 * Wrong would be: a listener that nobody reaches or whose file has another mode or owner, getsockname or getpeername that
 * tell something else than before, messages lost or run together, callers lost or in another order, a shut half that is
 * open again, another backlog, files that were not there before, other users at the other end (SO_PEERCRED).
 */
#include "program.h"
#include "unix_sockets.h"

#include <dirent.h>
#include <sys/wait.h>

/* All that can be asked about a socket and must not change. */
struct shown {
    struct address own, other;
    int other_errno, options[6];
    uid_t user;
    gid_t group;
    struct flags flags;
};

static struct shown shown_of(int fd) {
    static const int asked[6] = {SO_TYPE, SO_RCVBUF, SO_SNDBUF, SO_PASSCRED, SO_ACCEPTCONN, SO_REUSEADDR};
    struct shown shown;
    memset(&shown, 0, sizeof shown);
    shown.own.length = shown.other.length = sizeof shown.own.name;
    CHECK(getsockname(fd, (struct sockaddr *)&shown.own.name, &shown.own.length) == 0, "getsockname");
    errno = 0;
    if (getpeername(fd, (struct sockaddr *)&shown.other.name, &shown.other.length) != 0) shown.other.length = 0;
    shown.other_errno = errno;
    for (int i = 0; i < 6; i++) {
        socklen_t length = sizeof shown.options[i];
        CHECK(getsockopt(fd, SOL_SOCKET, asked[i], &shown.options[i], &length) == 0, "option %d", asked[i]);
    }
    struct ucred ids;
    socklen_t length = sizeof ids;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ids, &length) == 0, "SO_PEERCRED");
    shown.user = ids.uid, shown.group = ids.gid;
    shown.flags = flags_of(fd);
    return shown;
}

static void check_shown(int fd, const struct shown *was, const char *what) {
    struct shown now = shown_of(fd);
    CHECK(now.own.length == was->own.length && memcmp(&now.own, &was->own, sizeof now.own) == 0, "%s: getsockname: %s",
          what, now.own.name.sun_path);
    CHECK(now.other.length == was->other.length && memcmp(&now.other.name, &was->other.name, now.other.length) == 0 &&
              now.other_errno == was->other_errno,
          "%s: getpeername: %s, length %d, was %d, errno %d, was %d", what, now.other.name.sun_path,
          (int)now.other.length, (int)was->other.length, now.other_errno, was->other_errno);
    for (int i = 0; i < 6; i++)
        CHECK(now.options[i] == was->options[i], "%s: option %d is %d, was %d", what, i, now.options[i],
              was->options[i]);
    CHECK(now.user == was->user && now.group == was->group, "%s: SO_PEERCRED: user %d, was %d", what, (int)now.user,
          (int)was->user);
    CHECK(now.flags.status == was->flags.status && now.flags.descriptor == was->flags.descriptor, "%s: flags", what);
}

/* The names in the directory, in order, but for those of the test. */
static void list(char *text, size_t size) {
    struct dirent **entries;
    int count = scandir(".", &entries, NULL, alphasort);
    CHECK(count >= 0, "the directory");
    text[0] = 0;
    for (int i = 0; i < count; i++) {
        if (strncmp(entries[i]->d_name, "s.", 2) == 0)
            snprintf(text + strlen(text), size - strlen(text), " %s", entries[i]->d_name + 2);
        free(entries[i]);
    }
    free(entries);
}

enum { AT_PATH, RELATIVE, ABSTRACT, PACKET, UNLINKED, BOUND, FULL, LISTENERS };
enum { INSIDE, OWN_NAME, HALF, GONE_CALLER, GONE_ACCEPTED, PACKETS, OLD, LATE, CONNECTIONS };
static const char *const listener_names[] = {"path", "relative", "abstract", "seqpacket", "unlinked", "bound", "full"};
static const char *const names[] = {"inside",    "own name", "half", "gone caller", "gone accepted",
                                    "seqpacket", "abstract", "unlinked"};

/* The child's side: connections to the parent's listeners, with an answer to each. */
static void child(struct address at, struct address packets, int tell, int told) {
    int talk = caller(SOCK_STREAM, at), packet = caller(SOCK_SEQPACKET, packets), size = 400 * 1024;
    int first, second;
    MAKE(setsockopt(talk, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    fill(bytes, 100000, 31);
    MAKE(send(talk, bytes, 100000, 0) == 100000 && sends(packet, "one") && sends(packet, "three"));
    char word;
    MAKE(write(tell, "c", 1) == 1 && read(told, &word, 1) == 1);
    /* The parent accepts no more. */
    first = caller(SOCK_STREAM, at), second = caller(SOCK_STREAM, at);
    struct shown shown[] = {shown_of(talk), shown_of(packet), shown_of(first), shown_of(second)};
    MAKE(write(tell, "w", 1) == 1);

    CHECK(read(told, &word, 1) == 1, "the word to go on");
    int sockets[] = {talk, packet, first, second};
    static const char *const what[] = {"child's stream", "child's seqpacket", "first to wait", "second to wait"};
    for (int i = 0; i < 4; i++) check_shown(sockets[i], &shown[i], what[i]);
    CHECK(receives(talk, "to the child") && sends(talk, "!") && receives(packet, "two") && sends(packet, "four"),
          "what was in flight to the child");
    CHECK(sends(first, "I was first") && sends(second, "I was second"), "those who waited");
    CHECK(write(tell, "d", 1) == 1 && read(told, &word, 1) == 1 && word == 'e', "the end");
    CHECK(receives(first, "hello, first") && receives(second, "hello, second"), "those who waited are answered");
    _exit(11);
}

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: named_sockets DIRECTORY");
    MAKE(chdir(argv[1]) == 0);
    umask(022);
    struct address at[LISTENERS] = {
        path_of(in(argv[1], "s.path")), path_of("s.relative"),         abstract_of(in(argv[1], "abstract")),
        path_of(in(argv[1], "s.packet")), path_of(in(argv[1], "s.gone")), path_of(in(argv[1], "s.bound")),
        path_of(in(argv[1], "s.full"))};
    int listeners[LISTENERS], ends[CONNECTIONS][2];
    static const int backlogs[] = {9, 5, 5, 5, 3, 0, 1};
    for (int i = 0; i < LISTENERS; i++) {
        if (i == BOUND) continue;
        listeners[i] = listener(i == PACKET ? SOCK_SEQPACKET : SOCK_STREAM, at[i], backlogs[i]);
    }
    MAKE((listeners[BOUND] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
    MAKE(bind(listeners[BOUND], (struct sockaddr *)&at[BOUND].name, at[BOUND].length) == 0);
    int one = 1, size = 60000;
    MAKE(setsockopt(listeners[AT_PATH], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    MAKE(chmod("s.path", 0640) == 0 && chmod("s.relative", 0) == 0);

    int tell[2], told[2];
    MAKE(pipe(tell) == 0 && pipe(told) == 0);
    fflush(stdout);
    pid_t pid = fork();
    MAKE(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < LISTENERS; i++) close(listeners[i]);
        close(tell[0]), close(told[1]);
        child(at[AT_PATH], at[PACKET], tell[1], told[0]);
    }
    close(tell[1]), close(told[0]);
    int talk = accepted(listeners[AT_PATH]), packet = accepted(listeners[PACKET]);
    char word;
    MAKE(read(tell[0], &word, 1) == 1);
    MAKE(sends(talk, "to the child") && sends(packet, "two"));

    for (int i = 0; i < CONNECTIONS; i++) {
        int which = i == PACKETS ? PACKET : i == OLD ? ABSTRACT : i == LATE ? UNLINKED : AT_PATH;
        int type = i == PACKETS ? SOCK_SEQPACKET : SOCK_STREAM;
        MAKE((ends[i][0] = socket(AF_UNIX, type, 0)) >= 0);
        if (i == OWN_NAME) {
            struct address own = path_of(in(argv[1], "s.caller"));
            MAKE(bind(ends[i][0], (struct sockaddr *)&own.name, own.length) == 0);
        }
        MAKE(connect(ends[i][0], (struct sockaddr *)&at[which].name, at[which].length) == 0);
        ends[i][1] = accepted(listeners[which]);
        MAKE(sends(ends[i][0], "to the accepted") && sends(ends[i][1], "to the caller"));
    }
    MAKE(setsockopt(ends[INSIDE][0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    MAKE(setsockopt(ends[INSIDE][1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
    MAKE(shutdown(ends[HALF][0], SHUT_WR) == 0);
    /* What has been read is no reason for a reset. */
    MAKE(receives(ends[GONE_CALLER][0], "to the caller") && close(ends[GONE_CALLER][0]) == 0);
    MAKE(receives(ends[GONE_ACCEPTED][1], "to the accepted") && close(ends[GONE_ACCEPTED][1]) == 0);
    ends[GONE_CALLER][0] = ends[GONE_ACCEPTED][1] = -1;
    MAKE(close(listeners[UNLINKED]) == 0 && unlink(in(argv[1], "s.gone")) == 0);
    listeners[UNLINKED] = listener(SOCK_STREAM, at[UNLINKED], 3);
    MAKE(unlink(in(argv[1], "s.gone")) == 0);
    /* Two may wait where one may: the third is refused. */
    int waiting[2] = {caller(SOCK_STREAM, at[FULL]), caller(SOCK_STREAM, at[FULL])};

    MAKE(write(told[1], "w", 1) == 1 && read(tell[0], &word, 1) == 1);
    struct shown listening[LISTENERS], connected[CONNECTIONS][2], talks[2] = {shown_of(talk), shown_of(packet)};
    for (int i = 0; i < LISTENERS; i++) listening[i] = shown_of(listeners[i]);
    for (int i = 0; i < CONNECTIONS; i++)
        for (int k = 0; k < 2; k++)
            if (ends[i][k] >= 0) connected[i][k] = shown_of(ends[i][k]);
    char there[200], now[200];
    list(there, sizeof there);

    ready();

    list(now, sizeof now);
    CHECK(strcmp(there, now) == 0, "files:%s, were%s", now, there);
    for (int i = 0; i < LISTENERS; i++) check_shown(listeners[i], &listening[i], listener_names[i]);
    for (int i = 0; i < CONNECTIONS; i++)
        for (int k = 0; k < 2; k++)
            if (ends[i][k] >= 0) check_shown(ends[i][k], &connected[i][k], names[i]);
    check_shown(talk, &talks[0], "stream to the child");
    check_shown(packet, &talks[1], "seqpacket to the child");
    SAY("named sockets: names, options and flags of 7 listeners and 16 connections");
    struct stat stat_now;
    CHECK(stat("s.path", &stat_now) == 0 && stat_now.st_mode == (S_IFSOCK | 0640) && stat_now.st_uid == geteuid() &&
              stat_now.st_gid == getegid(),
          "the file of the listener: mode %o", stat_now.st_mode);
    CHECK(stat("s.relative", &stat_now) == 0 && stat_now.st_mode == S_IFSOCK, "the other file: mode %o",
          stat_now.st_mode);
    SAY("named sockets: files:%s", now);

    for (int i = 0; i < CONNECTIONS; i++) {
        if (ends[i][1] >= 0) CHECK(receives(ends[i][1], "to the accepted"), "%s: what was in flight", names[i]);
        if (ends[i][0] >= 0) CHECK(receives(ends[i][0], "to the caller"), "%s: what was in flight back", names[i]);
        if (ends[i][0] < 0 || ends[i][1] < 0) {
            CHECK(at_end(ends[i][ends[i][0] < 0]), "%s: the end", names[i]);
            errno = 0;
            CHECK(send(ends[i][ends[i][0] < 0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "%s: EPIPE", names[i]);
            continue;
        }
        CHECK(sends(ends[i][1], "goes on") && receives(ends[i][0], "goes on"), "%s: goes on", names[i]);
        errno = 0;
        if (i == HALF)
            CHECK(at_end(ends[i][1]) && send(ends[i][0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "the shut half");
        else
            CHECK(nothing_there(ends[i][1]) && sends(ends[i][0], "both ways") && receives(ends[i][1], "both ways"),
                  "%s: goes on both ways", names[i]);
    }
    SAY("named sockets: what was in flight, halves, ends that are gone");

    CHECK(write(told[1], "g", 1) == 1 && read(tell[0], &word, 1) == 1 && word == 'd', "the child goes on");
    CHECK(recv(talk, bytes, 100000, MSG_WAITALL) == 100000 && filled(bytes, 100000, 31) && receives(talk, "!"),
          "a long message from the child");
    CHECK(receives(packet, "one") && receives(packet, "three") && receives(packet, "four") && nothing_there(packet),
          "the child's messages");
    int first = accept(listeners[AT_PATH], NULL, NULL), second = accept(listeners[AT_PATH], NULL, NULL);
    CHECK(first >= 0 && receives(first, "I was first") && second >= 0 && receives(second, "I was second"),
          "who waited is accepted in turn");
    CHECK(sends(first, "hello, first") && sends(second, "hello, second"), "answers");
    SAY("named sockets: a child's connections, and who waits is accepted in turn");

    int third = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    errno = 0;
    CHECK(connect(third, (struct sockaddr *)&at[FULL].name, at[FULL].length) == -1 && errno == EAGAIN, "a full backlog");
    for (int i = 0; i < 2; i++) {
        int end = accept(listeners[FULL], NULL, NULL);
        CHECK(end >= 0 && sends(waiting[i], "x") && receives(end, "x"), "who waits, of one process");
    }
    CHECK(connect(third, (struct sockaddr *)&at[FULL].name, at[FULL].length) == 0, "then there is room");
    CHECK(chmod("s.relative", 0600) == 0 && listen(listeners[BOUND], 5) == 0, "the bound one listens");
    for (int i = 0; i < LISTENERS; i++) {
        if (i == UNLINKED || i == FULL) continue;
        int new = caller(i == PACKET ? SOCK_SEQPACKET : SOCK_STREAM, at[i]);
        if (i == BOUND) CHECK(fcntl(listeners[i], F_SETFL, 0) == 0, "blocks");
        int end = accepted(listeners[i]);
        CHECK(sends(new, "new") && receives(end, "new"), "%s: a new caller", listener_names[i]);
        struct shown caller_shown = shown_of(new), own = shown_of(end);
        CHECK(caller_shown.user == geteuid() && own.user == geteuid(), "%s: who the new ones are", listener_names[i]);
        CHECK(own.own.length == listening[i].own.length &&
                  memcmp(&own.own.name, &listening[i].own.name, own.own.length) == 0,
              "%s: the name of who is accepted", listener_names[i]);
    }
    SAY("named sockets: new callers are served, and no more wait than may");
    CHECK(write(told[1], "e", 1) == 1, "the end");
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 11, "the child ends: %x", status);
    return finish(7);
}
