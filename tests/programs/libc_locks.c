/* Threads that do nothing but take libc's locks: malloc's, stdio's, the loader's, those of locales, converters, name
 * services, time zones and the environment.
 *
 * Wrong would be a thread that hangs because another one was suspended with a lock held, or a result that is not right.
 */
#include "program.h"

#include <dlfcn.h>
#include <iconv.h>
#include <locale.h>
#include <pthread.h>
#include <pwd.h>
#include <regex.h>
#include <semaphore.h>
#include <time.h>

static int may_end;
static sem_t standing;
static const char *directory;
static unsigned long turns[16];

static void take_memory(unsigned long turn) {
    size_t size = turn * 7919 % 300000 + 1;
    unsigned char *memory = malloc(size);
    CHECK(memory != NULL, "malloc of %zu bytes", size);
    memory[0] = memory[size - 1] = (unsigned char)turn;
    memory = realloc(memory, size / 2 + 1);
    CHECK(memory != NULL && memory[0] == (unsigned char)turn, "realloc keeps what is there");
    free(memory);
}

static FILE *file;

static void print(unsigned long turn) {
    CHECK(fprintf(file, "%lu %s %d %.3f\n", turn, "line", (int)(turn % 97), turn / 8.0) > 0, "fprintf");
    if (turn % 1000 == 999) CHECK(fflush(file) == 0, "fflush");
}

static void load(unsigned long turn) {
    static const char *const names[] = {"libm.so.6", "libresolv.so.2", "libanl.so.1"};
    void *library = dlopen(names[turn % 3], RTLD_NOW);
    CHECK(library != NULL, "dlopen: %s", dlerror());
    if (turn % 3 == 0) {
        double (*cosine)(double) = (double (*)(double))dlsym(library, "cos");
        CHECK(cosine != NULL && cosine(0.0) == 1.0, "a function of a library that was just loaded");
    }
    CHECK(dlclose(library) == 0, "dlclose");
}

static void convert(unsigned long turn) {
    iconv_t converter = iconv_open("UTF-8", turn % 2 ? "ISO-8859-1" : "UTF-16LE");
    CHECK(converter != (iconv_t)-1, "iconv_open");
    char in[] = "\xe4\0b\0", out[16], *from = in, *to = out;
    size_t left = turn % 2 ? 1 : 4, room = sizeof out;
    CHECK(iconv(converter, &from, &left, &to, &room) != (size_t)-1 && memcmp(out, "\xc3\xa4", 2) == 0, "iconv");
    CHECK(iconv_close(converter) == 0, "iconv_close");
}

static void change_locale(unsigned long turn) {
    locale_t locale = newlocale(LC_ALL_MASK, turn % 2 ? "C.UTF-8" : "C", (locale_t)0);
    CHECK(locale != (locale_t)0, "newlocale");
    locale_t before = uselocale(locale);
    CHECK(setlocale(LC_ALL, NULL) != NULL && localeconv()->decimal_point[0] == '.', "the locale in use");
    uselocale(before);
    freelocale(locale);
    /* Nobody else looks at the whole program's locale but by what is alike in both. */
    const char *name = turn % 2 ? "C.UTF-8" : "C";
    CHECK(setlocale(LC_ALL, name) != NULL && strcmp(setlocale(LC_ALL, NULL), name) == 0, "setlocale");
    CHECK((MB_CUR_MAX > 1) == (int)(turn % 2), "the locale of the whole program");
}

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static void sort(unsigned long turn) {
    int numbers[3000];
    for (int i = 0; i < 3000; i++) numbers[i] = (int)((turn + i) * 7919 % 10007);
    qsort(numbers, 3000, sizeof *numbers, compare);
    for (int i = 1; i < 3000; i++) CHECK(numbers[i - 1] <= numbers[i], "qsort");
}

static void match(unsigned long turn) {
    regex_t expression;
    regmatch_t at[2];
    char text[64];
    snprintf(text, sizeof text, "turn %lu of many", turn);
    CHECK(regcomp(&expression, "^turn ([0-9]+) of [a-z]*$", REG_EXTENDED) == 0, "regcomp");
    CHECK(regexec(&expression, text, 2, at, 0) == 0 && strtoul(text + at[1].rm_so, NULL, 10) == turn, "regexec");
    regfree(&expression);
}

static void look_up(unsigned long turn) {
    struct passwd entry, *found;
    char room[4096];
    (void)turn;
    CHECK(getpwnam_r("root", &entry, room, sizeof room, &found) == 0 && found && found->pw_uid == 0, "getpwnam_r");
}

static void tell_time(unsigned long turn) {
    time_t time = (time_t)(turn * 86400 % 2000000000);
    struct tm parts;
    char text[64];
    CHECK(localtime_r(&time, &parts) != NULL && mktime(&parts) == time, "localtime and mktime");
    CHECK(strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %Z", &parts) > 18, "strftime");
}

/* The variable is there from the start: a new one would move the environment under others' feet. */
static void set_environment(unsigned long turn) {
    static const char *const values[] = {"one", "two", "three", "four"};
    CHECK(setenv("LIBC_LOCKS", values[turn % 4], 1) == 0 && strcmp(getenv("LIBC_LOCKS"), values[turn % 4]) == 0,
          "setenv and getenv");
}

static void *nothing(void *argument) { return argument; }

static void make_thread(unsigned long turn) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, nothing, (void *)turn) == 0 && pthread_join(thread, &result) == 0 &&
              result == (void *)turn,
          "a thread");
}

static void (*const works[])(unsigned long) = {take_memory, take_memory, print,   load,      convert,         change_locale,
                                               sort,        match,       look_up, tell_time, set_environment, make_thread};
enum { COUNT = sizeof works / sizeof *works };

static void *run(void *argument) {
    long number = (long)argument;
    for (unsigned long turn = 0; !__atomic_load_n(&may_end, __ATOMIC_ACQUIRE); turn++) {
        works[number](turn);
        __atomic_store_n(&turns[number], turn + 1, __ATOMIC_RELEASE);
        if (turn == 2) sem_post(&standing);
    }
    return argument;
}

int main(int count, char **words) {
    CHECK(count == 2, "usage: libc_locks DIRECTORY");
    directory = words[1];
    pthread_t threads[COUNT];
    MAKE(sem_init(&standing, 0, 0) == 0 && setenv("LIBC_LOCKS", "none", 1) == 0);
    MAKE((file = fopen(in(directory, "lines"), "w+")) != NULL);
    tzset();
    for (long i = 0; i < COUNT; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < COUNT; i++) MAKE(sem_wait(&standing) == 0);
    ready();
    /* All still get on. */
    unsigned long before[COUNT];
    for (int i = 0; i < COUNT; i++) before[i] = __atomic_load_n(&turns[i], __ATOMIC_ACQUIRE);
    for (int i = 0; i < COUNT; i++)
        while (__atomic_load_n(&turns[i], __ATOMIC_ACQUIRE) < before[i] + 3) usleep(1000);
    __atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
    for (long i = 0; i < COUNT; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)i, "thread %ld", i);
    }
    SAY("libc_locks: %d threads get on to their end", COUNT);
    rewind(file);
    unsigned long number, expected = 0;
    char word[8], rest[64];
    while (fscanf(file, "%lu %7s %63[^\n]", &number, word, rest) == 3) {
        CHECK(number == expected && strcmp(word, "line") == 0, "line %lu says %lu", expected, number);
        expected++;
    }
    CHECK(expected == turns[2], "%lu lines instead of %lu", expected, turns[2]);
    SAY("libc_locks: each line is there once");
    return finish(31);
}
