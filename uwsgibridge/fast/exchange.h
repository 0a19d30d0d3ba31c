/* The fields of an HTTP exchange of ASGI: `hosts.asgi.http_fields` has the same for Python alone.

   `HttpExchange` is a class of Python that is derived from this one. So what is here reads and writes the fields of a
   real exchange without a call, and each method of Python works on the exchange at any time. */

/* What all exchanges of a host have in common. */
typedef struct {
    PyObject_HEAD
    module_state *module;  /* of the module that the type keeps */
    PyObject *app;
    PyObject *state;            /* a dict */
    PyObject *running;          /* members of enums */
    PyObject *ended;
    PyObject *over;
    PyObject *arriving;
    PyObject *whole;
    PyObject *no_stream;
    PyObject *not_cancelled;
    PyObject *resume_response;  /* makes a `Response` of what is here */
    PyObject *tls_extension;    /* makes what is said of TLS */
    PyObject *close;            /* ends a connection */
    PyObject *release;          /* of the host, for what is not plain */
    PyObject *given_up;         /* the tables of the host */
    PyObject *websockets;
    PyObject *free_slots;
    PyObject *in_flight;
    PyObject *admission;
    PyObject *recorder;
    PyObject *log_sent;
    PyObject *forked_child;     /* the variables of that module */
    PyObject *kinds;            /* memos of `protocol` */
    PyObject *stream_kinds;
    PyObject *status_lines;
    PyObject *header_names;
    PyObject *http_versions;
    PyObject *asgi;
    PyObject *id_header;        /* bytes: the name of a header with the request's id; or None */
    Py_ssize_t frontend_buffer_bytes;
    int is_used;                /* else `receive` and `send` are those of Python */
    int may_offload;
    int logs_access;
} http_plan;

/* The arguments of a plan that are objects: names, places, and the type that each has to have, or NULL. */
static const struct {
    const char *name;
    size_t place;
    PyTypeObject *type;
} PLAN_PARTS[] = {
    {"app", offsetof(http_plan, app), NULL},
    {"state", offsetof(http_plan, state), &PyDict_Type},
    {"running", offsetof(http_plan, running), NULL},
    {"ended", offsetof(http_plan, ended), NULL},
    {"over", offsetof(http_plan, over), NULL},
    {"arriving", offsetof(http_plan, arriving), NULL},
    {"whole", offsetof(http_plan, whole), NULL},
    {"no_stream", offsetof(http_plan, no_stream), NULL},
    {"not_cancelled", offsetof(http_plan, not_cancelled), NULL},
    {"resume_response", offsetof(http_plan, resume_response), NULL},
    {"tls_extension", offsetof(http_plan, tls_extension), NULL},
    {"close", offsetof(http_plan, close), NULL},
    {"release", offsetof(http_plan, release), NULL},
    {"given_up", offsetof(http_plan, given_up), &PySet_Type},
    {"websockets", offsetof(http_plan, websockets), &PyDict_Type},
    {"free_slots", offsetof(http_plan, free_slots), &PyList_Type},
    {"in_flight", offsetof(http_plan, in_flight), &PySet_Type},
    {"admission", offsetof(http_plan, admission), NULL},
    {"recorder", offsetof(http_plan, recorder), NULL},
    {"log_sent", offsetof(http_plan, log_sent), NULL},
    {"forked_child", offsetof(http_plan, forked_child), &PyDict_Type},
    {"kinds", offsetof(http_plan, kinds), &PyDict_Type},
    {"stream_kinds", offsetof(http_plan, stream_kinds), &PyDict_Type},
    {"status_lines", offsetof(http_plan, status_lines), &PyDict_Type},
    {"header_names", offsetof(http_plan, header_names), &PyDict_Type},
    {"http_versions", offsetof(http_plan, http_versions), &PyDict_Type},
    {"asgi", offsetof(http_plan, asgi), &PyDict_Type},
    {"id_header", offsetof(http_plan, id_header), NULL},
};
#define PLAN_PART_COUNT (sizeof(PLAN_PARTS) / sizeof(PLAN_PARTS[0]))

static inline PyObject **
plan_part(http_plan *self, size_t which)
{
    return (PyObject **)((char *)self + PLAN_PARTS[which].place);
}

/* The argument of a plan, borrowed; NULL with an error. */
static PyObject *
plan_argument(PyObject *kwargs, const char *name)
{
    PyObject *found = kwargs == NULL ? NULL : PyDict_GetItemString(kwargs, name);
    if (found == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "a plan needs %s", name);
    }
    return found;
}

/* Take a truth value for a plan; false with an error. */
static int
plan_flag(PyObject *kwargs, const char *name, int *flag)
{
    PyObject *found = plan_argument(kwargs, name);
    *flag = found == NULL ? -1 : PyObject_IsTrue(found);
    return *flag >= 0;
}

