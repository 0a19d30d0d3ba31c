/* The exchange of WSGI: its fields, and `start_response`, as `hosts.wsgi.exchange` has them.

   `WsgiExchange` is a class of Python that is derived from the fields. What is here reads and writes the fields of a
   real exchange, and each method of Python works on it at any time: where a method asks for the `Response`, it is made
   of what was kept here. */

/* What the threads of a host share, by the names of the arguments of `WsgiThread`. */
enum {
    PART_ADMISSION, PART_APP, PART_BASE_ENVIRON, PART_CONCLUDE, PART_CONTEXT, PART_ENDED, PART_ERRORS,
    PART_EXCHANGE_TYPE, PART_FILE_WRAPPER, PART_FREE_SLOTS, PART_INPUT_TYPE, PART_IN_FLIGHT, PART_KINDS, PART_OVER, PART_QUEUE,
    PART_RUNNING, PART_SERVER_SOFTWARE, PART_STARTED, PART_STATUSES, PART_STREAM_KINDS, PART_THREAD,
    PARTS
};

static const char *const PART_NAMES[PARTS] = {
    "admission", "app", "base_environ", "conclude", "context", "ended", "errors",
    "exchange_type", "file_wrapper", "free_slots", "input_type", "in_flight", "kinds", "over", "queue",
    "running", "server_software", "started", "statuses", "stream_kinds", "thread",
};

/* One thread of a host, which runs one exchange after the other. */
typedef struct {
    PyObject_HEAD
    module_state *state;
    PyObject *parts[PARTS];
    PyObject *exchange;                /* that runs now, or NULL */
    Py_ssize_t frontend_buffer_bytes;  /* a larger head is told of by Python */
    int has_offload;
    double began_at;  /* when the last request began, until its end is noted; else 0 */
    pace pace;
    int logs_access;
} wsgi_thread;

typedef struct {
    PyObject_HEAD
    wsgi_thread *thread;     /* NULL where Python has made the exchange */
    PyObject *connection;
    PyObject *context;
    PyObject *request;
    PyObject *life;
    PyObject *interruption;  /* NULL or None where nobody has given the request up */
    PyObject *response;      /* NULL until Python asks for it */
    PyObject *head;          /* bytes without their end, from `start_response` here; NULL where there are none */
    PyObject *sent;          /* the piece of the body that was sent with the head; NULL before */
    double started_at;
    long long promised;      /* Content-Length, or -1 */
    long stream_kind;
    long status;
    char given_up;
    char sets_buffering;
    char sets_expires;
    char is_sent_last;       /* the whole body was sent: so many bytes */
    Py_ssize_t sent_bytes;
} wsgi_exchange;

/* Whether nobody has given the request up. */
static inline int
is_undisturbed(const wsgi_exchange *self)
{
    return (self->interruption == NULL || self->interruption == Py_None) && !self->given_up;
}

/* Give the `Response`, a new reference. Where there is none yet, Python makes it of what was kept here. */
static PyObject *
exchange_get_response(wsgi_exchange *self, void *Py_UNUSED(closure))
{
    if (self->response != NULL) {
        return Py_NewRef(self->response);
    }
    PyObject *made;
    if (self->head == NULL) {
        made = PyObject_CallMethod((PyObject *)self, "_make_response", NULL);
    }
    else {
        PyObject *promised = self->promised < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(self->promised);
        if (promised == NULL) {
            return NULL;
        }
        made = PyObject_CallMethod((PyObject *)self, "_make_response", "l(ONlOO)On", self->status, self->head,
                                   promised, self->stream_kind, self->sets_buffering ? Py_True : Py_False,
                                   self->sets_expires ? Py_True : Py_False,
                                   self->sent == NULL ? Py_None : self->sent,
                                   self->is_sent_last ? self->sent_bytes : -1);
    }
    /* Another thread may have asked as well, and have made one meanwhile. */
    if (made != NULL && self->response == NULL) {
        self->response = Py_NewRef(made);
    }
    Py_XDECREF(made);
    return made == NULL ? NULL : Py_NewRef(self->response);
}

static int
exchange_set_response(wsgi_exchange *self, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(self->response, Py_XNewRef(value));
    return 0;
}

