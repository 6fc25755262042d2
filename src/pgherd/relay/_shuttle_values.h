/* What the rooms of `_shuttle` that hold the GIL share; no other one includes Python.h. */

#ifndef PGHERD_SHUTTLE_VALUES_H
#define PGHERD_SHUTTLE_VALUES_H

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_shuttle.h"

/* False: an exception is set. What was taken so far belongs to the client or server. */

/* names: a list of (name, what servers call it, a statement's number, its moment) */
bool read_names(struct client *c, PyObject *names);

/* shelf: a list of (a statement's number, its moment) */
bool read_shelf(struct server *s, PyObject *shelf);

/* pools: a tuple of their numbers, one at least */
bool read_ids(PyObject *pools, uint32_t ids[CHOICES_MAX], Py_ssize_t *count);

/* A tuple as _shuttle.pyi describes it; NULL: an exception is set. */
PyObject *told(const struct item *one);

#endif
