/* The first step of a coroutine, in a context of its own and within the step of a task that has run other coroutines
   before, as `loop.trio_tasks` has it. */

typedef struct {
    PyObject_HEAD
    PyObject *coroutine;  /* NULL once it is done */
    PyObject *context;    /* NULL from the first step on */
    PyObject *waits;      /* called where the coroutine waits in its first step; NULL from that step on */
} first_step;

/* Do the first step in the context. */
static PySendResult
step_in_context(first_step *self, PyObject *value, PyObject **result)
{
    PyObject *context = self->context;
    PyObject *waits = self->waits;
    self->context = self->waits = NULL;
    PySendResult state = PYGEN_ERROR;
    if (PyContext_Enter(context) == 0) {
        state = PyIter_Send(self->coroutine, value, result);
        raised_error raised = set_error_aside();
        if (PyContext_Exit(context) < 0) {
            PyErr_WriteUnraisable(context);
        }
        bring_error_back(raised);
    }
    if (state == PYGEN_NEXT) {
        PyObject *told = PyObject_CallNoArgs(waits);
        if (told == NULL) {
            Py_CLEAR(*result);
            state = PYGEN_ERROR;
        }
        Py_XDECREF(told);
    }
    Py_DECREF(context);
    Py_DECREF(waits);
    return state;
}

static PySendResult
first_step_send(first_step *self, PyObject *value, PyObject **result)
{
    *result = NULL;
    if (self->coroutine == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    PySendResult state = self->context != NULL
        ? step_in_context(self, value, result)
        : PyIter_Send(self->coroutine, value, result);
    if (state != PYGEN_NEXT) {
        Py_CLEAR(self->coroutine);
    }
    return state;
}

static PyObject *
first_step_next(first_step *self)
{
    PyObject *result;
    PySendResult state = first_step_send(self, Py_None, &result);
    return step_outcome(state, result);
}

static PyObject *
first_step_send_method(first_step *self, PyObject *value)
{
    PyObject *result;
    PySendResult state = first_step_send(self, value, &result);
    return step_outcome(state, result);
}

/* Call a method of the coroutine with so many arguments; a new reference, or NULL with an error. */
static PyObject *
call_coroutine(first_step *self, const char *name, PyObject *const *args, Py_ssize_t count)
{
    if (self->coroutine == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    PyObject *given[] = {self->coroutine, count > 0 ? args[0] : NULL, count > 1 ? args[1] : NULL,
                         count > 2 ? args[2] : NULL};
    PyObject *method = PyUnicode_InternFromString(name);
    PyObject *result = method == NULL ? NULL : PyObject_VectorcallMethod(method, given, (size_t)count + 1, NULL);
    Py_XDECREF(method);
    return result;
}

static PyObject *
first_step_throw(first_step *self, PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "throw takes one to three arguments");
        return NULL;
    }
    PyObject *yielded = call_coroutine(self, "throw", args, count);
    if (yielded == NULL) {
        Py_CLEAR(self->coroutine);
    }
    return yielded;
}

static PyObject *
first_step_close(first_step *self, PyObject *Py_UNUSED(ignored))
{
    return self->coroutine == NULL ? Py_NewRef(Py_None) : call_coroutine(self, "close", NULL, 0);
}

/* An attribute of the coroutine, for who looks where a task waits; AttributeError once the coroutine is done. */
static PyObject *
first_step_attribute(first_step *self, void *name)
{
    if (self->coroutine == NULL) {
        PyErr_SetString(PyExc_AttributeError, (const char *)name);
        return NULL;
    }
    return PyObject_GetAttrString(self->coroutine, (const char *)name);
}

static PyObject *
first_step_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *coroutine;
    PyObject *context;
    PyObject *waits;
    if ((kwargs != NULL && PyDict_GET_SIZE(kwargs))
        || !PyArg_UnpackTuple(args, "FirstStep", 3, 3, &coroutine, &context, &waits))
    {
        return NULL;
    }
    if (!PyContext_CheckExact(context) || !PyCoro_CheckExact(coroutine)) {
        PyErr_SetString(PyExc_TypeError, "a first step takes a coroutine, a context and a callable");
        return NULL;
    }
    first_step *self = (first_step *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->coroutine = Py_NewRef(coroutine);
        self->context = Py_NewRef(context);
        self->waits = Py_NewRef(waits);
    }
    return (PyObject *)self;
}

static int
first_step_traverse(first_step *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->coroutine);
    Py_VISIT(self->context);
    Py_VISIT(self->waits);
    return 0;
}

static int
first_step_clear(first_step *self)
{
    Py_CLEAR(self->coroutine);
    Py_CLEAR(self->context);
    Py_CLEAR(self->waits);
    return 0;
}

static void
first_step_dealloc(first_step *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    first_step_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef first_step_methods[] = {
    {"send", (PyCFunction)first_step_send_method, METH_O, step_send_doc},
    {"throw", (PyCFunction)(void (*)(void))first_step_throw, METH_FASTCALL, step_throw_doc},
    {"close", (PyCFunction)first_step_close, METH_NOARGS, step_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef first_step_attributes[] = {
    {"cr_frame", (getter)first_step_attribute, NULL, "That of the coroutine.", "cr_frame"},
    {"cr_await", (getter)first_step_attribute, NULL, "That of the coroutine.", "cr_await"},
    {"cr_code", (getter)first_step_attribute, NULL, "That of the coroutine.", "cr_code"},
    {"cr_running", (getter)first_step_attribute, NULL, "That of the coroutine.", "cr_running"},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(first_step_doc,
"FirstStep(coroutine, context, waits, /)\n--\n\n"
"Await a coroutine, whose first step runs in a context. `waits` is called once where that step does not end it.\n"
"Further steps run in the context of whoever does them.");

static PyType_Slot first_step_slots[] = {
    {Py_tp_doc, (void *)first_step_doc},
    {Py_tp_new, first_step_new},
    {Py_tp_dealloc, first_step_dealloc},
    {Py_tp_traverse, first_step_traverse},
    {Py_tp_clear, first_step_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, first_step_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, first_step_send},
    {Py_tp_methods, first_step_methods},
    {Py_tp_getset, first_step_attributes},
    {0, NULL},
};

static PyType_Spec first_step_spec = {
    .name = "uwsgibridge.fast._fast.FirstStep",
    .basicsize = sizeof(first_step),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = first_step_slots,
};
