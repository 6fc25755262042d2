/* Clients that have a server while a cycle of theirs is answered, or a transaction is open.

   Theory of operation. A client's bytes are kept until a whole cycle is there (_shuttle_cycle.c).
   Where all of it is known, an idle server of the client's pool gets it; what the server says goes to
   the client as it is, and at its ReadyForQuery, outside a transaction, the server is the next one's.
   Anything else is Python's: the client is handed over, with its server if it has one, at any moment,
   in the middle of an answer as well. What Python then needs goes along: what the client said of the
   cycle under way (`said`), the messages of its answer that change what is known of a session
   (`heard`), and all bytes that were read and have not passed.

   A client with a domain reads from replicas that may refuse: nothing of an answer passes before its
   first row or its end, and an error is Python's, who may say the statement to another server.

   So everything that ends badly, is rare, or concerns more than bytes is done in one place, in
   Python: errors that end a session, parameters that change, COPY, cancels, holds, ends. A server
   that says something while nobody has it goes back as well.

   Owns what passes. Leaves who waits and who goes back to _shuttle_place.c, and waiting for sockets to
   _shuttle_worker.c. */

#define _GNU_SOURCE
#include "_shuttle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define KEPT_BYTES (128 * 1024)

/* Sending */

/* What a socket does not take now waits; false: it is broken, or there is no memory. */
static bool say(struct conn *conn, struct buffer *out, const char *data, size_t n)
{
    if (!out->len) {
        ssize_t sent;
        do
            sent = send(conn->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return false;
        if (sent > 0) {
            data += sent;
            n -= (size_t)sent;
        }
    }
    return buffer_put(out, data, n);
}

/* false: it is broken */
static bool flush(struct conn *conn, struct buffer *out)
{
    while (out->len) {
        ssize_t sent = send(conn->fd, out->data + out->at, out->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        buffer_skip(out, (uint32_t)sent);
    }
    return true;
}

/* What a client and its server are watched for, by what waits. */
static bool watch(struct shuttle *h, struct client *c)
{
    struct server *s = c->server;
    bool is_full = c->kept.len >= KEPT_BYTES;
    if (!conn_watch(h, &c->conn, !is_full, c->out.len > 0))
        return false;
    return !s || conn_watch(h, &s->conn, !c->out.len, s->out.len > 0);
}

/* A client's turns */

/* Its server gets a cycle; the bytes are the caller's. */
static void begin(struct shuttle *h, struct client *c, const char *data, const struct cycle *cycle)
{
    struct server *s = c->server;
    const char *passed = data;
    size_t n = cycle->length;
    if (cycle->has_names) {
        if (!cycle_fits(c, s, data, cycle->length) || !cycle_rename(h, c, data, cycle->length)) {
            client_over(h, c, WHY_UNFIT);
            return;
        }
        passed = h->scratch.data;
        n = h->scratch.len;
    }
    if (!cycle->parses && !cycle->is_simple && c->has_unnamed && c->unnamed_is_said) {
        struct buffer spare = c->unnamed;
        c->unnamed = c->said;
        c->said = spare;
        c->unnamed_is_said = false;
    }
    struct buffer *said = &c->said;
    said->at = said->len = 0;
    c->heard.at = c->heard.len = 0;
    if (!buffer_put(said, data, cycle->length)) {
        client_over(h, c, WHY_STRANGE);
        return;
    }
    c->unnamed_is_other = c->unnamed_is_other || cycle->is_simple || cycle->parses;
    if (cycle->is_simple)
        c->has_unnamed = false;
    if (cycle->parses) {
        c->has_unnamed = c->unnamed_is_said = true;
        c->unnamed_at = cycle->unnamed_at;
        c->unnamed_len = cycle->unnamed_len;
    }
    c->parses = cycle->parses;
    c->confirmed = 0;
    c->has_failed = false;
    c->is_taken = !c->domain;
    c->pool->tried += c->domain != 0;
    c->is_simple = cycle->is_simple;
    c->state = RUNNING;
    buffer_skip(&c->kept, cycle->length);
    h->from_clients += cycle->length;
    if (!say(&s->conn, &s->out, passed, n) || !watch(h, c))
        client_over(h, c, WHY_GONE);
}

static void lend(struct client *c, struct server *s)
{
    struct pool *p = c->pool;
    c->server = s;
    s->client = c;
    p->lent++;
}

static void waited(struct shuttle *h, struct client *c)
{
    struct pool *p = c->pool;
    int64_t ms = now_ms() - c->since_ms;
    int i = 0;
    while (i < h->class_count && ms > h->classes_ms[i])
        i++;
    p->classes[i]++;
    p->waited++;
    p->waited_ms += (uint64_t)ms;
}

/* Do what can be done with what was kept. */
void client_go_on(struct shuttle *h, struct client *c)
{
    struct cycle cycle;
    if (!c->kept.len) {
        c->state = c->server ? OPEN : RESTING;
        return;
    }
    const char *data = c->kept.data + c->kept.at;
    switch (cycle_look(h, c, data, c->kept.len, &cycle)) {
    case MORE:
        c->state = c->server ? OPEN : RESTING;
        if (!watch(h, c))
            client_over(h, c, WHY_GONE);
        return;
    case STRANGE:
        client_over(h, c, WHY_STRANGE);
        return;
    case UNKNOWN:
        ask(h, c, data, cycle.length);
        return;
    case CYCLE:
        break;
    }
    if (!c->server) {
        struct pool *wanted;
        c->pool = pool_for(c, &wanted);
        if (wanted != c->pool && !wanted->idle)
            want(h, wanted);
        struct server *s = idle_for(c);
        if (!s) {
            queue_add(h, c);
            want(h, c->pool);
            return;
        }
        idle_remove(s);
        lend(c, s);
        c->pool->classes[0]++;
        if (s->settings != c->settings) {
            c->state = OPEN;
            client_over(h, c, WHY_UNFIT);
            return;
        }
    }
    begin(h, c, data, &cycle);
}

void client_ready(struct shuttle *h, struct client *c)
{
    if (c->state == RESTING || c->state == OPEN)
        client_go_on(h, c);
    else if (c->kept.len >= KEPT_BYTES && !watch(h, c))
        client_over(h, c, WHY_GONE);
}

void client_readable(struct shuttle *h, struct client *c)
{
    char *into = h->buffer + PART_BYTES;
    ssize_t got = recv(c->conn.fd, into, READ_BYTES, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (got <= 0) {
        client_over(h, c, WHY_GONE);
        return;
    }
    c->stirred = true;
    if (!buffer_put(&c->kept, into, (size_t)got))
        abort(); /* bytes that were read are lost to everybody */
    client_ready(h, c);
}

void client_writable(struct shuttle *h, struct client *c)
{
    if (!flush(&c->conn, &c->out) || !watch(h, c))
        client_over(h, c, WHY_GONE);
}

/* A server has nothing to do: the first that waits gets it. */
void server_free(struct shuttle *h, struct server *s)
{
    struct pool *p = s->pool;
    if (s->returns || p->owed) {
        p->owed -= p->owed > 0;
        server_back(h, s, WHY_ASKED, NULL, 0);
        return;
    }
    struct client *c = p->first;
    if (!c) {
        idle_add(s);
        if (!conn_watch(h, &s->conn, true, false)) {
            server_back(h, s, WHY_GONE, NULL, 0);
        }
        return;
    }
    waited(h, c);
    queue_remove(h, c);
    lend(c, s);
    c->state = OPEN;
    if (s->settings != c->settings)
        client_over(h, c, WHY_UNFIT);
    else
        client_go_on(h, c);
}

void waits_end(struct shuttle *h)
{
    int64_t now = now_ms();
    for (struct pool *p = h->pools; p; p = p->next)
        while (p->first && now - p->first->since_ms >= WAIT_MS)
            client_over(h, p->first, WHY_LATE);
}

/* What servers say */

enum heard { PASSES, WAITS, PYTHONS };

static bool holds(const char *data, size_t n, const char *what, size_t size)
{
    return memmem(data, n, what, size) != NULL;
}

/* A message that changes what is known of the session. there: of its body, whole or LOOKED_BYTES. */
static enum heard hear(struct client *c, char kind, const char *body, uint32_t there)
{
    static const char fatal[] = "VFATAL", panic[] = "VPANIC", unconfirmed[] = "SyncRepWaitForLSN";
    switch (kind) {
    case 'G':
    case 'H':
    case 'W':
    case 'S':
        return PYTHONS;
    case 'N':
        if (holds(body, there, unconfirmed, sizeof unconfirmed - 1))
            return PYTHONS;
        return PASSES;
    case 'E':
        if (holds(body, there, fatal, sizeof fatal) || holds(body, there, panic, sizeof panic))
            return PYTHONS;
        c->has_failed = true;
        break;
    case '1':
        c->confirmed++;
        break;
    default:
        break;
    }
    char head[HEADER] = {kind, 0, 0, (char)((there + 4) >> 8), (char)(there + 4)};
    if (!buffer_put(&c->heard, head, HEADER) || !buffer_put(&c->heard, body, there))
        return PYTHONS;
    return PASSES;
}

static bool is_heard(char kind)
{
    switch (kind) {
    case 'C': case 'E': case '1': case '3': case 'N': case 'S': case 'G': case 'H': case 'W':
        return true;
    default:
        return false;
    }
}

/* What a server may say before it is clear whether it takes a statement (`relay.trial`). */
static bool says_nothing(char kind)
{
    return memchr("123tTnN", kind, 7) != NULL;
}

static void passes(struct shuttle *h, struct client *c, const char *data, size_t n, bool *is_there)
{
    h->from_servers += n;
    *is_there = !n || say(&c->conn, &c->out, data, n);
}

/* A cycle was answered to its end. */
static void ended(struct client *c, uint8_t status)
{
    c->stirred = true;
    c->status = status;
    *(c->is_simple ? &c->simple : &c->extended) += 1;
    if (c->has_failed && c->unnamed_is_said && c->confirmed < c->parses)
        c->has_unnamed = false;
    c->state = c->server ? OPEN : RESTING;
}

/* Takes bytes of a server that a client has. */
static void server_said(struct shuttle *h, struct server *s, const char *data, size_t n)
{
    struct client *c = s->client;
    size_t at = s->left < n ? s->left : n;
    bool is_there = true, is_pythons = false;
    s->left -= (uint32_t)at;
    if (!c->is_taken) { /* all that was said so far comes again */
        c->heard.at = c->heard.len = 0;
        c->confirmed = 0;
    }
    while (n - at >= HEADER) {
        char kind = data[at];
        uint32_t length = number_at(data + at + 1);
        size_t there = n - at - HEADER;
        if (length < 4 || length > 0x7fffffff || (c->state != RUNNING && kind == 'Z')) {
            is_pythons = true;
            break;
        }
        uint32_t body = length - 4;
        if (kind == 'Z') {
            if (there < body)
                break;
            uint8_t status = body ? (uint8_t)data[at + HEADER] : 0;
            at += HEADER + body;
            if (status != 'I' && status != 'T' && status != 'E') {
                at -= HEADER + body;
                is_pythons = true;
                break;
            }
            if (status == 'I') {
                passes(h, c, data, at, &is_there);
                c->server = NULL;
                s->client = NULL;
                ended(c, status);
                if (n > at)
                    server_back(h, s, WHY_NEWS, data + at, n - at);
                else
                    server_free(h, s);
                if (!is_there || !watch(h, c))
                    client_over(h, c, WHY_GONE);
                else
                    client_ready(h, c);
                return;
            }
            ended(c, status);
            continue;
        }
        if (kind == 'E' && c->domain) {
            is_pythons = true; /* another server may be asked, or it is counted */
            break;
        }
        if (!c->is_taken && says_nothing(kind)) {
            if (there < body)
                break;
        } else {
            c->is_taken = true;
        }
        if (is_heard(kind)) {
            uint32_t looked = body < LOOKED_BYTES ? body : LOOKED_BYTES;
            if (there < looked)
                break;
            if (hear(c, kind, data + at + HEADER, looked) == PYTHONS) {
                is_pythons = true;
                break;
            }
        }
        if (there < body) {
            s->left = body - (uint32_t)there;
            at = n;
        } else {
            at += HEADER + body;
        }
    }
    if (!c->is_taken && c->state == RUNNING) {
        is_pythons = is_pythons || n > PART_BYTES;
        at = 0;
    }
    passes(h, c, data, at, &is_there);
    if (is_pythons) {
        hand_over(h, c, WHY_NEWS, data + at, n - at);
        return;
    }
    if (n > at && !buffer_put(&s->part, data + at, n - at))
        abort();
    if (!is_there || !watch(h, c))
        client_over(h, c, WHY_GONE);
    else
        client_ready(h, c);
}

void server_readable(struct shuttle *h, struct server *s)
{
    size_t before = s->part.len;
    char *into = h->buffer + PART_BYTES;
    if (!s->client) { /* nobody asked it anything: Python reads what it has to say */
        server_back(h, s, WHY_NEWS, NULL, 0);
        return;
    }
    ssize_t got = recv(s->conn.fd, into, READ_BYTES, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (got <= 0) {
        client_over(h, s->client, WHY_GONE);
        return;
    }
    if (before) {
        into -= before;
        memcpy(into, s->part.data + s->part.at, before);
        s->part.at = s->part.len = 0;
    }
    server_said(h, s, into, before + (size_t)got);
}

void server_writable(struct shuttle *h, struct server *s)
{
    struct client *c = s->client;
    if (!flush(&s->conn, &s->out) || (c && !watch(h, c)))
        server_over(h, s, WHY_GONE);
}
