/* A program at a terminal, with a child in its process group: both are told by signals what is typed. Prints "tick" all
 * the time; on SIGINT what has become of its child, which gets it too; on SIGHUP it makes the file of its argument.
 */
#include "program.h"

#include <signal.h>
#include <sys/wait.h>

static volatile sig_atomic_t interrupted, hung_up;

static void note(int signal) {
    if (signal == SIGINT) interrupted++;
    if (signal == SIGHUP) hung_up++;
}

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: keys FILE");
    struct sigaction action = {.sa_handler = note};
    /* Whoever has started this may ignore them. */
    MAKE(sigaction(SIGINT, &action, NULL) == 0 && sigaction(SIGHUP, &action, NULL) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        while (!interrupted && !hung_up) usleep(20000);
        _exit(interrupted ? 3 : 4);
    }
    say_ready();
    while (!interrupted && !hung_up) {
        usleep(20000);
        printf("tick\n");
        fflush(stdout);
    }
    int status;
    while (waitpid(child, &status, 0) == -1 && errno == EINTR) {}
    if (hung_up) {
        CHECK(WEXITSTATUS(status) == 4, "the child: %x", status);
        FILE *file = fopen(argv[1], "w");
        return file && fclose(file) == 0 ? 0 : 1;
    }
    printf("interrupted %d, child %d\n", (int)interrupted, WEXITSTATUS(status));
    return 7;
}
