/* A parent with a stopped child, of which it has been told, makes others all the time and waits for the signal of each one's
 * end: by a handler and sigsuspend, by sigwaitinfo, by sigtimedwait, or from a signalfd.
 *
 * Wrong would be: the signal of an end that does not come, because another one was in its place; one for the stopped child; one
 * that tells of another id, since a restart has come between the call and Zap's work on what it told.
 */
#include "program.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

static volatile sig_atomic_t told;
static siginfo_t last;

static void handle(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    last = *info;
    told = 1;
}

static void alarmed(int number) {
    (void)number;
    static const char text[] = "FAIL: the signal of a child's end has not come\n";
    if (write(1, text, sizeof text - 1) > 0) _exit(1);
}

static void read_signal(int fd) {
    struct signalfd_siginfo read_info;
    ssize_t length;
    while ((length = read(fd, &read_info, sizeof read_info)) < 0) CHECK(errno == EINTR, "read");
    CHECK(length == sizeof read_info && read_info.ssi_signo == SIGCHLD, "a signalfd told of %u", read_info.ssi_signo);
    last = (siginfo_t){.si_code = read_info.ssi_code};
    last.si_pid = (pid_t)read_info.ssi_pid;
    last.si_status = read_info.ssi_status;
}

int main(void) {
    int status;
    struct timespec long_time = {100, 0};
    sigset_t closed, open;
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    struct sigaction late = {.sa_handler = alarmed};
    MAKE(sigemptyset(&closed) == 0 && sigaddset(&closed, SIGCHLD) == 0);
    MAKE(sigaction(SIGCHLD, &action, NULL) == 0 && sigaction(SIGALRM, &late, NULL) == 0);
    MAKE(sigprocmask(SIG_BLOCK, &closed, &open) == 0);
    pid_t stands = fork();
    if (stands == 0) {
        setpgid(0, 0);
        kill(getpid(), SIGTSTP);
        _exit(9);
    }
    MAKE(waitpid(stands, &status, WUNTRACED) == stands && WSTOPSIG(status) == SIGTSTP);
    while (!told) sigsuspend(&open);
    int fd = signalfd(-1, &closed, SFD_CLOEXEC);
    MAKE(fd >= 0);
    unsigned seed = 1;
    say_ready();
    for (long round = 0; !told_to_go_on(); round++) {
        seed = seed * 1103515245 + 12345;
        told = 0;
        alarm(20);
        pid_t child = fork();
        if (child == 0) {
            usleep(seed >> 16 & 2047);
            _exit(8);
        }
        MAKE(child > 0);
        switch (round % 4) {
        case 0:
            while (sigwaitinfo(&closed, &last) != SIGCHLD) CHECK(errno == EINTR, "sigwaitinfo");
            break;
        case 1:
            while (!told) sigsuspend(&open);
            break;
        case 2:
            while (sigtimedwait(&closed, &last, &long_time) != SIGCHLD) CHECK(errno == EINTR, "sigtimedwait");
            break;
        case 3:
            read_signal(fd);
        }
        alarm(0);
        CHECK(last.si_pid == child && last.si_code == CLD_EXITED && last.si_status == 8, "round %ld: told of %d, code %d, status %d instead of %d",
              round, last.si_pid, last.si_code, last.si_status, child);
        CHECK(waitpid(-1, &status, WUNTRACED | WCONTINUED) == child && WIFEXITED(status) && WEXITSTATUS(status) == 8, "wait: %x", status);
    }
    CHECK(kill(stands, SIGCONT) == 0, "continue");
    while (waitpid(stands, &status, 0) != stands) CHECK(errno == EINTR, "waitpid");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9, "the stopped one: %x", status);
    SAY("job control: every end has been told of, and nothing else");
    return finish(7);
}
