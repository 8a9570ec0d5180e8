/* A program that becomes another one again and again before it makes its state: execve, execvp, `env -i`, a shell's
 * exec.
 *
 * Wrong would be: a pod that loses the program at one of these steps (above all where the environment is emptied), a
 * variable of Zap's or LD_PRELOAD that the program can see, another argument list, a descriptor that exec must keep or
 * close and did not, a signal mask or an ignored signal that exec must keep.
 */
#include "program.h"

#include <signal.h>

extern char **environ;

/* What no program may see; ZAP_TEST_GO and what the user set himself are not Zap's. */
static void check_environment(const char *step) {
    static const char *const names[] = {"LD_PRELOAD=", "LD_AUDIT=", "GLIBC_TUNABLES=", "ZAP_POD_TABLE=", "ZAP_PLAN="};
    for (char **variable = environ; *variable; variable++)
        for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
            CHECK(strncmp(*variable, names[i], strlen(names[i])) != 0, "%s: sees %s", step, *variable);
    CHECK(getenv("LD_PRELOAD") == NULL && getenv("ZAP_POD_TABLE") == NULL, "%s: getenv", step);
}

/* The environment in words, without what shells add by themselves. */
static const char *environment_words(void) {
    static char text[4096];
    text[0] = 0;
    for (char **variable = environ; *variable; variable++)
        if (strncmp(*variable, "PWD=", 4) && strncmp(*variable, "SHLVL=", 6) && strncmp(*variable, "_=", 2) &&
            strncmp(*variable, "OLDPWD=", 7))
            strcat(strcat(text, text[0] ? " " : ""), *variable);
    return text;
}

int main(int argc, char **argv) {
    const char *step = argc > 1 ? argv[1] : "start";
    char self[4096] = "";
    MAKE(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    check_environment(step);

    if (strcmp(step, "start") == 0) {
        const char *go = getenv("ZAP_TEST_GO");
        MAKE(go != NULL);
        char pid[32], *arguments[] = {"exec_chain", "execve", (char *)go, pid, "", "two words", NULL};
        char *variables[] = {"FIRST=1", "EMPTY=", "PATH=/usr/bin:/bin", NULL};
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        int ends[2];
        sigset_t mask;
        sigemptyset(&mask);
        sigaddset(&mask, SIGUSR2);
        MAKE(sigprocmask(SIG_SETMASK, &mask, NULL) == 0 && signal(SIGHUP, SIG_IGN) != SIG_ERR && raise(SIGUSR2) == 0);
        MAKE(pipe(ends) == 0 && write(ends[1], "through exec", 12) == 12);
        MAKE(dup2(ends[0], 50) == 50 && fcntl(ends[0], F_DUPFD_CLOEXEC, 51) == 51);
        MAKE(close(ends[0]) == 0 && close(ends[1]) == 0);
        execve(self, arguments, variables);
        CHECK(0, "execve");
    }
    char *go = argv[2], *pid = argv[3];
    CHECK(argc == 6 && strcmp(argv[4], "") == 0 && strcmp(argv[5], "two words") == 0, "%s: arguments", step);
    CHECK(atoi(pid) == getpid(), "%s: the id is the same", step);
    const char *words = environment_words();

    if (strcmp(step, "execve") == 0) {
        CHECK(strcmp(words, "FIRST=1 EMPTY= PATH=/usr/bin:/bin") == 0, "execve: environment \"%s\"", words);
        char *directory = strdup(self), *arguments[] = {"exec_chain", "execvp", go, pid, "", "two words", NULL};
        *strrchr(directory, '/') = 0;
        MAKE(setenv("PATH", directory, 1) == 0 && setenv("SECOND", "2", 1) == 0);
        execvp(strrchr(self, '/') + 1, arguments);
        CHECK(0, "execvp");
    }
    if (strcmp(step, "execvp") == 0) {
        CHECK(strstr(words, "FIRST=1 EMPTY= ") && strstr(words, "SECOND=2"), "execvp: environment \"%s\"", words);
        char *arguments[] = {"env", "-i", "THIRD=3", self, "env", go, pid, "", "two words", NULL};
        execv("/usr/bin/env", arguments);
        CHECK(0, "execv");
    }
    if (strcmp(step, "env") == 0) {
        CHECK(strcmp(words, "THIRD=3") == 0, "env -i: environment \"%s\"", words);
        char *script = "FOURTH=4; export FOURTH; exec \"$0\" sh \"$@\"";
        char *arguments[] = {"sh", "-c", script, self, go, pid, "", "two words", NULL};
        execv("/bin/sh", arguments);
        CHECK(0, "execv");
    }
    CHECK(strcmp(step, "sh") == 0, "unknown step %s", step);
    CHECK(strstr(words, "THIRD=3") && strstr(words, "FOURTH=4") && !strstr(words, "FIRST"),
          "environment \"%s\"", words);
    char before[4096], arguments_before[4096], arguments_now[4096];
    snprintf(before, sizeof before, "%s", words);
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t length = read(file, arguments_before, sizeof arguments_before);
    MAKE(length > 0 && close(file) == 0);

    program_go = go;
    ready();

    check_environment("after");
    CHECK(strcmp(environment_words(), before) == 0, "environment \"%s\", was \"%s\"", environment_words(), before);
    SAY("exec chain: execve, execvp, env -i, sh: environment THIRD and FOURTH alone");
    file = open("/proc/self/cmdline", O_RDONLY);
    CHECK(read(file, arguments_now, sizeof arguments_now) == length && !memcmp(arguments_now, arguments_before, length),
          "cmdline");
    CHECK(atoi(argv[3]) == getpid(), "the id is the same");
    sigset_t mask, pending;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGUSR2) && !sigismember(&mask, SIGUSR1),
          "mask");
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2), "a pending signal");
    CHECK(signal(SIGHUP, SIG_IGN) == SIG_IGN, "an ignored signal");
    for (int i = 1; i < 65; i++)
        if (i != SIGUSR2 && i != 32 && i != 33) CHECK(!sigismember(&mask, i), "signal %d is not blocked", i);
    SAY("exec chain: arguments, id, mask, pending and ignored signals kept");
    char text[20] = "";
    errno = 0;
    CHECK(fcntl(51, F_GETFD) == -1 && errno == EBADF, "the close-on-exec copy is closed");
    CHECK(read(50, text, sizeof text) == 12 && strcmp(text, "through exec") == 0, "the other copy is open");
    SAY("exec chain: descriptors kept and closed");
    return finish(9);
}
