/* Orphans that a subreaper of the pod has adopted (PR_SET_CHILD_SUBREAPER): of sessions whose leaders have ended, of the
 * session of a process that lives, of one subreaper within another, and of one that is a subreaper no more.
 *
 * Wrong would be: another parent, session or process group; an end of which the subreaper does not hear; a later orphan
 * that goes elsewhere.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* What each process knows of itself; the first one compares. */
struct member {
    volatile pid_t pid, parent, group, session;
    volatile int asked, answered, result;
};

enum { ROOT, FIRST, SECOND, CHILD_OF_SECOND, LEADER, OF_LEADER, INNER, OF_INNER, FORMER, OF_FORMER, MEMBERS };
static const char *names[] = {"root",           "first orphan",    "second orphan", "child of the second orphan",
                              "leader",         "leader's orphan", "inner subreaper", "inner subreaper's orphan",
                              "former subreaper", "former subreaper's orphan"};
static struct member *members;

static void pause_shortly(void) {
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
}

static void note(int which) {
    members[which].parent = getppid();
    members[which].group = getpgrp();
    members[which].session = getsid(0);
    members[which].pid = getpid();
}

static void await(int which) {
    while (members[which].pid == 0) pause_shortly();
}

/* What a subreaper finds when it is asked: how its orphan ends. */
static int end_of(int orphan) {
    int status = 0;
    if (orphan == 0) return 0;
    members[orphan].asked = -1;
    if (waitpid(members[orphan].pid, &status, 0) != members[orphan].pid) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

/* Answers as often as it is asked; ends when it is asked to. */
static void serve(int which, int orphan) {
    note(which);
    for (;;) {
        pause_shortly();
        if (members[which].asked < 0) _exit(40 + which);
        if (members[which].asked == 2 && members[which].answered == 1) members[which].result = end_of(orphan);
        if (members[which].asked != members[which].answered) {
            note(which);
            members[which].answered = members[which].asked;
        }
    }
}

/* Has a child that leads a session make orphans, and end. */
static void leave(int first, int second) {
    pid_t self = getpid(), passing = fork();
    MAKE(passing >= 0);
    if (passing == 0) {
        MAKE(setsid() == getpid());
        for (int i = 0; i < 2; i++) {
            int which = i ? second : first;
            if (which == 0 || fork() != 0) continue;
            while (getppid() != self) pause_shortly();
            if (which == SECOND) {
                MAKE(setpgid(0, 0) == 0);
                if (fork() == 0) serve(CHILD_OF_SECOND, 0);
            }
            serve(which, 0);
        }
        _exit(0);
    }
    MAKE(waitpid(passing, NULL, 0) == passing);
    await(first);
    if (second) await(second);
}

static void inner(int which, int orphan) {
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        MAKE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
        leave(orphan, 0);
        if (which == FORMER) MAKE(prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
        serve(which, orphan);
    }
    await(which);
}

int main(void) {
    members = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(members != MAP_FAILED);
    MAKE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t root = getpid();
    note(ROOT);

    leave(FIRST, SECOND);
    await(CHILD_OF_SECOND);
    if (fork() == 0) {
        MAKE(setsid() == getpid());
        pid_t passing = fork();
        if (passing == 0) {
            if (fork() == 0) {
                while (getppid() != root) pause_shortly();
                serve(OF_LEADER, 0);
            }
            _exit(0);
        }
        MAKE(waitpid(passing, NULL, 0) == passing);
        serve(LEADER, 0);
    }
    await(LEADER);
    await(OF_LEADER);
    inner(INNER, OF_INNER);
    inner(FORMER, OF_FORMER);
    struct member before[MEMBERS];
    memcpy(before, members, sizeof before);
    MAKE(before[FIRST].parent == root && before[SECOND].parent == root && before[OF_LEADER].parent == root);

    ready();

    int reaper = 0;
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &reaper) == 0 && reaper == 1, "still a subreaper");
    for (int i = 1; i < MEMBERS; i++) {
        members[i].asked = 1;
        while (members[i].answered != 1) pause_shortly();
        struct member now = members[i];
        CHECK(now.pid == before[i].pid, "id of the %s: %d, was %d", names[i], now.pid, before[i].pid);
        CHECK(now.parent == before[i].parent, "parent of the %s: %d, was %d", names[i], now.parent, before[i].parent);
        CHECK(now.group == before[i].group, "group of the %s: %d, was %d", names[i], now.group, before[i].group);
        CHECK(now.session == before[i].session, "session of the %s: %d, was %d", names[i], now.session,
              before[i].session);
        CHECK(getpgid(now.pid) == now.group && getsid(now.pid) == now.session, "what others see of the %s", names[i]);
    }
    SAY("subreaper: everybody is where it was");

    int with_orphans[][2] = {{INNER, OF_INNER}, {FORMER, OF_FORMER}};
    for (int i = 0; i < 2; i++) {
        int which = with_orphans[i][0], orphan = with_orphans[i][1];
        members[which].asked = 2;
        while (members[which].answered != 2) pause_shortly();
        CHECK(members[which].result == 40 + orphan, "the %s: %d", names[orphan], members[which].result);
    }
    int ends[] = {SECOND, FIRST, OF_LEADER, LEADER, INNER, FORMER};
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
        CHECK(waitpid(before[ends[i]].pid, NULL, WNOHANG) == 0, "the %s lives", names[ends[i]]);
        int status = end_of(ends[i]);
        CHECK(status == 40 + ends[i], "the end of the %s: %d", names[ends[i]], status);
    }
    /* It has outlived its parent. */
    int status = end_of(CHILD_OF_SECOND);
    CHECK(status == 40 + CHILD_OF_SECOND, "the end of a later orphan: %d", status);
    errno = 0;
    CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD, "no child is left");
    SAY("subreaper: it has heard of every end");
    return finish(7);
}
