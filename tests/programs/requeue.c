/* Waiters on conditions and futexes that are moved to another one: when they stand there, and when they are moved afterwards.
 *
 * Wrong would be: a waiter that nobody wakes any more, one that wakes by itself, a lock that it does not have then.
 */
#include "program.h"

#include "waits.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>

enum { WAITERS = 4 };

/* A condition whose waiters are woken before the checkpoint and stand at the mutex then; one where it comes later. */
static struct condition {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    int go_on, woken;
    pid_t ids[WAITERS];
    pthread_t threads[WAITERS];
} before = {.mutex = PTHREAD_MUTEX_INITIALIZER, .condition = PTHREAD_COND_INITIALIZER},
  after = {.mutex = PTHREAD_MUTEX_INITIALIZER, .condition = PTHREAD_COND_INITIALIZER};

static void *wait_for_condition(void *argument) {
    struct condition *condition = argument;
    CHECK(pthread_mutex_lock(&condition->mutex) == 0, "lock");
    for (int i = 0; i < WAITERS; i++)
        if (pthread_equal(condition->threads[i], pthread_self())) condition->ids[i] = gettid();
    while (!condition->go_on) CHECK(pthread_cond_wait(&condition->condition, &condition->mutex) == 0, "pthread_cond_wait");
    condition->woken++;
    CHECK(pthread_mutex_unlock(&condition->mutex) == 0, "unlock");
    return argument;
}

/* Returns with the mutex held, when all wait for the condition. */
static void make_condition(struct condition *condition) {
    CHECK(pthread_mutex_lock(&condition->mutex) == 0, "lock");
    for (int i = 0; i < WAITERS; i++) MAKE(pthread_create(&condition->threads[i], NULL, wait_for_condition, condition) == 0);
    CHECK(pthread_mutex_unlock(&condition->mutex) == 0, "unlock");
    for (int i = 0; i < WAITERS;) {
        CHECK(pthread_mutex_lock(&condition->mutex) == 0, "lock");
        if (condition->ids[i]) {
            i++;
        }
        CHECK(pthread_mutex_unlock(&condition->mutex) == 0, "unlock");
    }
    CHECK(pthread_mutex_lock(&condition->mutex) == 0, "lock");
}

static void check_condition(struct condition *condition) {
    for (int i = 0; i < WAITERS; i++) CHECK(pthread_join(condition->threads[i], NULL) == 0, "join");
    CHECK(condition->woken == WAITERS && pthread_mutex_trylock(&condition->mutex) == 0, "all have had the mutex");
}

static long futex(uint32_t *word, int operation, uint32_t value, uintptr_t fourth, uint32_t *other, uint32_t last) {
    return syscall(SYS_futex, word, operation, value, fourth, other, last);
}

/* As a lock made of futexes does it: who is moved looks at the word again when it wakes, which may be for nothing (futex(2)). */
static struct moved {
    uint32_t from, to;
    int woken;
    pid_t ids[WAITERS];
    pthread_t threads[WAITERS];
} moved_before, moved_after;

static void *wait_and_be_moved(void *argument) {
    struct moved *moved = argument;
    for (int i = 0; i < WAITERS; i++)
        if (__atomic_load_n(&moved->ids[i], __ATOMIC_SEQ_CST) == 0 &&
            __sync_bool_compare_and_swap(&moved->ids[i], 0, gettid()))
            break;
    while (__atomic_load_n(&moved->from, __ATOMIC_SEQ_CST) == 0) futex(&moved->from, FUTEX_WAIT_PRIVATE, 0, 0, NULL, 0);
    while (__atomic_load_n(&moved->to, __ATOMIC_SEQ_CST) == 0) futex(&moved->to, FUTEX_WAIT_PRIVATE, 0, 0, NULL, 0);
    __atomic_fetch_add(&moved->woken, 1, __ATOMIC_SEQ_CST);
    return argument;
}

static void make_moved(struct moved *moved) {
    for (int i = 0; i < WAITERS; i++) MAKE(pthread_create(&moved->threads[i], NULL, wait_and_be_moved, moved) == 0);
    for (int i = 0; i < WAITERS; i++)
        while (!__atomic_load_n(&moved->ids[i], __ATOMIC_SEQ_CST) || !is_asleep(moved->ids[i])) usleep(1000);
}

