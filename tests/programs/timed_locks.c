/* Threads that wait for locks with a time-out: of read-write locks, of robust mutexes and of those with priority inheritance, by
 * the wall's clock and by the monotonic one.
 *
 * Wrong would be: a wait that ends too early, or whose time begins anew; a lock that a waiter does not get when it is free.
 */
#include "program.h"

#include "waits.h"

#include <pthread.h>
#include <semaphore.h>

enum lock { READ_LOCK, WRITE_LOCK, NORMAL, ROBUST, INHERITING, ROBUST_INHERITING, LOCKS };
static const char *const names[LOCKS] = {"lock for reading", "lock for writing", "mutex", "robust mutex", "PI mutex", "robust PI mutex"};

/* One that nobody gives up, and one that is given up afterwards. */
enum { KEPT, GIVEN_UP, FATES };

static struct waiter {
    enum lock lock;
    int fate, by_wall;
    pthread_t thread;
    pid_t id;
    struct wait wait;
    int result, done;
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
} waiters[LOCKS][FATES][2];

static int take(struct waiter *waiter, clockid_t clock, const struct timespec *until) {
    switch (waiter->lock) {
    case READ_LOCK:
        return waiter->by_wall ? pthread_rwlock_timedrdlock(&waiter->rwlock, until)
                               : pthread_rwlock_clockrdlock(&waiter->rwlock, clock, until);
    case WRITE_LOCK:
        return waiter->by_wall ? pthread_rwlock_timedwrlock(&waiter->rwlock, until)
                               : pthread_rwlock_clockwrlock(&waiter->rwlock, clock, until);
    default:
        return waiter->by_wall ? pthread_mutex_timedlock(&waiter->mutex, until)
                               : pthread_mutex_clocklock(&waiter->mutex, clock, until);
    }
}

static int give_up(struct waiter *waiter) {
    return waiter->lock <= WRITE_LOCK ? pthread_rwlock_unlock(&waiter->rwlock) : pthread_mutex_unlock(&waiter->mutex);
}

static void *run(void *argument) {
    struct waiter *waiter = argument;
    clockid_t clock = waiter->by_wall ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    int64_t asked = waiter->fate == KEPT ? ASKED : 3600 * SECONDS;
    struct timespec until = timespec_of(nanoseconds(clock) + asked);
    begin_wait(&waiter->wait, clock, asked - MILLISECONDS);
    __atomic_store_n(&waiter->id, gettid(), __ATOMIC_SEQ_CST);
    waiter->result = take(waiter, clock, &until);
    end_wait(&waiter->wait);
    if (waiter->result == 0) CHECK(give_up(waiter) == 0, "%s: given up by who has waited for it", names[waiter->lock]);
    __atomic_store_n(&waiter->done, 1, __ATOMIC_SEQ_CST);
    return argument;
}

static void make(struct waiter *waiter) {
    pthread_mutexattr_t attributes;
    int robust = waiter->lock == ROBUST || waiter->lock == ROBUST_INHERITING;
    int inherits = waiter->lock == INHERITING || waiter->lock == ROBUST_INHERITING;
    MAKE(pthread_mutexattr_init(&attributes) == 0);
    MAKE(pthread_mutexattr_setrobust(&attributes, robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED) == 0);
    MAKE(pthread_mutexattr_setprotocol(&attributes, inherits ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE) == 0);
    MAKE(pthread_mutex_init(&waiter->mutex, &attributes) == 0 && pthread_rwlock_init(&waiter->rwlock, NULL) == 0);
    if (waiter->lock == WRITE_LOCK) MAKE(pthread_rwlock_rdlock(&waiter->rwlock) == 0);
    else if (waiter->lock == READ_LOCK) MAKE(pthread_rwlock_wrlock(&waiter->rwlock) == 0);
    else MAKE(pthread_mutex_lock(&waiter->mutex) == 0);
    MAKE(pthread_create(&waiter->thread, NULL, run, waiter) == 0);
}

static void each(void (*act)(struct waiter *)) {
    for (enum lock lock = 0; lock < LOCKS; lock++)
        for (int fate = 0; fate < FATES; fate++)
            for (int by_wall = 0; by_wall < 2; by_wall++) {
                struct waiter *waiter = &waiters[lock][fate][by_wall];
                waiter->lock = lock;
                waiter->fate = fate;
                waiter->by_wall = by_wall;
                act(waiter);
            }
}

static void await(struct waiter *waiter) {
    while (!__atomic_load_n(&waiter->id, __ATOMIC_SEQ_CST) || !is_asleep(waiter->id)) usleep(1000);
}

static struct reference reference;

static void check(struct waiter *waiter) {
    const char *clock = waiter->by_wall ? "wall" : "monotonic";
    if (waiter->fate == GIVEN_UP) {
        CHECK(!__atomic_load_n(&waiter->done, __ATOMIC_SEQ_CST), "%s, %s: its waiter waits", names[waiter->lock], clock);
        CHECK(give_up(waiter) == 0 && pthread_join(waiter->thread, NULL) == 0, "%s: given up", names[waiter->lock]);
        CHECK(waiter->result == 0, "%s, %s: its waiter gets %d", names[waiter->lock], clock, waiter->result);
        return;
    }
    CHECK(pthread_join(waiter->thread, NULL) == 0, "join");
    CHECK(waiter->result == ETIMEDOUT, "%s, %s: %d", names[waiter->lock], clock, waiter->result);
    check_wait(&waiter->wait, &reference, 0, names[waiter->lock]);
    CHECK(give_up(waiter) == 0, "%s: given up", names[waiter->lock]);
}

int main(void) {
    each(make);
    each(await);
    let_a_part_pass(&reference);

    ready();

    each(check);
    SAY("timed locks: those that are kept end by their time, the others are had");
    return finish(7);
}
