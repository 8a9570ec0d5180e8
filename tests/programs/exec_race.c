/* A program that execs itself 200 times, from its main thread and from another one in turn, while its other threads make
 * and end threads all the time.
 *
 * Wrong would be: an exec that fails or is lost, a checkpoint that fails or hangs for threads that an exec ends, a program
 * that is lost for its pod.
 */
#include "program.h"

#include <pthread.h>

enum { EXECS = 200 };

static char *words[5], self[4096];

static void *nothing(void *argument) { return argument; }

static void *make_threads(void *argument) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    while (1) {
        if (pthread_create(&thread, NULL, nothing, argument) == 0) pthread_join(thread, NULL);
        pthread_create(&thread, &attributes, nothing, argument);
    }
    return argument;
}

static void *become(void *argument) {
    execv(self, words);
    CHECK(0, "execv");
    return argument;
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 0;
    static char number[16];
    pthread_t threads[3];
    MAKE(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    if (count == 0) say_ready();
    for (int i = 0; i < 2; i++) MAKE(pthread_create(&threads[i], NULL, make_threads, NULL) == 0);
    /* Long enough for a checkpoint to come between two execs. */
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
    if (count < EXECS) {
        snprintf(number, sizeof number, "%d", count + 1);
        words[0] = "exec_race";
        words[1] = number;
        if (count % 2) become(NULL);
        MAKE(pthread_create(&threads[2], NULL, become, NULL) == 0);
        while (1) pause.tv_nsec = 100000000, nanosleep(&pause, NULL);
    }
    program_round = 1;
    program_go = getenv("ZAP_TEST_GO");
    snprintf(program_path, sizeof program_path, "%s", program_go);
    wait_for_go();
    SAY("exec race: the last of %d", EXECS);
    return finish(7);
}
