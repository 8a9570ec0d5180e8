/* A main thread that has ended by pthread_exit; the others go on. With a second argument this is a child, and its parent
 * waits for it.
 *
 * Wrong would be: a checkpoint that is refused or waits, a main thread that is back after a restart, memory that its end
 * has changed, a thread that cannot be joined, an exit status that is not the last exit's, a parent to whom such a child
 * has ended.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pthread_t main_thread, second;
static pid_t main_id;
static unsigned char *mapped;
static int descriptor, may_go;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

/* The state letter of the process's first thread. */
static char main_state(void) {
    char text[512];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (length <= 0) return '?';
    text[length] = 0;
    const char *end = strrchr(text, ')');
    return end ? end[2] : '?';
}

static void *wait_for_word(void *argument) {
    pthread_mutex_lock(&mutex);
    while (!may_go) pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return argument;
}

static void *run(void *argument) {
    (void)argument;
    void *result;
    while (main_state() != 'Z') usleep(1000);
    CHECK(pthread_join(main_thread, &result) == 0 && result == (void *)77, "the main thread's value");
    char directory[4096], directory_now[4096];
    MAKE(getcwd(directory, sizeof directory) != NULL);
    pid_t own = gettid();

    ready();

    CHECK(main_state() == 'Z', "the main thread is '%c'", main_state());
    CHECK(getpid() == main_id && gettid() == own && own != main_id, "ids");
    SAY("ended_main: the main thread has ended");
    CHECK(filled(mapped, 1 << 20, 5), "mapped memory");
    char text[32] = "";
    CHECK(pread(descriptor, text, sizeof text, 0) == 5 && strcmp(text, "hello") == 0, "an open file");
    CHECK(getcwd(directory_now, sizeof directory_now) != NULL && strcmp(directory, directory_now) == 0, "directory");
    pthread_mutex_lock(&mutex);
    may_go = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    CHECK(pthread_join(second, &result) == 0 && result == (void *)78, "the second thread");
    pthread_t fresh;
    CHECK(pthread_create(&fresh, NULL, wait_for_word, (void *)79) == 0 && pthread_join(fresh, &result) == 0 &&
              result == (void *)79,
          "a new thread");
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), 0) == 0, "tgkill");
    CHECK(setresuid(-1, geteuid(), -1) == 0 && setresgid(-1, getegid(), -1) == 0, "every thread stays who it is");
    SAY("ended_main: memory, file, threads");
    exit(finish(7));
}

int main(int argc, char **argv) {
    char path[4096];
    CHECK(argc > 1, "a directory is needed");
    snprintf(path, sizeof path, "%s/file", argv[1]);
    descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MAKE(descriptor >= 0 && write(descriptor, "hello", 5) == 5);
    mapped = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(mapped != MAP_FAILED);
    fill(mapped, 1 << 20, 5);
    if (argc > 2) {
        pid_t child = fork();
        MAKE(child >= 0);
        if (child > 0) {
            int status;
            CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status), "the child's end");
            return WEXITSTATUS(status);
        }
    }
    main_thread = pthread_self();
    main_id = getpid();
    pthread_t thread;
    MAKE(pthread_create(&second, NULL, wait_for_word, (void *)78) == 0);
    MAKE(pthread_create(&thread, NULL, run, NULL) == 0);
    pthread_exit((void *)77);
}
