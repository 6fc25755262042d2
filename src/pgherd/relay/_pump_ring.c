/* The kernel's interface of io_uring, by system calls: one ring with buffers that it picks from.

   Owns shared memory and its order. Needs Linux 6.1: SINGLE_ISSUER and DEFER_TASKRUN, by which a
   ring's work is done when its thread asks for results and at no other time. What a kernel or a
   sandbox refuses is refused by `ring_open`. */

#define _GNU_SOURCE
#include "_pump_ring.h"

#ifdef HAS_URING

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const struct timespec MOMENT = {.tv_nsec = 1000000};

static void *shared(size_t size, int fd, uint64_t what)
{
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, (off_t)what);
    return at == MAP_FAILED ? NULL : at;
}

static int ring_register(struct ring *r, unsigned what, const void *argument, unsigned count)
{
    return syscall(__NR_io_uring_register, r->fd, what, argument, count) < 0 ? errno : 0;
}

static int map_rings(struct ring *r, const struct io_uring_params *p)
{
    size_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned);
    size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    r->rings_bytes = sq > cq ? sq : cq;
    r->sqes_bytes = p->sq_entries * sizeof(struct io_uring_sqe);
    r->rings = shared(r->rings_bytes, r->fd, IORING_OFF_SQ_RING);
    r->sqes = shared(r->sqes_bytes, r->fd, IORING_OFF_SQES);
    if (!r->rings || !r->sqes)
        return errno;
    char *at = r->rings;
    r->sq_head = (unsigned *)(at + p->sq_off.head);
    r->sq_tail = (unsigned *)(at + p->sq_off.tail);
    r->sq_mask = p->sq_entries - 1;
    r->cq_head = (unsigned *)(at + p->cq_off.head);
    r->cq_tail = (unsigned *)(at + p->cq_off.tail);
    r->cq_mask = p->cq_entries - 1;
    r->cqes = (struct io_uring_cqe *)(at + p->cq_off.cqes);
    unsigned *order = (unsigned *)(at + p->sq_off.array);
    for (unsigned i = 0; i < p->sq_entries; i++)
        order[i] = i;
    return 0;
}

static int offer_all(struct ring *r)
{
    r->offers = shared(BUFFERS * sizeof(struct io_uring_buf), -1, 0);
    r->buffers = shared((size_t)BUFFERS * BUFFER_BYTES, -1, 0);
    if (!r->offers || !r->buffers)
        return errno;
    struct io_uring_buf_reg offer = {
        .ring_addr = (uint64_t)(uintptr_t)r->offers,
        .ring_entries = BUFFERS,
    };
    int error = ring_register(r, IORING_REGISTER_PBUF_RING, &offer, 1);
    for (unsigned id = 0; !error && id < BUFFERS; id++)
        ring_offer(r, id);
    return error;
}

int ring_open(struct ring *r)
{
    struct io_uring_params p = {
        .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL
            | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = RESULTS,
    };
    r->fd = (int)syscall(__NR_io_uring_setup, REQUESTS, &p);
    if (r->fd < 0)
        return errno;
    if (!(p.features & IORING_FEAT_SINGLE_MMAP) || !(p.features & IORING_FEAT_NODROP)
        || !(p.features & IORING_FEAT_CQE_SKIP))
        return ENOSYS;
    int error = map_rings(r, &p);
    return error ? error : offer_all(r);
}

int ring_begin(struct ring *r) { return ring_register(r, IORING_REGISTER_ENABLE_RINGS, NULL, 0); }

void ring_close(struct ring *r)
{
    if (r->fd >= 0)
        close(r->fd);
    if (r->rings)
        munmap(r->rings, r->rings_bytes);
    if (r->sqes)
        munmap(r->sqes, r->sqes_bytes);
    if (r->offers)
        munmap(r->offers, BUFFERS * sizeof(struct io_uring_buf));
    if (r->buffers)
        munmap(r->buffers, (size_t)BUFFERS * BUFFER_BYTES);
}

unsigned ring_room(const struct ring *r)
{
    unsigned told = atomic_load_explicit((_Atomic unsigned *)r->sq_head, memory_order_acquire);
    return r->sq_mask + 1 - (r->tail - told);
}

struct io_uring_sqe *ring_ask(struct ring *r)
{
    if (!ring_room(r))
        ring_tell(r, false);
    struct io_uring_sqe *asked = &r->sqes[r->tail++ & r->sq_mask];
    memset(asked, 0, sizeof *asked);
    return asked;
}

/* What is asked is taken as a whole: where the kernel has no memory for the moment it is asked again.
   Any other refusal means that nobody knows what was sent, and a new process is the only way on. */
void ring_tell(struct ring *r, bool waits)
{
    atomic_store_explicit((_Atomic uint16_t *)&r->offers->tail, r->offered, memory_order_release);
    atomic_store_explicit((_Atomic unsigned *)r->sq_tail, r->tail, memory_order_release);
    for (;;) {
        unsigned count = r->sq_mask + 1 - ring_room(r);
        long done = syscall(__NR_io_uring_enter, r->fd, count, waits ? 1 : 0,
                            IORING_ENTER_GETEVENTS, NULL, 0);
        if (done >= (long)count || (done < 0 && errno == EINTR && !count))
            return;
        if (done >= 0 || errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EBUSY && errno != ENOMEM) {
            perror("pgherd: io_uring_enter");
            abort();
        }
        if (!count)
            return;
        nanosleep(&MOMENT, NULL);
    }
}

char *ring_buffer(const struct ring *r, unsigned id) { return r->buffers + id * BUFFER_BYTES; }

void ring_offer(struct ring *r, unsigned id)
{
    struct io_uring_buf *offer = &r->offers->bufs[r->offered++ & (BUFFERS - 1)];
    offer->addr = (uint64_t)(uintptr_t)ring_buffer(r, id);
    offer->len = BUFFER_BYTES;
    offer->bid = (uint16_t)id;
}

#endif
