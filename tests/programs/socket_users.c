/* Sockets between users: root listens, others call, are served and wait; one of them listens too and is called by root, who
 * has hung up. The file is reached by everybody, as its mode says, or by nobody else, as it says later.
 *
 * Wrong would be: other users at the other end (SO_PEERCRED), another owner or mode of a file, a caller that is not there,
 * or one that nobody let in.
 */
#include "program.h"
#include "unix_sockets.h"

#include <grp.h>
#include <sys/wait.h>

static const uid_t users[2] = {65534, 65533};

static void check_ids(int fd, uid_t user, gid_t group, const char *what) {
    struct ucred ids;
    socklen_t length = sizeof ids;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ids, &length) == 0, "SO_PEERCRED");
    CHECK(ids.uid == user && ids.gid == group, "%s: user %d, group %d", what, (int)ids.uid, (int)ids.gid);
}

static void check_file(const char *path, mode_t mode, uid_t user, gid_t group) {
    struct stat file;
    CHECK(lstat(path, &file) == 0 && file.st_mode == (S_IFSOCK | mode) && file.st_uid == user && file.st_gid == group,
          "%s: mode %o, user %d, group %d", path, file.st_mode, (int)file.st_uid, (int)file.st_gid);
}

static void become(uid_t user) {
    MAKE(setgroups(0, NULL) == 0 && setresgid(70002, 70002, 70002) == 0 && setresuid(user, user, user) == 0);
}

static void child(int which, struct address at, struct address own, int tell, int told) {
    char word;
    become(users[which]);
    int call = caller(SOCK_STREAM, at), server = -1, end = -1;
    MAKE(sends(call, "served"));
    MAKE(write(tell, "s", 1) == 1 && read(told, &word, 1) == 1);
    int waits = caller(SOCK_STREAM, at);
    if (which == 0) server = listener(SOCK_STREAM, own, 5);
    MAKE(write(tell, "w", 1) == 1 && read(told, &word, 1) == 1);
    if (which == 0) end = accepted(server);
    MAKE(write(tell, "h", 1) == 1);
    CHECK(read(told, &word, 1) == 1, "the word to go on");
    check_ids(call, 0, 0, "who serves");
    check_ids(waits, 0, 0, "who is to serve");
    CHECK(receives(call, "hello"), "what root has sent");
    if (which == 0) {
        check_file(own.name.sun_path, 0711, users[0], 70002);
        check_ids(end, 0, 0, "who had called");
        CHECK(at_end(end), "who had called is gone");
        int again = caller(SOCK_STREAM, own), served = accepted(server);
        check_ids(served, users[0], 70002, "who calls itself");
        CHECK(sends(again, "x") && receives(served, "x"), "its listener");
    }
    CHECK(sends(waits, "waited") && write(tell, "d", 1) == 1 && read(told, &word, 1) == 1, "the end");
    _exit(14);
}

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: socket_users DIRECTORY");
    if (geteuid() != 0) return SKIPPED;
    /* Where everybody may make files. The way there is root's alone, so that names are relative. */
    MAKE(chdir(argv[1]) == 0 && chmod(".", 01777) == 0);
    struct address at = path_of("root"), own = path_of("other");
    int server = listener(SOCK_STREAM, at, 5), tell[2][2], told[2][2], ends[2];
    MAKE(chmod(at.name.sun_path, 0666) == 0);
    umask(066);
    pid_t children[2];
    char word;
    for (int i = 0; i < 2; i++) {
        MAKE(pipe(tell[i]) == 0 && pipe(told[i]) == 0);
        fflush(stdout);
        MAKE((children[i] = fork()) >= 0);
        if (children[i] == 0) {
            close(server), close(tell[i][0]), close(told[i][1]);
            child(i, at, own, tell[i][1], told[i][0]);
        }
        close(tell[i][1]), close(told[i][0]);
        ends[i] = accepted(server);
        MAKE(sends(ends[i], "hello") && read(tell[i][0], &word, 1) == 1);
    }
    /* One waits after the other, and nobody is accepted any more. */
    for (int i = 0; i < 2; i++) {
        MAKE(write(told[i][1], "w", 1) == 1 && read(tell[i][0], &word, 1) == 1);
        int call = i == 0 ? caller(SOCK_STREAM, own) : -1;
        MAKE(write(told[i][1], "c", 1) == 1 && read(tell[i][0], &word, 1) == 1);
        if (call >= 0) MAKE(close(call) == 0);
    }
    /* Nobody else is let in from here on. */
    MAKE(chmod(at.name.sun_path, 0600) == 0);

    ready();

    check_file(at.name.sun_path, 0600, 0, 0);
    for (int i = 0; i < 2; i++) {
        check_ids(ends[i], users[i], 70002, "who is served");
        CHECK(receives(ends[i], "served"), "what was in flight");
    }
    SAY("socket users: who is served, and the file");
    for (int i = 0; i < 2; i++) CHECK(write(told[i][1], "g", 1) == 1 && read(tell[i][0], &word, 1) == 1, "a child");
    for (int i = 0; i < 2; i++) {
        int waited = accepted(server);
        check_ids(waited, users[i], 70002, "who waited");
        CHECK(receives(waited, "waited"), "who waited");
    }
    CHECK(fcntl(server, F_SETFL, O_NONBLOCK) == 0 && accept(server, NULL, NULL) == -1, "nobody else waits");
    SAY("socket users: who waited");
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK(write(told[i][1], "e", 1) == 1 && waitpid(children[i], &status, 0) == children[i] &&
                  WEXITSTATUS(status) == 14,
              "a child ends: %x", status);
    }
    return finish(7);
}
