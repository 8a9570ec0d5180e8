/* Threads on stacks of the program's own (pthread_attr_setstack), with alternate signal stacks of their own.
 *
 * Wrong would be: a thread on another stack, a stack that pthread_getattr_np does not find, an alternate stack that is
 * not used by a handler or whose settings are gone.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>

enum { THREADS = 4, STACK = 256 << 10, ALTERNATE = 64 << 10 };

static unsigned char *stacks[THREADS], *alternates[THREADS];
static sem_t standing, go[THREADS];
static __thread int handled_on_alternate, number_of_thread;

static void handler(int number) {
    unsigned char local[500];
    fill(local, sizeof local, number);
    unsigned char *low = alternates[number_of_thread];
    handled_on_alternate += local > low && local < low + ALTERNATE && filled(local, sizeof local, number);
}

static void *run(void *argument) {
    int i = number_of_thread = (int)(long)argument;
    stack_t alternate = {.ss_sp = alternates[i], .ss_size = ALTERNATE, .ss_flags = 0}, now;
    if (i < 3) MAKE(sigaltstack(&alternate, NULL) == 0);
    unsigned char here[3000];
    fill(here, sizeof here, i);
    sem_post(&standing);
    while (sem_wait(&go[i]) != 0) continue;

    void *low;
    size_t length;
    pthread_attr_t attributes;
    CHECK(here > stacks[i] && here < stacks[i] + STACK && filled(here, sizeof here, i), "thread %d: its stack", i);
    CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0, "thread %d: pthread_getattr_np", i);
    CHECK(pthread_attr_getstack(&attributes, &low, &length) == 0 && low == stacks[i] && length == STACK,
          "thread %d: pthread_attr_getstack", i);
    CHECK(sigaltstack(NULL, &now) == 0, "sigaltstack");
    if (i < 3) {
        CHECK(now.ss_sp == alternates[i] && now.ss_size == ALTERNATE && now.ss_flags == 0,
              "thread %d: its alternate stack, flags %d", i, now.ss_flags);
        raise(SIGUSR1);
        CHECK(handled_on_alternate == 1, "thread %d: a handler on the alternate stack", i);
    } else {
        CHECK(now.ss_flags == SS_DISABLE, "thread %d has no alternate stack", i);
    }
    return argument;
}

int main(void) {
    pthread_t threads[THREADS];
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0 && sem_init(&standing, 0, 0) == 0);
    for (long i = 0; i < THREADS; i++) {
        pthread_attr_t attributes;
        stacks[i] = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        alternates[i] = malloc(ALTERNATE);
        MAKE(stacks[i] != MAP_FAILED && alternates[i] != NULL && sem_init(&go[i], 0, 0) == 0);
        MAKE(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, stacks[i], STACK) == 0);
        MAKE(pthread_create(&threads[i], &attributes, run, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) MAKE(sem_wait(&standing) == 0);

    ready();

    void *result, *low;
    for (long i = 0; i < THREADS; i++) {
        size_t length;
        pthread_attr_t attributes;
        CHECK(pthread_getattr_np(threads[i], &attributes) == 0 &&
                  pthread_attr_getstack(&attributes, &low, &length) == 0 && low == stacks[i],
              "the stack of thread %ld, seen by another", i);
        sem_post(&go[i]);
        CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)i, "pthread_join");
    }
    pthread_attr_t attributes;
    size_t length;
    CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0 &&
              pthread_attr_getstack(&attributes, &low, &length) == 0 && (unsigned char *)&length > (unsigned char *)low &&
              (unsigned char *)&length < (unsigned char *)low + length,
          "the main thread's stack");
    SAY("thread stacks: four of the program's own, three alternate ones");
    return finish(7);
}
