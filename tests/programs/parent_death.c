/* The signal that a process has asked for when its parent ends (PR_SET_PDEATHSIG), where both are descendants of the first
 * process.
 *
 * Wrong would be: a signal that does not come, or comes before the parent has ended.
 */
#include "program.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static struct shared {
    volatile int stands, told, end, give_up;
} *shared;

static void note(int number) {
    (void)number;
    shared->told++;
}

static void wait_to_be_told(void) {
    struct sigaction action = {.sa_handler = note};
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0 && prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) == 0);
    shared->stands = 1;
    while (!shared->told && !shared->give_up) usleep(1000);
    _exit(0);
}

int main(void) {
    int status;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(shared != MAP_FAILED);
    pid_t parent = fork();
    MAKE(parent >= 0);
    if (parent == 0) {
        if (fork() == 0) wait_to_be_told();
        while (!shared->end) usleep(1000);
        _exit(3);
    }
    while (!shared->stands) usleep(1000);

    ready();

    CHECK(shared->told == 0, "told before the parent has ended");
    shared->end = 1;
    CHECK(waitpid(parent, &status, 0) == parent && WIFEXITED(status) && WEXITSTATUS(status) == 3, "the parent: %x", status);
    for (int i = 0; i < 5000 && !shared->told; i++) usleep(1000);
    shared->give_up = 1;
    CHECK(shared->told == 1, "told %d times that the parent has ended", shared->told);
    SAY("parent death: told once");
    return finish(7);
}
