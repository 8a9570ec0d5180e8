/* Waits on System V message queues and semaphores.
 *
 * Wrong would be: a wait that ends by itself or with EINTR, a time-out that begins anew or comes too early.
 */
#include "program.h"

#include "waits.h"

#include <pthread.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

static int set, queue, full;
static struct {
    long type;
    char text[64];
} message = {1, "x"};

#define RESULT(call)                                                                                                   \
    ({                                                                                                                 \
        long result_ = (call);                                                                                         \
        result_ == -1 ? -(long)errno : result_;                                                                        \
    })

static long call_semop(void) {
    struct sembuf one = {0, -1, 0};
    return RESULT(semop(set, &one, 1));
}
static long call_semtimedop(void) {
    struct sembuf one = {1, -1, 0};
    struct timespec time = timespec_of(ASKED);
    return RESULT(semtimedop(set, &one, 1, &time));
}
static long call_msgrcv(void) {
    struct {
        long type;
        char text[64];
    } got;
    return RESULT(msgrcv(queue, &got, sizeof got.text, 0, 0));
}
static long call_msgsnd(void) { return RESULT(msgsnd(full, &message, sizeof message.text, 0)); }
static struct call {
    const char *name;
    long (*call)(void);
    long expected;
    int lasts;
    long result;
    struct wait wait;
    int returned;
    pthread_t thread;
} calls[] = {
    {.name = "semop", .call = call_semop, .expected = 0},
    {.name = "semtimedop", .call = call_semtimedop, .expected = -EAGAIN, .lasts = 1},
    {.name = "msgrcv", .call = call_msgrcv, .expected = 64},
    {.name = "msgsnd", .call = call_msgsnd, .expected = 0},
};
enum { COUNT = sizeof calls / sizeof *calls };

static void *run(void *argument) {
    struct call *call = argument;
    begin_wait(&call->wait, CLOCK_MONOTONIC, ASKED);
    call->result = call->call();
    end_wait(&call->wait);
    __atomic_store_n(&call->returned, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void check_that_they_stand(void) {
    for (int i = 0; i < COUNT; i++)
        if (!calls[i].lasts)
            CHECK(!__atomic_load_n(&calls[i].returned, __ATOMIC_SEQ_CST), "%s returned %ld by itself", calls[i].name, calls[i].result);
}

int main(void) {
    MAKE((set = semget(IPC_PRIVATE, 2, 0600)) >= 0 && (queue = msgget(IPC_PRIVATE, 0600)) >= 0 && (full = msgget(IPC_PRIVATE, 0600)) >= 0);
    while (msgsnd(full, &message, sizeof message.text, IPC_NOWAIT) == 0) continue;
    for (int i = 0; i < COUNT; i++) MAKE(pthread_create(&calls[i].thread, NULL, run, &calls[i]) == 0);
    for (int i = 0; i < COUNT; i++)
        while (__atomic_load_n(&calls[i].wait.begun, __ATOMIC_SEQ_CST) == 0) usleep(1000);
    struct reference reference;
    let_a_part_pass(&reference);

    ready();

    check_that_they_stand();
    for (int i = 0; i < COUNT; i++) {
        if (!calls[i].lasts) continue;
        CHECK(pthread_join(calls[i].thread, NULL) == 0, "join");
        CHECK(calls[i].result == calls[i].expected, "%s: %ld", calls[i].name, calls[i].result);
        check_wait(&calls[i].wait, &reference, 0, calls[i].name);
        SAY("blocked ipc: %s took its time", calls[i].name);
    }
    check_that_they_stand();
    struct sembuf one = {0, 1, 0};
    char text[80];
    CHECK(semop(set, &one, 1) == 0 && msgsnd(queue, &message, sizeof message.text, 0) == 0 && msgrcv(full, text, 64, 0, 0) == 64, "wake");
    for (int i = 0; i < COUNT; i++) {
        if (calls[i].lasts) continue;
        CHECK(pthread_join(calls[i].thread, NULL) == 0 && calls[i].result == calls[i].expected, "%s: %ld", calls[i].name, calls[i].result);
        SAY("blocked ipc: %s stood until the end", calls[i].name);
    }
    CHECK(semctl(set, 0, IPC_RMID) == 0 && msgctl(queue, IPC_RMID, NULL) == 0 && msgctl(full, IPC_RMID, NULL) == 0, "remove");
    return finish(7);
}
