/* A program that was started by root and has become another user, with groups, in all of its threads, and a child that
 * has become yet another: none of them is root ever again. It has a file mapped to which it does not find any more.
 */
#include "program.h"

#include <grp.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static sem_t go, done;
static int in_thread;

static int is(uid_t user, gid_t group) {
    uid_t users[3];
    gid_t groups[3], more[8];
    CHECK(getresuid(&users[0], &users[1], &users[2]) == 0 && getresgid(&groups[0], &groups[1], &groups[2]) == 0, "ids");
    int count = getgroups(8, more);
    return users[0] == user && users[1] == user && users[2] == user && groups[0] == group && groups[1] == group &&
           groups[2] == group && count == 2 && more[0] + more[1] == 70000 + 70001 && setuid(0) == -1 &&
           access("/proc/1/environ", R_OK) == -1;
}

static void *thread(void *nothing) {
    while (sem_wait(&go) != 0) continue;
    in_thread = is(65534, 70002);
    sem_post(&done);
    return nothing;
}

static void become(uid_t user) {
    gid_t groups[] = {70000, 70001};
    MAKE(setgroups(2, groups) == 0 && setresgid(70002, 70002, 70002) == 0 && setresuid(user, user, user) == 0);
}

int main(void) {
    if (geteuid() != 0) return SKIPPED;
    pthread_t other;
    MAKE(sem_init(&go, 0, 0) == 0 && sem_init(&done, 0, 0) == 0);
    MAKE(pthread_create(&other, NULL, thread, NULL) == 0);
    MAKE((mkdir("other_user.d", 0700) == 0 || errno == EEXIST) && chmod("other_user.d", 0700) == 0);
    int file = open("other_user.d/mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
    MAKE(file >= 0 && write(file, "what only root reads", 20) == 20);
    const char *mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    MAKE(mapped != MAP_FAILED && close(file) == 0);
    int gate[2];
    MAKE(pipe(gate) == 0);
    fflush(stdout);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        char byte;
        become(65533);
        close(gate[1]);
        CHECK(read(gate[0], &byte, 1) == 0, "the gate");
        _exit(is(65533, 70002) ? 3 : 4);
    }
    close(gate[0]);
    become(65534);

    ready();

    CHECK(memcmp(mapped, "what only root reads", 21) == 0, "the mapped file: %s", mapped);
    CHECK(is(65534, 70002), "who the program is: %d", (int)geteuid());
    CHECK(setfsuid(-1) == 65534, "the id for files");
    sem_post(&go);
    while (sem_wait(&done) != 0) continue;
    CHECK(in_thread, "who the other thread is");
    SAY("other user: the program and its threads");
    close(gate[1]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3, "who the child is: %x", status);
    SAY("other user: its child");
    return finish(7);
}