static void move(struct moved *moved) {
    /* On a busy machine some are still on their way back into the call, and would find the word changed. */
    for (int i = 0; i < WAITERS; i++)
        while (!is_asleep(moved->ids[i])) usleep(1000);
    CHECK(futex(&moved->from, FUTEX_CMP_REQUEUE_PRIVATE, 0, INT_MAX, &moved->to, 1) == -1 && errno == EAGAIN, "not with another value");
    __atomic_store_n(&moved->from, 1, __ATOMIC_SEQ_CST);
    long count = futex(&moved->from, FUTEX_CMP_REQUEUE_PRIVATE, 1, INT_MAX, &moved->to, 1);
    CHECK(count == WAITERS, "%ld of %d were woken and moved", count, WAITERS);
}

static void check_moved(struct moved *moved) {
    CHECK(moved->woken == 0, "nobody went on");
    __atomic_store_n(&moved->to, 1, __ATOMIC_SEQ_CST);
    futex(&moved->to, FUTEX_WAKE_PRIVATE, INT_MAX, 0, NULL, 0);
    for (int i = 0; i < WAITERS; i++) CHECK(pthread_join(moved->threads[i], NULL) == 0, "join");
    CHECK(moved->woken == WAITERS, "all went on");
}

/* To a mutex with priority inheritance: the kernel makes the waiter its owner. */
static pthread_mutex_t inheriting;
static uint32_t word;
static pid_t waiter_id;
static int had;

static void *wait_for_inheriting(void *argument) {
    __atomic_store_n(&waiter_id, gettid(), __ATOMIC_SEQ_CST);
    uint32_t *lock = (uint32_t *)&inheriting.__data.__lock;
    CHECK(futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, 0, lock, 0) == 0, "FUTEX_WAIT_REQUEUE_PI");
    __atomic_store_n(&had, 1, __ATOMIC_SEQ_CST);
    CHECK(futex(lock, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, NULL, 0) == 0, "FUTEX_UNLOCK_PI");
    return argument;
}

int main(void) {
    pthread_mutexattr_t attributes;
    pthread_t waiter;
    MAKE(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    MAKE(pthread_mutex_init(&inheriting, &attributes) == 0 && pthread_mutex_lock(&inheriting) == 0);
    MAKE(pthread_create(&waiter, NULL, wait_for_inheriting, NULL) == 0);
    while (!__atomic_load_n(&waiter_id, __ATOMIC_SEQ_CST) || !is_asleep(waiter_id)) usleep(1000);
    make_condition(&before);
    before.go_on = 1;
    MAKE(pthread_cond_broadcast(&before.condition) == 0);
    for (int i = 0; i < WAITERS; i++)
        while (!is_asleep(before.ids[i])) usleep(1000);
    make_condition(&after);
    MAKE(pthread_mutex_unlock(&after.mutex) == 0);
    make_moved(&moved_before);
    make_moved(&moved_after);
    move(&moved_before);

    ready();

    CHECK(before.woken == 0 && pthread_mutex_unlock(&before.mutex) == 0, "the waiters wait for the mutex");
    check_condition(&before);
    CHECK(pthread_mutex_lock(&after.mutex) == 0 && after.woken == 0, "nobody is woken");
    after.go_on = 1;
    CHECK(pthread_cond_broadcast(&after.condition) == 0 && pthread_mutex_unlock(&after.mutex) == 0, "pthread_cond_broadcast");
    check_condition(&after);
    SAY("requeue: all of a condition's waiters have the mutex");
    check_moved(&moved_before);
    move(&moved_after);
    check_moved(&moved_after);
    SAY("requeue: waiters are moved from futex to futex");
    CHECK(!had && futex(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, INT_MAX, (uint32_t *)&inheriting.__data.__lock, 0) == 1, "it is moved");
    CHECK(!had && pthread_mutex_unlock(&inheriting) == 0 && pthread_join(waiter, NULL) == 0 && had, "and is given the mutex");
    CHECK(pthread_mutex_lock(&inheriting) == 0 && pthread_mutex_unlock(&inheriting) == 0, "which is free then");
    SAY("requeue: to a mutex with priority inheritance");
    return finish(7);
}
