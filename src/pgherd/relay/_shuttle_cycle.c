/* What a client says up to the end of a cycle: one Query, or a batch up to its Sync.

   Owns the client's half of the protocol as far as the shuttle takes it (PostgreSQL docs, "Message
   Formats"): plain statements, Parse without a name, Bind, Describe and Execute of what is known. All
   else is strange, and Python's. Names of statements are exchanged for those that servers know. */

#include "_shuttle.h"

#include <string.h>

struct message {
    char kind;
    const char *body;
    uint32_t len; /* of the body */
    const char *name;
    uint32_t name_len;
    bool has_name;
};

uint32_t hash_bytes(const char *data, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)data[i]) * 16777619u;
    return h ^ h >> 15;
}

static void number_to(char *data, uint32_t n)
{
    data[0] = (char)(n >> 24);
    data[1] = (char)(n >> 16);
    data[2] = (char)(n >> 8);
    data[3] = (char)n;
}

static const struct named *named_find(const struct client *c, const char *name, uint32_t n)
{
    if (!c->names)
        return NULL;
    for (uint32_t at = hash_bytes(name, n);; at++) {
        const struct named *one = &c->names[at & c->name_mask];
        if (!one->name)
            return NULL;
        if (one->name_len == n && !memcmp(one->name, name, n))
            return one;
    }
}

static bool shelf_has(const struct server *s, const struct named *one)
{
    if (!s->shelf)
        return false;
    for (uint32_t at = one->statement * 2654435761u;; at++) {
        const struct shelved *there = &s->shelf[at & s->shelf_mask];
        if (!there->statement)
            return false;
        if (there->statement == one->statement)
            return there->moment >= one->moment;
    }
}

/* Where a message's name of a statement is; false: it has no end. */
static bool name_in(struct message *m)
{
    const char *from = m->body, *end = m->body + m->len;
    m->has_name = m->kind == 'P' || m->kind == 'B' || (m->kind == 'D' && m->len && *from == 'S');
    if (!m->has_name)
        return true;
    if (m->kind == 'D')
        from++;
    if (m->kind == 'B') {
        const char *zero = memchr(from, 0, (size_t)(end - from));
        if (!zero)
            return false;
        from = zero + 1;
    }
    const char *zero = memchr(from, 0, (size_t)(end - from));
    if (!zero)
        return false;
    m->name = from;
    m->name_len = (uint32_t)(zero - from);
    return true;
}

static enum found text_is(const struct shuttle *h, const struct client *c, const char *text,
                          size_t n)
{
    switch (texts_look(&h->texts, c->domain, text, n)) {
    case PLAIN:
        return CYCLE;
    case UNSEEN:
        return UNKNOWN;
    default:
        return STRANGE;
    }
}

static enum found simple_is(const struct shuttle *h, const struct client *c,
                            const struct message *m)
{
    const char *zero = memchr(m->body, 0, m->len);
    if (!zero || zero != m->body + m->len - 1)
        return STRANGE;
    return text_is(h, c, m->body, m->len - 1);
}

static enum found batched_is(const struct shuttle *h, const struct client *c,
                             const struct message *m, const char *data, struct cycle *found)
{
    const char *end = m->body + m->len, *text, *zero;
    switch (m->kind) {
    case 'P':
        text = m->name + 1;
        if (m->name_len || text >= end || !(zero = memchr(text, 0, (size_t)(end - text))))
            return STRANGE;
        found->parses++;
        found->unnamed_at = (uint32_t)(text - data);
        found->unnamed_len = (uint32_t)(end - text);
        return text_is(h, c, text, (size_t)(zero - text));
    case 'B':
    case 'D':
        if (!m->has_name)
            return CYCLE;
        if (!m->name_len)
            return found->parses ? CYCLE : STRANGE;
        found->has_names = true;
        return named_find(c, m->name, m->name_len) ? CYCLE : STRANGE;
    case 'E':
        return CYCLE;
    default:
        return STRANGE;
    }
}

static bool message_at(const char *data, size_t n, struct message *m)
{
    if (n < HEADER)
        return false;
    uint32_t length = number_at(data + 1);
    *m = (struct message){.kind = data[0], .body = data + HEADER};
    if (length < 4 || length > CYCLE_BYTES) {
        m->kind = 0; /* no message, or a long one */
        return true;
    }
    m->len = length - 4;
    return n >= 1 + (size_t)length;
}

enum found cycle_look(const struct shuttle *h, const struct client *c, const char *data, size_t n,
                      struct cycle *found)
{
    struct message m;
    bool is_unknown = false;
    uint32_t at = 0;
    *found = (struct cycle){0};
    while (message_at(data + at, n - at, &m)) {
        uint32_t after = (uint32_t)(m.body - data) + m.len;
        if (!m.kind || after > CYCLE_BYTES || !name_in(&m))
            return STRANGE;
        enum found one = CYCLE;
        if (m.kind == 'Q' && !at) {
            found->is_simple = true;
            found->length = after;
            return simple_is(h, c, &m);
        }
        if (m.kind == 'S') {
            found->length = after;
            return is_unknown ? UNKNOWN : CYCLE;
        }
        one = batched_is(h, c, &m, data, found);
        if (one == STRANGE)
            return STRANGE;
        is_unknown = is_unknown || one == UNKNOWN;
        at = after;
    }
    return n > CYCLE_BYTES ? STRANGE : MORE;
}

bool cycle_fits(const struct client *c, const struct server *s, const char *data, uint32_t n)
{
    struct message m;
    for (uint32_t at = 0; at < n; at = (uint32_t)(m.body - data) + m.len) {
        if (!message_at(data + at, n - at, &m) || !name_in(&m))
            return false;
        if (!m.has_name || !m.name_len)
            continue;
        const struct named *known = named_find(c, m.name, m.name_len);
        if (!known || !shelf_has(s, known))
            return false;
    }
    return true;
}

bool cycle_rename(struct shuttle *h, const struct client *c, const char *data, uint32_t n)
{
    struct message m;
    struct buffer *out = &h->scratch;
    out->at = out->len = 0;
    for (uint32_t at = 0; at < n;) {
        if (!message_at(data + at, n - at, &m) || !name_in(&m))
            return false;
        uint32_t after = (uint32_t)(m.body - data) + m.len;
        const struct named *known =
            m.has_name && m.name_len ? named_find(c, m.name, m.name_len) : NULL;
        if (!known) {
            if (!buffer_put(out, data + at, after - at))
                return false;
            at = after;
            continue;
        }
        char head[HEADER] = {m.kind};
        number_to(head + 1, 4 + m.len - m.name_len + known->other_len);
        const char *rest = m.name + m.name_len;
        if (!buffer_put(out, head, HEADER) ||
            !buffer_put(out, m.body, (size_t)(m.name - m.body)) ||
            !buffer_put(out, known->other, known->other_len) ||
            !buffer_put(out, rest, (size_t)(data + after - rest)))
            return false;
        at = after;
    }
    return true;
}
