/* `receive` and `send` as an application gets them: each call gives an awaitable. */

/* A callable of an application, `receive` or `send`: gives a `step` for each call. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyTypeObject *step_type;
    PyObject *exchange;
    char kind;
} caller;

/* The message that `send` was called with, borrowed; NULL with an error. */
static PyObject *
message_of(const caller *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (count + named == 1
        && (!named || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "message") == 0))
    {
        return args[0];
    }
    PyErr_Format(PyExc_TypeError, "%s() takes a message", STEP_QUALIFIED_NAMES[(int)self->kind]);
    return NULL;
}

static PyObject *
caller_call(caller *self, PyObject *const *args, size_t flagged, PyObject *names)
{
    Py_ssize_t count = PyVectorcall_NARGS(flagged);
    PyObject *message = NULL;
    if (self->kind == OF_SEND) {
        message = message_of(self, args, count, names);
        if (message == NULL) {
            return NULL;
        }
    }
    else if (count || (names != NULL && PyTuple_GET_SIZE(names))) {
        PyErr_Format(PyExc_TypeError, "%s() takes no arguments", STEP_QUALIFIED_NAMES[(int)self->kind]);
        return NULL;
    }
    step *made = (step *)self->step_type->tp_alloc(self->step_type, 0);
    if (made != NULL) {
        made->exchange = Py_NewRef(self->exchange);
        made->message = Py_XNewRef(message);
        made->kind = self->kind;
    }
    return (PyObject *)made;
}

static int
caller_traverse(caller *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->step_type);
    Py_VISIT(self->exchange);
    return 0;
}

static int
caller_clear(caller *self)
{
    Py_CLEAR(self->step_type);
    Py_CLEAR(self->exchange);
    return 0;
}

static void
caller_dealloc(caller *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    caller_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
caller_name(caller *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(STEP_NAMES[(int)self->kind]);
}

static PyObject *
caller_qualified_name(caller *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(STEP_QUALIFIED_NAMES[(int)self->kind]);
}

static PyObject *
caller_owner(caller *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->exchange);
}

static PyGetSetDef caller_attributes[] = {
    {"__name__", (getter)caller_name, NULL, "The name, as of a method.", NULL},
    {"__qualname__", (getter)caller_qualified_name, NULL, "The qualified name, as of a method.", NULL},
    {"__self__", (getter)caller_owner, NULL, "The exchange, as of a method.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef caller_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(caller, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(caller_doc,
"`receive` or `send` of a request, as an application gets them.");

static PyType_Slot caller_slots[] = {
    {Py_tp_doc, (void *)caller_doc},
    {Py_tp_dealloc, caller_dealloc},
    {Py_tp_traverse, caller_traverse},
    {Py_tp_clear, caller_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getset, caller_attributes},
    {Py_tp_members, caller_members},
    {0, NULL},
};

/* Not immutable: `hosts.asgi.http` marks it as what gives coroutines. */
static PyType_Spec caller_spec = {
    .name = "uwsgibridge.fast._fast.Caller",
    .basicsize = sizeof(caller),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
        | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = caller_slots,
};

/* Make `receive` or `send` of an exchange; a new reference, or NULL with an error. */
static PyObject *
make_caller(PyTypeObject *type, PyTypeObject *step_type, PyObject *exchange, int kind)
{
    caller *made = (caller *)type->tp_alloc(type, 0);
    if (made != NULL) {
        made->vectorcall = (vectorcallfunc)caller_call;
        made->step_type = (PyTypeObject *)Py_NewRef(step_type);
        made->exchange = Py_NewRef(exchange);
        made->kind = kind;
    }
    return (PyObject *)made;
}
