/* One HTTP request of an ASGI application, as `hosts.asgi.http` has it: the call, `receive`, `send`, and the end. */

/* Up to here, head and body are one buffer: as in `protocol.response`. */
#define JOIN_BYTES 65536

/* Of a body, so much is received at once: as in `connection.connection`. */
#define CHUNK_BYTES 65536

/* The end of a head, with a Content-Length of any size. */
#define HEAD_END_BYTES 64

/* Whether the answer is as this file has left it, and goes on. */
static inline int
is_straight(const http_fields *self)
{
    return self->response == NULL && !self->gone && self->life == self->plan->running && self->plan->is_used;
}

/* `receive`: give the body, all of which came with the packet. 1, 0 or -1 as `take_step`. */
static int
receive_plainly(http_fields *self, PyObject **result)
{
    const module_state *state = self->plan->module;
    if (!is_straight(self) || self->input != self->plan->arriving) {
        return 0;
    }
    PyObject *body = self->connection->seen_body;
    if (self->connection->body_unseen || !PyBytes_CheckExact(body) || PyBytes_GET_SIZE(body) > CHUNK_BYTES) {
        return 0;
    }
    PyObject *message = PyDict_New();
    if (message == NULL
        || PyDict_SetItem(message, state->texts[TEXT_TYPE], state->texts[TEXT_REQUEST_TYPE]) < 0
        || PyDict_SetItem(message, state->texts[TEXT_BODY], body) < 0
        || PyDict_SetItem(message, state->texts[TEXT_MORE_BODY], Py_False) < 0)
    {
        Py_XDECREF(message);
        return -1;
    }
    Py_SETREF(self->connection->seen_body, Py_NewRef(state->empty_bytes));
    Py_SETREF(self->input, Py_NewRef(self->plan->whole));
    *result = message;
    return 1;
}

/* Whether a request is one whose answer has a body: 1, 0, or -1 with an error. */
static int
wants_body(http_fields *self)
{
    const module_state *state = self->plan->module;
    PyObject *vars = PyObject_GetAttr(self->request, state->texts[TEXT_VARS]);
    if (vars == NULL) {
        return -1;
    }
    PyObject *method = PyDict_CheckExact(vars) ? var_of(state, vars, VAR_REQUEST_METHOD) : NULL;
    int wants = method != NULL && is_narrow(method) && !is_word(method, "HEAD", 4);
    self->method_row = (char)method_row(method);
    Py_DECREF(vars);
    return PyErr_Occurred() ? -1 : wants;
}

/* The status line for a status of which nothing follows for the body; borrowed, or NULL: not mine, or with an error. */
static PyObject *
plain_status_line(const http_plan *plan, PyObject *status)
{
    if (status == NULL || !PyLong_CheckExact(status)) {
        return NULL;
    }
    PyObject *line = PyDict_GetItemWithError(plan->status_lines, status);
    if (line == NULL || !PyBytes_CheckExact(line)) {
        return NULL;
    }
    long code = PyLong_AsLong(status);
    return code >= 200 && code != 204 && code != 304 ? line : NULL;
}

/* `http.response.start`: keep the head. 1, 0 or -1 as `take_step`. */
static int
start_plainly(http_fields *self, PyObject *message)
{
    const module_state *state = self->plan->module;
    const http_plan *plan = self->plan;
    if (self->head != NULL || plan->may_offload) {
        return 0;
    }
    int wants = wants_body(self);
    if (wants <= 0) {
        return wants;
    }
    /* Owned: a key of the message that is no str may run code of the application. */
    PyObject *status = look_up_item(message, state->texts[TEXT_STATUS]);
    PyObject *headers = PyErr_Occurred() ? NULL : look_up_item(message, state->texts[TEXT_HEADERS]);
    if (headers != NULL) {
        Py_SETREF(headers, hold_headers(headers));
    }
    PyObject *line = PyErr_Occurred() ? NULL : plain_status_line(plan, status);
    head_plan found;
    begin_plan(&found, 0);
    PyObject *id = NULL;
    int done = 0;
    if (line != NULL && (headers == NULL || plan_headers(&found, headers, plan->kinds, plan->stream_kinds))
        && !found.stream_kind && plan_id(state, &found, plan->id_header, self->request, &id))
    {
        self->head = write_head(&found, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line));
        self->promised = found.promised;
        self->sets_buffering = (char)found.sets_buffering;
        self->sets_expires = (char)found.sets_expires;
        done = self->head != NULL;
    }
    Py_XDECREF(id);
    Py_XDECREF(headers);
    if (done) {
        self->status = status;
        return 1;
    }
    Py_XDECREF(status);
    return PyErr_Occurred() ? -1 : 0;
}

