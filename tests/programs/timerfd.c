/* timerfd: clocks, what remains, intervals, expirations that nobody has read yet.
 *
 * The program's monotonic clock stands still between checkpoint and restart, so a timer ends at the same moment of it
 * as before. Wrong would be: a timer that starts anew with its whole time, that never fires or fires at once, an
 * interval that is lost after one expiration, unread expirations lost.
 */
#include "program.h"

#include <poll.h>
#include <sys/timerfd.h>

/* Within these bounds of its clock the timer ends. Read between two looks at the clock, so that being scheduled away
 * makes the bounds wider and never wrong. */
struct end {
    int64_t earliest, latest;
};

static struct end end_of(int fd, clockid_t clock) {
    struct itimerspec value;
    int64_t before = nanoseconds(clock);
    CHECK(timerfd_gettime(fd, &value) == 0, "timerfd_gettime");
    int64_t after = nanoseconds(clock), left = nanoseconds_of(value.it_value);
    return (struct end){before + left, after + left};
}

/* `after` ends when `before` did, by the clock that it runs on. */
static int same_end(struct end after, struct end before) {
    int64_t tolerance = 20 * MILLISECONDS;
    return after.latest + tolerance >= before.earliest && after.earliest <= before.latest + tolerance;
}

static int64_t interval_of(int fd) {
    struct itimerspec value;
    CHECK(timerfd_gettime(fd, &value) == 0, "timerfd_gettime");
    return nanoseconds_of(value.it_interval);
}

static int make(clockid_t clock, int flags, int set_flags, int64_t value, int64_t interval) {
    int fd = timerfd_create(clock, flags);
    struct itimerspec spec = {.it_value = timespec_of(value), .it_interval = timespec_of(interval)};
    MAKE(fd >= 0 && timerfd_settime(fd, set_flags, &spec, NULL) == 0);
    return fd;
}

int main(void) {
    int64_t monotonic = nanoseconds(CLOCK_MONOTONIC), real = nanoseconds(CLOCK_REALTIME);
    int relative = make(CLOCK_MONOTONIC, TFD_CLOEXEC, 0, 1000 * SECONDS, 0);
    int repeating = make(CLOCK_BOOTTIME, TFD_NONBLOCK, 0, 2000 * SECONDS, 7 * SECONDS);
    int absolute = make(CLOCK_MONOTONIC, 0, TFD_TIMER_ABSTIME, monotonic + 500 * SECONDS, 0);
    int wall = make(CLOCK_REALTIME, 0, TFD_TIMER_ABSTIME, real + 100000 * SECONDS, 0);
    int disarmed = make(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 0, 0);
    int unread = make(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 1 * MILLISECONDS, 3000 * SECONDS);
    int over = make(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 1 * MILLISECONDS, 0);
    int over_and_read = make(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 1 * MILLISECONDS, 0);
    int64_t ticking_since = nanoseconds(CLOCK_MONOTONIC);
    int ticking = make(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 10 * MILLISECONDS, 10 * MILLISECONDS);
    int64_t soon_since = nanoseconds(CLOCK_MONOTONIC);
    int soon = make(CLOCK_MONOTONIC, 0, 0, 1500 * MILLISECONDS, 0);
    struct pollfd expired[] = {{unread, POLLIN, 0}, {over, POLLIN, 0}, {over_and_read, POLLIN, 0}};
    while (poll(expired, 3, -1) < 3) continue;
    uint64_t count;
    MAKE(read(over_and_read, &count, 8) == 8 && count == 1);
    int copy = dup2(relative, 180);
    MAKE(copy == 180);

    int all[] = {relative, repeating, absolute, wall, disarmed, unread, over, over_and_read, ticking, soon, copy};
    enum { ALL = sizeof all / sizeof *all };
    struct flags flags[ALL];
    for (int i = 0; i < ALL; i++) flags[i] = flags_of(all[i]);
    struct end relative_end = end_of(relative, CLOCK_MONOTONIC), repeating_end = end_of(repeating, CLOCK_BOOTTIME);
    struct end absolute_end = end_of(absolute, CLOCK_MONOTONIC), wall_end = end_of(wall, CLOCK_REALTIME);
    struct end unread_end = end_of(unread, CLOCK_MONOTONIC);

    ready();

    for (int i = 0; i < ALL; i++) CHECK(same_flags(all[i], flags[i]), "flags of timer %d", i);
    CHECK(same_end(end_of(relative, CLOCK_MONOTONIC), relative_end), "the relative timer ends when it did");
    CHECK(same_end(end_of(copy, CLOCK_MONOTONIC), relative_end), "the dup'ed timer ends when it did");
    CHECK(same_end(end_of(repeating, CLOCK_BOOTTIME), repeating_end), "the boot-time timer ends when it did");
    CHECK(same_end(end_of(absolute, CLOCK_MONOTONIC), absolute_end), "the absolute timer ends when it did");
    CHECK(same_end(end_of(wall, CLOCK_REALTIME), wall_end), "the wall clock's timer ends when it did");
    CHECK(same_end(end_of(unread, CLOCK_MONOTONIC), unread_end), "the expired timer's interval ends when it did");
    CHECK(interval_of(relative) == 0 && interval_of(repeating) == 7 * SECONDS && interval_of(absolute) == 0 &&
              interval_of(unread) == 3000 * SECONDS && interval_of(ticking) == 10 * MILLISECONDS,
          "intervals");
    SAY("timerfd: relative, boot-time, absolute, wall clock: what remains, and intervals");

    struct itimerspec value;
    CHECK(timerfd_gettime(disarmed, &value) == 0 && nanoseconds_of(value.it_value) == 0, "disarmed");
    errno = 0;
    CHECK(read(disarmed, &count, 8) == -1 && errno == EAGAIN, "disarmed: not fired");
    CHECK(read(unread, &count, 8) == 8 && count == 1, "one unread expiration, of an interval");
    CHECK(read(over, &count, 8) == 8 && count == 1, "one unread expiration");
    errno = 0;
    CHECK(read(over_and_read, &count, 8) == -1 && errno == EAGAIN, "an expiration that was read is not told again");
    SAY("timerfd: unread expirations are told, once");

    /* How often it ticked lies between what the clock says before and after the read. */
    int64_t before = nanoseconds(CLOCK_MONOTONIC);
    struct pollfd tick = {ticking, POLLIN, 0};
    CHECK(poll(&tick, 1, 10000) == 1 && read(ticking, &count, 8) == 8, "it ticks");
    int64_t after = nanoseconds(CLOCK_MONOTONIC), interval = 10 * MILLISECONDS, slack = 3;
    CHECK((int64_t)count >= (before - ticking_since) / interval - slack &&
              (int64_t)count <= (after - ticking_since) / interval + slack,
          "%llu ticks in %lld to %lld ms", (unsigned long long)count, (long long)(before - ticking_since) / 1000000,
          (long long)(after - ticking_since) / 1000000);
    CHECK(poll(&tick, 1, 10000) == 1 && read(ticking, &count, 8) == 8, "it goes on ticking");
    SAY("timerfd: an interval of 10 ms ticked as often as the clock says");

    CHECK(read(soon, &count, 8) == 8 && count == 1, "the timer of 1.5 s fires");
    CHECK(nanoseconds(CLOCK_MONOTONIC) - soon_since >= 1500 * MILLISECONDS, "not too early");
    SAY("timerfd: 1.5 s are not shorter");
    return finish(7);
}
