/* As many connections as argv[2] says, both ends in this process, and as many as argv[3] says to a child, with something
 * in flight in each. */
#include "program.h"
#include "unix_sockets.h"

#include <sys/resource.h>
#include <sys/wait.h>

static int ends[2000][2];

int main(int argc, char **argv) {
    CHECK(argc > 3, "usage: many_sockets DIRECTORY WITHIN ACROSS");
    int within = atoi(argv[2]), across = atoi(argv[3]);
    CHECK(within + across < 2000, "too many");
    struct rlimit limit;
    MAKE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    MAKE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_max < (rlim_t)(2 * within + across + 20)) return SKIPPED;
    struct address at = path_of(in(argv[1], "s"));
    int server = listener(SOCK_STREAM, at, 5), tell[2];
    for (int i = 0; i < within; i++) {
        ends[i][0] = caller(SOCK_STREAM, at), ends[i][1] = accepted(server);
        MAKE(send(ends[i][0], &i, sizeof i, 0) == sizeof i && send(ends[i][1], &i, sizeof i, 0) == sizeof i);
    }
    MAKE(pipe(tell) == 0);
    fflush(stdout);
    pid_t pid = fork();
    MAKE(pid >= 0);
    if (pid == 0) {
        close(tell[1]), close(server);
        for (int i = 0; i < within; i++) close(ends[i][0]), close(ends[i][1]);
        for (int i = 0; i < across; i++) {
            ends[i][0] = caller(SOCK_STREAM, at);
            MAKE(send(ends[i][0], &i, sizeof i, 0) == sizeof i);
        }
        char word;
        CHECK(read(tell[0], &word, 1) == 1, "the word to go on");
        for (int i = 0; i < across; i++) {
            int got;
            CHECK(recv(ends[i][0], &got, sizeof got, MSG_DONTWAIT) == sizeof got && got == i, "the child's %d", i);
        }
        _exit(13);
    }
    close(tell[0]);
    for (int i = 0; i < across; i++) {
        ends[within + i][1] = accepted(server);
        MAKE(send(ends[within + i][1], &i, sizeof i, 0) == sizeof i);
    }

    ready();

    for (int i = 0; i < within + across; i++) {
        for (int k = i < within ? 0 : 1; k < 2; k++) {
            int got, wanted = i < within ? i : i - within;
            CHECK(recv(ends[i][k], &got, sizeof got, 0) == sizeof got && got == wanted, "connection %d", i);
        }
    }
    int status;
    CHECK(write(tell[1], "g", 1) == 1 && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 13,
          "the child ends: %x", status);
    struct rlimit now;
    CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == limit.rlim_cur && now.rlim_max == limit.rlim_max,
          "the limit");
    SAY("many sockets: all are there");
    return finish(7);
}
