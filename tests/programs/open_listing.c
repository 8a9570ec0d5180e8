/* A listing of the program's threads that libc has read before, and gives out after.
 *
 * Wrong would be: a number that is not the program's, a thread that is missing or comes twice.
 */
#include "program.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>

enum { THREADS = 3 };

static pid_t ids[THREADS + 1];
static sem_t standing, go;

static void *run(void *argument) {
    ids[(long)argument] = gettid();
    sem_post(&standing);
    while (sem_wait(&go) != 0) continue;
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    ids[THREADS] = gettid();
    for (long i = 0; i < THREADS; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) MAKE(sem_wait(&standing) == 0);
    DIR *directory = opendir("/proc/self/task");
    MAKE(directory != NULL && readdir(directory) != NULL && readdir(directory) != NULL);

    ready();

    int seen[THREADS + 1] = {0}, count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL; count++) {
        int known = 0;
        for (int i = 0; i <= THREADS; i++)
            if (atoi(entry->d_name) == ids[i]) known = ++seen[i];
        CHECK(known == 1, "thread %s is there %d times", entry->d_name, known);
    }
    CHECK(count == THREADS + 1, "%d threads", count);
    closedir(directory);
    for (int i = 0; i < THREADS; i++) sem_post(&go);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0, "join");
    SAY("open listing: all threads, by their names");
    return finish(7);
}
