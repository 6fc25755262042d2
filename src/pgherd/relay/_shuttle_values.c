/* Python's values become the shuttle's, and back: names, shelves, pools; news. Runs with the GIL. */

#include "_shuttle_values.h"

#include <stdlib.h>
#include <string.h>

static uint32_t places_for(Py_ssize_t count)
{
    uint32_t places = 4;
    while (places < 2 * (uint64_t)count)
        places *= 2;
    return places;
}

/* (name, what servers call it, its number, its moment) */
static bool read_name(PyObject *tuple, struct named *into)
{
    Py_ssize_t name_len, other_len;
    long long moment;
    if (!PyArg_ParseTuple(tuple, "y#y#IL", &into->name, &name_len, &into->other, &other_len,
                          &into->statement, &moment))
        return false;
    into->name_len = (uint32_t)name_len;
    into->other_len = (uint32_t)other_len;
    into->moment = moment;
    return true;
}

static char *moved(const char **bytes, char *to, uint32_t n)
{
    *bytes = memcpy(to, *bytes, n);
    return to + n;
}

bool read_names(struct client *c, PyObject *names)
{
    Py_ssize_t count = PyList_Size(names);
    struct named one = {0};
    size_t bytes = 0;
    if (!count)
        return true;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!read_name(PyList_GetItem(names, i), &one))
            return false;
        bytes += (size_t)one.name_len + one.other_len;
    }
    uint32_t places = places_for(count);
    c->names = calloc(places, sizeof *c->names);
    c->name_bytes = malloc(bytes + 1);
    if (!c->names || !c->name_bytes) {
        PyErr_NoMemory();
        return false;
    }
    c->name_mask = places - 1;
    char *to = c->name_bytes;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!read_name(PyList_GetItem(names, i), &one))
            return false;
        to = moved(&one.name, to, one.name_len);
        to = moved(&one.other, to, one.other_len);
        uint32_t at = hash_bytes(one.name, one.name_len);
        while (c->names[at & c->name_mask].name)
            at++;
        c->names[at & c->name_mask] = one;
    }
    return true;
}

bool read_shelf(struct server *s, PyObject *shelf)
{
    Py_ssize_t count = PyList_Size(shelf);
    if (!count)
        return true;
    uint32_t places = places_for(count);
    s->shelf = calloc(places, sizeof *s->shelf);
    if (!s->shelf) {
        PyErr_NoMemory();
        return false;
    }
    s->shelf_mask = places - 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        struct shelved one;
        long long moment;
        if (!PyArg_ParseTuple(PyList_GetItem(shelf, i), "IL", &one.statement, &moment))
            return false;
        one.moment = moment;
        uint32_t at = one.statement * 2654435761u;
        while (s->shelf[at & s->shelf_mask].statement)
            at++;
        s->shelf[at & s->shelf_mask] = one;
    }
    return true;
}

bool read_ids(PyObject *pools, uint32_t ids[CHOICES_MAX], Py_ssize_t *count)
{
    *count = PyTuple_Size(pools);
    if (*count < 1 || *count > CHOICES_MAX) {
        PyErr_Format(PyExc_ValueError, "pools: 1 to %d", CHOICES_MAX);
        return false;
    }
    for (Py_ssize_t i = 0; i < *count; i++)
        ids[i] = (uint32_t)PyLong_AsUnsignedLong(PyTuple_GetItem(pools, i));
    return !PyErr_Occurred();
}

static PyObject *bytes_of(const struct buffer *b)
{
    return PyBytes_FromStringAndSize(b->len ? b->data + b->at : "", b->len);
}

PyObject *told(const struct item *one)
{
    switch (one->kind) {
    case NEWS_WANT:
        return Py_BuildValue("iI", NEWS_WANT, one->pool);
    case NEWS_ASK:
        return Py_BuildValue("iKN", NEWS_ASK, (unsigned long long)one->client,
                             bytes_of(&one->kept));
    case NEWS_SERVER:
        return Py_BuildValue("iKIiINN", NEWS_SERVER, (unsigned long long)one->server, one->pool,
                             (int)one->why, one->left, bytes_of(&one->rest),
                             bytes_of(&one->server_out));
    default:
        break;
    }
    PyObject *unnamed = one->has_unnamed ? bytes_of(&one->unnamed) : Py_NewRef(Py_None);
    return Py_BuildValue("iKIiKiNNNNNNNNNNIIIL", NEWS_CLIENT, (unsigned long long)one->client,
                         one->pool, (int)one->why, (unsigned long long)one->server,
                         (int)one->status, PyBool_FromLong(one->is_running),
                         PyBool_FromLong(one->is_tried), unnamed,
                         PyBool_FromLong(one->unnamed_is_other),
                         bytes_of(&one->said), bytes_of(&one->heard), bytes_of(&one->kept),
                         bytes_of(&one->rest), bytes_of(&one->client_out),
                         bytes_of(&one->server_out), one->left, one->simple, one->extended,
                         (long long)one->waited_ms);
}
