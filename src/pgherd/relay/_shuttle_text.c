/* Which statements are plain: by a keyed hash of their text without its literals.

   Theory of operation. Numbers and quoted strings are left out of what is hashed, so that a statement
   with other values is the same one. Where a quick look cannot tell what is a literal, the whole text
   is hashed: with a backslash, a dollar quote or a comment in it, or with a quote that has no end. A
   string may be code for a function that is given it: one that has a word in it by which Python tells
   that a session keeps something makes the statement no plain one. The key is drawn anew in each
   process, so that nobody can make two statements that are taken for one another.

   What is said of a statement is said in a domain: 0 for all who only pool, another number for those
   that read what is theirs alone, in one database as it is known now.

   Owns the table of what Python said of statements. What plain means is `wire.plain`'s. */

#include "_shuttle.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PLACES (1u << 15)
#define COUNT_MAX (PLACES / 4 * 3)

static inline uint64_t turned(uint64_t x, int by) { return x << by | x >> (64 - by); }

/* SipHash-1-3 with a result of 128 bits (Aumasson, Bernstein: "SipHash: a fast short-input PRF").
   Pieces collect in `block`. */
struct hash {
    uint64_t v[4];
    uint64_t length;
    unsigned filled;
    char block[512];
};

static inline void mixed(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = turned(v[1], 13) ^ v[0];
    v[0] = turned(v[0], 32);
    v[2] += v[3];
    v[3] = turned(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = turned(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = turned(v[1], 17) ^ v[2];
    v[2] = turned(v[2], 32);
}

static void hash_begin(struct hash *h, const uint64_t key[2], uint64_t domain)
{
    h->v[0] = key[0] ^ 0x736f6d6570736575u;
    h->v[1] = key[1] ^ 0x646f72616e646f6du ^ 0xee ^ domain << 8;
    h->v[2] = key[0] ^ 0x6c7967656e657261u;
    h->v[3] = key[1] ^ 0x7465646279746573u;
    h->length = h->filled = 0;
}

static inline void hash_word(struct hash *h, uint64_t word)
{
    h->v[3] ^= word;
    mixed(h->v);
    h->v[0] ^= word;
}

static void hash_block(struct hash *h, const char *data, size_t n)
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, data + i, 8);
        hash_word(h, word);
    }
}

static void hash_bytes_of(struct hash *h, const char *data, size_t n)
{
    h->length += n;
    while (h->filled + n > sizeof h->block) {
        size_t some = sizeof h->block - h->filled;
        memcpy(h->block + h->filled, data, some);
        hash_block(h, h->block, sizeof h->block);
        data += some;
        n -= some;
        h->filled = 0;
    }
    memcpy(h->block + h->filled, data, n);
    h->filled += (unsigned)n;
}

static struct verdict hash_end(struct hash *h)
{
    struct verdict found = {0};
    uint64_t last = h->length << 56;
    hash_block(h, h->block, h->filled);
    for (unsigned i = h->filled & ~7u; i < h->filled; i++)
        last |= (uint64_t)(uint8_t)h->block[i] << (8 * (i & 7));
    hash_word(h, last);
    h->v[2] ^= 0xee;
    for (int i = 0; i < 3; i++)
        mixed(h->v);
    found.one = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
    h->v[1] ^= 0xdd;
    for (int i = 0; i < 3; i++)
        mixed(h->v);
    found.two = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
    found.two |= !found.one && !found.two;
    return found;
}

static const char *const telling[] = {"temp", "hold", "set_config", "advisory_lock",
                                      "dblink", "currval", "lastval", "listen",
                                      "synchronous_commit", "client_min_messages"};

static inline char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c; }

static bool begins_with(const char *data, size_t n, const char *word)
{
    size_t i = 0;
    while (word[i] && i < n && lower(data[i]) == word[i])
        i++;
    return !word[i];
}

/* Whether a string that is given to some function would tell that it keeps something. */
static bool tells(const char *data, size_t n)
{
    for (size_t i = 0; i + 4 <= n; i++) {
        char c = lower(data[i]);
        if (c != 't' && c != 'h' && c != 's' && c != 'a' && c != 'd' && c != 'c' && c != 'l')
            continue;
        for (size_t j = 0; j < sizeof telling / sizeof *telling; j++)
            if (telling[j][0] == c && begins_with(data + i, n - i, telling[j]))
                return true;
    }
    return false;
}

enum kind { NAME = 1, DIGIT = 2, QUOTE = 4, STOP = 8 };

