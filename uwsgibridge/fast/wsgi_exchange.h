/* The exchange of WSGI: its fields, and `start_response`, as `hosts.wsgi.exchange` has them.

   `WsgiExchange` is a class of Python that is derived from the fields. What is here reads and writes the fields of a
   real exchange, and each method of Python works on it at any time: where a method asks for the `Response`, it is made
   of what was kept here. */

/* What the threads of a host share, by the names of the arguments of `WsgiThread`. */
enum {
    PART_ADMISSION, PART_APP, PART_BASE_ENVIRON, PART_BEGIN, PART_CONCLUDE, PART_CONTEXT, PART_ENDED, PART_ERRORS,
    PART_EXCHANGE_TYPE, PART_FILE_TYPE, PART_FILE_WRAPPER, PART_FREE_SLOTS, PART_ID_HEADER, PART_INPUT_TYPE, PART_IN_FLIGHT, PART_KINDS, PART_LOG_SENT, PART_OPEN_FILE_TYPE, PART_OVER, PART_QUEUE,
    PART_READER_TYPE, PART_RECORDER, PART_REFUSES, PART_RUNNING, PART_SERVER_SOFTWARE, PART_STARTED, PART_STATUSES, PART_STREAM_KINDS, PART_THREAD,
    PARTS
};

static const char *const PART_NAMES[PARTS] = {
    "admission", "app", "base_environ", "begin", "conclude", "context", "ended", "errors",
    "exchange_type", "file_type", "file_wrapper", "free_slots", "id_header", "input_type", "in_flight", "kinds", "log_sent", "open_file_type", "over", "queue",
    "reader_type", "recorder", "refuses", "running", "server_software", "started", "statuses", "stream_kinds", "thread",
};

/* One thread of a host, which runs one exchange after the other. */
typedef struct {
    PyObject_HEAD
    module_state *state;
    PyObject *parts[PARTS];
    PyObject *exchange;                /* that runs now, or NULL */
#ifdef Py_GIL_DISABLED
    seat *seat;                        /* what it accepts by, or NULL; the queue owns it */
#endif
    Py_ssize_t frontend_buffer_bytes;  /* a larger head is told of by Python */
    Py_ssize_t whole_file_bytes;       /* a file of so many bytes is read, and sent with the head */
    Py_ssize_t first_piece_bytes;      /* of a larger one, so many are */
    int has_offload;
    double began_at;  /* when the last request began, until its end is noted; else 0 */
    pace pace;
    int logs_access;
    Py_ssize_t write_milliseconds;  /* that a piece of an answer may take; 0 where Python waits */
    int looks;                      /* whether a request whose client is gone is not run */
    int looks_left;                 /* of LOOKS_AFTER_ONE */
    double max_queue_seconds;       /* a request that is older is not run; 0 for no limit */
} wsgi_thread;

typedef struct {
    PyObject_HEAD
    wsgi_thread *thread;     /* NULL where Python has made the exchange */
    PyObject *connection;
    PyObject *context;
    PyObject *request;
    PyObject *life;
    PyObject *interruption;  /* None where nobody has given the request up */
    PyObject *response;      /* NULL until Python asks for it */
    PyObject *head;          /* bytes without their end, from `start_response` here; NULL where there are none */
    PyObject *sent;          /* the piece of the body that was sent with the head; NULL before */
    PyObject *recorder;      /* of the thread that runs the request */
    double started_at;
    double answer_began;     /* when the first byte of the answer was given to the kernel, or 0 */
    long long promised;      /* Content-Length, or -1 */
    long stream_kind;
    long status;
    char given_up;
    char sets_buffering;
    char sets_expires;
    char is_sent_last;       /* the whole body was sent: so many bytes */
    char method_row;         /* of a plain request: as `recorder.h` has it */
    Py_ssize_t sent_bytes;
    guard guard;             /* of the answer, and of the end of the connection */
} wsgi_exchange;

/* Whether nobody has given the request up. What is done for that reason is within the guard of the exchange: another thread
   sets this within it, too. */
static inline int
is_undisturbed(const wsgi_exchange *self)
{
    return self->interruption == Py_None && !self->given_up;
}

/* Have Python make the `Response` of what was kept here; a new reference, or NULL with an error. Of `head` and `sent`, the
   caller has references. */
