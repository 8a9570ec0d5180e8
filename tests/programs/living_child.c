/* A child that is alive and not part of the pod's one program.
 *
 * In the first round a checkpoint must be refused, and the program must not notice; in the second the child has ended
 * and been waited for, and a checkpoint must work.
 */
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
    SAY("living child: lived until it was told to end");

    ready();

    errno = 0;
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "no child");
    SAY("living child: there is none any more");
    return finish(7);
}
