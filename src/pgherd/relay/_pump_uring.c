/* Carried by io_uring: one system call sends, reads and waits, for all flows of a worker.

   Theory of operation. Each socket has one request that goes on receiving (multishot) into buffers
   that the kernel picks. What came is lent to the other socket: at the end of the round one request
   sends it, which is done, or has failed, when the kernel returns. So buffers are given back with
   every round, whoever reads slowly. What a socket did not take is copied, as with epoll, and its
   sender's request is cancelled: it may receive what two rounds bring, and no more. A stream of full
   buffers is read by `side_read` instead, in larger pieces, until it pauses.

   What is rare is waited for by epoll, of which the ring tells: space for those who do not read,
   wakes, and who hangs up. That a receiving request ends with the stream is not relied on: where an
   end follows data at once, kernels (6.18 is one) may go on waiting for what never comes.

   A request holds its socket open. So a socket that is lost has its request cancelled first thing,
   and its flow is not used again before that is over. */

#define _GNU_SOURCE
#include "_pump.h"
#include "_pump_ring.h"

#include <errno.h>
#include <sys/epoll.h>

#ifdef HAS_URING

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define STREAK_MAX 16

/* What a request is for, in the low bits of its word; the rest is the side. */
enum { CHANGES = 0, RECEIVE = 1, SEND = 2, CANCEL = 3, KINDS = 3 };

struct uring {
    struct ring ring;
    struct side *lent[BUFFERS]; /* whom something is sent to in the next round */
    unsigned lent_count;
    struct iovec parts[BUFFERS];
    struct msghdr messages[BUFFERS];
};

static struct uring *of(struct worker *w) { return (struct uring *)w->ring; }

static uint64_t word(struct side *s, unsigned kind) { return (uint64_t)(uintptr_t)s | kind; }

static int open_uring(struct worker *w)
{
    struct uring *u = calloc(1, sizeof *u);
    if (!u)
        return ENOMEM;
    u->ring.fd = -1;
    w->ring = &u->ring;
    int error = changes_open(w);
    return error ? error : ring_open(&u->ring);
}

static void await_changes(struct worker *w)
{
    struct io_uring_sqe *asked = ring_ask(w->ring);
    asked->opcode = IORING_OP_POLL_ADD;
    asked->fd = w->epoll;
    asked->poll32_events = POLLIN;
    asked->len = IORING_POLL_ADD_MULTI;
    asked->user_data = CHANGES;
}

static int begin(struct worker *w)
{
    int error = ring_begin(w->ring);
    if (!error)
        await_changes(w);
    return error;
}

static void stop_receiving(struct worker *w, struct side *s)
{
    if (!s->receives || s->stopping)
        return;
    struct io_uring_sqe *asked = ring_ask(w->ring);
    asked->opcode = IORING_OP_ASYNC_CANCEL;
    asked->fd = -1;
    asked->addr = word(s, RECEIVE);
    asked->flags = IOSQE_CQE_SKIP_SUCCESS;
    asked->user_data = word(s, CANCEL);
    s->stopping = true;
}

static void receive(struct worker *w, struct side *s)
{
    struct io_uring_sqe *asked = ring_ask(w->ring);
    asked->opcode = IORING_OP_RECV;
    asked->fd = s->fd;
    asked->ioprio = IORING_RECV_MULTISHOT | IORING_RECVSEND_POLL_FIRST;
    asked->flags = IOSQE_BUFFER_SELECT;
    asked->user_data = word(s, RECEIVE);
    s->receives = true;
    s->stopping = false;
    s->streak = 0;
}

static void take_back(struct worker *w, struct side *s)
{
    for (; s->lent_count; s->lent_count--) {
        ring_offer(w->ring, s->lent_first);
        s->lent_first = w->ring->next[s->lent_first];
    }
}

static void forget(struct worker *w, struct side *s)
{
    stop_receiving(w, s);
    side_unwatch(w, s);
    take_back(w, s);
    free(s->held);
    s->held = NULL;
}

