/* Carried by epoll: changes are told once for a socket's life, and what changed is read at once.

   Owns the waiting, and what the other carrier waits for in this way too because it is rare: space,
   and who hangs up. Leaves bytes to _pump_flow.c. */

#define _GNU_SOURCE
#include "_pump.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 128

int changes_open(struct worker *w)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event) < 0)
        return errno;
    return 0;
}

static int begin(struct worker *w)
{
    (void)w;
    return 0;
}

bool side_watch(struct worker *w, struct side *s, bool for_space)
{
    struct epoll_event event = {.events = w->carrier->changes | EPOLLET, .data.ptr = s};
    if (for_space)
        event.events |= EPOLLOUT;
    int what = s->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(w->epoll, what, s->fd, &event) < 0)
        return false;
    s->watched = true;
    s->blocked = for_space;
    return true;
}

void side_unwatch(struct worker *w, struct side *s)
{
    epoll_ctl(w->epoll, EPOLL_CTL_DEL, s->fd, NULL); /* Python may hold a copy for a moment */
}

static void settle_changes(struct worker *w, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        struct side *s = events[i].data.ptr;
        if (!s) {
            uint64_t gone;
            ssize_t got = read(w->wake, &gone, sizeof gone);
            (void)got;
            continue;
        }
        if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            s->readable = true;
        if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            s->hung = true;
        if (s->eof && events[i].events & (EPOLLHUP | EPOLLERR))
            s->drops = true; /* what it was sent is on its way, or wanted by nobody */
        side_settle(w, s);
    }
}

void changes_settle(struct worker *w)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int count;
    do {
        count = epoll_wait(w->epoll, events, EVENTS_AT_ONCE, 0);
        settle_changes(w, events, count);
    } while (count == EVENTS_AT_ONCE);
}

void changes_close(struct worker *w)
{
    if (w->epoll >= 0)
        close(w->epoll);
}

static void round_of_epoll(struct worker *w)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int limit_ms = w->todo ? 0 : -1;
    pthread_mutex_unlock(&w->lock);
    int count = epoll_wait(w->epoll, events, EVENTS_AT_ONCE, limit_ms);
    pthread_mutex_lock(&w->lock);
    worker_let_in(w);
    settle_changes(w, events, count);
}

const struct carrier epoll_carrier = {
    .changes = EPOLLIN | EPOLLRDHUP,
    .open = changes_open,
    .begin = begin,
    .round = round_of_epoll,
    .forget = side_unwatch,
    .take = side_read,
    .close = changes_close,
};
