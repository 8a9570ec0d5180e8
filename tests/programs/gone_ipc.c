/* Waits on System V's queues and semaphores that are gone afterwards: the program itself removes them, or it is restarted where they
 * have never been (in another IPC namespace, on another host).
 *
 * Wrong would be: a wait that nobody ends any more, or that ends as if it had got what it waits for.
 */
#include "program.h"

#include "waits.h"

#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

enum call { SEMOP, MSGRCV, MSGSND, CALLS };
static const char *const names[CALLS] = {"semop", "msgrcv", "msgsnd"};

static struct message {
    long type;
    char text[64];
} message = {1, "x"};
static int set, queue, full, errors[CALLS];
static pid_t ids[CALLS];

static void *run(void *argument) {
    enum call call = (enum call)(intptr_t)argument;
    struct sembuf take = {0, -1, 0};
    struct message got = message;
    __atomic_store_n(&ids[call], gettid(), __ATOMIC_SEQ_CST);
    long result = call == SEMOP    ? semop(set, &take, 1)
                  : call == MSGRCV ? (long)msgrcv(queue, &got, sizeof got.text, 0, 0)
                                   : msgsnd(full, &got, sizeof got.text, 0);
    errors[call] = result == -1 ? errno : 0;
    return argument;
}

int main(void) {
    pthread_t threads[CALLS];
    MAKE((set = semget(IPC_PRIVATE, 1, 0600)) >= 0 && (queue = msgget(IPC_PRIVATE, 0600)) >= 0 && (full = msgget(IPC_PRIVATE, 0600)) >= 0);
    while (msgsnd(full, &message, sizeof message.text, IPC_NOWAIT) == 0) continue;
    for (intptr_t i = 0; i < CALLS; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < CALLS; i++)
        while (!__atomic_load_n(&ids[i], __ATOMIC_SEQ_CST) || !is_asleep(ids[i])) usleep(1000);

    ready();

    /* In vain where there are none. */
    semctl(set, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
    msgctl(full, IPC_RMID, NULL);
    for (int i = 0; i < CALLS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0, "join");
        CHECK(errors[i] == EIDRM || errors[i] == EINVAL, "%s: error %d", names[i], errors[i]);
        SAY("gone ipc: %s is told of it", names[i]);
    }
    return finish(7);
}
