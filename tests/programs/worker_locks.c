/* Locks of fcntl(2), which belong to a process, on files that it has inherited: a parent opens them, its children lock parts
 * of them.
 *
 * Wrong would be: a lock that nobody has afterwards, or another process than before.
 */
#include "program.h"

#include <sys/wait.h>

static int lock(int file, int command, int type, off_t start) {
    struct flock request = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = 10};
    return fcntl(file, command, &request) == 0 ? request.l_type : -1;
}

static pid_t owner(int file, off_t start) {
    struct flock request = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 10};
    MAKE(fcntl(file, F_GETLK, &request) == 0);
    return request.l_type == F_UNLCK ? 0 : request.l_pid;
}

int main(void) {
    int file = open("worker_locks", O_RDWR | O_CREAT | O_TRUNC, 0600), told[2], over[2];
    pid_t children[3];
    MAKE(file >= 0 && write(file, "some text that is longer than ten bytes, and more", 49) == 49);
    MAKE(pipe(told) == 0 && pipe(over) == 0 && lock(file, F_SETLK, F_WRLCK, 30) == F_WRLCK);
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        MAKE(children[i] >= 0);
        if (children[i] == 0) {
            MAKE(close(over[1]) == 0 && lock(file, F_SETLK, i == 2 ? F_RDLCK : F_WRLCK, i * 10) >= 0);
            MAKE(write(told[1], "x", 1) == 1);
            char end;
            while (read(over[0], &end, 1) < 0 && errno == EINTR);
            _exit(20 + i);
        }
    }
    for (int i = 0; i < 3; i++) MAKE(read(told[0], (char[1]){0}, 1) == 1);
    ready();
    for (int i = 0; i < 3; i++) CHECK(owner(file, i * 10) == children[i], "who has lock %d: %d", i, (int)owner(file, i * 10));
    CHECK(lock(file, F_SETLK, F_RDLCK, 20) == F_RDLCK, "the lock of a reader is one of a writer");
    CHECK(lock(file, F_SETLK, F_WRLCK, 0) == -1 && errno == EAGAIN, "a lock that somebody has");
    CHECK(close(over[1]) == 0, "the end");
    for (int i = 0; i < 3; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i] && WEXITSTATUS(status) == 20 + i, "child %d", i);
        CHECK(owner(file, i * 10) == 0, "lock %d after its owner's end", i);
    }
    SAY("worker_locks: each is its owner's");
    return finish(7);
}
