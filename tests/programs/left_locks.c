/* Handlers that leave a call on a robust mutex, or on one with priority inheritance, by siglongjmp or longjmp: on the
 * thread's own stack, and on alternate stacks below and above it, and in one of its frames.
 *
 * Wrong would be: a thread that libc does not know any more: its recursive mutex is not its own, an error-checking one no
 * deadlock, a read-write lock no writer's; a mutex that can never be had.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

enum { VICTIMS = 4, STACK = 1 << 16 };

static struct victim {
    pthread_t thread;
    char *alternate;
    pthread_mutex_t recursive, checking;
    pthread_rwlock_t lock;
    long left;
    long sent, handled;
} victims[VICTIMS];

static pthread_mutex_t robust, inheriting;
static sem_t standing;
static volatile int stop, calm;

static __thread sigjmp_buf back;
static __thread jmp_buf plain_back;
static __thread volatile sig_atomic_t may_leave;

static __thread struct victim *own;

static void leave(int number) {
    __atomic_add_fetch(&own->handled, 1, __ATOMIC_SEQ_CST);
    /* One that stays within the handler takes nothing along. */
    jmp_buf here;
    if (setjmp(here) == 0) longjmp(here, 1);
    int way = may_leave;
    may_leave = 0;
    if (way == 1) siglongjmp(back, 1);
    if (way == 2) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, number);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        longjmp(plain_back, 1);
    }
}

static void make(pthread_mutex_t *mutex, int type, int protocol, int robustness) {
    pthread_mutexattr_t attributes;
    MAKE(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_settype(&attributes, type) == 0);
    MAKE(pthread_mutexattr_setprotocol(&attributes, protocol) == 0 && pthread_mutexattr_setrobust(&attributes, robustness) == 0);
    MAKE(pthread_mutex_init(mutex, &attributes) == 0);
}

/* What libc knows the calling thread by. */
static void check_known(struct victim *victim) {
    int result = pthread_mutex_lock(&victim->recursive);
    CHECK(result == 0 && pthread_mutex_unlock(&victim->recursive) == 0, "the recursive mutex gives %d", result);
    result = pthread_mutex_lock(&victim->checking);
    CHECK(result == EDEADLK, "the error-checking mutex gives %d", result);
    result = pthread_rwlock_wrlock(&victim->lock);
    CHECK(result == EDEADLK, "the read-write lock gives %d", result);
    CHECK(pthread_kill(pthread_self(), 0) == 0, "pthread_kill");
}

static void *suffer(void *argument) {
    struct victim *victim = own = argument;
    char local[STACK];
    if (victim == &victims[3]) victim->alternate = local;
    stack_t stack = {.ss_sp = victim->alternate, .ss_size = STACK};
    if (victim->alternate) MAKE(sigaltstack(&stack, NULL) == 0);
    MAKE(pthread_mutex_lock(&victim->recursive) == 0 && pthread_mutex_lock(&victim->checking) == 0);
    MAKE(pthread_rwlock_wrlock(&victim->lock) == 0);
    sem_post(&standing);
    for (volatile long round = 0; !stop; round++) {
        pthread_mutex_t *mutex = round % 2 ? &robust : &inheriting;
        struct timespec end = timespec_of(nanoseconds(CLOCK_REALTIME) + 10 * SECONDS);
        int jumped = round % 4 < 2 ? sigsetjmp(back, 1) : setjmp(plain_back);
        if (!jumped) {
            may_leave = round % 4 < 2 ? 1 : 2;
            int result = round % 8 < 4 ? pthread_mutex_lock(mutex) : pthread_mutex_timedlock(mutex, &end);
            may_leave = 0;
            /* Nobody else has it any more at the end. */
            if (result == 0) CHECK(stop && pthread_mutex_unlock(mutex) == 0, "locked while another holds it");
            else CHECK(result == ETIMEDOUT, "lock gives %d", result);
        }
        victim->left += jumped;
        check_known(victim);
    }
    CHECK(pthread_mutex_unlock(&victim->recursive) == 0 && pthread_mutex_unlock(&victim->checking) == 0, "unlock");
    CHECK(pthread_rwlock_unlock(&victim->lock) == 0, "unlock");
    CHECK(pthread_mutex_lock(&robust) == 0 && pthread_mutex_unlock(&robust) == 0, "the robust mutex");
    CHECK(pthread_mutex_lock(&inheriting) == 0 && pthread_mutex_unlock(&inheriting) == 0, "the mutex with inheritance");
    return NULL;
}

