/* POSIX message queues, each of which has a name: what waits in them, flags, and threads that stand before an empty and a full one,
 * two of them for a time.
 *
 * Wrong would be: a message that is missing or there twice, another priority, flag or size; a wait that ends by itself, with EINTR,
 * or not at its time.
 */
#include "program.h"

#include "waits.h"

#include <mqueue.h>
#include <pthread.h>

enum call { RECEIVE, SEND, TIMED_RECEIVE, TIMED_SEND, CALLS };
static const char *const names[CALLS] = {"mq_receive", "mq_send", "mq_timedreceive", "mq_timedsend"};

static mqd_t kept, unblocked, empty, full, empty_for_a_time, full_for_a_time;
static pid_t ids[CALLS];
static int done[CALLS];
static struct wait waits[CALLS];
static struct reference reference;

static const char *name_of(const char *name) {
    char *path;
    CHECK(asprintf(&path, "/zap-test-%s-%d", name, (int)getpid()) > 0, "no memory for a name");
    return path;
}

static mqd_t make(const char *name, int flags) {
    struct mq_attr attributes = {.mq_maxmsg = 3, .mq_msgsize = 32};
    mqd_t queue = mq_open(name_of(name), O_CREAT | O_EXCL | flags, 0600, &attributes);
    MAKE(queue >= 0);
    return queue;
}

static mqd_t make_full(const char *name) {
    mqd_t queue = make(name, O_RDWR);
    for (int i = 0; i < 3; i++) MAKE(mq_send(queue, "full", 4, 0) == 0);
    return queue;
}

static void *run(void *argument) {
    enum call call = (enum call)(intptr_t)argument;
    struct timespec until = timespec_of(nanoseconds(CLOCK_REALTIME) + ASKED);
    unsigned priority = 0;
    char text[32];
    begin_wait(&waits[call], CLOCK_REALTIME, ASKED - MILLISECONDS);
    __atomic_store_n(&ids[call], gettid(), __ATOMIC_SEQ_CST);
    switch (call) {
    case RECEIVE: CHECK(mq_receive(empty, text, sizeof text, &priority) == 3 && memcmp(text, "new", 3) == 0 && priority == 9, "mq_receive"); break;
    case SEND: CHECK(mq_send(full, "last", 4, 0) == 0, "mq_send"); break;
    case TIMED_RECEIVE: CHECK(mq_timedreceive(empty_for_a_time, text, sizeof text, NULL, &until) == -1 && errno == ETIMEDOUT, "mq_timedreceive"); break;
    case TIMED_SEND: CHECK(mq_timedsend(full_for_a_time, "no", 2, 0, &until) == -1 && errno == ETIMEDOUT, "mq_timedsend"); break;
    case CALLS: break;
    }
    end_wait(&waits[call]);
    __atomic_store_n(&done[call], 1, __ATOMIC_SEQ_CST);
    return argument;
}

static void check_next(mqd_t queue, const char *expected, unsigned expected_priority) {
    char text[32] = {0};
    unsigned priority = 0;
    ssize_t length = mq_receive(queue, text, sizeof text, &priority);
    CHECK(length == (ssize_t)strlen(expected) && memcmp(text, expected, length) == 0 && priority == expected_priority, "\"%s\" of priority %u",
          text, priority);
}

int main(void) {
    static const char *const all[] = {"kept", "unblocked", "empty", "full", "empty-timed", "full-timed"};
    const char *paths[6];
    pthread_t threads[CALLS];
    struct mq_attr attributes;
    /* After a restart it has another process id, but for itself. */
    for (int i = 0; i < 6; i++) paths[i] = name_of(all[i]);
    kept = make("kept", O_WRONLY);
    mqd_t reader = mq_open(paths[0], O_RDONLY | O_CLOEXEC);
    unblocked = make("unblocked", O_RDWR | O_NONBLOCK);
    empty = make("empty", O_RDWR);
    full = make_full("full");
    empty_for_a_time = make("empty-timed", O_RDONLY);
    full_for_a_time = make_full("full-timed");
    MAKE(reader >= 0 && mq_send(kept, "one", 3, 1) == 0 && mq_send(kept, "five", 4, 5) == 0);
    for (intptr_t i = 0; i < CALLS; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < CALLS; i++)
        while (!__atomic_load_n(&ids[i], __ATOMIC_SEQ_CST) || !is_asleep(ids[i])) usleep(1000);
    let_a_part_pass(&reference);

    ready();

    CHECK(!done[RECEIVE] && !done[SEND], "those without a time stand");
    check_next(reader, "five", 5);
    check_next(reader, "one", 1);
    CHECK(fcntl(reader, F_GETFD) == FD_CLOEXEC && write(reader, "x", 1) == -1 && errno == EBADF, "close-on-exec, for reading only");
    CHECK(mq_receive(kept, (char[32]){0}, 32, NULL) == -1 && errno == EBADF, "for writing only");
    CHECK(mq_receive(unblocked, (char[32]){0}, 32, NULL) == -1 && errno == EAGAIN, "O_NONBLOCK");
    CHECK(mq_getattr(unblocked, &attributes) == 0 && attributes.mq_maxmsg == 3 && attributes.mq_msgsize == 32, "its size");
    SAY("message queues: contents, flags, sizes");
    CHECK(mq_send(empty, "new", 3, 9) == 0, "mq_send");
    check_next(full, "full", 0);
    for (int i = 0; i < CALLS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0 && done[i], "join");
        if (i == TIMED_RECEIVE || i == TIMED_SEND) check_wait(&waits[i], &reference, 0, names[i]);
        SAY("message queues: %s", names[i]);
    }
    check_next(full, "full", 0);
    check_next(full, "full", 0);
    check_next(full, "last", 0);
    for (int i = 0; i < 6; i++) CHECK(mq_unlink(paths[i]) == 0, "mq_unlink");
    return finish(7);
}
