/* The guard of an exchange, as a lock of Python: whoever holds it decides how the connection ends. */

#ifdef Py_GIL_DISABLED

typedef struct {
    PyObject_HEAD
    wsgi_exchange *exchange;
} end_lock;

static PyObject *
end_lock_enter(end_lock *self, PyObject *Py_UNUSED(ignored))
{
    HOLD(&self->exchange->guard);
    Py_RETURN_NONE;
}

static PyObject *
end_lock_exit(end_lock *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count))
{
    LET_GO(&self->exchange->guard);
    Py_RETURN_NONE;
}

static void
end_lock_dealloc(end_lock *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->exchange);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef end_lock_methods[] = {
    {"__enter__", (PyCFunction)end_lock_enter, METH_NOARGS, "Hold the guard."},
    {"__exit__", (PyCFunction)(void (*)(void))end_lock_exit, METH_FASTCALL, "Let it go."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot end_lock_slots[] = {
    {Py_tp_dealloc, end_lock_dealloc},
    {Py_tp_methods, end_lock_methods},
    {0, NULL},
};

static PyType_Spec end_lock_spec = {
    .name = "uwsgibridge.fast._fast.EndLock",
    .basicsize = sizeof(end_lock),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = end_lock_slots,
};

#endif

/* The lock of an exchange: of all exchanges of the host, where the interpreter's lock guards what is done in C. A new
   reference, or NULL with an error. */
static PyObject *
exchange_end_lock(wsgi_exchange *self, void *Py_UNUSED(closure))
{
#ifdef Py_GIL_DISABLED
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &definition);
    if (module == NULL) {
        return NULL;
    }
    PyTypeObject *type = state_of(module)->end_lock_type;
    end_lock *lock = (end_lock *)type->tp_alloc(type, 0);
    if (lock != NULL) {
        lock->exchange = (wsgi_exchange *)Py_NewRef(self);
    }
    return (PyObject *)lock;
#else
    return PyObject_GetAttrString(self->context, "end_lock");
#endif
}