static void lend(struct worker *w, struct side *to, unsigned id, uint32_t n)
{
    struct uring *u = of(w);
    u->ring.filled[id] = n;
    if (!to->lent_count) {
        u->lent[u->lent_count++] = to;
        to->lent_first = (uint16_t)id;
    } else {
        u->ring.next[to->lent_last] = (uint16_t)id;
    }
    to->lent_last = (uint16_t)id;
    to->lent_count++;
}

struct held {
    uint32_t size;
    char data[];
};

static void hold(struct worker *w, struct side *s, const char *data, uint32_t n)
{
    uint32_t size = s->held ? s->held->size : 0;
    struct held *held = realloc(s->held, sizeof *held + size + n);
    if (!held) {
        side_lose(w, s, ENOMEM);
        return;
    }
    memcpy(held->data + size, data, n);
    held->size = size + n;
    s->held = held;
}

static bool may_read(struct side *s)
{
    const struct side *peer = side_other(s);
    return peer->fd < 0 || (!s->flow->halted && !peer->out_len);
}

static void pass_held(struct worker *w, struct side *s)
{
    struct held *held = s->held;
    s->held = NULL;
    if (side_other(s)->fd >= 0)
        side_pass(w, s, held->data, held->size);
    free(held);
}

static void take(struct worker *w, struct side *s)
{
    if (s->fd < 0)
        return;
    if (s->receives) {
        if (!may_read(s) || s->readable)
            stop_receiving(w, s);
        return;
    }
    if (s->held && may_read(s))
        pass_held(w, s);
    if (side_other(s)->lent_count)
        side_todo(w, s); /* first things first */
    else
        side_read(w, s);
    if (s->fd >= 0 && !s->readable && !s->eof && may_read(s))
        receive(w, s);
}

static void came(struct worker *w, struct side *s, unsigned id, uint32_t n)
{
    struct side *peer = side_other(s);
    char *data = ring_buffer(w->ring, id);
    bool is_wanted = s->fd >= 0 && peer->fd >= 0;
    if (is_wanted && !s->flow->halted && !s->held && !peer->out_len && !peer->deaf) {
        side_note(w, s, data, n);
        lend(w, peer, id, n);
        s->streak = n == BUFFER_BYTES ? s->streak + 1 : 0;
        if (s->streak > STREAK_MAX) {
            s->readable = true;
            stop_receiving(w, s);
        }
        return;
    }
    if (is_wanted && (s->flow->halted || s->held))
        hold(w, s, data, n);
    else if (is_wanted)
        side_pass(w, s, data, n);
    if (is_wanted)
        stop_receiving(w, s);
    ring_offer(w->ring, id);
}

static void received(struct worker *w, struct side *s, const struct io_uring_cqe *result)
{
    unsigned id = result->flags >> IORING_CQE_BUFFER_SHIFT;
    bool goes_on = result->flags & IORING_CQE_F_MORE;
    int n = result->res;
    if (!goes_on)
        s->receives = s->stopping = false;
    if (n > 0)
        came(w, s, id, (uint32_t)n);
    else if (result->flags & IORING_CQE_F_BUFFER)
        ring_offer(w->ring, id);
    if (goes_on || s->fd < 0)
        return;
    if (n == 0)
        s->readable = true; /* the end: it is read again */
    else if (n < 0 && n != -ENOBUFS && n != -ECANCELED && n != -EINTR && n != -EAGAIN)
        side_lose(w, s, -n);
    side_todo(w, s);
}

/* What it was lent and did not take is the first of what it is owed. */
static void left_over(struct worker *w, struct side *s, size_t taken)
{
    char *later = s->out;
    uint32_t later_at = s->out_at, later_len = s->out_len;
    s->out = NULL;
    s->out_at = s->out_len = s->out_size = 0;
    bool is_kept = true;
    unsigned id = s->lent_first;
    for (unsigned i = 0; is_kept && i < s->lent_count; i++, id = w->ring->next[id]) {
        size_t n = w->ring->filled[id], skip = taken < n ? taken : n;
        taken -= skip;
        if (skip < n)
            is_kept = side_owe(s, ring_buffer(w->ring, id) + skip, n - skip);
    }
    if (is_kept && later_len)
        is_kept = side_owe(s, later + later_at, later_len);
    free(later);
    if (!is_kept || !side_watch(w, s, true))
        side_lose(w, s, ENOMEM);
}

