/* Timers of which a thread of libc's tells (SIGEV_THREAD), made before a restart, after it, and in children.
 *
 * Wrong would be: one that cannot be made because libc gives the kernel its thread's old id, one that never tells or tells
 * another's value, one that goes on when it has been deleted.
 */
#include "program.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

enum { TICKING, ONCE, NEW, TIMERS = NEW + 5 };

static int told[TIMERS];
static int go_on[2];

static void note(union sigval value) { __atomic_add_fetch(&told[value.sival_int], 1, __ATOMIC_SEQ_CST); }

static int times(int which) { return __atomic_load_n(&told[which], __ATOMIC_SEQ_CST); }

static timer_t make(const char *when, int which) {
    struct sigevent event = {
        .sigev_notify = SIGEV_THREAD, .sigev_notify_function = note, .sigev_value.sival_int = which};
    timer_t timer;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0, "%s: timer_create of %d", when, which);
    return timer;
}

static void set(timer_t timer, int64_t value, int64_t interval) {
    struct itimerspec setting = {.it_value = timespec_of(value), .it_interval = timespec_of(interval)};
    CHECK(timer_settime(timer, 0, &setting, NULL) == 0, "timer_settime");
}

static void await(const char *when, int which, int count) {
    for (int tries = 0; times(which) < count; tries++) {
        CHECK(tries < 20000, "%s: timer %d has told %d times, not %d", when, which, times(which), count);
        poll(NULL, 0, 1);
    }
}

static void works(const char *when, int which) {
    int before = times(which);
    timer_t timer = make(when, which);
    set(timer, MILLISECONDS, 0);
    await(when, which, before + 1);
    CHECK(timer_delete(timer) == 0, "%s: timer_delete", when);
}

/* What has been on its way when the timer was deleted may still come. */
static void is_silent(const char *when, int which) {
    for (int tries = 0; tries < 100; tries++) {
        int before = times(which);
        poll(NULL, 0, 200);
        if (times(which) == before) return;
    }
    CHECK(0, "%s: timer %d goes on", when, which);
}

static pid_t child(int has_timer, int made) {
    pid_t id = fork();
    MAKE(id != -1);
    if (id != 0) return id;
    timer_t timer;
    close(go_on[1]);
    if (has_timer) {
        timer = make("in a child, at first", ONCE);
        works("in a child, at first", NEW);
    }
    CHECK(write(made, "x", 1) == 1, "made");
    char byte;
    CHECK(read(go_on[0], &byte, 1) == 0, "the end of the pipe");
    works("in a child", NEW);
    if (has_timer) {
        int before = times(ONCE);
        set(timer, MILLISECONDS, 0);
        await("in a child", ONCE, before + 1);
        CHECK(timer_delete(timer) == 0, "in a child: timer_delete");
    }
    works("in a child, once more", NEW + 1);
    _exit(0);
}

static void ends_well(const char *which, pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child %s: status %x", which, status);
}

int main(void) {
    int made[2];
    char byte;
    MAKE(pipe(go_on) == 0 && pipe(made) == 0);
    timer_t ticking = make("at first", TICKING), once = make("at first", ONCE);
    works("at first", NEW);
    set(ticking, 20 * MILLISECONDS, 20 * MILLISECONDS);
    pid_t with = child(1, made[1]), without = child(0, made[1]);
    for (int i = 0; i < 2; i++) MAKE(read(made[0], &byte, 1) == 1);
    await("at first", TICKING, 2);

    ready();

    works("later", NEW);
    await("later", TICKING, times(TICKING) + 5);
    CHECK(times(ONCE) == 0, "one that is not set tells nothing");
    set(once, MILLISECONDS, 0);
    await("later", ONCE, 1);
    SAY("thread timers: those from before tell");
    timer_t more[TIMERS - NEW];
    for (int i = NEW; i < TIMERS; i++) set(more[i - NEW] = make("later", i), MILLISECONDS, MILLISECONDS);
    for (int i = NEW; i < TIMERS; i++) await("later", i, times(i) + 3);
    SAY("thread timers: new ones tell");
    CHECK(timer_delete(ticking) == 0 && timer_delete(once) == 0, "timer_delete");
    for (int i = NEW; i < TIMERS; i++) CHECK(timer_delete(more[i - NEW]) == 0, "timer_delete of %d", i);
    for (int i = 0; i < TIMERS; i++) is_silent("deleted", i);
    CHECK(times(ONCE) == 1, "one that is set once tells once");
    SAY("thread timers: deleted ones are silent");
    pid_t late = child(1, made[1]);
    MAKE(read(made[0], &byte, 1) == 1);
    CHECK(close(go_on[1]) == 0, "telling them");
    ends_well("with a timer", with);
    ends_well("without a timer", without);
    ends_well("that is made late", late);
    works("at last", NEW);
    SAY("thread timers: they work in children");
    return finish(7);
}
