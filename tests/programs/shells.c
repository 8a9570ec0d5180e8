/* Shells that libc starts: by system, popen for reading and for writing, waited for by pclose and by fclose.
 *
 * Wrong would be: a shell that is not in the pod, which would refuse the checkpoint; an end, an output or a mode that is
 * not libc's own; SIGINT, SIGQUIT or SIGCHLD that are not again what they were.
 */
#include "program.h"

/* fclose and pclose take each other's streams in glibc. */
#pragma GCC diagnostic ignored "-Wmismatched-dealloc"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static volatile sig_atomic_t interrupted;
static pthread_t in_system;
static void note(int signal) { interrupted += signal == SIGINT; }

static char wait_command[9000];

static void *call_system(void *command) {
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
    return (void *)(intptr_t)system(command);
}

static int disposition_is(int number, void (*handler)(int)) {
    struct sigaction action;
    return sigaction(number, NULL, &action) == 0 && action.sa_handler == handler;
}

int main(int argc, char **argv) {
    if (argc == 3) {
        snprintf(program_path, sizeof program_path, "%s", argv[2]);
        wait_for_go();
        return 0;
    }
    MAKE(argc == 2 && chdir(argv[1]) == 0);
    say_ready();
    snprintf(wait_command, sizeof wait_command, "'%s' wait '%s';", argv[0], program_path);
    char *command;
    MAKE(signal(SIGINT, note) != SIG_ERR);
    MAKE(asprintf(&command, "%s echo read me; exit 3", wait_command) > 0);
    FILE *readable = popen(command, "r");
    MAKE(readable != NULL && (fcntl(fileno(readable), F_GETFD) & FD_CLOEXEC) == 0);
    MAKE(asprintf(&command, "%s cat > written; exit 4", wait_command) > 0);
    FILE *writable = popen(command, "we");
    MAKE(writable != NULL && (fcntl(fileno(writable), F_GETFD) & FD_CLOEXEC) != 0);
    /* Streams of before are closed in a shell. */
    MAKE(asprintf(&command, "%s test -e /proc/$$/fd/%d && echo open || echo closed", wait_command, fileno(readable)) > 0);
    FILE *third = popen(command, "re");
    MAKE(third != NULL && fprintf(writable, "written before\n") > 0);
    /* Not before it has been seen that there is a shell. */
    MAKE(asprintf(&command, "%s until test -e seen; do sleep 0.01; done; exit 5", wait_command) > 0);
    MAKE(pthread_create(&in_system, NULL, call_system, command) == 0);
    /* The one thread's shell runs in the other's time, too: who comes last puts dispositions back. Both are ignored, one after
     * the other. */
    while (!disposition_is(SIGINT, SIG_IGN) || !disposition_is(SIGQUIT, SIG_IGN)) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
    int seen = open("seen", O_WRONLY | O_CREAT, 0600);
    MAKE(seen >= 0 && close(seen) == 0);

    wait_for_go();

    void *result;
    CHECK(pthread_join(in_system, &result) == 0 && WIFEXITED((int)(intptr_t)result) && WEXITSTATUS((int)(intptr_t)result) == 5,
          "system: %p", result);
    CHECK(disposition_is(SIGINT, note) && disposition_is(SIGQUIT, SIG_DFL), "dispositions after system");
    sigset_t mask;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && !sigismember(&mask, SIGCHLD), "SIGCHLD after system");
    SAY("shells: system");
    char line[100];
    CHECK(fgets(line, sizeof line, readable) && strcmp(line, "read me\n") == 0, "what the first has said: %s", line);
    int status = pclose(readable);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3, "pclose: %x", status);
    CHECK(fprintf(writable, "written after\n") > 0, "fprintf");
    status = pclose(writable);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 4, "pclose of the second: %x", status);
    FILE *file = fopen("written", "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) && strcmp(line, "written before\n") == 0, "the first line");
    CHECK(fgets(line, sizeof line, file) && strcmp(line, "written after\n") == 0, "the second line");
    CHECK(pclose(file) == 0, "pclose of a stream that is a file's");
    CHECK(fgets(line, sizeof line, third) && strcmp(line, "closed\n") == 0, "the first stream in the third shell: %s", line);
    status = fclose(third);
    CHECK(status == 0, "fclose: %x", status);
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "a child is left");
    SAY("shells: popen");

    CHECK(system(NULL) == 1, "there is a shell");
    status = system("kill -TERM $$");
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "a shell that is killed: %x", status);
    errno = 0;
    CHECK(popen("true", "rw") == NULL && errno == EINVAL && popen("true", "") == NULL && popen("true", "x") == NULL, "modes");
    FILE *ends = popen("exit 9", "w");
    CHECK(ends != NULL && WEXITSTATUS(fclose(ends)) == 9, "fclose tells the end, too");
    /* A shell whose thread is cancelled is killed. */
    MAKE(pthread_create(&in_system, NULL, call_system, "exec sleep 1000") == 0);
    while (!disposition_is(SIGINT, SIG_IGN)) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
    CHECK(pthread_cancel(in_system) == 0 && pthread_join(in_system, &result) == 0 && result == PTHREAD_CANCELED, "cancel");
    CHECK(disposition_is(SIGINT, note), "dispositions after the cancellation");
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "the cancelled one's shell is left");
    CHECK(system("test $(echo `echo 3`) = 3") == 0, "a shell's own shells");
    SAY("shells: ends and cancellation");
    return finish(7);
}
