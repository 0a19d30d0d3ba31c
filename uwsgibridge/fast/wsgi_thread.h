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
    struct timespec moment;
    PyTypeObject *type = (PyTypeObject *)self->parts[PART_EXCHANGE_TYPE];
    wsgi_exchange *exchange = (wsgi_exchange *)type->tp_alloc(type, 0);
    if (exchange == NULL) {
        return NULL;
    }
    exchange->thread = (wsgi_thread *)Py_NewRef(self);
    exchange->connection = Py_NewRef(connection);
    exchange->context = Py_NewRef(self->parts[PART_CONTEXT]);
    exchange->request = Py_XNewRef(connection->request);
    exchange->life = Py_NewRef(self->parts[PART_STARTED]);
    exchange->interruption = Py_NewRef(Py_None);
    exchange->promised = -1;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    exchange->started_at = (double)moment.tv_sec + (double)moment.tv_nsec * 1e-9;
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

/* Whether the answer may be sent here: nothing has happened that Python has to look at. */
static int
is_mine_to_answer(const wsgi_thread *self, const wsgi_exchange *exchange, const called *call)
{
    return call->forks == forks && is_undisturbed(exchange) && exchange->response == NULL && exchange->head != NULL
        && PyBytes_GET_SIZE(exchange->head) <= self->frontend_buffer_bytes
        /* Where a part of the body was not read, the close has to wait for it. */
        && !((connection_fields *)exchange->connection)->body_unseen;
}

