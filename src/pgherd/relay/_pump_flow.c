/* What happens to a flow: bytes both ways, back-pressure, and an end that loses nothing it need not.

   Theory of operation. The kernel tells of changes (EPOLLET) and `side_settle` does, for one socket,
   all that can be done at the moment: send what it is owed, end it where that was asked for, then
   read it. What is read goes to the other socket at once, out of a buffer that all flows of a worker
   share. What that socket does not take is copied and kept, and until it is gone nothing more is
   read: a direction holds RECV_BYTES at most, and an idle flow none.

   A client that half-closes has its server told so, and still gets its answers. A server that is
   gone leaves a client that gets what it is owed, then the end of the stream, and whose last words
   are read and dropped: a close with unread bytes would send RST, which may overtake what is owed.
   A client that is gone leaves a server that gets what was under way, and is closed.

   Every socket is lost once, and told of once (`struct loss`). Python sets wishes (ends, leaves,
   drops, halted) and never touches a socket. Deadlines are Python's. */

#define _GNU_SOURCE
#include "_pump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct side *side_other(struct side *s) { return &s->flow->side[1 - s->which]; }

uint64_t flow_handle(const struct worker *w, const struct flow *f)
{
    return (uint64_t)f->generation << 32 | (uint64_t)f->slot << 4 | w->number;
}

struct flow *flow_find(struct worker *w, uint64_t handle)
{
    uint32_t slot = (uint32_t)handle >> 4;
    if (slot >= w->chunk_count * CHUNK)
        return NULL;
    struct flow *f = &w->chunks[slot / CHUNK][slot % CHUNK];
    bool is_there = f->side[CLIENT].fd >= 0 || f->side[SERVER].fd >= 0;
    return is_there && f->generation == handle >> 32 ? f : NULL;
}

static bool grow(struct worker *w)
{
    if (w->chunk_count * CHUNK >= FLOWS_MAX)
        return false;
    struct flow **chunks = realloc(w->chunks, (w->chunk_count + 1) * sizeof *chunks);
    if (!chunks)
        return false;
    w->chunks = chunks;
    struct flow *fresh = calloc(CHUNK, sizeof *fresh);
    if (!fresh)
        return false;
    w->chunks[w->chunk_count] = fresh;
    for (uint32_t i = 0; i < CHUNK; i++) {
        fresh[i].slot = w->chunk_count * CHUNK + i;
        fresh[i].side[CLIENT].fd = fresh[i].side[SERVER].fd = -1;
        fresh[i].next = w->free;
        w->free = &fresh[i];
    }
    w->chunk_count++;
    return true;
}

/* There is a loss for each socket that is open, so that telling of it never fails. */
bool losses_reserve(struct worker *w)
{
    size_t need = w->loss_count + 2 * ((size_t)w->flow_count + 1);
    if (need <= w->loss_size)
        return true;
    size_t size = need < 64 ? 64 : need * 2;
    struct loss *losses = realloc(w->losses, size * sizeof *losses);
    if (!losses)
        return false;
    w->losses = losses;
    w->loss_size = size;
    return true;
}

struct flow *flow_add(struct worker *w, int client, int server)
{
    if (!losses_reserve(w) || (!w->free && !grow(w)))
        return NULL;
    struct flow *f = w->free;
    w->free = f->next;
    uint32_t slot = f->slot, generation = (f->generation + 1) & 0x7fffffff;
    memset(f, 0, sizeof *f);
    f->slot = slot;
    f->generation = generation;
    int fds[2] = {client, server};
    for (int which = CLIENT; which <= SERVER; which++) {
        struct side *s = &f->side[which];
        s->flow = f;
        s->which = (uint8_t)which;
        s->fd = fds[which];
        s->readable = true;
    }
    w->flow_count++;
    side_todo(w, &f->side[CLIENT]);
    side_todo(w, &f->side[SERVER]);
    return f;
}

/* Whether a list or the kernel still has a pointer to it. */
static bool is_used(const struct side *s) { return s->is_todo || s->receives; }

/* Only between two rounds: until then an event of the round may point to a flow that is over. One
   that is still in use waits for the next. */
void flows_bury(struct worker *w)
{
    struct flow **at = &w->over;
    while (*at) {
        struct flow *f = *at;
        if (is_used(&f->side[CLIENT]) || is_used(&f->side[SERVER])) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        f->next = w->free;
        w->free = f;
    }
}

void side_todo(struct worker *w, struct side *s)
{
    if (s->is_todo || s->fd < 0)
        return;
    s->is_todo = true;
    s->next = NULL;
    *w->todo_last = s;
    w->todo_last = &s->next;
}

static void forget_out(struct side *s)
{
    free(s->out);
    s->out = NULL;
    s->out_at = s->out_len = s->out_size = 0;
}

static void tell(struct worker *w, struct side *s, int why)
{
    struct loss *loss = &w->losses[w->loss_count++];
    loss->handle = flow_handle(w, s->flow);
    loss->which = s->which;
    loss->why = why;
    if (w->loss_count == 1) {
        uint64_t one = 1;
        ssize_t written = write(w->news, &one, sizeof one);
        (void)written; /* it fails only where it is readable already */
    }
}

void side_lose(struct worker *w, struct side *s, int why)
{
    struct side *peer = side_other(s);
    w->carrier->forget(w, s);
    close(s->fd);
    forget_out(s);
    tell(w, s, why);
    s->fd = -1;
    if (peer->fd < 0) {
        w->flow_count--;
        s->flow->next = w->over;
        w->over = s->flow;
        return;
    }
    if (s->which == CLIENT || peer->eof)
        peer->leaves = true;
    else
        peer->ends = true;
    side_todo(w, peer);
}

