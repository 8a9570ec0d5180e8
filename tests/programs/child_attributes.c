/* What a process that is not the first has of its own: its limits, its directory and mask, scheduling, priorities, its name,
 * the signal for its parent's end, personality, how likely it is to be killed for memory.
 *
 * Wrong would be: what its parent has, what the restarter has, or what is usual, instead of its own.
 */
#include "program.h"

#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Soft and hard, those that nobody is near to; a hard one that is lower already stays. */
static const struct {
    int which;
    rlim_t soft, hard;
} LIMITS[] = {
    {RLIMIT_CPU, 5000, 6000},          {RLIMIT_CORE, 0, 4096},           {RLIMIT_DATA, 1ul << 36, 1ul << 37},
    {RLIMIT_RSS, 1ul << 33, 1ul << 34}, {RLIMIT_NOFILE, 200, 300},        {RLIMIT_LOCKS, 10, 20},
    {RLIMIT_SIGPENDING, 90, 100},      {RLIMIT_MSGQUEUE, 1000, 2000},    {RLIMIT_RTTIME, 5000000, 6000000},
    {RLIMIT_STACK, 4 << 20, 1ul << 30}, {RLIMIT_FSIZE, 1 << 30, 1ul << 31}, {RLIMIT_AS, 1ul << 38, 1ul << 39},
};
enum { COUNT = sizeof LIMITS / sizeof *LIMITS };

static int oom(void) {
    char text[32] = "";
    int file = open("/proc/self/oom_score_adj", O_RDONLY);
    MAKE(file >= 0 && read(file, text, sizeof text - 1) > 0 && close(file) == 0);
    return atoi(text);
}

static int child(const char *directory) {
    struct rlimit limits[COUNT];
    struct sched_param none = {0};
    cpu_set_t all, one, now;
    char path[4096], text[32];
    int signal = 0, processor = 0, score = oom() + 11, file = open("/proc/self/oom_score_adj", O_WRONLY);
    snprintf(text, sizeof text, "%d", score);
    MAKE(file >= 0 && write(file, text, strlen(text)) > 0 && close(file) == 0);
    MAKE((mkdir(in(directory, "below"), 0700) == 0 || errno == EEXIST) && chdir(in(directory, "below")) == 0);
    umask(0137);
    for (int i = 0; i < COUNT; i++) {
        struct rlimit was, limit = {LIMITS[i].soft, LIMITS[i].hard};
        MAKE(getrlimit(LIMITS[i].which, &was) == 0);
        if (limit.rlim_max > was.rlim_max) limit.rlim_max = was.rlim_max;
        if (limit.rlim_cur > limit.rlim_max) limit.rlim_cur = limit.rlim_max;
        MAKE(setrlimit(LIMITS[i].which, &limit) == 0 && getrlimit(LIMITS[i].which, &limits[i]) == 0);
    }
    int nice = getpriority(PRIO_PROCESS, 0) + 2;
    if (nice > 19) nice = 19;
    MAKE(setpriority(PRIO_PROCESS, 0, nice) == 0 && syscall(SYS_ioprio_set, 1, 0, 3 << 13) == 0);
    MAKE(prctl(PR_SET_TIMERSLACK, 123456) == 0 && prctl(PR_SET_NAME, "kid's name") == 0);
    MAKE(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MAKE(personality(ADDR_NO_RANDOMIZE) != -1 && prctl(PR_SET_DUMPABLE, 0) == 0);
    MAKE(sched_getaffinity(0, sizeof all, &all) == 0);
    while (!CPU_ISSET(processor, &all)) processor++;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    MAKE(sched_setaffinity(0, sizeof one, &one) == 0 && sched_setscheduler(0, SCHED_BATCH, &none) == 0);

    ready();

    for (int i = 0; i < COUNT; i++) {
        struct rlimit limit;
        CHECK(getrlimit(LIMITS[i].which, &limit) == 0, "getrlimit");
        CHECK(limit.rlim_cur == limits[i].rlim_cur && limit.rlim_max == limits[i].rlim_max, "limit %d: %lu, %lu",
              LIMITS[i].which, limit.rlim_cur, limit.rlim_max);
    }
    CHECK(getcwd(path, sizeof path) != NULL && strcmp(strrchr(path, '/'), "/below") == 0, "directory %s", path);
    CHECK(umask(0) == 0137, "umask");
    CHECK(getpriority(PRIO_PROCESS, 0) == nice && syscall(SYS_ioprio_get, 1, 0) == 3 << 13, "priorities");
    CHECK(prctl(PR_GET_TIMERSLACK) == 123456, "timer slack");
    CHECK(prctl(PR_GET_NAME, text) == 0 && strcmp(text, "kid's name") == 0, "name %s", text);
    CHECK(prctl(PR_GET_PDEATHSIG, &signal) == 0 && signal == SIGUSR2, "parent-death signal %d", signal);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && prctl(PR_GET_DUMPABLE) == 0, "privileges");
    CHECK(personality(-1) == ADDR_NO_RANDOMIZE, "personality %x", personality(-1));
    CHECK(sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &one), "affinity");
    CHECK(sched_getscheduler(0) == SCHED_BATCH, "scheduler");
    /* What cannot be dumped cannot be looked at in /proc by its own user. */
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0 && oom() == score, "score %d", oom());
    SAY("child attributes: its own");
    fflush(stdout);
    return 5;
}

int main(int argc, char **argv) {
    int status;
    MAKE(argc == 2);
    pid_t made = fork();
    if (made == 0) _exit(child(argv[1]));
    CHECK(waitpid(made, &status, 0) == made && WIFEXITED(status) && WEXITSTATUS(status) == 5, "the child: %x", status);
    return finish(7);
}
