/* The values that the parts of `_shuttle` share: clients, servers and pools of `pool: transaction`.

   Theory of operation: see _shuttle_talk.c. One thread carries all of it. Everything below is
   guarded by the shuttle's lock, which its thread holds except while it waits. No Python object is
   touched by that thread, and no descriptor is ever closed by it: sockets are Python's, and are lent
   with the client or server that they belong to. */

#ifndef PGHERD_SHUTTLE_H
#define PGHERD_SHUTTLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READ_BYTES (64 * 1024)  /* one read of a socket */
#define PART_BYTES (8 * 1024)   /* what is held back of a message that is not whole */
#define CYCLE_BYTES (64 * 1024) /* a longer cycle is Python's */
#define HEADER 5
#define LOOKED_BYTES 4096 /* of an error's or a tag's body, as Python's tracker has it */
#define CLASSES_MAX 24
#define CHOICES_MAX 8 /* pools that one client may have servers of */
#define WAIT_MS 250 /* who waits for longer waits in Python's queue */

enum what { WAKE, CLIENT, SERVER };
enum state {
    RESTING, /* has no server, and nothing whole to say */
    ASKING,  /* Python is asked what its statements are */
    WAITING, /* for a server */
    RUNNING, /* a cycle is under way */
    OPEN     /* has its server, within a transaction, and it is the client's turn */
};
enum why { WHY_ASKED, WHY_STRANGE, WHY_GONE, WHY_NEWS, WHY_LATE, WHY_UNFIT };

struct buffer {
    char *data;
    uint32_t at, len, size;
};

struct conn {
    enum what what;
    int fd;
    bool is_over; /* freed when the round is */
    bool reads, writes; /* what it is watched for */
    struct conn *next_over;
};

struct named {
    const char *name;
    const char *other; /* what servers call it */
    uint32_t name_len, other_len, statement;
    int64_t moment;
};

struct shelved {
    uint32_t statement; /* 0: an empty place */
    int64_t moment;
};

struct server;
struct pool;

struct client {
    struct conn conn;
    uint64_t id;
    struct pool *pool; /* whose server it has, or waits for */
    struct pool *choices[CHOICES_MAX];
    unsigned choice_count, turn;
    struct server *server;
    struct client *before, *after; /* of those that wait */
    struct client *next_alike;     /* in the table of ids */
    enum state state;
    uint32_t settings;
    uint32_t domain; /* of its statements; not 0: an error that comes first is for Python */
    bool is_taken;   /* something of the answer has passed, or may */
    uint8_t status; /* of the transaction, before the cycle under way */
    bool has_unnamed, unnamed_is_said, unnamed_is_other, has_failed, is_simple, stirred;
    uint32_t unnamed_at, unnamed_len;
    uint32_t parses, confirmed;
    int64_t since_ms;
    uint32_t simple, extended; /* cycles answered */
    struct buffer kept, said, unnamed, out, heard;
    struct named *names; /* open addressing; name_mask + 1 places */
    uint32_t name_mask;
    char *name_bytes;
};

struct server {
    struct conn conn;
    uint64_t id;
    struct pool *pool;
    struct client *client;
    struct server *below;      /* on the stack of idle ones */
    struct server *next_alike; /* in the table of ids */
    uint32_t settings;
    bool is_idle, returns;
    int64_t idle_since_ms;
    uint32_t left; /* of a message that passes */
    struct buffer part, out;
    struct shelved *shelf;
    uint32_t shelf_mask;
};

struct pool {
    uint32_t id;
    struct server *idle;
    struct client *first, *last; /* that wait */
    uint32_t clients, servers, idle_count, waiting, owed;
    bool has_asked;
    uint64_t lent, waited, waited_ms, tried;
    uint64_t classes[CLASSES_MAX + 1];
    struct pool *next;
};

enum news { NEWS_CLIENT, NEWS_SERVER, NEWS_WANT, NEWS_ASK };

/* One thing that Python has to know. A client or server in it is no more the shuttle's. */
struct item {
    enum news kind;
    enum why why;
    uint64_t client, server;
    uint32_t pool;
    uint8_t status;
    bool is_running, is_tried, has_unnamed, unnamed_is_other;
    uint32_t left, simple, extended;
    int64_t waited_ms;
    struct buffer kept, said, heard, unnamed, rest, client_out, server_out;
    struct item *next;
};

struct verdict {
    uint64_t one, two; /* both 0: an empty place */
    bool is_plain;
};