static const uint8_t kinds[256] = {
    ['0' ... '9'] = DIGIT | NAME, ['a' ... 'z'] = NAME,  ['A' ... 'Z'] = NAME,
    [0x80 ... 0xff] = NAME,       ['_'] = NAME,          ['\''] = QUOTE,
    ['"'] = QUOTE,                ['\\'] = STOP,         ['$'] = STOP,
    ['-'] = STOP,                 ['/'] = STOP,          [0] = STOP,
};

/* Whether what stands here makes a quick look unsure. */
static bool is_unsure(const char *at, const char *end)
{
    char c = *at, next = at + 1 < end ? at[1] : 0;
    switch (c) {
    case '-':
        return next == '-';
    case '/':
        return next == '*';
    case '$':
        return !(next >= '0' && next <= '9');
    default:
        return true;
    }
}

static const char *quote_end(const char *at, const char *end)
{
    const char *found = memchr(at + 1, *at, (size_t)(end - at - 1));
    return found;
}

/* The hash of what is left without literals; false: it cannot be told, or a literal tells something
   (then `keeps`). */
static bool hash_shape(const struct texts *t, uint32_t domain, const char *text, size_t n,
                       struct verdict *found, bool *keeps)
{
    struct hash h;
    const char *at = text, *end = text + n, *begun = text;
    bool in_name = false;
    hash_begin(&h, t->key, 2 * (uint64_t)domain);
    while (at < end) {
        uint8_t kind = kinds[(uint8_t)*at];
        while (kind == NAME || !kind || (kind & DIGIT && in_name)) {
            in_name = kind != 0;
            if (++at == end)
                break;
            kind = kinds[(uint8_t)*at];
        }
        if (at == end)
            break;
        if (kind & DIGIT) {
            hash_bytes_of(&h, begun, (size_t)(at - begun));
            hash_bytes_of(&h, "0", 1);
            while (at < end && kinds[(uint8_t)*at] & DIGIT)
                at++;
            begun = at;
            in_name = false;
        } else if (kind == QUOTE) {
            const char *last = quote_end(at, end);
            if (!last || memchr(at, '\\', (size_t)(last - at)))
                return false;
            if (*at == '\'') {
                if (tells(at, (size_t)(last - at))) {
                    *keeps = true;
                    return false;
                }
                hash_bytes_of(&h, begun, (size_t)(at - begun));
                hash_bytes_of(&h, "''", 2);
                begun = last + 1;
            }
            at = last + 1;
            in_name = false;
        } else {
            if (is_unsure(at, end))
                return false;
            in_name = *at == '$'; /* the number of a parameter stays */
            at++;
        }
    }
    hash_bytes_of(&h, begun, (size_t)(at - begun));
    *found = hash_end(&h);
    return true;
}

/* The key of a statement; false: it is not plain whatever was said of others like it. */
static bool key_of(const struct texts *t, uint32_t domain, const char *text, size_t n,
                   struct verdict *key)
{
    bool keeps = false;
    if (hash_shape(t, domain, text, n, key, &keeps))
        return true;
    if (keeps)
        return false;
    struct hash h;
    hash_begin(&h, t->key, 2 * (uint64_t)domain + 1);
    hash_bytes_of(&h, text, n);
    *key = hash_end(&h);
    return true;
}

static struct verdict *place_of(const struct texts *t, const struct verdict *key)
{
    uint32_t at = (uint32_t)key->one & (PLACES - 1);
    for (;; at = (at + 1) & (PLACES - 1)) {
        struct verdict *one = &t->table[at];
        if ((!one->one && !one->two) || (one->one == key->one && one->two == key->two))
            return one;
    }
}

enum verdict_is texts_look(const struct texts *t, uint32_t domain, const char *text, size_t n)
{
    struct verdict key;
    if (!key_of(t, domain, text, n, &key))
        return OTHER;
    const struct verdict *found = place_of(t, &key);
    if (!found->one && !found->two)
        return UNSEEN;
    return found->is_plain ? PLAIN : OTHER;
}

void texts_learn(struct texts *t, uint32_t domain, const char *text, size_t n, bool is_plain)
{
    struct verdict key;
    if (!key_of(t, domain, text, n, &key))
        return;
    if (t->count >= COUNT_MAX) {
        memset(t->table, 0, PLACES * sizeof *t->table);
        t->count = 0;
    }
    struct verdict *place = place_of(t, &key);
    t->count += !place->one && !place->two;
    key.is_plain = is_plain;
    *place = key;
}

bool texts_open(struct texts *t)
{
    t->table = calloc(PLACES, sizeof *t->table);
    return t->table && getrandom(t->key, sizeof t->key, 0) == (ssize_t)sizeof t->key;
}

void texts_close(struct texts *t) { free(t->table); }
