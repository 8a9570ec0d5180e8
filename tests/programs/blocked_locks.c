/* Threads that wait for a lock on a file which another open file description of the program holds.
 *
 * Wrong would be: a wait that ends by itself or with an error, a lock that both hold, a waiter that nobody wakes.
 */
#include "program.h"

#include <pthread.h>
#include <sys/file.h>

static int held[2], wanted[2];
static volatile int had[2];

static struct flock whole(short type) { return (struct flock){.l_type = type, .l_whence = SEEK_SET}; }

static void *wait_for_flock(void *argument) {
    CHECK(flock(wanted[0], LOCK_EX) == 0, "flock");
    had[0] = 1;
    return argument;
}

static void *wait_for_range(void *argument) {
    struct flock lock = whole(F_WRLCK);
    CHECK(fcntl(wanted[1], F_OFD_SETLKW, &lock) == 0, "F_OFD_SETLKW");
    had[1] = 1;
    return argument;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: blocked_locks DIRECTORY");
    static const char *const names[] = {"flock", "range"};
    for (int i = 0; i < 2; i++) {
        held[i] = open(in(argv[1], names[i]), O_RDWR | O_CREAT, 0600);
        wanted[i] = open(in(argv[1], names[i]), O_RDWR);
        MAKE(held[i] >= 0 && wanted[i] >= 0);
    }
    struct flock lock = whole(F_WRLCK);
    MAKE(flock(held[0], LOCK_EX) == 0 && fcntl(held[1], F_OFD_SETLK, &lock) == 0);
    pthread_t threads[2];
    MAKE(pthread_create(&threads[0], NULL, wait_for_flock, NULL) == 0);
    MAKE(pthread_create(&threads[1], NULL, wait_for_range, NULL) == 0);
    usleep(20000);

    ready();

    CHECK(!had[0] && !had[1], "both still wait");
    lock = whole(F_UNLCK);
    CHECK(flock(held[0], LOCK_UN) == 0 && fcntl(held[1], F_OFD_SETLK, &lock) == 0, "unlock");
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0 && had[i], "%s is had", names[i]);
    CHECK(flock(held[0], LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "flock is held by the other");
    lock = whole(F_WRLCK);
    CHECK(fcntl(held[1], F_OFD_SETLK, &lock) == -1 && errno == EAGAIN, "the range is held by the other");
    SAY("blocked locks: both waits ended when the locks were given up");
    return finish(7);
}
