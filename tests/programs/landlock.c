/* A program that confines itself by Landlock: a checkpoint works before and is refused afterwards, since the kernel does
 * not tell what it has confined itself to, and a restart would be free of it.
 */
#include "program.h"

#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: landlock DIRECTORY");
    struct landlock_ruleset_attr all = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_DIR};
    int rules = syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (rules < 0) {
        fprintf(stderr, "this kernel has no Landlock\n");
        return SKIPPED;
    }
    MAKE(close(rules) == 0);
    ready();
    rules = syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    CHECK(rules >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
    CHECK(syscall(SYS_landlock_restrict_self, -1, 0) == -1 && errno == EBADF, "rules that are none");
    CHECK(syscall(SYS_landlock_restrict_self, rules, 0) == 0 && close(rules) == 0, "confined");
    ready();
    CHECK(mkdir(in(argv[1], "made"), 0700) == -1 && errno == EACCES, "it is confined");
    SAY("Landlock: goes on");
    return finish(7);
}