/* Fill a plan; false with an error. */
static int
fill_plan(http_plan *self, PyObject *kwargs)
{
    for (size_t i = 0; i < PLAN_PART_COUNT; i++) {
        PyObject *part = plan_argument(kwargs, PLAN_PARTS[i].name);
        if (part == NULL) {
            return 0;
        }
        PyTypeObject *type = PLAN_PARTS[i].type;
        if (type != NULL && !PyObject_TypeCheck(part, type)) {
            PyErr_Format(PyExc_TypeError, "%s of a plan is a %s", PLAN_PARTS[i].name, type->tp_name);
            return 0;
        }
        *plan_part(self, i) = Py_NewRef(part);
    }
    PyObject *bytes = plan_argument(kwargs, "frontend_buffer_bytes");
    if (bytes == NULL || !as_size(bytes, &self->frontend_buffer_bytes) || !plan_flag(kwargs, "is_used", &self->is_used)
        || !plan_flag(kwargs, "may_offload", &self->may_offload)
        || !plan_flag(kwargs, "logs_access", &self->logs_access))
    {
        return 0;
    }
    if (self->is_used && !Py_IS_TYPE(self->recorder, self->module->recorder_type)) {
        PyErr_SetString(PyExc_TypeError, "the recorder of a plan is no Recorder of this module");
        return 0;
    }
    return 1;
}

static PyObject *
plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args)) {
        PyErr_SetString(PyExc_TypeError, "a plan takes named arguments alone");
        return NULL;
    }
    http_plan *self = (http_plan *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->module = PyType_GetModuleState(type);
    if (!fill_plan(self, kwargs)) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
plan_traverse(http_plan *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (size_t i = 0; i < PLAN_PART_COUNT; i++) {
        Py_VISIT(*plan_part(self, i));
    }
    return 0;
}

static int
plan_clear(http_plan *self)
{
    for (size_t i = 0; i < PLAN_PART_COUNT; i++) {
        Py_CLEAR(*plan_part(self, i));
    }
    return 0;
}

static void
plan_dealloc(http_plan *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    plan_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyDoc_STRVAR(plan_doc,
"What all HTTP exchanges of a host have in common. Its arguments are named, and stay as they are.");

static PyType_Slot plan_slots[] = {
    {Py_tp_doc, (void *)plan_doc},
    {Py_tp_new, plan_new},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_traverse, plan_traverse},
    {Py_tp_clear, plan_clear},
    {0, NULL},
};

static PyType_Spec plan_spec = {
    .name = "uwsgibridge.fast._fast.HttpPlan",
    .basicsize = sizeof(http_plan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = plan_slots,
};

/* The fields of an exchange; each owns what it holds, and is NULL only before it is set. */
typedef struct {
    PyObject_HEAD
    http_plan *plan;
    PyObject *context;
    connection_fields *connection;
    PyObject *request;
    PyObject *life;
    PyObject *call;
    PyObject *input;
    PyObject *stream;
    PyObject *disconnected;
    PyObject *body_wait;
    PyObject *timer;
    PyObject *end_timer;
    PyObject *response;    /* NULL as long as nobody has asked for it: the answer is what follows */
    PyObject *status;      /* an int; NULL before the head */
    PyObject *head;        /* bytes, without their end; NULL before the head */
    long long promised;    /* Content-Length, or -1 */
    Py_ssize_t sent_body;  /* of a complete answer; -1 before */
    double started_at;
    double answer_began;   /* when the first byte of the answer was given to the kernel, or 0 */
    char method_row;       /* of a plain answer: as `recorder.h` has it */
    char sets_buffering;
    char sets_expires;
    char gone;
    char has_written;
    char is_lost;
} http_fields;

/* The fields that are objects, for whoever visits or clears all of them. */
static const size_t FIELD_PLACES[] = {
    offsetof(http_fields, plan), offsetof(http_fields, context), offsetof(http_fields, connection),
    offsetof(http_fields, request), offsetof(http_fields, life), offsetof(http_fields, call),
    offsetof(http_fields, input), offsetof(http_fields, stream), offsetof(http_fields, disconnected),
    offsetof(http_fields, body_wait), offsetof(http_fields, timer), offsetof(http_fields, end_timer),
    offsetof(http_fields, response), offsetof(http_fields, status), offsetof(http_fields, head),
};
#define FIELD_COUNT (sizeof(FIELD_PLACES) / sizeof(FIELD_PLACES[0]))

static inline PyObject **
field_at(http_fields *self, size_t which)
{
    return (PyObject **)((char *)self + FIELD_PLACES[which]);
}

/* Make an exchange: `HttpExchange(context, connection)`. */
static PyObject *
http_fields_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 2 || (kwargs != NULL && PyDict_GET_SIZE(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "an exchange takes a context and a connection");
        return NULL;
    }
    PyObject *module = PyType_GetModuleByDef(type, &definition);
    http_fields *self = module == NULL ? NULL : (http_fields *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->context = Py_NewRef(PyTuple_GET_ITEM(args, 0));
    self->promised = self->sent_body = -1;
    self->started_at = monotonic_now();
    PyObject *plan = PyObject_GetAttr(self->context, state_of(module)->texts[TEXT_PLAN]);
    if (plan == NULL || Py_TYPE(plan)->tp_new != plan_new) {
        if (plan != NULL) {
            PyErr_SetString(PyExc_TypeError, "the context of an exchange has a plan");
        }
        Py_XDECREF(plan);
        Py_DECREF(self);
        return NULL;
    }
    http_plan *own = self->plan = (http_plan *)plan;
    self->life = Py_NewRef(own->running);
    self->call = Py_NewRef(own->not_cancelled);
    self->input = Py_NewRef(own->arriving);
    self->stream = Py_NewRef(own->no_stream);
    self->disconnected = Py_NewRef(Py_None);
    self->body_wait = Py_NewRef(Py_None);
    self->timer = Py_NewRef(Py_None);
    self->end_timer = Py_NewRef(Py_None);
    PyObject *connection = PyTuple_GET_ITEM(args, 1);
    if (!PyObject_TypeCheck(connection, own->module->fields_type)
        || ((connection_fields *)connection)->request == NULL)
    {
        PyErr_SetString(PyExc_TypeError, "an exchange needs a connection with its request");
        Py_DECREF(self);
        return NULL;
    }
    self->connection = (connection_fields *)Py_NewRef(connection);
    self->request = Py_NewRef(self->connection->request);
    return (PyObject *)self;
}

/* The rest of the making is done by `http_fields_new`. */
static int
http_fields_init(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return 0;
}

static int
http_fields_traverse(http_fields *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        Py_VISIT(*field_at(self, i));
    }
    return 0;
}

static int
http_fields_clear(http_fields *self)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        Py_CLEAR(*field_at(self, i));
    }
    return 0;
}

