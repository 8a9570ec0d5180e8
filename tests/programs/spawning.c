/* A program that makes others all the time: by vfork and exec, and by posix_spawn, from its only thread.
 *
 * Wrong would be: a checkpoint that fails for a child that is gone in a moment, one that is refused by another reason than
 * a child, a child that does not run, a program that notices.
 */
#include "program.h"

#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

int main(void) {
    char *words[] = {"true", NULL};
    int status;
    long vforked = 0, spawned = 0;
    say_ready();
    while (!told_to_go_on()) {
        pid_t child = vfork();
        if (child == 0) {
            execv("/bin/true", words);
            _exit(1);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "vfork: status %d", status);
        vforked++;
        CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, words, environ) == 0, "posix_spawn");
        CHECK(waitpid(child, &status, 0) == child && status == 0, "posix_spawn: status %d", status);
        spawned++;
    }
    CHECK(vforked == spawned, "%ld and %ld", vforked, spawned);
    SAY("spawning: every child has run");
    return finish(7);
}
