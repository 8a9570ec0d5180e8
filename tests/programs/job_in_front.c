/* What a shell with job control does: it puts a child into a process group of its own and that into the foreground of the
 * terminal, waits for it, and takes the terminal back; it has that open by /dev/tty too.
 *
 * Wrong would be: another group in the foreground, which stops the child when it reads, or the shell when it goes on.
 */
#include "program.h"

#include <signal.h>
#include <sys/wait.h>

int main(void) {
    MAKE(signal(SIGTTOU, SIG_IGN) != SIG_ERR && tcgetpgrp(0) == getpgrp());
    int gate[2], terminal = open("/dev/tty", O_RDWR);
    MAKE(pipe(gate) == 0 && terminal > 2);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        char byte;
        MAKE(read(gate[0], &byte, 1) == 1);
        ready();
        CHECK(tcgetpgrp(0) == getpgrp() && getpgrp() == getpid(), "in front is %d", (int)tcgetpgrp(0));
        CHECK(tcgetpgrp(terminal) == getpgrp(), "by /dev/tty %d", (int)tcgetpgrp(terminal));
        SAY("job: in front");
        fflush(stdout);
        _exit(5);
    }
    MAKE(setpgid(child, child) == 0 && tcsetpgrp(0, child) == 0 && write(gate[1], "x", 1) == 1);
    int status;
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5, "%x", status);
    CHECK(tcsetpgrp(terminal, getpgrp()) == 0 && tcgetpgrp(0) == getpgrp(), "taking the terminal back");
    SAY("shell: has the terminal back");
    return finish(7);
}
