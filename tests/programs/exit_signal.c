/* A child that clone(2) has made with another exit signal than SIGCHLD: argv[1] is its number, argv[2] "libc" or "kernel",
 * by whose function it was made. What cannot be brought back is refused while the child lives.
 */
#include "program.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile int *go;
static volatile sig_atomic_t told;
static char stack[65536] __attribute__((aligned(16)));

static void tell(int number) {
    (void)number;
    told++;
}

static int live(void *argument) {
    (void)argument;
    while (!*go) usleep(1000);
    return 9;
}

int main(int argc, char **argv) {
    CHECK(argc > 2, "usage: exit_signal NUMBER libc|kernel");
    int number = atoi(argv[1]);
    go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(go != MAP_FAILED);
    if (number) MAKE(signal(number, tell) != SIG_ERR);
    pid_t child;
    if (strcmp(argv[2], "libc") == 0) {
        child = clone(live, stack + sizeof stack, number, NULL);
    } else {
        child = syscall(SYS_clone, number, 0, 0, 0, 0);
        if (child == 0) _exit(live(NULL));
    }
    MAKE(child > 0);

    ready();

    *go = 1;
    int status;
    CHECK(waitpid(child, &status, 0) == -1 && errno == ECHILD, "it is no child of fork");
    CHECK(waitpid(child, &status, __WCLONE) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9, "status 9");
    CHECK(told == (number != 0), "told %d times", (int)told);
    SAY("exit signal: the child has ended with status 9");
    ready();
    return finish(7);
}
