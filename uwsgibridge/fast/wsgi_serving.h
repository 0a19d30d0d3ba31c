/* The type of `wsgi_thread`: how it is made, and what Python calls. */

/* Run an exchange in the present context, which is its own. 1, or 0 where Python has run it or a part of it, or -1 with an
   error. */
static int
run_exchange(wsgi_thread *self, wsgi_exchange *exchange, called *call)
{
    if (exchange->request == NULL) {
        return call_python((PyObject *)exchange, "run");
    }
    PyObject *begun = PyObject_CallOneArg(self->parts[PART_BEGIN], exchange->request);
    if (begun == NULL) {
        return -1;
    }
    Py_DECREF(begun);
    call->environ = plain_environ(self, exchange);
    if (call->environ == NULL) {
        return PyErr_Occurred() ? -1 : call_python((PyObject *)exchange, "run_begun");
    }
    call->starter = PyCFunction_New(&start_response_method, (PyObject *)exchange);
    if (call->starter == NULL) {
        return -1;
    }
    PyObject *arguments[] = {call->environ, call->starter};
    PyObject *iterable = PyObject_Vectorcall(self->parts[PART_APP], arguments, 2, NULL);
    if (iterable == NULL) {
        return fail_in_python(exchange);
    }
    call->iterable = iterable;
    if (PyList_CheckExact(iterable) && PyList_GET_SIZE(iterable) == 1) {
        PyObject *piece = item_of_list(iterable, 0);
        if (piece != NULL) {
            int done = answer_whole(self, exchange, call, piece);
            Py_DECREF(piece);
            return done;
        }
    }
    if (PyTuple_CheckExact(iterable) && PyTuple_GET_SIZE(iterable) == 1) {
        return answer_whole(self, exchange, call, PyTuple_GET_ITEM(iterable, 0));
    }
    if (Py_IS_TYPE(iterable, (PyTypeObject *)self->parts[PART_FILE_WRAPPER])) {
        return answer_file(self, exchange, call);
    }
    if (is_iterated_here(self, exchange, iterable)) {
        return answer_items(self, exchange, call);
    }
    return go_on_in_python(exchange, call, NULL, 0, NULL);
}

#ifndef Py_GIL_DISABLED

/* Get the next connection. 1 with it, or 0 where the thread has waited, or -1 with an error. */
static int
take_or_lead(wsgi_thread *self, handover *queue, PyObject **connection)
{
    *connection = NULL;
    if (!queue->count) {
        if (self->began_at && queue->waiters != NULL && queue->lent != NULL) {
            note_end(queue, &self->pace, self->began_at);
        }
        self->began_at = 0;
        if (!may_lead(queue)) {
            wait_to_be_woken(queue);
            note_pace(&self->pace);
            return 0;
        }
        int has_kept_lock = lead(queue);
        if (!has_kept_lock && queue->waiters != NULL) {
            note_pace(&self->pace);
        }
        if (has_kept_lock <= 0 || !queue->count) {
            return has_kept_lock < 0 ? -1 : 0;
        }
    }
    *connection = take_in_turn(queue);
    return 1;
}

#endif

/* Whether the client of a request has left that has waited for a thread. */
static int
is_abandoned(wsgi_thread *self, double waited, const connection_fields *connection)
{
    if (!self->looks || (waited <= LOOK_SECONDS && !self->looks_left)) {
        return 0;
    }
    if (Py_IS_TYPE(connection->socket, self->state->descriptor_type)
        && !has_left(connection, ((descriptor *)connection->socket)->fd))
    {
        self->looks_left -= self->looks_left > 0;
        return 0;
    }
    self->looks_left = LOOKS_AFTER_ONE;
    return 1;
}

/* Whether Python refuses to run a request whose turn has come: 1, 0, or -1 with an error. It is asked where that may be. */
static int
is_refused(wsgi_thread *self, const wsgi_exchange *exchange)
{
    connection_fields *connection = (connection_fields *)exchange->connection;
    double waited = exchange->started_at - connection->accepted_at;
    int is_doubtful = is_abandoned(self, waited, connection);
    if (!is_doubtful && self->max_queue_seconds > 0) {
        double age = seconds_in_queue(self->state, connection);
        is_doubtful = (isnan(age) ? waited : age) > self->max_queue_seconds;
    }
    if (!is_doubtful) {
        return 0;
    }
    PyObject *refused = PyObject_CallOneArg(self->parts[PART_REFUSES], (PyObject *)connection);
    int done = refused == NULL ? -1 : refused == Py_True;
    Py_XDECREF(refused);
    return done;
}

