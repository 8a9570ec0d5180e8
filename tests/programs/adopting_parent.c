/* A subreaper (PR_SET_CHILD_SUBREAPER) with two children, which are checkpointed with it.
 *
 * Wrong would be: a child that it never had, or a SIGCHLD of one; one's own that is lost; another attribute afterwards.
 */
#include "program.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static volatile sig_atomic_t told;

static void note(int number) {
    (void)number;
    told++;
}

int main(void) {
    MAKE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    MAKE(sigaction(SIGCHLD, &action, NULL) == 0);
    int ends[2];
    MAKE(pipe(ends) == 0);
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        MAKE(children[i] >= 0);
        if (children[i] == 0) {
            char byte;
            close(ends[1]);
            _exit(read(ends[0], &byte, 1) == 0 ? 5 + i : 1);
        }
    }

    ready();

    int is = 0;
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &is) == 0 && is == 1, "it is a subreaper");
    CHECK(told == 0, "SIGCHLD came %d times", (int)told);
    CHECK(waitpid(-1, NULL, WNOHANG) == 0, "somebody has ended");
    close(ends[1]);
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i] && WEXITSTATUS(status) == 5 + i, "child %d", i);
    }
    CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD, "there is another child");
    SAY("adopting parent: two children, 5 and 6");
    return finish(7);
}
