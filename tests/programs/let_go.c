/* A thread does what goes wrong when somebody else holds a file that it has just let go of, as fast as it can: executes a
 * file that it has written by write(2) and one written through shared memory (ETXTBSY), takes a lock again that went with
 * its last descriptor (EWOULDBLOCK), and looks for the end of a pipe that has no writer any more.
 *
 * Wrong would be any of these, but for a moment at most: whoever lists the threads of a program has to share its descriptors
 * first, and takes hold of those below 64 within the system call by which it leaves them, as the fork of any other thread does.
 */
#include "program.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

static atomic_int over;
static atomic_long rounds;
static int moments;

/* Whether it may be tried again. */
static int only_a_moment(void) {
    struct timespec pause = {0, 500000};
    nanosleep(&pause, NULL);
    return ++moments <= 2;
}
static char *text;
static size_t length;

static void read_program(void) {
    int file = open("/bin/true", O_RDONLY | O_CLOEXEC);
    struct stat stat;
    MAKE(file >= 0 && fstat(file, &stat) == 0);
    length = (size_t)stat.st_size;
    text = malloc(length);
    MAKE(text != NULL && pread(file, text, length, 0) == (ssize_t)length);
    close(file);
}

static void write_by_call(int file) {
    MAKE(write(file, text, length) == (ssize_t)length);
}

static void write_by_memory(int file) {
    MAKE(ftruncate(file, (off_t)length) == 0);
    char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    MAKE(memory != MAP_FAILED);
    memcpy(memory, text, length);
    munmap(memory, length);
}

static void make_and_run(const char *name, void (*fill)(int)) {
    unlink(name);
    int file = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    MAKE(file >= 0);
    fill(file);
    close(file);
    char *words[] = {(char *)name, NULL};
    pid_t child;
    int status, error = posix_spawn(&child, name, NULL, NULL, words, environ);
    if (error == ETXTBSY && only_a_moment()) error = posix_spawn(&child, name, NULL, NULL, words, environ);
    CHECK(error == 0, "%s after %ld rounds: %s", name, (long)rounds, strerror(error));
    CHECK(waitpid(child, &status, 0) == child && status == 0, "%s: status %x", name, status);
}

static void lock_again(void) {
    for (int turn = 0; turn < 2; turn++) {
        int file = open("locked", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        MAKE(file >= 0);
        int locked = flock(file, LOCK_EX | LOCK_NB) == 0;
        if (!locked && only_a_moment()) locked = flock(file, LOCK_EX | LOCK_NB) == 0;
        CHECK(locked, "lock after %ld rounds: %s", (long)rounds, strerror(errno));
        close(file);
    }
}

static void end_pipe(void) {
    int ends[2];
    MAKE(pipe2(ends, O_CLOEXEC) == 0);
    close(ends[1]);
    struct pollfd end = {.fd = ends[0], .events = POLLIN};
    if (poll(&end, 1, 0) == 0) only_a_moment();
    CHECK(poll(&end, 1, 0) == 1 && end.revents == POLLHUP, "pipe after %ld rounds: %x", (long)rounds, end.revents);
    close(ends[0]);
}

static void *work(void *nothing) {
    for (; !over; rounds++) {
        make_and_run("./by_call", write_by_call);
        make_and_run("./by_memory", write_by_memory);
        lock_again();
        end_pipe();
    }
    return nothing;
}

int main(void) {
    pthread_t thread;
    read_program();
    MAKE(pthread_create(&thread, NULL, work, NULL) == 0);
    ready();
    over = 1;
    pthread_join(thread, NULL);
    SAY("let go: nobody else held it");
    return finish(8);
}
