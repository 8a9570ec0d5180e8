/* A program that uses every descriptor it may have (RLIMIT_NOFILE of 16), closes all, and puts copies onto every number.
 *
 * Wrong would be: a checkpoint that fails for want of a descriptor, one of Zap's that is hit, a descriptor that comes
 * back under another number.
 */
#include "program.h"

#include <sys/resource.h>
#include <sys/wait.h>

enum { MOST = 16 };

int main(void) {
    struct rlimit limit, now;
    MAKE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = MOST;
    MAKE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    closefrom(3);
    int ends[2];
    MAKE(pipe(ends) == 0 && ends[0] == 3 && ends[1] == 4);
    int number = 4, last;
    while ((last = dup(ends[1])) >= 0) number = last;
    MAKE(errno == EMFILE && number == MOST - 1);
    say_ready();
    int round = 0;
    do {
        for (int i = 5; i < MOST; i++) {
            char byte = (char)i, back = 0;
            CHECK(write(i, &byte, 1) == 1 && read(ends[0], &back, 1) == 1 && back == byte, "descriptor %d", i);
        }
        CHECK(open("/dev/null", O_RDONLY) == -1 && errno == EMFILE, "not one more");
        if (round % 3 == 1) {
            CHECK(close_range(5, ~0u, 0) == 0 || (closefrom(5), 1), "close_range");
            for (int i = 5; i < MOST; i++) CHECK(fcntl(i, F_GETFD) == -1 && errno == EBADF, "descriptor %d", i);
            for (int i = 5; i < MOST; i++) CHECK(dup2(ends[1], i) == i, "dup2 onto %d", i);
        }
        round++;
    } while (!told_to_go_on());
    CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == limit.rlim_cur && now.rlim_max == limit.rlim_max,
          "RLIMIT_NOFILE is %lu", (unsigned long)now.rlim_cur);
    SAY("all descriptors: sixteen, all in use, all the time");
    return finish(7);
}
