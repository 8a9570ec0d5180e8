/* Locks that are held or waited for, of every kind.
 *
 * Wrong would be: a lock that is free, or that nobody can ever have; a waiter that is not woken or that wakes by itself;
 * an owner that is not known any more, to libc (recursive, error-checking) or to the kernel (robust, PI).
 */
#include "program.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>

static const struct kind {
    const char *name;
    int type, protocol, robust;
} kinds[] = {
    {"normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {"recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {"error-checking", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {"robust", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST},
    {"robust recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST},
    {"robust error-checking", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST},
    {"PI", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED},
    {"PI recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED},
    {"PI error-checking", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED},
    {"robust PI", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void make_mutex(pthread_mutex_t *mutex, const struct kind *kind) {
    pthread_mutexattr_t attributes;
    CHECK(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_settype(&attributes, kind->type) == 0, "attributes");
    CHECK(pthread_mutexattr_setprotocol(&attributes, kind->protocol) == 0, "protocol");
    CHECK(pthread_mutexattr_setrobust(&attributes, kind->robust) == 0, "robustness");
    CHECK(pthread_mutex_init(mutex, &attributes) == 0, "pthread_mutex_init of %s", kind->name);
}

/* Per kind: one that main holds and a waiter wants; one whose holder dies later; one that is waited for on a condition. */
static struct test {
    pthread_mutex_t held, orphaned, guarded;
    pthread_cond_t condition;
    int go_on, waited, woken;
    pthread_t waiter, dying, sleeper;
    sem_t standing, die;
} tests[KINDS];

static void *wait_for_held(void *argument) {
    struct test *test = argument;
    int result = pthread_mutex_lock(&test->held);
    CHECK(result == 0, "%s: the waiter gets %d", kinds[test - tests].name, result);
    test->waited = 1;
    result = pthread_mutex_unlock(&test->held);
    CHECK(result == 0, "%s: the waiter's unlock gives %d", kinds[test - tests].name, result);
    return NULL;
}

static void *die_with_orphaned(void *argument) {
    struct test *test = argument;
    CHECK(pthread_mutex_lock(&test->orphaned) == 0, "lock");
    sem_post(&test->standing);
    while (sem_wait(&test->die) != 0) continue;
    return NULL;
}

static void *sleep_on_condition(void *argument) {
    struct test *test = argument;
    CHECK(pthread_mutex_lock(&test->guarded) == 0, "lock");
    sem_post(&test->standing);
    while (!test->go_on) CHECK(pthread_cond_wait(&test->condition, &test->guarded) == 0, "pthread_cond_wait");
    test->woken = 1;
    CHECK(pthread_mutex_unlock(&test->guarded) == 0, "%s: unlock after a wait", kinds[test - tests].name);
    return NULL;
}

static void *try_lock(void *mutex) { return (void *)(intptr_t)pthread_mutex_trylock(mutex); }

static void *timed_lock(void *mutex) {
    struct timespec end = timespec_of(nanoseconds(CLOCK_REALTIME) + 20 * MILLISECONDS);
    return (void *)(intptr_t)pthread_mutex_timedlock(mutex, &end);
}

static int by_another_thread(void *(*attempt)(void *), pthread_mutex_t *mutex) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, attempt, mutex) == 0 && pthread_join(thread, &result) == 0, "thread");
    return (int)(intptr_t)result;
}

/* What main can do with a mutex that it holds. */
static void check_held(struct test *test) {
    const struct kind *kind = &kinds[test - tests];
    int busy = by_another_thread(try_lock, &test->held), timed = by_another_thread(timed_lock, &test->held);
    CHECK(busy == EBUSY && timed == ETIMEDOUT, "%s: others get %d and %d", kind->name, busy, timed);
    if (kind->type == PTHREAD_MUTEX_RECURSIVE) {
        CHECK(pthread_mutex_lock(&test->held) == 0 && pthread_mutex_unlock(&test->held) == 0, "%s: once more", kind->name);
    } else if (kind->type == PTHREAD_MUTEX_ERRORCHECK) {
        int again = pthread_mutex_lock(&test->held);
        CHECK(again == EDEADLK, "%s: locked twice gives %d", kind->name, again);
    }
    CHECK(!test->waited, "%s: the waiter waits", kind->name);
    int result = pthread_mutex_unlock(&test->held);
    CHECK(result == 0, "%s: unlock gives %d", kind->name, result);
    CHECK(pthread_join(test->waiter, NULL) == 0 && test->waited, "%s: the waiter has had it", kind->name);
    if (kind->type == PTHREAD_MUTEX_ERRORCHECK)
        CHECK(pthread_mutex_unlock(&test->held) == EPERM, "%s: unlocked twice", kind->name);
}

/* Its holder ends without giving it up. */
static void check_orphaned(struct test *test) {
    const struct kind *kind = &kinds[test - tests];
    if (kind->robust != PTHREAD_MUTEX_ROBUST) return;
    CHECK(by_another_thread(try_lock, &test->orphaned) == EBUSY, "%s: its holder lives", kind->name);
    sem_post(&test->die);
    CHECK(pthread_join(test->dying, NULL) == 0, "join");
    int result = pthread_mutex_lock(&test->orphaned);
    CHECK(result == EOWNERDEAD, "%s: after its owner's death: %d", kind->name, result);
    CHECK(pthread_mutex_consistent(&test->orphaned) == 0 && pthread_mutex_unlock(&test->orphaned) == 0, "%s: consistent", kind->name);
    CHECK(pthread_mutex_lock(&test->orphaned) == 0 && pthread_mutex_unlock(&test->orphaned) == 0, "%s: usable again", kind->name);
}

static void check_condition(struct test *test) {
    const struct kind *kind = &kinds[test - tests];
    CHECK(pthread_mutex_lock(&test->guarded) == 0, "lock");
    CHECK(!test->woken, "%s: the sleeper sleeps", kind->name);
    test->go_on = 1;
    CHECK(pthread_cond_signal(&test->condition) == 0 && pthread_mutex_unlock(&test->guarded) == 0, "signal");
    CHECK(pthread_join(test->sleeper, NULL) == 0 && test->woken, "%s: the sleeper is woken", kind->name);
}

static void *lock_and_end(void *mutex) { return (void *)(intptr_t)pthread_mutex_lock(mutex); }

/* A whole new life of a mutex of this kind, to the end of one whose owner has ended. */
static void check_new(const struct kind *kind) {
    pthread_mutex_t mutex;
    make_mutex(&mutex, kind);
    CHECK(pthread_mutex_lock(&mutex) == 0 && by_another_thread(try_lock, &mutex) == EBUSY, "%s: a new one", kind->name);
    CHECK(by_another_thread(timed_lock, &mutex) == ETIMEDOUT, "%s: a new one, timed", kind->name);
    if (kind->type == PTHREAD_MUTEX_ERRORCHECK) {
        int again = pthread_mutex_lock(&mutex);
        CHECK(again == EDEADLK, "%s: a new one, locked twice: %d", kind->name, again);
    }
    if (kind->type == PTHREAD_MUTEX_RECURSIVE)
        CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0, "%s: a new one, once more", kind->name);
    CHECK(pthread_mutex_unlock(&mutex) == 0 && by_another_thread(lock_and_end, &mutex) == 0, "%s: whose owner ends", kind->name);
    if (kind->robust == PTHREAD_MUTEX_ROBUST) {
        CHECK(pthread_mutex_trylock(&mutex) == EOWNERDEAD && pthread_mutex_consistent(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0,
              "%s: made consistent", kind->name);
        CHECK(by_another_thread(lock_and_end, &mutex) == 0 && pthread_mutex_lock(&mutex) == EOWNERDEAD && pthread_mutex_unlock(&mutex) == 0,
              "%s: not made consistent", kind->name);
        CHECK(pthread_mutex_lock(&mutex) == ENOTRECOVERABLE && by_another_thread(try_lock, &mutex) == ENOTRECOVERABLE,
              "%s: nobody gets it any more", kind->name);
    } else {
        CHECK(by_another_thread(try_lock, &mutex) == EBUSY, "%s: it stays locked", kind->name);
    }
}

static pthread_rwlock_t read_locked = PTHREAD_RWLOCK_INITIALIZER, write_locked = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t finish_once;
static volatile int once_done, serials, wrote, read_it, taken;
static pthread_spinlock_t spin;

static void *write_lock(void *argument) {
    CHECK(pthread_rwlock_wrlock(&read_locked) == 0, "wrlock");
    wrote = 1;
    pthread_rwlock_unlock(&read_locked);
    return argument;
}
static void *read_lock(void *argument) {
    CHECK(pthread_rwlock_rdlock(&write_locked) == 0, "rdlock");
    read_it = 1;
    pthread_rwlock_unlock(&write_locked);
    return argument;
}
static void *reach_barrier(void *argument) {
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) __atomic_fetch_add(&serials, 1, __ATOMIC_SEQ_CST);
    return argument;
}
static void *take_semaphore(void *argument) {
    while (sem_wait(&semaphore) != 0) continue;
    __atomic_fetch_add(&taken, 1, __ATOMIC_SEQ_CST);
    return argument;
}
static void do_once(void) {
    while (sem_wait(&finish_once) != 0) continue;
    __atomic_fetch_add(&once_done, 1, __ATOMIC_SEQ_CST);
}
static void *run_once(void *argument) {
    CHECK(pthread_once(&once, do_once) == 0 && once_done == 1, "pthread_once");
    return argument;
}

static uint32_t word = 1, other_word = 1;
static long futex(uint32_t *address, int operation, uint32_t value, void *four, uint32_t *two, uint32_t three) {
    return syscall(SYS_futex, address, operation, value, four, two, three);
}
static void *wait_on_word(void *argument) {
    while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 1) futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 1, NULL, NULL, 5);
    return argument;
}

