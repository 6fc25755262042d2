/* The values that the parts of `_pump` share: what a flow is, and what may be done with it.

   Theory of operation: see _pump_flow.c. A flow is two sockets between which bytes pass; a worker is
   a thread that carries flows; a carrier is the way in which it waits for them (_pump_epoll.c,
   _pump_uring.c). Everything of a worker is guarded by its lock, which its thread holds except while
   it waits. No Python object is touched by these threads. */

#ifndef PGHERD_PUMP_H
#define PGHERD_PUMP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECV_BYTES (128 * 1024) /* one read; what a blocked direction can hold, besides our own words */
#define READS_IN_A_ROW 4        /* of one socket, before it is the turn of another */
#define TAIL_BYTES 6 /* a ReadyForQuery message */
#define CHUNK 256    /* flows that are allocated at once */
#define FLOWS_MAX (1u << 24)

enum { CLIENT = 0, SERVER = 1 };

struct flow;
struct held;
struct worker;

struct side {
    struct flow *flow;
    struct side *next; /* on the list of what has something to do */
    char *out;         /* what it has not taken yet; only while there is any */
    uint32_t out_at, out_len, out_size;
    int fd; /* -1: lost */
    uint8_t which;
    bool is_todo;
    bool readable; /* there may be bytes: epoll tells of changes only */
    bool hung;     /* its end is among what is to be read */
    bool eof;      /* it says nothing more */
    bool deaf;     /* it takes nothing more; what it said before is still read */
    bool ends;     /* is told that nothing more comes, once `out` is empty */
    bool ended;
    bool leaves; /* is closed once `out` is empty */
    bool drops;  /* is closed at once */
    bool blocked;
    bool watched;
    bool receives; /* the kernel has a request of it */
    bool stopping; /* which is being cancelled */
    uint16_t streak; /* buffers in a row that were full: a stream of bulk */
    uint16_t lent_count, lent_first, lent_last; /* buffers that are sent to it in the next round */
    struct held *held; /* what it said while its flow was halted */
};

struct flow {
    struct side side[2];
    struct flow *next; /* on the list of those that are over, or free */
    uint32_t slot, generation;
    uint64_t bytes[2]; /* said by each side */
    char tail[TAIL_BYTES];
    uint8_t tail_len;
    bool client_spoke_last;
    bool halted; /* nothing passes */
};

struct loss {
    uint64_t handle;
    int which, why;
};

/* How a worker waits and reads. changes: of epoll, that a watched socket is watched for. */
struct carrier {
    uint32_t changes;
    int (*open)(struct worker *w);  /* 0, or an errno */
    int (*begin)(struct worker *w); /* in the worker's thread: 0, or an errno */
    void (*round)(struct worker *w); /* lets the lock go, waits, and settles what changed */
    void (*forget)(struct worker *w, struct side *s); /* before its descriptor is closed */
    void (*take)(struct worker *w, struct side *s);   /* read it, or see to it that it is read */
    void (*close)(struct worker *w);
};

extern const struct carrier epoll_carrier, uring_carrier;

struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t passed; /* nobody wants the lock any more */
    atomic_int wanted;     /* threads of Python that want it: the worker lets them go first */
    atomic_bool stops;
    bool runs;
    unsigned number;
    int wake, news; /* news: readable when there are losses; shared by all workers */
    const struct carrier *carrier;
    int epoll;
    struct ring *ring;
    char *buffer;
    struct side *todo, **todo_last;
    struct flow **chunks, *free, *over;
    uint32_t chunk_count, flow_count;
    struct loss *losses;
    size_t loss_count, loss_size;
    uint64_t totals[2];
};

struct worker *worker_start(unsigned number, int news, const struct carrier *by); /* NULL: errno */
void worker_stop(struct worker *w);

void worker_lock(struct worker *w); /* from a thread that is not the worker's */
void worker_unlock(struct worker *w);
void worker_wake(struct worker *w);

/* All below: with the lock held. */
struct flow *flow_add(struct worker *w, int client, int server); /* NULL: no memory */
struct flow *flow_find(struct worker *w, uint64_t handle);       /* NULL: it is over */
uint64_t flow_handle(const struct worker *w, const struct flow *f);
void side_todo(struct worker *w, struct side *s);
bool losses_reserve(struct worker *w);                     /* false: no memory */
bool side_owe(struct side *s, const char *data, size_t n); /* false: no memory */

/* For the worker's thread alone. */
struct side *side_other(struct side *s);
void side_settle(struct worker *w, struct side *s);
void side_note(struct worker *w, struct side *s, const char *data, size_t n);
void side_pass(struct worker *w, struct side *s, const char *data, size_t n);
void side_read(struct worker *w, struct side *s);
void side_ended(struct worker *w, struct side *s);
void side_broken(struct worker *w, struct side *s, int why);
void side_lose(struct worker *w, struct side *s, int why);
void flows_bury(struct worker *w);
bool side_watch(struct worker *w, struct side *s, bool for_space); /* false: errno says why */
void side_unwatch(struct worker *w, struct side *s);
int changes_open(struct worker *w); /* 0, or an errno */
void changes_settle(struct worker *w); /* those that there are, without waiting */
void changes_close(struct worker *w);
void worker_let_in(struct worker *w); /* whoever wants the lock: to be called between two rounds */

#endif
