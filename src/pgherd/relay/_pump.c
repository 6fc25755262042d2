/* pgherd.relay._pump: relay bytes between pairs of sockets in threads of C, without the GIL.

   What Python sees of it: the type `Pump`, described in _pump.pyi. Owns arguments and handles. A
   call waits for one round of the worker at most, and workers never want the GIL: it is kept, but
   while threads are joined. Leaves flows to _pump_flow.c and threads to _pump_worker.c. Limited API of CPython 3.11: one build serves all later versions. */

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_module.h"
#include "_pump.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORKERS_MAX 16
#define TCP_INFO_BYTES 256

typedef struct {
    PyObject_HEAD
    struct worker *workers[WORKERS_MAX];
    unsigned count, turn;
    int news;
} Pump;

static void stop_all(Pump *self)
{
    for (unsigned i = 0; i < self->count; i++)
        worker_stop(self->workers[i]);
    self->count = 0;
    if (self->news >= 0)
        close(self->news);
    self->news = -1;
}

static PyObject *pump_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"threads", "uring", NULL};
    int threads = 1, uring = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|ip", names, &threads, &uring))
        return NULL;
    if (threads < 1 || threads > WORKERS_MAX) {
        PyErr_Format(PyExc_ValueError, "threads: 1 to %d", WORKERS_MAX);
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Pump *self = (Pump *)allocate(type, 0);
    if (!self)
        return NULL;
    self->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    while (self->news >= 0 && self->count < (unsigned)threads) {
        struct worker *w =
            worker_start(self->count, self->news, uring ? &uring_carrier : &epoll_carrier);
        if (!w)
            break;
        self->workers[self->count++] = w;
    }
    if (self->count < (unsigned)threads) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void pump_dealloc(Pump *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_BEGIN_ALLOW_THREADS
    stop_all(self);
    Py_END_ALLOW_THREADS
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *pump_close(Pump *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    stop_all(self);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *pump_fileno(Pump *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(self->news);
}

/* The worker of a handle, locked, and its flow; NULL: it is over, and nothing is locked. */
static struct flow *locked(Pump *self, unsigned long long handle, struct worker **found)
{
    unsigned number = handle & 15;
    if (number >= self->count)
        return NULL;
    struct worker *w = self->workers[number];
    struct flow *f;
    worker_lock(w);
    f = flow_find(w, handle);
    if (!f)
        worker_unlock(w);
    *found = w;
    return f;
}

static PyObject *pump_add(Pump *self, PyObject *args)
{
    int client, server;
    if (!PyArg_ParseTuple(args, "ii", &client, &server))
        return NULL;
    if (!self->count) {
        PyErr_SetString(PyExc_ValueError, "the pump is closed");
        return NULL;
    }
    struct worker *w = self->workers[self->turn++ % self->count];
    uint64_t handle = 0;
    worker_lock(w);
    struct flow *f = flow_add(w, client, server);
    if (f)
        handle = flow_handle(w, f);
    worker_unlock(w);
    worker_wake(w);
    return f ? PyLong_FromUnsignedLongLong(handle) : PyErr_NoMemory();
}

static PyObject *pump_look(Pump *self, PyObject *args)
{
    unsigned long long handle;
    struct worker *w;
    if (!PyArg_ParseTuple(args, "K", &handle))
        return NULL;
    struct flow *f = locked(self, handle, &w);
    if (!f)
        Py_RETURN_NONE;
    struct flow seen = *f;
    worker_unlock(w);
    return Py_BuildValue("y#NNKIINN", seen.tail, (Py_ssize_t)seen.tail_len,
                         PyBool_FromLong(seen.client_spoke_last),
                         PyBool_FromLong(seen.side[CLIENT].eof),
                         (unsigned long long)(seen.bytes[CLIENT] + seen.bytes[SERVER]),
                         (unsigned)seen.side[CLIENT].out_len, (unsigned)seen.side[SERVER].out_len,
                         PyBool_FromLong(seen.listens), PyBool_FromLong(seen.takes_copy));
}

static PyObject *pump_halt(Pump *self, PyObject *args)
{
    unsigned long long handle;
    int halted;
    struct worker *w;
    if (!PyArg_ParseTuple(args, "Kp", &handle, &halted))
        return NULL;
    struct flow *f = locked(self, handle, &w);
    if (!f)
        Py_RETURN_NONE;
    f->halted = halted != 0;
    if (!halted) {
        side_todo(w, &f->side[CLIENT]);
        side_todo(w, &f->side[SERVER]);
        worker_wake(w);
    }
    worker_unlock(w);
    Py_RETURN_NONE;
}

static PyObject *pump_write(Pump *self, PyObject *args)
{
    unsigned long long handle;
    int which;
    Py_buffer data;
    struct worker *w;
    if (!PyArg_ParseTuple(args, "Kpy*", &handle, &which, &data))
        return NULL;
    struct flow *f = locked(self, handle, &w);
    bool is_kept = true;
    if (f) {
        struct side *s = &f->side[which];
        if (s->fd >= 0 && !s->deaf && !s->ended && data.len > 0)
            is_kept = side_owe(s, data.buf, (size_t)data.len);
        side_todo(w, s);
        worker_unlock(w);
        worker_wake(w);
    }
    PyBuffer_Release(&data);
    if (!is_kept)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* end, leave and drop: wishes that the worker fulfils */
static PyObject *wish(Pump *self, PyObject *args, size_t member)
{
    unsigned long long handle;
    int which;
    struct worker *w;
    if (!PyArg_ParseTuple(args, "Kp", &handle, &which))
        return NULL;
    struct flow *f = locked(self, handle, &w);
    if (f) {
        struct side *s = &f->side[which];
        *(bool *)((char *)s + member) = true;
        side_todo(w, s);
        worker_unlock(w);
        worker_wake(w);
    }
    Py_RETURN_NONE;
}

static PyObject *pump_end(Pump *self, PyObject *args)
{
    return wish(self, args, offsetof(struct side, ends));
}

static PyObject *pump_leave(Pump *self, PyObject *args)
{
    return wish(self, args, offsetof(struct side, leaves));
}

static PyObject *pump_drop(Pump *self, PyObject *args)
{
    return wish(self, args, offsetof(struct side, drops));
}

static PyObject *pump_tcp_info(Pump *self, PyObject *args)
{
    unsigned long long handle;
    int which;
    struct worker *w;
    if (!PyArg_ParseTuple(args, "Kp", &handle, &which))
        return NULL;
    char info[TCP_INFO_BYTES];
    socklen_t size = 0;
    struct flow *f = locked(self, handle, &w);
    if (f) {
        size = sizeof info;
        int fd = f->side[which].fd;
        if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) < 0)
            size = 0;
        worker_unlock(w);
    }
    return PyBytes_FromStringAndSize(info, (Py_ssize_t)size);
}

static PyObject *losses_of(struct worker *w, PyObject *all)
{
    worker_lock(w);
    struct loss *losses = w->losses;
    size_t count = w->loss_count;
    w->losses = NULL; /* whatever is open then needs its reserve again */
    w->loss_count = w->loss_size = 0;
    bool is_kept = losses_reserve(w);
    if (!is_kept) {
        w->losses = losses;
        w->loss_count = count;
    }
    worker_unlock(w);
    if (!is_kept)
        return PyErr_NoMemory();
    for (size_t i = 0; i < count && all; i++) {
        PyObject *one = Py_BuildValue("KNi", (unsigned long long)losses[i].handle,
                                      PyBool_FromLong(losses[i].which), losses[i].why);
        if (!one || PyList_Append(all, one) < 0)
            all = NULL;
        Py_XDECREF(one);
    }
    free(losses);
    return all;
}

static PyObject *pump_losses(Pump *self, PyObject *Py_UNUSED(ignored))
{
    uint64_t gone;
    ssize_t got = self->news >= 0 ? read(self->news, &gone, sizeof gone) : 0;
    (void)got;
    PyObject *all = PyList_New(0);
    for (unsigned i = 0; all && i < self->count; i++) {
        if (!losses_of(self->workers[i], all)) {
            Py_DECREF(all);
            return NULL;
        }
    }
    return all;
}

static PyObject *pump_totals(Pump *self, PyObject *Py_UNUSED(ignored))
{
    unsigned long long totals[2] = {0, 0};
    for (unsigned i = 0; i < self->count; i++) {
        struct worker *w = self->workers[i];
        worker_lock(w);
        totals[CLIENT] += w->totals[CLIENT];
        totals[SERVER] += w->totals[SERVER];
        worker_unlock(w);
    }
    return Py_BuildValue("KK", totals[CLIENT], totals[SERVER]);
}

static PyMethodDef methods[] = {
    {"add", (PyCFunction)pump_add, METH_VARARGS, NULL},
    {"look", (PyCFunction)pump_look, METH_VARARGS, NULL},
    {"halt", (PyCFunction)pump_halt, METH_VARARGS, NULL},
    {"write", (PyCFunction)pump_write, METH_VARARGS, NULL},
    {"end", (PyCFunction)pump_end, METH_VARARGS, NULL},
    {"leave", (PyCFunction)pump_leave, METH_VARARGS, NULL},
    {"drop", (PyCFunction)pump_drop, METH_VARARGS, NULL},
    {"tcp_info", (PyCFunction)pump_tcp_info, METH_VARARGS, NULL},
    {"losses", (PyCFunction)pump_losses, METH_NOARGS, NULL},
    {"totals", (PyCFunction)pump_totals, METH_NOARGS, NULL},
    {"fileno", (PyCFunction)pump_fileno, METH_NOARGS, NULL},
    {"close", (PyCFunction)pump_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, pump_new},
    {Py_tp_dealloc, pump_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pgherd.relay._pump.Pump",
    .basicsize = sizeof(Pump),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

MODULE_OF(_pump, Pump, spec)
