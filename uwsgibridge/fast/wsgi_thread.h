/* A thread of a WSGI host: it takes connections and runs their exchanges, as `hosts.wsgi.serving` does in Python.

   What holds here:

   - The application is called above the frame of the Python function that calls `serve`, and that function is one of
     the callers that `hosts.wsgi.interruption` knows.
   - Exceptions that other threads raise in this one arrive in Python code alone: in the application, or in a method of
     the exchange that is called here. None arrives between two calls.
   - Between the last look at what other threads may change (`is_undisturbed`) and the end of the exchange, nothing of
     Python runs, and the interpreter's lock is kept; or, without that lock, the guard of the exchange, which
     `end_lock` gives to Python. So no other thread gives the request up meanwhile.
   - What the application made is dropped when the exchange has left the table of running requests: code that runs as
     an object is deleted can't be interrupted. */

/* What belongs to one call of the application, until its exchange is over. */
typedef struct {
    PyObject *environ;
    PyObject *starter;
    PyObject *iterable;
    PyObject *iterator;
    sig_atomic_t forks;
} called;

static int
call_python(PyObject *object, const char *name)
{
    PyObject *done = PyObject_CallMethod(object, name, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Take the exception that was raised; a new reference. */
static PyObject *
take_raised(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return value;
#endif
}

/* Have Python handle what the application has raised. 0, or -1 with an error. */
static int
fail_in_python(wsgi_exchange *exchange)
{
    PyObject *error = take_raised();
    PyObject *done = PyObject_CallMethod((PyObject *)exchange, "fail", "O", error);
    Py_DECREF(error);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Have Python answer. `piece` was taken of the iterator, or its beginning was sent: so many bytes of the head
   with it. NULL stands for none. 0, or -1 with an error. */
static int
go_on_in_python(wsgi_exchange *exchange, const called *call, PyObject *piece, Py_ssize_t sent, PyObject *error)
{
    PyObject *pieces = piece == NULL ? PyTuple_New(0) : PyTuple_Pack(1, piece);
    if (pieces == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethod((PyObject *)exchange, "go_on", "OONnO", call->iterable,
                                         call->iterator == NULL ? Py_None : call->iterator, pieces, sent,
                                         error == NULL ? Py_None : error);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Make the exchange of a connection, which runs from now on; NULL with an error. */
static wsgi_exchange *
make_exchange(wsgi_thread *self, connection_fields *connection)
{
    PyTypeObject *type = (PyTypeObject *)self->parts[PART_EXCHANGE_TYPE];
    wsgi_exchange *exchange = (wsgi_exchange *)type->tp_alloc(type, 0);
    if (exchange == NULL) {
        return NULL;
    }
    exchange->thread = (wsgi_thread *)Py_NewRef(self);
    exchange->connection = Py_NewRef(connection);
    exchange->context = Py_NewRef(self->parts[PART_CONTEXT]);
    exchange->recorder = Py_NewRef(self->parts[PART_RECORDER]);
    exchange->request = Py_XNewRef(connection->request);
    exchange->life = Py_NewRef(self->parts[PART_STARTED]);
    exchange->interruption = Py_NewRef(Py_None);
    exchange->promised = -1;
    exchange->started_at = monotonic_now();
    return exchange;
}

/* Make the input of a request; NULL with an error. Of a body that has not arrived, it is made by Python. */
static PyObject *
make_input(wsgi_thread *self, wsgi_exchange *exchange)
{
    connection_fields *connection = (connection_fields *)exchange->connection;
    if (connection->body_unseen) {
        return PyObject_CallMethod((PyObject *)exchange, "open_input", NULL);
    }
    PyObject *body = connection->seen_body;
    connection->seen_body = Py_NewRef(self->state->empty_bytes);
    PyObject *input = PyBytes_GET_SIZE(body) ? PyObject_CallOneArg(self->parts[PART_INPUT_TYPE], body)
                                             : PyObject_CallNoArgs(self->parts[PART_INPUT_TYPE]);
    Py_DECREF(body);
    return input;
}

/* Make the environ of a plain request; NULL where it is not mine, with nothing changed, or with an error. */
static PyObject *
plain_environ(wsgi_thread *self, wsgi_exchange *exchange)
{
    const module_state *state = self->state;
    connection_fields *connection = (connection_fields *)exchange->connection;
    if (connection->request == NULL || !Py_IS_TYPE(connection->socket, state->descriptor_type)) {
        return NULL;
    }
    PyObject *vars = PyObject_GetAttr(connection->request, state->texts[TEXT_VARS]);
    if (vars == NULL || !PyDict_CheckExact(vars)) {
        Py_XDECREF(vars);
        return NULL;
    }
    PyObject *environ = NULL;
    PyObject *method = var_of(state, vars, VAR_REQUEST_METHOD);
    if (method != NULL && is_narrow(method) && !is_word(method, "HEAD", 4)
        && PyDict_Contains(vars, state->vars[VAR_HTTP_UPGRADE]) == 0)
    {
        exchange->method_row = (char)method_row(method);
        environ = make_environ(state, vars, self->parts[PART_BASE_ENVIRON], self->parts[PART_SERVER_SOFTWARE]);
    }
    Py_DECREF(vars);
    if (environ == NULL) {
        return NULL;
    }
    PyObject *input = make_input(self, exchange);
    if (input == NULL || PyDict_SetItem(environ, state->texts[TEXT_INPUT], input) < 0) {
        Py_CLEAR(environ);
    }
    Py_XDECREF(input);
    return environ;
}