/* The outcome of an answer that is sent whole. */
static int
outcome_of_answer(const http_fields *self)
{
    return outcome_of_whole(PyLong_AsLong(self->status)); /* `plain_status_line` has seen that it is an int */
}

/* Record an answer whose whole body was sent. */
static void
record_answer(http_fields *self)
{
    record_whole_answer((recorder *)self->plan->recorder, self->plan->module, self->connection, self->request,
                        self->method_row, outcome_of_answer(self), self->started_at, self->answer_began, self->sent_body);
}

/* Send head and body in one call; errno tells where -1 is given. */
static ssize_t
send_answer(int fd, http_fields *self, PyObject *body, size_t *size)
{
    char end[HEAD_END_BYTES];
    Py_ssize_t body_size = PyBytes_GET_SIZE(body);
    int end_size = self->promised >= 0
        ? snprintf(end, sizeof(end), "\r\n\r\n")
        : snprintf(end, sizeof(end), "\r\nContent-Length: %zd\r\n\r\n", body_size);
    struct iovec pieces[] = {
        {PyBytes_AS_STRING(self->head), (size_t)PyBytes_GET_SIZE(self->head)},
        {end, (size_t)end_size},
        {PyBytes_AS_STRING(body), (size_t)body_size},
    };
    struct msghdr all = {.msg_iov = pieces, .msg_iovlen = 3};
    *size = pieces[0].iov_len + pieces[1].iov_len + pieces[2].iov_len;
    recorder *counts = (recorder *)self->plan->recorder;
    int is_marked = !self->connection->body_unseen; /* else the end of this process resets the connection */
    if (is_marked && take_request(self->connection, fd) < 0) {
        return -1;
    }
    self->answer_began = monotonic_now();
    if (is_marked) {
        mark_answer(counts, self->method_row, outcome_of_answer(self));
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &all, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 || (size_t)sent != *size) {
        int failure = errno;
        unmark_answer(counts);
        errno = failure;
    }
    return sent;
}

/* Have a coroutine of Python send what is left of an answer; 0, or -1 with an error. */
static int
leave_rest(step *self, http_fields *exchange, PyObject *body, ssize_t sent)
{
    self->delegate = PyObject_CallMethod((PyObject *)exchange, "_send_rest", "OOn", self->message, body, sent);
    return self->delegate == NULL ? -1 : 0;
}

/* The descriptor of the connection, borrowed; NULL where it is not mine. */
static inline descriptor *
own_descriptor(const http_fields *self)
{
    PyObject *own = self->connection->socket;
    return own != NULL && Py_IS_TYPE(own, self->plan->module->descriptor_type) ? (descriptor *)own : NULL;
}

/* Close a connection at once, whose request was read to its end, or have Python end it; false with an error. */
static int
close_connection(http_fields *self)
{
    connection_fields *connection = self->connection;
    descriptor *own = own_descriptor(self);
    if (connection->body_unseen || own == NULL) {
        PyObject *ended = PyObject_CallOneArg(self->plan->close, (PyObject *)connection);
        Py_XDECREF(ended);
        return ended != NULL;
    }
    if (take_request(connection, own->fd) < 0) {
        raise_errno();
        return 0;
    }
    close_once(own);
    return 1;
}

/* End an exchange whose answer was sent; false with an error. */
static int
end_plainly(http_fields *self)
{
    if (self->disconnected != Py_None || self->body_wait != Py_None) {
        /* The application waits for something of this connection. */
        PyObject *ended = PyObject_CallMethod((PyObject *)self, "_end_complete", NULL);
        Py_XDECREF(ended);
        return ended != NULL;
    }
    record_answer(self);
    Py_SETREF(self->life, Py_NewRef(self->plan->ended));
    return close_connection(self);
}

