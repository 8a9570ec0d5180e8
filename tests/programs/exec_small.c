/* exec where there is little room: from a thread with the smallest stack that POSIX allows, from children of vfork with
 * an environment of many variables, by lists of arguments longer than the registers hold.
 *
 * Wrong would be: a thread that overruns its stack, memory that piles up in the parent of a vfork, an argument or a
 * variable that is lost, a program that has left the pod.
 */
#include "program.h"

#include <limits.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { VARIABLES = 400 };

static char *program;

static int mappings(void) {
    int lines = 0, c;
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL, "maps");
    while ((c = getc(file)) != EOF) lines += c == '\n';
    fclose(file);
    return lines;
}

static int all_variables(void) {
    for (int i = 0; i < VARIABLES; i++) {
        char name[32];
        snprintf(name, sizeof name, "EXEC_SMALL_%d", i);
        const char *value = getenv(name);
        if (value == NULL || atoi(value) != i * 7) return 0;
    }
    return 1;
}

static void *exec_again(void *argument) {
    (void)argument;
    execl(program, program, "1", "two", "3", "four", "5", "six", "7", "", "nine", (char *)NULL);
    return NULL;
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc == 2) { /* A child of vfork. */
        extern char **environ;
        return strcmp(argv[1], "child") == 0 && all_variables() && environ[VARIABLES] != NULL ? 5 : 6;
    }
    if (argc == 1) {
        for (int i = 0; i < VARIABLES; i++) {
            char name[32], value[32];
            snprintf(name, sizeof name, "EXEC_SMALL_%d", i);
            snprintf(value, sizeof value, "%d", i * 7);
            MAKE(setenv(name, value, 1) == 0);
        }
        int before = 0, status;
        for (int i = 0; i < 30; i++) {
            extern char **environ;
            if (i == 3) before = mappings();
            pid_t child = vfork();
            if (child == 0) {
                if (i % 2)
                    execl(program, program, "child", (char *)NULL);
                else
                    execle(program, program, "child", (char *)NULL, environ);
                _exit(9);
            }
            CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5,
                  "child %d: %x", i, status);
        }
        CHECK(mappings() <= before, "%d mappings instead of %d", mappings(), before);
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        MAKE(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN) == 0);
        MAKE(pthread_create(&thread, &attributes, exec_again, NULL) == 0 && pthread_join(thread, NULL) == 0);
        CHECK(0, "exec from a thread");
    }
    static const char *const expected[] = {"1", "two", "3", "four", "5", "six", "7", "", "nine"};
    CHECK(argc == 10 && all_variables(), "%d arguments", argc);
    for (int i = 0; i < 9; i++) CHECK(strcmp(argv[i + 1], expected[i]) == 0, "argument %d is %s", i, argv[i + 1]);
    struct rlimit limit = {64, 4096}, now;
    MAKE(setrlimit(RLIMIT_NOFILE, &limit) == 0 && dup2(1, 62) == 62);

    ready();

    CHECK(all_variables(), "variables");
    CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 64, "the limit of descriptors is %lu", now.rlim_cur);
    SAY("exec_small: thirty children of vfork, a thread with a small stack, nine arguments, 400 variables");
    return finish(7);
}
