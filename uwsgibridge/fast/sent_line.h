/* Writes the line of an answer that was sent here as a whole: `telemetry.access_log` makes one of these, and has the same for
   all other answers. */

/* What an id may have that comes from outside, as `telemetry.request_ids` has it, beside letters and digits. */
#define ID_MARKS "._~:;/+=@,-"
#define MAX_ID_BYTES 200

/* An id that is made has 128 bits. One system call gives the bits of so many ids: getrandom(2) never gives less than it is asked
   for where that is up to 256 bytes. */
#define MADE_ID_BYTES 16
#define MADE_AT_ONCE 16

typedef struct {
    PyObject_HEAD
    const module_state *state;
    PyObject *sources;    /* a tuple: names of vars with an id, the first one first */
    PyObject *name;       /* gives a request its id */
    PyObject *traces;     /* tells by `are_kept` whether a line has more than an id */
    PyObject *clock;      /* gives the present time as a line has it */
    PyObject *buffer;     /* a `LineBuffer` that lines may be written beside as long as it is idle, or None */
    PyObject *write;      /* takes a line with its end, as bytes */
    PyObject *otherwise;  /* writes a line that is not plain */
#ifndef Py_GIL_DISABLED
    int unused_ids;       /* of those that `random` has */
    sig_atomic_t made_at_fork;
    unsigned char random[MADE_AT_ONCE * MADE_ID_BYTES];
    time_t second;        /* of `now` */
    PyObject *now;        /* a text; NULL before the first line */
#endif
} sent_line;

/* The fields that are arguments, in their order. */
static const size_t SENT_LINE_PLACES[] = {
    offsetof(sent_line, sources), offsetof(sent_line, name), offsetof(sent_line, traces), offsetof(sent_line, clock),
    offsetof(sent_line, buffer), offsetof(sent_line, write), offsetof(sent_line, otherwise),
};
#define SENT_LINE_FIELDS (sizeof(SENT_LINE_PLACES) / sizeof(SENT_LINE_PLACES[0]))

static inline PyObject **
sent_line_field(sent_line *self, size_t which)
{
    return (PyObject **)((char *)self + SENT_LINE_PLACES[which]);
}

static int
is_safe_id(PyObject *text)
{
    if (!is_narrow(text)) {
        return 0;
    }
    const Py_UCS1 *data = PyUnicode_1BYTE_DATA(text);
    Py_ssize_t size = PyUnicode_GET_LENGTH(text);
    for (Py_ssize_t i = 0; i < size; i++) {
        if (!Py_ISALNUM(data[i]) && (!data[i] || strchr(ID_MARKS, data[i]) == NULL)) {
            return 0;
        }
    }
    return size > 0 && size <= MAX_ID_BYTES;
}

#ifndef Py_GIL_DISABLED

/* Make an id, and keep it with the request, as `RequestIds.of` does; a new reference, or NULL with an error. */
static PyObject *
make_id(sent_line *self, PyObject *vars)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * MADE_ID_BYTES];
    /* A child would give the same ids as its parent. */
    if (!self->unused_ids || self->made_at_fork != forks) {
        if (getrandom(self->random, sizeof(self->random), 0) != (ssize_t)sizeof(self->random)) {
            return raise_errno();
        }
        self->unused_ids = MADE_AT_ONCE;
        self->made_at_fork = forks;
    }
    const unsigned char *bytes = self->random + --self->unused_ids * MADE_ID_BYTES;
    for (int i = 0; i < MADE_ID_BYTES; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    PyObject *made = PyUnicode_FromStringAndSize(text, sizeof(text));
    /* One of several threads is the first. */
    PyObject *kept = made == NULL ? NULL : PyDict_SetDefault(vars, self->state->texts[TEXT_REQUEST_ID], made);
    Py_XINCREF(kept);
    Py_XDECREF(made);
    return kept;
}

#endif