/* Take note of one header of a WSGI application. 1, or 0: not mine, or with an error. */
static int
plan_text_header(head_plan *plan, PyObject *item, PyObject *kinds, PyObject *stream_kinds)
{
    if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 2 || plan->count == MAX_HEADERS) {
        return 0;
    }
    PyObject *name = PyTuple_GET_ITEM(item, 0);
    PyObject *value = PyTuple_GET_ITEM(item, 1);
    if (!is_narrow(name) || !is_narrow(value)) {
        return 0;
    }
    header_line line = {
        (const char *)PyUnicode_1BYTE_DATA(name), PyUnicode_GET_LENGTH(name),
        (const char *)PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value),
    };
    long kind = look_up(kinds, name);
    int is_sent = kind < 0 ? -1 : note_header(plan, kind, value, &line, stream_kinds);
    if (is_sent <= 0) {
        return is_sent == 0;
    }
    if (has_control(line.value, line.value_size)) {
        return 0;
    }
    plan->lines[plan->count++] = line;
    plan->size += 4 + line.name_size + line.value_size;
    return 1;
}

/* Keep the head of an answer. 1, or 0: not mine, or with an error. Nothing here runs code of the application. */
static int
keep_head(wsgi_exchange *self, PyObject *status, PyObject *headers)
{
    const wsgi_thread *thread = self->thread;
    if (!PyUnicode_CheckExact(status) || !PyList_CheckExact(headers)) {
        return 0;
    }
    /* Of `protocol.status`: the code, and the line. */
    PyObject *known = PyDict_GetItemWithError(thread->parts[PART_STATUSES], status);
    if (known == NULL) {
        return 0;
    }
    long code = PyLong_AsLong(PyTuple_GET_ITEM(known, 0));
    PyObject *line = PyTuple_GET_ITEM(known, 1);
    if (code < 200 || code == 204 || code == 304) {
        return 0;
    }
    head_plan plan;
    begin_plan(&plan, 0);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        if (!plan_text_header(&plan, PyList_GET_ITEM(headers, i), thread->parts[PART_KINDS],
                              thread->parts[PART_STREAM_KINDS]))
        {
            return 0;
        }
    }
    self->head = write_head(&plan, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line));
    if (self->head == NULL) {
        return 0;
    }
    self->status = code;
    self->promised = plan.promised;
    self->stream_kind = plan.stream_kind;
    self->sets_buffering = (char)plan.sets_buffering;
    self->sets_expires = (char)plan.sets_expires;
    return 1;
}

PyDoc_STRVAR(start_response_doc,
"start_response(status, headers, exc_info=None, /)\n--\n\n"
"Set the head of the answer, as `uwsgibridge.hosts.wsgi.exchange.WsgiExchange.start_response`.");

static PyObject *
start_response(PyObject *exchange, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    wsgi_exchange *self = (wsgi_exchange *)exchange;
    PyObject *const *texts = self->thread->state->texts;
    if (count == 2 && keywords == NULL && self->response == NULL && self->head == NULL
        && !self->thread->has_offload)
    {
        if (keep_head(self, args[0], args[1])) {
            return PyObject_GetAttr(exchange, texts[TEXT_WRITE]);
        }
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    PyObject *whole = PyObject_GetAttr(exchange, texts[TEXT_START_RESPONSE]);
    if (whole == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(whole, args, (size_t)count, keywords);
    Py_DECREF(whole);
    return result;
}

static PyMethodDef start_response_method = {
    "start_response", (PyCFunction)(void (*)(void))start_response, METH_FASTCALL | METH_KEYWORDS, start_response_doc,
};

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
    return type->tp_alloc(type, 0);
}

#define EXCHANGE_FIELD(name, kind, member, doc) {name, kind, offsetof(wsgi_exchange, member), 0, doc}

static PyMemberDef exchange_members[] = {
    EXCHANGE_FIELD("connection", T_OBJECT_EX, connection, "The connection with its request."),
    EXCHANGE_FIELD("request", T_OBJECT_EX, request, "The request."),
    EXCHANGE_FIELD("_context", T_OBJECT_EX, context, "What the requests of the host share."),
    EXCHANGE_FIELD("_life", T_OBJECT_EX, life, "How far the exchange has come."),
    EXCHANGE_FIELD("interruption", T_OBJECT, interruption, "Interrupts the thread of the request, or None."),
    EXCHANGE_FIELD("started_at", T_DOUBLE, started_at, "When the application was called."),
    EXCHANGE_FIELD("given_up", T_BOOL, given_up, "Whether another thread has taken the connection away."),
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef exchange_attributes[] = {
    {"_response", (getter)exchange_get_response, (setter)exchange_set_response, "The answer in the making.", NULL},
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
