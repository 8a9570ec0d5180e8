/* A terminal with a shell of a few words: runs a command as its job in the foreground. `keys`: types Ctrl-Z, sees the job
 * stop as a whole, continues it as fg does, types Ctrl-C, sees its status. `hangup FILE`: closes the terminal, and waits
 * for the file. The job is keys.c, by way of whatever the command is.
 */
#include "program.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>

static char seen[1 << 16];
static size_t length;

/* Waits until the terminal has shown `text`; forgets what came up to there. */
static int shows(int terminal, const char *text, int milliseconds) {
    int64_t end = nanoseconds(CLOCK_MONOTONIC) + milliseconds * MILLISECONDS;
    for (;;) {
        seen[length] = 0;
        char *found = strstr(seen, text);
        if (found) {
            size_t gone = found - seen + strlen(text);
            memmove(seen, seen + gone, length -= gone);
            return 1;
        }
        int64_t left = (end - nanoseconds(CLOCK_MONOTONIC)) / MILLISECONDS;
        struct pollfd entry = {terminal, POLLIN, 0};
        if (left <= 0 || poll(&entry, 1, left) != 1) return 0;
        if (length > sizeof seen / 2) length = 0;
        ssize_t count = read(terminal, seen + length, sizeof seen - 1 - length);
        if (count <= 0) return 0;
        length += count;
    }
}

/* The shell: says on `words` what becomes of its job, and continues it when it is told so. */
static void shell(char **line, int words, int orders) {
    signal(SIGTTOU, SIG_IGN);
    pid_t job = fork();
    if (job == 0) {
        sigset_t none;
        sigemptyset(&none);
        setpgid(0, 0);
        tcsetpgrp(0, getpid());
        signal(SIGTTOU, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execv(line[0], line);
        _exit(127);
    }
    setpgid(job, job);
    tcsetpgrp(0, job);
    int status;
    while (waitpid(job, &status, WUNTRACED) == job) {
        char text[64], order;
        snprintf(text, sizeof text, "%s %d\n", WIFSTOPPED(status) ? "stopped" : WIFEXITED(status) ? "exited" : "killed",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WIFSTOPPED(status) ? WSTOPSIG(status) : WTERMSIG(status));
        if (write(words, text, strlen(text)) < 0 || !WIFSTOPPED(status) || read(orders, &order, 1) != 1) break;
        tcsetpgrp(0, job);
        kill(-job, SIGCONT);
    }
    _exit(0);
}

static void says(int words, const char *expected) {
    char text[64];
    struct pollfd entry = {words, POLLIN, 0};
    CHECK(poll(&entry, 1, 20000) == 1, "the shell sees nothing of %s", expected);
    ssize_t count = read(words, text, sizeof text - 1);
    text[count < 0 ? 0 : count] = 0;
    CHECK(strncmp(text, expected, strlen(expected)) == 0, "the shell sees: %s, not %s", text, expected);
}

int main(int argc, char **argv) {
    int hangup = argc > 1 && strcmp(argv[1], "hangup") == 0;
    CHECK(argc > 2 + hangup, "usage: terminal_job keys|hangup FILE COMMAND ...");
    char **line = argv + 2 + hangup;
    int words[2], orders[2], terminal;
    MAKE(pipe(words) == 0 && pipe(orders) == 0);
    pid_t child = forkpty(&terminal, NULL, NULL, NULL);
    MAKE(child >= 0);
    if (child == 0) shell(line, words[1], orders[0]);
    CHECK(shows(terminal, "tick", 20000), "the job does not run: %s", seen);
    if (hangup) {
        close(terminal);
        for (int i = 0; i < 2000 && access(argv[2], F_OK) != 0; i++) usleep(10000);
        CHECK(access(argv[2], F_OK) == 0, "the job has not been hung up");
        printf("OK\n");
        return 0;
    }
    MAKE(write(terminal, "\x1a", 1) == 1);
    says(words[0], "stopped");
    /* What had been written before, and then nothing: a stopped job does nothing. */
    shows(terminal, "never", 300);
    length = 0;
    CHECK(!shows(terminal, "tick", 300), "the job runs on");
    MAKE(write(orders[1], "f", 1) == 1);
    CHECK(shows(terminal, "tick", 20000), "the job does not go on: %s", seen);
    MAKE(write(terminal, "\x03", 1) == 1);
    CHECK(shows(terminal, "interrupted 1, child 3", 20000), "the job is not interrupted: %s", seen);
    says(words[0], "exited 7");
    printf("OK\n");
    return 0;
}
