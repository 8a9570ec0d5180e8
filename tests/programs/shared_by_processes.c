/* What several processes share: pipes between them with data in flight, a socket pair, the offset of a file, memory
 * (anonymous, of a deleted file), a lock and a condition in it, a thread that waits there.
 */
#include "program.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct common {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int turn, waits;
    unsigned char bytes[20000];
};

static struct common *common, *deleted;
static int to_child[2], to_parent[2], pair[2], file;

static void lock(void) { CHECK(pthread_mutex_lock(&common->lock) == 0, "lock"); }
static void unlock(void) { CHECK(pthread_mutex_unlock(&common->lock) == 0, "unlock"); }

static void child(void) {
    char line[64];
    close(to_child[1]);
    close(to_parent[0]);
    close(pair[0]);
    MAKE(write(to_parent[1], "in flight", 9) == 9 && write(pair[1], "ping", 4) == 4);
    lock();
    common->waits = 1;
    while (common->turn == 0) pthread_cond_wait(&common->changed, &common->lock);
    CHECK(filled(common->bytes, sizeof common->bytes, 3), "shared memory, as the child sees it");
    fill(deleted->bytes, sizeof deleted->bytes, 6);
    common->turn = 2;
    pthread_cond_broadcast(&common->changed);
    unlock();
    ssize_t length = read(to_child[0], line, sizeof line);
    CHECK(length == 5 && memcmp(line, "early", 5) == 0, "what was in flight to the child");
    length = read(pair[1], line, sizeof line);
    CHECK(length == 4 && memcmp(line, "pong", 4) == 0, "the socket pair, as the child sees it");
    CHECK(write(file, "child\n", 6) == 6 && write(to_parent[1], "later", 5) == 5, "the child writes");
    CHECK(read(to_child[0], line, sizeof line) == 0, "the end of the pipe");
    _exit(11);
}

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: shared_by_processes DIRECTORY");
    const char *path = in(argv[1], "offset");
    file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    MAKE(file >= 0 && write(file, "first\n", 6) == 6);
    MAKE(pipe(to_child) == 0 && pipe(to_parent) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const char *gone = in(argv[1], "gone");
    int hidden = open(gone, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MAKE(hidden >= 0 && ftruncate(hidden, sizeof *deleted) == 0);
    deleted = mmap(NULL, sizeof *deleted, PROT_READ | PROT_WRITE, MAP_SHARED, hidden, 0);
    MAKE(common != MAP_FAILED && deleted != MAP_FAILED && close(hidden) == 0 && unlink(gone) == 0);
    pthread_mutexattr_t shared;
    pthread_condattr_t shown;
    MAKE(pthread_mutexattr_init(&shared) == 0 && pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED) == 0);
    MAKE(pthread_condattr_init(&shown) == 0 && pthread_condattr_setpshared(&shown, PTHREAD_PROCESS_SHARED) == 0);
    MAKE(pthread_mutex_init(&common->lock, &shared) == 0 && pthread_cond_init(&common->changed, &shown) == 0);
    fflush(stdout);
    pid_t pid = fork();
    MAKE(pid >= 0);
    if (pid == 0) child();
    close(to_child[0]);
    close(to_parent[1]);
    close(pair[1]);
    MAKE(write(to_child[1], "early", 5) == 5 && write(file, "second\n", 7) == 7);
    fill(common->bytes, sizeof common->bytes, 3);
    fill(deleted->bytes, sizeof deleted->bytes, 4);
    for (int waits = 0; !waits;) {
        lock();
        waits = common->waits;
        unlock();
    }

    ready();

    CHECK(filled(deleted->bytes, sizeof deleted->bytes, 4), "memory of a deleted file");
    lock();
    common->turn = 1;
    pthread_cond_broadcast(&common->changed);
    while (common->turn == 1) pthread_cond_wait(&common->changed, &common->lock);
    CHECK(filled(deleted->bytes, sizeof deleted->bytes, 6), "what the child has written to it");
    unlock();
    SAY("shared: memory, with a lock and a condition in it");

    char line[64];
    CHECK(read(pair[0], line, sizeof line) == 4 && memcmp(line, "ping", 4) == 0, "the socket pair");
    CHECK(write(pair[0], "pong", 4) == 4, "an answer");
    CHECK(read(to_parent[0], line, 9) == 9 && memcmp(line, "in flight", 9) == 0, "what was in flight");
    CHECK(read(to_parent[0], line, sizeof line) == 5 && memcmp(line, "later", 5) == 0, "what comes later");
    CHECK(lseek(file, 0, SEEK_CUR) == 19, "one offset for both: %ld", (long)lseek(file, 0, SEEK_CUR));
    SAY("shared: pipes, a socket pair, a file's offset");

    CHECK(close(to_child[1]) == 0, "the end");
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 11, "the child ends");
    CHECK(read(to_parent[0], line, sizeof line) == 0, "nobody has the other end");
    SAY("shared: ends of pipes are where they were, and nowhere else");
    return finish(7);
}