/* Send the answer with its whole body, and end the exchange. 1, 0 or -1 as `take_step`. */
static int
finish_with(step *self, http_fields *exchange, PyObject *body)
{
    if (!PyBytes_CheckExact(body) || exchange->head == NULL
        || PyBytes_GET_SIZE(body) > JOIN_BYTES
        || (exchange->promised >= 0 && exchange->promised != PyBytes_GET_SIZE(body)))
    {
        return 0;
    }
    descriptor *own = own_descriptor(exchange);
    if (own == NULL) {
        return 0;
    }
    size_t size;
    ssize_t sent = send_answer(own->fd, exchange, body, &size);
    if (sent < 0) {
        return 0; /* Python meets the same error, and knows what it means. */
    }
    exchange->has_written = 1;
    if ((size_t)sent < size) {
        return leave_rest(self, exchange, body, sent);
    }
    exchange->sent_body = PyBytes_GET_SIZE(body);
    Py_ssize_t head_size = PyBytes_GET_SIZE(exchange->head);
    if (!end_plainly(exchange)) {
        return -1;
    }
    if (head_size > exchange->plan->frontend_buffer_bytes) {
        PyObject *checked = PyObject_CallMethod((PyObject *)exchange, "_check_answer", NULL);
        Py_XDECREF(checked);
        return checked == NULL ? -1 : 1;
    }
    return 1;
}

/* The last `http.response.body`, which is also the first one. 1, 0 or -1 as `take_step`. */
static int
finish_plainly(step *self, http_fields *exchange)
{
    const module_state *state = exchange->plan->module;
    PyObject *more = PyDict_GetItemWithError(self->message, state->texts[TEXT_MORE_BODY]);
    int has_more = more != NULL && more != Py_False;
    PyObject *body = PyErr_Occurred() ? NULL : look_up_item(self->message, state->texts[TEXT_BODY]);
    if (PyErr_Occurred()) {
        return -1;
    }
    int done = has_more ? 0 : finish_with(self, exchange, body == NULL ? state->empty_bytes : body);
    Py_XDECREF(body);
    return done;
}

/* Whether a text that Python code has given is this one of the module's. */
static inline int
is_text(PyObject *text, PyObject *own)
{
    return text == own || (PyUnicode_CheckExact(text) && PyUnicode_Compare(text, own) == 0);
}

/* `send`. 1, 0 or -1 as `take_step`. */
static int
send_plainly(step *self, http_fields *exchange)
{
    const module_state *state = exchange->plan->module;
    if (!is_straight(exchange) || !PyDict_CheckExact(self->message)) {
        return 0;
    }
    PyObject *kind = look_up_item(self->message, state->texts[TEXT_TYPE]);
    if (kind == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int is_body = is_text(kind, state->texts[TEXT_RESPONSE_BODY]);
    int is_start = !is_body && is_text(kind, state->texts[TEXT_RESPONSE_START]);
    Py_DECREF(kind);
    if (is_body) {
        return finish_plainly(self, exchange);
    }
    return is_start ? start_plainly(exchange, self->message) : 0;
}

static int
take_step(step *self, PyObject **result)
{
    http_fields *exchange = (http_fields *)self->exchange;
    if (self->kind == OF_RECEIVE) {
        return receive_plainly(exchange, result);
    }
    int done = send_plainly(self, exchange);
    if (done > 0) {
        *result = Py_NewRef(Py_None);
    }
    return done;
}

/* Build the scope; a new reference, or NULL: not mine, or with an error. */
static PyObject *
plain_scope(http_fields *self)
{
    const http_plan *plan = self->plan;
    const module_state *state = plan->module;
    PyObject *vars = PyObject_GetAttr(self->request, state->texts[TEXT_VARS]);
    if (vars == NULL) {
        return NULL;
    }
    PyObject *scope = NULL;
    scope_source source;
    if (PyDict_CheckExact(vars) && read_source(state, vars, &source)) {
        PyObject *args[] = {vars, plan->header_names, plan->http_versions, plan->asgi};
        scope_parts parts = {0};
        if (make_parts(plan->module, &source, args, &parts)) {
            scope = make_scope(state, &source, &parts);
        }
        clear_parts(&parts);
        if (scope != NULL && !add_extensions(state, scope, vars, plan->state, plan->tls_extension)) {
            Py_CLEAR(scope);
        }
    }
    Py_DECREF(vars);
    return scope;
}

/* The scope, or that of Python; a new reference, or NULL with an error. */
static PyObject *
scope_of(http_fields *self)
{
    PyObject *scope = self->plan->is_used ? plain_scope(self) : NULL;
    if (scope == NULL && !PyErr_Occurred()) {
        scope = PyObject_CallMethod((PyObject *)self, "_scope", NULL);
    }
    return scope;
}

/* `receive` or `send`, as the application gets it; a new reference, or NULL with an error. */
static PyObject *
callable_of(http_fields *self, int kind)
{
    const module_state *state = self->plan->module;
    if (self->plan->is_used) {
        return make_caller(state->caller_type, state->step_type, (PyObject *)self, kind);
    }
    return PyObject_GetAttrString((PyObject *)self, STEP_NAMES[kind]);
}

PyDoc_STRVAR(call_application_doc,
"_call_application()\n--\n\n"
"Call the application; give what is to be awaited.");

static PyObject *
call_application(http_fields *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *args[3] = {NULL};
    PyObject *awaitable = NULL;
    args[0] = scope_of(self);
    args[1] = args[0] == NULL ? NULL : callable_of(self, OF_RECEIVE);
    args[2] = args[1] == NULL ? NULL : callable_of(self, OF_SEND);
    if (args[2] != NULL) {
        awaitable = PyObject_Vectorcall(self->plan->app, args, 3, NULL);
    }
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(args[i]);
    }
    return awaitable;
}

