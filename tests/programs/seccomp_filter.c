/* A program that confines itself to the calls that it makes: a checkpoint before that works, any after it must be
 * refused and not be felt.
 *
 *     seccomp_filter kill      by prctl(2); any other call ends the program
 *     seccomp_filter errno     by seccomp(2); any other call fails with EPERM
 *     seccomp_filter threads   as kill, for all of its threads (SECCOMP_FILTER_FLAG_TSYNC)
 */
#include "program.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static atomic_ulong turns[2];

static void *turn(void *place) {
    for (;;) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
        atomic_fetch_add((atomic_ulong *)place, 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage");
    int kills = strcmp(argv[1], "errno") != 0, threads = strcmp(argv[1], "threads") == 0;
    pthread_t thread;
    for (int i = 0; threads && i < 2; i++) MAKE(pthread_create(&thread, NULL, turn, &turns[i]) == 0);
    /* What a thread calls to begin is not among what the filter allows. */
    for (int i = 0; threads && i < 2; i++)
        while (atomic_load(&turns[i]) == 0) usleep(1000);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_write),
        ALLOW(SYS_access),
        ALLOW(SYS_clock_nanosleep),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, kills ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    /* The first use of stdout asks what kind of file it is. */
    SAY("seccomp filter: %s", argv[1]);
    ready();

    errno = 0;
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1 && errno == EFAULT, "a filter that is none fails");
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
    if (threads)
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0, "for all threads");
    else if (kills)
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "a filter that kills");
    else
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0, "a filter that fails");

    ready();

    unsigned long before[2] = {turns[0], turns[1]};
    for (int i = 0; threads && i < 2; i++)
        while (atomic_load(&turns[i]) < before[i] + 5) {
            struct timespec pause = {0, 1000000};
            nanosleep(&pause, NULL);
        }
    if (!kills) {
        errno = 0;
        CHECK(syscall(SYS_getppid) == -1 && errno == EPERM, "other calls fail");
    }
    SAY("seccomp filter: goes on");
    return finish(7);
}
