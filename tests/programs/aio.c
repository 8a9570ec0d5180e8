/* The kernel's asynchronous I/O: contexts with events that nobody has reaped, and threads that wait for some.
 *
 * Wrong would be: an event that is lost, comes twice, in another order or with other results, a context that is unknown or has
 * become another's, a wait that ends early, begins its time anew, or with fewer events than it was to wait for.
 */
#include "program.h"

#include "aio.h"
#include "waits.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#define SMALL 8
#define LARGE 1000
#define UNREAPED 300
#define LENGTH 64

/* What each thread waits for. */
enum { FOREVER, INTERRUPTED, TWO, POLLED, TIMED, TIMED_TWO, MASKED, WAITS };
static const char *names[WAITS] = {"without a time-out", "until a handler runs", "for two", "for a descriptor",
                                   "with a time-out",    "for two with a time-out", "with a mask and a time-out"};
static aio_context_t contexts[WAITS];
static struct io_event got[WAITS][4];
static struct wait waits[WAITS];
static _Atomic long results[WAITS];
static _Atomic pid_t ids[WAITS];
static pthread_t threads[WAITS];
static atomic_int handled;

static int file;
static struct iocb requests[UNREAPED];
static char buffers[UNREAPED][LENGTH];

static void handle(int signal) { (void)signal, handled++; }

static void *wait_in(void *argument) {
    int which = (int)(intptr_t)argument;
    struct timespec time = timespec_of(ASKED);
    struct io_event *events = got[which];
    sigset_t all;
    long result;
    sigfillset(&all);
    ids[which] = (pid_t)syscall(SYS_gettid);
    begin_wait(&waits[which], CLOCK_MONOTONIC, ASKED);
    switch (which) {
    case FOREVER:
    case POLLED:
    case INTERRUPTED: result = getevents(contexts[which], 1, 4, events, NULL); break;
    case TWO: result = getevents(contexts[which], 2, 4, events, NULL); break;
    case TIMED: result = getevents(contexts[which], 1, 4, events, &time); break;
    case TIMED_TWO: result = getevents(contexts[which], 2, 4, events, &time); break;
    default: result = pgetevents(contexts[which], 1, 4, events, &time, &all);
    }
    end_wait(&waits[which]);
    results[which] = result;
    return NULL;
}

static void check_event(const struct io_event *event, int number) {
    CHECK(event->data == 1000 + (uint64_t)number, "event %d is %llu", number, (unsigned long long)event->data);
    CHECK(event->obj == (uintptr_t)&requests[number], "the address of request %d", number);
    CHECK(event->res == number % LENGTH, "event %d: result %lld", number, (long long)event->res);
    CHECK(filled(buffers[number], (size_t)(number % LENGTH), 1), "what request %d has read", number);
}

static void leave_unreaped(aio_context_t context, int first, int count) {
    for (int i = first; i < first + count; i++)
        submit_read(context, &requests[i], file, buffers[i], (size_t)(i % LENGTH), 1000 + (uint64_t)i);
}

static void check_unreaped(aio_context_t context, int first, int count) {
    struct io_event events[UNREAPED];
    struct timespec none = {0, 0};
    long result = getevents(context, 1, 1, events, NULL);
    CHECK(result == 1, "the first event: %ld", result);
    result = getevents(context, count - 1, UNREAPED, events + 1, NULL);
    CHECK(result == count - 1, "%d other events are %ld", count - 1, result);
    for (int i = 0; i < count; i++) check_event(&events[i], first + i);
    result = getevents(context, 0, 1, events, &none);
    CHECK(result == 0, "an event too many: %ld", result);
}

/* A process that has its parent's rings in memory, and none of its contexts. */
static pid_t make_child(aio_context_t parents, const int *go) {
    pid_t child = fork();
    MAKE(child >= 0);
    if (child) return child;
    char byte;
    aio_context_t own = setup(SMALL);
    close(go[1]);
    leave_unreaped(own, 70, 5);
    CHECK(read(go[0], &byte, 1) == 0, "who tells the child to go on");
    CHECK(destroy(parents) == -EINVAL, "a context of its parent's");
    check_unreaped(own, 70, 5);
    CHECK(destroy(own) == 0, "io_destroy in the child");
    _exit(3);
}

