/* The thread: it waits for sockets, and lets those in who want the lock from outside.

   A socket is told of as long as there is something to read or to write (level-triggered), so that
   nothing is missed when a client or server comes or goes between two rounds. What is over is freed
   only behind a round, whose events may still name it. */

#define _GNU_SOURCE
#include "_shuttle.h"
#include "_thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_BYTES (256 * 1024)
#define EVENTS_AT_ONCE 128
#define LOOK_MS 50

void shuttle_lock(struct shuttle *h)
{
    atomic_fetch_add(&h->wanted, 1);
    pthread_mutex_lock(&h->lock);
}

void shuttle_unlock(struct shuttle *h)
{
    atomic_fetch_sub(&h->wanted, 1);
    pthread_cond_signal(&h->passed);
    pthread_mutex_unlock(&h->lock);
}

static void add_one(int fd)
{
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written; /* it fails only where it is readable already */
}

void shuttle_wake(struct shuttle *h) { add_one(h->wake); }

void tell(struct shuttle *h, struct item *one)
{
    if (!h->first)
        add_one(h->news);
    *h->last = one;
    h->last = &one->next;
}

void item_free(struct item *one)
{
    if (!one)
        return;
    struct buffer *all[] = {&one->kept,    &one->said, &one->heard,     &one->unnamed,
                            &one->rest, &one->client_out, &one->server_out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
    free(one);
}

bool conn_watch(struct shuttle *h, struct conn *c, bool reads, bool writes)
{
    if (c->reads == reads && c->writes == writes)
        return true;
    struct epoll_event event = {.data.ptr = c};
    event.events = (reads ? EPOLLIN : 0) | (writes ? EPOLLOUT : 0);
    bool was = c->reads || c->writes, is = reads || writes;
    int what = !was ? EPOLL_CTL_ADD : is ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    if (epoll_ctl(h->epoll, what, c->fd, &event) < 0)
        return false;
    c->reads = reads;
    c->writes = writes;
    return true;
}

void conn_over(struct shuttle *h, struct conn *c)
{
    conn_watch(h, c, false, false);
    c->is_over = true;
    c->next_over = h->over;
    h->over = c;
}

static void client_free(struct client *c)
{
    buffer_free(&c->kept);
    buffer_free(&c->said);
    buffer_free(&c->unnamed);
    buffer_free(&c->out);
    buffer_free(&c->heard);
    free(c->names);
    free(c->name_bytes);
    free(c);
}

static void server_bury(struct server *s)
{
    buffer_free(&s->part);
    buffer_free(&s->out);
    free(s->shelf);
    free(s);
}

static void conn_free(struct conn *c)
{
    if (c->what == CLIENT)
        client_free((struct client *)c);
    else
        server_bury((struct server *)c);
}

void conns_bury(struct shuttle *h)
{
    while (h->over) {
        struct conn *c = h->over;
        h->over = c->next_over;
        conn_free(c);
    }
}

static void settle(struct shuttle *h, struct conn *c, uint32_t events)
{
    if (c->is_over)
        return;
    if (events & EPOLLOUT) {
        if (c->what == CLIENT)
            client_writable(h, (struct client *)c);
        else
            server_writable(h, (struct server *)c);
    }
    if (c->is_over || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    if (c->what == SERVER)
        server_readable(h, (struct server *)c);
    else if (c->reads)
        client_readable(h, (struct client *)c);
    else
        client_over(h, (struct client *)c, WHY_GONE);
}

static void *run(void *argument)
{
    struct shuttle *h = argument;
    struct epoll_event events[EVENTS_AT_ONCE];
    pthread_mutex_lock(&h->lock);
    while (!atomic_load(&h->stops)) {
        int limit_ms = h->waiting ? LOOK_MS : -1;
        pthread_mutex_unlock(&h->lock);
        int count = epoll_wait(h->epoll, events, EVENTS_AT_ONCE, limit_ms);
        pthread_mutex_lock(&h->lock);
        if (atomic_load(&h->wanted)) /* once: somebody may want it all the time */
            pthread_cond_wait(&h->passed, &h->lock);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                settle(h, events[i].data.ptr, events[i].events);
                continue;
            }
            uint64_t gone;
            ssize_t got = read(h->wake, &gone, sizeof gone);
            (void)got;
        }
        if (h->waiting)
            waits_end(h);
        conns_bury(h);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

static void discard(struct shuttle *h)
{
    for (int i = 0; i < IDS; i++) {
        for (struct client *c = h->clients[i], *next; c; c = next) {
            next = c->next_alike;
            client_free(c);
        }
        for (struct server *s = h->servers[i], *next; s; s = next) {
            next = s->next_alike;
            server_bury(s);
        }
    }
    conns_bury(h);
    for (struct pool *p = h->pools, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    for (struct item *one = h->first, *next; one; one = next) {
        next = one->next;
        item_free(one);
    }
    texts_close(&h->texts);
    buffer_free(&h->scratch);
    free(h->buffer);
    int fds[] = {h->wake, h->news, h->epoll};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_cond_destroy(&h->passed);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

static int start_thread(struct shuttle *h)
{
    int error = thread_start(&h->thread, run, h, STACK_BYTES);
    h->runs = error == 0;
    return error;
}

static int open_all(struct shuttle *h)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h->epoll = epoll_create1(EPOLL_CLOEXEC);
    h->buffer = malloc(PART_BYTES + READ_BYTES);
    if (h->wake < 0 || h->news < 0 || h->epoll < 0 || !h->buffer || !texts_open(&h->texts) ||
        epoll_ctl(h->epoll, EPOLL_CTL_ADD, h->wake, &event) < 0)
        return errno ? errno : ENOMEM;
    return start_thread(h);
}

struct shuttle *shuttle_start(void)
{
    struct shuttle *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->wake = h->news = h->epoll = -1;
    h->last = &h->first;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->passed, NULL);
    int error = open_all(h);
    if (!error)
        return h;
    discard(h);
    errno = error;
    return NULL;
}

void shuttle_stop(struct shuttle *h)
{
    atomic_store(&h->stops, true);
    shuttle_wake(h);
    if (h->runs)
        pthread_join(h->thread, NULL);
    discard(h);
}
