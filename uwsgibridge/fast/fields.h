/* The fields of a connection: `uwsgibridge.connection.fields` has the same for Python alone.

   `Connection` is a class of Python that is derived from this one. So what is here reads and writes the fields of a
   real connection without a call, and each method of Python works on the connection at any time. */

typedef struct {
    PyObject_HEAD
    PyObject *socket;        /* a descriptor, or a socket; NULL before it is set */
    PyObject *request;       /* NULL before the packet has arrived */
    PyObject *slot;          /* a memoryview, or None */
    PyObject *seen_body;     /* bytes */
    PyObject *pending;       /* bytes */
    PyObject *task;          /* NULL where there is none */
    PyObject *closing_task;  /* NULL where there is none */
    double accepted_at;
    Py_ssize_t peeked_bytes;
    long long body_unseen;
    char keeps_input_in_kernel;
    char peer_gone;
    char input_stalled;
    char is_nonblocking;
    char has_large_buffer;
    char breaks_if_killed;
} connection_fields;

/* Make a connection of a class that is derived from the fields, with their defaults; NULL with an error. */
static connection_fields *
make_fields(PyTypeObject *type)
{
    connection_fields *self = (connection_fields *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->slot = Py_NewRef(Py_None);
    self->seen_body = PyBytes_FromStringAndSize(NULL, 0);
    self->pending = Py_XNewRef(self->seen_body);
    if (self->seen_body == NULL) {
        Py_CLEAR(self);
    }
    return self;
}

static PyObject *
fields_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return (PyObject *)make_fields(type);
}

static int
fields_traverse(connection_fields *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->socket);
    Py_VISIT(self->request);
    Py_VISIT(self->slot);
    Py_VISIT(self->task);
    Py_VISIT(self->closing_task);
    return 0;
}

static int
fields_clear(connection_fields *self)
{
    Py_CLEAR(self->socket);
    Py_CLEAR(self->request);
    Py_CLEAR(self->slot);
    Py_CLEAR(self->seen_body);
    Py_CLEAR(self->pending);
    Py_CLEAR(self->task);
    Py_CLEAR(self->closing_task);
    return 0;
}

static void
fields_dealloc(connection_fields *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    fields_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

#define FIELD(name, kind, member, doc) {name, kind, offsetof(connection_fields, member), 0, doc}

static PyMemberDef fields_members[] = {
    FIELD("_socket", T_OBJECT_EX, socket, "What the connection owns."),
    FIELD("request", T_OBJECT_EX, request, "The request, once the packet has arrived."),
    FIELD("slot", T_OBJECT_EX, slot, "The flight recorder's slot with the packet, or None."),
    FIELD("_seen_body", T_OBJECT_EX, seen_body, "Bytes of the body that came with the packet."),
    FIELD("_pending", T_OBJECT_EX, pending, "The start of a packet that came in pieces."),
    FIELD("task", T_OBJECT_EX, task, "The task that serves the request."),
    FIELD("closing_task", T_OBJECT_EX, closing_task, "The task that discards the rest of the input."),
    FIELD("accepted_at", T_DOUBLE, accepted_at, "When the connection was accepted."),
    FIELD("_peeked_bytes", T_PYSSIZET, peeked_bytes, "Bytes that were peeked at."),
    FIELD("body_unseen", T_LONGLONG, body_unseen, "Bytes of the body that were not read or peeked at yet."),
    FIELD("_keeps_input_in_kernel", T_BOOL, keeps_input_in_kernel, "Whether input is peeked at."),
    FIELD("peer_gone", T_BOOL, peer_gone, "Whether the peer was found to be gone."),
    FIELD("input_stalled", T_BOOL, input_stalled, "Whether the wait for the body came to its deadline."),
    FIELD("_is_nonblocking", T_BOOL, is_nonblocking, "Whether the descriptor was made non-blocking."),
    FIELD("_has_large_buffer", T_BOOL, has_large_buffer, "Whether the send buffer was enlarged."),
    FIELD("_breaks_if_killed", T_BOOL, breaks_if_killed, "Whether each close is a reset."),
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(fields_doc,
"The fields of a connection, as `uwsgibridge.connection.fields.PythonFields` has them.");

static PyType_Slot fields_slots[] = {
    {Py_tp_doc, (void *)fields_doc},
    {Py_tp_new, fields_new},
    {Py_tp_dealloc, fields_dealloc},
    {Py_tp_traverse, fields_traverse},
    {Py_tp_clear, fields_clear},
    {Py_tp_members, fields_members},
    {0, NULL},
};

static PyType_Spec fields_spec = {
    .name = "uwsgibridge.fast._fast.ConnectionFields",
    .basicsize = sizeof(connection_fields),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = fields_slots,
};
