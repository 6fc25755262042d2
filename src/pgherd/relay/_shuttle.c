/* pgherd.relay._shuttle: carry transactions between clients and a pool's servers, without the GIL.

   What Python sees of it: the type `Shuttle`, described in _shuttle.pyi. Owns its methods. A call
   waits for one round of the thread at most, and the thread never wants the GIL: it is kept, but
   while the thread is joined. Leaves values to _shuttle_values.c, clients and servers to the
   others. Limited API of CPython 3.11: one build serves all later versions. */

#include "_shuttle_values.h"

#include "_module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    struct shuttle *shuttle;
} Shuttle;

/* What is told of shuttles that are closed: nothing. */
static struct shuttle *opened(Shuttle *self)
{
    if (!self->shuttle)
        PyErr_SetString(PyExc_ValueError, "the shuttle is closed");
    return self->shuttle;
}

/* For methods whose only argument is the id of a client or a server. */
static struct shuttle *of_one(Shuttle *self, PyObject *args, unsigned long long *id)
{
    struct shuttle *h = opened(self);
    return h && PyArg_ParseTuple(args, "K", id) ? h : NULL;
}

/* For methods whose only argument is a pool's number. */
static struct shuttle *of_pool(Shuttle *self, PyObject *args, unsigned *id)
{
    struct shuttle *h = opened(self);
    return h && PyArg_ParseTuple(args, "I", id) ? h : NULL;
}

static PyObject *shuttle_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"classes_ms", NULL};
    PyObject *classes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!", names, &PyTuple_Type, &classes))
        return NULL;
    Py_ssize_t count = PyTuple_Size(classes);
    if (count > CLASSES_MAX) {
        PyErr_Format(PyExc_ValueError, "classes_ms: %d at most", CLASSES_MAX);
        return NULL;
    }
    int64_t found[CLASSES_MAX];
    for (Py_ssize_t i = 0; i < count; i++) {
        found[i] = PyLong_AsLongLong(PyTuple_GetItem(classes, i));
        if (found[i] == -1 && PyErr_Occurred())
            return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Shuttle *self = (Shuttle *)allocate(type, 0);
    if (!self)
        return NULL;
    self->shuttle = shuttle_start();
    if (!self->shuttle) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    shuttle_lock(self->shuttle);
    memcpy(self->shuttle->classes_ms, found, sizeof found);
    self->shuttle->class_count = (int)count;
    shuttle_unlock(self->shuttle);
    return (PyObject *)self;
}

static void stop(Shuttle *self)
{
    struct shuttle *h = self->shuttle;
    self->shuttle = NULL;
    if (!h)
        return;
    Py_BEGIN_ALLOW_THREADS
    shuttle_stop(h);
    Py_END_ALLOW_THREADS
}

