/* What `ps` shows: the arguments and the environment as /proc has them, also when the program has written over them as
 * setproctitle does, and the names of its threads.
 *
 * Wrong would be: the restarter's arguments or name, a title that is gone, a variable of Zap's.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

extern char **environ;

struct content {
    char bytes[65536];
    ssize_t length;
};

static void content(const char *path, struct content *content) {
    int file = open(path, O_RDONLY);
    CHECK(file >= 0, "open %s", path);
    content->length = read(file, content->bytes, sizeof content->bytes);
    CHECK(content->length > 0 && close(file) == 0, "read %s", path);
}

static int same(const struct content *a, const struct content *b) {
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

static int mentions_zap(const struct content *content) {
    for (ssize_t i = 0; i < content->length; i += strlen(content->bytes + i) + 1)
        if (strncmp(content->bytes + i, "ZAP_", 4) == 0 && strncmp(content->bytes + i, "ZAP_TEST_", 9) != 0 &&
            strncmp(content->bytes + i, "ZAP_CKPT_DIR", 12) != 0 && strncmp(content->bytes + i, "ZAP_RUNTIME", 11) != 0)
            return 1;
        else if (strstr(content->bytes + i, "libzap") || strncmp(content->bytes + i, "LD_", 3) == 0)
            return 1;
    return 0;
}

static sem_t standing, go;

static void *run(void *argument) {
    char name[16];
    MAKE(prctl(PR_SET_NAME, "worker \xc3\xa4 ()") == 0);
    sem_post(&standing);
    while (sem_wait(&go) != 0) continue;
    CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "worker \xc3\xa4 ()") == 0, "the thread's name is %s", name);
    return argument;
}

static struct content arguments, variables, vector, command, now;

int main(int argc, char **argv) {
    pthread_t thread;
    MAKE(argc == 4 && strcmp(argv[1], "--title") == 0 && strcmp(argv[2], "") == 0);
    content("/proc/self/environ", &variables);
    CHECK(!mentions_zap(&variables), "no variable of Zap's in /proc/self/environ");
    for (char **variable = environ; *variable; variable++) {
        CHECK(strncmp(*variable, "LD_PRELOAD=", 11) != 0 && strncmp(*variable, "ZAP_POD", 7) != 0, "%s", *variable);
    }
    /* As setproctitle: over the arguments, up to their end; what is left is zero. */
    size_t room = argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0];
    memset(argv[0], 0, room);
    snprintf(argv[0], room, "title: 3 of 7 done");
    MAKE(prctl(PR_SET_NAME, "main (name) ") == 0);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
    MAKE(pthread_create(&thread, NULL, run, NULL) == 0 && sem_wait(&standing) == 0);
    content("/proc/self/cmdline", &arguments);
    content("/proc/self/auxv", &vector);
    content("/proc/self/comm", &command);
    MAKE(strcmp(arguments.bytes, "title: 3 of 7 done") == 0);
    unsigned long hardware = getauxval(AT_HWCAP), random = getauxval(AT_RANDOM);
    unsigned char random_bytes[16];
    memcpy(random_bytes, (void *)random, 16);

    ready();

    content("/proc/self/cmdline", &now);
    CHECK(same(&now, &arguments), "cmdline is \"%s\"", now.bytes);
    content("/proc/self/comm", &now);
    CHECK(same(&now, &command), "comm is \"%.*s\"", (int)now.length, now.bytes);
    content("/proc/self/environ", &now);
    CHECK(same(&now, &variables), "environ has %zd bytes, had %zd", now.length, variables.length);
    content("/proc/self/auxv", &now);
    CHECK(same(&now, &vector), "auxv");
    CHECK(getauxval(AT_HWCAP) == hardware && getauxval(AT_RANDOM) == random &&
              memcmp((void *)random, random_bytes, 16) == 0,
          "getauxval");
    SAY("argument area: the title, the name, the environment, the auxiliary vector");
    snprintf(argv[0], room, "title: 7 of 7 done");
    content("/proc/self/cmdline", &now);
    CHECK(strcmp(now.bytes, "title: 7 of 7 done") == 0, "a new title: %s", now.bytes);
    sem_post(&go);
    CHECK(pthread_join(thread, NULL) == 0, "pthread_join");
    CHECK(getenv("LD_PRELOAD") == NULL && getenv("ZAP_POD_TABLE") == NULL && getenv("ZAP_PLAN") == NULL &&
              getenv("LD_AUDIT") == NULL && getenv("GLIBC_TUNABLES") == NULL,
          "no variable of Zap's");
    SAY("argument area: a new title");
    return finish(7);
}
