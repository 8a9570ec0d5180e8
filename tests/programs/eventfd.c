/* eventfd: count, semaphore mode, flags.
 *
 * Wrong would be: a wake-up that is lost (the count is 0) or doubled, a semaphore that gives all at once.
 */
#include "program.h"

#include <poll.h>
#include <sys/eventfd.h>

int main(void) {
    int counter = eventfd(5, EFD_NONBLOCK | EFD_CLOEXEC), semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
    int empty = eventfd(0, EFD_NONBLOCK), full = eventfd(0, EFD_NONBLOCK), blocking = eventfd(1, 0);
    MAKE(counter >= 0 && semaphore >= 0 && empty >= 0 && full >= 0 && blocking >= 0);
    uint64_t value = UINT64_MAX - 1;
    MAKE(write(full, &value, 8) == 8);
    value = 37;
    MAKE(write(counter, &value, 8) == 8);
    int copy = dup2(counter, 140);
    MAKE(copy == 140);
    int all[] = {counter, semaphore, empty, full, blocking, copy};
    struct flags flags[6];
    for (int i = 0; i < 6; i++) flags[i] = flags_of(all[i]);

    ready();

    for (int i = 0; i < 6; i++) CHECK(same_flags(all[i], flags[i]), "flags of eventfd %d", i);
    const short both = POLLIN | POLLOUT;
    struct pollfd polled[] = {{counter, both, 0}, {empty, both, 0}, {full, both, 0}};
    CHECK(poll(polled, 3, 0) == 3 && polled[0].revents == both && polled[1].revents == POLLOUT &&
              polled[2].revents == POLLIN,
          "poll");
    CHECK(read(copy, &value, 8) == 8 && value == 42, "count %llu", (unsigned long long)value);
    errno = 0;
    CHECK(read(counter, &value, 8) == -1 && errno == EAGAIN, "read empties it for both numbers");
    for (int i = 0; i < 3; i++) CHECK(read(semaphore, &value, 8) == 8 && value == 1, "semaphore gives 1");
    errno = 0;
    CHECK(read(semaphore, &value, 8) == -1 && errno == EAGAIN, "semaphore gives 3 times");
    errno = 0;
    CHECK(read(empty, &value, 8) == -1 && errno == EAGAIN, "empty");
    value = 1;
    errno = 0;
    CHECK(write(full, &value, 8) == -1 && errno == EAGAIN, "full");
    CHECK(read(full, &value, 8) == 8 && value == UINT64_MAX - 1, "the largest count");
    CHECK(read(blocking, &value, 8) == 8 && value == 1, "blocking");
    SAY("eventfd: 42 in a dup'ed one, 3 in a semaphore, none, the largest, 1 in a blocking one");
    return finish(7);
}
