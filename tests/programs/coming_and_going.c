/* Threads that are created and end all the time: joined, detached, and in a chain in which each makes the next.
 *
 * Wrong would be: a checkpoint that fails or hangs for a thread that was just born or about to end, a thread that is lost
 * or runs twice.
 */
#include "program.h"

#include <pthread.h>

static int made, ran, detached_made, detached_ran, links;
static volatile int chain_ended;

static void *count(void *argument) {
    __atomic_add_fetch((int *)argument, 1, __ATOMIC_SEQ_CST);
    return argument;
}

static pthread_attr_t detached;

static void *link_of_chain(void *argument) {
    __atomic_add_fetch(&links, 1, __ATOMIC_SEQ_CST);
    pthread_t next;
    if (told_to_go_on()) {
        chain_ended = 1;
        return NULL;
    }
    CHECK(pthread_create(&next, &detached, link_of_chain, argument) == 0, "the next of the chain");
    return NULL;
}

int main(void) {
    pthread_t thread;
    void *result;
    MAKE(pthread_attr_init(&detached) == 0 && pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) == 0);
    say_ready();
    MAKE(pthread_create(&thread, &detached, link_of_chain, NULL) == 0);
    while (!told_to_go_on()) {
        pthread_t group[4];
        for (int i = 0; i < 4; i++) {
            CHECK(pthread_create(&group[i], NULL, count, &ran) == 0, "pthread_create");
            made++;
        }
        CHECK(pthread_create(&thread, &detached, count, &detached_ran) == 0, "pthread_create");
        detached_made++;
        CHECK(pthread_create(&thread, NULL, count, &detached_ran) == 0 && pthread_detach(thread) == 0, "detached");
        detached_made++;
        for (int i = 0; i < 4; i++)
            CHECK(pthread_join(group[i], &result) == 0 && result == &ran, "pthread_join");
    }
    int64_t until = nanoseconds(CLOCK_MONOTONIC) + 20 * SECONDS;
    while (!chain_ended || __atomic_load_n(&detached_ran, __ATOMIC_SEQ_CST) != detached_made)
        CHECK(nanoseconds(CLOCK_MONOTONIC) < until, "detached threads: %d made, %d ran", detached_made, detached_ran);
    CHECK(made == ran, "joined threads: %d made, %d ran", made, ran);
    SAY("coming and going: joined, detached and chained threads, none lost");
    return finish(7);
}
