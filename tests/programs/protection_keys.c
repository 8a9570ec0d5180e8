/* Memory under a protection key (pkeys(7)), and each thread's register that says which keys it may use: refused by name, and
 * the program keeps both.
 *
 * Wrong would be: memory that can be read without the key, a key that is another one, a register at its default.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

static int ends[2], key;
static unsigned char *memory;
static sem_t standing, go;
static int seen_by_thread;

static void *run(void *argument) {
    pkey_set(key, PKEY_DISABLE_WRITE);
    sem_post(&standing);
    while (sem_wait(&go) != 0) continue;
    seen_by_thread = pkey_get(key);
    return argument;
}

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    key = pkey_alloc(0, 0);
    if (key < 0) {
        printf("protection keys: not on this machine (%s)\n", strerror(errno));
        return SKIPPED;
    }
    memory = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(memory != MAP_FAILED && pipe2(ends, O_NONBLOCK) == 0);
    fill(memory, 4 * page, 5);
    MAKE(pkey_mprotect(memory, 4 * page, PROT_READ | PROT_WRITE, key) == 0);
    pthread_t thread;
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    MAKE(pthread_create(&thread, NULL, run, NULL) == 0 && sem_wait(&standing) == 0);
    MAKE(pkey_set(key, PKEY_DISABLE_ACCESS) == 0 && write(ends[1], memory, 1) == -1);

    ready();

    CHECK(pkey_get(key) == PKEY_DISABLE_ACCESS, "the register of the main thread");
    CHECK(write(ends[1], memory, 1) == -1 && errno == EFAULT, "the memory cannot be read");
    sem_post(&go);
    CHECK(pthread_join(thread, NULL) == 0 && seen_by_thread == PKEY_DISABLE_WRITE, "the register of the other thread");
    CHECK(pkey_set(key, 0) == 0 && filled(memory, 4 * page, 5), "with the key it is what it was");
    SAY("protection keys: memory, and both threads' registers");
    MAKE(munmap(memory, 4 * page) == 0 && pkey_free(key) == 0);
    ready();
    return finish(7);
}
