/* Processes whose user ids, or group ids, are not all the same: a server that has put its privileges aside (seteuid), one
 * that cannot get them back, one of another group for files; and one that has put its capabilities aside. Nobody of the same ids may look into such a process, its own
 * copies included.
 *
 * Wrong would be: a checkpoint that is refused, an id that differs, a privilege that is lost or won.
 */
#include "program.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const uid_t SERVERS[3] = {0, 65534, 0}, OWN[3] = {65533, 65534, 65534}, ROOTS[3], GROUPS[3] = {70002, 70003, 70002};

static int is(const uid_t users[3], const gid_t groups[3]) {
    uid_t user[3];
    gid_t group[3];
    return getresuid(&user[0], &user[1], &user[2]) == 0 && getresgid(&group[0], &group[1], &group[2]) == 0 &&
           memcmp(user, users, sizeof user) == 0 && memcmp(group, groups, sizeof group) == 0;
}

/* What a fork does not copy is let through for the image. */
static char *kept_out(char value) {
    char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(memory != MAP_FAILED && madvise(memory, 8192, MADV_DONTFORK) == 0);
    memset(memory, value, 8192);
    return memory;
}

/* No capability in effect: they can be taken up again. */
static void put_aside(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    MAKE(syscall(SYS_capget, &header, data) == 0);
    data[0].effective = data[1].effective = 0;
    MAKE(syscall(SYS_capset, &header, data) == 0);
}

static pid_t child(int gate[2], const uid_t users[3], const gid_t groups[3]) {
    fflush(stdout);
    pid_t pid = fork();
    MAKE(pid >= 0);
    if (pid != 0) return pid;
    char byte;
    MAKE(setgroups(0, NULL) == 0 && setresgid(groups[0], groups[1], groups[2]) == 0);
    MAKE(setresuid(users[0], users[1], users[2]) == 0);
    if (users == ROOTS) put_aside();
    char *memory = kept_out('c');
    close(gate[1]);
    CHECK(read(gate[0], &byte, 1) == 0, "the gate");
    CHECK(is(users, groups), "a child's ids");
    CHECK(memory[0] == 'c' && memory[8191] == 'c', "a child's memory");
    CHECK((seteuid(0) == 0) == (users[2] == 0), "a child's way back");
    _exit(finish(3));
}

int main(void) {
    static const gid_t none[3];
    int gate[2], status;
    if (geteuid() != 0) return SKIPPED;
    MAKE(pipe(gate) == 0);
    int file = open("mixed_users.file", O_RDWR | O_CREAT, 0600);
    MAKE(file >= 0 && fchmod(file, 0600) == 0 && close(file) == 0);
    pid_t children[] = {child(gate, OWN, GROUPS), child(gate, SERVERS, GROUPS), child(gate, SERVERS, none),
                        child(gate, ROOTS, none)};
    MAKE(setgroups(0, NULL) == 0 && setresgid(0, 0, 0) == 0);
    MAKE(setfsgid(70004) == 0 && seteuid(65534) == 0);
    char *memory = kept_out('p');

    ready();

    CHECK(is(SERVERS, none), "ids");
    CHECK(setfsuid((uid_t)-1) == 65534 && setfsgid((gid_t)-1) == 70004, "ids for files: %d, %d", setfsuid((uid_t)-1),
          setfsgid((gid_t)-1));
    CHECK(memory[0] == 'p' && memory[8191] == 'p', "memory");
    CHECK(access("mixed_users.file", R_OK) == 0, "access() is by the real id");
    CHECK(open("mixed_users.file", O_RDONLY) == -1 && errno == EACCES, "open() is by that for files");
    CHECK(seteuid(0) == 0 && geteuid() == 0, "back to what it was");
    close(gate[1]);
    for (int i = 0; i < 4; i++) {
        CHECK(waitpid(children[i], &status, 0) == children[i] && WIFEXITED(status) && WEXITSTATUS(status) == 3,
              "child %d: %x", i, status);
    }
    SAY("mixed users: as they were");
    return finish(9);
}