/* Whether a piece may be sent here, with the head, as all of the body. Within the guard of the exchange. */
static int
is_plain_answer(const wsgi_thread *self, const wsgi_exchange *exchange, const called *call, PyObject *piece)
{
    if (!is_mine_to_answer(self, exchange, call) || !PyBytes_CheckExact(piece)) {
        return 0;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(piece);
    return size <= MAX_COPY_BYTES && (exchange->promised < 0 || exchange->promised == size);
}

/* Whether the client has left, which the access log has to tell: a first send after that may still succeed. */
static int
has_left(const connection_fields *connection, int fd)
{
    if (connection->keeps_input_in_kernel) {
        return send_some(fd, "", 0, 0) < 0 && errno != EAGAIN && errno != EWOULDBLOCK;
    }
    struct pollfd watched = {.fd = fd, .events = POLLRDHUP};
    return poll(&watched, 1, 0) != 0;
}

/* Send the head and all of the body. Gives how many bytes of both went out, and in `*total` how many there are. */
static Py_ssize_t
send_piece(const wsgi_thread *self, const wsgi_exchange *exchange, PyObject *piece, Py_ssize_t *total)
{
    char end[64];
    Py_ssize_t size = PyBytes_GET_SIZE(piece);
    int end_size = exchange->promised >= 0
        ? snprintf(end, sizeof(end), "\r\n\r\n")
        : snprintf(end, sizeof(end), "\r\nContent-Length: %zd\r\n\r\n", size);
    struct iovec parts[] = {
        {PyBytes_AS_STRING(exchange->head), PyBytes_GET_SIZE(exchange->head)},
        {end, end_size},
        {PyBytes_AS_STRING(piece), size},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = size ? 3 : 2};
    const connection_fields *connection = (const connection_fields *)exchange->connection;
    int fd = ((descriptor *)connection->socket)->fd;
    *total = PyBytes_GET_SIZE(exchange->head) + end_size + size;
    if (self->logs_access && has_left(connection, fd)) {
        return 0;
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    /* Python sends again, and finds out why nothing went out. */
    return sent < 0 ? 0 : sent;
}

/* Close the connection of a complete answer. Within the guard of the exchange. */
static void
end_exchange(wsgi_thread *self, wsgi_exchange *exchange)
{
    connection_fields *connection = (connection_fields *)exchange->connection;
    descriptor *socket = (descriptor *)connection->socket;
    /* Where it fails, the peer is gone. */
    (void)drop_peeked(socket->fd, connection->peeked_bytes);
    connection->peeked_bytes = 0;
    close_once(socket);
    Py_SETREF(exchange->life, Py_NewRef(self->parts[PART_ENDED]));
}

/* Free the place of a request, as the host's `_release`; -1 with an error. */
static int
free_place(wsgi_thread *self, connection_fields *connection)
{
    const place_tables tables = {
        self->parts[PART_FREE_SLOTS], self->parts[PART_IN_FLIGHT], self->parts[PART_ADMISSION],
    };
    int done = give_place_back(self->state, &tables, connection);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    PyObject *released = PyObject_CallMethod(self->parts[PART_CONTEXT], "release", "O", connection);
    Py_XDECREF(released);
    return released == NULL ? -1 : 0;
}

/* Whether a thread may have begun a text in wsgi.errors without ending it; -1 with an error. */
static int
has_unfinished_text(const wsgi_thread *self)
{
    PyObject *flag = PyObject_GetAttr(self->parts[PART_ERRORS], self->state->texts[TEXT_HAS_UNFINISHED]);
    Py_XDECREF(flag);
    return flag == NULL ? -1 : flag != Py_False;
}

/* End the exchange of an answer that was sent here. 1, or 0 where Python has done it, or -1 with an error. */
static int
end_call(wsgi_thread *self, wsgi_exchange *exchange, const called *call)
{
    connection_fields *connection = (connection_fields *)exchange->connection;
    int has_text = has_unfinished_text(self);
    if (has_text < 0) {
        return -1;
    }
    if (has_text || call->forks != forks || !is_undisturbed(exchange) || connection->input_stalled) {
        return call_python((PyObject *)exchange, "end_call");
    }
    /* First, since a full host wakes the listener by code of Python, and nobody may give the request up then. */
    int is_mine = take_out(self->parts[PART_RUNNING], (PyObject *)exchange);
    if (is_mine <= 0) {
        return is_mine < 0 ? -1 : call_python((PyObject *)exchange, "end_call");
    }
    Py_SETREF(exchange->life, Py_NewRef(self->parts[PART_OVER]));
    /* Before its place is free: a drain waits for no request without one. */
    if (self->logs_access) {
        PyObject *done = PyObject_CallMethod((PyObject *)exchange, "log_sent", "ln", exchange->status,
                                             exchange->sent_bytes);
        Py_XDECREF(done);
        if (done == NULL) {
            return -1;
        }
    }
    return free_place(self, connection) < 0 ? -1 : 1;
}

/* Close the connection of an answer whose whole body was sent, of so many bytes. Within the guard of the exchange. */
static void
close_sent(wsgi_thread *self, wsgi_exchange *exchange, Py_ssize_t body_bytes)
{
    exchange->sent_bytes = body_bytes;
    exchange->is_sent_last = 1;
    end_exchange(self, exchange);
}

/* Answer with the only item of a list or a tuple. 1, or 0 where Python has done it, or -1 with an error. */
static int
answer_whole(wsgi_thread *self, wsgi_exchange *exchange, const called *call, PyObject *piece)
{
    Py_ssize_t total = 0;
    Py_ssize_t sent = 0;
    HOLD(&exchange->guard);
    int is_whole = is_plain_answer(self, exchange, call, piece);
    if (is_whole) {
        sent = send_piece(self, exchange, piece, &total);
        is_whole = sent == total;
    }
    if (is_whole) {
        exchange->sent = Py_NewRef(piece);
        close_sent(self, exchange, PyBytes_GET_SIZE(piece));
    }
    LET_GO(&exchange->guard);
    return is_whole ? end_call(self, exchange, call) : go_on_in_python(exchange, call, sent ? piece : NULL, sent, NULL);
}

/* Call the `close` of an iterable, if it has one. 1, or 0 where Python has handled what it raised, or -1. */
static int
close_iterable(wsgi_thread *self, wsgi_exchange *exchange, const called *call)
{
    PyObject *close = PyObject_GetAttr(call->iterable, self->state->texts[TEXT_CLOSE]);
    if (close == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        return 1;
    }
    PyObject *done = close == NULL ? NULL : PyObject_CallNoArgs(close);
    Py_XDECREF(close);
    Py_XDECREF(done);
    return done == NULL ? fail_in_python(exchange) : 1;
}

/* Close the connection of an answer whose whole body was sent, of so many bytes, as long as nothing has happened that Python
   has to look at; else false, with nothing done. */
static int
may_end(wsgi_thread *self, wsgi_exchange *exchange, const called *call, Py_ssize_t body_bytes)
{
    HOLD(&exchange->guard);
    int may = call->forks == forks && is_undisturbed(exchange) && exchange->response == NULL;
    if (may) {
        close_sent(self, exchange, body_bytes);
    }
    LET_GO(&exchange->guard);
    return may;
}

/* End an exchange whose connection is closed. 1, or 0 where Python has done it, or -1 with an error. */
static int
end_sent(wsgi_thread *self, wsgi_exchange *exchange, const called *call)
{
    int done = close_iterable(self, exchange, call);
    return done > 0 ? end_call(self, exchange, call) : done;
}

/* Put an empty tuple in the place of an iterator that has ended, so that it is not asked again; false with an error. */
static int
has_ended(called *call)
{
    Py_SETREF(call->iterator, PyTuple_New(0));
    return call->iterator != NULL;
}

/* Go on behind the first item, which was the whole body. 1, or 0 where Python has gone on, or -1 with an error. */
static int
end_iteration(wsgi_thread *self, wsgi_exchange *exchange, called *call)
{
    PyObject *next = PyIter_Next(call->iterator);
    if (next != NULL) {
        int done = go_on_in_python(exchange, call, next, 0, NULL);
        Py_DECREF(next);
        return done;
    }
    if (PyErr_Occurred()) {
        PyObject *error = take_raised();
        int done = go_on_in_python(exchange, call, NULL, 0, error);
        Py_DECREF(error);
        return done;
    }
    if (!may_end(self, exchange, call, PyBytes_GET_SIZE(exchange->sent))) {
        return has_ended(call) ? go_on_in_python(exchange, call, NULL, 0, NULL) : -1;
    }
    return end_sent(self, exchange, call);
}

/* Send the head with the first item, which is the whole body. False where that is not mine, or was not sent completely; in
   `*sent`, how many bytes of both went out. */
static int
send_first(const wsgi_thread *self, wsgi_exchange *exchange, const called *call, PyObject *piece, Py_ssize_t *sent)
{
    Py_ssize_t total = 0;
    *sent = 0;
    HOLD(&exchange->guard);
    int is_whole = is_plain_answer(self, exchange, call, piece) && exchange->promised > 0;
    if (is_whole) {
        *sent = send_piece(self, exchange, piece, &total);
        is_whole = *sent == total;
    }
    if (is_whole) {
        exchange->sent = Py_NewRef(piece);
    }
    LET_GO(&exchange->guard);
    return is_whole;
}

/* Answer with the items of an iterable. 1, or 0 where Python has done it, or -1 with an error. */
static int
answer_items(wsgi_thread *self, wsgi_exchange *exchange, called *call)
{
    call->iterator = PyObject_GetIter(call->iterable);
    PyObject *piece = call->iterator == NULL ? NULL : PyIter_Next(call->iterator);
    int done;
    if (piece == NULL) {
        PyObject *error = PyErr_Occurred() ? take_raised() : NULL;
        if (error == NULL && !has_ended(call)) {
            return -1;
        }
        done = go_on_in_python(exchange, call, NULL, 0, error);
        Py_XDECREF(error);
        return done;
    }
    Py_ssize_t sent;
    if (!send_first(self, exchange, call, piece, &sent)) {
        done = go_on_in_python(exchange, call, piece, sent, NULL);
        Py_DECREF(piece);
        return done;
    }
    Py_DECREF(piece);
    return end_iteration(self, exchange, call);
}

/* Whether an iterable is iterated over here: a part of the rest, such as a text, is an error. */
static int
is_iterated_here(const wsgi_thread *self, const wsgi_exchange *exchange, PyObject *iterable)
{
    return exchange->promised > 0 && exchange->response == NULL && iterable != Py_None
        && !PyUnicode_Check(iterable) && !PyBytes_Check(iterable) && !PyList_Check(iterable)
        && !PyTuple_Check(iterable)
        && !Py_IS_TYPE(iterable, (PyTypeObject *)self->parts[PART_FILE_WRAPPER]);
}
