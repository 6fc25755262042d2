/* The thread that carries flows: its carrier waits, and what has something to do is settled.

   Whoever wants the lock from outside is let in before the next round: a mutex alone would be taken
   again and again by a busy worker. */

#define _GNU_SOURCE
#include "_pump.h"
#include "_thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_BYTES (256 * 1024)

void worker_lock(struct worker *w)
{
    atomic_fetch_add(&w->wanted, 1);
    pthread_mutex_lock(&w->lock);
}

void worker_unlock(struct worker *w)
{
    if (atomic_fetch_sub(&w->wanted, 1) == 1)
        pthread_cond_signal(&w->passed);
    pthread_mutex_unlock(&w->lock);
}

void worker_wake(struct worker *w)
{
    uint64_t one = 1;
    ssize_t written = write(w->wake, &one, sizeof one);
    (void)written; /* it fails only where it is readable already */
}

static void settle_some(struct worker *w)
{
    struct side *s = w->todo;
    w->todo = NULL;
    w->todo_last = &w->todo;
    while (s) {
        struct side *next = s->next;
        s->is_todo = false;
        side_settle(w, s);
        s = next;
    }
}

void worker_let_in(struct worker *w)
{
    while (atomic_load(&w->wanted))
        pthread_cond_wait(&w->passed, &w->lock);
}

static void *run(void *argument)
{
    struct worker *w = argument;
    pthread_mutex_lock(&w->lock);
    bool goes_on = w->carrier->begin(w) == 0; /* else the probe finds that nothing passes */
    while (goes_on && !atomic_load(&w->stops)) {
        w->carrier->round(w);
        settle_some(w);
        flows_bury(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void discard(struct worker *w)
{
    w->carrier->close(w);
    for (uint32_t i = 0; i < w->chunk_count; i++) {
        for (uint32_t j = 0; j < CHUNK; j++) {
            for (int which = CLIENT; which <= SERVER; which++) {
                struct side *s = &w->chunks[i][j].side[which];
                if (s->fd >= 0)
                    close(s->fd);
                free(s->out);
                free(s->held);
            }
        }
        free(w->chunks[i]);
    }
    free(w->chunks);
    free(w->losses);
    free(w->buffer);
    if (w->wake >= 0)
        close(w->wake);
    pthread_cond_destroy(&w->passed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static int start_thread(struct worker *w)
{
    int error = thread_start(&w->thread, run, w, STACK_BYTES);
    w->runs = error == 0;
    return error;
}

struct worker *worker_start(unsigned number, int news, const struct carrier *by)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->number = number;
    w->news = news;
    w->carrier = by;
    w->epoll = -1;
    w->todo_last = &w->todo;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->passed, NULL);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->buffer = malloc(RECV_BYTES);
    int error = w->wake < 0 || !w->buffer ? errno : by->open(w);
    if (!error)
        error = start_thread(w);
    if (!error)
        return w;
    discard(w);
    errno = error;
    return NULL;
}

void worker_stop(struct worker *w)
{
    atomic_store(&w->stops, true);
    worker_wake(w);
    if (w->runs)
        pthread_join(w->thread, NULL);
    discard(w);
}