/* The id of a request; a new reference, or NULL with an error. */
static PyObject *
id_of(sent_line *self, PyObject *request, PyObject *vars)
{
    PyObject *known = PyDict_GetItemWithError(vars, self->state->texts[TEXT_REQUEST_ID]);
    for (Py_ssize_t i = 0; known == NULL && i < PyTuple_GET_SIZE(self->sources) && !PyErr_Occurred(); i++) {
        PyObject *found = PyDict_GetItemWithError(vars, PyTuple_GET_ITEM(self->sources, i));
        known = found != NULL && is_safe_id(found) ? found : NULL;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (known != NULL && is_safe_id(known)) {
        return Py_NewRef(known);
    }
#ifndef Py_GIL_DISABLED
    if (known == NULL) {
        return make_id(self, vars);
    }
#endif
    return PyObject_CallOneArg(self->name, request);
}

/* The present time as a line has it; a new reference, or NULL with an error. */
static PyObject *
time_of_line(sent_line *self)
{
#ifndef Py_GIL_DISABLED
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    if (self->now == NULL || self->second != moment.tv_sec) {
        PyObject *now = PyObject_CallNoArgs(self->clock);
        if (now == NULL) {
            return NULL;
        }
        Py_XSETREF(self->now, now);
        self->second = moment.tv_sec;
    }
    return Py_NewRef(self->now);
#else
    return PyObject_CallNoArgs(self->clock);
#endif
}

/* Give bytes to who writes them in Python; -1 with an error. */
static int
hand_line_over(const sent_line *self, const char *text, size_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize(text, (Py_ssize_t)size);
    PyObject *written = bytes == NULL ? NULL : PyObject_CallOneArg(self->write, bytes);
    Py_XDECREF(bytes);
    Py_XDECREF(written);
    return written == NULL ? -1 : 0;
}

#ifndef Py_GIL_DISABLED

/* Whether an attribute has this value, which is one of Python's own; 0 with an error, too. */
static int
has_value(PyObject *object, PyObject *name, PyObject *value)
{
    PyObject *found = PyObject_GetAttr(object, name);
    Py_XDECREF(found);
    return found == value;
}

/* The outlet of a buffer that keeps no lines and that nobody writes to at this moment: a new reference; NULL for none, or with
   an error. */
static PyObject *
idle_outlet(const sent_line *self)
{
    PyObject *const *texts = self->state->texts;
    if (self->buffer == Py_None || !has_value(self->buffer, texts[TEXT_PUSHING], Py_False)
        || !has_value(self->buffer, texts[TEXT_IS_CUT], Py_False))
    {
        return NULL;
    }
    PyObject *pending = PyObject_GetAttr(self->buffer, texts[TEXT_PENDING]);
    Py_ssize_t kept = pending == NULL ? -1 : PyObject_Size(pending);
    Py_XDECREF(pending);
    return kept ? NULL : PyObject_GetAttr(self->buffer, texts[TEXT_OUTLET]);
}

/* Write what an outlet takes now; -1 where it takes nothing, can't be written to from here, or with an error. */
static ssize_t
write_to_outlet(const sent_line *self, PyObject *outlet, const char *text, size_t size)
{
    PyObject *number = PyObject_GetAttr(outlet, self->state->texts[TEXT_AT_ONCE]);
    int descriptor = number == NULL ? -1 : (int)PyLong_AsLong(number);
    Py_XDECREF(number);
    if (descriptor < 0) {
        return -1;
    }
    if (has_value(outlet, self->state->texts[TEXT_IS_NONBLOCKING], Py_False)) {
        return write_without_wait(descriptor, text, size);
    }
    ssize_t written;
    do {
        written = write(descriptor, text, size);
    } while (written < 0 && errno == EINTR);
    return written;
}

/* Write a line: with the interpreter's lock, so that the buffer stays idle meanwhile. -1 with an error. */
static int
write_line(const sent_line *self, const char *text, size_t size)
{
    PyObject *outlet = idle_outlet(self);
    ssize_t written = outlet == NULL ? -1 : write_to_outlet(self, outlet, text, size);
    Py_XDECREF(outlet);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (written < 0) {
        return hand_line_over(self, text, size); /* which meets the same failure, if it was one */
    }
    if ((size_t)written == size) {
        return 0;
    }
    PyObject *kept = PyObject_CallMethod(self->buffer, "keep_rest", "y#", text + written, (Py_ssize_t)size - written);
    Py_XDECREF(kept);
    return kept == NULL ? -1 : 0;
}

#else

static int
write_line(const sent_line *self, const char *text, size_t size)
{
    return hand_line_over(self, text, size);
}

#endif

/* Write a plain line. 1, or 0 with nothing written where it is not plain, or -1 with an error. */
static int
write_plainly(sent_line *self, PyObject *request, access_facts *told)
{
    PyObject *traces = PyObject_GetAttr(self->traces, self->state->texts[TEXT_ARE_KEPT]);
    Py_XDECREF(traces);
    PyObject *vars = traces == NULL ? NULL : PyObject_GetAttr(request, self->state->texts[TEXT_VARS]);
    if (vars == NULL) {
        return -1;
    }
    char text[MAX_ACCESS_LINE_BYTES + 1];
    line_space line = {text, text + MAX_ACCESS_LINE_BYTES};
    int done = -1;
    if (traces != Py_False || !PyDict_CheckExact(vars)) {
        done = 0;
    }
    else if ((told->id = id_of(self, request, vars)) != NULL && (told->now = time_of_line(self)) != NULL) {
        done = append_line(&line, self->state, vars, told);
    }
    Py_XDECREF(told->id);
    Py_XDECREF(told->now);
    Py_DECREF(vars);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (done > 0) {
        *line.place++ = '\n';
        done = write_line(self, text, (size_t)(line.place - text)) < 0 ? -1 : 1;
    }
    return done;
}

/* Write the line of an answer with what `telemetry.access.SentWriter` takes; `writer` is mostly a `SentLine`. -1 with an error. */
static int
write_sent(const module_state *state, PyObject *writer, PyObject *request, long status, Py_ssize_t body_bytes, double accepted_at,
           double started_at)
{
    PyObject *otherwise = writer;
    if (Py_IS_TYPE(writer, state->sent_line_type)) {
        access_facts told = {
            .status = status, .body_bytes = body_bytes, .is_complete = 1, .worker = own_number,
            .queue_seconds = started_at - accepted_at, .seconds = monotonic_now() - started_at,
        };
        int done = write_plainly((sent_line *)writer, request, &told);
        if (done) {
            return done < 0 ? -1 : 0;
        }
        otherwise = ((sent_line *)writer)->otherwise;
    }
    PyObject *written = PyObject_CallFunction(otherwise, "Olndd", request, status, body_bytes, accepted_at, started_at);
    Py_XDECREF(written);
    return written == NULL ? -1 : 0;
}

static PyObject *
sent_line_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != (Py_ssize_t)SENT_LINE_FIELDS || (kwargs != NULL && PyDict_GET_SIZE(kwargs))
        || !PyTuple_CheckExact(PyTuple_GET_ITEM(args, 0)))
    {
        PyErr_Format(PyExc_TypeError, "SentLine takes a tuple and %zu more arguments", SENT_LINE_FIELDS - 1);
        return NULL;
    }
    sent_line *self = (sent_line *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = PyType_GetModuleState(type);
        for (size_t i = 0; i < SENT_LINE_FIELDS; i++) {
            *sent_line_field(self, i) = Py_NewRef(PyTuple_GET_ITEM(args, (Py_ssize_t)i));
        }
    }
    return (PyObject *)self;
}

