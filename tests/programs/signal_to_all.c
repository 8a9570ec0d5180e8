/* kill(-1): every process of the program but the one that calls it is sent the signal, also one in a session of its own.
 *
 * Wrong would be: one that is left out, or that is sent it twice. (Who is of another program is not seen here, but by what runs
 * beside: the signal is one that nobody else minds.)
 */
#include "program.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { CHILDREN = 3, SIGNAL = SIGURG };

static struct shared {
    volatile int stands[CHILDREN], seen[CHILDREN + 1];
} *shared;
static int me = CHILDREN;

static void note(int number) {
    (void)number;
    shared->seen[me]++;
}

/* Not under Zap the first process of the system is there, and all others: only the children are meant then. */
static void signal_all(const pid_t *children) {
    if (kill(1, 0) == -1 && errno == ESRCH) {
        CHECK(kill(-1, SIGNAL) == 0, "kill(-1)");
        return;
    }
    for (int i = 0; i < CHILDREN; i++) CHECK(kill(children[i], SIGNAL) == 0, "kill");
}

int main(void) {
    pid_t children[CHILDREN];
    struct sigaction action = {.sa_handler = note};
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(shared != MAP_FAILED && sigaction(SIGNAL, &action, NULL) == 0);
    for (int i = 0; i < CHILDREN; i++) {
        MAKE((children[i] = fork()) >= 0);
        if (children[i] == 0) {
            me = i;
            if (i == 1) MAKE(setsid() == getpid());
            shared->stands[i] = 1;
            for (;;) pause();
        }
        while (!shared->stands[i]) usleep(1000);
    }

    ready();

    CHECK(kill(-1, 0) == 0, "kill(-1, 0)");
    signal_all(children);
    for (int i = 0; i < CHILDREN; i++) {
        for (int n = 0; n < 5000 && !shared->seen[i]; n++) usleep(1000);
    }
    usleep(20000);
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        CHECK(shared->seen[i] == 1, "process %d was sent it %d times", i, shared->seen[i]);
        CHECK(kill(children[i], SIGKILL) == 0 && waitpid(children[i], &status, 0) == children[i], "the end of %d", i);
    }
    CHECK(shared->seen[CHILDREN] == 0, "whoever calls it is sent it");
    SAY("signal to all: each once");
    return finish(7);
}
