/* 1,000 threads, each with a stack of 16 KiB and a value of its own, half of them detached.
 *
 * Wrong would be: a thread that is missing, stands on another's stack or has another's variables; a checkpoint or a
 * restart that takes minutes.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>

enum { THREADS = 1000 };

static __thread int own;
static sem_t standing, ended;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int go, right;

static void *run(void *argument) {
    unsigned char on_stack[2000];
    int number = (int)(long)argument;
    own = number;
    fill(on_stack, sizeof on_stack, number);
    pid_t id = gettid();
    sem_post(&standing);
    pthread_mutex_lock(&mutex);
    while (!go) pthread_cond_wait(&condition, &mutex);
    right += own == number && filled(on_stack, sizeof on_stack, number) && gettid() == id;
    pthread_mutex_unlock(&mutex);
    if (number % 2) sem_post(&ended);
    return (void *)(long)(number + 1);
}

static int threads_in_status(void) {
    char line[256];
    int count = -1;
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file != NULL, "/proc/self/status");
    while (fgets(line, sizeof line, file)) sscanf(line, "Threads: %d", &count);
    fclose(file);
    return count;
}

int main(void) {
    static pthread_t threads[THREADS];
    pthread_attr_t attributes;
    size_t stack = 16384;
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&ended, 0, 0) == 0);
    MAKE(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, stack) == 0);
    for (long i = 0; i < THREADS; i++) {
        pthread_attr_setdetachstate(&attributes, i % 2 ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
        int error = pthread_create(&threads[i], &attributes, run, (void *)i);
        if (error == EINVAL) {
            /* Registers and static variables leave no room in 16 KiB. */
            stack = 65536;
            MAKE(pthread_attr_setstacksize(&attributes, stack) == 0);
            error = pthread_create(&threads[i], &attributes, run, (void *)i);
        }
        MAKE(error == 0);
    }
    for (int i = 0; i < THREADS; i++) MAKE(sem_wait(&standing) == 0);

    ready();

    CHECK(threads_in_status() == THREADS + 1, "%d threads", threads_in_status());
    SAY("thousand threads: all are there");
    pthread_mutex_lock(&mutex);
    go = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    for (long i = 0; i < THREADS; i++) {
        void *result = NULL;
        if (i % 2)
            while (sem_wait(&ended) != 0) continue;
        else
            CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)(i + 1), "pthread_join of %ld", i);
    }
    CHECK(right == THREADS, "%d of %d were themselves", right, THREADS);
    SAY("thousand threads: each was itself, on its stack of %zu KiB, and ended", stack / 1024);
    return finish(7);
}
