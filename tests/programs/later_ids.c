/* Ids in calls that few programs make, after a restart: signals by number with a sender of one's own choice, sched_setattr,
 * posix_spawn into groups and sessions, wait3, clone3 with a pidfd, a child for one's parent (CLONE_PARENT).
 *
 * Wrong would be: a call that does not find whom the program means, a result by which the program does not know whom it has.
 */
#include "program.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static struct shared {
    volatile int stands, came, from;
} *shared;

static void note(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    shared->from = info->si_pid;
    shared->came++;
}

static void expect_signal(int count, pid_t from, const char *how) {
    for (int i = 0; i < 5000 && shared->came < count; i++) usleep(1000);
    CHECK(shared->came == count && shared->from == from, "%s: %d came, from %d instead of %d", how, shared->came, shared->from, from);
}

static void expect_status(pid_t child, int wanted, const char *what) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == wanted, "%s: %d, %x", what, child, status);
}

static void check_signals(pid_t child) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGUSR1, info.si_code = SI_QUEUE, info.si_pid = getpid();
    CHECK(sigqueue(child, SIGUSR1, (union sigval){0}) == 0, "sigqueue");
    expect_signal(1, getpid(), "sigqueue");
    CHECK(syscall(SYS_rt_sigqueueinfo, child, SIGUSR1, &info) == 0, "rt_sigqueueinfo");
    expect_signal(2, getpid(), "rt_sigqueueinfo");
    CHECK(syscall(SYS_rt_tgsigqueueinfo, child, child, SIGUSR1, &info) == 0, "rt_tgsigqueueinfo");
    expect_signal(3, getpid(), "rt_tgsigqueueinfo");
    int descriptor = (int)syscall(SYS_pidfd_open, child, 0);
    CHECK(descriptor >= 0 && syscall(SYS_pidfd_send_signal, descriptor, SIGUSR1, &info, 0) == 0 && close(descriptor) == 0, "pidfd_send_signal");
    expect_signal(4, getpid(), "pidfd_send_signal");
    CHECK(syscall(SYS_tkill, child, 0) == 0 && syscall(SYS_tgkill, child, child, 0) == 0 && tgkill(child, child, 0) == 0, "tkill");
    SAY("later ids: signals");
}

static void check_scheduling(pid_t child) {
    uint32_t attributes[12] = {48};
    CHECK(syscall(SYS_sched_getattr, child, attributes, 48, 0) == 0, "sched_getattr");
    attributes[0] = 48;
    CHECK(syscall(SYS_sched_setattr, child, attributes, 0) == 0, "sched_setattr");
    CHECK(syscall(SYS_ioprio_set, 1, child, 3 << 13) == 0 && syscall(SYS_ioprio_get, 1, child) == 3 << 13, "ioprio_set");
    CHECK(syscall(SYS_ioprio_get, 2, getpgrp()) >= 0, "ioprio of a group");
    SAY("later ids: scheduling");
}

static void check_spawn(void) {
    char *words[] = {"sh", "-c", "sleep 100", NULL};
    posix_spawnattr_t attributes;
    pid_t first, second;
    int status;
    CHECK(posix_spawnattr_init(&attributes) == 0 && posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP) == 0, "attributes");
    CHECK(posix_spawn(&first, "/bin/sh", NULL, &attributes, words, environ) == 0 && getpgid(first) == first, "into its own group");
    CHECK(posix_spawnattr_setpgroup(&attributes, first) == 0, "attributes");
    CHECK(posix_spawn(&second, "/bin/sh", NULL, &attributes, words, environ) == 0 && getpgid(second) == first, "into a group");
    CHECK(kill(-first, SIGKILL) == 0 && waitpid(-first, &status, 0) > 0 && waitpid(-first, &status, 0) > 0, "the group");
    CHECK(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID) == 0, "attributes");
    CHECK(posix_spawn(&first, "/bin/sh", NULL, &attributes, words, environ) == 0 && getsid(first) == first, "into a session");
    CHECK(kill(first, SIGKILL) == 0 && waitpid(first, &status, 0) == first, "its end");
    SAY("later ids: posix_spawn");
}

static void check_forks(void) {
    pid_t me = getpid(), known = 0, child = fork();
    int descriptor = -1, status;
    struct rusage usage;
    siginfo_t info = {0};
    if (child == 0) _exit(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid() ? 3 : 4);
    CHECK(wait3(&status, 0, &usage) == child && WEXITSTATUS(status) == 3, "setsid, wait3: %x", status);
    struct clone_args arguments = {.flags = CLONE_PIDFD | CLONE_PARENT_SETTID, .pidfd = (uintptr_t)&descriptor, .parent_tid = (uintptr_t)&known, .exit_signal = SIGCHLD};
    child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0) _exit(5);
    CHECK(child > 0 || errno == ENOSYS || errno == EPERM, "clone3");
    if (child > 0) {
        CHECK(known == child && waitid((idtype_t)3 /* P_PIDFD */, descriptor, &info, WEXITED) == 0 && close(descriptor) == 0, "its pidfd");
        CHECK(info.si_pid == child && info.si_status == 5, "clone3: %d instead of %d", info.si_pid, child);
    }
    child = fork();
    if (child == 0) {
        pid_t brother = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (brother == 0) _exit(getppid() == me ? 11 : 12);
        _exit(brother > 0 ? 10 : 13);
    }
    expect_status(child, 10, "CLONE_PARENT");
    CHECK(wait(&status) > 0 && WEXITSTATUS(status) == 11, "the brother: %x", status);
    SAY("later ids: forks");
}

int main(void) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    int status;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(shared != MAP_FAILED && sigaction(SIGUSR1, &action, NULL) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0)
        for (shared->stands = 1;;) pause();
    while (!shared->stands) usleep(1000);

    ready();

    check_signals(child);
    check_scheduling(child);
    check_spawn();
    check_forks();
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL, "the child");
    return finish(7);
}