static PyObject *
make_response(wsgi_exchange *self, PyObject *head, PyObject *sent)
{
    if (head == NULL) {
        return PyObject_CallMethod((PyObject *)self, "_make_response", NULL);
    }
    PyObject *promised = self->promised < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(self->promised);
    if (promised == NULL) {
        return NULL;
    }
    return PyObject_CallMethod((PyObject *)self, "_make_response", "l(ONlOO)On", self->status, head, promised,
                               self->stream_kind, self->sets_buffering ? Py_True : Py_False,
                               self->sets_expires ? Py_True : Py_False, sent == NULL ? Py_None : sent,
                               self->is_sent_last ? self->sent_bytes : -1);
}

/* Give the `Response`, a new reference. Where there is none yet, Python makes it of what was kept here. */
static PyObject *
exchange_get_response(wsgi_exchange *self, void *Py_UNUSED(closure))
{
    HOLD(&self->guard);
    PyObject *response = Py_XNewRef(self->response);
    PyObject *head = Py_XNewRef(self->head);
    PyObject *sent = Py_XNewRef(self->sent);
    LET_GO(&self->guard);
    if (response == NULL) {
        PyObject *made = make_response(self, head, sent);
        if (made != NULL) {
            HOLD(&self->guard);
            /* Another thread may have asked as well, and have made one meanwhile. */
            if (self->response == NULL) {
                self->response = Py_NewRef(made);
            }
            response = Py_NewRef(self->response);
            LET_GO(&self->guard);
            Py_DECREF(made);
        }
    }
    Py_XDECREF(head);
    Py_XDECREF(sent);
    return response;
}

static int
exchange_set_response(wsgi_exchange *self, PyObject *value, void *Py_UNUSED(closure))
{
    HOLD(&self->guard);
    PyObject *before = self->response;
    self->response = Py_XNewRef(value);
    LET_GO(&self->guard);
    Py_XDECREF(before);
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

/* Plan all headers of a WSGI application, which `hold_headers` has given. 1, or 0: not mine, or with an error. */
static int
plan_text_headers(head_plan *plan, PyObject *headers, PyObject *kinds, PyObject *stream_kinds)
{
    int is_list = PyList_CheckExact(headers);
    /* The size is asked for each time: a list is the application's. */
    for (Py_ssize_t i = 0; i < (is_list ? PyList_GET_SIZE(headers) : PyTuple_GET_SIZE(headers)); i++) {
        PyObject *item = is_list ? PyList_GET_ITEM(headers, i) : PyTuple_GET_ITEM(headers, i);
        if (!plan_text_header(plan, item, kinds, stream_kinds)) {
            return 0;
        }
    }
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
    /* Of `protocol.status`: the code, and the line. It forgets none. */
    PyObject *known = PyDict_GetItemWithError(thread->parts[PART_STATUSES], status);
    if (known == NULL) {
        return 0;
    }
    long code = PyLong_AsLong(PyTuple_GET_ITEM(known, 0));
    PyObject *line = PyTuple_GET_ITEM(known, 1);
    if (code < 200 || code == 204 || code == 304) {
        return 0;
    }
    PyObject *held = hold_headers(headers);
    if (held == NULL) {
        return 0;
    }
    head_plan plan;
    begin_plan(&plan, 0);
    PyObject *head = NULL;
    PyObject *id = NULL;
    if (plan_text_headers(&plan, held, thread->parts[PART_KINDS], thread->parts[PART_STREAM_KINDS])
        && plan_id(thread->state, &plan, thread->parts[PART_ID_HEADER], self->request, &id))
    {
        head = write_head(&plan, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line));
    }
    Py_XDECREF(id);
    Py_DECREF(held);
    if (head == NULL) {
        return 0;
    }
    HOLD(&self->guard);
    /* Who gives the request up may have asked for the answer meanwhile. */
    int is_mine = self->response == NULL;
    if (is_mine) {
        self->head = head;
        self->status = code;
        self->promised = plan.promised;
        self->stream_kind = plan.stream_kind;
        self->sets_buffering = (char)plan.sets_buffering;
        self->sets_expires = (char)plan.sets_expires;
    }
    LET_GO(&self->guard);
    if (!is_mine) {
        Py_DECREF(head);
    }
    return is_mine;
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
