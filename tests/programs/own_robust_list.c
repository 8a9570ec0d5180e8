/* A thread that has given the kernel a list of robust futexes of its own (set_robust_list(2)), in which one is held.
 *
 * Wrong would be: another list, or none, afterwards.
 */
#include "program.h"

#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/syscall.h>

static struct lock {
    struct robust_list link;
    uint32_t word;
} lock;
static struct robust_list_head head;
static sem_t standing, end;
static void *usual;
static pid_t owner;

static void *get_list(size_t *length) {
    void *list = NULL;
    CHECK(syscall(SYS_get_robust_list, 0, &list, length) == 0, "get_robust_list");
    return list;
}

static void *run(void *argument) {
    size_t length = 0;
    head.list.next = &lock.link;
    lock.link.next = &head.list;
    head.futex_offset = offsetof(struct lock, word) - offsetof(struct lock, link);
    MAKE(syscall(SYS_set_robust_list, &head, sizeof head) == 0);
    owner = gettid();
    lock.word = (uint32_t)owner | FUTEX_WAITERS;
    sem_post(&standing);
    while (sem_wait(&end) != 0) continue;
    CHECK(get_list(&length) == &head && length == sizeof head, "the list of its own");
    CHECK(head.list.next == &lock.link && lock.link.next == &head.list, "what is in it");
    return argument;
}

int main(void) {
    pthread_t thread;
    size_t length = 0;
    usual = get_list(&length);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&end, 0, 0) == 0 && pthread_create(&thread, NULL, run, NULL) == 0);
    MAKE(sem_wait(&standing) == 0);

    ready();

    CHECK(get_list(&length) == usual && length == sizeof head, "libc's list");
    sem_post(&end);
    CHECK(pthread_join(thread, NULL) == 0, "join");
    SAY("own robust list: kept");
    return finish(7);
}