/* Free the place of an exchange that is over, as the host does; 1, or -1 with an error. */
static int
release_plainly(http_fields *self)
{
    const http_plan *plan = self->plan;
    if (!PySet_GET_SIZE(plan->given_up) && !PyDict_GET_SIZE(plan->websockets)) {
        place_tables tables = {plan->free_slots, plan->in_flight, plan->admission};
        int done = give_place_back(plan->module, &tables, self->connection);
        if (done != 0) {
            return done;
        }
    }
    PyObject *released = PyObject_CallOneArg(plan->release, (PyObject *)self->connection);
    Py_XDECREF(released);
    return released == NULL ? -1 : 1;
}

/* Cancel the timer of an exchange, if it has one; false with an error. */
static int
cancel_timer(http_fields *self)
{
    if (self->timer == Py_None) {
        return 1;
    }
    PyObject *cancelled = PyObject_CallMethodNoArgs(self->timer, self->plan->module->texts[TEXT_CANCEL]);
    Py_XDECREF(cancelled);
    Py_SETREF(self->timer, Py_NewRef(Py_None));
    return cancelled != NULL;
}

PyDoc_STRVAR(return_plainly_doc,
"_return_plainly()\n--\n\n"
"Do the end of a call in the plain case: the answer was sent, and nothing else has happened.\n\n"
"Gives True; False, with nothing done, in other cases.");

static PyObject *
return_plainly(http_fields *self, PyObject *Py_UNUSED(ignored))
{
    const http_plan *plan = self->plan;
    if (!plan->is_used || self->life != plan->ended || self->gone || self->is_lost || self->call != plan->not_cancelled
        || self->end_timer != Py_None || (self->input != plan->arriving && self->input != plan->whole)
        || PyDict_GetItemWithError(plan->forked_child, plan->module->texts[TEXT_IS_COPY]) != Py_False)
    {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    if (!cancel_timer(self)) {
        return NULL;
    }
    Py_SETREF(self->life, Py_NewRef(plan->over));
    int done = release_plainly(self);
    if (done > 0 && plan->logs_access) {
        if (plan->log_sent != Py_None && self->response == NULL && self->sent_body >= 0) {
            done = write_sent(plan->module, plan->log_sent, self->request, PyLong_AsLong(self->status), self->sent_body,
                              self->connection->accepted_at, self->started_at);
        }
        else {
            PyObject *logged = PyObject_CallMethod((PyObject *)self, "_log_answer", NULL);
            done = logged == NULL ? -1 : 1;
            Py_XDECREF(logged);
        }
    }
    return done < 0 ? NULL : Py_NewRef(Py_True);
}

static PyMethodDef http_fields_methods[] = {
    {"_call_application", (PyCFunction)call_application, METH_NOARGS, call_application_doc},
    {"_return_plainly", (PyCFunction)return_plainly, METH_NOARGS, return_plainly_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(http_fields_doc,
"HttpFields(context, connection)\n--\n\n"
"The fields of an HTTP exchange, as `uwsgibridge.hosts.asgi.http_fields.PythonHttpFields` has them.");

static PyType_Slot http_fields_slots[] = {
    {Py_tp_doc, (void *)http_fields_doc},
    {Py_tp_new, http_fields_new},
    {Py_tp_init, http_fields_init},
    {Py_tp_dealloc, http_fields_dealloc},
    {Py_tp_traverse, http_fields_traverse},
    {Py_tp_clear, http_fields_clear},
    {Py_tp_members, http_fields_members},
    {Py_tp_getset, http_fields_attributes},
    {Py_tp_methods, http_fields_methods},
    {0, NULL},
};

static PyType_Spec http_fields_spec = {
    .name = "uwsgibridge.fast._fast.HttpFields",
    .basicsize = sizeof(http_fields),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = http_fields_slots,
};
