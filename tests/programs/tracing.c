/* A debugger in the pod: a process attaches to its child (ptrace(2)), reads and writes its memory, is told which process the
 * child forks, and lets both go.
 *
 * Wrong would be: a child that is not found by the id that the program knows, or another id for the forked one.
 */
#include "program.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile long word = 0x1234;

static void stops(pid_t child, int expected) {
    int status;
    CHECK(waitpid(child, &status, __WALL) == child, "waitpid");
    CHECK(WIFSTOPPED(status) && status >> 8 == expected, "status %x, not a stop by %x", status, expected);
}

int main(void) {
    int orders[2], answers[2];
    char byte;
    MAKE(pipe(orders) == 0 && pipe(answers) == 0);
    pid_t child = fork();
    MAKE(child != -1);
    if (child == 0) {
        close(orders[1]);
        MAKE(read(orders[0], &byte, 1) == 1);
        pid_t own = fork();
        if (own == 0) _exit(word == 0x5678 ? 4 : 1);
        MAKE(write(answers[1], &own, sizeof own) == sizeof own);
        int status;
        MAKE(waitpid(own, &status, 0) == own);
        _exit(WEXITSTATUS(status));
    }

    ready();

    if (ptrace(PTRACE_ATTACH, child, NULL, NULL) == -1) {
        CHECK(errno == EPERM, "attach");
        printf("nobody may trace here\n");
        kill(child, SIGKILL);
        return SKIPPED;
    }
    stops(child, SIGSTOP);
    errno = 0;
    CHECK(ptrace(PTRACE_PEEKDATA, child, (void *)&word, NULL) == 0x1234 && errno == 0, "its memory");
    CHECK(ptrace(PTRACE_POKEDATA, child, (void *)&word, (void *)0x5678L) == 0, "its memory is written");
    CHECK(ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)(PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXIT)) == 0, "options");
    CHECK(syscall(SYS_ptrace, PTRACE_CONT, child, NULL, NULL) == 0, "it goes on");
    SAY("tracing: a child's memory");
    CHECK(write(orders[1], "", 1) == 1, "write");
    stops(child, SIGTRAP | PTRACE_EVENT_FORK << 8);
    unsigned long made = 0;
    pid_t told;
    CHECK(ptrace(PTRACE_GETEVENTMSG, child, NULL, &made) == 0, "its event");
    stops((pid_t)made, SIGSTOP);
    CHECK(ptrace(PTRACE_CONT, (pid_t)made, NULL, NULL) == 0, "the forked one goes on");
    unsigned long status_told = 0;
    stops((pid_t)made, SIGTRAP | PTRACE_EVENT_EXIT << 8);
    CHECK(ptrace(PTRACE_GETEVENTMSG, (pid_t)made, NULL, &status_told) == 0 && status_told == 4 << 8, "its exit: %lx", status_told);
    CHECK(ptrace(PTRACE_DETACH, (pid_t)made, NULL, NULL) == 0, "the forked one is let go");
    CHECK(ptrace(PTRACE_DETACH, child, NULL, NULL) == 0, "the child is let go");
    CHECK(read(answers[0], &told, sizeof told) == sizeof told && told == (pid_t)made, "%d, and the child says %d", (int)made,
          (int)told);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 4, "status %x", status);
    SAY("tracing: whom it forks");
    return finish(7);
}
