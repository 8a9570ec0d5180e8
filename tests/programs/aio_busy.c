/* Threads that submit requests all the time and reap them: with a context each, and two with one between them, whose events
 * one reaps in the ring itself, as libraries do that avoid the system call. Writes past the page cache, and fsync, which the
 * kernel carries out beside the program, are under way at any moment.
 *
 * Wrong would be: an event that is lost or comes twice, an error, data that is not there.
 */
#include "program.h"

#include "aio.h"

#include <pthread.h>
#include <stdatomic.h>

#define BATCH 8
#define BLOCK 4096
#define THREADS 4
#define ROUNDS_AFTER 50

static int file;
static atomic_int go_on;
static _Atomic long rounds[THREADS];
static aio_context_t shared;
static _Atomic long submitted, reaped;
static atomic_int all_submitted;

/* A round: writes a batch of blocks and has them brought to the disk. */
static void fill_batch(struct iocb *requests, struct iocb **list, char *blocks, int thread) {
    for (int i = 0; i < BATCH; i++) {
        long place = (thread * BATCH + i) * BLOCK;
        requests[i] = request(IOCB_CMD_PWRITE, file, blocks + i * BLOCK, BLOCK, place, (uint64_t)i);
        list[i] = &requests[i];
    }
    requests[BATCH] = request(IOCB_CMD_FSYNC, file, NULL, 0, 0, BATCH);
    list[BATCH] = &requests[BATCH];
}

static char *make_blocks(int thread) {
    char *blocks = aligned_alloc(BLOCK, BATCH * BLOCK);
    MAKE(blocks);
    fill(blocks, BATCH * BLOCK, (uint64_t)thread);
    return blocks;
}

static void submit_all(aio_context_t context, struct iocb **list, long count) {
    for (long done = 0; done < count;) {
        long result = submit(context, count - done, list + done);
        if (result == -EAGAIN) {
            usleep(100);
            continue;
        }
        CHECK(result > 0, "io_submit: %ld", result);
        done += result;
    }
}

static void check_result(const struct io_event *event) {
    long expected = event->data < BATCH ? BLOCK : 0;
    CHECK(event->data <= BATCH && event->res == expected, "event %llu: %lld", (unsigned long long)event->data,
          (long long)event->res);
}

static void *run_alone(void *argument) {
    int thread = (int)(intptr_t)argument;
    struct iocb requests[BATCH + 1], *list[BATCH + 1];
    struct io_event events[BATCH + 1];
    char *blocks = make_blocks(thread);
    aio_context_t context = setup(BATCH + 1);
    for (long left = ROUNDS_AFTER; left > 0; left -= go_on) {
        unsigned seen = 0;
        fill_batch(requests, list, blocks, thread);
        submit_all(context, list, BATCH + 1);
        long result = getevents(context, BATCH + 1, BATCH + 1, events, NULL);
        CHECK(result == BATCH + 1, "thread %d: %ld events of %d", thread, result, BATCH + 1);
        for (int i = 0; i <= BATCH; i++) check_result(&events[i]), seen |= 1u << events[i].data;
        CHECK(seen == (2u << BATCH) - 1, "thread %d: events %x", thread, seen);
        rounds[thread]++;
        /* At times there is nothing under way, or all has ended and nothing is reaped. */
        if (rounds[thread] % 8 == 0) usleep(500);
    }
    CHECK(destroy(context) == 0, "io_destroy");
    return NULL;
}

static void *run_submitter(void *argument) {
    int thread = (int)(intptr_t)argument;
    static struct iocb requests[BATCH + 1], *list[BATCH + 1];
    char *blocks = make_blocks(thread);
    for (long left = ROUNDS_AFTER; left > 0; left -= go_on) {
        fill_batch(requests, list, blocks, thread);
        submit_all(shared, list, BATCH + 1);
        submitted += BATCH + 1;
        while (reaped < submitted) usleep(50);
        rounds[thread]++;
    }
    all_submitted = 1;
    return NULL;
}

/* As io_getevents, by what the kernel shows: struct aio_ring. */
static void *run_reaper(void *argument) {
    struct ring {
        unsigned id, room, head, tail, magic, compatible, incompatible, length;
        struct io_event events[];
    } *ring = (struct ring *)(uintptr_t)shared;
    for (;; usleep(20)) {
        unsigned head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
        if (head == __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE)) {
            if (all_submitted) return argument;
            continue;
        }
        check_result(&ring->events[head]);
        __atomic_store_n(&ring->head, (head + 1) % ring->room, __ATOMIC_RELEASE);
        reaped++;
        rounds[THREADS - 1]++;
    }
}

int main(int count, char **arguments) {
    pthread_t threads[THREADS];
    void *(*runs[THREADS])(void *) = {run_alone, run_alone, run_submitter, run_reaper};

    MAKE(count > 1);
    const char *path = in(arguments[1], "data");
    file = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (file < 0) file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MAKE(file >= 0 && ftruncate(file, THREADS * BATCH * BLOCK) == 0);
    shared = setup(BATCH + 1);
    for (int i = 0; i < THREADS; i++) MAKE(pthread_create(&threads[i], NULL, runs[i], (void *)(intptr_t)i) == 0);
    for (int i = 0; i < THREADS; i++)
        while (rounds[i] < 5) usleep(1000);

    ready();

    go_on = 1;
    for (int i = 0; i < THREADS; i++) MAKE(pthread_join(threads[i], NULL) == 0);
    CHECK(destroy(shared) == 0, "io_destroy");
    char *blocks = make_blocks(0);
    for (int i = 0; i < THREADS - 1; i++) {
        CHECK(pread(file, blocks, BATCH * BLOCK, i * BATCH * BLOCK) == BATCH * BLOCK, "what thread %d has written", i);
        CHECK(filled(blocks, BATCH * BLOCK, (uint64_t)i), "what thread %d has written", i);
    }
    SAY("requests under way end once, with all that they were to do");
    return finish(7);
}
