/* Who the program is: its ids, its name, its executable, its arguments.
 *
 * Wrong would be: another id than the one it has given to others, the restarter's name or executable, an id by which it
 * cannot reach itself.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static sem_t standing, done;
static pid_t thread_before, thread_after;

static void *run(void *argument) {
    thread_before = gettid();
    sem_post(&standing);
    while (sem_wait(&done) != 0) continue;
    thread_after = gettid();
    return argument;
}

static char *content(const char *path, ssize_t *length) {
    char *space = calloc(1, 8192);
    int file = open(path, O_RDONLY);
    CHECK(space != NULL && file >= 0, "open %s", path);
    *length = read(file, space, 8191);
    CHECK(*length > 0 && close(file) == 0, "read %s", path);
    return space;
}

static char *link_of(const char *path) {
    char *space = calloc(1, 4096);
    CHECK(readlink(path, space, 4095) > 0, "readlink %s", path);
    return space;
}

int main(int argc, char **argv) {
    pid_t process = getpid(), thread = gettid();
    uid_t user = getuid(), effective = geteuid();
    gid_t group = getgid();
    ssize_t arguments_length, comm_length, now_length;
    pthread_t worker;
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&done, 0, 0) == 0);
    MAKE(pthread_create(&worker, NULL, run, NULL) == 0 && sem_wait(&standing) == 0);
    char *executable = link_of("/proc/self/exe"), *arguments = content("/proc/self/cmdline", &arguments_length);
    char *comm = content("/proc/self/comm", &comm_length), name[16];
    const char *executed = (const char *)getauxval(AT_EXECFN);
    char *executed_before = strdup(executed);
    MAKE(thread == process && thread_before != process);

    ready();

    CHECK(getpid() == process && syscall(SYS_getpid) == process, "getpid");
    CHECK(gettid() == thread && syscall(SYS_gettid) == thread, "gettid");
    sem_post(&done);
    CHECK(pthread_join(worker, NULL) == 0 && thread_after == thread_before, "gettid of a thread");
    CHECK(kill(process, 0) == 0 && syscall(SYS_tgkill, process, thread, 0) == 0, "it reaches itself by its ids");
    CHECK(getuid() == user && geteuid() == effective && getgid() == group, "user and group");
    SAY("identity: getpid, gettid of both threads, user and group");
    CHECK(strcmp(link_of("/proc/self/exe"), executable) == 0, "/proc/self/exe is %s", link_of("/proc/self/exe"));
    char *now = content("/proc/self/cmdline", &now_length);
    CHECK(now_length == arguments_length && memcmp(now, arguments, now_length) == 0, "cmdline");
    now = content("/proc/self/comm", &now_length);
    CHECK(now_length == comm_length && memcmp(now, comm, now_length) == 0, "comm is %s", now);
    CHECK(prctl(PR_GET_NAME, name) == 0 && strncmp(name, comm, strlen(name)) == 0, "PR_GET_NAME");
    CHECK((const char *)getauxval(AT_EXECFN) == executed && strcmp(executed, executed_before) == 0, "AT_EXECFN");
    CHECK(strcmp(program_invocation_name, argv[0]) == 0 && argc == 3 && strcmp(argv[1], "an argument") == 0, "argv");
    SAY("identity: executable, arguments, name \"%.*s\"", (int)comm_length - 1, comm);
    return finish(7);
}
