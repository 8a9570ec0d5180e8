/* Queued signals with numbers and bytes in pipes, from two children to their parent, and signals back, all the time.
 *
 * Wrong would be: one that is lost, comes twice, out of its order, or from another process than the one that sent it.
 */
#include "program.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { CHILDREN = 2, AHEAD = 20 };

static struct shared {
    volatile unsigned sent[CHILDREN], seen[CHILDREN], sent_back[CHILDREN], seen_back[CHILDREN];
    volatile int over;
} *shared;

static int ends[CHILDREN][2];

static void serve(int number, pid_t parent, const sigset_t *both) {
    struct timespec none = {0, 0};
    siginfo_t info;
    for (;;) {
        if (shared->sent[number] - shared->seen[number] < AHEAD && !shared->over) {
            unsigned next = shared->sent[number];
            CHECK(write(ends[number][1], &next, sizeof next) == sizeof next, "write");
            CHECK(sigqueue(parent, SIGRTMIN + 1 + number, (union sigval){.sival_int = (int)next}) == 0, "sigqueue");
            shared->sent[number]++;
        }
        if (sigtimedwait(both, &info, &none) > 0) {
            unsigned wanted = shared->seen_back[number];
            CHECK(info.si_value.sival_int == (int)wanted, "back came %d instead of %u", info.si_value.sival_int, wanted);
            CHECK(info.si_pid == parent, "it came from %d instead of %d", info.si_pid, parent);
            shared->seen_back[number]++;
        }
        if (shared->over && shared->seen_back[number] == shared->sent_back[number]) _exit(0);
    }
}

static int all_seen(void) {
    for (int i = 0; i < CHILDREN; i++)
        if (shared->seen[i] != shared->sent[i]) return 0;
    return 1;
}

static void take(int number, pid_t child, const siginfo_t *info) {
    unsigned wanted = shared->seen[number], next;
    CHECK(info->si_value.sival_int == (int)wanted, "signal %d instead of %u", info->si_value.sival_int, wanted);
    CHECK(info->si_pid == child, "signal from %d instead of %d", info->si_pid, child);
    CHECK(read(ends[number][0], &next, sizeof next) == sizeof next && next == wanted, "in the pipe: not %u", wanted);
    shared->seen[number]++;
    if (shared->sent_back[number] - shared->seen_back[number] < AHEAD / 2) {
        unsigned back = shared->sent_back[number];
        shared->sent_back[number]++;
        CHECK(sigqueue(child, SIGRTMIN + 1, (union sigval){.sival_int = (int)back}) == 0, "sigqueue back");
    }
}

int main(void) {
    pid_t children[CHILDREN], parent = getpid();
    sigset_t both;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(shared != MAP_FAILED && sigemptyset(&both) == 0);
    MAKE(sigaddset(&both, SIGRTMIN + 1) == 0 && sigaddset(&both, SIGRTMIN + 2) == 0);
    MAKE(sigprocmask(SIG_BLOCK, &both, NULL) == 0);
    for (int i = 0; i < CHILDREN; i++) {
        MAKE(pipe(ends[i]) == 0 && (children[i] = fork()) >= 0);
        if (children[i] == 0) serve(i, parent, &both);
    }

    say_ready();

    while (!shared->over || !all_seen()) {
        struct timespec moment = {0, 2000000};
        siginfo_t info;
        if (told_to_go_on()) shared->over = 1;
        int came = sigtimedwait(&both, &info, &moment);
        CHECK(came > 0 || errno == EAGAIN, "sigtimedwait");
        if (came > 0) take(came - SIGRTMIN - 1, children[came - SIGRTMIN - 1], &info);
    }
    for (int i = 0, status; i < CHILDREN; i++) {
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0, "child %d: %x", i, status);
    }
    SAY("in flight: each once, in order, from whom it came");
    return finish(7);
}
