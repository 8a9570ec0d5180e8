/* What a process may do and how it is treated: capabilities and what bounds them, dumpable, no new privileges, the
 * parent-death signal, subreaper, personality, how likely it is to be killed for memory, I/O priority.
 */
#include "program.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int oom(void) {
    char text[32] = "";
    int file = open("/proc/self/oom_score_adj", O_RDONLY);
    MAKE(file >= 0 && read(file, text, sizeof text - 1) > 0 && close(file) == 0);
    return atoi(text);
}

static void capabilities(struct __user_cap_data_struct *data) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    CHECK(syscall(SYS_capget, &header, data) == 0, "capget");
}

int main(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2], now[2];
    char text[16];
    int file = open("/proc/self/oom_score_adj", O_WRONLY), score = oom() + 7;
    snprintf(text, sizeof text, "%d", score);
    MAKE(file >= 0 && write(file, text, strlen(text)) > 0 && close(file) == 0 && oom() == score);
    if (geteuid() == 0) {
        MAKE(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0) == 0);
        MAKE(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0) == 0);
    }
    capabilities(data);
    if (geteuid() == 0) {
        data[0].effective &= ~(1u << CAP_NET_RAW);
        data[0].permitted &= ~(1u << CAP_SYS_BOOT);
        data[0].effective &= ~(1u << CAP_SYS_BOOT);
        data[0].inheritable = 1u << CAP_CHOWN;
        MAKE(syscall(SYS_capset, &header, data) == 0);
        MAKE(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
    }
    MAKE(prctl(PR_SET_PDEATHSIG, SIGCONT, 0, 0, 0) == 0);
    MAKE(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    MAKE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MAKE(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
    MAKE(personality(ADDR_NO_RANDOMIZE | UNAME26) != -1);
    MAKE(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0);
    MAKE(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);

    ready();

    capabilities(now);
    CHECK(memcmp(now, data, sizeof data) == 0, "capabilities: effective %x, was %x; permitted %x, was %x",
          now[0].effective, data[0].effective, now[0].permitted, data[0].permitted);
    if (geteuid() == 0) {
        CHECK(prctl(PR_CAPBSET_READ, CAP_SYS_BOOT, 0, 0, 0) == 0, "the bounding set");
        CHECK(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & SECBIT_NOROOT, "securebits");
        CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 1, "the ambient set");
    }
    int signal = 0, reaper = 0;
    CHECK(prctl(PR_GET_PDEATHSIG, &signal, 0, 0, 0) == 0 && signal == SIGCONT, "parent-death signal %d", signal);
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &reaper, 0, 0, 0) == 0 && reaper == 1, "subreaper");
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no new privileges");
    CHECK(prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) == 1, "keeps capabilities");
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0, "not dumpable");
    CHECK(personality(0xffffffff) == (ADDR_NO_RANDOMIZE | UNAME26), "personality %x", personality(0xffffffff));
    CHECK(syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 6), "I/O priority");
    CHECK(oom() == score, "oom_score_adj %d, was %d", oom(), score);
    SAY("attributes: all are as they were");
    return finish(7);
}