PyDoc_STRVAR(serve_doc,
"serve()\n--\n\n"
"Run the exchange of the next connection to its end; or wait for a connection, and run nothing. False where None was\n"
"in the queue.\n\n"
"Where it raises, `exchange` is the exchange that has not come to its end.");

static PyObject *
thread_serve(wsgi_thread *self, PyObject *Py_UNUSED(ignored))
{
    handover *queue = (handover *)self->parts[PART_QUEUE];
    PyObject *connection;
#ifdef Py_GIL_DISABLED
    int found = next_connection(queue, &self->seat, &connection);
#else
    int found = take_or_lead(self, queue, &connection);
#endif
    if (found <= 0) {
        /* What another thread has raised in this one meanwhile arrives in the caller: no request is to meet it. */
        return found < 0 ? NULL : Py_NewRef(Py_True);
    }
    if (connection == Py_None) {
        Py_DECREF(connection);
        Py_RETURN_FALSE;
    }
    if (!PyObject_TypeCheck(connection, self->state->fields_type)) {
        Py_DECREF(connection);
        PyErr_SetString(PyExc_TypeError, "the queue has what is no connection");
        return NULL;
    }
    wsgi_exchange *exchange = make_exchange(self, (connection_fields *)connection);
    Py_DECREF(connection);
    int refused = exchange == NULL ? -1 : is_refused(self, exchange);
    if (refused) {
        self->began_at = 0;
        Py_XDECREF(exchange);
        return refused < 0 ? NULL : Py_NewRef(Py_True);
    }
    Py_XSETREF(self->exchange, Py_NewRef(exchange));
    self->began_at = exchange->started_at;
    called call = {.forks = forks};
    int done = -1;
    /* A new and empty context, so that no request sees what an earlier one has set. */
    PyObject *context = PyContext_New();
    if (context != NULL && PyDict_SetItem(self->parts[PART_RUNNING], (PyObject *)exchange, self->parts[PART_THREAD]) == 0
        && PyContext_Enter(context) == 0)
    {
        done = run_exchange(self, exchange, &call);
        if (PyContext_Exit(context) < 0) {
            done = -1;
        }
    }
    if (done == 0) {
        PyObject *concluded = PyObject_CallOneArg(self->parts[PART_CONCLUDE], (PyObject *)exchange);
        Py_XDECREF(concluded);
        done = concluded == NULL ? -1 : 0;
    }
    if (done >= 0) {
        Py_CLEAR(self->exchange);
    }
    Py_XDECREF(call.iterator);
    Py_XDECREF(call.iterable);
    Py_XDECREF(call.starter);
    Py_XDECREF(call.environ);
    Py_DECREF(exchange);
    Py_XDECREF(context);
    return done < 0 ? NULL : Py_NewRef(Py_True);
}

static int
check_part(PyObject *part, PyTypeObject *type, const char *name)
{
    if (Py_IS_TYPE(part, type)) {
        return 1;
    }
    PyErr_Format(PyExc_TypeError, "%s is no %s", name, type->tp_name);
    return 0;
}

static int
check_parts(const wsgi_thread *self)
{
    const module_state *state = self->state;
    if (!check_part(self->parts[PART_QUEUE], state->handover_type, "queue")
        || !check_part(self->parts[PART_BASE_ENVIRON], &PyDict_Type, "base_environ")
        || !check_part(self->parts[PART_RUNNING], &PyDict_Type, "running")
        || !check_part(self->parts[PART_KINDS], &PyDict_Type, "kinds")
        || !check_part(self->parts[PART_STREAM_KINDS], &PyDict_Type, "stream_kinds")
        || !check_part(self->parts[PART_STATUSES], &PyDict_Type, "statuses")
        || !check_part(self->parts[PART_RECORDER], state->recorder_type, "recorder")
        || !check_part(self->parts[PART_FREE_SLOTS], &PyList_Type, "free_slots")
        || !check_part(self->parts[PART_IN_FLIGHT], &PySet_Type, "in_flight"))
    {
        return 0;
    }
    PyObject *type = self->parts[PART_EXCHANGE_TYPE];
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, state->exchange_type)) {
        PyErr_SetString(PyExc_TypeError, "an exchange is made of a class that is derived from WsgiFields");
        return 0;
    }
    return 1;
}

