/* Nothing of Zap may be in a program between checkpoints: no thread, no descriptor, no child, no tracer.
 *
 * The program looks again and again, so also right after each checkpoint. Wrong would be: a second thread (libc then
 * takes other paths), a descriptor number that the program did not open, a child that wait() reports, a SIGCHLD, a
 * changed errno or signal mask.
 */
#include "program.h"

#include <dirent.h>
#include <signal.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>

static volatile sig_atomic_t children_ended;

static void child_ended(int number) {
    (void)number;
    children_ended++;
}

static long status_number(const char *name, int base) {
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file != NULL, "/proc/self/status");
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) value = (long)strtoul(line + strlen(name), NULL, base);
    fclose(file);
    return value;
}

/* The names in a directory of /proc; the descriptor that reads it is always the same number. */
static void list(const char *path, char *text, size_t space) {
    DIR *directory = opendir(path);
    CHECK(directory != NULL, "%s", path);
    text[0] = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            snprintf(text + strlen(text), space - strlen(text), "%s ", entry->d_name);
    closedir(directory);
}

static void look(const char *descriptors, const char *tasks, long blocked, long ignored) {
    char now[4096];
    CHECK(status_number("Threads:", 10) == 1, "Threads: %ld", status_number("Threads:", 10));
    CHECK(__libc_single_threaded, "libc believes in one thread");
    CHECK(status_number("TracerPid:", 10) == 0, "nobody traces");
    CHECK(status_number("SigBlk:", 16) == blocked && status_number("SigIgn:", 16) == ignored, "masks of signals");
    list("/proc/self/task", now, sizeof now);
    CHECK(strcmp(now, tasks) == 0, "threads %s, were %s", now, tasks);
    list("/proc/self/fd", now, sizeof now);
    CHECK(strcmp(now, descriptors) == 0, "descriptors %s, were %s", now, descriptors);
    int status, saved = errno;
    errno = 0;
    CHECK(waitpid(-1, &status, __WALL | WNOHANG) == -1 && errno == ECHILD, "there is no child");
    errno = saved;
    CHECK(children_ended == 0, "no child ended");
}

int main(void) {
    char descriptors[4096], tasks[4096];
    MAKE(signal(SIGCHLD, child_ended) != SIG_ERR);
    list("/proc/self/task", tasks, sizeof tasks);
    list("/proc/self/fd", descriptors, sizeof descriptors);
    long blocked = status_number("SigBlk:", 16), ignored = status_number("SigIgn:", 16);
    look(descriptors, tasks, blocked, ignored);
    say_ready();
    while (!told_to_go_on()) {
        /* Most of the time here, where a checkpoint must leave errno alone. */
        errno = 4242;
        int64_t until = nanoseconds(CLOCK_MONOTONIC) + 2 * MILLISECONDS;
        while (nanoseconds(CLOCK_MONOTONIC) < until) continue;
        CHECK(errno == 4242, "errno is the program's");
        look(descriptors, tasks, blocked, ignored);
    }
    look(descriptors, tasks, blocked, ignored);
    SAY("no trace: one thread, the same descriptors, no child, no tracer, all the time");
    return finish(7);
}
