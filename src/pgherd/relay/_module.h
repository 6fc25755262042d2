/* A module of Python with one type and nothing else; after Python.h. */

#ifndef PGHERD_MODULE_H
#define PGHERD_MODULE_H

static inline int module_add(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromSpec(spec);
    if (!type)
        return -1;
    int result = PyModule_AddObjectRef(module, name, type);
    Py_DECREF(type);
    return result;
}

/* module: pgherd.relay's, as a word · type: what `spec` describes, as a word */
#define MODULE_OF(module, type, spec)                                                              \
    static int module_exec(PyObject *made) { return module_add(made, &spec, #type); }              \
    static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};              \
    static struct PyModuleDef definition = {                                                       \
        PyModuleDef_HEAD_INIT,                                                                     \
        .m_name = "pgherd.relay." #module,                                                         \
        .m_size = 0,                                                                               \
        .m_slots = module_slots,                                                                   \
    };                                                                                             \
    PyMODINIT_FUNC PyInit_##module(void) { return PyModuleDef_Init(&definition); }

#endif
