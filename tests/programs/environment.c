/* The environment as the program was given it.
 *
 * Wrong would be: a variable of Zap's or the loader's that the program, or what it starts, can see; one that is gone,
 * changed, or in another place of the list. What is printed must be the same without Zap; variables whose name begins
 * with ZAP_ are the caller's own settings and are left out.
 */
#include "program.h"

#include <link.h>
#include <sys/auxv.h>
#include <sys/wait.h>

extern char **environ;

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void check_none_of_zaps(const char *when) {
    static const char *const names[] = {"LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES", "ZAP_POD_TABLE", "ZAP_PLAN"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK(getenv(names[i]) == NULL, "%s: getenv sees %s", when, names[i]);
        CHECK(secure_getenv(names[i]) == NULL, "%s: secure_getenv sees %s", when, names[i]);
        for (char **variable = environ; *variable; variable++)
            CHECK(strncmp(*variable, names[i], strlen(names[i])) != 0, "%s: environ holds %s", when, names[i]);
    }
}

static const char *joined(void) {
    size_t length = 1;
    for (char **variable = environ; *variable; variable++) length += strlen(*variable) + 1;
    char *text = calloc(1, length);
    MAKE(text != NULL);
    for (char **variable = environ; *variable; variable++) strcat(strcat(text, *variable), "\n");
    return text;
}

/* As runtimes do that are not C's: the auxiliary vector comes behind the environment. */
static void check_vector(char **behind, const char *when) {
    while (*behind) behind++;
    ElfW(auxv_t) *entry = (ElfW(auxv_t) *)(behind + 1);
    while (entry->a_type != AT_NULL && entry->a_type != AT_PAGESZ) entry++;
    CHECK(entry->a_type == AT_PAGESZ && entry->a_un.a_val == getauxval(AT_PAGESZ), "%s: the auxiliary vector behind environ", when);
}

int main(int argc, char **argv, char **given) {
    (void)argc;
    (void)argv;
    check_none_of_zaps("before");
    check_vector(given, "before");
    CHECK(given == environ, "main's third argument is environ");
    MAKE(setenv("SET_BY_PROGRAM", "yes", 1) == 0);
    const char *before = joined();

    ready();

    check_none_of_zaps("after");
    check_vector(given, "after");
    CHECK(strcmp(joined(), before) == 0, "the environment is the same");

    /* What the program starts finds the same list. */
    int ends[2];
    CHECK(pipe(ends) == 0, "pipe");
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        dup2(ends[1], 1);
        execl("/usr/bin/env", "env", (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    size_t length = 0, space = strlen(before) + 4096;
    char *seen = calloc(1, space);
    for (ssize_t count; (count = read(ends[0], seen + length, space - length - 1)) > 0;) length += count;
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "env ends well");
    CHECK(strcmp(seen, before) == 0, "a program that is started has the same environment");

    size_t count = 0;
    while (environ[count]) count++;
    char **sorted = malloc(count * sizeof *sorted);
    memcpy(sorted, environ, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_text);
    for (size_t i = 0; i < count; i++)
        if (strncmp(sorted[i], "ZAP_", 4) != 0) SAY("environment: %s", sorted[i]);
    return finish(7);
}
