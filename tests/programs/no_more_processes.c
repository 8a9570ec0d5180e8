/* RLIMIT_NPROC used up: no fork, no thread and no frozen copy can be made. Two threads are there from before. In the end the
 * limit is raised again.
 *
 * Wrong would be: a checkpoint that harms the program; a thread that does not come back, or a limit that is not what it was.
 */
#include "program.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

static pthread_barrier_t barrier;
static struct rlimit limit;
/* One counter per page. Each has its turn after the one before it. */
enum { PAGES = 1500, WORDS = 4096 / sizeof(uint64_t) };
static volatile uint64_t memory[PAGES][WORDS];

static void *waits(void *argument) {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return argument;
}

static void *nothing(void *argument) { return argument; }

static void none_can_be_made(const char *when) {
    pthread_t thread;
    errno = 0;
    pid_t child = fork();
    if (child == 0) _exit(0);
    CHECK(child == -1 && errno == EAGAIN, "fork %s", when);
    CHECK(pthread_create(&thread, NULL, nothing, NULL) == EAGAIN, "pthread_create %s", when);
    struct rlimit now;
    CHECK(getrlimit(RLIMIT_NPROC, &now) == 0 && now.rlim_cur == 1 && now.rlim_max == limit.rlim_max, "limit %s", when);
}

int main(void) {
    pthread_t threads[2];
    MAKE(pthread_barrier_init(&barrier, NULL, 3) == 0);
    for (long i = 0; i < 2; i++) MAKE(pthread_create(&threads[i], NULL, waits, (void *)(i + 5)) == 0);
    pthread_barrier_wait(&barrier);
    MAKE(getrlimit(RLIMIT_NPROC, &limit) == 0);
    struct rlimit one = {1, limit.rlim_max};
    MAKE(setrlimit(RLIMIT_NPROC, &one) == 0);
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child > 0) {
        waitpid(child, NULL, 0);
        printf("this user may make processes without limit\n");
        return SKIPPED;
    }
    none_can_be_made("at first");

    say_ready();
    do
        for (int i = 0; i < PAGES; i++) memory[i][i % WORDS]++;
    while (!told_to_go_on());

    for (int i = 1; i < PAGES; i++) CHECK(memory[i][i % WORDS] == memory[0][0], "page %d is of the same moment", i);
    none_can_be_made("later");
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0, "the limit is raised again");

    struct rlimit now;
    CHECK(getrlimit(RLIMIT_NPROC, &now) == 0 && now.rlim_cur == limit.rlim_cur, "the raised limit");
    pid_t made = fork();
    if (made == 0) _exit(3);
    int status;
    CHECK(made > 0 && waitpid(made, &status, 0) == made && WEXITSTATUS(status) == 3, "fork is possible again");
    pthread_barrier_wait(&barrier);
    for (long i = 0; i < 2; i++) {
        void *value;
        CHECK(pthread_join(threads[i], &value) == 0 && value == (void *)(i + 5), "thread %ld", i);
    }
    SAY("no more processes: memory of one moment, two threads, EAGAIN");
    return finish(7);
}
