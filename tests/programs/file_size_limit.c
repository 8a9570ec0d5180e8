/* RLIMIT_FSIZE: no file may become longer than one page, nor an image, were it written under this limit.
 *
 * Wrong would be: SIGXFSZ, which ends a program or runs its handler, for what Zap writes; another limit afterwards; a write
 * beyond it that is no error, or sends no signal.
 */
#include "program.h"

#include <signal.h>
#include <sys/resource.h>

static volatile sig_atomic_t handled;

static void note(int number) {
    (void)number;
    handled++;
}

static void check_limit(const char *when, int before) {
    struct rlimit now;
    CHECK(getrlimit(RLIMIT_FSIZE, &now) == 0 && now.rlim_cur == 4096, "%s: the limit", when);
    CHECK(handled == before, "%s: SIGXFSZ came %d times", when, (int)handled);
    char bytes[4096] = {0};
    FILE *file = tmpfile();
    MAKE(file != NULL);
    CHECK(write(fileno(file), bytes, sizeof bytes) == sizeof bytes, "%s: a page", when);
    CHECK(write(fileno(file), bytes, 1) == -1 && errno == EFBIG, "%s: a byte more", when);
    CHECK(handled == before + 1, "%s: SIGXFSZ for one's own write", when);
    fclose(file);
}

int main(void) {
    struct sigaction action = {.sa_handler = note};
    MAKE(sigaction(SIGXFSZ, &action, NULL) == 0);
    struct rlimit limit;
    MAKE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 4096;
    MAKE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    check_limit("at first", 0);

    ready();

    check_limit("later", 1);
    SAY("file size limit: a page, then EFBIG and SIGXFSZ");
    return finish(7);
}
