/* A process whose wall clock is wrong: preloaded into a node by test_doctor_machine.py.
 *
 * The file that PGHERD_TEST_CLOCK names says by how many seconds, and is read again every tenth of a
 * second of monotonic time, so that a test can set the clock while the node runs. A second word, "free",
 * says that nothing keeps the kernel's clock (adjtimex(2)). Clocks that only go forward stay true.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static long shift_s;
static int is_free;

static void read_again(void)
{
    static long long read_at = -1;
    struct timespec now;
    const char *path = getenv("PGHERD_TEST_CLOCK");
    int before = errno;

    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    long long at = (long long)now.tv_sec * 10 + now.tv_nsec / 100000000;
    if (path == NULL || at == read_at)
        return;
    read_at = at;
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        char word[16] = "";
        long found;
        if (fscanf(file, "%ld %15s", &found, word) >= 1) {
            shift_s = found;
            is_free = strcmp(word, "free") == 0;
        }
        fclose(file);
    }
    errno = before;
}

int clock_gettime(clockid_t id, struct timespec *into)
{
    int done = (int)syscall(SYS_clock_gettime, id, into);
    if (done == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        read_again();
        into->tv_sec += shift_s;
    }
    return done;
}

int gettimeofday(struct timeval *restrict into, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    into->tv_sec = now.tv_sec;
    into->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into != NULL)
        *into = now.tv_sec;
    return now.tv_sec;
}

int adjtimex(struct timex *into)
{
    int state = (int)syscall(SYS_adjtimex, into);
    read_again();
    return is_free ? TIME_ERROR : state < 0 ? state : TIME_OK;
}
