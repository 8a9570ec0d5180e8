/* Living children that have come to their program by every road: execve, fexecve, execveat, the system calls by their numbers,
 * without an environment, by another thread than the first; and one that posix_spawn makes afterwards, in the group of an older.
 *
 * Wrong would be: a child that is not in the pod any more, so that the checkpoint is refused, or is not there after a restart;
 * another process group.
 */
#define _GNU_SOURCE
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static char *words[] = {"sleep", "1000", NULL}, *none[] = {NULL};
static int file;

static void by_execve(void) { execve("/bin/sleep", words, environ); }
static void bare(void) { execve("/bin/sleep", words, none); }
static void by_descriptor(void) { fexecve(file, words, environ); }
static void by_number(void) { syscall(SYS_execve, "/bin/sleep", words, environ); }
static void bare_by_number(void) { syscall(SYS_execve, "/bin/sleep", words, none); }
static void at_by_number(void) { syscall(SYS_execveat, AT_FDCWD, "/bin/sleep", words, environ, 0); }
static void descriptor_by_number(void) { syscall(SYS_execveat, file, "", words, none, AT_EMPTY_PATH); }

static void *thread(void *nothing) {
    by_execve();
    return nothing;
}

static void by_thread(void) {
    pthread_t other;
    MAKE(pthread_create(&other, NULL, thread, NULL) == 0);
    for (;;) pause();
}

static void (*const roads[])(void) = {by_execve, bare, by_descriptor, by_number, bare_by_number, at_by_number,
                                      descriptor_by_number, by_thread};
enum { ROADS = sizeof roads / sizeof *roads };

static int has_come(pid_t pid) {
    char path[64], name[16] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *comm = fopen(path, "r");
    if (comm == NULL) return 0;
    int read = fscanf(comm, "%15s", name);
    fclose(comm);
    // By a descriptor it is named after that.
    return read == 1 && strcmp(name, "exec_roads") != 0;
}

int main(void) {
    pid_t children[ROADS];
    int status;
    MAKE((file = open("/bin/sleep", O_RDONLY | O_CLOEXEC)) >= 0);
    for (int i = 0; i < ROADS; i++) {
        fflush(stdout);
        MAKE((children[i] = fork()) >= 0);
        if (children[i] == 0) {
            if (i == 0) setpgid(0, 0);
            roads[i]();
            _exit(9);
        }
    }
    for (int i = 0; i < ROADS; i++)
        while (!has_come(children[i])) usleep(1000);

    ready();

    posix_spawnattr_t attributes;
    pid_t late = 0, group = 0;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attributes, children[0]);
    CHECK((errno = posix_spawn(&late, "/bin/sleep", NULL, &attributes, words, environ)) == 0, "posix_spawn");
    CHECK(getpgid(late) == children[0], "a spawned child's group %d, not %d", getpgid(late), children[0]);
    CHECK(posix_spawnattr_getpgroup(&attributes, &group) == 0 && group == children[0], "the attributes' group");
    posix_spawnattr_destroy(&attributes);
    CHECK(late > 0 && kill(late, SIGKILL) == 0 && waitpid(late, &status, 0) == late, "the spawned child");
    for (int i = 0; i < ROADS; i++) {
        CHECK(waitpid(children[i], &status, WNOHANG) == 0, "road %d: %x", i, status);
        CHECK(kill(children[i], SIGTERM) == 0, "road %d: kill", i);
        CHECK(waitpid(children[i], &status, 0) == children[i] && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM,
              "road %d: %x", i, status);
    }
    SAY("exec: %d roads", ROADS);
    return finish(7);
}
