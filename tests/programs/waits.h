/* Waits with a time-out, a checkpoint in their middle, whose length is looked at from both sides.
 *
 *     begin_wait(&wait, clock, ns); CALL; end_wait(&wait);     each in a thread of its own
 *     let_a_part_pass(&reference);                             when all have begun: a known part of their time passes
 *     ready();
 *     check_wait(&wait, &reference, 0, "CALL");
 *
 * A wait must not end before its time by its own clock. One that begins anew at the checkpoint ends later than it should by
 * the part that had passed. How late is late the reference tells, a thread that looks at the clock all the time: as long as it
 * did not get to that, on a machine under load or while the program stood still, a wait may be late as well.
 */
#ifndef WAITS_H
#define WAITS_H

#include <pthread.h>

#ifndef ASKED
#define ASKED (1600 * MILLISECONDS)
#endif
/* So much of it is over when the checkpoint comes. */
#define PASSED (900 * MILLISECONDS)

struct wait {
    clockid_t clock;
    int64_t begun, asked, ended, begun_monotonic, ended_monotonic;
};

struct reference {
    pthread_t thread;
    int64_t lost;
    long looks;
};

UNUSED static void begin_wait(struct wait *wait, clockid_t clock, int64_t asked) {
    wait->clock = clock;
    wait->asked = asked;
    wait->begun_monotonic = nanoseconds(CLOCK_MONOTONIC);
    __atomic_store_n(&wait->begun, nanoseconds(clock), __ATOMIC_SEQ_CST);
}

UNUSED static void end_wait(struct wait *wait) {
    int error = errno;
    wait->ended = nanoseconds(wait->clock);
    wait->ended_monotonic = nanoseconds(CLOCK_MONOTONIC);
    errno = error;
}

UNUSED static void *run_reference(void *argument) {
    struct reference *reference = argument;
    for (int64_t last = nanoseconds(CLOCK_MONOTONIC);;) {
        usleep(5000);
        int64_t now = nanoseconds(CLOCK_MONOTONIC);
        if (now - last > 50 * MILLISECONDS) __atomic_fetch_add(&reference->lost, now - last, __ATOMIC_SEQ_CST);
        last = now;
        __atomic_fetch_add(&reference->looks, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

/* By how much something may be late until now: a part of what had passed, and whatever has kept the reference from looking. */
UNUSED static int64_t allowed_delay(struct reference *reference) {
    long looks = __atomic_load_n(&reference->looks, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&reference->looks, __ATOMIC_SEQ_CST) < looks + 2) usleep(1000);
    return PASSED / 2 + __atomic_load_n(&reference->lost, __ATOMIC_SEQ_CST);
}

/* Returns when PASSED is over of all waits of ASKED that have begun. */
UNUSED static void let_a_part_pass(struct reference *reference) {
    struct timespec passed = timespec_of(nanoseconds(CLOCK_MONOTONIC) + PASSED);
    reference->lost = reference->looks = 0;
    MAKE(pthread_create(&reference->thread, NULL, run_reference, reference) == 0);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &passed, NULL) == EINTR) continue;
}

/* `ticks`: the kernel counts this time in ticks, which may be one too few. Without a reference, from below only. */
UNUSED static void check_wait(const struct wait *wait, struct reference *reference, int ticks, const char *name) {
    int64_t lasted = wait->ended - wait->begun;
    CHECK(lasted >= wait->asked - (ticks ? 10 * MILLISECONDS : 0), "%s: lasted %lld ms of %lld", name,
          (long long)(lasted / MILLISECONDS), (long long)(wait->asked / MILLISECONDS));
    if (!reference) return;
    int64_t late = wait->ended_monotonic - wait->begun_monotonic - wait->asked;
    int64_t allowed = allowed_delay(reference);
    CHECK(late < allowed, "%s: %lld ms late, %lld are allowed: its time began anew", name, (long long)(late / MILLISECONDS),
          (long long)(allowed / MILLISECONDS));
}

/* Whether the thread of this process sleeps in the kernel. */
UNUSED static int is_asleep(pid_t thread) {
    char path[64], text[512], *end;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0, "%s", path);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    CHECK(length > 0, "%s", path);
    text[length] = 0;
    end = strrchr(text, ')');
    return end && end[2] == 'S';
}

#endif
