/* Processes and how they stand to each other: parents, children, an orphan, sessions, process groups (also of a leader
 * that has ended), an ended child, signals among them, and a child that ends while its parent waits for it.
 */
#include "program.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* What each process knows of itself; the first one compares. */
struct member {
    volatile pid_t pid, parent, group, session;
    volatile int asked, answered, signals;
};

enum { ROOT, CHILD, GRANDCHILD, GROUP_LEADER, FOLLOWER, GHOST_FOLLOWER, SESSION, EARLY, LATE, ORPHAN, MEMBERS };
static const char *names[] = {"root",   "child",   "grandchild",   "leader of a group",  "follower", "follower of a ghost",
                              "leader of a session", "child of before", "child of after", "orphan"};
static struct member *members;
static int self;

static void note(void) {
    members[self].parent = getppid();
    members[self].group = getpgrp();
    members[self].session = getsid(0);
    members[self].pid = getpid();
}

static void count(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    if (info->si_code == SI_USER) members[self].signals++;
}

static void pause_shortly(void) {
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
}

/* Answers as often as it is asked; ends when it is asked to. */
static void serve(void) {
    note();
    for (;;) {
        pause_shortly();
        if (members[self].asked < 0) _exit(40 + self);
        if (members[self].asked != members[self].answered) {
            note();
            members[self].answered = members[self].asked;
        }
    }
}

static void await(int which) {
    while (members[which].pid == 0) pause_shortly();
}

static pid_t make(int which) {
    fflush(stdout);
    pid_t pid = fork();
    MAKE(pid >= 0);
    if (pid == 0) self = which;
    return pid;
}

int main(void) {
    members = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(members != MAP_FAILED);
    struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_SIGINFO | SA_RESTART};
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0);
    note();

    if (make(CHILD) == 0) {
        if (make(GRANDCHILD) == 0) serve();
        serve();
    }
    pid_t leader = make(GROUP_LEADER);
    if (leader == 0) {
        setpgid(0, 0);
        serve();
    }
    await(GROUP_LEADER);
    if (make(FOLLOWER) == 0) {
        MAKE(setpgid(0, members[GROUP_LEADER].pid) == 0);
        serve();
    }
    pid_t ghost = fork();
    if (ghost == 0) {
        setpgid(0, 0);
        for (;;) pause();
    }
    while (getpgid(ghost) != ghost) pause_shortly();
    if (make(GHOST_FOLLOWER) == 0) {
        MAKE(setpgid(0, ghost) == 0);
        serve();
    }
    await(GHOST_FOLLOWER);
    int status;
    MAKE(kill(ghost, SIGKILL) == 0 && waitpid(ghost, &status, 0) == ghost);
    if (make(SESSION) == 0) {
        if (make(EARLY) == 0) serve();
        await(EARLY);
        MAKE(setsid() == getpid());
        if (make(LATE) == 0) serve();
        serve();
    }
    pid_t passing = fork();
    if (passing == 0) {
        pid_t parent = setsid();
        MAKE(parent == getpid());
        if (make(ORPHAN) == 0) {
            while (getppid() == parent) pause_shortly();
            serve();
        }
        _exit(0);
    }
    MAKE(waitpid(passing, &status, 0) == passing);
    for (int i = 0; i < MEMBERS; i++) await(i);
    pid_t ended = fork();
    if (ended == 0) _exit(9);
    siginfo_t info;
    MAKE(waitid(P_PID, ended, &info, WEXITED | WNOWAIT) == 0);
    struct member before[MEMBERS];
    memcpy(before, members, sizeof before);

    ready();

    CHECK(getpid() == before[ROOT].pid && getppid() == before[ROOT].parent && getpgrp() == before[ROOT].group &&
              getsid(0) == before[ROOT].session,
          "ids of the first process");
    for (int i = 1; i < MEMBERS; i++) {
        members[i].asked++;
        while (members[i].answered != members[i].asked) pause_shortly();
        struct member now = members[i];
        CHECK(now.pid == before[i].pid, "id of the %s: %d, was %d", names[i], now.pid, before[i].pid);
        CHECK(now.parent == before[i].parent, "parent of the %s: %d, was %d", names[i], now.parent, before[i].parent);
        CHECK(now.group == before[i].group, "group of the %s: %d, was %d", names[i], now.group, before[i].group);
        CHECK(now.session == before[i].session, "session of the %s: %d, was %d", names[i], now.session,
              before[i].session);
        CHECK(getpgid(now.pid) == now.group && getsid(now.pid) == now.session, "what others see of the %s", names[i]);
        int signals = members[i].signals;
        CHECK(kill(now.pid, SIGUSR1) == 0, "kill of the %s", names[i]);
        while (members[i].signals == signals) pause_shortly();
    }
    SAY("family: everybody is where it was");

    int had[2] = {members[GROUP_LEADER].signals, members[FOLLOWER].signals};
    CHECK(kill(-before[GROUP_LEADER].pid, SIGUSR1) == 0, "kill of a group");
    while (members[GROUP_LEADER].signals == had[0] || members[FOLLOWER].signals == had[1]) pause_shortly();
    int has = members[GHOST_FOLLOWER].signals;
    CHECK(killpg(ghost, SIGUSR1) == 0, "kill of a group without a leader");
    while (members[GHOST_FOLLOWER].signals == has) pause_shortly();
    SAY("family: signals reach groups");

    CHECK(waitpid(ended, &status, 0) == ended && WEXITSTATUS(status) == 9, "the ended child");
    CHECK(waitpid(before[SESSION].pid, &status, WNOHANG) == 0, "a living child");
    int ends[] = {GRANDCHILD, EARLY, LATE, ORPHAN, CHILD, GROUP_LEADER, FOLLOWER, GHOST_FOLLOWER, SESSION};
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
        pid_t pid = before[ends[i]].pid;
        int own = before[ends[i]].parent == getpid();
        members[ends[i]].asked = -1;
        if (own) {
            CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 40 + ends[i],
                  "the end of the %s", names[ends[i]]);
        }
    }
    errno = 0;
    CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD, "no child is left");
    SAY("family: each has ended in its own way");

    pid_t late = fork();
    if (late == 0) _exit(getppid() == members[ROOT].pid ? 5 : 6);
    CHECK(waitpid(late, &status, 0) == late && WEXITSTATUS(status) == 5, "a child made later");
    SAY("family: a new child knows its parent");
    return finish(7);
}