static void unsent(struct worker *w, struct side *s, int result)
{
    if (s->fd < 0 || !s->lent_count)
        return;
    if (result >= 0 || result == -EAGAIN || result == -EINTR) {
        left_over(w, s, result > 0 ? (size_t)result : 0);
    } else {
        side_broken(w, s, -result);
    }
}

static void send_lent(struct worker *w)
{
    struct uring *u = of(w);
    if (ring_room(&u->ring) < u->lent_count)
        ring_tell(&u->ring, false);
    unsigned part = 0;
    for (unsigned i = 0; i < u->lent_count; i++) {
        struct side *s = u->lent[i];
        if (!s->lent_count)
            continue; /* lost since */
        struct iovec *parts = &u->parts[part];
        unsigned id = s->lent_first;
        for (unsigned j = 0; j < s->lent_count; j++, id = u->ring.next[id])
            u->parts[part++] = (struct iovec){ring_buffer(&u->ring, id), u->ring.filled[id]};
        struct io_uring_sqe *asked = ring_ask(&u->ring);
        asked->fd = s->fd;
        asked->flags = IOSQE_CQE_SKIP_SUCCESS;
        asked->msg_flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;
        asked->user_data = word(s, SEND);
        if (s->lent_count == 1) {
            asked->opcode = IORING_OP_SEND;
            asked->addr = (uint64_t)(uintptr_t)parts->iov_base;
            asked->len = (uint32_t)parts->iov_len;
        } else {
            u->messages[i] = (struct msghdr){.msg_iov = parts, .msg_iovlen = s->lent_count};
            asked->opcode = IORING_OP_SENDMSG;
            asked->addr = (uint64_t)(uintptr_t)&u->messages[i];
            asked->len = 1;
        }
    }
}

static void settle_results(struct worker *w, unsigned head, unsigned tail, bool of_sends)
{
    struct ring *r = w->ring;
    for (; head != tail; head++) {
        const struct io_uring_cqe *result = &r->cqes[head & r->cq_mask];
        unsigned kind = result->user_data & KINDS;
        struct side *s = (struct side *)(uintptr_t)(result->user_data & ~(uint64_t)KINDS);
        if ((kind == SEND) != of_sends)
            continue;
        if (kind == CHANGES) {
            if (!(result->flags & IORING_CQE_F_MORE))
                await_changes(w);
            changes_settle(w);
        } else if (kind == SEND) {
            unsent(w, s, result->res);
        } else if (kind == RECEIVE) {
            received(w, s, result);
        } else {
            s->stopping = false; /* it was too late, or is to be tried again */
        }
    }
}

static void end_sends(struct worker *w)
{
    struct uring *u = of(w);
    for (unsigned i = 0; i < u->lent_count; i++) {
        struct side *s = u->lent[i];
        take_back(w, s);
        if (s->out_len || s->leaves || s->ends || s->drops)
            side_todo(w, s);
    }
    u->lent_count = 0;
}

static void round_of_uring(struct worker *w)
{
    struct ring *r = w->ring;
    bool waits = !w->todo;
    send_lent(w);
    pthread_mutex_unlock(&w->lock);
    ring_tell(r, waits);
    pthread_mutex_lock(&w->lock);
    worker_let_in(w);
    unsigned head = *r->cq_head;
    unsigned tail = atomic_load_explicit((_Atomic unsigned *)r->cq_tail, memory_order_acquire);
    settle_results(w, head, tail, true);
    end_sends(w);
    settle_results(w, head, tail, false);
    atomic_store_explicit((_Atomic unsigned *)r->cq_head, tail, memory_order_release);
}

static void close_uring(struct worker *w)
{
    changes_close(w);
    if (!w->ring)
        return;
    ring_close(w->ring);
    free(of(w));
}

#else

static int open_uring(struct worker *w)
{
    (void)w;
    return ENOSYS;
}

static void close_uring(struct worker *w) { (void)w; }

#endif

const struct carrier uring_carrier = {
    .changes = EPOLLRDHUP,
    .open = open_uring,
    .close = close_uring,
#ifdef HAS_URING
    .begin = begin,
    .round = round_of_uring,
    .forget = forget,
    .take = take,
#endif
};
