/* Leases on files (F_SETLEASE): for writing, for reading, with another signal than SIGIO.
 *
 * Wrong would be: a lease that is gone, so that another opens the file and nobody is told; one that a checkpoint has taken for
 * such an opening; another signal or descriptor in it.
 */
#include "program.h"

#include <signal.h>
#include <sys/wait.h>

/* Whether another process can open it at once. */
static int opens(const char *path, int flags) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        int fd = open(path, flags | O_NONBLOCK);
        _exit(fd >= 0 ? 1 : errno == EWOULDBLOCK ? 2 : 3);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) != 3, "the child: %x", status);
    return WEXITSTATUS(status) == 1;
}

static siginfo_t told(const sigset_t *set) {
    siginfo_t info;
    struct timespec none = {0, 0};
    memset(&info, 0, sizeof info);
    if (sigtimedwait(set, &info, &none) == -1) info.si_signo = 0;
    return info;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: leases DIRECTORY");
    char written[4096], read_only[4096];
    snprintf(written, sizeof written, "%s/written", argv[1]);
    snprintf(read_only, sizeof read_only, "%s/read", argv[1]);
    MAKE(close(open(read_only, O_CREAT | O_WRONLY, 0600)) == 0);
    int writer = open(written, O_CREAT | O_RDWR, 0600), reader = open(read_only, O_RDONLY);
    MAKE(writer >= 0 && reader >= 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGRTMIN + 1);
    MAKE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    if (fcntl(writer, F_SETLEASE, F_WRLCK) == -1) {
        printf("no leases here: %s\n", strerror(errno));
        return SKIPPED;
    }
    MAKE(fcntl(reader, F_SETLEASE, F_RDLCK) == 0 && fcntl(reader, F_SETSIG, SIGRTMIN + 1) == 0);

    ready();

    CHECK(told(&set).si_signo == 0, "nobody has opened anything");
    CHECK(fcntl(writer, F_GETLEASE) == F_WRLCK && fcntl(reader, F_GETLEASE) == F_RDLCK, "the leases: %d, %d",
          fcntl(writer, F_GETLEASE), fcntl(reader, F_GETLEASE));
    SAY("leases: held");
    CHECK(opens(read_only, O_RDONLY) && told(&set).si_signo == 0, "a reader beside a reader");
    CHECK(!opens(read_only, O_WRONLY), "a writer waits");
    siginfo_t info = told(&set);
    CHECK(info.si_signo == SIGRTMIN + 1 && info.si_fd == reader, "signal %d of %d", info.si_signo, info.si_fd);
    CHECK(fcntl(reader, F_SETLEASE, F_UNLCK) == 0 && opens(read_only, O_WRONLY), "given up");
    SAY("leases: for reading");
    CHECK(!opens(written, O_RDONLY), "a reader waits");
    CHECK(told(&set).si_signo == SIGIO, "SIGIO");
    CHECK(fcntl(writer, F_SETLEASE, F_UNLCK) == 0 && opens(written, O_RDWR), "given up");
    SAY("leases: for writing");
    return finish(7);
}
