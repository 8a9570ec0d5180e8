/* Runs a command in a new session on a terminal of its own, and copies what it prints there to standard output.
 *
 *     in_terminal COMMAND [ARGUMENT]...
 *
 * SIGUSR1 types Ctrl-C at the terminal, SIGUSR2 what is in the file $ZAP_TEST_KEYS. The terminal has ZAP_TEST_ROWS rows, if that is
 * set, and 80 columns. Ends as the command does; by a signal with 128 and its number.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int terminal;

static void type(int number) {
    char keys[256] = "\003";
    ssize_t length = 1;
    if (number == SIGUSR2) {
        const char *path = getenv("ZAP_TEST_KEYS");
        int file = path ? open(path, O_RDONLY) : -1;
        length = read(file, keys, sizeof keys);
        close(file);
    }
    if (length < 0 || write(terminal, keys, (size_t)length) != length) _exit(99);
}

int main(int argc, char **argv) {
    struct termios modes;
    int status;
    if (argc < 2) return 2;
    // Ctrl-C may be asked for as soon as the command runs.
    sigset_t asked, before;
    sigemptyset(&asked);
    sigaddset(&asked, SIGUSR1);
    sigaddset(&asked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &asked, &before);
    const char *rows = getenv("ZAP_TEST_ROWS");
    struct winsize size = {.ws_row = (unsigned short)(rows ? atoi(rows) : 0), .ws_col = 80};
    pid_t child = forkpty(&terminal, NULL, NULL, rows ? &size : NULL);
    if (child < 0) return 77;
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        // What is printed is copied as it is; Ctrl-C is still a signal, which is not shown.
        tcgetattr(0, &modes);
        modes.c_oflag &= ~(tcflag_t)OPOST;
        modes.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(0, TCSANOW, &modes);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    struct sigaction action = {.sa_handler = type, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    char buffer[4096];
    for (;;) {
        ssize_t length = read(terminal, buffer, sizeof buffer);
        if (length < 0 && errno == EINTR) continue;
        // EIO: nobody has the terminal open any more.
        if (length <= 0) break;
        if (write(1, buffer, (size_t)length) != length) return 98;
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
