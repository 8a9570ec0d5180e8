/* Thread-local variables of a library that was loaded by dlopen: they lie in memory that each thread gets when it first
 * touches them.
 *
 * Wrong would be: a variable of another thread, or one at its first value again; a library that cannot be loaded or
 * closed any more.
 */
#include "program.h"

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>

enum { THREADS = 3 };

static sem_t standing, go;
static int *(*counter)(void);
static unsigned char *(*space)(void);
static void *second_library;
static const char *second_path;

static void *run(void *argument) {
    long i = (long)argument;
    /* The last thread touches nothing before. */
    if (i < THREADS - 1) {
        *counter() = 100 + (int)i;
        fill(space(), 5000, i);
    }
    int *place = i < THREADS - 1 ? counter() : NULL;
    sem_post(&standing);
    while (sem_wait(&go) != 0) continue;
    if (i < THREADS - 1) {
        CHECK(counter() == place && *counter() == 100 + (int)i && filled(space(), 5000, i), "thread %ld", i);
    } else {
        CHECK(*counter() == 42 && zeroed(space(), 5000), "a thread that touches them only now");
    }
    int *(*other)(void) = (int *(*)(void))dlsym(second_library, "counter_of_library");
    CHECK(other != NULL && *other() == 42 && other() != counter(), "a library that was loaded now");
    return argument;
}

int main(int argc, char **argv) {
    MAKE(argc == 3);
    second_path = argv[2];
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL, "dlopen: %s", dlerror());
    counter = (int *(*)(void))dlsym(library, "counter_of_library");
    space = (unsigned char *(*)(void))dlsym(library, "space_of_library");
    MAKE(counter != NULL && space != NULL && *counter() == 42);
    *counter() = 7;
    pthread_t threads[THREADS];
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    for (long i = 0; i < THREADS; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) MAKE(sem_wait(&standing) == 0);

    ready();

    CHECK(*counter() == 7, "the main thread's");
    second_library = dlmopen(LM_ID_BASE, second_path, RTLD_NOW | RTLD_LOCAL);
    CHECK(second_library != NULL && second_library != library, "dlopen: %s", dlerror());
    for (int i = 0; i < THREADS; i++) sem_post(&go);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    SAY("thread variables: those of a library from before, and of one that was loaded now");
    CHECK(dlclose(second_library) == 0 && dlclose(library) == 0, "dlclose");
    library = dlopen(argv[1], RTLD_NOW);
    CHECK(library != NULL, "dlopen: %s", dlerror());
    counter = (int *(*)(void))dlsym(library, "counter_of_library");
    CHECK(counter != NULL && *counter() == 42, "loaded again, it is new");
    SAY("thread variables: closed, and loaded again");
    return finish(7);
}
