/* Parents that wait for a certain child, for one of a process group, for any, by every call, while they are taken away. */
#include "program.h"

#include <sys/resource.h>
#include <sys/wait.h>

enum { BY_WAITPID, BY_WAIT4, BY_WAITID, BY_GROUP, BY_WAITID_GROUP, BY_WAIT, BY_SYSTEM, KINDS };
static const char *names[] = {"waitpid", "wait4", "waitid", "waitpid of a group", "waitid of a group", "wait", "system"};

static int wait_by(int kind, pid_t child) {
    int status = -1;
    siginfo_t info = {0};
    struct rusage usage;
    pid_t found = child;
    switch (kind) {
    case BY_WAITPID: found = waitpid(child, &status, 0); break;
    case BY_WAIT4: found = wait4(child, &status, 0, &usage); break;
    case BY_GROUP: found = waitpid(-child, &status, 0); break;
    case BY_WAIT: found = wait(&status); break;
    case BY_WAITID:
    case BY_WAITID_GROUP:
        if (waitid(kind == BY_WAITID ? P_PID : P_PGID, child, &info, WEXITED) != 0) return -errno;
        return info.si_pid == child && info.si_code == CLD_EXITED ? info.si_status : -1000;
    }
    if (found != child) return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2000;
}

int main(void) {
    say_ready();
    pid_t parents[KINDS];
    for (int kind = 0; kind < KINDS; kind++) {
        parents[kind] = fork();
        MAKE(parents[kind] >= 0);
        if (parents[kind] != 0) continue;
        if (kind == BY_SYSTEM) {
            char command[5000];
            snprintf(command, sizeof command, "until test -e '%s'; do sleep 0.01; done; exit %d", program_path, 50 + kind);
            int status = system(command);
            _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
        }
        pid_t child = fork();
        if (child == 0) {
            if (kind == BY_GROUP || kind == BY_WAITID_GROUP) setpgid(0, 0);
            wait_for_go();
            _exit(50 + kind);
        }
        setpgid(child, kind == BY_GROUP || kind == BY_WAITID_GROUP ? child : 0);
        int result = wait_by(kind, child);
        _exit(result >= 0 ? result : 1);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        int status;
        CHECK(waitpid(parents[kind], &status, 0) == parents[kind] && WIFEXITED(status) &&
                  WEXITSTATUS(status) == 50 + kind,
              "%s: status %x", names[kind], status);
        SAY("waiting parents: %s", names[kind]);
    }
    return finish(7);
}