bool side_owe(struct side *s, const char *data, size_t n)
{
    if (s->out_at + s->out_len + n > s->out_size) {
        size_t size = s->out_len + n;
        char *fresh = malloc(size);
        if (!fresh)
            return false;
        if (s->out_len)
            memcpy(fresh, s->out + s->out_at, s->out_len);
        free(s->out);
        s->out = fresh;
        s->out_at = 0;
        s->out_size = (uint32_t)size;
    }
    memcpy(s->out + s->out_at + s->out_len, data, n);
    s->out_len += (uint32_t)n;
    return true;
}

/* It takes nothing more. A server may have said why before it went: that is read to its end. */
void side_broken(struct worker *w, struct side *s, int why)
{
    if (s->which == CLIENT) {
        side_lose(w, s, why);
        return;
    }
    forget_out(s);
    s->deaf = s->readable = s->hung = true;
    side_todo(w, s);
}

/* How many bytes it took; -1: it is broken, and perhaps lost. */
static ssize_t send_some(struct worker *w, struct side *s, const char *data, size_t n)
{
    for (;;) {
        ssize_t sent = send(s->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0)
            return sent;
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR) {
            side_broken(w, s, errno);
            return -1;
        }
    }
}

static void flush(struct worker *w, struct side *s)
{
    if (!s->out_len || s->lent_count)
        return;
    ssize_t sent = send_some(w, s, s->out + s->out_at, s->out_len);
    if (sent < 0)
        return;
    s->out_at += (uint32_t)sent;
    s->out_len -= (uint32_t)sent;
    bool blocked = s->out_len > 0;
    if (blocked != s->blocked && !side_watch(w, s, blocked)) {
        side_lose(w, s, errno);
        return;
    }
    if (!blocked) {
        forget_out(s);
        side_todo(w, side_other(s));
    }
}

void side_note(struct worker *w, struct side *s, const char *data, size_t n)
{
    struct flow *f = s->flow;
    f->bytes[s->which] += n;
    w->totals[s->which] += n;
    f->client_spoke_last = s->which == CLIENT;
    if (s->which == CLIENT)
        return;
    if (n >= TAIL_BYTES) {
        memcpy(f->tail, data + n - TAIL_BYTES, TAIL_BYTES);
        f->tail_len = TAIL_BYTES;
        return;
    }
    size_t keep = TAIL_BYTES - n < f->tail_len ? TAIL_BYTES - n : f->tail_len;
    memmove(f->tail, f->tail + f->tail_len - keep, keep);
    memcpy(f->tail + keep, data, n);
    f->tail_len = (uint8_t)(keep + n);
}

void side_pass(struct worker *w, struct side *s, const char *data, size_t n)
{
    struct side *peer = side_other(s);
    side_note(w, s, data, n);
    if (peer->deaf)
        return;
    if (peer->out_len || peer->lent_count) { /* behind what waits already */
        if (!side_owe(peer, data, n))
            side_lose(w, peer, ENOMEM);
        side_todo(w, peer);
        return;
    }
    ssize_t sent = send_some(w, peer, data, n);
    if (sent < 0 || (size_t)sent == n)
        return;
    if (!side_owe(peer, data + sent, n - (size_t)sent) || !side_watch(w, peer, true))
        side_lose(w, peer, ENOMEM);
}

void side_ended(struct worker *w, struct side *s)
{
    struct side *peer = side_other(s);
    s->eof = true;
    s->readable = false;
    if (s->which == SERVER) {
        side_lose(w, s, 0); /* PostgreSQL never half-closes */
    } else if (peer->fd < 0) {
        s->leaves = true;
        side_todo(w, s);
    } else {
        peer->ends = true;
        side_todo(w, peer);
    }
}

void side_read(struct worker *w, struct side *s)
{
    struct side *peer = side_other(s);
    for (int reads = 0; reads < READS_IN_A_ROW; reads++) {
        bool is_dropped = peer->fd < 0;
        if (s->fd < 0 || !s->readable || (!is_dropped && (s->flow->halted || peer->out_len)))
            return;
        ssize_t n = recv(s->fd, w->buffer, RECV_BYTES, MSG_DONTWAIT);
        if (n == 0) {
            side_ended(w, s);
            return;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            s->readable = false;
            if (s->deaf)
                side_lose(w, s, EPIPE);
            return;
        }
        if (n < 0) {
            side_lose(w, s, errno);
            return;
        }
        if (n < RECV_BYTES && !s->hung)
            s->readable = false; /* it was all: the next byte is a change, and told */
        if (!is_dropped)
            side_pass(w, s, w->buffer, (size_t)n);
    }
    if (s->readable)
        side_todo(w, s);
}

void side_settle(struct worker *w, struct side *s)
{
    if (s->fd < 0)
        return;
    if (s->drops || (!s->watched && !side_watch(w, s, false))) {
        side_lose(w, s, s->drops ? 0 : errno);
        return;
    }
    flush(w, s);
    if (s->fd >= 0 && !s->out_len && !s->lent_count) {
        if (s->leaves) {
            side_lose(w, s, 0);
            return;
        }
        if (s->ends && !s->ended) {
            s->ended = true;
            shutdown(s->fd, SHUT_WR); /* a peer that is gone is found by reading it */
        }
    }
    w->carrier->take(w, s);
}