static void
http_fields_dealloc(http_fields *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    http_fields_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* The answer as an object of Python, which goes on with it from then on; a new reference, or NULL with an error. */
static PyObject *
http_fields_response(http_fields *self, void *Py_UNUSED(closure))
{
    if (self->response == NULL) {
        PyObject *head = self->head == NULL ? Py_None : self->head;
        PyObject *status = self->status == NULL ? Py_None : self->status;
        self->response = PyObject_CallFunction(
            self->plan->resume_response, "OOOLiin", self->request, status, head, self->promised,
            (int)self->sets_buffering, (int)self->sets_expires, self->sent_body);
        if (self->response != NULL) {
            Py_CLEAR(self->head);
            Py_CLEAR(self->status);
        }
    }
    return Py_XNewRef(self->response);
}

#define HTTP_FIELD(name, kind, member, doc) {name, kind, offsetof(http_fields, member), 0, doc}

static PyMemberDef http_fields_members[] = {
    HTTP_FIELD("_context", T_OBJECT_EX, context, "What the exchanges of a host share."),
    HTTP_FIELD("connection", T_OBJECT_EX, connection, "The connection with its request."),
    HTTP_FIELD("request", T_OBJECT_EX, request, "The request."),
    HTTP_FIELD("_life", T_OBJECT_EX, life, "A `Life`."),
    HTTP_FIELD("_call", T_OBJECT_EX, call, "A `Call`."),
    HTTP_FIELD("_input", T_OBJECT_EX, input, "An `Input`."),
    HTTP_FIELD("_stream", T_OBJECT_EX, stream, "A `Stream`."),
    HTTP_FIELD("_disconnected", T_OBJECT_EX, disconnected, "An event, or None."),
    HTTP_FIELD("_body_wait", T_OBJECT_EX, body_wait, "An event, or None."),
    HTTP_FIELD("_timer", T_OBJECT_EX, timer, "A task, or None."),
    HTTP_FIELD("_end_timer", T_OBJECT_EX, end_timer, "A task, or None."),
    HTTP_FIELD("_started_at", T_DOUBLE, started_at, "When the application was called."),
    HTTP_FIELD("_answer_began", T_DOUBLE, answer_began, "When the first byte of the answer was sent, or 0."),
    HTTP_FIELD("_gone", T_BOOL, gone, "Whether nobody may hear any more."),
    HTTP_FIELD("_has_written", T_BOOL, has_written, "Whether any part of the answer was sent."),
    HTTP_FIELD("_is_lost", T_BOOL, is_lost, "Whether the task goes on after its cancellation."),
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef http_fields_attributes[] = {
    {"_response", (getter)http_fields_response, NULL, "The answer.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
