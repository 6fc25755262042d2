/* Who is where: clients and servers by number, who waits, who is idle, and how they go back to Python.

   A client is handed over with its server, if it has one, and with all that Python needs to go on as
   if it had carried both itself (see _shuttle_talk.c). What was read is never dropped: where there is
   no memory to hand it over, nothing can go on. */

#include "_shuttle.h"

#include <stdlib.h>
#include <time.h>

#define LOOKED_AT_MAX 16 /* idle servers, for one with the client's settings */

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Ids */

struct client *client_find(struct shuttle *h, uint64_t id)
{
    struct client *c = h->clients[id % IDS];
    while (c && c->id != id)
        c = c->next_alike;
    return c;
}

struct server *server_find(struct shuttle *h, uint64_t id)
{
    struct server *s = h->servers[id % IDS];
    while (s && s->id != id)
        s = s->next_alike;
    return s;
}

struct pool *pool_find(struct shuttle *h, uint32_t id)
{
    struct pool *p = h->pools;
    while (p && p->id != id)
        p = p->next;
    return p;
}

static void client_forget(struct shuttle *h, struct client *c)
{
    struct client **at = &h->clients[c->id % IDS];
    while (*at != c)
        at = &(*at)->next_alike;
    *at = c->next_alike;
    for (unsigned i = 0; i < c->choice_count; i++)
        c->choices[i]->clients--;
    conn_over(h, &c->conn);
}

static void server_forget(struct shuttle *h, struct server *s)
{
    struct server **at = &h->servers[s->id % IDS];
    while (*at != s)
        at = &(*at)->next_alike;
    *at = s->next_alike;
    s->pool->servers--;
    conn_over(h, &s->conn);
}

/* Who waits, who is idle */

void queue_remove(struct shuttle *h, struct client *c)
{
    struct pool *p = c->pool;
    *(c->before ? &c->before->after : &p->first) = c->after;
    *(c->after ? &c->after->before : &p->last) = c->before;
    c->before = c->after = NULL;
    p->waiting--;
    h->waiting--;
}

void queue_add(struct shuttle *h, struct client *c)
{
    struct pool *p = c->pool;
    c->state = WAITING;
    c->since_ms = now_ms();
    c->before = p->last;
    *(p->last ? &p->last->after : &p->first) = c;
    p->last = c;
    p->waiting++;
    h->waiting++;
}

void idle_add(struct server *s)
{
    struct pool *p = s->pool;
    s->is_idle = true;
    s->idle_since_ms = now_ms();
    s->below = p->idle;
    p->idle = s;
    p->idle_count++;
}

void idle_remove(struct server *s)
{
    struct server **at = &s->pool->idle;
    while (*at != s)
        at = &(*at)->below;
    *at = s->below;
    s->is_idle = false;
    s->pool->idle_count--;
}

/* The pool that does least among those that a client may have a server of: with an idle one, if
   there is such a pool. `wanted` is the one that does least of all. */
struct pool *pool_for(struct client *c, struct pool **wanted)
{
    struct pool *least = NULL, *with_idle = NULL;
    for (unsigned i = 0; i < c->choice_count; i++) {
        struct pool *p = c->choices[(c->turn + i) % c->choice_count];
        uint32_t does = p->servers - p->idle_count + p->waiting;
        if (!least || does < least->servers - least->idle_count + least->waiting)
            least = p;
        if (p->idle && (!with_idle || does < with_idle->servers - with_idle->idle_count))
            with_idle = p;
    }
    c->turn++;
    *wanted = least;
    return with_idle ? with_idle : least;
}

struct server *idle_for(const struct client *c)
{
    struct server *s = c->pool->idle;
    for (int i = 0; s && i < LOOKED_AT_MAX; i++, s = s->below)
        if (s->settings == c->settings)
            return s;
    return c->pool->idle;
}

/* What Python is told */

void want(struct shuttle *h, struct pool *p)
{
    if (p->has_asked)
        return;
    struct item *one = calloc(1, sizeof *one);
    if (!one)
        return; /* it is asked for again with the next wait */
    p->has_asked = true;
    one->kind = NEWS_WANT;
    one->pool = p->id;
    tell(h, one);
}

void ask(struct shuttle *h, struct client *c, const char *data, uint32_t n)
{
    struct item *one = calloc(1, sizeof *one);
    if (!one || !buffer_put(&one->kept, data, n)) {
        item_free(one);
        client_over(h, c, WHY_STRANGE);
        return;
    }
    c->state = ASKING;
    one->kind = NEWS_ASK;
    one->client = c->id;
    tell(h, one);
}

/* A server goes back to Python. rest: bytes that were read, and that nobody got. */
static void server_hand_over(struct shuttle *h, struct server *s, struct item *one)
{
    one->server = s->id;
    one->pool = s->pool->id;
    one->left = s->left;
    one->server_out = buffer_take(&s->out);
    if (!one->rest.len)
        one->rest = buffer_take(&s->part);
    if (s->is_idle)
        idle_remove(s);
    server_forget(h, s);
}

/* Python must hear of it whatever happens: with no memory for that nothing can go on. */
static struct item *item_new(void)
{
    struct item *one = calloc(1, sizeof *one);
    if (!one)
        abort();
    return one;
}

static void rest_is(struct item *one, const char *rest, size_t n)
{
    if (n && !buffer_put(&one->rest, rest, n))
        abort();
}

void server_back(struct shuttle *h, struct server *s, enum why why, const char *rest,
                        size_t n)
{
    struct item *one = item_new();
    one->kind = NEWS_SERVER;
    one->why = why;
    rest_is(one, rest, n);
    server_hand_over(h, s, one);
    tell(h, one);
}

/* A client goes back to Python, with its server if it has one. rest: what that said last. */
void hand_over(struct shuttle *h, struct client *c, enum why why, const char *rest, size_t n)
{
    struct item *one = item_new();
    one->kind = NEWS_CLIENT;
    one->why = why;
    one->client = c->id;
    one->pool = c->pool->id;
    one->status = c->status;
    one->is_running = c->state == RUNNING;
    one->is_tried = one->is_running && !c->is_taken;
    one->simple = c->simple;
    one->extended = c->extended;
    if (c->state == WAITING) {
        one->waited_ms = now_ms() - c->since_ms;
        queue_remove(h, c);
    }
    one->kept = buffer_take(&c->kept);
    if (one->is_running) {
        one->said = buffer_take(&c->said);
        if (!one->is_tried) /* else it is all in `rest` */
            one->heard = buffer_take(&c->heard);
    }
    one->unnamed_is_other = c->unnamed_is_other;
    one->has_unnamed = c->has_unnamed && !(one->is_running && c->unnamed_is_said);
    if (one->has_unnamed) {
        struct buffer *from = c->unnamed_is_said ? &c->said : &c->unnamed;
        if (!buffer_put(&one->unnamed, from->data + from->at + c->unnamed_at, c->unnamed_len))
            abort();
    }
    one->client_out = buffer_take(&c->out);
    if (c->server) {
        c->server->client = NULL;
        rest_is(one, rest, n);
        server_hand_over(h, c->server, one);
        c->server = NULL;
    }
    client_forget(h, c);
    tell(h, one);
}

void client_over(struct shuttle *h, struct client *c, enum why why) { hand_over(h, c, why, NULL, 0); }

void server_over(struct shuttle *h, struct server *s, enum why why)
{
    if (s->client)
        client_over(h, s->client, why);
    else
        server_back(h, s, why, NULL, 0);
}