int main(void) {
    pthread_t threads[32];
    int count = 0;
    for (struct test *test = tests; test < tests + KINDS; test++) {
        make_mutex(&test->held, &kinds[test - tests]);
        make_mutex(&test->orphaned, &kinds[test - tests]);
        make_mutex(&test->guarded, &kinds[test - tests]);
        MAKE(pthread_cond_init(&test->condition, NULL) == 0 && sem_init(&test->standing, 0, 0) == 0 && sem_init(&test->die, 0, 0) == 0);
        MAKE(pthread_mutex_lock(&test->held) == 0);
        MAKE(pthread_create(&test->waiter, NULL, wait_for_held, test) == 0);
        MAKE(pthread_create(&test->dying, NULL, die_with_orphaned, test) == 0 && sem_wait(&test->standing) == 0);
        MAKE(pthread_create(&test->sleeper, NULL, sleep_on_condition, test) == 0 && sem_wait(&test->standing) == 0);
    }
    MAKE(pthread_rwlock_rdlock(&read_locked) == 0 && pthread_rwlock_wrlock(&write_locked) == 0);
    MAKE(pthread_create(&threads[count++], NULL, write_lock, NULL) == 0 && pthread_create(&threads[count++], NULL, read_lock, NULL) == 0);
    MAKE(pthread_barrier_init(&barrier, NULL, 4) == 0 && sem_init(&semaphore, 0, 0) == 0 && sem_init(&finish_once, 0, 0) == 0);
    for (int i = 0; i < 3; i++) MAKE(pthread_create(&threads[count++], NULL, reach_barrier, NULL) == 0);
    for (int i = 0; i < 2; i++) MAKE(pthread_create(&threads[count++], NULL, take_semaphore, NULL) == 0);
    for (int i = 0; i < 2; i++) MAKE(pthread_create(&threads[count++], NULL, run_once, NULL) == 0);
    for (int i = 0; i < 3; i++) MAKE(pthread_create(&threads[count++], NULL, wait_on_word, NULL) == 0);
    MAKE(pthread_spin_init(&spin, 0) == 0 && pthread_spin_lock(&spin) == 0);
    usleep(20000);

    ready();

    for (struct test *test = tests; test < tests + KINDS; test++) {
        check_held(test);
        check_condition(test);
        check_orphaned(test);
        check_new(&kinds[test - tests]);
        SAY("locks: %s", kinds[test - tests].name);
    }
    CHECK(pthread_rwlock_trywrlock(&read_locked) == EBUSY && pthread_rwlock_tryrdlock(&write_locked) != 0 && !wrote && !read_it,
          "read-write locks are held");
    CHECK(pthread_rwlock_wrlock(&write_locked) == EDEADLK, "the writer is known");
    CHECK(pthread_rwlock_unlock(&read_locked) == 0 && pthread_rwlock_unlock(&write_locked) == 0, "rwlock");
    CHECK(serials == 0 && taken == 0 && once_done == 0, "nobody went on");
    pthread_barrier_wait(&barrier);
    sem_post(&semaphore);
    sem_post(&semaphore);
    sem_post(&finish_once);
    CHECK(pthread_spin_trylock(&spin) == EBUSY && pthread_spin_unlock(&spin) == 0, "spin lock");
    /* Two are moved to another word, one is woken by its bit. */
    __atomic_store_n(&word, 2, __ATOMIC_SEQ_CST);
    CHECK(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, 2) == 0, "no waiter has that bit");
    CHECK(futex(&word, FUTEX_REQUEUE_PRIVATE, 1, (void *)2, &other_word, 0) == 3, "one woken, two moved");
    CHECK(futex(&other_word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0) == 2, "both woken");
    for (int i = 0; i < count; i++) CHECK(pthread_join(threads[i], NULL) == 0, "join");
    CHECK(wrote && read_it && taken == 2 && once_done == 1, "all went on");
    SAY("locks: read-write locks, barrier, semaphore, once, futexes, spin lock");
    return finish(7);
}
