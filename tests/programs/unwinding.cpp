// Exceptions, pthread_exit and cancellation that unwind the stack through calls that wait, with destructors on the way.
//
// Wrong would be: a destructor that does not run or runs twice, an exception that nobody catches although somebody
// should, a thread that cannot be suspended afterwards.
#include "program.h"

#include <csignal>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdexcept>

namespace {

int destroyed;

struct Counted {
    ~Counted() { __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST); }
};

sem_t standing, go, never;

int compare(const void *left, const void *right) {
    if (*static_cast<const int *>(left) == 3) throw std::runtime_error("from a comparison");
    return *static_cast<const int *>(left) - *static_cast<const int *>(right);
}

// Throws through qsort, a C function.
bool throws_through_sort() {
    int numbers[] = {5, 4, 3, 2, 1};
    Counted counted;
    try {
        Counted inner;
        qsort(numbers, 5, sizeof numbers[0], compare);
    } catch (const std::runtime_error &error) {
        return std::string(error.what()) == "from a comparison";
    }
    return false;
}

int visit(struct dl_phdr_info *, size_t, void *) { throw 43; }
void begin() { throw 44; }

// Throws through dl_iterate_phdr, which Zap wraps, and through pthread_once, whose work is then still to be done.
bool throws_through_others() {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    Counted counted;
    int caught = 0;
    try {
        Counted inner;
        dl_iterate_phdr(visit, nullptr);
    } catch (int number) {
        caught += number == 43;
    }
    try {
        pthread_once(&once, begin);
    } catch (int number) {
        caught += number == 44;
    }
    return caught == 2;
}

void *exits(void *argument) {
    Counted counted;
    sem_post(&standing);
    while (sem_wait(&go) != 0) continue;
    pthread_exit(argument);
}

void *throws(void *argument) {
    Counted outer;
    try {
        Counted inner;
        sem_post(&standing);
        while (sem_wait(&go) != 0) continue;
        throw 42;
    } catch (int number) {
        return number == 42 && throws_through_sort() ? argument : nullptr;
    }
}

void *waits(void *argument) {
    Counted outer;
    try {
        Counted inner;
        sem_post(&standing);
        while (true) {
            struct timespec hour = {3600, 0};
            nanosleep(&hour, nullptr);
            sem_wait(&never);
        }
    } catch (...) {
        // A forced unwinding passes through and must go on.
        throw;
    }
    return argument;
}

volatile sig_atomic_t thrown;

} // namespace

int main() {
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&go, 0, 0) == 0 && sem_init(&never, 0, 0) == 0);
    pthread_t threads[3];
    void *(*const functions[])(void *) = {exits, throws, waits};
    int value = 0;
    for (int i = 0; i < 3; i++) {
        MAKE(pthread_create(&threads[i], nullptr, functions[i], &value) == 0);
        MAKE(sem_wait(&standing) == 0);
    }
    say_ready();
    // Exceptions are thrown all the time, so that checkpoints fall into their search for a handler.
    int rounds = 0;
    do {
        CHECK(throws_through_sort(), "an exception through qsort");
        CHECK(throws_through_others(), "an exception through dl_iterate_phdr and pthread_once");
        rounds++;
    } while (!told_to_go_on());
    CHECK(destroyed == 4 * rounds, "destructors ran %d times, exceptions %d", destroyed, rounds);
    SAY("unwinding: exceptions all the time");
    destroyed = 0;
    sem_post(&go);
    sem_post(&go);
    void *result;
    CHECK(pthread_join(threads[0], &result) == 0 && result == &value, "pthread_exit");
    CHECK(pthread_join(threads[1], &result) == 0 && result == &value, "an exception in a thread");
    CHECK(pthread_cancel(threads[2]) == 0 && pthread_join(threads[2], &result) == 0 && result == PTHREAD_CANCELED,
          "a cancelled thread");
    CHECK(destroyed == 1 + 2 + 2 + 2, "destructors ran %d times", destroyed);
    SAY("unwinding: pthread_exit, an exception and a cancellation, each with its destructors");
    return finish(7);
}
