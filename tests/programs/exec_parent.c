/* A program that becomes others by exec, and asks each time who its parent is: of the whole process, of one thread, and in /proc.
 *
 * Wrong would be: another parent after an exec than before.
 */
#include "program.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *own, *parent;

static long in_proc(void) {
    char text[4096] = {0};
    int file = open("/proc/self/status", O_RDONLY);
    CHECK(file >= 0 && read(file, text, sizeof text - 1) > 0 && close(file) == 0, "/proc/self/status");
    return atol(strstr(text, "\nPPid:") + 6);
}

static void check(const char *when) {
    long wanted = atol(parent);
    CHECK(getppid() == wanted && syscall(SYS_getppid) == wanted && in_proc() == wanted, "%s: %ld, %ld, %ld instead of %ld",
          when, (long)getppid(), syscall(SYS_getppid), in_proc(), wanted);
}

static void become(const char *what) {
    execl(own, own, what, parent, (char *)NULL);
    CHECK(0, "exec");
}

static void *become_by_thread(void *argument) {
    become(argument);
    return NULL;
}

int main(int argc, char **argv) {
    char text[32];
    own = argv[0];
    if (argc == 1) {
        snprintf(text, sizeof text, "%ld", (long)getppid());
        parent = text;

        ready();

        check("before");
        become("by the main thread");
    }
    parent = argv[2];
    check(argv[1]);
    if (strcmp(argv[1], "by the main thread") == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, become_by_thread, (void *)"by another thread") == 0, "pthread_create");
        pthread_join(thread, NULL);
    }
    pid_t self = getpid(), child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) _exit(getppid() == self ? 5 : 6);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 5 << 8, "the child's parent: %x", status);
    SAY("exec: the parent stays the same");
    return finish(7);
}
