/* A program that was started by root, has become another user and kept one capability, which it hands on (ambient), under
 * secure bits that it may not change any more; and priorities that this user could not get.
 */
#include "program.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define BITS (SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE)
#define KEPT (1u << CAP_NET_BIND_SERVICE)

static sem_t go, done;
static int main_nice, thread_nice, thread_policy, io_class;

static int own_nice(void) { return getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)); }

static int io_priority(void) { return (int)syscall(SYS_ioprio_get, 1, 0); }

static void *thread(void *nothing) {
    int nice_before = own_nice(), policy_before = sched_getscheduler(0);
    sem_post(&done);
    while (sem_wait(&go) != 0) continue;
    thread_nice = own_nice() == nice_before;
    thread_policy = sched_getscheduler(0) == policy_before;
    return nothing;
}

static void capabilities(struct __user_cap_data_struct *data, int set) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    MAKE(syscall(set ? SYS_capset : SYS_capget, &header, data) == 0);
}

int main(void) {
    if (geteuid() != 0) return SKIPPED;
    pthread_t other;
    struct sched_param priority = {.sched_priority = 3}, none = {.sched_priority = 0};
    struct __user_cap_data_struct data[2], few[2] = {{.effective = KEPT, .permitted = KEPT, .inheritable = KEPT}};
    MAKE(sem_init(&go, 0, 0) == 0 && sem_init(&done, 0, 0) == 0);
    /* What this machine lets nobody have, the program has not either. */
    setpriority(PRIO_PROCESS, 0, -5);
    syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 4);
    sched_setscheduler(0, SCHED_RR, &priority);
    main_nice = own_nice();
    io_class = io_priority();
    capabilities(data, 0);
    data[0].inheritable |= KEPT;
    capabilities(data, 1);
    MAKE(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0);
    MAKE(prctl(PR_SET_SECUREBITS, BITS, 0, 0, 0) == 0);
    MAKE(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    capabilities(few, 1);
    MAKE(pthread_create(&other, NULL, thread, NULL) == 0);
    while (sem_wait(&done) != 0) continue;
    /* The thread keeps the real-time policy that it has from its maker. */
    MAKE(sched_setscheduler(0, SCHED_OTHER, &none) == 0 && own_nice() == main_nice);

    ready();

    CHECK(own_nice() == main_nice, "nice value of the main thread: %d, was %d", own_nice(), main_nice);
    CHECK(io_priority() == io_class, "I/O priority: %d, was %d", io_priority(), io_class);
    sem_post(&go);
    CHECK(pthread_join(other, NULL) == 0 && thread_nice && thread_policy, "the thread's priority");
    CHECK(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) == BITS, "secure bits: %d", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    struct __user_cap_data_struct now[2];
    capabilities(now, 0);
    CHECK(now[0].permitted == KEPT && now[0].effective == KEPT && now[0].inheritable == KEPT && now[1].permitted == 0,
          "capabilities: %x %x %x", now[0].effective, now[0].permitted, now[0].inheritable);
    for (int i = 0; i < 40; i++) {
        int ambient = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0);
        CHECK(ambient <= 0 || i == CAP_NET_BIND_SERVICE, "capability %d is ambient", i);
        CHECK(ambient == 1 || i != CAP_NET_BIND_SERVICE, "capability %d is not ambient", i);
    }
    CHECK(getuid() == 65534 && setuid(0) == -1, "who the program is");
    SAY("privileges: one capability, which is ambient, secure bits, priorities");
    return finish(7);
}
