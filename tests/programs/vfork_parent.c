/* A program that waits for the child of a vfork: the kernel delivers it no signal until the child execs or ends.
 *
 * With "short" the child ends, or execs, after half a second, and a checkpoint that comes meanwhile waits for it. With
 * "long" it ends when the program is told to go on: until then a checkpoint is refused.
 *
 * Wrong would be: a checkpoint that fails for a child that is gone soon, one that waits for ever, a program that notices.
 */
#include "program.h"

#include <sys/wait.h>

int main(int argc, char **argv) {
    CHECK(argc > 1, "usage: vfork_parent short|long");
    int lasting = strcmp(argv[1], "long") == 0, status;
    say_ready();
    for (int round = 0; round < (lasting ? 1 : 3); round++) {
        pid_t child = vfork();
        if (child == 0) {
            struct timespec half = {0, lasting ? 1000000 : 500000000};
            do nanosleep(&half, NULL);
            while (lasting && access(program_path, F_OK) != 0);
            if (round == 1) execl("/bin/true", "true", (char *)NULL);
            _exit(0);
        }
        pid_t ended = waitpid(child, &status, 0);
        CHECK(child > 0 && ended == child && status == 0, "child %d: %d has ended with %#x", child, ended, status);
    }
    if (lasting) {
        SAY("vfork_parent: its child has ended");
        ready();
    } else {
        wait_for_go();
    }
    SAY("vfork_parent: went on");
    return finish(7);
}
