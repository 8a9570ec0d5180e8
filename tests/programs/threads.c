/* Threads: their own variables, names, locks that are held across, waits, return values.
 *
 * Wrong would be: a thread that is gone or stands elsewhere, thread-local variables of another thread, a mutex whose
 * owner is no longer its owner (recursive and error-checking ones look at the thread id), a wait that returned early,
 * pthread_kill or a new pthread_create that fails or hits a stranger.
 */
#include "program.h"

#include "waits.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

enum { HOLDER, WAITER, SECOND_WAITER, SLEEPER, READER, LOCKER, POSTED, SPINNER, COUNT };
static const char *const names[] = {"holder", "waiter", "waiter two", "sleeper",
                                    "reader", "locker", "posted",     "spinner"};

static __thread uint64_t own_number;
static __thread unsigned char own_space[5000];
static __thread int signals_taken;
static pthread_key_t key;
static pthread_t threads[COUNT], self_of[COUNT];
static pid_t id_of[COUNT];
static sem_t standing, posted;
static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER, condition_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive, checking;
static pthread_rwlock_t readers = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t all_waits_over, all_signalled;
static int may_go, pipe_ends[2], destroyed;
static volatile int spin_on = 1;
static struct wait slept;
static struct reference reference;

static void count_signal(int number) {
    (void)number;
    signals_taken++;
}

static void on_exit_of_thread(void *value) {
    (void)value;
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
}

/* A thread's own state, looked at by itself. */
static void check_own(long i, const char *when) {
    char name[16];
    CHECK(own_number == 1000 + (uint64_t)i && filled(own_space, sizeof own_space, 60 + i),
          "%s: own variables, %s", names[i], when);
    CHECK(pthread_getspecific(key) == &threads[i], "%s: own key, %s", names[i], when);
    CHECK(pthread_equal(pthread_self(), self_of[i]) && gettid() == id_of[i], "%s: own ids, %s", names[i], when);
    CHECK(pthread_getname_np(pthread_self(), name, sizeof name) == 0 && strcmp(name, names[i]) == 0,
          "%s: name is %s, %s", names[i], name, when);
    CHECK(errno == 100 + i, "%s: own errno, %s", names[i], when);
}

static void *run(void *argument) {
    long i = (long)argument;
    own_number = 1000 + i;
    fill(own_space, sizeof own_space, 60 + i);
    pthread_setspecific(key, &threads[i]);
    pthread_setname_np(pthread_self(), names[i]);
    self_of[i] = pthread_self();
    id_of[i] = gettid();
    errno = 100 + i;
    char byte = 0;
    if (i == SLEEPER) begin_wait(&slept, CLOCK_MONOTONIC, ASKED);
    sem_post(&standing);
    switch (i) {
    case HOLDER: /* Holds two locks while the others stand in front of them. */
    case WAITER:
    case SECOND_WAITER:
        pthread_mutex_lock(&condition_mutex);
        while (!may_go) pthread_cond_wait(&condition, &condition_mutex);
        check_own(i, "after waiting for the condition");
        pthread_mutex_unlock(&condition_mutex);
        break;
    case SLEEPER: {
        struct timespec sleep = timespec_of(ASKED);
        CHECK(nanosleep(&sleep, NULL) == 0, "sleeper: nanosleep is not cut short");
        end_wait(&slept);
        break;
    }
    case READER:
        CHECK(read(pipe_ends[0], &byte, 1) == 1 && byte == '!', "reader: reads a byte");
        break;
    case LOCKER:
        CHECK(pthread_mutex_lock(&plain) == 0, "locker: gets the lock");
        pthread_mutex_unlock(&plain);
        break;
    case POSTED:
        CHECK(sem_wait(&posted) == 0, "posted: sem_wait");
        break;
    case SPINNER:
        while (spin_on) own_space[0] = pattern_byte(60 + i, 0);
        break;
    }
    check_own(i, "at its end");
    pthread_barrier_wait(&all_waits_over);
    pthread_barrier_wait(&all_signalled);
    CHECK(signals_taken == 1, "%s: took %d signals", names[i], signals_taken);
    return (void *)(5000 + i);
}

