/* The type of `wsgi_exchange`: the fields, as Python reads and writes them. */

static int
exchange_traverse(wsgi_exchange *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->thread);
    Py_VISIT(self->connection);
    Py_VISIT(self->context);
    Py_VISIT(self->request);
    Py_VISIT(self->life);
    Py_VISIT(self->interruption);
    Py_VISIT(self->response);
    Py_VISIT(self->sent);
    Py_VISIT(self->recorder);
    return 0;
}

static int
exchange_clear(wsgi_exchange *self)
{
    Py_CLEAR(self->thread);
    Py_CLEAR(self->connection);
    Py_CLEAR(self->context);
    Py_CLEAR(self->request);
    Py_CLEAR(self->life);
    Py_CLEAR(self->interruption);
    Py_CLEAR(self->response);
    Py_CLEAR(self->head);
    Py_CLEAR(self->sent);
    Py_CLEAR(self->recorder);
    return 0;
}

static void
exchange_dealloc(wsgi_exchange *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    exchange_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
exchange_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    wsgi_exchange *self = (wsgi_exchange *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->interruption = Py_NewRef(Py_None);
    }
    return (PyObject *)self;
}

#define EXCHANGE_FIELD(name, kind, member, doc) {name, kind, offsetof(wsgi_exchange, member), 0, doc}

static PyMemberDef exchange_members[] = {
    EXCHANGE_FIELD("connection", T_OBJECT_EX, connection, "The connection with its request."),
    EXCHANGE_FIELD("request", T_OBJECT_EX, request, "The request."),
    EXCHANGE_FIELD("_context", T_OBJECT_EX, context, "What the requests of the host share."),
    EXCHANGE_FIELD("_life", T_OBJECT_EX, life, "How far the exchange has come."),
    EXCHANGE_FIELD("interruption", T_OBJECT_EX, interruption, "Interrupts the thread of the request, or None."),
    EXCHANGE_FIELD("started_at", T_DOUBLE, started_at, "When the application was called."),
    EXCHANGE_FIELD("recorder", T_OBJECT_EX, recorder, "Of the thread that runs the request."),
    EXCHANGE_FIELD("_answer_began", T_DOUBLE, answer_began, "When the first byte of the answer was sent, or 0."),
    EXCHANGE_FIELD("given_up", T_BOOL, given_up, "Whether another thread has taken the connection away."),
    {NULL, 0, 0, 0, NULL},
};

/* Asked for with the end lock held, which is the guard that `sent` is written within. */
static PyObject *
exchange_has_begun(wsgi_exchange *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->sent != NULL);
}

static PyGetSetDef exchange_attributes[] = {
    {"_response", (getter)exchange_get_response, (setter)exchange_set_response, "The answer in the making.", NULL},
    {"has_begun", (getter)exchange_has_begun, NULL, "Whether a part of the answer was sent here.", NULL},
    {"end_lock", (getter)exchange_end_lock, NULL, "Decides who ends the connection.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(exchange_doc,
"The fields of an exchange, as `uwsgibridge.hosts.wsgi.fields.PythonFields` has them.");

static PyType_Slot exchange_slots[] = {
    {Py_tp_doc, (void *)exchange_doc},
    {Py_tp_new, exchange_new},
    {Py_tp_dealloc, exchange_dealloc},
    {Py_tp_traverse, exchange_traverse},
    {Py_tp_clear, exchange_clear},
    {Py_tp_members, exchange_members},
    {Py_tp_getset, exchange_attributes},
    {0, NULL},
};

static PyType_Spec exchange_spec = {
    .name = "uwsgibridge.fast._fast.WsgiFields",
    .basicsize = sizeof(wsgi_exchange),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = exchange_slots,
};
