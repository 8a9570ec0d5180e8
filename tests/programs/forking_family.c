/* Four processes, each of which makes programs by fork and exec as fast as it can, and waits for each: whatever moment a
 * checkpoint comes at, several are about to be made, to become another program, or to end.
 *
 * Wrong would be: a child that is lost or is another's, one that is made in one of two lives only, a status that changes.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

enum { PROCESSES = 4 };

struct count {
    volatile long made, seen;
};

static struct count *counts;

static int work(int number) {
    struct count *count = &counts[number];
    long round = 0;
    do {
        char text[32];
        int wanted = (int)((number * 7 + round) % 50), status;
        snprintf(text, sizeof text, "exit %d", wanted);
        pid_t child = fork();
        CHECK(child >= 0, "fork");
        if (child == 0) {
            execl("/bin/sh", "sh", "-c", text, (char *)NULL);
            _exit(99);
        }
        count->made++;
        pid_t ended = wait(&status);
        CHECK(ended == child, "wait for %d: %d", (int)child, (int)ended);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == wanted, "status %x instead of %d", status, wanted);
        count->seen++;
        round++;
    } while (!told_to_go_on());
    CHECK(wait(NULL) == -1 && errno == ECHILD, "a child too many");
    return 20 + number;
}

int main(void) {
    pid_t children[PROCESSES];
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(counts != MAP_FAILED);
    say_ready();
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        MAKE(children[i] >= 0);
        if (children[i] == 0) _exit(work(i));
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i], "process %d of four", i);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 20 + i, "process %d of four has ended with %x", i, status);
        CHECK(counts[i].made == counts[i].seen, "%ld of %ld", counts[i].seen, counts[i].made);
    }
    CHECK(wait(NULL) == -1 && errno == ECHILD, "a child too many");
    SAY("forking family: every child was counted");
    return finish(7);
}
