/* Bytes that wait: a block that grows, from whose beginning they are taken. */

#include "_shuttle.h"

#include <stdlib.h>
#include <string.h>

#define GRAIN 256

bool buffer_put(struct buffer *b, const char *data, size_t n)
{
    if (n > UINT32_MAX / 4 - b->len)
        return false;
    if (b->at && b->at + b->len + n > b->size) {
        memmove(b->data, b->data + b->at, b->len);
        b->at = 0;
    }
    if (b->len + n > b->size) {
        size_t size = b->size ? b->size : GRAIN;
        while (size < b->len + n)
            size *= 2;
        char *grown = realloc(b->data, size);
        if (!grown)
            return false;
        b->data = grown;
        b->size = (uint32_t)size;
    }
    if (n)
        memcpy(b->data + b->at + b->len, data, n);
    b->len += (uint32_t)n;
    return true;
}

void buffer_skip(struct buffer *b, uint32_t n)
{
    b->at += n;
    b->len -= n;
    if (!b->len)
        b->at = 0;
}

void buffer_free(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){0};
}

struct buffer buffer_take(struct buffer *b)
{
    struct buffer taken = *b;
    *b = (struct buffer){0};
    return taken;
}
