/* Children that are stopped: by Ctrl-Z's signal or another, one with threads, a tree of them; the parent has been told that
 * they stopped, or has not. With an argument the parent's first thread has ended.
 *
 * Wrong would be: a SIGCHLD, or a wait that ends, for a child that has been stopped all the time; another signal than the one
 * that has stopped it; a child that has run meanwhile.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { TOLD, UNTOLD, BY_INPUT, THREADED, TREE, KINDS };

static volatile sig_atomic_t signals, last_code;
static struct shared {
    volatile int stands[KINDS], ran[KINDS], grandchild_ran, rounds;
} *shared;

static void note(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    signals++;
    last_code = info->si_code;
}

static void *spin(void *argument) {
    for (;;) {
        shared->rounds++;
        usleep(100);
    }
    return argument;
}

static void child(int kind) {
    pthread_t thread;
    setpgid(0, 0);
    if (kind == THREADED) MAKE(pthread_create(&thread, NULL, spin, NULL) == 0);
    while (kind == THREADED && shared->rounds == 0) usleep(100);
    if (kind == TREE) {
        pid_t grandchild = fork();
        if (grandchild == 0) {
            raise(SIGSTOP);
            shared->grandchild_ran = 1;
            _exit(9);
        }
        int status;
        MAKE(waitpid(grandchild, &status, WUNTRACED) == grandchild && WIFSTOPPED(status));
        shared->stands[kind] = 1;
        kill(getpid(), SIGSTOP);
        shared->ran[kind] = 1;
        CHECK(shared->grandchild_ran == 0, "the grandchild has run");
        CHECK(waitpid(grandchild, &status, WUNTRACED | WCONTINUED | WNOHANG) == 0, "the grandchild's status has changed: %x", status);
        CHECK(kill(grandchild, SIGCONT) == 0 && waitpid(grandchild, &status, 0) == grandchild, "the grandchild's end");
        _exit(WEXITSTATUS(status) == 9 ? 60 + kind : 1);
    }
    shared->stands[kind] = 1;
    kill(getpid(), kind == BY_INPUT ? SIGTTIN : kind == THREADED ? SIGSTOP : SIGTSTP);
    shared->ran[kind] = 1;
    _exit(60 + kind);
}

static int state_of(pid_t pid) {
    char path[64], text[512] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int file = open(path, O_RDONLY);
    MAKE(file >= 0 && read(file, text, sizeof text - 1) > 0 && close(file) == 0);
    return strrchr(text, ')')[2];
}

static int parent(void) {
    static const int by[] = {SIGTSTP, SIGTSTP, SIGTTIN, SIGSTOP, SIGSTOP};
    pid_t children[KINDS];
    siginfo_t info;
    int status;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(shared != MAP_FAILED);
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    MAKE(sigaction(SIGCHLD, &action, NULL) == 0);
    for (int kind = 0; kind < KINDS; kind++) {
        int before = signals;
        children[kind] = fork();
        MAKE(children[kind] >= 0);
        if (children[kind] == 0) child(kind);
        MAKE(waitid(P_PID, children[kind], &info, WSTOPPED | WNOWAIT) == 0 && info.si_status == by[kind]);
        int told = kind != UNTOLD && kind != BY_INPUT;
        if (told) MAKE(waitpid(children[kind], &status, WUNTRACED) == children[kind] && WSTOPSIG(status) == by[kind]);
        /* It tells of itself a moment after it can be waited for. */
        while (state_of(children[kind]) != 'T' || signals == before) usleep(100);
    }
    int before = signals, rounds = shared->rounds;

    ready();

    CHECK(shared->rounds == rounds, "a thread of a stopped child has run");
    CHECK(signals == before, "%d signals, the last with code %d", signals - before, last_code);
    for (int kind = 0; kind < KINDS; kind++) {
        CHECK(shared->stands[kind] && !shared->ran[kind], "child %d has run", kind);
        CHECK(state_of(children[kind]) == 'T', "child %d does not stand", kind);
        memset(&info, 0, sizeof info);
        CHECK(waitid(P_PID, children[kind], &info, WSTOPPED | WCONTINUED | WEXITED | WNOHANG) == 0, "wait for child %d", kind);
        if (kind == UNTOLD || kind == BY_INPUT) {
            CHECK(info.si_pid == children[kind] && info.si_code == CLD_STOPPED && info.si_status == by[kind],
                  "child %d: pid %d, code %d, status %d", kind, info.si_pid, info.si_code, info.si_status);
        } else {
            CHECK(info.si_pid == 0, "child %d: told again, code %d, status %d", kind, info.si_code, info.si_status);
        }
    }
    for (int kind = 0; kind < KINDS; kind++) {
        before = signals;
        CHECK(kill(children[kind], SIGCONT) == 0, "continue child %d", kind);
        CHECK(waitpid(children[kind], &status, 0) == children[kind] && WIFEXITED(status) && WEXITSTATUS(status) == 60 + kind,
              "child %d: %x", kind, status);
        CHECK(shared->ran[kind], "child %d has not run", kind);
    }
    CHECK(signals > before, "no signal of the last one's end");
    SAY("halted children: nobody has noticed");
    return finish(7);
}

static void *second(void *first) {
    MAKE(pthread_join(*(pthread_t *)first, NULL) == 0);
    while (state_of(getpid()) != 'Z') usleep(100);
    exit(parent());
}

int main(int argc, char **argv) {
    static pthread_t first, thread;
    (void)argv;
    if (argc == 1) return parent();
    first = pthread_self();
    MAKE(pthread_create(&thread, NULL, second, &first) == 0);
    pthread_exit(NULL);
}
