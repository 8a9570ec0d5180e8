/* A program with threads that becomes another user: every thread does, those of before and those of later.
 *
 * Wrong would be: a thread that stays who it was, a call that fails or waits for ever.
 */
#include "program.h"

#include <grp.h>
#include <pthread.h>
#include <sys/syscall.h>

#define THREADS 6
#define MANY 40
enum { NOBODY = 65534 };

static pthread_barrier_t all;
static volatile int going_on = 1;
static uid_t users[3];
static gid_t groups[3];
static int group_count;

static void *work(void *argument) {
    for (;;) {
        pthread_barrier_wait(&all);
        if (!going_on) return argument;
        uid_t u[3];
        gid_t g[3];
        /* By the kernel: libc keeps nothing. */
        CHECK(syscall(SYS_getresuid, &u[0], &u[1], &u[2]) == 0 && syscall(SYS_getresgid, &g[0], &g[1], &g[2]) == 0, "getresuid");
        CHECK(memcmp(u, users, sizeof u) == 0, "a thread's users: %d %d %d", u[0], u[1], u[2]);
        CHECK(memcmp(g, groups, sizeof g) == 0, "a thread's groups: %d %d %d", g[0], g[1], g[2]);
        CHECK(syscall(SYS_getgroups, 0, NULL) == group_count, "a thread's other groups");
        pthread_barrier_wait(&all);
    }
}

static void everybody(const char *what) {
    getresuid(&users[0], &users[1], &users[2]);
    getresgid(&groups[0], &groups[1], &groups[2]);
    group_count = getgroups(0, NULL);
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    SAY("set users: %s", what);
}

/* Ready, and becoming whom one is all the time: a checkpoint finds the threads at it. */
static void ready_and_busy(void) {
    say_ready();
    while (!told_to_go_on()) CHECK(setresuid(-1, getuid(), -1) == 0 && setegid(getegid()) == 0, "staying who one is");
}

int main(void) {
    if (getuid() != 0) {
        /* What an ordinary user may set. */
        pthread_t many[MANY];
        MAKE(pthread_barrier_init(&all, NULL, MANY + 1) == 0);
        for (int i = 0; i < MANY; i++) MAKE(pthread_create(&many[i], NULL, work, NULL) == 0);
        ready_and_busy();
        /* EINVAL where a namespace of users has no such one. */
        CHECK(setuid(0) == -1 && (errno == EPERM || errno == EINVAL), "setuid");
        CHECK(setresgid(0, 0, 0) == -1 && (errno == EPERM || errno == EINVAL), "setresgid");
        CHECK(setresuid(getuid(), -1, getuid()) == 0 && setegid(getgid()) == 0, "what a user may");
        everybody("an ordinary user's");
        going_on = 0;
        pthread_barrier_wait(&all);
        for (int i = 0; i < MANY; i++) CHECK(pthread_join(many[i], NULL) == 0, "join");
        return finish(7);
    }
    pthread_t threads[THREADS];
    MAKE(pthread_barrier_init(&all, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS - 2; i++) MAKE(pthread_create(&threads[i], NULL, work, NULL) == 0);

    ready_and_busy();

    for (int i = THREADS - 2; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0, "a later thread");
    gid_t list[] = {7, 8, 9};
    CHECK(setgroups(3, list) == 0, "setgroups");
    everybody("setgroups");
    CHECK(initgroups("nobody", NOBODY) == 0, "initgroups");
    everybody("initgroups");
    CHECK(setegid(4) == 0, "setegid");
    everybody("setegid");
    CHECK(setregid(5, 6) == 0, "setregid");
    everybody("setregid");
    CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setgid(NOBODY) == 0, "setresgid, setgid");
    everybody("setresgid");
    CHECK(seteuid(1) == 0, "seteuid");
    everybody("seteuid");
    CHECK(seteuid(0) == 0 && setreuid(0, 2) == 0, "setreuid");
    everybody("setreuid");
    CHECK(seteuid(0) == 0 && setresuid(0, 0, 3) == 0, "setresuid");
    everybody("setresuid");
    CHECK(setuid(NOBODY) == 0, "setuid");
    everybody("setuid");
    CHECK(setuid(0) == -1 && errno == EPERM && seteuid(-1) == -1 && errno == EINVAL, "no way back");
    everybody("no way back");
    going_on = 0;
    pthread_barrier_wait(&all);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0, "join");
    return finish(7);
}