static void shuttle_dealloc(Shuttle *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    stop(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *method_close(Shuttle *self, PyObject *Py_UNUSED(ignored))
{
    stop(self);
    Py_RETURN_NONE;
}

static PyObject *method_fileno(Shuttle *self, PyObject *Py_UNUSED(ignored))
{
    struct shuttle *h = opened(self);
    return h ? PyLong_FromLong(h->news) : NULL;
}

/* Pools */

static PyObject *method_pool(Shuttle *self, PyObject *Py_UNUSED(ignored))
{
    struct shuttle *h = opened(self);
    struct pool *p = h ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return h ? PyErr_NoMemory() : NULL;
    shuttle_lock(h);
    p->id = ++h->pool_number;
    p->next = h->pools;
    h->pools = p;
    shuttle_unlock(h);
    return PyLong_FromUnsignedLong(p->id);
}

static PyObject *method_drop_pool(Shuttle *self, PyObject *args)
{
    unsigned id;
    struct shuttle *h = of_pool(self, args, &id);
    if (!h)
        return NULL;
    shuttle_lock(h);
    struct pool **at = &h->pools;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    struct pool *p = *at;
    bool is_used = p && (p->clients || p->servers);
    if (p && !is_used)
        *at = p->next;
    shuttle_unlock(h);
    if (is_used) {
        PyErr_SetString(PyExc_ValueError, "the pool has clients or servers");
        return NULL;
    }
    free(p);
    Py_RETURN_NONE;
}

/* Clients and servers come */

static PyObject *unknown_pool(void)
{
    PyErr_SetString(PyExc_ValueError, "there is no such pool");
    return NULL;
}

/* The pools of these numbers; false: there is no such pool, or there are too many. */
static bool choices_are(struct shuttle *h, struct client *c, const uint32_t *ids, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        c->choices[i] = pool_find(h, ids[i]);
        if (!c->choices[i])
            return false;
    }
    c->choice_count = (unsigned)count;
    c->pool = c->choices[0];
    return true;
}

static PyObject *method_put_client(Shuttle *self, PyObject *args)
{
    unsigned long long id;
    unsigned settings, domain;
    int fd;
    PyObject *names, *pools;
    uint32_t ids[CHOICES_MAX];
    Py_ssize_t count;
    struct shuttle *h = opened(self);
    if (!h || !PyArg_ParseTuple(args, "KiO!IIO!", &id, &fd, &PyTuple_Type, &pools, &settings,
                                &domain, &PyList_Type, &names))
        return NULL;
    if (!read_ids(pools, ids, &count))
        return NULL;
    struct client *c = calloc(1, sizeof *c);
    if (!c)
        return PyErr_NoMemory();
    c->conn = (struct conn){.what = CLIENT, .fd = fd};
    c->id = id;
    c->settings = settings;
    c->domain = domain;
    c->is_taken = true;
    c->status = 'I';
    bool is_read = read_names(c, names), is_watched = false;
    shuttle_lock(h);
    bool is_pool = choices_are(h, c, ids, count);
    if (is_read && is_pool && !client_find(h, id))
        is_watched = conn_watch(h, &c->conn, true, false);
    if (is_watched) {
        c->next_alike = h->clients[id % IDS];
        h->clients[id % IDS] = c;
        for (unsigned i = 0; i < c->choice_count; i++)
            c->choices[i]->clients++;
    } else {
        c->conn.next_over = h->over;
        c->conn.is_over = true;
        h->over = &c->conn;
    }
    shuttle_unlock(h);
    if (!is_read)
        return NULL;
    if (!is_pool)
        return unknown_pool();
    return PyBool_FromLong(is_watched);
}

static PyObject *method_put_server(Shuttle *self, PyObject *args)
{
    unsigned long long id;
    unsigned pool, settings;
    int fd;
    PyObject *shelf;
    struct shuttle *h = opened(self);
    if (!h || !PyArg_ParseTuple(args, "KiIIO!", &id, &fd, &pool, &settings, &PyList_Type, &shelf))
        return NULL;
    struct server *s = calloc(1, sizeof *s);
    if (!s)
        return PyErr_NoMemory();
    s->conn = (struct conn){.what = SERVER, .fd = fd};
    s->id = id;
    s->settings = settings;
    bool is_read = read_shelf(s, shelf), is_watched = false;
    shuttle_lock(h);
    s->pool = pool_find(h, pool);
    if (is_read && s->pool && !server_find(h, id))
        is_watched = conn_watch(h, &s->conn, true, false);
    bool is_pool = s->pool != NULL;
    if (is_watched) {
        s->next_alike = h->servers[id % IDS];
        h->servers[id % IDS] = s;
        s->pool->servers++;
        s->pool->has_asked = false;
        server_free(h, s);
    } else {
        s->conn.next_over = h->over;
        s->conn.is_over = true;
        h->over = &s->conn;
    }
    shuttle_unlock(h);
    if (!is_read)
        return NULL;
    if (!is_pool)
        return unknown_pool();
    return PyBool_FromLong(is_watched);
}

/* Clients and servers go */

static PyObject *method_recall(Shuttle *self, PyObject *args)
{
    unsigned long long id;
    struct shuttle *h = of_one(self, args, &id);
    if (!h)
        return NULL;
    shuttle_lock(h);
    struct client *c = client_find(h, id);
    if (c)
        client_over(h, c, WHY_ASKED);
    shuttle_unlock(h);
    return PyBool_FromLong(c != NULL);
}

static PyObject *method_recall_server(Shuttle *self, PyObject *args)
{
    unsigned long long id;
    struct shuttle *h = of_one(self, args, &id);
    if (!h)
        return NULL;
    shuttle_lock(h);
    struct server *s = server_find(h, id);
    if (s && s->is_idle)
        server_over(h, s, WHY_ASKED);
    else if (s)
        s->returns = true;
    shuttle_unlock(h);
    Py_RETURN_NONE;
}

static bool chooses(const struct client *c, const struct pool *p)
{
    for (unsigned i = 0; i < c->choice_count; i++)
        if (c->choices[i] == p)
            return true;
    return false;
}

static void recall_pool(struct shuttle *h, const struct pool *p)
{
    for (int i = 0; i < IDS; i++) {
        for (struct client *c = h->clients[i], *next; c; c = next) {
            next = c->next_alike;
            if (chooses(c, p))
                client_over(h, c, WHY_ASKED);
        }
    }
    for (int i = 0; i < IDS; i++) {
        for (struct server *s = h->servers[i], *next; s; s = next) {
            next = s->next_alike;
            if (s->pool == p)
                server_over(h, s, WHY_ASKED);
        }
    }
}

static PyObject *method_recall_pool(Shuttle *self, PyObject *args)
{
    unsigned id;
    struct shuttle *h = of_pool(self, args, &id);
    if (!h)
        return NULL;
    shuttle_lock(h);
    const struct pool *p = pool_find(h, id);
    if (p)
        recall_pool(h, p);
    shuttle_unlock(h);
    Py_RETURN_NONE;
}

static PyObject *method_share(Shuttle *self, PyObject *args)
{
    unsigned id, count;
    struct shuttle *h = opened(self);
    if (!h || !PyArg_ParseTuple(args, "II", &id, &count))
        return NULL;
    shuttle_lock(h);
    struct pool *p = pool_find(h, id);
    if (p) {
        for (; count && p->idle; count--)
            server_over(h, p->idle, WHY_ASKED);
        p->owed = count;
    }
    shuttle_unlock(h);
    Py_RETURN_NONE;
}

static PyObject *method_trim(Shuttle *self, PyObject *args)
{
    unsigned id;
    long long idle_ms;
    struct shuttle *h = opened(self);
    if (!h || !PyArg_ParseTuple(args, "IL", &id, &idle_ms))
        return NULL;
    shuttle_lock(h);
    struct pool *p = pool_find(h, id);
    int64_t now = now_ms();
    for (struct server *s = p ? p->idle : NULL, *next; s; s = next) {
        next = s->below;
        if (now - s->idle_since_ms >= idle_ms)
            server_over(h, s, WHY_ASKED);
    }
    if (p)
        p->has_asked = false;
    shuttle_unlock(h);
    Py_RETURN_NONE;
}

/* Statements */

static PyObject *method_learn(Shuttle *self, PyObject *args)
{
    const char *text;
    Py_ssize_t n;
    unsigned domain;
    int is_plain;
    struct shuttle *h = opened(self);
    if (!h || !PyArg_ParseTuple(args, "Iy#p", &domain, &text, &n, &is_plain))
        return NULL;
    shuttle_lock(h);
    texts_learn(&h->texts, domain, text, (size_t)n, is_plain != 0);
    shuttle_unlock(h);
    Py_RETURN_NONE;
}

static PyObject *method_known(Shuttle *self, PyObject *args)
{
    const char *text;
    Py_ssize_t n;
    unsigned domain;
    struct shuttle *h = opened(self);
    if (!h || !PyArg_ParseTuple(args, "Iy#", &domain, &text, &n))
        return NULL;
    shuttle_lock(h);
    enum verdict_is found = texts_look(&h->texts, domain, text, (size_t)n);
    shuttle_unlock(h);
    if (found == UNSEEN)
        Py_RETURN_NONE;
    return PyBool_FromLong(found == PLAIN);
}

static PyObject *method_answered(Shuttle *self, PyObject *args)
{
    unsigned long long id;
    int is_known;
    struct shuttle *h = opened(self);
    if (!h || !PyArg_ParseTuple(args, "Kp", &id, &is_known))
        return NULL;
    shuttle_lock(h);
    struct client *c = client_find(h, id);
    if (c && c->state == ASKING) {
        c->state = c->server ? OPEN : RESTING;
        if (is_known)
            client_go_on(h, c);
        else
            client_over(h, c, WHY_STRANGE);
    }
    shuttle_unlock(h);
    shuttle_wake(h); /* it may have to look at the clock from now on */
    Py_RETURN_NONE;
}

/* What is seen */

static PyObject *method_look(Shuttle *self, PyObject *args)
{
    unsigned long long id;
    struct shuttle *h = of_one(self, args, &id);
    if (!h)
        return NULL;
    shuttle_lock(h);
    struct client *c = client_find(h, id);
    if (!c) {
        shuttle_unlock(h);
        Py_RETURN_NONE;
    }
    int state = c->state, stirred = c->stirred;
    unsigned long long server = c->server ? c->server->id : 0;
    unsigned out = c->out.len, server_out = c->server ? c->server->out.len : 0;
    unsigned kept = c->kept.len, simple = c->simple, extended = c->extended;
    long long waits_ms = c->state == WAITING ? now_ms() - c->since_ms : 0;
    c->stirred = false;
    shuttle_unlock(h);
    return Py_BuildValue("iKNIIIIIL", state, server, PyBool_FromLong(stirred), out, server_out,
                         kept, simple, extended, waits_ms);
}

static PyObject *method_counts(Shuttle *self, PyObject *args)
{
    unsigned id;
    struct shuttle *h = of_pool(self, args, &id);
    if (!h)
        return NULL;
    struct pool seen = {0};
    int64_t longest = 0;
    shuttle_lock(h);
    struct pool *p = pool_find(h, id);
    if (p) {
        seen = *p;
        longest = p->first ? now_ms() - p->first->since_ms : 0;
    }
    int count = h->class_count;
    shuttle_unlock(h);
    if (!p)
        return unknown_pool();
    PyObject *classes = PyTuple_New(count + 1);
    for (int i = 0; classes && i <= count; i++)
        PyTuple_SetItem(classes, i, PyLong_FromUnsignedLongLong(seen.classes[i]));
    if (!classes)
        return NULL;
    return Py_BuildValue("IIIILKKKKN", seen.clients, seen.servers, seen.idle_count, seen.waiting,
                         (long long)longest, (unsigned long long)seen.lent,
                         (unsigned long long)seen.waited, (unsigned long long)seen.waited_ms,
                         (unsigned long long)seen.tried, classes);
}

static PyObject *method_totals(Shuttle *self, PyObject *Py_UNUSED(ignored))
{
    struct shuttle *h = opened(self);
    if (!h)
        return NULL;
    shuttle_lock(h);
    unsigned long long clients = h->from_clients, servers = h->from_servers;
    shuttle_unlock(h);
    return Py_BuildValue("KK", clients, servers);
}

static PyObject *method_news(Shuttle *self, PyObject *Py_UNUSED(ignored))
{
    struct shuttle *h = opened(self);
    if (!h)
        return NULL;
    uint64_t gone;
    ssize_t got = read(h->news, &gone, sizeof gone);
    (void)got;
    shuttle_lock(h);
    struct item *one = h->first;
    h->first = NULL;
    h->last = &h->first;
    shuttle_unlock(h);
    PyObject *all = PyList_New(0);
    for (struct item *next; one; one = next) {
        next = one->next;
        PyObject *tuple = all ? told(one) : NULL;
        if (all && (!tuple || PyList_Append(all, tuple) < 0)) {
            Py_DECREF(all);
            all = NULL;
        }
        Py_XDECREF(tuple);
        item_free(one);
    }
    return all;
}

static PyMethodDef methods[] = {
    {"pool", (PyCFunction)method_pool, METH_NOARGS, NULL},
    {"drop_pool", (PyCFunction)method_drop_pool, METH_VARARGS, NULL},
    {"put_client", (PyCFunction)method_put_client, METH_VARARGS, NULL},
    {"put_server", (PyCFunction)method_put_server, METH_VARARGS, NULL},
    {"recall", (PyCFunction)method_recall, METH_VARARGS, NULL},
    {"recall_server", (PyCFunction)method_recall_server, METH_VARARGS, NULL},
    {"recall_pool", (PyCFunction)method_recall_pool, METH_VARARGS, NULL},
    {"share", (PyCFunction)method_share, METH_VARARGS, NULL},
    {"trim", (PyCFunction)method_trim, METH_VARARGS, NULL},
    {"learn", (PyCFunction)method_learn, METH_VARARGS, NULL},
    {"known", (PyCFunction)method_known, METH_VARARGS, NULL},
    {"answered", (PyCFunction)method_answered, METH_VARARGS, NULL},
    {"look", (PyCFunction)method_look, METH_VARARGS, NULL},
    {"counts", (PyCFunction)method_counts, METH_VARARGS, NULL},
    {"totals", (PyCFunction)method_totals, METH_NOARGS, NULL},
    {"news", (PyCFunction)method_news, METH_NOARGS, NULL},
    {"fileno", (PyCFunction)method_fileno, METH_NOARGS, NULL},
    {"close", (PyCFunction)method_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, shuttle_new},
    {Py_tp_dealloc, shuttle_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pgherd.relay._shuttle.Shuttle",
    .basicsize = sizeof(Shuttle),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

MODULE_OF(_shuttle, Shuttle, spec)
