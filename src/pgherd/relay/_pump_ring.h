/* A ring: what is asked of the kernel and what came of it, through memory shared with it.

   Only where the system's headers know what is needed (HAS_URING): those of Linux 6.1 and later. */

#ifndef PGHERD_PUMP_RING_H
#define PGHERD_PUMP_RING_H

#if defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#endif
#endif

#if defined(IORING_SETUP_DEFER_TASKRUN) && defined(IORING_RECV_MULTISHOT)
#define HAS_URING 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUESTS 512 /* that are collected before the kernel is told */
#define RESULTS 4096 /* that it can tell before it keeps the rest for itself */
#define BUFFERS 128  /* of a thread; a power of two */
#define BUFFER_BYTES 4096

struct ring {
    int fd;
    unsigned *sq_head, *sq_tail, sq_mask, tail;
    unsigned *cq_head, *cq_tail, cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    void *rings;
    size_t rings_bytes, sqes_bytes;
    struct io_uring_buf_ring *offers;
    uint16_t offered;
    char *buffers;
    uint16_t next[BUFFERS]; /* of those that are sent to the same socket */
    uint32_t filled[BUFFERS];
};

int ring_open(struct ring *r);  /* 0, or an errno. It is nobody's yet */
int ring_begin(struct ring *r); /* 0, or an errno: from now on it is this thread's alone */
void ring_close(struct ring *r);

struct io_uring_sqe *ring_ask(struct ring *r); /* a request to fill in; the kernel is told later */
void ring_tell(struct ring *r, bool waits);    /* tell it all, and wait for one result at least */
unsigned ring_room(const struct ring *r);      /* for requests before the kernel is to be told */

char *ring_buffer(const struct ring *r, unsigned id);
void ring_offer(struct ring *r, unsigned id); /* give a buffer to the kernel */

#endif
#endif
