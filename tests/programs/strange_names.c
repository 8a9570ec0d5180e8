/* Names of the process and of a thread that are no text: bytes that are not UTF-8, and a newline.
 *
 * Wrong would be: a checkpoint that is refused, or another name after a restart.
 */
#include "program.h"

#include <pthread.h>
#include <sys/prctl.h>

static const char *const names[2] = {"\xc3\xa4\xff\n(x", "\xe4) \xf0\x9f"};
static pthread_barrier_t barrier;

static void check(const char *name) {
    char now[16] = "";
    CHECK(prctl(PR_GET_NAME, now) == 0 && strcmp(now, name) == 0, "the name is %s", now);
}

static void *run(void *nothing) {
    MAKE(prctl(PR_SET_NAME, names[1]) == 0);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    check(names[1]);
    return nothing;
}

int main(void) {
    pthread_t thread;
    MAKE(pthread_barrier_init(&barrier, NULL, 2) == 0);
    MAKE(pthread_create(&thread, NULL, run, NULL) == 0);
    MAKE(prctl(PR_SET_NAME, names[0]) == 0);
    pthread_barrier_wait(&barrier);

    ready();

    check(names[0]);
    pthread_barrier_wait(&barrier);
    MAKE(pthread_join(thread, NULL) == 0);
    SAY("strange names: as they were");
    return finish(7);
}
