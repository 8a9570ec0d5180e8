/* A child that has become another program, and lives until it is told to end. */
#include "program.h"

#include <signal.h>
#include <sys/wait.h>

int main(void) {
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        execlp("sleep", "sleep", "1000", (char *)NULL);
        _exit(127);
    }

    ready();

    int status;
    CHECK(waitpid(child, &status, WNOHANG) == 0, "the child lives");
    CHECK(kill(child, SIGTERM) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
              WTERMSIG(status) == SIGTERM,
          "the child ends");
    errno = 0;
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "no child");
    SAY("living child: lived until it was told to end");
    return finish(7);
}