static void *hold(void *argument) {
    MAKE(pthread_mutex_lock(&robust) == 0 && pthread_mutex_lock(&inheriting) == 0);
    sem_post(&standing);
    while (!stop) usleep(1000);
    CHECK(pthread_mutex_unlock(&robust) == 0 && pthread_mutex_unlock(&inheriting) == 0, "the holder's unlock");
    return argument;
}

/* One signal at a time, and none at the end: a thread that leaves after it has been woken takes the wake-up along. */
static void *disturb(void *argument) {
    for (int under_way = 1; !calm || under_way; usleep(500)) {
        under_way = 0;
        for (int i = 0; i < VICTIMS; i++) {
            struct victim *victim = &victims[i];
            if (__atomic_load_n(&victim->handled, __ATOMIC_SEQ_CST) != victim->sent) {
                under_way = 1;
            } else if (!calm) {
                victim->sent++;
                CHECK(pthread_kill(victim->thread, SIGUSR1) == 0, "pthread_kill");
            }
        }
    }
    return argument;
}

int main(void) {
    pthread_t holder, disturber;
    pthread_attr_t attributes;
    MAKE(sem_init(&standing, 0, 0) == 0 && pthread_attr_init(&attributes) == 0);
    make(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
    make(&inheriting, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = leave;
    action.sa_flags = SA_ONSTACK;
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0);
    MAKE(pthread_create(&holder, NULL, hold, NULL) == 0 && sem_wait(&standing) == 0);
    /* Stacks and alternate stacks side by side in one mapping: the alternate one below, above, and none; the last has its own. */
    char *memory = mmap(NULL, VICTIMS * 16L * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(memory != MAP_FAILED);
    for (int i = 0; i < VICTIMS; i++) {
        struct victim *victim = &victims[i];
        char *room = memory + i * 16L * STACK;
        victim->alternate = i == 0 ? NULL : i == 1 ? room : room + 12L * STACK;
        make(&victim->recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
        make(&victim->checking, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
        MAKE(pthread_rwlock_init(&victim->lock, NULL) == 0);
        MAKE(pthread_attr_setstack(&attributes, room + 2L * STACK, 8L * STACK) == 0);
        MAKE(pthread_create(&victim->thread, &attributes, suffer, victim) == 0 && sem_wait(&standing) == 0);
    }
    MAKE(pthread_create(&disturber, NULL, disturb, NULL) == 0);

    ready();

    long before[VICTIMS];
    for (int i = 0; i < VICTIMS; i++) before[i] = __atomic_load_n(&victims[i].left, __ATOMIC_SEQ_CST);
    int64_t until = nanoseconds(CLOCK_MONOTONIC) + 20 * SECONDS;
    for (int i = 0; i < VICTIMS; i++)
        while (__atomic_load_n(&victims[i].left, __ATOMIC_SEQ_CST) < before[i] + 16)
            CHECK(nanoseconds(CLOCK_MONOTONIC) < until, "thread %d leaves calls no more", i);
    calm = 1;
    CHECK(pthread_join(disturber, NULL) == 0, "join");
    stop = 1;
    CHECK(pthread_join(holder, NULL) == 0, "join");
    for (int i = 0; i < VICTIMS; i++) CHECK(pthread_join(victims[i].thread, NULL) == 0, "join");
    SAY("left locks: threads are who they were, locks can be had");
    return finish(7);
}