int main(int count, char **arguments) {
    struct sigaction action = {.sa_handler = handle};
    struct reference reference;
    struct timespec none = {0, 0};
    struct io_event event;
    static char bytes[LENGTH];
    int ends[2], first[2], second[2], status;

    MAKE(count > 1);
    if (count > 2 && strcmp(arguments[2], "libaio") == 0 && !use_libaio()) return printf("there is no libaio\n"), SKIPPED;
    fill(bytes, sizeof bytes, 1);
    file = open(in(arguments[1], "data"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MAKE(file >= 0 && write(file, bytes, sizeof bytes) == LENGTH);
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0);

    /* Few, and many whose place in the ring goes on from its end to its beginning. */
    aio_context_t few = setup(SMALL), many = setup(LARGE), wrapped = setup(SMALL), empty = setup(1), gone = setup(SMALL);
    leave_unreaped(few, 0, 5);
    leave_unreaped(many, 0, UNREAPED);
    unsigned room = ((unsigned *)wrapped)[1];
    for (unsigned i = 0; i < room - 3; i++) {
        submit_read(wrapped, &requests[0], file, buffers[0], 0, 1);
        MAKE(getevents(wrapped, 1, 1, &event, NULL) == 1);
    }
    leave_unreaped(wrapped, 40, 7);
    MAKE(((unsigned *)wrapped)[2] == room - 3 && ((unsigned *)wrapped)[3] == 4);
    MAKE(destroy(gone) == 0);

    /* One that tells an eventfd. */
    int told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct iocb telling = request(IOCB_CMD_PREAD, file, buffers[0], 0, 0, 5), *list = &telling;
    telling.aio_flags = IOCB_FLAG_RESFD;
    telling.aio_resfd = (uint32_t)told;
    MAKE(submit(empty, 1, &list) == 1 && getevents(empty, 1, 1, &event, NULL) == 1);

    MAKE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t child = make_child(few, ends);

    for (int i = 0; i < WAITS; i++) contexts[i] = setup(SMALL);

    /* Requests that wait for descriptors, after many that did not have to: one that the program has forgotten, one that it
     * keeps. */
    MAKE(pipe2(first, O_CLOEXEC) == 0 && pipe2(second, O_CLOEXEC) == 0);
    struct iocb polls[2], *poll = &polls[0], overwritten;
    for (int i = 0; i < 300; i++) {
        polls[0] = request(IOCB_CMD_POLL, first[1], NULL, 0, 0, 9);
        polls[0].aio_buf = POLLOUT;
        MAKE(submit(contexts[POLLED], 1, &poll) == 1 && getevents(contexts[POLLED], 1, 1, &event, NULL) == 1);
    }
    for (int i = 0; i < 2; i++) {
        polls[i] = request(IOCB_CMD_POLL, i ? second[0] : first[0], NULL, 0, 0, 40 + (uint64_t)i);
        polls[i].aio_buf = POLLIN;
        poll = &polls[i];
        MAKE(submit(contexts[POLLED], 1, &poll) == 1);
    }
    memset(&polls[0], 0x55, sizeof polls[0]);
    memset(&overwritten, 0x55, sizeof overwritten);

    /* Without the other one nobody is woken. */
    submit_read(contexts[TWO], &requests[0], file, buffers[0], 0, 20);
    submit_read(contexts[TIMED_TWO], &requests[0], file, buffers[0], 0, 30);
    for (int i = 0; i < WAITS; i++) MAKE(pthread_create(&threads[i], NULL, wait_in, (void *)(intptr_t)i) == 0);
    for (int i = 0; i < WAITS; i++)
        while (!ids[i] || !is_asleep(ids[i])) usleep(1000);
    let_a_part_pass(&reference);

    ready();

    for (int i = TIMED; i < WAITS; i++) {
        MAKE(pthread_join(threads[i], NULL) == 0);
        long expected = i == TIMED_TWO ? 1 : 0;
        CHECK(results[i] == expected, "%s: %ld", names[i], (long)results[i]);
        check_wait(&waits[i], &reference, 0, names[i]);
    }
    CHECK(got[TIMED_TWO][0].data == 30, "the event of the wait for two that has come");
    SAY("waits end when their time is over");

    usleep(20000);
    for (int i = FOREVER; i <= POLLED; i++) CHECK(waits[i].ended == 0, "%s: has ended with %ld", names[i], (long)results[i]);
    submit_read(contexts[FOREVER], &requests[0], file, buffers[0], 3, 10);
    submit_read(contexts[TWO], &requests[0], file, buffers[0], 4, 21);
    MAKE(pthread_join(threads[FOREVER], NULL) == 0 && pthread_join(threads[TWO], NULL) == 0);
    CHECK(results[FOREVER] == 1 && got[FOREVER][0].data == 10 && got[FOREVER][0].res == 3, "%s: %ld", names[FOREVER],
          (long)results[FOREVER]);
    CHECK(results[TWO] == 2 && got[TWO][0].data == 20 && got[TWO][1].data == 21, "%s: %ld, %llu, %llu", names[TWO],
          (long)results[TWO], (unsigned long long)got[TWO][0].data, (unsigned long long)got[TWO][1].data);
    SAY("waits end when the events are there");

    MAKE(write(first[1], "x", 1) == 1 && pthread_join(threads[POLLED], NULL) == 0);
    const struct io_event *ready_now = &got[POLLED][0];
    CHECK(results[POLLED] == 1 && ready_now->data == 40 && ready_now->obj == (uintptr_t)&polls[0], "%s: %ld, %llu",
          names[POLLED], (long)results[POLLED], (unsigned long long)ready_now->data);
    CHECK(ready_now->res & POLLIN, "%s: %llx", names[POLLED], (unsigned long long)ready_now->res);
    CHECK(memcmp(&polls[0], &overwritten, sizeof overwritten) == 0, "where the request was something has been written");
    CHECK(getevents(contexts[POLLED], 0, 1, &event, &none) == 0, "an event where nothing has come");
    long cancelled = result_of(syscall(SYS_io_cancel, contexts[POLLED], &polls[1], &event));
    CHECK(cancelled == -EINPROGRESS, "io_cancel: %ld", cancelled);
    CHECK(getevents(contexts[POLLED], 1, 1, &event, NULL) == 1 && event.data == 41, "the end of what was cancelled");
    SAY("what waits for descriptors waits on");

    CHECK(waits[INTERRUPTED].ended == 0, "%s: has ended with %ld", names[INTERRUPTED], (long)results[INTERRUPTED]);
    MAKE(pthread_kill(threads[INTERRUPTED], SIGUSR1) == 0 && pthread_join(threads[INTERRUPTED], NULL) == 0);
    CHECK(results[INTERRUPTED] == -EINTR && handled == 1, "%s: %ld", names[INTERRUPTED], (long)results[INTERRUPTED]);
    SAY("a handler ends a wait");

    check_unreaped(few, 0, 5);
    check_unreaped(many, 0, UNREAPED);
    check_unreaped(wrapped, 40, 7);
    CHECK(getevents(empty, 0, 1, &event, &none) == 0, "an event where none was");
    uint64_t number = 0;
    CHECK(read(told, &number, sizeof number) == sizeof number && number == 1, "an eventfd was told %llu times",
          (unsigned long long)number);
    SAY("events that were not reaped come in order, and once");

    for (int round = 0; round < 50; round++) {
        leave_unreaped(few, 0, 6);
        check_unreaped(few, 0, 6);
    }
    leave_unreaped(many, 0, UNREAPED);
    check_unreaped(many, 0, UNREAPED);
    SAY("contexts serve as before");

    close(ends[1]);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3, "the child: %x", status);
    SAY("a child has contexts of its own");

    aio_context_t all[] = {few, many, wrapped, empty};
    for (int i = 0; i < 4; i++) CHECK(destroy(all[i]) == 0, "io_destroy of context %d", i);
    for (int i = 0; i < WAITS; i++) CHECK(destroy(contexts[i]) == 0, "io_destroy of the context %s", names[i]);
    for (int i = 0; i < 4; i++) CHECK(destroy(all[i]) == -EINVAL, "context %d is there once more", i);
    CHECK(destroy(gone) == -EINVAL, "what was destroyed is there again");
    aio_context_t again = setup(SMALL);
    leave_unreaped(again, 0, 3);
    check_unreaped(again, 0, 3);
    SAY("contexts end");
    return finish(7);
}