static PyObject *
sent_line_call(sent_line *self, PyObject *args, PyObject *kwargs)
{
    PyObject *request;
    long status;
    Py_ssize_t body_bytes;
    double accepted_at, started_at;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "a SentLine takes no arguments by their names");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "Olndd:SentLine", &request, &status, &body_bytes, &accepted_at, &started_at)
        || write_sent(self->state, (PyObject *)self, request, status, body_bytes, accepted_at, started_at) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
sent_line_traverse(sent_line *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (size_t i = 0; i < SENT_LINE_FIELDS; i++) {
        Py_VISIT(*sent_line_field(self, i));
    }
    return 0;
}

static int
sent_line_clear(sent_line *self)
{
    for (size_t i = 0; i < SENT_LINE_FIELDS; i++) {
        Py_CLEAR(*sent_line_field(self, i));
    }
#ifndef Py_GIL_DISABLED
    Py_CLEAR(self->now);
#endif
    return 0;
}

static void
sent_line_dealloc(sent_line *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    sent_line_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyDoc_STRVAR(sent_line_doc,
"SentLine(sources, name, traces, clock, buffer, write, otherwise, /)\n--\n\n"
"Writes lines of the access log as JSON, for answers that were sent as a whole.");

static PyType_Slot sent_line_slots[] = {
    {Py_tp_doc, (void *)sent_line_doc},
    {Py_tp_new, sent_line_new},
    {Py_tp_dealloc, sent_line_dealloc},
    {Py_tp_traverse, sent_line_traverse},
    {Py_tp_clear, sent_line_clear},
    {Py_tp_call, sent_line_call},
    {0, NULL},
};

static PyType_Spec sent_line_spec = {
    .name = "uwsgibridge.fast._fast.SentLine",
    .basicsize = sizeof(sent_line),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = sent_line_slots,
};