static PyObject *
thread_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) || kwargs == NULL || PyDict_GET_SIZE(kwargs) != PARTS + 8) {
        PyErr_SetString(PyExc_TypeError, "WsgiThread takes all of its arguments by their names");
        return NULL;
    }
    wsgi_thread *self = (wsgi_thread *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = PyType_GetModuleState(type);
    for (int i = 0; i < PARTS; i++) {
        self->parts[i] = Py_XNewRef(PyDict_GetItemString(kwargs, PART_NAMES[i]));
        if (self->parts[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "WsgiThread needs %s", PART_NAMES[i]);
            Py_DECREF(self);
            return NULL;
        }
    }
    PyObject *most = PyDict_GetItemString(kwargs, "frontend_buffer_bytes");
    PyObject *whole = PyDict_GetItemString(kwargs, "whole_file_bytes");
    PyObject *first = PyDict_GetItemString(kwargs, "first_piece_bytes");
    PyObject *offload = PyDict_GetItemString(kwargs, "has_offload");
    PyObject *logs = PyDict_GetItemString(kwargs, "logs_access");
    PyObject *wait = PyDict_GetItemString(kwargs, "write_milliseconds");
    PyObject *looks = PyDict_GetItemString(kwargs, "looks");
    PyObject *most_seconds = PyDict_GetItemString(kwargs, "max_queue_seconds");
    if (most == NULL || whole == NULL || first == NULL || offload == NULL || logs == NULL || wait == NULL || looks == NULL
        || most_seconds == NULL
        || !as_size(most, &self->frontend_buffer_bytes) || !as_size(wait, &self->write_milliseconds)
        || !as_size(whole, &self->whole_file_bytes) || !as_size(first, &self->first_piece_bytes)
        || !check_beginning(self->whole_file_bytes, self->first_piece_bytes) || !check_parts(self))
    {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "WsgiThread needs first_piece_bytes, frontend_buffer_bytes, has_offload, logs_access, looks, "
                                             "max_queue_seconds, whole_file_bytes and write_milliseconds");
        }
        Py_DECREF(self);
        return NULL;
    }
    self->has_offload = offload != Py_False;
    self->logs_access = logs != Py_False;
    self->looks = looks != Py_False;
    self->max_queue_seconds = PyFloat_AsDouble(most_seconds);
    if (PyErr_Occurred()) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
thread_traverse(wsgi_thread *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (int i = 0; i < PARTS; i++) {
        Py_VISIT(self->parts[i]);
    }
    Py_VISIT(self->exchange);
    return 0;
}

static int
thread_clear(wsgi_thread *self)
{
    for (int i = 0; i < PARTS; i++) {
        Py_CLEAR(self->parts[i]);
    }
    Py_CLEAR(self->exchange);
    return 0;
}

static void
thread_dealloc(wsgi_thread *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    thread_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef thread_methods[] = {
    {"serve", (PyCFunction)thread_serve, METH_NOARGS, serve_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef thread_members[] = {
    {"exchange", T_OBJECT, offsetof(wsgi_thread, exchange), 0, "The exchange that runs now, or None."},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(thread_doc,
"One thread of a WSGI host, as `uwsgibridge.hosts.wsgi.serving.PythonThread`.");

static PyType_Slot thread_slots[] = {
    {Py_tp_doc, (void *)thread_doc},
    {Py_tp_new, thread_new},
    {Py_tp_dealloc, thread_dealloc},
    {Py_tp_traverse, thread_traverse},
    {Py_tp_clear, thread_clear},
    {Py_tp_methods, thread_methods},
    {Py_tp_members, thread_members},
    {0, NULL},
};

static PyType_Spec thread_spec = {
    .name = "uwsgibridge.fast._fast.WsgiThread",
    .basicsize = sizeof(wsgi_thread),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = thread_slots,
};
