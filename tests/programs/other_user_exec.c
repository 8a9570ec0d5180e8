/* A process that has become another user (nobody) and then execs: what it becomes is in the pod, and so is what that one
 * makes by fork, by exec, and by posix_spawn.
 *
 * Wrong would be: a member that the checkpoint does not know, a refusal for a child that is not in the pod, root again
 * after a restart, another id.
 */
#include "program.h"

#include <grp.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

/* As a child: tells its parent that it is there, and waits for its word. */
static int child(const char *there, const char *word) {
    char byte = 'c';
    CHECK(getuid() == 65534 && geteuid() == 65534, "the child's user: %d", (int)getuid());
    pid_t before = getpid();
    CHECK(write(atoi(there), &byte, 1) == 1 && read(atoi(word), &byte, 1) == 1, "a word of its parent");
    CHECK(getpid() == before && getuid() == 65534 && setuid(0) == -1, "the child's id and user");
    return byte == 'g' ? 21 : 22;
}

int main(int argc, char **argv) {
    if (argc == 4) return child(argv[2], argv[3]);
    if (argc == 1) {
        if (getuid() != 0) {
            fprintf(stderr, "only root can become another user\n");
            return SKIPPED;
        }
        MAKE(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
        execl("/proc/self/exe", argv[0], "nobody", NULL);
        MAKE(!"exec");
    }
    CHECK(getuid() == 65534, "the user: %d", (int)getuid());
    CHECK(getenv("ZAP_POD_DOOR") == NULL && getenv("ZAP_POD_TABLE") == NULL, "nothing of Zap in the environment");
    int there[2], word[2];
    MAKE(pipe(there) == 0 && pipe(word) == 0);
    char numbers[2][16];
    snprintf(numbers[0], sizeof numbers[0], "%d", there[1]);
    snprintf(numbers[1], sizeof numbers[1], "%d", word[0]);
    char *arguments[] = {argv[0], "child", numbers[0], numbers[1], NULL};
    pid_t children[2];
    fflush(stdout);
    MAKE((children[0] = fork()) >= 0);
    if (children[0] == 0) {
        execv("/proc/self/exe", arguments);
        _exit(1);
    }
    MAKE(posix_spawn(&children[1], "/proc/self/exe", NULL, NULL, arguments, environ) == 0);
    char bytes[2];
    for (int i = 0; i < 2; i++) MAKE(read(there[0], bytes, 1) == 1);
    pid_t own = getpid();

    ready();

    CHECK(getpid() == own && getuid() == 65534 && getgid() == 65534, "the id and the user");
    CHECK(setuid(0) == -1 && errno == EPERM, "it does not become root again");
    CHECK(write(word[1], "gg", 2) == 2, "a word to the children");
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i] && WEXITSTATUS(status) == 21, "child %d: %x", i, status);
    }
    SAY("exec by another user: a member, and so are its children");
    return finish(13);
}
