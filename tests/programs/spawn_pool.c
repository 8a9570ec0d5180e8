/* A pool of threads that make programs by posix_spawn as fast as they can, each of which ends with a status of its own.
 *
 * Wrong would be: a program that does not run, a status that is lost or another's, a wait for a child that is not there.
 */
#include "program.h"

#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

extern char **environ;

enum { THREADS = 4 };

static atomic_long made, seen;
static atomic_int over;

static void *work(void *argument) {
    long number = (long)argument;
    for (long round = 0; !over; round++) {
        char text[32];
        int wanted = (int)((number + round) % 50), status;
        snprintf(text, sizeof text, "exit %d", wanted);
        char *words[] = {"sh", "-c", text, NULL};
        pid_t child;
        int error = posix_spawn(&child, "/bin/sh", NULL, NULL, words, environ);
        CHECK(error == 0, "posix_spawn: %s", strerror(error));
        made++;
        pid_t ended = waitpid(child, &status, 0);
        CHECK(ended == child, "waitpid of %d: %d, %s", (int)child, (int)ended, strerror(errno));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == wanted, "status %x instead of %d", status, wanted);
        seen++;
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) MAKE(pthread_create(&threads[i], NULL, work, (void *)(i * 7)) == 0);
    ready();
    over = 1;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    CHECK(made == seen && waitpid(-1, NULL, 0) == -1 && errno == ECHILD, "%ld of %ld", (long)seen, (long)made);
    SAY("spawn pool: every child was counted");
    return finish(7);
}