static void *run_new(void *argument) {
    own_number = 7;
    CHECK(zeroed(own_space, sizeof own_space) && signals_taken == 0, "a new thread's variables are fresh");
    CHECK(pthread_mutex_trylock(&checking) == EBUSY, "a new thread finds the lock held");
    return argument;
}

int main(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checking, &attributes);
    MAKE(signal(SIGUSR2, count_signal) != SIG_ERR);
    MAKE(pthread_key_create(&key, on_exit_of_thread) == 0 && pipe(pipe_ends) == 0);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&posted, 0, 0) == 0);
    MAKE(pthread_barrier_init(&all_waits_over, NULL, COUNT + 1) == 0);
    MAKE(pthread_barrier_init(&all_signalled, NULL, COUNT + 1) == 0);
    MAKE(pthread_mutex_lock(&plain) == 0);
    MAKE(pthread_mutex_lock(&recursive) == 0 && pthread_mutex_lock(&recursive) == 0);
    MAKE(pthread_mutex_lock(&checking) == 0);
    MAKE(pthread_rwlock_wrlock(&readers) == 0);
    for (long i = 0; i < COUNT; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < COUNT; i++) MAKE(sem_wait(&standing) == 0);
    own_number = 42;
    let_a_part_pass(&reference);
    pthread_t main_thread = pthread_self();
    pid_t main_id = gettid();

    ready();

    CHECK(own_number == 42 && pthread_equal(main_thread, pthread_self()) && gettid() == main_id, "the main thread");
    for (int i = 0; i < COUNT; i++) {
        char name[16];
        CHECK(pthread_getname_np(threads[i], name, sizeof name) == 0 && strcmp(name, names[i]) == 0, "name of %s is %s",
              names[i], name);
    }
    SAY("threads: 8 threads with their names");

    CHECK(pthread_mutex_trylock(&plain) == EBUSY && pthread_mutex_unlock(&plain) == 0, "a plain mutex is held");
    CHECK(pthread_mutex_lock(&recursive) == 0, "a recursive mutex is locked again by its owner");
    for (int i = 0; i < 3; i++) CHECK(pthread_mutex_unlock(&recursive) == 0, "and given back as often");
    CHECK(pthread_mutex_unlock(&recursive) == EPERM, "and not once more");
    CHECK(pthread_mutex_lock(&checking) == EDEADLK, "an error-checking mutex knows its owner");
    CHECK(pthread_rwlock_rdlock(&readers) == EDEADLK && pthread_rwlock_unlock(&readers) == 0, "a lock for writing");
    SAY("threads: plain, recursive, error-checking mutexes and a read-write lock held across");

    pthread_t fresh;
    void *result;
    CHECK(pthread_create(&fresh, NULL, run_new, (void *)99) == 0 && pthread_join(fresh, &result) == 0 &&
              result == (void *)99,
          "a new thread");
    CHECK(pthread_mutex_unlock(&checking) == 0, "an error-checking mutex is given back");
    SAY("threads: a new thread");

    pthread_mutex_lock(&condition_mutex);
    may_go = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&condition_mutex);
    CHECK(write(pipe_ends[1], "!", 1) == 1, "write");
    spin_on = 0;
    sem_post(&posted);
    /* No thread may be in nanosleep any more, which the signal would end. */
    pthread_barrier_wait(&all_waits_over);
    for (int i = 0; i < COUNT; i++) CHECK(pthread_kill(threads[i], SIGUSR2) == 0, "pthread_kill of %s", names[i]);
    pthread_barrier_wait(&all_signalled);
    for (long i = 0; i < COUNT; i++)
        CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)(5000 + i), "return value of %s", names[i]);
    check_wait(&slept, &reference, 0, "nanosleep");
    CHECK(destroyed == COUNT, "destructors of thread keys ran");
    SAY("threads: pthread_kill reaches each, each returns its value");
    CHECK(signals_taken == 0, "the main thread took none of the signals");
    return finish(7);
}
