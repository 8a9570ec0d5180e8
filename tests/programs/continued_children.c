/* Children that have been stopped and continued: of some the parent has been told (WCONTINUED), of others not. One handles
 * SIGCONT, one blocks it, one has threads; of one nobody has been told that it stopped either.
 *
 * Wrong would be: a continuation of which nobody is told any more, or twice; a SIGCHLD of it after the checkpoint; a handler that
 * runs again; a SIGCONT that waits and is gone, or one too many; a child that stands.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { TOLD, UNTOLD, HANDLING, BLOCKING, THREADED, KINDS };

static volatile sig_atomic_t signals;
static struct shared {
    volatile int runs[KINDS], handled, over, waited;
} *shared;

static void note(int number) {
    (void)number;
    signals++;
}

static void handle(int number) {
    (void)number;
    shared->handled++;
}

static void *spin(void *argument) {
    while (!shared->over) usleep(1000);
    return argument;
}

static void child(int kind) {
    sigset_t set;
    pthread_t thread;
    sigemptyset(&set);
    sigaddset(&set, SIGCONT);
    if (kind == HANDLING) MAKE(signal(SIGCONT, handle) != SIG_ERR);
    if (kind == BLOCKING) MAKE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    if (kind == THREADED) MAKE(pthread_create(&thread, NULL, spin, NULL) == 0);
    MAKE(kill(getpid(), SIGSTOP) == 0);
    shared->runs[kind] = 1;
    while (!shared->over) usleep(1000);
    if (kind == BLOCKING) {
        struct timespec none = {0, 0};
        CHECK(sigtimedwait(&set, NULL, &none) == SIGCONT && sigtimedwait(&set, NULL, &none) == -1, "one SIGCONT");
    }
    if (kind == THREADED) CHECK(pthread_join(thread, NULL) == 0, "join");
    _exit(60 + kind);
}

int main(void) {
    pid_t children[KINDS];
    siginfo_t info;
    int status;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(shared != MAP_FAILED);
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    MAKE(sigaction(SIGCHLD, &action, NULL) == 0);
    for (int kind = 0; kind < KINDS; kind++) {
        int before = signals;
        children[kind] = fork();
        MAKE(children[kind] >= 0);
        if (children[kind] == 0) child(kind);
        MAKE(waitid(P_PID, children[kind], &info, WSTOPPED | WNOWAIT) == 0);
        if (kind != UNTOLD) MAKE(waitpid(children[kind], &status, WUNTRACED) == children[kind] && WIFSTOPPED(status));
        while (signals == before) usleep(100);
        before = signals;
        MAKE(kill(children[kind], SIGCONT) == 0);
        while (!shared->runs[kind] || signals == before) usleep(100);
        if (kind == TOLD) MAKE(waitpid(children[kind], &status, WCONTINUED) == children[kind] && WIFCONTINUED(status));
    }
    MAKE(shared->handled == 1);
    int before = signals;

    ready();

    CHECK(signals == before, "%d signals", signals - before);
    for (int kind = 0; kind < KINDS; kind++) {
        memset(&info, 0, sizeof info);
        CHECK(waitid(P_PID, children[kind], &info, WSTOPPED | WEXITED | WNOHANG) == 0 && info.si_pid == 0,
              "child %d: code %d, status %d", kind, info.si_code, info.si_status);
        CHECK(waitid(P_PID, children[kind], &info, WCONTINUED | WNOHANG) == 0, "wait for child %d", kind);
        if (kind == TOLD)
            CHECK(info.si_pid == 0, "child %d: told again", kind);
        else
            CHECK(info.si_pid == children[kind] && info.si_code == CLD_CONTINUED && info.si_status == SIGCONT,
                  "child %d: pid %d, code %d, status %d", kind, info.si_pid, info.si_code, info.si_status);
        CHECK(waitpid(children[kind], &status, WCONTINUED | WUNTRACED | WNOHANG) == 0, "child %d: told twice", kind);
    }
    shared->over = 1;
    for (int kind = 0; kind < KINDS; kind++)
        CHECK(waitpid(children[kind], &status, 0) == children[kind] && WIFEXITED(status) && WEXITSTATUS(status) == 60 + kind,
              "child %d: %x", kind, status);
    CHECK(shared->handled == 1, "SIGCONT was handled %d times", shared->handled);
    SAY("continued children: told once, and nothing else");
    return finish(7);
}
