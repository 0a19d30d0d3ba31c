/* The type of `handover`: what Python calls. */

static int
handover_traverse(handover *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->lent);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_VISIT(self->items[(self->first + i) & (self->capacity - 1)]);
    }
#ifdef Py_GIL_DISABLED
    for (Py_ssize_t i = 0; i < self->shared.seat_count; i++) {
        Py_VISIT(self->shared.seats[i].intake);
    }
#endif
    return 0;
}

static int
handover_clear(handover *self)
{
    Py_CLEAR(self->lent);
    while (self->count) {
        PyObject *item = take_item(self);
        Py_DECREF(item);
    }
    return 0;
}

static void
handover_dealloc(handover *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    handover_clear(self);
#ifdef Py_GIL_DISABLED
    clear_seats(&self->shared);
    if (self->shared.bell >= 0) {
        close(self->shared.bell);
    }
#endif
    if (self->bell >= 0) {
        close(self->bell);
    }
    if (self->alarm >= 0) {
        close(self->alarm);
    }
    PyMem_Free(self->items);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
handover_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) || (kwargs != NULL && PyDict_GET_SIZE(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "Handover takes no arguments");
        return NULL;
    }
    handover *self = (handover *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->bell = self->alarm = -1;
#ifdef Py_GIL_DISABLED
        self->shared.listening = self->shared.bell = -1;
#endif
    }
    return (PyObject *)self;
}

#ifndef Py_GIL_DISABLED

static PyObject *
handover_fileno(handover *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(self->alarm);
}

static PyObject *
handover_is_lent(handover *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->lent != NULL);
}

static PyObject *
handover_is_overdue(handover *self, void *Py_UNUSED(closure))
{
    /* Less than the alarm's time: it is enough that no thread has set the alarm anew. */
    return PyBool_FromLong(!self->is_polling && monotonic_now() - self->armed_at > ALARM_SECONDS - ARM_SECONDS);
}

static PyObject *
handover_has_waiter(handover *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(!self->count && self->waiters != NULL);
}

#endif

static PyMethodDef handover_methods[] = {
    {"put", (PyCFunction)handover_put, METH_O, handover_put_doc},
    {"get", (PyCFunction)handover_get, METH_NOARGS, handover_get_doc},
    {"get_nowait", (PyCFunction)handover_get_nowait, METH_NOARGS, handover_get_nowait_doc},
#ifdef Py_GIL_DISABLED
    SHARING_METHODS
#else
    {"lend", (PyCFunction)(void (*)(void))handover_lend, METH_FASTCALL, lend_doc},
    {"take_back", (PyCFunction)handover_take_back, METH_NOARGS, take_back_doc},
    {"set_alarm", (PyCFunction)handover_set_alarm, METH_O, alarm_doc},
    {"hear_alarm", (PyCFunction)handover_hear_alarm, METH_NOARGS, hear_doc},
    {"fileno", (PyCFunction)handover_fileno, METH_NOARGS,
     PyDoc_STR("fileno()\n--\n\nGive the descriptor of the alarm; -1 before the first `lend` or `set_alarm`.")},
#endif
    {NULL, NULL, 0, NULL},
};

static PyMemberDef handover_members[] = {
#ifndef Py_GIL_DISABLED
    {"accepted", T_PYSSIZET, offsetof(handover, accepted), READONLY, "How many connections its threads have accepted."},
    {"taken", T_PYSSIZET, offsetof(handover, taken), READONLY, "How many items were taken so far."},
    {"is_accepting", T_BOOL, offsetof(handover, is_accepting), READONLY,
     "Whether a thread may have a connection that is in no table yet."},
#endif
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef handover_properties[] = {
#ifdef Py_GIL_DISABLED
    SHARING_ATTRIBUTES
#else
    {"is_lent", (getter)handover_is_lent, NULL, "Whether a threads accept on a socket.", NULL},
    {"is_overdue", (getter)handover_is_overdue, NULL, "Whether no thread has come back to the socket for long.", NULL},
    {"has_waiter", (getter)handover_has_waiter, NULL, "Whether it is empty, and a thread waits at it.", NULL},
#endif
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(handover_doc,
"Hands items from one thread to others, in their order.");

static PyType_Slot handover_slots[] = {
    {Py_tp_doc, (void *)handover_doc},
    {Py_tp_new, handover_new},
    {Py_tp_members, handover_members},
    {Py_tp_getset, handover_properties},
    {Py_tp_dealloc, handover_dealloc},
    {Py_tp_traverse, handover_traverse},
    {Py_tp_clear, handover_clear},
    {Py_tp_methods, handover_methods},
    {0, NULL},
};

static PyType_Spec handover_spec = {
    .name = "uwsgibridge.fast._fast.Handover",
    .basicsize = sizeof(handover),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = handover_slots,
};