struct texts {
    uint64_t key[2];
    struct verdict *table;
    uint32_t count;
};

#define IDS 1024

struct shuttle {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t passed; /* somebody from outside has had the lock */
    atomic_int wanted;
    atomic_bool stops;
    bool runs;
    int wake, news, epoll;
    char *buffer;   /* PART_BYTES + READ_BYTES */
    struct buffer scratch;
    struct client *clients[IDS];
    struct server *servers[IDS];
    struct pool *pools;
    uint32_t pool_number, waiting;
    struct item *first, **last;
    struct conn *over;
    struct texts texts;
    int64_t classes_ms[CLASSES_MAX];
    int class_count;
    uint64_t from_clients, from_servers;
};

/* A number of the protocol, which has the highest byte first. */
static inline uint32_t number_at(const char *data)
{
    const uint8_t *d = (const uint8_t *)data;
    return (uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 | d[3];
}

/* _shuttle_buffer.c */
bool buffer_put(struct buffer *b, const char *data, size_t n); /* false: no memory */
void buffer_skip(struct buffer *b, uint32_t n);
void buffer_free(struct buffer *b);
struct buffer buffer_take(struct buffer *b);

/* _shuttle_text.c */
enum verdict_is { UNSEEN, PLAIN, OTHER };
bool texts_open(struct texts *t); /* false: no memory or no entropy */
void texts_close(struct texts *t);
enum verdict_is texts_look(const struct texts *t, uint32_t domain, const char *text, size_t n);
void texts_learn(struct texts *t, uint32_t domain, const char *text, size_t n, bool is_plain);

/* _shuttle_cycle.c */
enum found { MORE, CYCLE, UNKNOWN, STRANGE };
struct cycle {
    uint32_t length, unnamed_at, unnamed_len, parses;
    bool is_simple, has_names;
};
enum found cycle_look(const struct shuttle *h, const struct client *c, const char *data, size_t n,
                      struct cycle *found);
/* Whether the server has all statements that the cycle names. */
bool cycle_fits(const struct client *c, const struct server *s, const char *data, uint32_t n);
/* The cycle with the names that servers know, into `scratch`; false: no memory. */
bool cycle_rename(struct shuttle *h, const struct client *c, const char *data, uint32_t n);
uint32_t hash_bytes(const char *data, size_t n);

/* _shuttle_place.c: with the lock held */
struct client *client_find(struct shuttle *h, uint64_t id);
struct server *server_find(struct shuttle *h, uint64_t id);
struct pool *pool_find(struct shuttle *h, uint32_t id);
void queue_add(struct shuttle *h, struct client *c);
void queue_remove(struct shuttle *h, struct client *c);
void idle_add(struct server *s);
void idle_remove(struct server *s);
struct pool *pool_for(struct client *c, struct pool **wanted);
struct server *idle_for(const struct client *c);
void want(struct shuttle *h, struct pool *p);
void ask(struct shuttle *h, struct client *c, const char *data, uint32_t n);
void server_back(struct shuttle *h, struct server *s, enum why why, const char *rest, size_t n);
void hand_over(struct shuttle *h, struct client *c, enum why why, const char *rest, size_t n);
void client_over(struct shuttle *h, struct client *c, enum why why);
void server_over(struct shuttle *h, struct server *s, enum why why);
int64_t now_ms(void);

/* _shuttle_talk.c: with the lock held */
void client_ready(struct shuttle *h, struct client *c);
void client_writable(struct shuttle *h, struct client *c);
void client_readable(struct shuttle *h, struct client *c);
void server_readable(struct shuttle *h, struct server *s);
void server_writable(struct shuttle *h, struct server *s);
void server_free(struct shuttle *h, struct server *s); /* it has nothing to do */
void client_go_on(struct shuttle *h, struct client *c);
void waits_end(struct shuttle *h);

/* _shuttle_worker.c */
void tell(struct shuttle *h, struct item *one);
struct shuttle *shuttle_start(void); /* NULL: errno */
void shuttle_stop(struct shuttle *h);
void shuttle_lock(struct shuttle *h); /* from a thread that is not the shuttle's */
void shuttle_unlock(struct shuttle *h);
void shuttle_wake(struct shuttle *h);
bool conn_watch(struct shuttle *h, struct conn *c, bool reads, bool writes);
void conn_over(struct shuttle *h, struct conn *c); /* no more events; freed when the round is over */
void conns_bury(struct shuttle *h);
void item_free(struct item *one);

#endif
